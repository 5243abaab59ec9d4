"""Greedy clustering of traces (paper, "Online"). Pure: no model, no files in here.

`greedy` is a generator: it yields the pairs it wants scored, a batch at a time, is sent their scores, and
returns its clusters. So one implementation serves recorded traces, live traffic and every judge, and
`lockstep` lets many questions advance together so that each call to the judge is a large batch.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.judges.calibration import Calibration

Pairs = list[tuple[int, int]]  # (representative, new trace), positions in arrival order
SIMILARITIES, ASSIGNMENTS, OVERFLOWS = ("p_same", "verdict"), ("best", "first", "largest"), ("join", "drop")
ASKS = ("all", "needed", "likely")


@dataclasses.dataclass(frozen=True)
class ClusterSettings:
    """Defaults are the paper's where it states them; what happens at K clusters is not stated.

    Descriptions of the paper differ on two points, so both ways are settings: the similarity to a cluster is the mean
    over sampled members of p_same or of the verdicts (p_same > 0.5), and a trace joins the most similar cluster or
    the first, in the order of opening, whose similarity is above tau. The largest of those is ours: most traces belong
    to a large cluster, and looked through by size few clusters have to be asked about. calibration: by which p_same is
    read (None: as it is), for similarity, verdict and tau alike.
    """

    tau: float = setting(0.5, "a trace joins a cluster above this similarity", at_least=0, at_most=1)
    k: int = setting(32, "most clusters (the paper's K)", at_least=1)
    k1: int = setting(10, "most members of a cluster that a new trace is compared with (K1)", at_least=1)
    overflow: str = setting("join", "K clusters open and none similar: join the best, or drop", choices=OVERFLOWS)
    similarity: str = setting(
        "p_same", "to a cluster: mean of p_same, or of the verdicts p_same > 0.5", choices=SIMILARITIES
    )
    assign: str = setting(
        "best", "of the clusters above tau join the best, the first or the largest", choices=ASSIGNMENTS
    )
    # Which of a new trace's comparisons are asked for:
    #   all      every sampled member of every cluster (the paper's rule)
    #   needed   the same clusters, cheaper: until no further answer can change where the trace goes
    #   likely   approximate: as needed, but until the missing answers are unlikely to change where the trace goes
    asks: str = setting(
        "all",
        "all: the paper's rule; needed: the same clusters, asking only as far as decides; likely: approximate",
        choices=ASKS,
    )
    surety: float = setting(
        2.0, "asks likely: standard errors that a cluster's mean may be off (more: nearer to needed)", above=0
    )
    seed: int = config.seed("seed of sampled members")
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        config.check(self)


def greedy(
    count: int,
    settings: ClusterSettings,
    key: Hashable = "",
    clusters: list[list[int]] | None = None,
) -> Generator[Pairs, Sequence[float], list[list[int]]]:
    """Cluster `count` traces in arrival order 0, 1, 2 ...

    Yields, for each new trace, pairs (member, new trace) to score: min(K1, size) sampled members of each cluster, all
    at once or, with asks 'needed', in rounds and as few as decide. Expects p_same of each, in that order.
    Returns the clusters (positions, each in arrival order, clusters by opening). The similarity to a cluster is the
    mean over its sampled members; ties go to the cluster opened first. `key` (the problem's id) and settings.seed seed
    the sampling of members. clusters: an empty list to fill, for callers that look at it in between.
    """
    rng = random.Random(f"{settings.seed}/{key}")
    clusters = [] if clusters is None else clusters
    spread = _Spread() if settings.asks == "likely" else None
    for new in range(count):
        if not clusters:
            clusters.append([new])
            continue
        sampled = [c if len(c) <= settings.k1 else rng.sample(c, settings.k1) for c in clusters]
        # At K clusters with overflow 'join' the most similar cluster is needed even when none is above tau.
        forced = len(clusters) >= settings.k and settings.overflow == "join"
        order = search_order(clusters, settings)
        if settings.asks == "all":
            chosen = yield from _place_all(new, sampled, settings, forced, order)
        else:
            chosen = yield from _place_needed(new, sampled, settings, forced, order, spread)
        if chosen is not None:
            clusters[chosen].append(new)
        elif len(clusters) < settings.k:
            clusters.append([new])
    return clusters


def similarities(scores: Sequence[float], settings: ClusterSettings) -> Sequence[float]:
    """What is averaged of these p_same: themselves, calibrated where that is wanted, or the verdicts."""
    if settings.calibration is not None:
        scores = settings.calibration.p_same(scores).tolist()
    return [float(p > 0.5) for p in scores] if settings.similarity == "verdict" else scores


def search_order(clusters: Sequence[Sequence[int]], settings: ClusterSettings) -> Sequence[int]:
    """The order in which clusters are looked through for the first whose similarity is above tau."""
    if settings.assign == "largest":
        return sorted(range(len(clusters)), key=lambda i: -len(clusters[i]))
    return range(len(clusters))


def _choose(means: Sequence[float], settings: ClusterSettings, forced: bool, order: Sequence[int]) -> int | None:
    """The cluster to join given the similarity to each; None: none."""
    above = [index for index in order if means[index] > settings.tau]
    if above and settings.assign != "best":
        return above[0]
    return max(range(len(means)), key=means.__getitem__) if above or forced else None


def _place_all(new: int, sampled: list[list[int]], settings: ClusterSettings, forced: bool, order) -> Generator:
    """Ask about every sampled member at once."""
    scores = yield [(member, new) for members in sampled for member in members]
    scores = iter(similarities(scores, settings))
    return _choose([_mean([next(scores) for _ in members]) for members in sampled], settings, forced, order)


def _mean(values: Sequence[float], missing: float = 0.0, size: int | None = None) -> float:
    """Mean of values and of what is missing, which adds up to `missing`.

    fsum rounds the exact sum once, so more can never come out as less: bounds made of it hold for the mean itself, ties
    included.
    """
    return math.fsum([*values, missing]) / (size or len(values))


class _Spread:
    """The standard deviation of answers about one cluster and one new trace, pooled over what was asked so far."""

    def __init__(self) -> None:
        self.squares, self.freedom = 2 / 12, 2  # to begin with, two answers' worth of anything from 0 to 1

    def learn(self, answered: Sequence[Sequence[float]]) -> None:
        for values in answered:
            if len(values) > 1:
                mean = _mean(values)
                self.squares += math.fsum((value - mean) ** 2 for value in values)
                self.freedom += len(values) - 1

    def error(self, known: int, size: int) -> float:
        """Standard error of a mean of `size` answers of which `known` are known (drawn without replacement)."""
        return math.sqrt(self.squares / self.freedom * (1 / known - 1 / size))


def _place_needed(
    new: int,
    sampled: list[list[int]],
    settings: ClusterSettings,
    forced: bool,
    order: Sequence[int],
    spread: _Spread | None = None,
) -> Generator:
    """Ask until the answers that are missing cannot change the choice; the choice of `_place_all`.

    What is missing of a cluster counts 0 at least and 1 at most, so its mean has bounds. The cluster with the highest
    upper bound is asked about next: no other order can do without those answers, unless it is luckier. spread: narrows
    the bounds to what is likely (surety standard errors), so that the choice is likely that of `_place_all`; learns
    from the answers.
    """
    sizes = [len(members) for members in sampled]
    answered: list[list[float]] = [[] for _ in sampled]
    low, high = [0.0] * len(sampled), [0.0] * len(sampled)

    def bound(index: int) -> None:
        values, size = answered[index], sizes[index]
        low[index], high[index] = _mean(values, 0, size), _mean(values, size - len(values), size)
        if spread and values:
            mean, off = _mean(values), settings.surety * spread.error(len(values), size)
            low[index], high[index] = max(low[index], mean - off), min(high[index], mean + off)

    for index in range(len(sampled)):
        bound(index)
    while True:
        wanted = None if settings.assign == "best" else _first_open(low, high, sizes, settings, order)
        if wanted is None:  # 'best', or none can be above tau and the most similar is wanted all the same
            wanted = _best_open(low, high, sizes, answered, settings, forced)
        if not wanted:
            if spread:
                spread.learn(answered)
            # What is still open cannot matter: the least it can be stands for it.
            return _choose(low, settings, forced, order)
        if spread:  # bounds narrow faster than by 1 / size an answer
            wanted = [(index, min(more, max(1, len(answered[index])))) for index, more in wanted]
        asked = [(index, member) for index, more in wanted for member in sampled[index][len(answered[index]) :][:more]]
        scores = yield [(member, new) for _, member in asked]
        for (index, _), value in zip(asked, similarities(scores, settings), strict=True):
            answered[index].append(value)
        for index, _ in wanted:
            bound(index)


def _first_open(low, high, sizes, settings: ClusterSettings, order: Sequence[int]) -> list[tuple[int, int]] | None:
    """(cluster, answers to ask for) of the first cluster that may be above tau; []: one is; None: none can be."""
    for index in order:
        if low[index] > settings.tau:
            return []
        if high[index] > settings.tau:  # nothing after it matters before it is known
            return [(index, _least_answers(low[index], high[index], settings.tau, sizes[index]))]
    return None


def _best_open(low, high, sizes, answered, settings: ClusterSettings, forced: bool) -> list[tuple[int, int]]:
    """(cluster, answers to ask for) of the clusters to ask about next; []: the choice is decided."""
    clusters = range(len(low))
    floor = float("-inf") if forced else settings.tau
    leader = max(clusters, key=lambda i: (high[i], low[i], sizes[i], -i))
    if high[leader] <= floor:
        return []
    # Rivals may turn out above the leader, or equal and opened before it.
    rivals = [
        i
        for i in clusters
        if i != leader and high[i] > floor and (high[i] > low[leader] or (high[i] == low[leader] and i < leader))
    ]
    if low[leader] == high[leader]:  # known: only rivals that may beat it are left
        return [(i, _least_answers(low[i], high[i], high[leader], sizes[i])) for i in rivals if low[i] != high[i]]
    if not rivals and low[leader] > floor:
        return []
    if (
        settings.similarity == "verdict"
        and high[leader] == 1.0
        and not any(answered[i] for i in clusters if i != leader)
    ):
        # Verdicts are often all 'same' in a trace's own cluster, and no mean is above 1: the others may not be needed
        # at all.
        return [(leader, max(1, len(answered[leader])))]
    next_best = max([floor, *(high[i] for i in rivals)])
    # Those close behind are asked along with it: they are most likely next, and rounds are fewer and larger so.
    close = high[leader] - 0.25 / sizes[leader]
    level = [i for i in rivals if low[i] != high[i] and high[i] >= close]
    return [(leader, _least_answers(low[leader], high[leader], next_best, sizes[leader])), *((i, 1) for i in level)]


def _least_answers(low: float, high: float, level: float, size: int) -> int:
    """So many answers at the least move a mean with these bounds to one side of a level: each moves one by 1 / size."""
    return max(1, math.ceil(min(high - level, level - low) * size - 1e-6))


def on_table(running: Generator[Pairs, Sequence[float], Any], scores: Sequence[Sequence[float]]) -> tuple[Any, list]:
    """Drive one generator, its pairs answered from a table: scores[member][new], p_same.

    Returns (what it returned, asked). asked[new]: the members that a trace was compared with, in the order of asking.
    """
    asked: list[list[int]] = [[] for _ in scores]
    reply = None
    while True:
        try:
            pairs = running.send(reply)
        except StopIteration as stop:
            return stop.value, asked
        for member, new in pairs:
            asked[new].append(member)
        reply = [scores[member][new] for member, new in pairs]


def lockstep(
    runs: dict[Hashable, Generator[Pairs, Sequence[float], Any]],
    score: Callable[[list[tuple[Hashable, int, int]]], Sequence[float]],
    progress: Callable[[int], None] | None = None,
) -> dict[Hashable, Any]:
    """Drive many `greedy` (or `replay.replay`) generators together: one call of `score` a round, for all questions.

    score takes (key, member, new trace) triples and returns their p_same. progress is told how many traces a round has
    placed. Returns what each key's generator returned: clusters.
    """
    results: dict[Hashable, Any] = {}
    waiting: dict[Hashable, Pairs] = {}

    def advance(key: Hashable, scores: Sequence[float] | None) -> int:
        """Returns how many traces were placed."""
        before = waiting[key][0][1] if key in waiting else 0
        try:
            waiting[key] = runs[key].send(scores)
        except StopIteration as stop:
            results[key] = stop.value
            waiting.pop(key, None)
            return 1
        return waiting[key][0][1] - before

    placed = sum(advance(key, None) for key in runs)
    while waiting:
        if progress:
            progress(placed)
        batch = [(key, a, b) for key, wanted in waiting.items() for a, b in wanted]
        scores = score(batch)
        placed = start = 0
        for key, wanted in list(waiting.items()):
            placed += advance(key, scores[start : start + len(wanted)])
            start += len(wanted)
    if progress:
        progress(placed)
    return {key: results[key] for key in runs}
