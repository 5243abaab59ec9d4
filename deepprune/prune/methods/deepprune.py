"""Pruning: traces are held at their prefixes and clustered by the judge; a finish rule says which go on, and votes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.prune import clustering, finishing
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.protocol import PREFIX, WAIT, Command, Compare, Event, Generate, Held, Method

Step = Generator[Sequence[Command], Event, Any]


@dataclasses.dataclass(frozen=True)
class DeepPruneSettings:
    cluster: ClusterSettings = ClusterSettings()  # noqa: RUF009 - frozen
    finish: FinishSettings = FinishSettings()  # noqa: RUF009
    early: bool = setting(
        False, "stop what is in flight of the traces to finish the moment the vote is decided (not by rule weighted)"
    )

    def __post_init__(self) -> None:
        config.check(self)


class Clustering:
    """The greedy clustering, as far as traces are open: the judge is asked about each as soon as it is held.

    Traces are known by the order in which they were held.
    """

    def __init__(self, count: int, settings: ClusterSettings, key: Hashable = ""):
        self.clusters: list[list[int]] = []
        self.running = clustering.greedy(count, settings, key, self.clusters)
        self.pairs = next(self.running, None)  # that it waits for, by arrival; None: all are placed

    def place(self, arrived: list[int], opened: int) -> Step:
        """Go on until the first `opened` traces are held (told to `arrived`) and placed."""
        commands: Sequence[Command] = [Generate(tuple(range(len(arrived), opened)), PREFIX)]
        asking = False
        while len(arrived) < opened or (self.pairs and self.pairs[0][1] < opened):
            if self.pairs and not asking and self.pairs[0][1] < len(arrived):
                commands, asking = [*commands, Compare(tuple((arrived[a], arrived[b]) for a, b in self.pairs))], True
            event = yield commands
            commands = WAIT
            if isinstance(event, Held):
                arrived.append(event.trace)
            else:
                asking = False
                self._scored(event.p_same)

    def _scored(self, p_same: Sequence[float]) -> None:
        try:
            self.pairs = self.running.send(p_same)
        except StopIteration:
            self.pairs = None


class KnownClusters(Clustering):
    """Clusters of recorded traces that are known already, so that many finish rules share one clustering."""

    def __init__(self, placed: Sequence[int]):
        self.clusters, self.pairs = finishing.clusters_of(placed), None


def deepprune(
    count: int, settings: DeepPruneSettings, key: Hashable = "", clusters: Clustering | None = None
) -> Method:
    """clusters: where they come from, for callers that look at them (default: a Clustering)."""
    clusters = clusters or Clustering(count, settings.cluster, key)
    rule = finishing.rule(count, settings.finish, key)
    arrived: list[int] = []
    reply: Sequence | None = None
    while True:
        try:
            request = rule.send(reply)
        except StopIteration as stop:
            return {arrived[position]: stop.value[position] for position in sorted(stop.value)}
        if isinstance(request, finishing.Open):
            yield from clusters.place(arrived, request.count)
            reply = finishing.first(clusters.clusters, request.count)
        else:
            traces = {arrived[position]: position for position in request.traces}
            ended = yield from _finish(traces, request.enough if settings.early else None)
            reply = [ended.get(position, finishing.STOPPED) for position in request.traces]


def _finish(traces: dict[int, int], enough: Callable[[finishing.Answers], bool] | None) -> Step:
    """Generate traces (number -> position) to the end, or until that is enough: the answers by position."""
    commands: Sequence[Command] = [Generate(tuple(traces))]
    answers: dict[int, int | None] = {}
    while len(answers) < len(traces):
        event = yield commands
        commands = WAIT
        answers[traces[event.trace]] = event.answer
        if enough and enough(answers):
            break
    return answers
