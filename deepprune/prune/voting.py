"""A vote over answer classes, and how sure it is: what methods share."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence

Labels = Sequence[int | None]


def totals(votes: Iterable[tuple[int | None, float]]) -> dict[int, float]:
    """Each class's weight of (class, weight) votes, in the order of first appearance; None does not vote."""
    weights: dict[int, float] = {}
    for label, weight in votes:
        if label is not None:
            weights[label] = weights.get(label, 0.0) + weight
    return weights


def vote(labels: Labels, weights: Sequence[float] | None = None) -> int | None:
    """The class with the most weight; a tie goes to the class seen first; None: no votes."""
    votes = totals(zip(labels, [1.0] * len(labels) if weights is None else weights, strict=True))
    return max(votes, key=votes.__getitem__) if votes else None


def settles_at(labels: Labels) -> int:
    """After how many traces the running vote is the final one and stays it (ties as in `vote`).

    0: the vote is empty from first to last (no trace has an answer).
    """
    final, settled = vote(labels), 0
    votes: collections.Counter = collections.Counter()
    for used, label in enumerate(labels, 1):
        if label is not None:
            votes[label] += 1
        if (max(votes, key=votes.__getitem__) if votes else None) != final:
            settled = used
    return 0 if final is None else settled + 1


def winner(votes: Mapping[int, float], labels: Labels) -> int | None:
    """The class with the most weight of votes (trace -> weight); a tie goes to the class that is first in them."""
    return vote([labels[trace] for trace in votes], list(votes.values()))


def decided(votes: Mapping[int, float], threshold: float) -> bool:
    """Whether the leading class of votes (class -> weight) is the majority with this probability: `beta_confidence`."""
    return bool(votes) and beta_confidence(*leading(list(votes.values()))) >= threshold


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
