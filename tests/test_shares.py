"""The posterior of a vote: against integrals that are computed otherwise."""

import numpy as np
import pytest
from conftest import load_script
from hypothesis import given
from hypothesis import strategies as st

from deepprune.judges.calibration import Noise
from deepprune.prune import shares, voting

SURE = 27.0  # a log-likelihood ratio of a perfect judge


def judged(votes, ratios, noise=Noise(), members=None, without=0):  # noqa: B008 - frozen
    members = np.ones(len(votes), dtype=int) if members is None else np.asarray(members)
    classes = np.repeat(np.arange(len(votes)), members)
    ratios = np.asarray(ratios, dtype=float).reshape(-1, len(votes))
    effects = shares.effects(classes, [], len(votes), noise)
    return shares.Judged(np.asarray(votes, dtype=float), without, members.astype(float), ratios, *effects)


def by_drawing(j, noise, first, second, draws=200_000, seed=0):
    """P(theta_first > theta_second) by importance sampling of shares and effects from their priors."""
    rng, known = np.random.default_rng(seed), len(j.votes)
    theta = rng.dirichlet(np.ones(known + 2), draws)
    effect = rng.multivariate_normal(j.mean, j.covariance, draws)
    if noise.trace + noise.question == 0:
        effect = np.zeros_like(effect)
    precision = np.linalg.inv(noise.gap * (np.diag(noise.pair / j.members) + noise.trace / 2))
    middle = np.full((known + 2, known), -noise.gap / 2)
    middle[range(known), range(known)] += noise.gap
    log = np.log(theta[:, :known]) @ j.votes + j.without * np.log(theta[:, -1])
    for row in j.ratios:
        off = row - effect[:, None] - middle
        log += np.log((theta * np.exp(-0.5 * np.einsum("nci,ij,ncj->nc", off, precision, off))).sum(1) + 1e-300)
    weights = np.exp(log - log.max())
    assert weights.sum() ** 2 / (weights**2).sum() > 2000  # enough of the draws count
    return float(weights[theta[:, first] > theta[:, second]].sum() / weights.sum())


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 20))
def test_flat_likelihoods_are_the_beta_criterion_exactly(votes, unfinished):
    found = shares.lead(judged(votes, np.zeros((unfinished, len(votes)))), Noise())
    assert found.probability == voting.beta_confidence(*voting.leading(votes)) and votes[found.leader] == max(votes)
    without = shares.lead(judged(votes, np.ones((unfinished, len(votes)))), Noise(gap=0.0))
    assert without.probability == found.probability


@given(st.lists(st.integers(0, 12), min_size=2, max_size=5), st.integers(0, 12))
def test_of_a_perfect_judge_an_unfinished_trace_is_a_vote(like, other):
    """Beta with the unfinished ones counted as votes; those like no known answer do not touch the known two."""
    votes = np.arange(1, len(like) + 1)
    rows = [SURE * (2.0 * (np.arange(len(like)) == c) - 1.0) for c, times in enumerate(like) for _ in range(times)]
    rows += [np.full(len(like), -SURE)] * other
    found = shares.lead(judged(votes, rows), Noise(gap=50.0))
    total = votes + like
    if rows:
        assert total[found.leader] == total.max() and found.expected == pytest.approx(like, abs=1e-6)
        assert found.probability == pytest.approx(voting.beta_confidence(*voting.leading(total.tolist())), abs=2e-4)


def test_traces_like_no_known_answer_speak_against_the_only_one():
    """1 of 8, 4 of 8 and 7 of 8 like it, by a perfect judge: P(x > y) of Dirichlet shares, y: a part of the others."""
    found = [shares.lead(judged([1], [[SURE]] * k + [[-SURE]] * (7 - k)), Noise(gap=50.0)) for k in (0, 3, 6)]
    assert found[0].leader is None and found[0].probability == 0.0
    draws = np.random.default_rng(0).dirichlet(np.ones(3), 300_000)
    for lead, same in ((found[1], 4), (found[2], 7)):
        weights = draws[:, 0] ** same * (1 - draws[:, 0]) ** (8 - same)
        expected = weights[draws[:, 0] > draws[:, 1]].sum() / weights.sum()
        assert lead.leader == 0 and lead.probability == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    "noise", [Noise(0.91), Noise(0.91, 0.5), Noise(2.5, 0.5), Noise(1.4, 0.3, 0.3), Noise(2.5, 0, 0.5)]
)
@pytest.mark.parametrize("members", [(1,), (2,), (1, 1), (3, 1)])
def test_noisy_scores_with_effects_in_common_are_those_drawn(noise, members):
    rng = np.random.default_rng(len(members) + int(10 * noise.trace))
    classes, known = np.repeat(np.arange(len(members)), members), len(members)
    ended = rng.choice(known + 1, 10, p=rng.dirichlet(np.full(known + 1, 3.0)))
    scale = np.sqrt(noise.gap)
    ratios = (
        np.where(ended[:, None] == classes, noise.gap / 2, -noise.gap / 2)
        + scale * np.sqrt(noise.question) * rng.normal()
        + scale * np.sqrt(noise.trace / 2) * (rng.normal(size=(10, 1)) + rng.normal(size=len(classes)))
        + scale * np.sqrt(noise.pair) * rng.normal(size=(10, len(classes)))
    )
    means = np.stack([ratios[:, classes == c].mean(1) for c in range(known)], axis=1)
    j = judged(members, means, noise, members)
    found = shares.lead(j, noise)
    if found.leader is not None:
        second = 1 - found.leader  # the other known answer, or another one
        assert found.probability == pytest.approx(by_drawing(j, noise, found.leader, second), abs=0.025)


@pytest.mark.parametrize("unfinished", [6, 24, 60])
@pytest.mark.parametrize("noise", [Noise(0.91, 0.5), Noise(1.4, 0.2, 0.45), Noise(2.5, 0.2, 0.45)])
def test_errors_in_common_are_integrated_out_as_by_a_dense_grid(noise, unfinished):
    """However many unfinished traces there are: of 60 the effects' posterior is a tenth as wide as the prior."""
    benchmark = load_script("benchmarks/posterior_integral.py")
    checked = 0
    for seed in range(3):
        j = benchmark.drawn(seed, unfinished, noise, 2)
        found = shares.lead(j, noise)
        if found.leader is not None:
            checked += 1
            assert found.probability == pytest.approx(benchmark.plain(j, noise)[found.leader], abs=0.003)
    assert checked


def test_what_ended_says_how_a_finished_trace_misleads():
    """The least squares of a hand-made case: one pair known to differ that looked alike."""
    noise = Noise(1.0, 0.5)
    mean, covariance = shares.effects([0, 1], [(0, 1, 1.5)], 2, noise)
    # effects a, b ~ N(0, 1/4), pair ~ N(0, 1/2): a + b + pair = 2 was seen, so a is 2 (1/4) / (1/4 + 1/4 + 1/2).
    assert mean == pytest.approx([0.5, 0.5])
    assert covariance == pytest.approx(np.asarray([[0.25 - 1 / 16, -1 / 16], [-1 / 16, 0.25 - 1 / 16]]))


def test_512_traces_of_ten_answers_are_finite():
    rng = np.random.default_rng(0)
    for noise in (Noise(1.0), Noise(1.0, 0.5, 0.2), Noise(50.0)):
        found = shares.lead(judged(np.arange(1, 11), rng.normal(0, 30, (512, 10)), noise, without=3), noise)
        assert 0.0 <= found.probability <= 1.0 and np.isfinite(found.expected).all()
        assert found.expected.sum() <= 512 + 1e-6
