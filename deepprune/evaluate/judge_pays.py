"""From which quality on, at which size, does a judge pay? Rules that ask a judge beside votes that ask none.

`played` plays one question: cons@m and Adaptive-Consistency over their own settings, and with each judge `posterior`,
the staged and the paper's rule. Judge tokens are kept apart, so that a judge's size is weighed afterwards (`table`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from deepprune.evaluate import methods_table, posteriors, simulation
from deepprune.evaluate.methods import Judged, TraceSet
from deepprune.judges.calibration import Calibration
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings, KnownClusters
from deepprune.prune.methods.posterior import PosteriorSettings
from deepprune.prune.replay import Played, play

THRESHOLDS = (0.6, 0.7, 0.8, 0.9, 0.95)
BATCHES, MOST = (1, 2, 4), (4, 6, 8, 20)  # of Adaptive-Consistency: traces at once, and at most
CONSENSUS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TARGET = 8  # cons@8's accuracy is what is paid for
FIGURES = ("accuracy", "tokens", "judge_tokens", "sequential", "finished", "opened")
KEYS = ("method", "judge", "settings")


@dataclasses.dataclass(frozen=True)
class Posteriors:
    """The settings of `posterior` that are tried: all combinations. price 0: it asks however poor the judge is."""

    m0: tuple[int, ...] = (8, 16)
    b: tuple[int, ...] = (1, 2)
    most: int = 8
    prefixes: int = 0  # at least m0

    def all(self, calibration: Calibration) -> Iterator[PosteriorSettings]:
        for m0, b, threshold in itertools.product(self.m0, self.b, THRESHOLDS):
            yield PosteriorSettings(m0, b, 1, threshold, self.most, 0.0, calibration, max(m0, self.prefixes))


Judges = Mapping[str, tuple[Judged, Calibration]]


def played(
    traces: TraceSet, orders: Sequence[Sequence[int]], judges: Callable[[int], Judges], tried: Posteriors
) -> dict:
    """A row for one question: for each method, judge and settings the means of FIGURES over these orders of its traces.

    judges(number): name -> scores in recorded order, and what they are worth, for the number-th order.
    """
    sums: dict[tuple, np.ndarray] = {}
    for number, order in enumerate(orders):
        here = traces.ordered(order)
        for key, figures in _one_order(here, judges(number), tried, order, f"{traces.problem_id}/{number}"):
            sums[key] = sums.get(key, 0.0) + np.asarray(figures, dtype=np.float64)
    rows = [[*key, *(value / len(orders)).round(6).tolist()] for key, value in sums.items()]
    return {"problem_id": traces.problem_id, "dataset": traces.dataset, "n": len(traces.labels), "methods": rows}


def _one_order(here: TraceSet, judges: Judges, tried: Posteriors, order: Sequence[int], key: str) -> Iterator[tuple]:
    recorded, n = here.recorded(), len(order)
    for m in (m for m in CONSENSUS if m <= n):
        yield ("cons@m", "", str(m)), _figures(here, play(METHODS["consensus"].start(m), recorded))
    for b, most, threshold in itertools.product(BATCHES, MOST, THRESHOLDS):
        done = play(METHODS["adaptive"].start(min(most, n), AdaptiveSettings(threshold, b)), recorded)
        yield ("adaptive-consistency", "", f"b {b}, at most {most}, {threshold:g}"), _figures(here, done)
    for name, (judged, calibration) in judges.items():
        judge = judged.ordered(order)
        scores = judge.scores.tolist()
        for title, done, asked in posteriors.played(recorded, scores, tried.all(calibration)):
            yield ("posterior", name, title), _figures(here, done, judge, asked)
        how = ClusterSettings(k1=1, asks="likely", assign="largest")
        clustered = simulation.cluster(scores, how, key)
        for rule in ("paper", "staged"):
            settings = DeepPruneSettings(how, FinishSettings(rule, threshold=0.8))
            method = METHODS["deepprune"].start(n, settings, key, clusters=KnownClusters(clustered.placed))
            yield (rule, name, "K1 1, likely"), _figures(here, play(method, recorded), judge, clustered.asked)


def _figures(here: TraceSet, done: Played, judge: Judged | None = None, asked: Sequence = ()) -> tuple[float, ...]:
    prompt, cached = judge.prompt_tokens(asked, done.opened) if judge else (0, 0)
    right = done.answer is not None and done.answer == here.right
    return right, done.tokens, prompt - cached, done.sequential, len(done.finished), done.opened


def table(rows: Sequence[dict], ratios: Sequence[float], resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """A row for each method, judge, settings and judge size (ratio: judge / reasoner parameters).

    Means over questions; total: reasoner tokens and the judge's weighed by ratio; over_adaptive: accuracy minus that of
    Adaptive-Consistency at the same total, between the two of its settings that no other of it beats and that are next
    in tokens, with the interval over problems, paired.
    """
    keys = [tuple(row[: len(KEYS)]) for row in rows[0]["methods"]]
    if any([tuple(row[: len(KEYS)]) for row in r["methods"]] != keys for r in rows):
        raise ValueError("the rows hold different methods")
    values = np.asarray([[m[len(KEYS) :] for m in r["methods"]] for r in rows])  # (questions, methods, figures)
    plain = [i for i, key in enumerate(keys) if key[0] == "adaptive-consistency"]
    means = pd.DataFrame(values[:, plain, :2].mean(axis=0), columns=FIGURES[:2])
    front = methods_table.front(means, "tokens").index
    tokens = values[:, plain][:, front, 1].mean(axis=0)
    accuracy = values[:, plain][:, front, 0]
    drawn = np.random.default_rng(seed).integers(0, len(rows), (resamples, len(rows)))  # problems, for intervals
    result = []
    for i, key in enumerate(keys):
        for ratio in ratios if key[1] else [0.0]:
            mean = dict(zip(FIGURES, values[:, i].mean(axis=0).tolist(), strict=True))
            total = mean["tokens"] + ratio * mean["judge_tokens"]
            at_equal = np.stack([np.interp(total, tokens, row) for row in accuracy])
            gain = values[:, i, 0] - at_equal
            low, high = np.quantile(gain[drawn].mean(axis=1), [0.025, 0.975])
            gains = {"over_adaptive": gain.mean(), "over_adaptive low": low, "over_adaptive high": high}
            result.append(dict(zip(KEYS, key, strict=True)) | {"ratio": ratio, "total": total} | mean | gains)
    return pd.DataFrame(result)


def needed(numbers: pd.DataFrame, accuracy: float, cost: str = "total") -> float:
    """The tokens at which the best settings of these rows reach an accuracy, linear between two; nan: they do not."""
    front = methods_table.front(numbers, cost)
    if front.empty or front["accuracy"].iloc[-1] < accuracy:
        return float("nan")
    return float(np.interp(accuracy, front["accuracy"], front[cost]))


def summary(numbers: pd.DataFrame, below: float = 0.01) -> pd.DataFrame:
    """What cons@8's accuracy less `below` costs with each judge, rule and size, over what it costs without a judge.

    relative: total tokens over Adaptive-Consistency's; relative_sequential: of the longest chain likewise.
    """
    consensus = numbers[numbers["method"] == "cons@m"].set_index("settings")
    target = consensus.loc[str(TARGET), "accuracy"] - below
    plain = numbers[numbers["method"] == "adaptive-consistency"]
    result = []
    for (method, judge, ratio), rows in numbers[numbers["judge"] != ""].groupby(
        ["method", "judge", "ratio"], sort=False
    ):
        row = {"method": method, "judge": judge, "ratio": ratio, "target": target}
        for name, cost in (("relative", "total"), ("relative_sequential", "sequential")):
            row[name] = needed(rows, target, cost) / needed(plain, target, cost)
        best = rows.loc[rows["over_adaptive"].idxmax()]
        row |= {"best": best["settings"], "best_accuracy": best["accuracy"], "best_total": best["total"]}
        row |= {name: best[name] for name in ("over_adaptive", "over_adaptive low", "over_adaptive high")}
        result.append(row)
    return pd.DataFrame(result)
