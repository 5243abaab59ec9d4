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
NODES = 8  # of the leaders' shares, on each side of a half
REST, WIDE = 12, 4.5  # of the two leaders' common share; standard deviations to either side
FEW = 10  # unfinished traces, up to which the leaders' effects are laid out over all that they may be
STEP = 1.8  # standard deviations (with all classes known) between two such nodes: the sum is the integral then
AROUND, STEPS = 3, 3  # of more: nodes of an effect around the likeliest for each share; Newton's steps to it
PART = 64  # unfinished traces at once
PRODUCT, FARTHEST = 4, 150.0  # factors whose logarithm is taken at once; so large are their logarithms at most
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
    own, scale = noise.gap * noise.pair or 1.0, np.sqrt(variance)
    seen = design * scale
    covariance = scale[:, None] * np.linalg.inv(np.eye(size + 1) + seen.T @ seen / own) * scale
    belongs = np.zeros((count, size + 1))
    belongs[:, 0] = 1.0
    belongs[classes, np.arange(1, size + 1)] = 1.0
    belongs[:, 1:] /= belongs[:, 1:].sum(axis=1, keepdims=True)
    return belongs @ covariance @ (design.T @ off / own), belongs @ covariance @ belongs.T


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
        logs = self._likelihoods(self.effect)
        self.base = np.exp(logs - logs.max(axis=1, keepdims=True))  # the likelihoods there, each row by its largest

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
        x, half = _halves()
        s, within = self._common(first, second, rest)
        theta = np.empty((len(x), len(s), len(self.shares)))
        theta[..., first], theta[..., second] = x[:, None] * s, (1.0 - x)[:, None] * s
        theta[..., rest] = (1.0 - s)[:, None] * (self.shares[rest] / self.shares[rest].sum())
        effects, density = _Effects(self, [c for c in (first, second) if c < self.known], theta).nodes()
        density = density + (within + np.log(s) * (self.votes[first] + self.votes[second]))[:, None]
        density = density + (np.log(x) * self.votes[first] + np.log1p(-x) * self.votes[second] + half)[:, None, None]
        density = density + self._mixtures(theta[:, :, None], self.changes(effects))
        mass = np.exp(density - density.max()).sum(axis=(1, 2))
        sure = float(mass[x > 0.5].sum() / mass.sum())
        return Lead(int(first), sure, self.expected[:-UNSEEN], self.belongs[:, first])

    def _common(self, first: int, second: int, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nodes of the two leaders' common share, and the logarithm of their weight without the leaders' votes."""
        centre = self.shares[first] + self.shares[second]
        spread = np.sqrt(centre * (1.0 - centre) / (1.0 + len(self.votes) + self.votes.sum()))
        low, high = max(0.0, centre - WIDE * spread), min(1.0, centre + WIDE * spread)
        nodes, weights = np.polynomial.legendre.leggauss(REST)
        s = low + (high - low) * (nodes + 1.0) / 2.0
        others = self.votes[rest].sum() + len(rest) - 1.0
        return s, np.log(weights) + np.log(s) + others * np.log1p(-s)

    def changes(self, effects: np.ndarray) -> np.ndarray:
        """By what the likelihoods of effects (..., classes) differ from those of `base`: factors, (..., shares)."""
        logs = np.clip(-(effects - self.effect) @ self.inverse, -FARTHEST, FARTHEST)
        return np.concatenate([np.exp(logs), np.ones((*logs.shape[:-1], UNSEEN))], axis=-1)

    def parts(self) -> list[np.ndarray]:
        """`base` in parts so small that what is reckoned from one stays in the cache."""
        return np.array_split(self.base, -(-len(self.base) // PART))

    def _mixtures(self, theta: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """Sum over unfinished traces of log sum_c theta_c L_u(c), but for what all nodes have in common.

        theta, changes: (..., shares), broadcast to the nodes.
        """
        weights = theta * changes
        shape, weights = weights.shape[:-1], weights.reshape(-1, weights.shape[-1])
        result = np.zeros(len(weights))
        for part in self.parts():
            mixed = weights @ part.T
            missing = -mixed.shape[1] % PRODUCT
            mixed = np.concatenate([mixed, np.ones((len(mixed), missing))], axis=1) if missing else mixed
            result += np.log(mixed.reshape(len(mixed), PRODUCT, -1).prod(axis=1)).sum(axis=1)
        return result.reshape(shape)


class _Effects:
    """Nodes of the leaders' effects for given shares; the other classes' effects stay at what is expected of them."""

    def __init__(self, posterior: _Posterior, leaders: list[int], theta: np.ndarray):
        """theta: shares, (..., classes + UNSEEN)."""
        judged, gap = posterior.judged, posterior.noise.gap
        self.posterior, self.leaders, self.theta = posterior, leaders, theta
        # Besides the mixtures, precision and mean each: what is known of the effects, and what the unfinished would say
        # of them if all were of another answer.
        self.known, self.told = np.linalg.inv(judged.covariance), len(judged.ratios) / gap * posterior.inverse
        self.mean, self.seen = judged.mean, judged.ratios.mean(axis=0) + gap / 2.0
        self.both = np.ix_(leaders, leaders)

    def nodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (..., nodes, classes), and their log weights but for the mixtures; (...): as theta's, or 1."""
        posterior = self.posterior
        if not posterior.correlated:
            return posterior.effect[None, None, None], np.zeros((1, 1, 1))
        steps, weights = self._everywhere() if len(posterior.base) <= FEW else self._around()
        nodes = np.tile(posterior.effect, (*steps.shape[:-1], 1))
        nodes[..., self.leaders] = steps
        off, seen = nodes - self.mean, nodes - self.seen
        return nodes, weights - 0.5 * (((off @ self.known) * off).sum(-1) + ((seen @ self.told) * seen).sum(-1))

    def _everywhere(self) -> tuple[np.ndarray, np.ndarray]:
        """A grid over all that the leaders' effects may be, (1, 1, nodes, leaders); log weights: the same."""
        variances, directions = np.linalg.eigh(self.posterior.judged.covariance[self.both])
        precision = directions.T @ (self.known + self.told)[self.both] @ directions
        axes = []
        for variance, certain in zip(variances, np.diag(precision), strict=True):
            count = 2 * int(np.ceil(REACH * np.sqrt(variance * certain) / STEP)) + 1
            axes.append(np.linspace(-REACH, REACH, count) * np.sqrt(variance))
        steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(1, 1, -1, len(self.leaders))
        return self.mean[self.leaders] + steps @ directions.T, np.zeros((1, 1, 1))

    def _around(self) -> tuple[np.ndarray, np.ndarray]:
        """Gauss-Hermite nodes around the likeliest effects, (..., nodes, leaders); log weights."""
        leaders, shape, theta = self.leaders, self.theta.shape[:-1], self.theta.reshape(-1, self.theta.shape[-1])
        effects = np.tile(self.posterior.effect, (len(theta), 1))
        for _ in range(STEPS):
            gradient, precision = self._curvature(effects, theta)
            effects[:, leaders] += np.linalg.solve(precision, gradient[..., None])[..., 0]
        _, precision = self._curvature(effects, theta)
        scale = np.linalg.cholesky(np.linalg.inv(precision))
        nodes, weights = np.polynomial.hermite_e.hermegauss(AROUND)
        z, w = (np.stack(np.meshgrid(*[v] * len(leaders)), axis=-1).reshape(-1, len(leaders)) for v in (nodes, weights))
        log_weights = (np.log(w) + z**2 / 2.0).sum(axis=1) + np.log(np.linalg.det(scale))[:, None]
        nodes = effects[:, None, leaders] + z @ scale.transpose(0, 2, 1)
        return nodes.reshape(*shape, *nodes.shape[1:]), log_weights.reshape(*shape, -1)

    def _curvature(self, effects: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and minus the second derivative of the log density by the leaders' effects, a row for each shares.

        The second is at least what was known before, so that a step along it goes up.
        """
        posterior, leaders = self.posterior, self.leaders
        weights = theta * posterior.changes(effects)
        slopes = np.zeros((len(leaders), theta.shape[-1]))
        slopes[:, : posterior.known] = posterior.inverse[leaders]
        rows = (weights[:, None] * slopes).reshape(-1, theta.shape[-1])
        counts, products, total = np.zeros_like(weights), 0.0, 0.0
        for part in posterior.parts():
            inverse = 1.0 / (weights @ part.T)  # (shares, unfinished)
            means = (rows @ part.T).reshape(len(theta), len(leaders), -1) * inverse[:, None]
            counts += inverse @ part
            products, total = products + means @ means.transpose(0, 2, 1), total + means.sum(axis=2)
        spread = ((weights * counts)[:, None] * slopes) @ slopes.T - products
        values, directions = np.linalg.eigh(self.told[self.both] - spread)
        more = (directions * np.maximum(values, 0.0)[:, None]) @ directions.transpose(0, 2, 1)
        gradient = -((effects - self.mean) @ self.known + (effects - self.seen) @ self.told)[:, leaders]
        return gradient - total, self.known[self.both] + more


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
