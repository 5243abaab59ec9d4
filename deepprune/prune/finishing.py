"""Which traces are generated to the end, and how they vote. Pure: no model, no files in here.

A rule is a generator. It yields what it wants done (`Open`: start traces and cluster their prefixes; `Finish`:
generate traces to the end, in parallel), is sent what came of it (the clusters; the answers), and returns the
weight of each finished trace's vote. The method `deepprune` (methods/deepprune.py) runs it.

    paper      the first K2 traces of the largest cluster, one vote each (arXiv 2510.08483)
    weighted   `per_cluster` traces of each of the `largest` clusters; a vote weighs what its cluster holds
    adaptive   one batch after the other, in an order given by the clusters' sizes, until the vote is decided
    staged     adaptive, and the prefixes too are opened in stages while it is undecided
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence

from deepprune.base import config, registry
from deepprune.base.config import setting
from deepprune.prune import voting

# name -> where its generator is: called with the number of traces, the settings and the problem's id.
RULES = {
    "paper": "deepprune.prune.finishing:_paper",
    "weighted": "deepprune.prune.finishing:_weighted",
    "adaptive": "deepprune.prune.finishing:_adaptive",
    "staged": "deepprune.prune.finishing:_staged",
}
Clusters = Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Open:
    """Start traces until `count` are open, and cluster their prefixes. Answered with the clusters."""

    count: int


Answers = Mapping[int, int | None]  # of finished traces: their classes (None: unknown)
STOPPED = -1  # in place of a class: the trace was not needed any more


@dataclasses.dataclass(frozen=True)
class Finish:
    """Generate these traces to the end, all in parallel. Answered with their answer classes (None: unknown).

    enough: whether, with the answers so far of these traces, the rule returns its votes: whoever runs it may then stop
    the others, and answers STOPPED for them.
    """

    traces: tuple[int, ...]
    enough: Callable[[Answers], bool] | None = None


Rule = Generator[Open | Finish, Sequence, dict[int, float]]


@dataclasses.dataclass(frozen=True)
class FinishSettings:
    """K2 and the paper's rule are the paper's; K3 and all others are ours."""

    rule: str = setting("paper", "which traces are generated to the end, and how they vote", choices=RULES)
    k2: int = setting(20, "most traces finished (K2)", at_least=1)
    k3: int = setting(20, "traces finished when every cluster is a singleton (K3; not stated by the paper)", at_least=1)
    largest: int = setting(4, "finish rule weighted: clusters that are finished", at_least=1)
    per_cluster: int = setting(3, "finish rule weighted: traces finished of each", at_least=1)
    threshold: float = setting(
        0.95,
        "finish rules adaptive, staged: probability that the leading answer is the majority",
        at_least=0,
        at_most=1,
    )
    trust: float = setting(
        0.25,
        "finish rules adaptive, staged: share of a vote an unfinished member lends its cluster",
        at_least=0,
        at_most=1,
    )
    batch: int = setting(4, "finish rules adaptive, staged: traces finished at once", at_least=1)
    start: int = setting(16, "finish rule staged: prefixes opened first; doubled while undecided", at_least=1)
    seed: int = config.seed("seed of random finish")

    def __post_init__(self) -> None:
        config.check(self)


def rule(count: int, settings: FinishSettings, key: Hashable = "") -> Rule:
    """The generator of the settings' rule for `count` traces. `key` (the problem's id) seeds random draws."""
    return registry.load(RULES[settings.rule])(count, settings, key)


def weights(clusters: Clusters, answers: dict[int, int | None], trust: float) -> dict[int, float]:
    """Weight of each finished trace with a known answer: itself, and its share of what the judge says agrees.

    A finished trace counts 1. The unfinished members of its cluster lend it `trust` votes each, shared among the
    cluster's finished traces with a known answer. trust 0: one vote each; trust 1: the cluster's size.
    """
    result = {}
    for cluster in clusters:
        finished = [t for t in cluster if t in answers]
        known = [t for t in finished if answers[t] is not None]
        for trace in known:
            result[trace] = 1.0 + trust * (len(cluster) - len(finished)) / len(known)
    return result


def _drawn(clusters: Clusters, count: int, settings: FinishSettings, key: Hashable) -> tuple[int, ...] | None:
    """K3 traces at random when every cluster is a singleton (the clustering says nothing), else None."""
    if clusters and max(map(len, clusters)) > 1:
        return None
    rng = random.Random(f"{settings.seed}/finish/{key}")
    return tuple(sorted(rng.sample(range(count), min(settings.k3, count))))


def _paper(count: int, settings: FinishSettings, key: Hashable) -> Rule:
    clusters = yield Open(count)
    chosen = _drawn(clusters, count, settings, key)
    if chosen is None:
        chosen = tuple(max(clusters, key=len)[: settings.k2])  # the one opened first among equals
    labels = yield Finish(chosen, lambda answers: _for_good(answers, len(chosen)))
    return dict.fromkeys((t for t, label in zip(chosen, labels, strict=True) if label != STOPPED), 1.0)


def _for_good(answers: Answers, count: int) -> bool:
    """Whether the leading answer of so many traces, one vote each, cannot be overtaken any more."""
    first, second = voting.leading(list(voting.totals((answer, 1.0) for answer in answers.values()).values()))
    return first - second > count - len(answers)


def _weighted(count: int, settings: FinishSettings, key: Hashable) -> Rule:
    clusters = yield Open(count)
    drawn = _drawn(clusters, count, settings, key)
    if drawn is not None:
        yield Finish(drawn)
        return dict.fromkeys(drawn, 1.0)
    largest = sorted(clusters, key=len, reverse=True)[: settings.largest]
    chosen = tuple(t for cluster in largest for t in cluster[: settings.per_cluster])[: settings.k2]
    labels = yield Finish(chosen)
    return weights(clusters, dict(zip(chosen, labels, strict=True)), 1.0)


def _next(clusters: Clusters, answers: dict[int, int | None], batch: int) -> tuple[int, ...]:
    """The traces to finish next: seats are given to clusters by highest averages (size over traces finished + 1)."""
    taken = [sum(t in answers for t in c) for c in clusters]
    chosen: list[int] = []
    for _ in range(batch):
        open_ = [i for i, c in enumerate(clusters) if taken[i] < len(c)]
        if not open_:
            break
        best = max(open_, key=lambda i: (len(clusters[i]) / (taken[i] + 1), -i))
        chosen.append([t for t in clusters[best] if t not in answers and t not in chosen][0])
        taken[best] += 1
    return tuple(chosen)


def _decided(clusters: Clusters, answers: dict[int, int | None], settings: FinishSettings) -> bool:
    weighed = weights(clusters, answers, settings.trust).items()
    return voting.decided(voting.totals((answers[trace], weight) for trace, weight in weighed), settings.threshold)


def _adaptive(count: int, settings: FinishSettings, key: Hashable) -> Rule:
    clusters = yield Open(count)
    answers: dict[int, int | None] = {}
    yield from _finish_while_undecided(clusters, answers, settings, settings.k2)
    return weights(clusters, answers, settings.trust)


def _finish_while_undecided(clusters: Clusters, answers: dict, settings: FinishSettings, most: int) -> Generator:
    """Finish batches until the vote is decided, `most` traces are finished in all, or none is left."""
    while len(answers) < most and not _decided(clusters, answers, settings):
        chosen = _next(clusters, answers, min(settings.batch, most - len(answers)))
        if not chosen:
            return
        labels = yield Finish(chosen, lambda new: _decided(clusters, answers | new, settings))
        answers.update((t, label) for t, label in zip(chosen, labels, strict=True) if label != STOPPED)


def _staged(count: int, settings: FinishSettings, key: Hashable) -> Rule:
    opened = min(settings.start, count)
    answers: dict[int, int | None] = {}
    while True:
        clusters = yield Open(opened)
        last = opened == count
        # One batch a stage, so that a doubtful vote opens further prefixes before it finishes all of the few.
        yield from _finish_while_undecided(
            clusters, answers, settings, settings.k2 if last else min(settings.k2, len(answers) + settings.batch)
        )
        if last or len(answers) >= settings.k2 or _decided(clusters, answers, settings):
            return weights(clusters, answers, settings.trust)
        opened = min(2 * opened, count)


def clusters_of(placed: Sequence[int]) -> list[list[int]]:
    """Clusters (positions in arrival order, clusters by opening) from each trace's cluster number; -1 is in none."""
    clusters: dict[int, list[int]] = {}
    for position, number in enumerate(placed):
        if number >= 0:
            clusters.setdefault(number, []).append(position)
    return [clusters[number] for number in sorted(clusters)]


def first(clusters: Sequence[Sequence[int]], n: int) -> list[list[int]]:
    """The clusters of the first n traces."""
    return [members for cluster in clusters if (members := [t for t in cluster if t < n])]


def placed_of(clusters: Sequence[Sequence[int]], n: int) -> list[int]:
    """Each of the first n traces' cluster number (-1: in none): the reverse of `clusters_of`."""
    placed = [-1] * n
    for number, members in enumerate(clusters):
        for member in members:
            if member < n:
                placed[member] = number
    return placed
