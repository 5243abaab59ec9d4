"""Methods on recorded traces: what they generate, how long it takes and what they answer is as computed directly."""

import direct_methods
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import finish_rules

from deepprune.base import registry
from deepprune.base.errors import UserError
from deepprune.data import confidence
from deepprune.evaluate import simulation
from deepprune.prune import clustering, voting
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import RULES, FinishSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.consensus import ConsensusSettings
from deepprune.prune.methods.deepconf import DeepConfSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings, KnownClusters
from deepprune.prune.methods.esc import EscSettings
from deepprune.prune.protocol import Compare, Ended, Generate, Held, Scored, Stop
from deepprune.prune.replay import Played, Recorded, play, replay


def made_up(n: int, seed: int, unknown: float) -> Recorded:
    rng = np.random.default_rng(seed)
    labels = [None if rng.random() < unknown else int(rng.integers(0, 4) * rng.random()) for _ in range(n)]
    lengths = rng.integers(1, 60, n).tolist()
    prefixes = np.minimum(lengths, rng.integers(1, 20, n)).tolist()
    confidences = [confidence.summarise(rng.uniform(1, 9, length), 2, 8, 4) for length in lengths]
    return Recorded(labels, lengths, prefixes, confidences)


recorded = st.builds(made_up, st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([0.0, 0.2, 0.9]))


def done(name, traces, options=None, **more):
    return play(METHODS[name].start(len(traces.labels), options, **more), traces)


def outcome(played):
    return played.answer, played.tokens, played.sequential, played.finished, played.opened


@given(recorded)
def test_consensus_is_every_trace_at_once(traces):
    assert outcome(done("consensus", traces)) == direct_methods.consensus(traces)


@given(recorded)
def test_stopping_early_changes_no_answer(traces):
    whole, early = done("consensus", traces), done("consensus", traces, ConsensusSettings(early=True))
    assert early.answer == whole.answer and early.tokens <= whole.tokens and early.sequential <= whole.sequential
    assert early.opened == len(traces.labels) and early.rest == sum(traces.lengths[t] for t in early.finished)


@given(recorded, st.integers(1, 9))
def test_windows_that_start_early_change_no_answer(traces, window):
    whole, early = (done("esc", traces, EscSettings(window, early)) for early in (False, True))
    assert (early.answer, early.opened) == (whole.answer, whole.opened)
    assert early.tokens <= whole.tokens and early.sequential <= whole.sequential


def test_the_next_window_starts_when_the_last_one_cannot_agree():
    """0 and 1 differ at tick 2; 3, 4 and 5 agree at tick 5; trace 2 cannot change it."""
    traces = Recorded([0, 1, 0, 1, 1, 1, 1, 2, 2], [1, 2, 90, 3, 3, 3, 7, 7, 7])
    early, whole = (done("esc", traces, EscSettings(3, early)) for early in (True, False))
    assert (early.answer, early.sequential, early.opened) == (1, 5, 6) and (whole.answer, whole.sequential) == (1, 93)
    assert early.tokens == 1 + 2 + 3 * 3 + early.stopped == 12 + 5


@given(recorded, st.sampled_from([0.7, 0.95]), st.integers(1, 9))
def test_a_wave_is_stopped_when_the_vote_is_decided(traces, threshold, batch):
    whole, early = (
        done("adaptive", traces, AdaptiveSettings(threshold, batch, early=early)) for early in (False, True)
    )
    assert early.opened <= whole.opened and early.tokens <= whole.tokens and early.sequential <= whole.sequential
    votes = voting.totals((traces.labels[trace], 1.0) for trace in early.votes)
    assert voting.decided(votes, threshold) or len(early.votes) == len(traces.labels)
    if early.stopped:  # it was not decided before the last one ended
        first, second = voting.leading(list(votes.values()))
        assert voting.beta_confidence(first - 1, second) < threshold <= voting.beta_confidence(first, second)


@given(recorded, st.sampled_from(list(RULES)), st.integers(0, 3))
def test_a_finish_batch_is_stopped_when_the_vote_is_decided(traces, rule, seed):
    n = len(traces.labels)
    finish = FinishSettings(rule, 12, 6, batch=5, start=8)
    clusters = np.random.default_rng(seed).integers(0, 3, n)
    placed = [sorted(set(clusters.tolist()), key=clusters.tolist().index).index(c) for c in clusters.tolist()]
    whole, early = (
        done("deepprune", traces, DeepPruneSettings(ClusterSettings(), finish, early), clusters=KnownClusters(placed))
        for early in (False, True)
    )
    assert early.tokens <= whole.tokens and early.sequential <= whole.sequential and early.opened <= whole.opened
    assert set(early.votes) <= set(early.finished)
    if rule in ("paper", "weighted"):  # the rest cannot change the answer
        assert early.answer == whole.answer
    else:
        votes = voting.totals((traces.labels[trace], weight) for trace, weight in early.votes.items())
        assert voting.decided(votes, finish.threshold) or outcome(early) == outcome(whole)


@given(recorded, st.sampled_from([0.7, 0.95, 1.0]), st.integers(1, 9))
def test_adaptive_in_waves_is_adaptive_consistency(traces, threshold, batch):
    expected = direct_methods.adaptive_consistency(traces, threshold, batch)
    assert outcome(done("adaptive", traces, AdaptiveSettings(threshold, batch))) == expected


@given(recorded, st.integers(1, 9))
def test_esc_is_early_stopping(traces, window):
    expected = direct_methods.early_stopping(traces, window)
    assert outcome(done("esc", traces, EscSettings(window))) == expected


@given(recorded, st.sampled_from([0.1, 0.5, 0.9]), st.integers(1, 20))
def test_deepconf_is_deepconf(traces, keep, warmup):
    expected = direct_methods.deepconf(traces, keep, warmup)
    played = done("deepconf", traces, DeepConfSettings(keep, warmup))
    assert outcome(played) == expected
    assert played.prefix == 0 and played.rest == sum(traces.lengths[t] for t in played.finished)
    # A few at a time it is the same traces, later.
    slow = done("deepconf", traces, DeepConfSettings(keep, warmup, batch=3))
    assert slow.votes == played.votes and slow.tokens == played.tokens and slow.sequential >= played.sequential
    agreed = done("deepconf", traces, DeepConfSettings(keep, warmup, consensus=0.6, batch=2))
    assert agreed.tokens <= played.tokens and set(agreed.finished) <= set(played.finished)


clusterings = st.builds(
    ClusterSettings,
    tau=st.sampled_from([0.3, 0.5, 1.0]),
    k=st.integers(1, 6),
    k1=st.integers(1, 4),
    overflow=st.sampled_from(clustering.OVERFLOWS),
    assign=st.sampled_from(clustering.ASSIGNMENTS),
    asks=st.sampled_from(clustering.ASKS),
)


@settings(deadline=None, max_examples=100)
@given(recorded, clusterings, finish_rules, st.integers(0, 9))
def test_pruning_is_clustering_first_and_then_the_finish_rule(traces, cluster, options, seed):
    """Also where the clusters are asked for as prefixes come, and no trace is judged that the rule does not open."""
    finish = FinishSettings(**options)
    scores = simulation.simulated_scores(traces.labels, 0.8, seed, "q")
    clustered = simulation.cluster(scores, cluster, "q")
    expected, votes, prefix = direct_methods.pruned(clustered.placed, traces, finish, "q")
    opened = expected[-1]

    running = replay(METHODS["deepprune"].start(len(traces.labels), DeepPruneSettings(cluster, finish), "q"), traces)
    asked = []

    def score(batch):
        asked.extend((member, new) for _, member, new in batch)
        return [scores[member][new] for _, member, new in batch]

    judged = clustering.lockstep({"q": running}, score)["q"]
    known = done(
        "deepprune", traces, DeepPruneSettings(cluster, finish), key="q", clusters=KnownClusters(clustered.placed)
    )
    for played in (judged, known):
        assert outcome(played) == expected and played.prefix == prefix
        assert played.stopped == 0 and list(played.votes.items()) == list(votes.items())
    pairs = [(member, new) for new, members in enumerate(clustered.asked[:opened]) for member in members]
    assert asked == pairs and judged.compared == len(pairs) and known.compared == 0


def test_rolling_starts_a_trace_when_one_ends_and_stops_the_rest_by_hand():
    """Three at once: 10, 40 and 50 tokens; the next start at 10 and 30. Three votes of three decide at 0.93."""
    traces = Recorded([7, 7, 8, 7, 7], [10, 40, 50, 20, 30])
    played = done("adaptive", traces, AdaptiveSettings(0.93, batch=3, rolling=True))
    # Trace 0 ends at 10, trace 3 at 30, trace 1 at 40: decided. Trace 2 has made 40 of 50, trace 4 10 of 30.
    assert played.answer == 7 and played.finished == (0, 1, 3) and played.opened == 5
    assert (played.rest, played.stopped, played.sequential) == (10 + 40 + 20, 40 + 10, 40)


@given(recorded, st.integers(1, 9))
def test_rolling_is_a_sequence_for_one_at_a_time_and_never_more_in_flight(traces, batch):
    one = done("adaptive", traces, AdaptiveSettings(batch=1, rolling=True))
    assert outcome(one) == direct_methods.adaptive_consistency(traces)
    many = done("adaptive", traces, AdaptiveSettings(batch=batch, rolling=True))
    assert many.opened - len(many.finished) <= batch - 1
    assert max(1, many.tokens // batch) <= many.sequential <= many.tokens


def test_stopped_traces_can_go_on_and_every_token_counts_once():
    def twice(count, settings, key=""):
        event = yield [Generate((0, 1, 2), "prefix")]  # held at 5, 5 (at 3, but in order) and 9
        assert event == Held(0, 5)
        event = yield [Stop((2,))]  # 5 tokens of it
        assert event == Held(1, 3)
        event = yield [Generate((2, 1))]
        assert event == Ended(1, 8, None, 10)
        event = yield [Stop((2,)), Compare(((0, 1),))]
        assert event == Scored(((0, 1),), [0.25])
        event = yield [Generate((2, 0))]
        assert event == Ended(0, 7, None, 20)
        return {0: 1.0, 1: 0.5}

    running = replay(twice(3, None), Recorded([7, 8, 9], [20, 10, 30], [5, 3, 9]))
    assert next(running) == ((0, 1),)
    with pytest.raises(StopIteration) as ended:
        running.send([0.25])
    played = ended.value.value
    # Trace 1 ends at 5 + 7 = 12, trace 0 at 12 + 15 = 27. Trace 2 ran from 0 to 5 and from 5 to 12 and to 27.
    assert played == Played(7, {0: 1.0, 1: 0.5}, 3, (1, 0), 5 + 3, 7 + 15, 27, 27, 1)


def test_a_method_that_waits_for_nothing_is_an_error():
    def forever(count, settings, key=""):
        yield []

    with pytest.raises(RuntimeError, match="nothing is in flight"):
        play(forever(1, None), Recorded([1], [1]))
    with pytest.raises(RuntimeError, match="asks the judge"):
        play(METHODS["deepprune"].start(2), Recorded([1, 1], [2, 2], [1, 1]))


def test_confidence_that_was_not_recorded_is_an_error():
    with pytest.raises(UserError, match="recorded token confidence"):
        done("deepconf", Recorded([1, 2], [5, 5]))


def test_every_method_of_the_registry_is_there_and_has_settings():
    for kind in METHODS.values():
        assert callable(registry.load(kind.where)) and kind.settings() == kind.settings()
        assert kind.start(4) is not None
