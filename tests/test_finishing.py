"""Finish rules by hand, and what must hold for all of them on random clusterings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import finish_rules

from deepprune.base.errors import UserError
from deepprune.prune import finishing, replay
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.deepprune import DeepPruneSettings, KnownClusters
from deepprune.prune.replay import Recorded


def play(placed, labels, lengths=None, prefixes=None, key="", **options):
    lengths = lengths or [100] * len(placed)
    prefixes = prefixes or [min(10, n) for n in lengths]
    settings = DeepPruneSettings(finish=FinishSettings(**options))
    method = METHODS["deepprune"].start(len(placed), settings, key, clusters=KnownClusters(placed))
    return replay.play(method, Recorded(labels, lengths, prefixes))


def test_paper_by_hand():
    placed = [0, 1, 1, 2, 1, 2]
    done = play(placed, [5, 7, 7, 8, 9, 8], [100, 90, 80, 70, 60, 50], k2=2)
    assert done.finished == (1, 2) and done.answer == 7 and done.opened == 6
    assert (done.prefix, done.rest, done.sequential) == (60, 80 + 70, 10 + 80)
    # The largest cluster opened first among equals; K3 at random when every cluster is a singleton.
    assert play([0, 1, 1, 1, 2, 2, 2], list(range(7)), k2=2).finished == (1, 2)
    alone = play([0, 1, 2, 3, 4], list(range(5)), key="q", k3=3).finished
    assert (
        len(set(alone)) == 3
        and alone == tuple(sorted(alone)) == play(list(range(5)), list(range(5)), key="q", k3=3).finished
    )
    assert len({play(list(range(5)), list(range(5)), key=str(i), k3=3).finished for i in range(20)}) > 3


def test_weighted_by_hand():
    # The largest cluster (4) is wrong about one member; two finished of each of the two largest.
    placed = [0, 0, 0, 0, 1, 1, 1, 2]
    labels = [1, 2, 1, 1, 2, 2, 2, 3]
    done = play(placed, labels, rule="weighted", largest=2, per_cluster=2)
    assert done.finished == (0, 1, 4, 5)
    assert done.votes == {0: 2.0, 1: 2.0, 4: 1.5, 5: 1.5} and done.answer == 2  # 2 + 3 against 2
    # An unknown answer leaves its cluster's weight to the other finished member.
    done = play(placed, [None, *labels[1:]], rule="weighted", largest=2, per_cluster=2)
    assert done.votes[1] == 3.0 and 0 not in done.votes


def test_adaptive_stops_when_decided_by_hand():
    # Trust 0, one at a time, one large cluster: four agreeing answers decide (1 - 2^-5 = 0.969).
    done = play([0] * 20, [3] * 20, rule="adaptive", trust=0.0, batch=1)
    assert done.finished == (0, 1, 2, 3) and done.sequential == 10 + 4 * 90
    # Full trust: the first finished trace of 20 speaks for all.
    assert play([0] * 20, [3] * 20, rule="adaptive", trust=1.0, batch=1).finished == (0,)
    # Highest averages: sizes 6 and 2 give the order A A B (6, 3, 2 against 2) by size / (taken + 1).
    done = play([0, 0, 0, 0, 0, 0, 1, 1], [1, 2, 1, 2, 1, 2, 3, 4], rule="adaptive", trust=0.0, batch=1, k2=4)
    assert done.finished == (0, 1, 2, 6)  # 6, 3, 2 = 2 (the earlier cluster first), then 2
    # At most k2, and in batches that run in parallel.
    done = play(list(range(9)), list(range(9)), rule="adaptive", batch=4, k2=6)
    assert len(done.finished) == 6 and done.sequential == 10 + 90 + 90


def test_staged_opens_further_prefixes_only_while_undecided():
    done = play([0] * 64, [5] * 64, rule="staged", start=8, trust=0.0, batch=4)
    assert done.opened == 8 and done.finished == (0, 1, 2, 3) and done.prefix == 80
    labels = [i % 2 for i in range(64)]
    undecided = play([0] * 64, labels, rule="staged", start=8, trust=0.0, batch=4, k2=20)
    assert undecided.opened == 64 and len(undecided.finished) == 20 and undecided.prefix == 640


cases = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-1, 5), min_size=n, max_size=n),
        st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=n, max_size=n),
        st.lists(st.integers(1, 50), min_size=n, max_size=n),
    )
)


@settings(deadline=None, max_examples=200)
@given(cases, finish_rules)
def test_what_holds_for_every_rule(case, options):
    placed, labels, lengths = case
    prefixes = [min(n, 7) for n in lengths]
    done = play(placed, labels, lengths, prefixes, **options)
    assert len(set(done.finished)) == len(done.finished) <= max(options["k2"], options["k3"])
    assert all(0 <= t < done.opened <= len(placed) for t in done.finished)
    assert done.prefix == sum(prefixes[: done.opened])
    assert done.rest == sum(lengths[t] - prefixes[t] for t in done.finished)
    assert done.prefix + done.rest <= sum(lengths) and done.sequential <= done.prefix + done.rest
    assert set(done.votes) <= set(done.finished)
    known = [labels[t] for t in done.finished if labels[t] is not None]
    assert (done.answer is None) == (not known) and (done.answer is None or done.answer in known)
    members = [t for t, number in enumerate(placed) if number >= 0]
    if set(done.finished) <= set(members):  # no weight comes from nowhere
        assert sum(done.votes.values()) <= done.opened + 1e-9


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40))
def test_true_clusters_and_full_trust_decide_as_all_traces_would(labels):
    """With the oracle's clusters, one finished trace of each cluster and full weights are the whole vote."""
    placed = [sorted(set(labels)).index(x) for x in labels]
    done = play(placed, labels, rule="weighted", largest=5, per_cluster=1, k2=5)
    largest = max(labels.count(x) for x in set(labels))
    if largest > 1:
        assert labels.count(done.answer) == largest


def test_settings_are_checked():
    for wrong in ({"rule": "best"}, {"k2": 0}, {"trust": 1.5}, {"threshold": -0.1}):
        with pytest.raises(UserError):
            FinishSettings(**wrong)


@given(st.lists(st.integers(-1, 5), max_size=12), st.integers(0, 12))
def test_placed_of_reverses_clusters_of(placed, n):
    """Numbers without members in between are closed up; a trace past n is left out."""
    used = sorted({x for x in placed if x >= 0})
    closed = [used.index(x) if x >= 0 else -1 for x in placed]
    n = min(n, len(placed))
    assert finishing.placed_of(finishing.clusters_of(placed), n) == closed[:n]
