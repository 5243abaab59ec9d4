"""The posterior of a vote: against integrals computed otherwise, and where it must be Adaptive-Consistency."""

import itertools

import numpy as np
import pytest
from conftest import load_script
from hypothesis import given
from hypothesis import strategies as st

from deepprune.base.errors import UserError
from deepprune.evaluate import simulation
from deepprune.judges import calibrate
from deepprune.judges.calibration import SILENT, Calibration, Noise
from deepprune.prune import shares, voting
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.posterior import PosteriorSettings
from deepprune.prune.replay import Recorded, play, replay

SURE = 27.0  # a log-likelihood ratio of a perfect judge
ALWAYS = {"price": 0.0}  # the judge is asked however poor it is


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


# -- the method --


def answered(seed, n=60):
    """Labels and lengths of a question of three to six answers, a few of the traces without one."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(rng.integers(3, 7), 0.7))
    labels = [None if rng.random() < 0.05 else int(rng.choice(len(share), p=share)) for _ in range(n)]
    return Recorded(labels, [int(x) for x in rng.integers(60, 200, n)], [int(x) for x in rng.integers(5, 20, n)])


def run(traces, settings, scores=None):
    """The replay, and the pairs that were asked for."""
    running, reply, asked = replay(METHODS["posterior"].start(len(traces.labels), settings), traces), None, []
    while True:
        try:
            pairs = running.send(reply)
        except StopIteration as stop:
            return stop.value, asked
        asked += pairs
        reply = [float(scores[a][b]) for a, b in pairs]


@pytest.mark.parametrize("threshold", [0.6, 0.75, 0.9, 0.99])
@pytest.mark.parametrize("b", [1, 2, 4])
def test_a_constant_judge_is_adaptive_consistency(threshold, b):
    """The same traces are finished; but a tie of the finished ones, which Adaptive-Consistency may end at, goes on."""
    for seed in range(30):
        traces = answered(seed)
        ours, _ = run(traces, PosteriorSettings(12, b, 2, threshold, 60, **ALWAYS), np.full((60, 60), 0.5))
        theirs = play(METHODS["adaptive"].start(60, AdaptiveSettings(threshold, b)), traces)
        assert ours.finished == theirs.finished and ours.answer == theirs.answer
        assert ours.tokens == theirs.tokens + sum(traces.prefixes[len(theirs.finished) : ours.opened])


@given(st.data())
def test_any_constant_judge_finishes_what_adaptive_consistency_does_and_no_tie(data):
    """On any traces, at any threshold; calibrated on anything, a constant judge is silent, and so is one of 0.5."""
    n = data.draw(st.integers(1, 30))
    labels = data.draw(st.lists(st.none() | st.integers(0, 3), min_size=n, max_size=n))
    b, most, m0, r = (data.draw(st.integers(1, top)) for top in (5, 12, 20, 3))
    threshold = data.draw(st.floats(0, 1))
    constant = data.draw(st.floats(0, 1))
    fitted = calibrate.fit(calibrate.Scored.of([(i % 2, constant, i // 4, 2 * i, 2 * i + 1) for i in range(16)]))
    worth = data.draw(st.sampled_from([fitted, Calibration()])) if constant == 0.5 else fitted
    settings = PosteriorSettings(m0, b, r, threshold, most, 0.0, worth)
    lengths, prefixes = list(range(10, 10 + n)), [4] * n
    done, _ = run(Recorded(labels, lengths, prefixes), settings, np.full((n, n), constant))
    finished = 0
    while finished < n:
        finished = min(n, finished + b)
        counts = voting.totals((label, 1.0) for label in labels[:finished] if label is not None)
        first, second = voting.leading(list(counts.values()))
        sure = first > 0 and voting.beta_confidence(first, second) >= threshold
        if first > second and (sure or finished >= most) or not counts and finished >= most:
            break
    assert list(done.finished) == list(range(finished))
    assert done.tokens == sum(lengths[:finished]) + 4 * (done.opened - finished)
    assert done.answer == voting.vote(labels[:finished])


def uniform(seed, n=60):
    """A judge that draws p_same."""
    scores = np.triu(np.random.default_rng(seed).random((n, n)), 1)
    return scores + scores.T


@pytest.mark.parametrize("threshold", [0.6, 0.75, 0.9, 0.99])
def test_a_random_judge_is_adaptive_consistency_within_noise(threshold):
    """Calibrated on 20 questions and asked all the same about 60 others."""
    rows = []
    for seed in range(1000, 1020):
        labels, scores = answered(seed).labels, uniform(seed)
        for a, b in itertools.combinations(range(24), 2):
            if None not in (labels[a], labels[b]):
                rows.append((int(labels[a] == labels[b]), scores[a, b], seed, f"{seed}/{a}", f"{seed}/{b}"))
    settings = PosteriorSettings(16, 2, 2, threshold, 60, 0.0, calibrate.fit(calibrate.Scored.of(rows)))
    assert settings.calibration.noise.gap < 0.05
    ours, theirs = [], []
    for seed in range(60):
        traces = answered(seed)
        right = voting.vote(traces.labels)
        done, _ = run(traces, settings, uniform(seed))
        plain = play(METHODS["adaptive"].start(60, AdaptiveSettings(threshold, 2)), traces)
        ours.append((len(done.finished), done.answer == right))
        theirs.append((len(plain.finished), plain.answer == right))
    difference = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    error = difference.std(axis=0) / np.sqrt(60)
    assert (np.abs(difference.mean(axis=0)) <= 3 * error + [0.1, 0.005]).all()
    assert abs(difference[:, 0].mean()) < 0.1 * np.mean([t[0] for t in theirs])


def test_a_judge_that_says_nothing_costs_nothing():
    for seed, calibration in enumerate((Calibration(noise=Noise(0.0)), Calibration(noise=Noise(0.3, 0.8)))):
        traces = answered(seed)
        ours, asked = run(traces, PosteriorSettings(b=3, threshold=0.9, most=60, calibration=calibration))
        theirs = play(METHODS["adaptive"].start(60, AdaptiveSettings(0.9, 3)), traces)
        assert not asked and (ours.finished, ours.tokens) == (theirs.finished, theirs.tokens)


@pytest.mark.parametrize("auroc", [0.6, 0.9, 1.0])
def test_it_never_ends_at_a_tie_of_the_finished(auroc):
    for seed, b, threshold in itertools.product(range(12), (1, 2), (0.0, 0.5, 0.7)):
        traces = answered(seed, 24)
        scores = simulation.simulated_scores(traces.labels, auroc, seed, "q", 0.3 if auroc < 1 else 0.0)
        done, _ = run(traces, PosteriorSettings(8, b, 2, threshold, 3, **ALWAYS), scores)
        counts = voting.totals((traces.labels[t], 1.0) for t in done.finished)
        first, second = voting.leading(list(counts.values()))
        assert first > second or len(done.finished) == 24


@pytest.mark.parametrize("auroc", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("price", [None, 0.0])
def test_traces_without_an_answer_are_not_finished_beyond_the_limit(auroc, price):
    """The 20th of 40 has the first answer: given up after 7, and not 20; with an answer among the first, it goes on."""
    labels = [None] * 19 + [0, 0, 1] * 7
    worth = simulation.simulated_calibration(auroc)
    for b in (1, 2, 3):
        for own, finished, answer in ((labels, -(-7 // b) * b, None), ([0, 1, *labels[2:]], 20, 0)):
            scores = simulation.simulated_scores(own, auroc, 0, "q")
            traces = Recorded(own, [50] * 40, [5] * 40)
            done, _ = run(traces, PosteriorSettings(8, b, 1, 0.7, 7, price, worth), scores)
            assert done.answer == answer and (len(done.finished) == finished if answer is None else True)


noises = st.builds(
    lambda gap, trace, rest: Noise(gap, trace, rest * (1 - trace)),
    st.sampled_from([1e-6, 0.05, 0.9, 20.0, 60.0]),
    st.sampled_from([0.0, 0.2, 0.95]),
    st.sampled_from([0.0, 0.5, 0.95]),
)


@given(st.data())
def test_whatever_the_judge_says_the_vote_is_of_finished_traces_that_are_paid_for(data):
    """Any answers, scores and calibration, b beyond m0 and n, thresholds that are always or never reached."""
    n = data.draw(st.integers(1, 20))
    labels = data.draw(st.lists(st.none() | st.integers(0, 3), min_size=n, max_size=n))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    scores = data.draw(st.sampled_from([rng.random((n, n)), rng.choice([0.0, 1.0, 0.5, 1e-12], (n, n))]))
    m0, b, r, most, prefixes = (data.draw(st.integers(1, top)) for top in (12, 14, 3, 12, 20))
    threshold = data.draw(st.sampled_from([0.0, 0.5, 0.5000001, 0.7, 0.999999, 1.0]))
    price = data.draw(st.sampled_from([None, 0.0, 0.05]))
    worth, middle = data.draw(st.sampled_from([0.3, 1.0, 5.0])), data.draw(st.sampled_from([-2.0, 0.0, 1.0]))
    calibration = Calibration(worth=worth, middle=middle, noise=data.draw(noises))
    lengths = rng.integers(1, 50, n).tolist()
    cut = [min(length, 5) for length in lengths]
    settings = PosteriorSettings(m0, b, r, threshold, most, price, calibration, prefixes)
    done, _ = run(Recorded(labels, lengths, cut), settings, scores)
    counts = voting.totals((labels[t], 1.0) for t in done.finished)
    first, second = voting.leading(list(counts.values()))
    given_up = not counts and most <= len(done.finished) < most + b
    assert first > second or given_up or len(done.finished) == n
    assert done.answer in (counts or {None})
    assert all(1.0 <= weight for weight in done.votes.values()) and sum(done.votes.values()) <= n + 1e-6
    rest = set(range(done.opened)) - set(done.finished)
    assert done.tokens == sum(lengths[t] for t in done.finished) + sum(cut[t] for t in rest)


def test_a_score_that_is_no_number_is_said():
    """It would make every probability one: nothing would be sure, and nothing would say why."""
    labels = [0, 1] * 10
    traces, scores = Recorded(labels, [50] * 20, [5] * 20), np.full((20, 20), np.nan)
    with pytest.raises(UserError, match="not numbers"):
        run(traces, PosteriorSettings(8, 1, 1, 0.9, 8, 0.0), scores)


def test_only_unfinished_against_finished_is_asked_and_at_most_r_an_answer():
    for seed in range(8):
        traces = answered(seed, 40)
        scores = simulation.simulated_scores(traces.labels, 0.7, seed, "q")
        done, asked = run(traces, PosteriorSettings(10, 2, 2, 0.99, 16, **ALWAYS), scores)
        assert len(set(asked)) == len(asked) == done.compared
        order = {trace: place for place, trace in enumerate(done.finished)}
        assert all(a in order and (b not in order or order[b] > order[a]) for a, b in asked)
        judged_by = {}
        for a, _ in asked:
            judged_by.setdefault(traces.labels[a], set()).add(a)
        assert all(len(members) <= 2 for members in judged_by.values()) and None not in judged_by


def test_an_oracle_needs_fewer_whole_traces_and_is_as_right():
    """Against Adaptive-Consistency with the same b and threshold, over 80 questions."""
    ours, theirs = [], []
    for seed in range(80):
        traces = answered(seed)
        right = voting.vote(traces.labels)
        scores = simulation.simulated_scores(traces.labels, 1.0, 0, "q")
        done, _ = run(traces, PosteriorSettings(24, 1, 1, 0.8, 20, 0.0), scores)
        plain = play(METHODS["adaptive"].start(20, AdaptiveSettings(0.8, 1)), traces)
        ours.append((len(done.finished), done.answer == right))
        theirs.append((len(plain.finished), plain.answer == right))
    ours, theirs = np.mean(ours, axis=0), np.mean(theirs, axis=0)
    assert ours[0] < 0.9 * theirs[0] and ours[1] > theirs[1] - 0.02


def test_an_unfinished_trace_lends_its_answer_its_vote():
    """Two of one answer are finished, of the other four that a perfect judge knows to be the third's: it wins."""
    labels = [0, 1, 1, 1, 1, 1]
    traces = Recorded(labels, [50] * 6, [5] * 6)
    scores = simulation.simulated_scores(labels, 1.0, 0, "q")
    done, _ = run(traces, PosteriorSettings(6, 1, 1, 0.7, 6, **ALWAYS), scores)
    assert done.answer == 1 and len(done.finished) == 3
    assert sum(w for t, w in done.votes.items() if labels[t] == 1) == pytest.approx(5, abs=0.01)


def test_what_a_judge_is_expected_to_save():
    assert shares.information(Noise(0.0)) == 0.0 and shares.information(Noise(60.0)) == pytest.approx(1.0, abs=1e-3)
    rising = [shares.saved(Noise(gap), 14) for gap in (0.1, 0.9, 2.5, 60.0)]
    assert rising == sorted(rising) and shares.saved(Noise(0.9, 0.5), 14) < shares.saved(Noise(0.9), 14)
    assert PosteriorSettings().asks(0.05) and not PosteriorSettings(
        calibration=Calibration(noise=Noise(0.91, 0.5))
    ).asks(0.05)
    assert not PosteriorSettings(m0=2, b=2).asks(0.0)


@pytest.mark.parametrize(("prefix", "asks"), [(3, True), (60, False)])
def test_what_a_prefix_costs_is_seen_on_the_first_traces(prefix, asks):
    """With a perfect judge: a prefix of a thirtieth of a trace is worth it, one of more than half is not."""
    labels = [0, 1, 0, 1] * 10
    traces = Recorded(labels, [100] * 40, [prefix] * 40)
    worth = simulation.simulated_calibration(1.0)
    scores = simulation.simulated_scores(labels, 1.0, 0, "q")
    done, asked = run(traces, PosteriorSettings(16, 2, 1, 0.7, 8, None, worth, 16), scores)
    assert bool(asked) == asks and done.opened == (16 if asks else len(done.finished))
    if not asks:
        plain = run(traces, PosteriorSettings(16, 2, 1, 0.7, 8, None, SILENT), scores)[0]
        assert (done.finished, done.tokens) == (plain.finished, plain.tokens)
    always, _ = run(traces, PosteriorSettings(16, 2, 1, 0.7, 8, 0.0, worth, 16), scores)
    if asks:  # the same votes, whether the others are opened before or after the first are finished
        assert (done.finished, done.tokens, done.answer) == (always.finished, always.tokens, always.answer)


def test_prefixes_are_opened_before_another_trace_is_finished_while_nobody_is_sure_to_lead():
    """Two answers in turn, and an oracle, to which a whole trace tells no more than its prefix: 32 are opened first."""
    labels = [0, 1] * 20
    traces = Recorded(labels, [100] * 40, [3] * 40)
    scores = simulation.simulated_scores(labels, 1.0, 0, "q")
    worth = simulation.simulated_calibration(1.0)
    few, many = (
        run(traces, PosteriorSettings(8, 1, 1, 0.95, 6, 0.0, worth, prefixes), scores)[0] for prefixes in (8, 32)
    )
    assert few.opened == 8 and many.opened == 32 and len(many.finished) <= len(few.finished)
