"""Votes and how sure they are, on cases computed by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

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
    assert voting.settles_at(labels) == settles


@given(st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=30))
def test_the_vote_has_settled_where_every_later_one_is_the_last(labels):
    at = voting.settles_at(labels)
    running = [voting.vote(labels[:used]) for used in range(len(labels) + 1)]
    assert all(v == running[-1] for v in running[at:]) and (at == 0 or running[at - 1] != running[-1])


def test_votes_by_hand():
    assert voting.vote([None, 3, 1, 1, 3]) == 3 and voting.vote([1, 2], [1.0, 1.5]) == 2
    assert voting.vote([None]) is None and voting.vote([]) is None
    # A tie goes to the class that is first in the votes.
    assert voting.winner({2: 1.0, 0: 1.0}, [7, 7, 8]) == 8 and voting.winner({1: 1.0}, [7, None]) is None
    assert voting.totals([(7, 1.0), (None, 5.0), (8, 1.0), (7, 0.5)]) == {7: 1.5, 8: 1.0}
    assert voting.beta_confidence(4, 2) == pytest.approx(99 / 128)  # sum of C(7, i), i <= 4, over 2^7
