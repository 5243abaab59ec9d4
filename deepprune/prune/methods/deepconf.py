"""DeepConf online (arXiv 2508.15260): traces that become unsure are stopped; the others vote by their confidence.

Some traces run whole first; their lowest group confidences give the threshold that a share `keep` of them exceeds.
Every later trace is stopped at its first full window below it. Votes, weighted by lowest group confidence: warm-up
traces at or above the threshold, and later traces that were not stopped.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable

import numpy as np

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.prune import voting
from deepprune.prune.protocol import Ended, Generate, Method, to_end


@dataclasses.dataclass(frozen=True)
class DeepConfSettings:
    keep: float = setting(
        0.1, "share of the warm-up traces above the threshold (0.1: DeepConf-low, 0.9: -high)", at_least=0, at_most=1
    )
    warmup: int = setting(16, "traces that run whole first", at_least=1)
    consensus: float | None = setting(
        None,
        "adaptive sampling: stop when the leading answer has this share of the votes' weight (the paper: 0.95; "
        "default: every trace starts)",
        at_least=0,
        at_most=1,
    )
    batch: int | None = setting(None, "later traces in flight at once (default: all)", at_least=1)

    def __post_init__(self) -> None:
        config.check(self)


def deepconf(count: int, settings: DeepConfSettings, key: Hashable = "") -> Method:
    """Raises UserError where a trace's confidence is not known."""
    warmup = range(min(settings.warmup, count))
    ended = yield from to_end(warmup)
    if any(event.confidence is None for event in ended.values()):
        raise UserError("DeepConf needs traces with recorded token confidence (scripts/01_sample_traces.py records it)")
    lowest = [ended[trace].confidence for trace in warmup]
    threshold = float(np.percentile(lowest, 100.0 * (1.0 - settings.keep))) if lowest else 0.0
    voters = {trace: event for trace, event in ended.items() if event.confidence >= threshold}

    waiting, flying = iter(range(len(warmup), count)), 0
    starting = tuple(itertools.islice(waiting, settings.batch))
    while not _agreed(voters, settings) and (starting or flying):
        event = yield [Generate(starting, below=threshold)] if starting else []
        flying += len(starting) - 1
        if isinstance(event, Ended):
            voters[event.trace] = event
        starting = tuple(itertools.islice(waiting, 1))
    return {trace: voters[trace].confidence for trace in sorted(voters)}


def _agreed(voters: dict[int, Ended], settings: DeepConfSettings) -> bool:
    """Whether the leading answer has its share of the votes' weight."""
    if settings.consensus is None:
        return False
    votes = voting.totals((event.answer, event.confidence) for event in voters.values())
    return bool(votes) and max(votes.values()) >= settings.consensus * sum(votes.values())
