"""ESC (arXiv 2401.10480): windows of traces in parallel, until one window agrees; the majority of all traces so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.prune.protocol import Method, to_end


@dataclasses.dataclass(frozen=True)
class EscSettings:
    window: int = setting(8, "traces of a window", at_least=1)

    def __post_init__(self) -> None:
        config.check(self)


def esc(count: int, settings: EscSettings, key: Hashable = "") -> Method:
    """An unknown answer agrees with nothing."""
    used, agreed = 0, False
    while used < count and not agreed:
        window = yield from to_end(range(used, min(used + settings.window, count)))
        answers = {event.answer for event in window.values()}
        agreed = len(answers) == 1 and None not in answers
        used += len(window)
    return dict.fromkeys(range(used), 1.0)
