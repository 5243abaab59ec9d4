"""What a judge's p_same is worth: its likelihood ratio same : different, and what its errors have in common.

A calibration is a small JSON beside a judge's weights (judge_calibration.json), where what decides by p_same looks for
it; deepprune/judges/calibrate.py fits it. The derivation: docs/posterior.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepprune.base import jsonl
from deepprune.base.errors import UserError
from deepprune.engines import models
from deepprune.judges.registry import KINDS

FILE = "judge_calibration.json"
EDGE = 1e-12  # a p_same of 0 or 1 is this far from it: no judge is surer than that
LARGEST_GAP = 60.0  # of a judge that is never wrong


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


def logit_of(p_same: Sequence[float]) -> np.ndarray:
    """log(p / (1 - p)), of 0 and 1 as if they were EDGE from it. Raises UserError for what is no number."""
    p = np.clip(np.asarray(p_same, dtype=np.float64), EDGE, 1.0 - EDGE)
    if np.isnan(p).any():
        raise UserError("scores that are not numbers: the judge that gave them is broken")
    return np.log(p) - np.log1p(-p)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """From p_same to what can be reckoned with. The default believes p_same, as said of equally many pairs of both.

    slope, bias: calibrated log-odds are slope logit(p_same) + bias; knots: or the line through these points (logit,
    log-odds), from an isotonic fit. worth, middle: the log-likelihood ratio inside a question is worth (log-odds -
    middle).
    """

    slope: float = 1.0
    bias: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    worth: float = 1.0
    middle: float = 0.0
    noise: Noise = Noise()  # noqa: RUF009 - frozen

    @property
    def flat(self) -> bool:
        """Whether every p_same is worth the same: nothing can be decided by it."""
        return len({odds for _, odds in self.knots}) == 1 if self.knots else self.slope == 0.0

    @property
    def version(self) -> str:
        """Tells it from others in records and manifests."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()[:8]

    def log_odds(self, p_same: Sequence[float]) -> np.ndarray:
        """Calibrated log-odds that pairs are the same, at the base rate of the pairs that it was fitted on."""
        logit = logit_of(p_same)
        if self.knots:
            return np.interp(logit, *zip(*self.knots, strict=True))
        return self.slope * logit + self.bias

    def p_same(self, p_same: Sequence[float]) -> np.ndarray:
        """Calibrated p_same."""
        from scipy.special import expit

        return expit(self.log_odds(p_same))

    def ratios(self, p_same: Sequence[float]) -> np.ndarray:
        """Log-likelihood ratios same : different of these p_same, whatever share of a question's pairs is the same."""
        return self.worth * (self.log_odds(p_same) - self.middle)


SILENT = Calibration(slope=0.0, noise=Noise(gap=0.0))  # of a judge that says nothing


def save(calibration: Calibration, path: str | Path, about: dict[str, Any]) -> None:
    """Write a calibration as JSON; about: what it was fitted on."""
    jsonl.write_json(Path(path), {"calibration": dataclasses.asdict(calibration), "about": about})


def load(path: str | Path) -> Calibration:
    """Raises UserError where the file is not one that `save` wrote, or holds numbers that none can be."""
    try:
        row = json.loads(Path(path).read_text())["calibration"]
        knots = tuple((float(x), float(y)) for x, y in row.pop("knots"))
        result = Calibration(knots=knots, noise=Noise(**row.pop("noise")), **row)
        _check(result)
        return result
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no calibration of a judge ({error}); make it with python -m deepprune.judges.calibrate"
        ) from error


def _check(calibration: Calibration) -> None:
    """Raise ValueError for numbers that no fit gives."""
    noise, knots = calibration.noise, calibration.knots
    numbers = [calibration.slope, calibration.bias, calibration.worth, calibration.middle, *dataclasses.astuple(noise)]
    if not all(math.isfinite(x) for x in [*numbers, *(x for knot in knots for x in knot)]):
        raise ValueError("a number is not finite")
    falls = any(a > b for one, other in itertools.pairwise(knots) for a, b in zip(one, other, strict=True))
    if calibration.slope < 0 or calibration.worth < 0 or falls:
        raise ValueError("it falls where p_same rises")
    if min(noise.gap, noise.trace, noise.question) < 0 or noise.trace + noise.question > 1:
        raise ValueError("the shares of its noise are no shares")


def beside(kind: str, model: str | None) -> Calibration | None:
    """The calibration beside a judge's weights, None where there is none."""
    if model is None or not KINDS[kind].needs_model:
        return None
    path = Path(models.resolve(model).path) / FILE
    return load(path) if path.is_file() else None


def of(kind: str, model: str | None = None) -> Calibration:
    """The calibration beside a judge's weights; SILENT for a judge without one, which is said, and for a random one.

    The oracle's p_same is what it says.
    """
    if not KINDS[kind].needs_model:
        return Calibration() if KINDS[kind].needs_labels else SILENT
    known = beside(kind, model)
    if known is not None:
        return known
    print(
        f"{model or 'the judge'}: no {FILE} beside it, so the method posterior takes nothing from what it says "
        "(python -m deepprune.judges.calibrate makes one)",
        file=sys.stderr,
    )
    return SILENT
