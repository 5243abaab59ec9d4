"""The method posterior: where it must be Adaptive-Consistency, where it may end, and whom it asks."""

import itertools

import numpy as np
import pytest
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

ALWAYS = {"price": 0.0}  # the judge is asked however poor it is


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
