"""Baselines on cases computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from deepprune.base.errors import UserError
from deepprune.data import confidence
from deepprune.evaluate import baselines
from deepprune.prune import voting


@given(st.floats(0, 60), st.floats(0, 60))
def test_beta_criterion_is_the_papers_integral(first, second):
    def density(x):
        return x**first * (1 - x) ** second

    above, whole = integrate.quad(density, 0.5, 1)[0], integrate.quad(density, 0, 1)[0]
    if whole > 1e-9:
        assert voting.beta_confidence(first, second) == pytest.approx(above / whole, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "settles"),
    [
        ([7, 7, 7], 1),
        ([None, 7], 2),
        ([1, 2, 2, 2], 3),
        ([1, 2, 1, 2], 1),
        ([1, 2, 2, 1, 1], 4),
        ([None, None], 0),
        ([], 0),
    ],
)
def test_the_vote_settles_by_hand(labels, settles):
    """A tie is the first comer's: in 1, 2, 2, 1, 1 the 1 is overtaken at 3 and back at 4."""
    assert baselines.settles_at(labels) == settles


@given(st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=30))
def test_the_vote_has_settled_where_every_later_one_is_the_last(labels):
    at = baselines.settles_at(labels)
    running = [voting.vote(labels[:used]) for used in range(len(labels) + 1)]
    assert all(v == running[-1] for v in running[at:]) and (at == 0 or running[at - 1] != running[-1])


def test_adaptive_consistency_by_hand():
    # Unanimous: 1 - 2^-(v+1) reaches 0.95 at v = 4 (0.96875; at 3: 0.9375).
    done = baselines.adaptive_consistency([7] * 10, [100] * 10)
    assert (done.answer, done.opened, done.tokens, done.sequential) == (7, 4, 400, 400)
    # An unknown answer costs and does not vote.
    assert baselines.adaptive_consistency([None, 7, 7, None, 7, 7, 7], [10] * 7).opened == 6
    # 1-1, then 2-1 ... never decided within 6: P(x > 1/2 | 4, 2) = 0.773.
    done = baselines.adaptive_consistency([1, 2, 1, 2, 1, 1], [5] * 6)
    assert (done.answer, done.opened, done.tokens) == (1, 6, 30)
    assert voting.beta_confidence(4, 2) == pytest.approx(99 / 128)  # sum of C(7, i), i <= 4, over 2^7
    # 5 to 1 is 0.9375, 6 to 1 is 0.965: decided at the 7th vote.
    assert baselines.adaptive_consistency([1, 2, 1, 1, 1, 1, 1, 1], [5] * 8).opened == 7
    assert baselines.adaptive_consistency([None, None], [5, 6]) == baselines.Outcome(None, 11, 11, (0, 1), 2)


def test_adaptive_consistency_in_batches_by_hand():
    done = baselines.adaptive_consistency([7] * 12, [10, 20, 30, 5] * 3, batch=3)
    assert (done.opened, done.tokens, done.sequential) == (6, 10 + 20 + 30 + 5 + 10 + 20, 30 + 20)
    capped = baselines.adaptive_consistency([1, 2] * 10, [10] * 20, n=7, batch=4)
    assert (capped.opened, capped.sequential) == (7, 20)


def test_esc_by_hand():
    labels = [1, 2, 1, 3, 3, 3, 1, 1, 1]
    lengths = [10, 20, 30, 1, 2, 3, 9, 9, 9]
    done = baselines.early_stopping(labels, lengths, window=3)
    # The second window agrees on 3; the majority of the six is 3. Windows run one after the other.
    assert (done.answer, done.opened, done.tokens, done.sequential) == (3, 6, 66, 33)
    assert baselines.early_stopping([None] * 3 + [4] * 3, [1] * 6, window=3).opened == 6
    assert baselines.early_stopping([1, 1, 1, 1, 2], [1] * 5, window=4, n=5).opened == 4
    assert baselines.early_stopping([1, 2, 1, 2, 2], [1] * 5, window=4).opened == 5  # a last, shorter window
    with pytest.raises(UserError, match="window"):
        baselines.early_stopping([1], [1], window=0)


def make(values, window=4, stride=2):
    return confidence.summarise(values, top_k=2, window=window, stride=stride)


def test_deepconf_by_hand():
    """Two warm-up traces; keep 0.5 sets the threshold to the median of their lowest full windows, 2.0 and 4.0: 3.0."""
    confidences = [
        make([2, 2, 2, 2, 9, 9, 9, 9]),  # lowest 2.0: below the threshold, does not vote
        make([4, 4, 4, 4, 9, 9]),  # lowest 4.0: votes with weight 4
        make([9, 9, 9, 9, 1, 1, 1, 1, 9, 9]),  # windows end at 4: 9, 6: 5, 8: 1 -> stopped at token 8
        make([5, 5, 5, 5]),  # votes with weight 5
        make([1, 1, 9, 9, 9, 9]),  # the half window at token 2 does not count; full windows 5, 9: votes with weight 5
    ]
    labels, lengths = [0, 1, 1, 2, 0], [8, 6, 10, 4, 6]
    done = baselines.deepconf(labels, lengths, confidences, keep=0.5, warmup=2)
    assert done.tokens == 8 + 6 + 8 + 4 + 6 and done.sequential == 8 + 8
    assert done.finished == (0, 1, 3, 4)
    assert done.answer == 2  # weights: class 1: 4, class 2: 5, class 0: 5; the tie goes to the first seen, class 2
    assert baselines.lowest_group(confidences[2]) == 1.0
    assert baselines.lowest_group(make([3, 5])) == 4.0  # shorter than a window: the trace's mean
    with pytest.raises(UserError, match="recorded token confidence"):
        baselines.deepconf([1], [1], [None], 0.1)


def test_deepconf_low_stops_more_than_high():
    rng = np.random.default_rng(0)
    confidences = [make(list(rng.uniform(1, 9, 40))) for _ in range(60)]
    low, high = (baselines.deepconf([0] * 60, [40] * 60, confidences, keep) for keep in (0.1, 0.9))
    assert low.tokens < high.tokens < 60 * 40 and len(low.finished) < len(high.finished)


def test_consensus_and_votes():
    assert baselines.consensus([1, 2, 2, None], [5, 7, 6, 9]) == baselines.Outcome(2, 27, 9, (0, 1, 2, 3), 4)
    assert baselines.consensus([1, 2, 2, None], [5, 7, 6, 9], 1) == baselines.Outcome(1, 5, 5, (0,), 1)
    assert voting.vote([None, 3, 1, 1, 3]) == 3 and voting.vote([1, 2], [1.0, 1.5]) == 2
    assert voting.vote([None]) is None
