"""Recipes as YAML files: what cannot be read, and a key that stands twice, is said with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deepprune.base.errors import UserError


def _text(path: Path, what: str = "a recipe; see scripts/recipes/") -> str:
    """A YAML file's text. Raises UserError naming file and line for a missing file and one that is not UTF-8."""
    if not path.is_file():
        raise UserError(f"{path}: no such file ({what})")
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error


def _refuse_repeated_keys(path: Path, node: Any) -> None:
    """Raise UserError naming the line of a key that stands twice in one mapping: YAML itself would take the last."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(path, item)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in lines:
                    raise UserError(
                        f"{path}:{line}: the key {key.value!r} stands twice, first in line {lines[key.value]}"
                    )
                lines[key.value] = line
            _refuse_repeated_keys(path, value)


def read(path: str | Path, what: str = "a recipe; see scripts/recipes/") -> dict[str, Any]:
    """A YAML mapping. what: should be there, for the error if nothing is.

    Raises UserError naming file and line: a missing file, broken YAML, not UTF-8, a key given twice.
    """
    path = Path(path)
    text = _text(path, what)
    try:
        data = yaml.safe_load(text)
        _refuse_repeated_keys(path, yaml.compose(text, yaml.SafeLoader))
    except RecursionError as error:
        raise UserError(f"{path}:1: not valid YAML: nested too deep, or within itself") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        mark = getattr(error, "problem_mark", None)
        raise UserError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path}:1: expected keys and values, found {type(data).__name__}")
    return data


def line_of(path: str | Path, *keys: str) -> int:
    """Line (from 1) of a nested key in a YAML file; 1 if it cannot be found."""
    node, line = yaml.compose(_text(Path(path)), yaml.SafeLoader), 1
    for key in keys:
        for name, value in getattr(node, "value", []):
            if name.value == str(key):
                line, node = name.start_mark.line + 1, value
                break
    return line
