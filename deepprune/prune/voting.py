"""A vote over answer classes, and how sure it is: what finish rules and baselines share."""

from __future__ import annotations

from collections.abc import Sequence

Labels = Sequence[int | None]


def vote(labels: Labels, weights: Sequence[float] | None = None) -> int | None:
    """The class with the most weight; a tie goes to the class seen first; None: no votes."""
    totals: dict[int, float] = {}
    for index, label in enumerate(labels):
        if label is not None:
            totals[label] = totals.get(label, 0.0) + (1.0 if weights is None else weights[index])
    return max(totals, key=totals.__getitem__) if totals else None  # dicts keep the order of first appearance


def beta_confidence(first: float, second: float) -> float:
    """Probability that the leading of two answers with these votes is the majority: P(x > 1/2), x ~ Beta(v1+1, v2+1).

    Adaptive-Consistency's Beta stopping criterion.
    """
    from scipy.special import betainc

    return float(betainc(second + 1.0, first + 1.0, 0.5))


def leading(votes: Sequence[float]) -> tuple[float, float]:
    """The two largest of the votes (0 where there is none)."""
    top = sorted(votes, reverse=True)[:2]
    return (*top, 0.0, 0.0)[0], (*top, 0.0, 0.0)[1]
