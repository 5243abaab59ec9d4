"""Adaptive-Consistency (arXiv 2305.11860): traces until the vote is decided, by its Beta criterion."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Hashable, Sequence

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.prune import voting
from deepprune.prune.protocol import WAIT, Command, Generate, Method


@dataclasses.dataclass(frozen=True)
class AdaptiveSettings:
    threshold: float = setting(
        0.95,
        "probability that the leading answer is the majority, at which no further trace starts",
        at_least=0,
        at_most=1,
    )
    batch: int = setting(1, "traces in flight at once (the paper: 1)", at_least=1)
    rolling: bool = setting(
        False,
        "a new trace starts whenever one ends, and what is in flight is stopped the moment the vote is decided; "
        "otherwise a batch ends whole before the vote is looked at",
    )
    early: bool = setting(False, "stop what is in flight of a batch, too, the moment the vote is decided")

    def __post_init__(self) -> None:
        config.check(self)


def adaptive(count: int, settings: AdaptiveSettings, key: Hashable = "") -> Method:
    run = _rolling if settings.rolling else _waves
    ended = yield from run(count, settings)
    return dict.fromkeys(sorted(ended), 1.0)


def _waves(count: int, settings: AdaptiveSettings):
    votes, ended = collections.Counter(), []
    while len(ended) < count and not voting.decided(votes, settings.threshold):
        batch = tuple(range(len(ended), min(len(ended) + settings.batch, count)))
        commands: Sequence[Command] = [Generate(batch)]
        for _ in batch:
            event = yield commands
            commands = WAIT
            ended.append(event.trace)
            if event.answer is not None:
                votes[event.answer] += 1
                if settings.early and voting.decided(votes, settings.threshold):
                    break
    return ended


def _rolling(count: int, settings: AdaptiveSettings):
    votes, ended, waiting = collections.Counter(), [], iter(range(count))
    commands = [Generate(tuple(itertools.islice(waiting, settings.batch)))]
    while len(ended) < count:
        event = yield commands
        ended.append(event.trace)
        if event.answer is not None:
            votes[event.answer] += 1
            if voting.decided(votes, settings.threshold):
                break
        commands = [Generate((trace,)) for trace in itertools.islice(waiting, 1)]
    return ended
