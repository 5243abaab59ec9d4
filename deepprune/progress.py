"""Progress bars: lively on a terminal, one line every half minute in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def bar(*args: Any, **options: Any) -> tqdm:
    """A tqdm bar with this project's refresh rates."""
    return tqdm(*args, mininterval=0.5 if sys.stderr.isatty() else 30, **options)
