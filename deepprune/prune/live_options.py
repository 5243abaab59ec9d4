"""The methods' own settings among those of a stage: `--adaptive-batch` is the `batch` of AdaptiveSettings.

What a method's class holds in classes of their own (cluster, finish) stands among the stage's settings by itself
(rules.py), or is found beside the judge (calibration). A new method's settings are here as soon as it stands in
METHODS.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from deepprune.base import config
from deepprune.prune.methods import METHODS


def own(method: str) -> dict[str, str]:
    """A stage's setting -> the field of the method's settings that it is."""
    fields = dataclasses.fields(METHODS[method].settings)
    return {f"{method.replace('-', '_')}_{f.name}": f.name for f in fields if "help" in f.metadata}


def _settings() -> list[tuple[str, Any, Any]]:
    """(name, type, field) of every method's own settings."""
    fields = []
    for method in METHODS:
        kind = METHODS[method].settings
        hints, told = typing.get_type_hints(kind), {f.name: f.metadata.get("help") for f in dataclasses.fields(kind)}
        for name, of in own(method).items():
            fields.append((name, hints[of], config.like(kind, of, help=f"method {method}: {told[of]}")))
    return fields


MethodSettings = dataclasses.make_dataclass("MethodSettings", _settings(), namespace={"__module__": __name__})


RULES = {"cluster": "cluster_rule", "finish": "finish_rule", "calibration": "calibration"}  # field -> stage's method


def options(method: str, settings: Any) -> Any:
    """The method's settings as a stage's say. Raises UserError for values that make no sense."""
    kind = METHODS[method].settings
    values = {of: getattr(settings, name) for name, of in own(method).items()}
    rules = {f.name: getattr(settings, RULES[f.name])() for f in dataclasses.fields(kind) if f.name in RULES}
    return kind(**values, **rules)
