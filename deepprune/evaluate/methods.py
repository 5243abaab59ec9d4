"""Every method (deepprune/prune/methods/) on the same traces: pruning by any judge and finish rule, and the others.

A question is a set of traces (answers, lengths and prefix lengths); a judge is a table of scores. So recorded traces
with a real judge's stored scores, and answers alone with a simulated judge, go through the same code. `compare` gives a
row a question; deepprune/evaluate/methods_table.py averages them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepprune.base import config, metrics
from deepprune.base.config import like, setting
from deepprune.base.errors import UserError
from deepprune.base.records import Problem, Trace
from deepprune.data import answers
from deepprune.evaluate import posteriors, simulation
from deepprune.judges.calibration import Calibration
from deepprune.judges.pair_prompts import Frame
from deepprune.prune import costs, finishing
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.deepconf import DeepConfSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings, KnownClusters
from deepprune.prune.methods.esc import EscSettings
from deepprune.prune.methods.posterior import PosteriorSettings
from deepprune.prune.prefixes import Prefixed
from deepprune.prune.replay import Played, Recorded, play

KEYS = ("method", "judge", "tau", "K", "K1", "K2", "asks", "assign")  # what tells a method from the others


@dataclasses.dataclass
class Figures:
    """What is known of a method on one question; averaged over orders of the traces. NaN: not known."""

    accuracy: float
    tokens: float  # the reasoner's
    sequential: float  # the longest chain of dependent generation, in tokens
    judge_calls: float
    judge_prompt: float  # tokens of the judge's prompts
    judge_cached: float  # of which a perfect prefix cache saves (costs.judge_tokens)
    total: float  # the reasoner's tokens and the judge's computed ones weighted by parameters
    total_uncached: float  # the same without a cache
    coverage: float  # a right answer is among the finished traces
    represented: float  # ... or among the clusters' first traces
    diversity: float  # share of the distinct answers of all n traces that is among the finished ones
    diversity_represented: float
    opened: float  # traces started
    finished: float  # traces generated to the end
    clusters: float


FIELDS = tuple(field.name for field in dataclasses.fields(Figures))


@dataclasses.dataclass
class TraceSet:
    """One problem's n traces, in recorded order.

    labels: answer classes (None: unknown); right: the right answer's class (None: no trace is right); lengths,
    prefixes: reasoner tokens of whole traces and of their prefixes; confidences: Trace.confidence of each (or empty).
    """

    problem_id: str
    dataset: str
    labels: list[int | None]
    right: int | None
    lengths: list[int]
    prefixes: list[int]
    confidences: list[dict] = dataclasses.field(default_factory=list)

    def recorded(self) -> Recorded:
        """What a method is played on."""
        return Recorded(self.labels, self.lengths, self.prefixes, self.confidences)

    def ordered(self, order: Sequence[int]) -> TraceSet:
        """The same traces in another order of arrival."""
        return dataclasses.replace(
            self,
            **{f: [getattr(self, f)[i] for i in order] for f in ("labels", "lengths", "prefixes")},
            confidences=[self.confidences[i] for i in order] if self.confidences else [],
        )


def trace_set(problem: Problem, traces: Sequence[Trace | Prefixed], prefixes: Sequence[int] = ()) -> TraceSet:
    """A problem's recorded traces. prefixes: the reasoner's tokens of each prefix, for pruning."""
    labels = answers.classes([t.answer for t in traces], problem.answer_type)
    right = answers.right_class(labels, [t.correct for t in traces])
    confidences = [t.confidence for t in traces] if all(t.confidence for t in traces) else []
    lengths = [t.n_tokens for t in traces]
    prefixes = list(prefixes) or [0] * len(traces)
    return TraceSet(problem.problem_id, problem.dataset, labels, right, lengths, prefixes, confidences)


@dataclasses.dataclass
class Judged:
    """A judge's scores of one question's traces: p_same[i][j], for any order of i and j.

    ratio: judge / reasoner parameters (None: not known). prefixes: judge tokens of each prefix, frame: of the rest of
    its prompt; stored[i][j]: tokens of a scored pair's whole prompt, where they are known.
    per_trace: the judge reads each trace once (an encoder) and not each pair. calibration: fitted on other problems.
    """

    scores: np.ndarray
    ratio: float | None = 0.0
    prefixes: Sequence[int] = ()
    frame: Frame = Frame()  # noqa: RUF009 - frozen
    per_trace: bool = False
    stored: np.ndarray | Sequence[Sequence[int]] | None = None
    calibration: Calibration | None = None

    def weighted(self, reasoner_parameters: float) -> Judged:
        """The same with a ratio, from one whose `ratio` holds the judge's parameters."""
        return dataclasses.replace(self, ratio=None if self.ratio is None else self.ratio / reasoner_parameters)

    def ordered(self, order: Sequence[int]) -> Judged:
        """The same for traces in another order of arrival."""
        return dataclasses.replace(
            self,
            scores=self.scores[np.ix_(order, order)],
            prefixes=[self.prefixes[i] for i in order] if len(self.prefixes) else [0] * len(order),
            stored=None if self.stored is None else self.stored[np.ix_(order, order)].tolist(),
        )

    def prompt_tokens(self, asked: Sequence[Sequence[int]], opened: int) -> tuple[int, int]:
        """(prompt tokens, of which a perfect prefix cache saves). asked[i]: members that trace i was compared with."""
        if self.per_trace:
            return sum(self.prefixes[:opened]), 0
        if self.ratio == 0:
            return 0, 0
        length = None if self.stored is None else (lambda member, new: self.stored[member][new])
        return costs.judge_tokens(asked, self.prefixes, opened, self.frame, length)


@dataclasses.dataclass
class Grid:
    """What is tried: every combination of taus, ks, k1s, k2s, asks (each with its assign) and rules, with every judge.

    The settings that the scripts of Online/ share.
    """

    taus: list[float] = like(
        ClusterSettings, "tau", [0.5], "values of tau (a trace joins the most similar cluster above it)"
    )
    ks: list[int] = like(ClusterSettings, "k", [32], "values of K (most clusters)")
    k1s: list[int] = like(ClusterSettings, "k1", [1, 10], "values of K1 (most members of a cluster compared)")
    k2s: list[int] = like(FinishSettings, "k2", [20], "values of K2 (most traces finished)")
    k3: int = like(FinishSettings, "k3")
    asks: list[str] = like(
        ClusterSettings,
        "asks",
        ["all", "needed", "likely"],
        "all: every sampled member is compared; needed: only as far as decides (the same clusters); likely: as far as "
        "likely decides",
    )
    assigns: list[str] = like(
        ClusterSettings,
        "assign",
        [],
        "of the clusters above tau a trace joins the best, the first or the largest: one for each of --asks (default: "
        "the largest for likely, else the best)",
    )
    overflow: str = like(ClusterSettings, "overflow")
    rules: list[str] = like(FinishSettings, "rule", list(finishing.RULES), "finish rules")
    threshold: float = like(
        FinishSettings, "threshold", help="of Adaptive-Consistency, and of the adaptive and staged finish rules"
    )
    trust: float = like(FinishSettings, "trust")
    finish_batch: int = like(FinishSettings, "batch")
    start: int = like(FinishSettings, "start")
    posteriors: list[float] = like(PosteriorSettings, "threshold", [0.7, 0.9], "thresholds of the method posterior")
    window: int = setting(8, "ESC's window", at_least=1)
    warmup: int = setting(16, "DeepConf's warm-up traces", at_least=1)
    orders: int = setting(20, "random orders of the traces that are averaged over (1: the recorded order)", at_least=1)
    resamples: int = config.resamples(free=True)
    seed: int = config.seed("seed of orders, simulated scores, clustering and bootstrap")

    def __post_init__(self) -> None:
        if self.assigns and len(self.assigns) != len(self.asks):
            raise UserError(f"--assigns takes one value for each of --asks: {len(self.asks)}, not {len(self.assigns)}")

    def order(self, traces: TraceSet, number: int) -> list[int]:
        """The number-th order of a question's traces."""
        n = len(traces.labels)
        if self.orders == 1:
            return list(range(n))
        return random.Random(f"{self.seed}/order/{traces.dataset}/{traces.problem_id}/{number}").sample(range(n), n)

    def plain(self, n: int) -> dict[str, tuple[str, int, Any]]:
        """The methods without a judge that are tried on n traces: title -> (name, most traces, settings).

        cons@m is exact for every m without being played. Of the others those that have no settings here have their own.
        """
        most = min(self.k2s)
        batches = f"adaptive-consistency, batches of {self.finish_batch}, at most {most}"
        set_here = {
            "adaptive-consistency": ("adaptive", n, AdaptiveSettings(self.threshold)),
            batches: ("adaptive", most, AdaptiveSettings(self.threshold, self.finish_batch)),
            "esc": ("esc", n, EscSettings(self.window)),
            "deepconf-low": ("deepconf", n, DeepConfSettings(0.1, self.warmup)),
            "deepconf-high": ("deepconf", n, DeepConfSettings(0.9, self.warmup)),
        }
        names = {"consensus", *(name for name, *_ in set_here.values())}
        others = [name for name, kind in METHODS.items() if not kind.needs_judge and name not in names]
        return set_here | {name: (name, n, METHODS[name].settings()) for name in others}

    def clusterings(self) -> Iterator[ClusterSettings]:
        """The settings of every clustering that is tried."""
        assigns = self.assigns or ["largest" if asks == "likely" else "best" for asks in self.asks]
        ways = list(zip(self.asks, assigns, strict=True))
        for tau, k, k1, (asks, assign) in itertools.product(self.taus, self.ks, self.k1s, ways):
            yield ClusterSettings(tau, k, k1, self.overflow, assign=assign, asks=asks, seed=self.seed)

    def finishes(self) -> Iterator[FinishSettings]:
        """The settings of every finish rule that is tried."""
        for rule, k2 in itertools.product(self.rules, self.k2s):
            yield FinishSettings(
                rule,
                k2,
                self.k3,
                threshold=self.threshold,
                trust=self.trust,
                batch=self.finish_batch,
                start=self.start,
                seed=self.seed,
            )


Judges = Callable[[int], Mapping[str, Judged]]


def compare(traces: TraceSet, grid: Grid, judges: Judges) -> dict:
    """All methods on one question.

    judges(number): judge name -> Judged, for the number-th order, with tables in *recorded* order (a simulated judge
    draws anew for each). Returns a JSON row: cons@m, pass@m and the expected longest of m traces for every m (exact),
    and a list of methods with KEYS and FIELDS (None: not known).
    """
    n = len(traces.labels)
    counts = np.bincount([x for x in traces.labels if x is not None], minlength=1).tolist()
    right = 0 if traces.right is None else counts[traces.right]
    unknown, lengths = n - sum(counts), sorted(traces.lengths)
    sums: dict[tuple, np.ndarray] = {}
    for number in range(grid.orders):
        for key, figures in _one_order(traces, grid, judges(number), number):
            sums[key] = sums.get(key, 0.0) + np.asarray(dataclasses.astuple(figures), dtype=np.float64)
    return {
        "problem_id": traces.problem_id,
        "dataset": traces.dataset,
        "n": n,
        "length": float(np.mean(lengths)),
        "pass@1": right / n,
        "cons": [metrics.cons_at_k(counts, traces.right, unknown, m) for m in range(1, n + 1)],
        "pass": [metrics.pass_at_k(n, right, m) for m in range(1, n + 1)],
        "longest": [
            sum(x * math.comb(i, m - 1) for i, x in enumerate(lengths)) / math.comb(n, m) for m in range(1, n + 1)
        ],
        "distinct": len(set(traces.labels) - {None}),
        "methods": [
            dict(zip(KEYS, key, strict=True)) | dict(zip(FIELDS, _known(v / grid.orders), strict=True))
            for key, v in sums.items()
        ],
    }


def _known(values: np.ndarray) -> list[float | None]:
    """As a JSON row holds them: None for what is not known."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def without_judge(traces: Recorded, grid: Grid) -> dict[str, Played]:
    """What every method without a judge does on traces that arrive in this order, by title."""
    return {
        title: play(METHODS[name].start(min(most, len(traces.labels)), settings), traces)
        for title, (name, most, settings) in grid.plain(len(traces.labels)).items()
        if traces.confidences or not METHODS[name].needs_confidence
    }


def _one_order(
    in_recorded_order: TraceSet, grid: Grid, judges: Mapping[str, Judged], number: int
) -> Iterator[tuple[tuple, Figures]]:
    """(values of KEYS, figures) of every method on a question whose traces arrive in the number-th order."""
    order = grid.order(in_recorded_order, number)
    traces = in_recorded_order.ordered(order)
    recorded, n = traces.recorded(), len(order)
    for title, done in without_judge(recorded, grid).items():
        yield (title, *[None] * (len(KEYS) - 1)), _figures(traces, done)
    key = f"{traces.dataset}/{traces.problem_id}/{number}"
    for name, judged in judges.items():
        judge = judged.ordered(order)
        table = judge.scores.tolist()
        for title, done, pairs in posteriors.played(
            recorded, table, posteriors.usual(grid.posteriors, judge.calibration)
        ):
            values = (f"posterior, {title}", name, *[None] * (len(KEYS) - 2))
            yield values, _figures(traces, done, judge, simulation.Clustered([-1] * n, pairs))
        for how in grid.clusterings():
            clustered = simulation.cluster(table, how, key)
            clusters = KnownClusters(clustered.placed)
            for finish in grid.finishes():
                method = METHODS["deepprune"].start(n, DeepPruneSettings(how, finish), key, clusters=clusters)
                values = (finish.rule, name, how.tau, how.k, how.k1, finish.k2, how.asks, how.assign)
                yield values, _figures(traces, play(method, recorded), judge, clustered)


def _figures(
    traces: TraceSet, done: Played, judge: Judged | None = None, clustered: simulation.Clustered | None = None
) -> Figures:
    """The figures of a method; judge, clustered: of one that prunes."""
    placed, asked = (clustered.placed[: done.opened], clustered.asked[: done.opened]) if clustered else ([], [])
    prompt, cached = judge.prompt_tokens(asked, done.opened) if judge else (0, 0)
    ratio = 0 if judge is None else math.nan if judge.ratio is None else judge.ratio
    first_traces = [members[0] for members in finishing.clusters_of(placed)]
    coverage, diversity = survivors(traces.labels, traces.right, done.finished)
    represented, diversity_represented = survivors(traces.labels, traces.right, {*first_traces, *done.finished})
    return Figures(
        accuracy=done.answer is not None and done.answer == traces.right,
        tokens=done.tokens,
        sequential=done.sequential,
        judge_calls=sum(map(len, asked)),
        judge_prompt=prompt,
        judge_cached=cached,
        total=done.tokens + (prompt - cached) * ratio,
        total_uncached=done.tokens + prompt * ratio,
        coverage=coverage,
        represented=represented,
        diversity=diversity,
        diversity_represented=diversity_represented,
        opened=done.opened,
        finished=len(done.finished),
        clusters=len(first_traces),
    )


def survivors(labels: Sequence[int | None], right: int | None, finished: Iterable[int]) -> tuple[bool, float]:
    """(a right answer is among the finished traces, share of all distinct answers that is)."""
    here = {labels[i] for i in finished} - {None}
    everywhere = set(labels) - {None}
    return right is not None and right in here, len(here) / len(everywhere) if everywhere else 1.0
