"""Numbers as people read them: cells with intervals, and Markdown tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from deepprune.base import metrics


def number(value: float | None, form: str = ".3f", missing: str = "") -> str:
    """One cell. form: a format specification, as '.1%'; missing: what stands there for None and NaN."""
    return missing if value is None or math.isnan(value) else format(value, form)


def interval(row: Mapping[str, float], name: str, form: str = ".3f", missing: str = "n/a") -> str:
    """One cell: row[name] [row['name low'], row['name high']]."""
    if math.isnan(row[name]):
        return missing
    return f"{row[name]:{form}} {metrics.in_brackets(row[f'{name} low'], row[f'{name} high'], form)}"


def markdown(rows: pd.DataFrame | Sequence[Mapping[str, object]]) -> str:
    """A Markdown table. Cells stand as they are given; those that are missing are empty.

    Without padding, so that a changed cell changes its own row alone.
    """
    table = pd.DataFrame(rows).astype(object)
    table = table.where(table.notna(), "").map(_escaped).rename(columns=_escaped)
    padded = table.to_markdown(index=False, disable_numparse=True)
    return re.sub(r" +\|", " |", re.sub(r":-+(?=\|)", "---", padded))


def _escaped(cell: object) -> str:
    return str(cell).replace("|", "\\|")
