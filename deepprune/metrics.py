"""AUROC, TNR at a given FNR, pass@k, and bootstrap intervals over problems.

Positive class: pairs with the same answer (label 1). Estimators come from scikit-learn and scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy.special import gammaln


def auroc(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Area under the ROC curve (ties count half); nan when only one class is there."""
    from sklearn.metrics import roc_auc_score

    labels = np.asarray(labels)
    if labels.min(initial=1) == labels.max(initial=0):
        return float("nan")
    return float(roc_auc_score(labels, scores))


def tnr_at_fnr(labels: Sequence[int], scores: Sequence[float], fnr: float = 0.2) -> float:
    """Best true-negative rate among thresholds whose false-negative rate is at most `fnr`; nan for one class.

    A real threshold, no interpolation between two (paper: TNR@0.2).
    """
    from sklearn.metrics import roc_curve

    labels = np.asarray(labels)
    if labels.min(initial=1) == labels.max(initial=0):
        return float("nan")
    false_positive, true_positive, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(1.0 - false_positive[1.0 - true_positive <= fnr + 1e-12].min())


def accuracy(labels: Sequence[int], scores: Sequence[float], threshold: float = 0.5) -> float:
    """Share of pairs on the right side of the threshold."""
    return float(np.mean((np.asarray(scores) > threshold) == (np.asarray(labels) == 1)))


def within_problem_auroc(labels: Sequence[int], scores: Sequence[float], problems: Sequence[Hashable]) -> float:
    """Mean over problems (with both classes) of the AUROC inside the problem.

    The pooled AUROC can come from telling easy problems from hard ones; this one cannot.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    groups: dict[Hashable, list[int]] = {}
    for i, problem in enumerate(problems):
        groups.setdefault(problem, []).append(i)
    values = [auroc(labels[g], scores[g]) for g in groups.values()]
    values = [v for v in values if not np.isnan(v)]
    return float(np.mean(values)) if values else float("nan")


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased pass@k from n samples of which `correct` are right: 1 - C(n-c, k) / C(n, k)."""
    if not 1 <= k <= n:
        raise ValueError(f"k must lie in 1..{n}, found {k}")
    if n - correct < k:
        return 1.0
    return float(
        1.0 - np.exp(gammaln(n - correct + 1) + gammaln(n - k + 1) - gammaln(n - correct - k + 1) - gammaln(n + 1))
    )


def bootstrap(
    groups: Sequence[Hashable], statistic: Callable[[np.ndarray], float], resamples: int = 1000, seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float, float]:  # fmt: skip
    """(value, low, high): percentile interval from resampling whole problems with replacement.

    groups: the problem of each row; statistic: takes row indices (repeats allowed). Rows of a problem stay
    together because they are not independent. Resamples without a value (one class only) are left out.
    """
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    blocks = [np.asarray(m) for m in members.values()]
    value = statistic(np.arange(len(groups)))
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


def judge_table(
    labels: Sequence[int], scores: Sequence[float], problems: Sequence[Hashable], resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """AUROC, within-problem AUROC, TNR@0.2 and accuracy with 95 % intervals over problems.

    Returns metric -> {value, low, high}.
    """
    y, p, g = np.asarray(labels), np.asarray(scores, dtype=np.float64), np.asarray(problems, dtype=object)

    def within(rows: np.ndarray) -> float:  # the mean over resampled problems of each one's own AUROC
        values = [per_problem[x] for x in g[rows]]
        weights = [1.0 / sizes[x] for x in g[rows]]
        kept = [(v, w) for v, w in zip(values, weights, strict=True) if not np.isnan(v)]
        return float(np.average([v for v, _ in kept], weights=[w for _, w in kept])) if kept else float("nan")

    groups = {x: np.flatnonzero(g == x) for x in dict.fromkeys(g)}
    per_problem = {x: auroc(y[rows], p[rows]) for x, rows in groups.items()}
    sizes = {x: len(rows) for x, rows in groups.items()}
    statistics = {
        "auroc": lambda r: auroc(y[r], p[r]),
        "within_problem_auroc": within,
        "tnr_at_0.2_fnr": lambda r: tnr_at_fnr(y[r], p[r], 0.2),
        "accuracy": lambda r: accuracy(y[r], p[r]),
    }
    table = {}
    for name, statistic in statistics.items():
        value, low, high = bootstrap(list(g), statistic, resamples, seed)
        table[name] = {"value": value, "low": low, "high": high}
    return table
