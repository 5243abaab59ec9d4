"""Greedy clustering of traces (paper, "Online"). Pure: no model, no files in here.

`greedy` is a generator: it yields the pairs it wants scored, a batch at a time, is sent their scores, and
returns its clusters. So one implementation serves recorded traces, live traffic and every judge, and
`lockstep` lets many questions advance together so that each call to the judge is a large batch.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Generator, Hashable, Sequence

from deepprune.errors import UserError

Pairs = list[tuple[int, int]]  # (representative, new trace), positions in arrival order
SIMILARITIES, ASSIGNMENTS, OVERFLOWS = ("p_same", "verdict"), ("best", "first"), ("join", "drop")


@dataclasses.dataclass(frozen=True)
class ClusterSettings:
    """Defaults are the paper's where it states them; what happens at K clusters is not stated.

    Descriptions of the paper differ on two points, so both ways are settings: the similarity to a cluster is the mean
    over sampled members of p_same or of the verdicts (p_same > 0.5), and a trace joins the most similar cluster or
    the first, in the order of opening, whose similarity is above tau.
    """

    tau: float = 0.5  # join a cluster when the similarity to it is above tau
    k: int = 32  # most clusters (K)
    k1: int = 10  # most members of a cluster that a new trace is compared with (K1)
    overflow: str = "join"  # K clusters are open and none is similar: 'join' the best one, or 'drop' the trace
    similarity: str = "p_same"  # or 'verdict'
    assign: str = "best"  # or 'first'
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.tau <= 1.0:
            raise UserError(f"tau should lie in [0, 1], found {self.tau}")
        for name in ("k", "k1"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} should be at least 1, found {getattr(self, name)}")
        for name, choices in (("overflow", OVERFLOWS), ("similarity", SIMILARITIES), ("assign", ASSIGNMENTS)):
            if getattr(self, name) not in choices:
                raise UserError(f"{name} should be one of {', '.join(choices)}, found {getattr(self, name)!r}")


def greedy(
    count: int, settings: ClusterSettings, key: Hashable = ""
) -> Generator[Pairs, Sequence[float], list[list[int]]]:
    """Cluster `count` traces in arrival order 0, 1, 2 ...

    Yields, for each new trace, the pairs (member, new trace) to score: min(K1, size) sampled members of each
    cluster. Expects p_same of each, in that order. Returns the clusters (positions, each in arrival order,
    clusters by opening). The similarity to a cluster is the mean over its sampled members; ties go to the
    cluster opened first. `key` (the problem's id) and settings.seed seed the sampling of members.
    """
    rng = random.Random(f"{settings.seed}/{key}")
    clusters: list[list[int]] = []
    for new in range(count):
        best, similarity, joined = -1, float("-inf"), -1
        if clusters:
            sampled = [c if len(c) <= settings.k1 else rng.sample(c, settings.k1) for c in clusters]
            scores = yield [(member, new) for members in sampled for member in members]
            if settings.similarity == "verdict":
                scores = [float(p > 0.5) for p in scores]
            start = 0
            for index, members in enumerate(sampled):
                mean = sum(scores[start : start + len(members)]) / len(members)
                start += len(members)
                if mean > similarity:
                    best, similarity = index, mean
                if joined < 0 and mean > settings.tau:
                    joined = index
        if similarity > settings.tau:
            clusters[joined if settings.assign == "first" else best].append(new)
        elif len(clusters) < settings.k:
            clusters.append([new])
        elif settings.overflow == "join":
            clusters[best].append(new)
    return clusters


def lockstep(
    runs: dict[Hashable, Generator[Pairs, Sequence[float], list[list[int]]]],
    score: Callable[[list[tuple[Hashable, int, int]]], Sequence[float]],
    progress: Callable[[int], None] | None = None,
) -> dict[Hashable, list[list[int]]]:
    """Drive many `greedy` generators together: one call of `score` a round, for all questions' pairs at once.

    score takes (key, member, new trace) triples and returns their p_same. progress is told how many new
    traces were placed in a round. Returns each key's clusters.
    """
    results: dict[Hashable, list[list[int]]] = {}
    waiting: dict[Hashable, Pairs] = {}

    def advance(key: Hashable, scores: Sequence[float] | None) -> None:
        try:
            waiting[key] = runs[key].send(scores)
        except StopIteration as stop:
            results[key] = stop.value

    for key in runs:
        advance(key, None)
    while waiting:
        batch = [(key, a, b) for key, wanted in waiting.items() for a, b in wanted]
        scores = score(batch)
        current, waiting = waiting, {}
        start = 0
        for key, wanted in current.items():
            advance(key, scores[start : start + len(wanted)])
            start += len(wanted)
        if progress:
            progress(len(current))
    return {key: results[key] for key in runs}
