"""How sure a vote is whose unfinished traces speak too: the posterior over the shares of answers. Pure: numbers alone.

The derivation is in docs/posterior.md. A question's answers have shares theta: of the known classes, of one further
answer, and of all else (still other answers, or none at all); Dirichlet(1, ..., 1) before anything is known. A finished
trace is an observation of its class. An unfinished trace u is one of an unknown class: it counts as the mixture
sum_c theta_c L_u(c), where L_u(c) is how likely its scores against the finished traces are if it ends in c, over the
same for an answer that is not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from deepprune.judges.calibration import Noise
from deepprune.prune import voting

UNSEEN = 2  # one further answer; still other answers, or none at all
NODES = 16  # of the leaders' shares, on each side of a half
REST = 4  # of the two leaders' common share
EFFECTS = (17, 7)  # of the two leaders' effects: along the direction of more and of less variance
SAVED, HALF = 2.0, 3.0  # whole traces that a perfect judge saves at most; votes that save half of them
LEAST = 1e-3  # variance of a trace's effect over the gap, so that classes' effects are never quite the same
REACH = 3.5  # standard deviations that the nodes of effects reach to


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the judge said of one question, class by class.

    votes: finished traces of each known class; without: those that ended without an answer; members: how many of each
    class were compared with the unfinished; ratios: (unfinished, classes), the mean over these members of the
    log-likelihood ratio. mean, covariance: of the classes' effects, by which all ratios of a class are off (`effects`).
    """

    votes: np.ndarray
    without: int
    members: np.ndarray
    ratios: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


@dataclasses.dataclass(frozen=True)
class Lead:
    """The known answer with the largest expected share, or that there is none.

    leader: its class (None: one answer is known, and most traces seem to be of another). probability: that its share is
    larger than that of the next known answer, or of another one if one is known. expected: traces of each class among
    the unfinished; belongs: of each unfinished one, the probability that it is of the leader's class.
    """

    leader: int | None = None
    probability: float = 0.0
    expected: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    belongs: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))


def effects(
    classes: Sequence[int], among: Sequence[tuple[int, int, float]], count: int, noise: Noise
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (count,) and covariance (count, count) of the effects of the classes' compared members.

    classes: the class of each of these finished traces; among: (one, other, log-likelihood ratio) of the pairs of them
    that were compared while one of the two was not finished: what is true of them is known now. Before that a trace's
    effect has the variance gap trace / 2, a question's gap question. A class's effect: the question's, and the mean of
    its members'.
    """
    size = len(classes)
    variance = noise.gap * np.r_[noise.question, np.full(size, max(noise.trace / 2.0, LEAST))]
    design = np.zeros((len(among), size + 1))
    design[:, 0] = 1.0
    off = np.empty(len(among))
    for row, (one, other, ratio) in enumerate(among):
        design[row, 1 + one] = design[row, 1 + other] = 1.0
        off[row] = ratio - (noise.gap / 2.0 if classes[one] == classes[other] else -noise.gap / 2.0)
    spread = design * variance  # what is unknown of the effects, seen by the pairs
    gain = np.linalg.solve(spread @ design.T + noise.gap * noise.pair * np.eye(len(among)), spread).T
    belongs = np.zeros((count, size + 1))
    belongs[:, 0] = 1.0
    belongs[classes, np.arange(1, size + 1)] = 1.0
    belongs[:, 1:] /= belongs[:, 1:].sum(axis=1, keepdims=True)
    return belongs @ (gain @ off), belongs @ (np.diag(variance) - gain @ spread) @ belongs.T


def lead(judged: Judged, noise: Noise) -> Lead:
    """Who leads, and how surely. Without a judge, or with one that says nothing: `voting.beta_confidence`, exactly."""
    votes, unfinished = judged.votes, len(judged.ratios)
    if not len(votes):
        return Lead(belongs=np.zeros(unfinished))
    if noise.gap <= 0 or not judged.ratios.any():
        sure = voting.beta_confidence(*voting.leading(votes.tolist()))
        return Lead(int(votes.argmax()), sure, np.zeros(len(votes)), np.zeros(unfinished))
    return _Posterior(judged, noise).lead()


class _Posterior:
    """The posterior of one question's shares, whose nodes are laid around what an EM of the shares finds."""

    def __init__(self, judged: Judged, noise: Noise):
        self.judged, self.noise = judged, noise
        self.known = len(judged.votes)
        self.votes = np.r_[judged.votes, 0.0, judged.without]
        self.correlated = noise.trace + noise.question > 0
        inverse = np.linalg.inv(np.diag(noise.pair / judged.members) + noise.trace / 2.0)
        self.inverse = inverse  # of the ratios' covariance over the gap, given the effects
        # log L_u(c) of class effects 0; effects of A lower it by A @ inverse.
        self.at_zero = (judged.ratios + noise.gap / 2.0) @ inverse - noise.gap / 2.0 * np.diag(inverse)
        self.effect = judged.mean if self.correlated else np.zeros(self.known)
        self._climb()

    def _likelihoods(self, effect: np.ndarray) -> np.ndarray:
        """log L_u(c), (unfinished, classes + UNSEEN); of what is not known: 0."""
        known = self.at_zero - effect @ self.inverse
        return np.concatenate([known, np.zeros((len(known), UNSEEN))], axis=1)

    def _climb(self, steps: int = 12) -> None:
        """EM: shares, the unfinished traces' expected classes, the classes' effects."""
        judged, gap = self.judged, self.noise.gap
        prior = 1.0 + self.votes
        shares = prior / prior.sum()
        if self.correlated:
            known = np.linalg.inv(judged.covariance)
            told = self.inverse / gap
            covariance = np.linalg.inv(known + len(judged.ratios) * told)
        for _ in range(steps):
            weights = np.log(shares) + self._likelihoods(self.effect)
            weights = np.exp(weights - weights.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            expected = weights.sum(axis=0)
            shares = prior + expected
            shares /= shares.sum()
            if self.correlated:
                off = judged.ratios.sum(axis=0) + gap / 2.0 * len(judged.ratios) - gap * expected[:-UNSEEN]
                self.effect = covariance @ (known @ judged.mean + told @ off)
        self.shares, self.expected, self.belongs = shares, expected, weights

    def lead(self) -> Lead:
        # The one answer that is known against another one, or the two leading known ones: as they are counted without
        # a judge.
        order = np.argsort(-self.shares[: max(self.known, 2)], kind="stable")
        first, second = order[:2]
        rest = np.setdiff1d(np.arange(len(self.shares)), order[:2])
        if first >= self.known:
            return Lead(None, 0.0, self.expected[:-UNSEEN], np.zeros(len(self.belongs)))
        effects, density = self._effects([c for c in (first, second) if c < self.known])
        x, half = _halves()
        s, within = self._common(first, second, rest)
        density = density[:, None, None] + (within + np.log(s) * (self.votes[first] + self.votes[second]))[:, None]
        density = density + np.log(x) * self.votes[first] + np.log1p(-x) * self.votes[second] + half
        for part in np.array_split(self.at_zero, -(-len(self.at_zero) // 64)):
            density = density + self._mixtures(part, effects, x, s, first, second, rest)
        mass = np.exp(density - density.max()).sum(axis=(0, 1))
        sure = float(mass[x > 0.5].sum() / mass.sum())
        return Lead(int(first), sure, self.expected[:-UNSEEN], self.belongs[:, first])

    def _common(self, first: int, second: int, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nodes of the two leaders' common share, and the logarithm of their weight without the leaders' votes."""
        centre = self.shares[first] + self.shares[second]
        spread = np.sqrt(centre * (1.0 - centre) / (1.0 + len(self.votes) + self.votes.sum()))
        low, high = max(0.0, centre - 3.0 * spread), min(1.0, centre + 3.0 * spread)
        nodes, weights = np.polynomial.legendre.leggauss(REST)
        s = low + (high - low) * (nodes + 1.0) / 2.0
        others = self.votes[rest].sum() + len(rest) - 1.0
        return s, np.log(weights) + np.log(s) + others * np.log1p(-s)

    def _effects(self, leaders: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Nodes of all classes' effects, (nodes, classes), and their log density but for the mixtures.

        The leaders' are laid out, the others' stay at what is expected of them.
        """
        if not self.correlated:
            return self.effect[None], np.zeros(1)
        judged = self.judged
        variances, directions = np.linalg.eigh(judged.covariance[np.ix_(leaders, leaders)])
        axes = [
            np.linspace(-REACH, REACH, count) * np.sqrt(variance)
            for count, variance in zip(EFFECTS, variances[::-1], strict=False)
        ]
        steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(leaders))
        nodes = np.tile(self.effect, (len(steps), 1))
        nodes[:, leaders] = judged.mean[leaders] + steps @ directions[:, ::-1].T
        off = nodes - judged.mean
        density = -0.5 * np.einsum("ni,ij,nj->n", off, np.linalg.inv(judged.covariance), off)
        told = nodes - judged.ratios.mean(axis=0) - self.noise.gap / 2.0  # if all were of another answer
        count = len(judged.ratios)
        return nodes, density - 0.5 * count / self.noise.gap * np.einsum("ni,ij,nj->n", told, self.inverse, told)

    def _mixtures(self, at_zero, effects, x, s, first: int, second: int, rest: np.ndarray) -> np.ndarray:
        """Sum over unfinished traces of log sum_c theta_c L_u(c), (effects, common shares, shares)."""
        logs = at_zero[None] - (effects @ self.inverse)[:, None, :]
        logs = np.concatenate([logs, np.zeros((*logs.shape[:2], UNSEEN))], axis=2)
        highest = logs.max(axis=2, keepdims=True)
        likelihoods = np.exp(logs - highest)
        among = self.shares[rest] / self.shares[rest].sum()
        one, two, other = likelihoods[..., first], likelihoods[..., second], likelihoods[..., rest] @ among
        pair = two[:, None, :, None] + (one - two)[:, None, :, None] * x  # (effects, 1, unfinished, x)
        mixed = s[:, None, None] * pair + ((1.0 - s)[:, None, None] * other[:, None, :, None])
        return np.log(mixed).sum(axis=2) + highest.sum(axis=(1, 2))[:, None, None]


def _halves() -> tuple[np.ndarray, np.ndarray]:
    """Nodes of the first leader's share of the two, dense around a half, and the logarithms of their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    t = (nodes + 1.0) / 2.0
    x = np.concatenate([0.5 - 0.5 * t[::-1] ** 2, 0.5 + 0.5 * t**2])
    return x, np.log(np.concatenate([(weights * t)[::-1], weights * t]))


def information(noise: Noise) -> float:
    """What an unfinished trace says of which of two answers leads, as a share of what its end would say.

    E tanh^2(x / 2) for a log-likelihood ratio x ~ N(gap / 2, gap): Fisher's information on the shares of two equal
    answers, over a vote's.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    x = noise.gap / 2.0 + np.sqrt(noise.gap) * nodes
    return float(weights @ np.tanh(x / 2.0) ** 2 / weights.sum())


def saved(noise: Noise, unfinished: int) -> float:
    """Whole traces that so many unfinished ones are expected to save, between 0 and SAVED; see docs/posterior.md.

    Noise that all comparisons with a finished trace have in common bounds what they say together.
    """
    each, common = information(noise), noise.trace / 2.0 + noise.question
    votes = each * unfinished / (1.0 + common * (unfinished - 1.0))
    return SAVED * votes / (votes + HALF)
