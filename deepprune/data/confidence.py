"""Token confidence as DeepConf defines it (arXiv 2508.15260), kept as a compact summary of each trace.

Token confidence is the negative mean log-probability of the k most likely tokens at a position (high when
the model is sure). DeepConf works on its mean over sliding windows; the summary keeps those means at every
`stride` tokens, which is enough to replay its early stopping and its weights without the log-probabilities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


def token_confidence(top_logprobs: Sequence[float]) -> float:
    """Negative mean of one position's top-k log-probabilities (k = their number); -inf (ruled out) counts as -100."""
    return -float(np.mean(np.maximum(top_logprobs, -100.0)))


def summarise(confidences: Sequence[float], top_k: int, window: int, stride: int) -> dict | None:
    """Windowed means of a trace's token confidences; None for an empty trace.

    windows[i] is the mean over the (up to) `window` tokens that end at token ends[i] = min((i+1)*stride, n).
    Fields: top_k, window, stride, n, mean (all tokens), tail (last window), lowest (least window mean),
    bottom10 (mean of the least tenth of the windows), windows. Values are rounded to 3 decimals.
    """
    values = np.asarray(confidences, dtype=np.float64)
    n = len(values)
    if n == 0:
        return None
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.minimum(np.arange(stride, n + stride, stride), n)
    starts = np.maximum(ends - window, 0)
    means = (total[ends] - total[starts]) / (ends - starts)
    least = np.sort(means)[: max(1, int(np.ceil(len(means) / 10)))]
    return {
        "top_k": top_k,
        "window": window,
        "stride": stride,
        "n": n,
        "mean": round(float(values.mean()), 3),
        "tail": round(float(means[-1]), 3),
        "lowest": round(float(means.min()), 3),
        "bottom10": round(float(least.mean()), 3),
        "windows": [round(float(m), 3) for m in means],
    }


@dataclasses.dataclass(frozen=True)
class Windows:
    """How a trace's confidence is kept: see `summarise`."""

    top_k: int = 20
    window: int = 2048
    stride: int = 512

    def of(self, likely: Sequence[Sequence[float]]) -> list[float]:
        """Token confidences from the log-probabilities of the likeliest tokens at each position."""
        return [token_confidence(sorted(top, reverse=True)[: self.top_k]) for top in likely if top]

    def summarise(self, confidences: Sequence[float]) -> dict | None:
        return summarise(confidences, self.top_k, self.window, self.stride)

    def fell_below(self, confidences: Sequence[float], known: int, threshold: float) -> bool:
        """Whether a full window's mean that is kept, and ends after the first `known` tokens, is below a threshold."""
        for end in range(self.stride * (known // self.stride + 1), len(confidences) + 1, self.stride):
            if end >= self.window and round(float(np.mean(confidences[end - self.window : end])), 3) < threshold:
                return True
        return False


def full_windows(confidence: dict) -> list[tuple[int, float]]:
    """(end token, mean) of the windows of a summary that DeepConf looks at: full ones, or the trace as a whole."""
    ends = [min((i + 1) * confidence["stride"], confidence["n"]) for i in range(len(confidence["windows"]))]
    full = [(e, w) for e, w in zip(ends, confidence["windows"], strict=True) if e >= confidence["window"]]
    return full or [(confidence["n"], confidence["mean"])]


def lowest_group(confidence: dict) -> float:
    """The least mean token confidence over full windows (over the whole trace if it is shorter than one)."""
    return min(mean for _, mean in full_windows(confidence))
