"""What a registry names is loaded when it is asked for: a new judge, method or finish rule is a file and a line.

The registries: deepprune/judges/registry.py (KINDS), deepprune/prune/methods/ (METHODS),
deepprune/prune/finishing.py (RULES).
"""

from __future__ import annotations

import importlib
from typing import Any


def load(where: str) -> Any:
    """The object at 'module:name'."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)
