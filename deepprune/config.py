"""Settings: one dataclass a stage, filled from a YAML recipe, then from the command line.

A recipe (scripts/recipes/*.yaml) has one section a stage and holds only what differs from the defaults.
Unknown sections and keys are errors. Every setting is also a command-line option (n_traces -> --n-traces).
"""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from deepprune.errors import UserError

Settings = TypeVar("Settings")
SECTIONS = (
    "problems",
    "sample",
    "import",
    "pairs",
    "evaluate",
    "similarity",
    "tabulate",
    "ablation",
    "prune",
    "simulate",
    "compare",
    "live",
    "report",
)
REQUIRED = object()


def setting(default: Any, help: str, *, free: bool = False, choices: tuple | None = None) -> Any:
    """A settings field. free: may change when a stage resumes (it cannot change the result).

    default: the value, or config.REQUIRED.
    """
    meta = {"help": help, "free": free, "choices": choices, "required": default is REQUIRED}
    if default is REQUIRED:
        default = None
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


def free_settings(kind: type) -> tuple[str, ...]:
    """Names of the settings that a resumed run may change."""
    return tuple(f.name for f in dataclasses.fields(kind) if f.metadata.get("free"))


def _base_type(hint: Any) -> tuple[Any, bool, bool]:
    """(scalar type, is a list, may be None) of a field's type."""
    optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        args = typing.get_args(hint)
        optional = type(None) in args
        hint = next(a for a in args if a is not type(None))
    if typing.get_origin(hint) is list:
        return typing.get_args(hint)[0], True, optional
    return hint, False, optional


def _check(name: str, value: Any, hint: Any, field: dataclasses.Field, where: str) -> Any:
    kind, many, optional = _base_type(hint)
    if value is None and (optional or field.metadata.get("required")):
        return value
    if many and not isinstance(value, list):
        value = [value]
    for item in value if many else [value]:
        if kind is float and isinstance(item, int) and not isinstance(item, bool):
            continue
        if not isinstance(item, kind) or (isinstance(item, bool) and kind is not bool):
            hint_e = " (write 1.0e-5, not 1e-5)" if kind is float and isinstance(item, str) else ""
            raise UserError(f"{where}: {name} should be {kind.__name__}, found {item!r}{hint_e}")
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        raise UserError(f"{where}: {name} should be one of {', '.join(map(str, choices))}, found {value!r}")
    return float(value) if kind is float and not many else value


def named(option: str, form: str, given: list[str]) -> dict[str, str]:
    """NAME=... arguments of an option as a dict. Raises UserError for another form or a repeated name."""
    found: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name or not value or name in found:
            raise UserError(f"{option} takes {form}, each name once; found {item!r}")
        found[name] = value
    return found


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping. Raises UserError naming file and line for a missing file or broken YAML."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file (a recipe; see scripts/recipes/)")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{path}:1: expected keys and values, found {type(data).__name__}")
    return data


def yaml_line(path: str | Path, *keys: str) -> int:
    """Line (from 1) of a nested key in a YAML file; 1 if it cannot be found."""
    import yaml

    node, line = yaml.compose(Path(path).read_text()), 1
    for key in keys:
        for k, v in getattr(node, "value", []):
            if k.value == key:
                line, node = k.start_mark.line + 1, v
                break
    return line


def load_section(kind: type[Settings], section: str, path: str | Path) -> dict[str, Any]:
    """The checked values that a recipe's section sets. Raises UserError for unknown sections and keys."""
    recipe = read_yaml(path)
    for name in recipe:
        if name not in SECTIONS:
            line = yaml_line(path, name)
            raise UserError(f"{path}:{line}: unknown section {name!r}; sections are {', '.join(SECTIONS)}")
    values = recipe.get(section) or {}
    if not isinstance(values, dict):
        raise UserError(f"{path}:{yaml_line(path, section)}: section {section!r} should hold keys and values")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    checked = {}
    for key, value in values.items():
        where = f"{path}:{yaml_line(path, section, key)}"
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r} in section {section!r}; keys are {', '.join(fields)}")
        checked[key] = _check(key, value, hints[key], fields[key], where)
    return checked


def parse(kind: type[Settings], section: str, doc: str, argv: list[str] | None = None) -> Settings:
    """Resolve a stage's settings: defaults, then the recipe's section (--config), then the command line.

    Raises UserError for unknown or mistyped values and for missing required ones.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="YAML", help=f"recipe; its section {section!r} is read")
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        scalar, many, _ = _base_type(hints[field.name])
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
        text = field.metadata["help"].replace("%", "%%")
        text += " (required)" if field.metadata["required"] else f" (default: {default})"
        option = "--" + field.name.replace("_", "-")
        if scalar is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(
                option, type=scalar, nargs="+" if many else None, default=None, help=text,
                choices=field.metadata.get("choices"), metavar=None if field.metadata.get("choices") else scalar.__name__.upper(),
            )  # fmt: skip
    args = vars(parser.parse_args(argv))
    config = args.pop("config")
    values = load_section(kind, section, config) if config else {}
    values.update({key: value for key, value in args.items() if value is not None})
    settings = kind(**values)
    for field in dataclasses.fields(kind):
        if field.metadata["required"] and getattr(settings, field.name) in (None, []):
            option = "--" + field.name.replace("_", "-")
            raise UserError(f"{option} is required (or {field.name!r} in section {section!r} of the recipe)")
    return settings


def resolved(settings: Any) -> dict[str, Any]:
    """Settings as a plain dict for a manifest. Paths and overwrite flags are left out: they are not results."""
    skip = {"output", "overwrite"}
    return {k: v for k, v in dataclasses.asdict(settings).items() if k not in skip}
