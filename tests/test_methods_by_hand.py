"""Methods without a judge on cases computed by hand."""

import numpy as np
import pytest

from deepprune.base.errors import UserError
from deepprune.data import confidence
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.consensus import ConsensusSettings
from deepprune.prune.methods.deepconf import DeepConfSettings
from deepprune.prune.methods.esc import EscSettings
from deepprune.prune.replay import Recorded, play


def run(name, labels, lengths, settings=None, confidences=(), most=None):
    method = METHODS[name].start(len(labels) if most is None else most, settings)
    return play(method, Recorded(labels, lengths, [], confidences))


def of(played):
    return played.answer, played.tokens, played.sequential, played.finished, played.opened


def test_adaptive_consistency_by_hand():
    # Unanimous: 1 - 2^-(v+1) reaches 0.95 at v = 4 (0.96875; at 3: 0.9375).
    done = run("adaptive", [7] * 10, [100] * 10)
    assert (done.answer, done.opened, done.tokens, done.sequential) == (7, 4, 400, 400)
    # An unknown answer costs and does not vote.
    assert run("adaptive", [None, 7, 7, None, 7, 7, 7], [10] * 7).opened == 6
    # 1-1, then 2-1 ... never decided within 6: P(x > 1/2 | 4, 2) = 0.773.
    done = run("adaptive", [1, 2, 1, 2, 1, 1], [5] * 6)
    assert (done.answer, done.opened, done.tokens) == (1, 6, 30)
    # 5 to 1 is 0.9375, 6 to 1 is 0.965: decided at the 7th vote.
    assert run("adaptive", [1, 2, 1, 1, 1, 1, 1, 1], [5] * 8).opened == 7
    assert of(run("adaptive", [None, None], [5, 6])) == (None, 11, 11, (0, 1), 2)


def test_adaptive_consistency_in_batches_by_hand():
    done = run("adaptive", [7] * 12, [10, 20, 30, 5] * 3, AdaptiveSettings(batch=3))
    assert (done.opened, done.tokens, done.sequential) == (6, 10 + 20 + 30 + 5 + 10 + 20, 30 + 20)
    capped = run("adaptive", [1, 2] * 10, [10] * 20, AdaptiveSettings(batch=4), most=7)
    assert (capped.opened, capped.sequential) == (7, 20)


def test_esc_by_hand():
    labels = [1, 2, 1, 3, 3, 3, 1, 1, 1]
    lengths = [10, 20, 30, 1, 2, 3, 9, 9, 9]
    done = run("esc", labels, lengths, EscSettings(3))
    # The second window agrees on 3; the majority of the six is 3. Windows run one after the other.
    assert (done.answer, done.opened, done.tokens, done.sequential) == (3, 6, 66, 33)
    assert run("esc", [None] * 3 + [4] * 3, [1] * 6, EscSettings(3)).opened == 6
    assert run("esc", [1, 1, 1, 1, 2], [1] * 5, EscSettings(4)).opened == 4
    assert run("esc", [1, 2, 1, 2, 2], [1] * 5, EscSettings(4)).opened == 5  # a last, shorter window
    with pytest.raises(UserError, match="window"):
        run("esc", [1], [1], EscSettings(0))


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
    done = run("deepconf", labels, lengths, DeepConfSettings(0.5, 2), confidences)
    assert done.tokens == 8 + 6 + 8 + 4 + 6 and done.sequential == 8 + 8
    assert done.finished == (0, 1, 3, 4)
    assert done.answer == 2  # weights: class 1: 4, class 2: 5, class 0: 5; the tie goes to the first seen, class 2
    assert confidence.lowest_group(confidences[2]) == 1.0
    assert confidence.lowest_group(make([3, 5])) == 4.0  # shorter than a window: the trace's mean
    with pytest.raises(UserError, match="recorded token confidence"):
        run("deepconf", [1], [1], confidences=[None])


def test_deepconf_low_stops_more_than_high():
    rng = np.random.default_rng(0)
    confidences = [make(list(rng.uniform(1, 9, 40))) for _ in range(60)]
    low, high = (run("deepconf", [0] * 60, [40] * 60, DeepConfSettings(keep), confidences) for keep in (0.1, 0.9))
    assert low.tokens < high.tokens < 60 * 40 and len(low.finished) < len(high.finished)


def test_consensus_by_hand():
    assert of(run("consensus", [1, 2, 2, None], [5, 7, 6, 9])) == (2, 27, 9, (0, 1, 2, 3), 4)
    assert of(run("consensus", [1, 2, 2, None], [5, 7, 6, 9], most=1)) == (1, 5, 5, (0,), 1)
    # Three of five agree at token 30: the two in flight cannot change it.
    early = run("consensus", [1, 1, 2, 1, 2], [10, 30, 50, 20, 60], ConsensusSettings(early=True))
    assert (early.answer, early.sequential, early.rest, early.stopped) == (1, 30, 60, 60)
