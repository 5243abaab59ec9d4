"""The ways to answer a question, one file each. A new one is a file of this folder and one line in METHODS.

    "first-four": Kind("deepprune.prune.methods.first_four:first_four"),

The function is called with the number of traces that may be started, its settings (of the class that its annotation
names) and the question's key, which seeds what is drawn; it is a generator that speaks deepprune/prune/protocol.py.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Hashable
from typing import Any

from deepprune.base import registry
from deepprune.prune.protocol import Method


@dataclasses.dataclass(frozen=True)
class Kind:
    """A method. where: 'module:function'. needs_judge: it compares prefixes; needs_confidence: of tokens.

    clusters: its settings are those of a clustering and a finish rule, and it takes the Clustering to use.
    """

    where: str
    needs_judge: bool = False
    needs_confidence: bool = False
    clusters: bool = False

    @property
    def settings(self) -> type:
        """The class of its settings; all of them have defaults."""
        return typing.get_type_hints(registry.load(self.where))["settings"]

    def start(self, count: int, settings: Any = None, key: Hashable = "", **more: Any) -> Method:
        """The generator for a question of at most `count` traces. settings: default: the defaults."""
        return registry.load(self.where)(count, self.settings() if settings is None else settings, key, **more)


METHODS = {
    "consensus": Kind("deepprune.prune.methods.consensus:consensus"),
    "adaptive": Kind("deepprune.prune.methods.adaptive:adaptive"),
    "esc": Kind("deepprune.prune.methods.esc:esc"),
    "deepconf": Kind("deepprune.prune.methods.deepconf:deepconf", needs_confidence=True),
    "deepprune": Kind("deepprune.prune.methods.deepprune:deepprune", needs_judge=True, clusters=True),
    "posterior": Kind("deepprune.prune.methods.posterior:posterior", needs_judge=True),
}
