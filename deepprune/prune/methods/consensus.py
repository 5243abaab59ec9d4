"""cons@n (self-consistency, arXiv 2203.11171): n traces in parallel, one vote each."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Hashable

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.prune import voting
from deepprune.prune.protocol import WAIT, Generate, Method


@dataclasses.dataclass(frozen=True)
class ConsensusSettings:
    early: bool = setting(False, "stop when the traces in flight cannot change the answer any more (it is the same)")

    def __post_init__(self) -> None:
        config.check(self)


def consensus(count: int, settings: ConsensusSettings, key: Hashable = "") -> Method:
    commands, ended, votes = [Generate(tuple(range(count)))], set(), collections.Counter()
    while len(ended) < count:
        event = yield commands
        commands = WAIT
        ended.add(event.trace)
        if event.answer is not None:
            votes[event.answer] += 1
        first, second = voting.leading(list(votes.values()))
        if settings.early and first - second > count - len(ended):
            break
    return dict.fromkeys(sorted(ended), 1.0)
