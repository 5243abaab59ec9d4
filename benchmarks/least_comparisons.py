"""The fewest comparisons that can justify the full rule's clusters: what judge_cost.py holds exact savings against."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from deepprune.prune import clustering


def least_comparisons(scores: Sequence[Sequence[float]], rule: clustering.ClusterSettings, key: str) -> int:
    """The fewest comparisons with which any exact rule can justify the full rule's clusters, with the scores known.

    A placement is justified when the answers given so far force it whatever the missing ones are, each in [0, 1]. No
    exact saving can ask less: the limit that `asks: needed` is measured against.
    """
    clusters: list[list[int]] = []
    running = clustering.greedy(len(scores), dataclasses.replace(rule, asks="all"), key, clusters)
    total, reply = 0, None
    while True:
        try:
            pairs = running.send(reply)
        except StopIteration:
            return total
        new = pairs[0][1]
        owner = {member: number for number, members in enumerate(clusters) for member in members}
        values: dict[int, list[float]] = {}
        reply = [scores[member][new] for member, _ in pairs]
        for (member, _), value in zip(pairs, clustering.similarities(reply, rule), strict=True):
            values.setdefault(owner[member], []).append(value)
        forced = len(clusters) >= rule.k and rule.overflow == "join"
        order = None if rule.assign == "best" else clustering.search_order(clusters, rule)
        total += certificate(list(values.values()), rule.tau, forced, order)


def certificate(values: list[list[float]], tau: float, forced: bool, order: Sequence[int] | None) -> int:
    """Fewest revealed values that settle which cluster is chosen.

    Of those whose mean is above tau that is the first in this order, or the best (order None).
    """

    def to_stay_under(scores: list[float], level: float, strictly: bool) -> float:
        """Answers to reveal, low ones first, until the mean cannot exceed (strictly: reach) the level; inf: it does."""
        bound = float(len(scores))
        for revealed, value in enumerate([*sorted(scores), 0.0]):
            if bound < level * len(scores) - 1e-12 or (not strictly and bound <= level * len(scores) + 1e-12):
                return revealed
            bound -= 1.0 - value
        return math.inf

    means = [sum(scores) / len(scores) for scores in values]
    best = max(range(len(means)), key=means.__getitem__)
    if means[best] <= tau and not forced:
        return int(sum(to_stay_under(scores, tau, False) for scores in values))
    if means[best] > tau and order is not None:
        first = next(i for i in order if means[i] > tau)
        before = [values[i] for i in order[: order.index(first)]]
        low = [0.0, *np.cumsum(sorted(values[first], reverse=True)) / len(values[first])]
        least = math.inf
        for revealed, bound in enumerate(low):
            if bound > tau:  # the others after it do not matter
                return int(min(least, revealed + sum(to_stay_under(scores, tau, False) for scores in before)))
            if forced:  # not known to be above tau, but none else is, and it is the best
                others = sum(to_stay_under(scores, bound, i < first) for i, scores in enumerate(values) if i != first)
                least = min(least, revealed + others)
    least, low, size = math.inf, 0.0, len(values[best])
    for revealed, value in enumerate([0.0, *sorted(values[best], reverse=True)]):
        low += value / size
        known = revealed == size
        if not forced and low <= tau and not (known and means[best] > tau):
            continue
        level = means[best] if known else low
        others = sum(to_stay_under(scores, level, i < best) for i, scores in enumerate(values) if i != best)
        least = min(least, revealed + others)
    return int(least)
