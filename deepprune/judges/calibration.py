"""What a judge's p_same is worth: its likelihood ratio same : different, and what its errors have in common.

    python -m deepprune.judges.calibration --pairs DeepPrune_data/study/miniature/pairs.jsonl.gz \
        --scores DeepPrune_data/study/miniature/scores_DeepPrune-Judge-mini.jsonl.gz \
        --output Offline/DeepPrune-Judge-mini/judge_calibration.json

fits it on scored pairs with labels, shows how reliable p_same is before and after (fitted on other problems), and
writes it beside the judge, where what decides by p_same looks for it. The derivation: docs/posterior.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepprune.base import jsonl, metrics, records
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.engines import models
from deepprune.judges.registry import KINDS

FILE = "judge_calibration.json"
EDGE = 1e-12  # a p_same of 0 or 1 is this far from it: no judge is surer than that
LARGEST_GAP = 60.0  # of a judge that is never wrong


@dataclasses.dataclass(frozen=True)
class Noise:
    """What a judge's log-likelihood ratios (same : different) are made of, on a Gaussian scale.

    gap: mean of pairs with the same answer minus that of the others, which is the variance within either; it is the sum
    of a question's, two traces' and a pair's own. trace, question: shares of the variance that come from the two traces
    together, and from the question.
    """

    gap: float = 1.0
    trace: float = 0.0
    question: float = 0.0

    @property
    def pair(self) -> float:
        """The share that is each pair's own; what is left to it is at least a twentieth, so that it can be inverted."""
        return max(1.0 - self.trace - self.question, 0.05)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """From p_same to what can be reckoned with. The default believes p_same, as said of equally many pairs of both.

    slope, bias: calibrated log-odds are slope logit(p_same) + bias; knots: or the line through these points (logit,
    log-odds), from an isotonic fit. worth, middle: the log-likelihood ratio inside a question is worth (log-odds -
    middle).
    """

    slope: float = 1.0
    bias: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    worth: float = 1.0
    middle: float = 0.0
    noise: Noise = Noise()  # noqa: RUF009 - frozen

    def log_odds(self, p_same: Sequence[float]) -> np.ndarray:
        """Calibrated log-odds that pairs are the same, at the base rate of the pairs that it was fitted on."""
        logit = _logit(p_same)
        if self.knots:
            return np.interp(logit, *zip(*self.knots, strict=True))
        return self.slope * logit + self.bias

    def p_same(self, p_same: Sequence[float]) -> np.ndarray:
        """Calibrated p_same."""
        return 1.0 / (1.0 + np.exp(-self.log_odds(p_same)))

    def ratios(self, p_same: Sequence[float]) -> np.ndarray:
        """Log-likelihood ratios same : different of these p_same, whatever share of a question's pairs is the same."""
        return self.worth * (self.log_odds(p_same) - self.middle)


SILENT = Calibration(slope=0.0, noise=Noise(gap=0.0))  # of a judge that says nothing


@dataclasses.dataclass(frozen=True)
class Scored:
    """Scored pairs with labels (1: same), a row each: p_same, the pair's problem and its two traces."""

    labels: np.ndarray
    p_same: np.ndarray
    problems: np.ndarray
    traces: np.ndarray  # (pairs, 2)

    @classmethod
    def of(cls, rows: Sequence[tuple[int, float, Hashable, Hashable, Hashable]]) -> Scored:
        """From rows of label, p_same, problem, two traces. Raises UserError for none, or p_same that are no numbers."""
        if not rows:
            raise UserError("a judge is calibrated on scored pairs with labels; here are none")
        labels, p_same, problems, *traces = zip(*rows, strict=True)
        p_same = np.asarray(p_same, dtype=np.float64)
        if not np.isfinite(p_same).all():
            raise UserError("scores that are not finite numbers: the judge that gave them is broken")
        return cls(np.asarray(labels), p_same, _numbered(problems), np.stack(_both(traces), axis=1))

    def take(self, rows: np.ndarray) -> Scored:
        return Scored(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def _numbered(names: Sequence[Hashable]) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.asarray([numbers[name] for name in names])


def _both(traces: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Both sides' traces by one numbering."""
    numbers = _numbered([*traces[0], *traces[1]])
    return [numbers[: len(traces[0])].tolist(), numbers[len(traces[0]) :].tolist()]


def _logit(p_same: Sequence[float]) -> np.ndarray:
    p = np.clip(np.asarray(p_same, dtype=np.float64), EDGE, 1.0 - EDGE)
    return np.log(p) - np.log1p(-p)


def fit(scored: Scored) -> Calibration:
    """Temperature and bias, or isotonic where that is better on problems that it was not fitted on; and the noise.

    A judge whose scores fall where they should rise, or of pairs of one class, says nothing (SILENT).
    """
    if len(np.unique(scored.labels)) < 2 or np.ptp(_logit(scored.p_same)) == 0:
        return SILENT
    line = _line(scored)
    if line.slope <= 0:
        return SILENT
    folds = _folds(scored.problems)
    if len(folds) > 1:
        losses = [
            np.mean(np.concatenate([_loss(kind(scored.take(~fold)), scored.take(fold)) for fold in folds]))
            for kind in (_line, _isotonic)
        ]
        if losses[1] < losses[0]:
            line = _isotonic(scored)
    return _with_noise(line, scored)


def cross_fitted(scored: Scored) -> list[tuple[np.ndarray, Calibration]]:
    """(which rows, the calibration fitted on the problems of the others), of five parts of the problems.

    One problem alone has no others: it is SILENT.
    """
    folds = _folds(scored.problems)
    if len(folds) < 2:
        return [(np.ones(len(scored.labels), dtype=bool), SILENT)]
    return [(fold, fit(scored.take(~fold))) for fold in folds]


def _folds(problems: np.ndarray, count: int = 5) -> list[np.ndarray]:
    names = np.unique(problems)
    part = np.random.default_rng(0).permutation(len(names)) % count
    return [np.isin(problems, names[part == number]) for number in range(min(count, len(names)))]


def _line(scored: Scored) -> Calibration:
    """Temperature and bias: a logistic regression on logit(p_same), hardly regularised."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(scored.labels)) < 2:
        return Calibration(0.0, float(_logit([(scored.labels.sum() + 1.0) / (len(scored.labels) + 2.0)])[0]))
    fitted = LogisticRegression(C=1e4, max_iter=1000).fit(_logit(scored.p_same)[:, None], scored.labels)
    return Calibration(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


def _isotonic(scored: Scored) -> Calibration:
    """Log-odds that only rise: shares of an isotonic regression, each as if two more pairs, one of each, were in."""
    from sklearn.isotonic import IsotonicRegression

    logit = _logit(scored.p_same)
    shares = IsotonicRegression(out_of_bounds="clip").fit_transform(logit, scored.labels)
    knots = []
    for share in np.unique(shares):
        here = logit[shares == share]
        odds = float(_logit([(share * len(here) + 1.0) / (len(here) + 2.0)])[0])
        odds = max(odds, knots[-1][1]) if knots else odds
        knots += [(float(x), odds) for x in np.unique([here.min(), here.max()])]
    return Calibration(knots=tuple(knots))


def _loss(calibration: Calibration, scored: Scored) -> np.ndarray:
    odds = calibration.log_odds(scored.p_same)
    return np.logaddexp(0.0, odds) - scored.labels * odds


def _with_noise(calibration: Calibration, scored: Scored) -> Calibration:
    """The calibration with what its log-odds are worth inside a problem, and what their errors have in common.

    Log-odds are modelled as middle + gap (label - 1/2) + effects of problem, two traces and pair, all Gaussian. The gap
    is that between same and different pairs of one problem (least squares with a mean for each problem), less what such
    a gap has by chance; the variances are moments of the residuals: of two pairs of a problem without a common trace
    (problem), with one (and half of the traces' share), and of a pair with itself.
    """
    x, labels, problems = calibration.log_odds(scored.p_same), scored.labels, scored.problems
    counts = np.bincount(problems).astype(float)
    counts[counts == 0] = 1.0
    mean_x, mean_y = (np.bincount(problems, v, len(counts)) / counts for v in (x, labels))
    within = labels - mean_y[problems]
    if not (within**2).sum():
        return SILENT
    difference = float(within @ x / (within**2).sum())
    errors = np.bincount(problems, within * (x - mean_x[problems] - difference * within), len(counts))
    chance = float((errors**2).sum() / (within**2).sum() ** 2)
    gap = float(np.sqrt(max(difference, 0.0) ** 2 - chance)) if max(difference, 0.0) ** 2 > chance else 0.0
    if gap == 0.0:
        return dataclasses.replace(calibration, worth=0.0, noise=Noise(gap=0.0))
    middle = float(np.mean(x - difference * (labels - 0.5)))
    own, common, apart = moments(x - middle - difference * (labels - 0.5), scored)
    variance = max(own, gap**2 / LARGEST_GAP)
    question = min(max(apart, 0.0) / variance, 0.95)
    trace = min(2.0 * max(common - max(apart, 0.0), 0.0) / variance, 0.95 - question)
    noise = Noise(gap**2 / variance, trace, question)
    return dataclasses.replace(calibration, worth=gap / variance, middle=middle, noise=noise)


def moments(residuals: np.ndarray, scored: Scored) -> tuple[float, float, float]:
    """Mean products of residuals: of a pair with itself, of two with one common trace, of two of a problem without one.

    0 where there are no such two.
    """
    return tuple(np.divide(*np.asarray(_products(residuals, scored)).sum(axis=0).reshape(3, 2).T, where=True).tolist())


def _products(residuals: np.ndarray, scored: Scored) -> list[list[float]]:
    """By problem: sum and number of the products of `moments` (the number at least a tiny one)."""
    rows = []
    for problem in np.unique(scored.problems):
        here = scored.problems == problem
        r, traces = residuals[here], scored.traces[here]
        names = {name: number for number, name in enumerate(np.unique(traces))}
        sides = np.asarray([[names[a], names[b]] for a, b in traces])
        sums = np.bincount(sides.ravel(), np.repeat(r, 2))
        times = np.bincount(sides.ravel()).astype(float)
        own, pairs = float((r**2).sum()), float(len(r))
        common, common_pairs = float((sums**2).sum() - 2.0 * own), float((times**2).sum() - 2.0 * pairs)
        apart, apart_pairs = float(r.sum() ** 2 - own - common), pairs**2 - pairs - common_pairs
        tiny = 1e-9
        rows.append([own, pairs, common, max(common_pairs, tiny), apart, max(apart_pairs, tiny)])
    return rows


def reliability(scored: Scored, resamples: int = 1000) -> dict[str, dict[str, tuple[float, float, float]]]:
    """ECE, Brier score and log loss of p_same as it is and cross-fitted, each with its interval over problems."""
    after = np.empty(len(scored.labels))
    for rows, calibration in cross_fitted(scored):
        after[rows] = calibration.p_same(scored.p_same[rows]) if calibration != SILENT else scored.labels[~rows].mean()
    result = {}
    for name, p in (("before", scored.p_same), ("after", after)):
        y, odds = scored.labels, _logit(p)
        measures = {
            "ECE": lambda r, p=p: metrics.expected_calibration_error(scored.labels[r], p[r]),
            "Brier": lambda r, p=p, y=y: float(np.mean((p[r] - y[r]) ** 2)),
            "log loss": lambda r, o=odds, y=y: float(np.mean(np.logaddexp(0.0, o[r]) - y[r] * o[r])),
        }
        result[name] = {n: metrics.bootstrap(scored.problems.tolist(), m, resamples) for n, m in measures.items()}
    return result


def save(calibration: Calibration, path: str | Path, about: dict[str, Any]) -> None:
    """Write a calibration as JSON; about: what it was fitted on."""
    jsonl.write_json(Path(path), {"calibration": dataclasses.asdict(calibration), "about": about})


def load(path: str | Path) -> Calibration:
    """Raises UserError where the file is not one that `save` wrote."""
    try:
        row = json.loads(Path(path).read_text())["calibration"]
        knots = tuple((float(x), float(y)) for x, y in row.pop("knots"))
        return Calibration(knots=knots, noise=Noise(**row.pop("noise")), **row)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no calibration of a judge ({error}); make it with python -m deepprune.judges.calibration"
        ) from error


def of(kind: str, model: str | None = None) -> Calibration:
    """The calibration beside a judge's weights; SILENT for a judge without one, which is said, and for a random one.

    The oracle's p_same is what it says.
    """
    if not KINDS[kind].needs_model:
        return Calibration() if KINDS[kind].needs_labels else SILENT
    path = None if model is None else Path(models.resolve(model).path) / FILE
    if path is not None and path.is_file():
        return load(path)
    print(
        f"{model or 'the judge'}: no {FILE} beside it, so the method posterior takes nothing from what it says "
        "(python -m deepprune.judges.calibration makes one)",
        file=sys.stderr,
    )
    return SILENT


def read_scored(pairs: str, scores: str) -> Scored:
    """The pairs that are scored. Raises UserError for a score of a pair that is not in the file."""
    by_id = {pair.pair_id: pair for pair in records.read(records.Pair, pairs)}
    rows = []
    for score in records.read(records.PairScore, scores):
        pair = by_id.get(score.pair_id)
        if pair is None:
            raise UserError(f"{scores}: scores the pair {score.pair_id}, which is not in {pairs}")
        rows.append((pair.label, score.p_same, pair.problem_id, pair.trace_a, pair.trace_b))
    return Scored.of(rows)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description="Calibrate a judge on scored pairs with labels.")
    parser.add_argument("--pairs", required=True, help="JSONL file of Pair records")
    parser.add_argument("--scores", required=True, help="JSONL file of the judge's PairScore records of them")
    parser.add_argument("--output", help="JSON file to write (beside the judge's weights: judge_calibration.json)")
    given = parser.parse_args()
    scored = read_scored(given.pairs, given.scores)
    calibration, table = fit(scored), reliability(scored)
    for name, measures in table.items():
        shown = (f"{n} {v:.3f} {metrics.in_brackets(low, high)}" for n, (v, low, high) in measures.items())
        print(f"{name}: {', '.join(shown)}")
    print(f"{len(scored.labels)} pairs of {len(np.unique(scored.problems))} problems: {calibration}")
    if given.output:
        about = {
            "pairs": len(scored.labels),
            "problems": len(np.unique(scored.problems)),
            "same": float(scored.labels.mean()),
            "reliability": table,
        }
        save(calibration, given.output, about)
        print(given.output)


if __name__ == "__main__":
    main()
