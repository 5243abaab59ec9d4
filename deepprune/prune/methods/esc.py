"""ESC (arXiv 2401.10480): windows of traces in parallel, until one window agrees; the majority of all traces so far."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Hashable, Sequence

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.prune import voting
from deepprune.prune.protocol import WAIT, Command, Generate, Method, to_end


@dataclasses.dataclass(frozen=True)
class EscSettings:
    window: int = setting(8, "traces of a window", at_least=1)
    early: bool = setting(
        False,
        "start the next window as soon as one cannot agree any more, and stop when what is in flight cannot change the "
        "answer (it is the same)",
    )

    def __post_init__(self) -> None:
        config.check(self)


def esc(count: int, settings: EscSettings, key: Hashable = "") -> Method:
    """An unknown answer agrees with nothing."""
    run = _early if settings.early else _windows
    ended = yield from run(count, settings.window)
    return dict.fromkeys(sorted(ended), 1.0)


def _windows(count: int, size: int):
    used, agreed = 0, False
    while used < count and not agreed:
        window = yield from to_end(range(used, min(used + size, count)))
        answers = {event.answer for event in window.values()}
        agreed = len(answers) == 1 and None not in answers
        used += len(window)
    return range(used)


def _early(count: int, size: int):
    """The same windows start, as the next one starts when the last one cannot agree."""
    window = range(min(size, count))
    commands: Sequence[Command] = [Generate(tuple(window))]
    answers: dict[int, int | None] = {}
    while True:
        event = yield commands
        commands = WAIT
        answers[event.trace] = event.answer
        ended = [answers[trace] for trace in window if trace in answers]
        cannot_agree = None in ended or len(set(ended)) > 1
        if cannot_agree and window.stop < count:
            window = range(window.stop, min(window.stop + size, count))
            commands = [Generate(tuple(window))]
        elif window.stop == count or len(ended) == len(window):  # no other window will start
            votes = collections.Counter(answer for answer in answers.values() if answer is not None)
            first, second = voting.leading(list(votes.values()))
            in_flight = window.stop - len(answers)
            if not in_flight or first - second > in_flight:
                return answers
