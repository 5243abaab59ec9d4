"""AUROC, TNR at a given FNR, calibration, pass@k, cons@k, and bootstrap intervals over problems.

Positive class: pairs with the same answer (label 1). Tests hold the estimators equal to scikit-learn's and scipy's.
A number that does not exist (one class only, no rows, the interval of one problem) is nan. A score that is not finite
is an error (UserError): it comes from a broken judge.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from deepprune.base.errors import UserError


def _finite(scores: Sequence[float]) -> np.ndarray:
    """The scores as float64. Raises UserError for NaN and infinite ones."""
    p = np.asarray(scores, dtype=np.float64)
    wrong = int(p.size - np.isfinite(p).sum())
    if wrong:
        raise UserError(f"{wrong} of {p.size} scores are not finite numbers: the judge that gave them is broken")
    return p


def auroc(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Area under the ROC curve (ties count half); nan when only one class is there.

    The Mann-Whitney statistic from mid-ranks: exact, and ten times as fast as building the curve, which
    thousands of bootstrap resamples need.
    """
    from scipy.stats import rankdata

    same, scores = np.asarray(labels) == 1, _finite(scores)
    positives, negatives = int(same.sum()), int((~same).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[same].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def tnr_at_fnr(labels: Sequence[int], scores: Sequence[float], fnr: float = 0.2) -> float:
    """Best true-negative rate among thresholds whose false-negative rate is at most `fnr`; nan for one class.

    A real threshold, no interpolation between two (paper: TNR@0.2): the highest score of a same-answer pair that
    leaves at most that share of them below it.
    """
    same, scores = np.asarray(labels) == 1, _finite(scores)
    positives, negatives = scores[same], scores[~same]
    if not len(positives) or not len(negatives):
        return float("nan")
    may_miss = int((fnr + 1e-12) * len(positives))
    if may_miss >= len(positives):
        return 1.0
    return float(np.mean(negatives < np.partition(positives, may_miss)[may_miss]))


def accuracy(labels: Sequence[int], scores: Sequence[float], threshold: float = 0.5) -> float:
    """Share of pairs on the right side of the threshold; nan for no pairs."""
    right = (_finite(scores) > threshold) == (np.asarray(labels) == 1)
    return float(right.mean()) if right.size else float("nan")


def reliability(labels: Sequence[int], scores: Sequence[float], bins: int = 10) -> list[dict[str, float]]:
    """Equal-width bins of p_same that hold a pair: {"mean_p", "same_share", "count"}, lowest bin first."""
    y, p = np.asarray(labels), _finite(scores)
    which = np.minimum((p * bins).astype(int), bins - 1)
    return [
        {
            "mean_p": float(p[which == b].mean()),
            "same_share": float(y[which == b].mean()),
            "count": int((which == b).sum()),
        }
        for b in np.unique(which)
    ]


def expected_calibration_error(labels: Sequence[int], scores: Sequence[float], bins: int = 10) -> float:
    """ECE: mean over pairs of |share of same - mean p_same| of the pair's bin (Guo et al., arXiv 1706.04599).

    nan for no pairs.
    """
    table = reliability(labels, scores, bins)
    if not table:
        return float("nan")
    return sum(r["count"] * abs(r["same_share"] - r["mean_p"]) for r in table) / sum(r["count"] for r in table)


def fit_temperature(labels: Sequence[int], scores: Sequence[float]) -> float:
    """The T > 0 that minimises the log loss of `with_temperature(scores, T)` (Guo et al.); between e^-6 and e^6.

    Fit it on other problems than those it is judged on. Raises UserError for pairs of one class (any of them would do).
    """
    from scipy.optimize import minimize_scalar

    y, z = np.asarray(labels), _logit(scores)
    if len(np.unique(y)) < 2:
        raise UserError(f"a temperature is fitted on pairs of both classes; here are {len(y)} pairs of one or none")

    def log_loss(log_t: float) -> float:
        gap = z / math.exp(log_t)
        return float(np.mean(np.logaddexp(0.0, gap) - y * gap))

    return math.exp(minimize_scalar(log_loss, bounds=(-6.0, 6.0), method="bounded", options={"xatol": 1e-6}).x)


def with_temperature(scores: Sequence[float], temperature: float) -> np.ndarray:
    """p_same with its logit divided by the temperature; the order of the scores stays."""
    return 1.0 / (1.0 + np.exp(-_logit(scores) / temperature))


def _logit(scores: Sequence[float]) -> np.ndarray:
    p = np.clip(_finite(scores), 1e-12, 1.0 - 1e-12)
    return np.log(p) - np.log1p(-p)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased pass@k from n samples of which `correct` are right: 1 - C(n-c, k) / C(n, k), in exact integers."""
    if not 1 <= k <= n or not 0 <= correct <= n:
        raise ValueError(f"k must lie in 1..{n} and correct in 0..{n}, found {k} and {correct}")
    return (math.comb(n, k) - math.comb(n - correct, k)) / math.comb(n, k)


def cons_at_k(counts: Sequence[int], right: int | None, unknown: int, k: int) -> float:
    """Probability that the majority vote of k of the n traces, drawn without replacement, is right. Exact.

    counts: traces of each answer class; right: index of the right class (None: no trace is right, 0.0);
    unknown: traces without an answer, which do not vote; n = sum(counts) + unknown, at most 1000 (ValueError).
    A tie is won by each of the tied classes alike, as it is by the first to arrive in a random order.
    """
    n = sum(counts) + unknown
    if not 1 <= k <= n or n > 1000:  # the counts of subsets below are floats: 2^1000 is still one
        raise ValueError(f"k must lie in 1..n and n be at most 1000, found k = {k}, n = {n}")
    if right is None or not counts[right]:
        return 0.0
    others = [c for i, c in enumerate(counts) if i != right and c]
    total = 0.0
    for votes in range(1, min(k, counts[right]) + 1):  # of the right class
        rest = k - votes
        # Classes that cannot reach `votes` are unrestricted: together one binomial. by_ties[t][m]: number of ways
        # to draw m of the other traces so that t classes tie with the right one and none has more.
        by_ties = [_binomials(unknown + sum(c for c in others if c < votes))[: rest + 1]]
        for c in (c for c in others if c >= votes):
            fewer, equal = _binomials(c)[:votes], _binomials(c)[votes]
            new = [np.zeros(rest + 1) for _ in range(len(by_ties) + 1)]
            for ties, ways in enumerate(by_ties):
                product = np.convolve(ways, fewer)[: rest + 1]
                new[ties][: len(product)] += product
                shifted = ways[: max(rest + 1 - votes, 0)] * equal
                new[ties + 1][votes : votes + len(shifted)] += shifted
            by_ties = new
        ways = sum(w[rest] / (t + 1) for t, w in enumerate(by_ties) if len(w) > rest)
        total += math.comb(counts[right], votes) * float(ways)
    return min(1.0, total / math.comb(n, k))


def distinct_at_k(counts: Sequence[int], unknown: int, k: int) -> float:
    """Expected number of distinct answers among k of the n traces, drawn without replacement. Exact.

    counts: traces of each answer class; unknown: traces without an answer, which add none.
    """
    n = sum(counts) + unknown
    if not 1 <= k <= n:
        raise ValueError(f"k must lie in 1..{n}, found {k}")
    return sum(1.0 - math.comb(n - c, k) / math.comb(n, k) for c in counts)


@functools.cache
def _binomials(n: int) -> np.ndarray:
    """C(n, 0), ..., C(n, n)."""
    return np.asarray([float(math.comb(n, i)) for i in range(n + 1)])


def bootstrap(
    groups: Sequence[Hashable],
    statistic: Callable[[np.ndarray], float],
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """(value, low, high): percentile interval from resampling whole problems with replacement.

    groups: the problem of each row; statistic: takes row indices (repeats allowed). Rows of a problem stay
    together because they are not independent. Resamples without a value (one class only) are left out. One problem
    says nothing of others: no interval (nan, nan). Raises UserError for no rows.
    """
    if not len(groups):
        raise UserError("nothing to average: no rows")
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    blocks = [np.asarray(m) for m in members.values()]
    value = statistic(np.arange(len(groups)))
    if len(blocks) == 1:
        return value, float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        rows = np.concatenate([blocks[i] for i in rng.integers(0, len(blocks), len(blocks))])
        values.append(statistic(rows))
    values = np.asarray(values)
    values = values[~np.isnan(values)]
    if not len(values):
        return value, float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return value, float(low), float(high)


def in_brackets(low: float | None, high: float | None, form: str = ",.3f") -> str:
    """An interval for a reader: [0.612, 0.741], or [n/a] where there is none (nan, or null in a JSON file)."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "[n/a]"
    return f"[{low:{form}}, {high:{form}}]"


def judge_table(
    labels: Sequence[int], scores: Sequence[float], problems: Sequence[Hashable], resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """AUROC, within-problem AUROC, TNR@0.2 and accuracy with 95 % intervals over problems.

    Returns metric -> {value, low, high}; the interval is nan where only one problem has a value.
    """
    y, p, g = np.asarray(labels), _finite(scores), np.asarray(problems, dtype=object)

    # The mean over resampled problems of each one's own AUROC: a row stands for its share of its problem. The pooled
    # AUROC can come from telling easy problems from hard ones; this one cannot.
    groups = {x: np.flatnonzero(g == x) for x in dict.fromkeys(g)}
    own, share = np.empty(len(g)), np.empty(len(g))
    for rows in groups.values():
        own[rows], share[rows] = auroc(y[rows], p[rows]), 1.0 / len(rows)

    def within(rows: np.ndarray) -> float:
        rows = rows[~np.isnan(own[rows])]
        return float(np.average(own[rows], weights=share[rows])) if len(rows) else float("nan")

    statistics = {
        "auroc": lambda r: auroc(y[r], p[r]),
        "within_problem_auroc": within,
        "tnr_at_0.2_fnr": lambda r: tnr_at_fnr(y[r], p[r], 0.2),
        "accuracy": lambda r: accuracy(y[r], p[r]),
    }
    table = {}
    for name, statistic in statistics.items():
        value, low, high = bootstrap(list(g), statistic, resamples, seed)
        if name == "within_problem_auroc" and len(set(g[~np.isnan(own)])) < 2:
            low = high = float("nan")
        table[name] = {"value": value, "low": low, "high": high}
    return table
