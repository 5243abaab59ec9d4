"""One row of a file that others wrote: its fields under our names, read as text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy

from deepprune.base.errors import UserError

MISSING = object()
FIELDS = "question gold text model dataset sample_id family answer_type n_tokens finish_reason".split()  # of ours


@dataclasses.dataclass
class Row:
    """A row and where it stands: file (as it was given), number from 1, and what is numbered (line, row).

    trace: the number of the trace in a list of them; 0 where a row holds one.
    """

    file: str
    number: int
    data: dict[str, Any]
    unit: str = "line"
    trace: int = 0

    @property
    def where(self) -> str:
        """For the beginning of an error: mine.jsonl:12, or mine.parquet, row 12."""
        place = f":{self.number}" if self.unit == "line" else f", {self.unit} {self.number}"
        return self.file + place + (f", trace {self.trace}" if self.trace else "")


class Fields:
    """Which field of a row holds what, and what holds where a row has none.

    names: our name -> their field, for those that a file may have; dots lead into objects and lists ("meta.model",
    "choices.0.text") where no field has the whole name. defaults: our name -> text.
    """

    def __init__(self, names: dict[str, str], defaults: dict[str, str]):
        self.names, self.defaults = names, defaults

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def of(self, name: str) -> str:
        return self.names.get(name, name)

    def has(self, row: Row, name: str) -> bool:
        return lookup(row.data, self.of(name)) is not MISSING

    def value(self, row: Row, name: str) -> Any:
        """The field's value; None where it is missing, null, NaN or infinite.

        Raises UserError for lists and objects.
        """
        value = lookup(row.data, self.of(name))
        if isinstance(value, (list, dict, bytes)):
            kind = {list: "list", dict: "JSON object", bytes: "column of bytes"}[type(value)]
            raise UserError(f"{row.where}: field {self.of(name)!r} ({name}) should be text or a number, found a {kind}")
        return None if value is MISSING or isinstance(value, float) and not math.isfinite(value) else value

    def text(self, row: Row, name: str) -> str | None:
        """The value as text, a boolean as "true" or "false"; the default, or None, where there is none."""
        value = self.value(row, name)
        if isinstance(value, bool):
            value = "true" if value else "false"
        text = "" if value is None else str(value)
        return text if text.strip() else self.defaults.get(name)

    def needed(self, row: Row, name: str) -> str:
        """The text of a field that every row must have. Raises UserError where it is missing, blank or a boolean."""
        field = self.of(name)
        if not self.has(row, name):
            hint = ""
            if name == "text" and self.has(row, "answer"):
                hint = (
                    "; rows of answers and token counts without text are imported with --answer-field "
                    f"{self.of('answer')} (for votes and costs: no judge can read them)"
                )
            lists = [field for field, value in row.data.items() if isinstance(value, list) and value]
            if name in ("question", "text") and lists and not row.trace:
                hint += f"; a list of traces is named with --traces-field (lists here: {', '.join(lists):.100})"
            raise UserError(
                f"{row.where}: no {name} in field {field!r} (fields here: {', '.join(row.data):.300}); "
                f"name it with --{name.replace('_', '-')}-field{hint}"
            )
        value, text = self.value(row, name), self.text(row, name)
        if isinstance(value, bool) and name != "gold":
            raise UserError(f"{row.where}: the {name} in field {field!r} is {text}; name another with --{name}-field")
        if text is None and (name != "text" or value is None):
            raise UserError(
                f"{row.where}: no {name}: field {field!r} is {_kind_of_nothing(lookup(row.data, field))}; "
                "mend or remove the line"
            )
        return text or ""


def shorten(data: dict[str, Any], floats: Mapping[str, str]) -> None:
    """Make 0.1 of 0.10000000149 in a row: floats are the names of fields of 16 or 32 bits -> their NumPy type."""
    for name, kind in floats.items():
        if data[name] is not None:
            data[name] = float(str(numpy.dtype(kind).type(data[name])))


def lookup(data: Any, path: str) -> Any:
    """The value at a dotted path; MISSING where there is none. A field that has the whole name comes first."""
    if isinstance(data, dict) and path in data:
        return data[path]
    name, _, rest = path.partition(".")
    if not rest:
        return _step(data, name)
    inner = _step(data, name)
    return MISSING if inner is MISSING else lookup(inner, rest)


def _step(data: Any, name: str) -> Any:
    if isinstance(data, dict):
        return data.get(name, MISSING)
    if isinstance(data, list) and name.lstrip("-").isdecimal() and -len(data) <= int(name) < len(data):
        return data[int(name)]
    return MISSING


def _kind_of_nothing(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "empty"
    return "NaN" if math.isnan(value) else "infinite"
