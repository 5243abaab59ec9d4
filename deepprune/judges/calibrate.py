"""A judge calibrated on scored pairs with labels: temperature and bias or isotonic, and the noise of its scores.

    python -m deepprune.judges.calibrate --pairs DeepPrune_data/study/miniature/pairs.jsonl.gz \
        --scores DeepPrune_data/study/miniature/scores_DeepPrune-Judge-mini.jsonl.gz \
        --output Offline/DeepPrune-Judge-mini/judge_calibration.json

shows how reliable p_same is before and after (fitted on other problems) and what its errors have in common, and writes
the calibration. The derivation: docs/posterior.md.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from deepprune.base import metrics, records
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.judges.calibration import LARGEST_GAP, SILENT, Calibration, Noise, logit_of, save


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


def fit(scored: Scored) -> Calibration:
    """Temperature and bias, or isotonic where that is better on problems that it was not fitted on; and the noise.

    A judge whose scores fall where they should rise, or of pairs of one class, says nothing (SILENT).
    """
    if len(np.unique(scored.labels)) < 2 or np.ptp(logit_of(scored.p_same)) == 0:
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
        return Calibration(0.0, float(logit_of([(scored.labels.sum() + 1.0) / (len(scored.labels) + 2.0)])[0]))
    fitted = LogisticRegression(C=1e4, max_iter=1000).fit(logit_of(scored.p_same)[:, None], scored.labels)
    return Calibration(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


def _isotonic(scored: Scored) -> Calibration:
    """Log-odds that only rise: shares of an isotonic regression, each as if two more pairs, one of each, were in."""
    from sklearn.isotonic import IsotonicRegression

    logit = logit_of(scored.p_same)
    shares = IsotonicRegression(out_of_bounds="clip").fit_transform(logit, scored.labels)
    knots = []
    for share in np.unique(shares):
        here = logit[shares == share]
        odds = float(logit_of([(share * len(here) + 1.0) / (len(here) + 2.0)])[0])
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
    products = moments(x - middle - difference * (labels - 0.5), scored)
    variance = max(products[0], gap**2 / LARGEST_GAP)
    noise = Noise(gap**2 / variance, *shares_of(products, variance))
    return dataclasses.replace(calibration, worth=gap / variance, middle=middle, noise=noise)


def shares_of(products: Sequence[float], variance: float) -> tuple[float, float]:
    """The shares of a variance that come from the two traces and from the question, by `moments`."""
    _, common, apart = products
    question = min(max(apart, 0.0) / variance, 0.95)
    return min(2.0 * max(common - max(apart, 0.0), 0.0) / variance, 0.95 - question), question


def in_common(scored: Scored, resamples: int = 1000) -> dict[str, tuple[float, float, float]]:
    """What errors have in common inside and between questions, with intervals over problems: trace, question, pair.

    Shares of the variance of logit(p_same) about a mean for the same and one for different pairs, which do not depend
    on a calibration by temperature and bias.
    """
    x = logit_of(scored.p_same)
    means = [x[scored.labels == label].mean() if (scored.labels == label).any() else 0.0 for label in (0, 1)]
    sums = np.asarray(_products(x - np.asarray(means)[scored.labels], scored))

    def share(rows: np.ndarray, which: int) -> float:
        total = sums[rows].sum(axis=0).reshape(3, 2)
        products = total[:, 0] / total[:, 1]
        trace, question = shares_of(products, max(products[0], 1e-12))
        return (trace, question, 1.0 - trace - question)[which]

    names = ("trace", "question", "pair")
    return {
        name: metrics.bootstrap(range(len(sums)), lambda r, w=w: share(r, w), resamples) for w, name in enumerate(names)
    }


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
        y, odds = scored.labels, logit_of(p)
        measures = {
            "ECE": lambda r, p=p: metrics.expected_calibration_error(scored.labels[r], p[r]),
            "Brier": lambda r, p=p, y=y: float(np.mean((p[r] - y[r]) ** 2)),
            "log loss": lambda r, o=odds, y=y: float(np.mean(np.logaddexp(0.0, o[r]) - y[r] * o[r])),
        }
        result[name] = {n: metrics.bootstrap(scored.problems.tolist(), m, resamples) for n, m in measures.items()}
    return result


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
    common = in_common(scored)
    shown = (f"{name} {v:.2f} {metrics.in_brackets(low, high, '.2f')}" for name, (v, low, high) in common.items())
    print(f"of the errors' variance comes from: {', '.join(shown)}")
    print(f"{len(scored.labels)} pairs of {len(np.unique(scored.problems))} problems: {calibration}")
    if given.output:
        about = {
            "pairs": len(scored.labels),
            "problems": len(np.unique(scored.problems)),
            "same": float(scored.labels.mean()),
            "reliability": table,
            "in_common": common,
        }
        save(calibration, given.output, about)
        print(given.output)


if __name__ == "__main__":
    main()
