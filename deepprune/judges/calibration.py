"""What a judge's p_same is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

EDGE = 1e-12  # a p_same of 0 or 1 is this far from it: no judge is surer than that


@dataclasses.dataclass(frozen=True)
class Noise:
    """What a judge's log-likelihood ratios (same : different) are made of, on a Gaussian scale.

    gap: mean of pairs with the same answer minus that of the others, which is the variance within either; it is the sum
    of a question's, two traces' and a pair's own. trace, question: shares of the variance that come from the two traces
    together, and from the question.
    """

    gap: float = 1.0
    trace: float = 0.0
    question: float = 0.0

    @property
    def pair(self) -> float:
        """The share that is each pair's own; what is left to it is at least a twentieth, so that it can be inverted."""
        return max(1.0 - self.trace - self.question, 0.05)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """From p_same to what can be reckoned with. The default believes p_same, as said of equally many pairs of both.

    slope, bias: the log-likelihood ratio same : different is slope logit(p_same) + bias.
    """

    slope: float = 1.0
    bias: float = 0.0
    noise: Noise = Noise()  # noqa: RUF009 - frozen

    def ratios(self, p_same: Sequence[float]) -> np.ndarray:
        """Log-likelihood ratios same : different of these p_same, whatever share of the pairs is the same."""
        p = np.clip(np.asarray(p_same, dtype=np.float64), EDGE, 1.0 - EDGE)
        return self.slope * (np.log(p) - np.log1p(-p)) + self.bias
