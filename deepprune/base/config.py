"""Settings: one dataclass a stage, filled from a YAML recipe, then from the command line.

A recipe (scripts/recipes/*.yaml) has one section a stage and holds only what differs from the defaults.
Unknown sections and keys are errors. Every setting is also a command-line option (n_traces -> --n-traces).

A setting's range stands in its field and nowhere else: `setting(16, "traces a problem", at_least=1)`. It is checked for
recipes and for the command line before anything starts, --help shows it, and NaN and infinity are in no range.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from deepprune.base import runtime, yaml_files
from deepprune.base.errors import UserError

Settings = TypeVar("Settings")
SECTIONS = (
    "problems",
    "sample",
    "regrade",
    "import",
    "pairs",
    "ready_pairs",
    "prefixes",
    "references",
    "evaluate",
    "similarity",
    "tabulate",
    "ablation",
    "prune",
    "simulate",
    "compare",
    "live",
    "serve",
    "report",
)
REQUIRED = object()
DTYPES = ("auto", "float32", "bfloat16", "float16")
AS_SERVED = "as served"  # the type of weights that servers hold: not known here
JSONL, PACKED = (".jsonl",), (".jsonl", ".jsonl.gz")  # endings of outputs that are appended to, and written at once
RENAMED = {"comparisons": "asks"}  # settings of earlier recipes: what they are called now
LARGEST_SEED, LONGEST_SECONDS = 2**32 - 1, 10**7  # what NumPy, and so vLLM, takes; 16 weeks: sockets take 292 years
LARGEST_WHOLE, LARGEST = 2**31 - 1, 1e15  # of whole and other numbers of no upper limit of their own: what C takes


def setting(
    default: Any,
    help: str,
    *,
    free: bool = False,
    choices: Sequence | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    ends: tuple[str, ...] | None = None,
    is_name: bool = False,
    is_url: bool = False,
    servers: str = "",
) -> Any:
    """A settings field. free: may change when a stage resumes (it cannot change the result).

    default: the value, or config.REQUIRED. choices, at_least, above, at_most, below: what the value, or each value of a
    list, may be. ends: endings of a file's name. is_name: a file's name without a folder. is_url: an http(s) address.
    servers: see `dtype`.
    """
    meta = {
        "help": help,
        "free": free,
        "choices": choices,
        "required": default is REQUIRED,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "below": below,
        "ends": ends,
        "is_name": is_name,
        "is_url": is_url,
        "servers": servers,
    }
    if default is REQUIRED:
        default = None
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


def dtype(what: str, servers: str = "") -> Any:
    """A settings field for a type of weights; `parse` puts what 'auto' means on this machine in its place.

    So manifests and score stores name the type that was used, and go on with no other. servers: the setting of servers
    that compute instead, in a type of their own: then it is AS_SERVED.
    """
    words = f"{what} (auto: bfloat16 where the GPU or CPU computes in it, else float16 on a GPU, float32 on a CPU)"
    return setting("auto", words, choices=DTYPES, servers=servers)


def seed(help: str) -> Any:
    """A settings field for a seed, 0 by default."""
    return setting(0, help, at_least=0, at_most=LARGEST_SEED)


def resamples(free: bool = False) -> Any:
    """A settings field for the number of bootstrap resamples over problems."""
    return setting(1000, "bootstrap resamples over problems, for intervals", free=free, at_least=1, at_most=10**6)


def like(kind: type, name: str, default: Any = None, help: str | None = None, **changes: Any) -> Any:
    """A settings field with the range, choices, default and help of another class's field; what is given differs."""
    field = next(f for f in dataclasses.fields(kind) if f.name == name)
    meta = {key: value for key, value in field.metadata.items() if key not in ("help", "required")}
    default = field.default if default is None else default
    return setting(default, help or field.metadata["help"], **(meta | changes))


def span(meta: Mapping[str, Any]) -> str:
    """A field's range in words, as 'above 0, at most 1'; '' if it has none."""
    words = ("at_least", "at least"), ("above", "above"), ("at_most", "at most"), ("below", "below")
    return ", ".join(f"{word} {meta[key]}" for key, word in words if meta.get(key) is not None)


def check_range(where: str, name: str, value: Any, meta: Mapping[str, Any]) -> None:
    """Raise UserError for a value outside a field's range, choices or form. where: file and line, or ''."""

    def refuse(wanted: str, shown: str | None = None):
        raise UserError(f"{where}{name} should be {wanted}, found {repr(value) if shown is None else shown}")

    if meta.get("choices") and value not in meta["choices"]:
        refuse(f"one of {', '.join(map(str, meta['choices']))}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            refuse("a finite number")
        low, over, high, under = (meta.get(key) for key in ("at_least", "above", "at_most", "below"))
        largest = LARGEST_WHOLE if isinstance(value, int) else LARGEST
        if high is None and under is None and abs(value) > largest:
            refuse(f"at most {largest:,.0f}", f"{value:.3g}" if isinstance(value, float) else "a larger one")
        if (
            (low is not None and value < low)
            or (over is not None and value <= over)
            or (high is not None and value > high)
            or (under is not None and value >= under)
        ):
            refuse(span(meta))
    if isinstance(value, str):
        if meta.get("ends") and not value.endswith(meta["ends"]):
            refuse(f"a file that ends in {' or '.join(meta['ends'])}")
        if meta.get("is_name") and not is_plain_name(value):
            refuse("a name without / \\ and comma that begins with neither dot, dash nor blank")
        if meta.get("is_url") and not re.match(r"https?://[^/\s]", value):
            refuse("an address that begins with http:// or https://", "another one")  # it may hold a password


def is_plain_name(name: str) -> bool:
    """Whether files named so stay in their folder, and lists of names can be split at commas."""
    return re.fullmatch(r"[^/\\,.\s\0-][^/\\,\0\n]*", name) is not None


def check(settings: Any) -> None:
    """Raise UserError if a field of a settings dataclass has another type than its own or is outside its range."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        if "help" in field.metadata:  # others hold settings of their own
            _check(field.name, getattr(settings, field.name), hints[field.name], field)


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


def _check(name: str, value: Any, hint: Any, field: dataclasses.Field, where: str = "") -> Any:
    """The value, as its field's type. where: file and line of a recipe, or ''. Raises UserError."""
    kind, many, optional = _base_type(hint)
    where = f"{where}: " if where else ""
    if value is None and (optional or field.metadata.get("required")):
        return value
    if many and not isinstance(value, list):
        value = [value]
    if many and not value and field.default_factory is not dataclasses.MISSING and field.default_factory():
        raise UserError(f"{where}{name} should hold at least one value")
    for item in value if many else [value]:
        whole = kind is float and isinstance(item, int) and not isinstance(item, bool)
        if not whole and (not isinstance(item, kind) or (isinstance(item, bool) and kind is not bool)):
            hint_e = " (write 1.0e-5, not 1e-5)" if kind is float and isinstance(item, str) else ""
            raise UserError(f"{where}{name} should be {kind.__name__}, found {item!r}{hint_e}")
        if kind is float:
            item = math.inf if abs(item) > 1e308 else float(item)
        check_range(where, name, item, field.metadata)
    if kind is float:
        return [float(item) for item in value] if many else float(value)
    return value


def load_section(kind: type[Settings], section: str, path: str | Path) -> dict[str, Any]:
    """The checked values that a recipe's section sets. Raises UserError for unknown sections and keys."""
    recipe = yaml_files.read(path)
    for name in recipe:
        if name not in SECTIONS:
            line = yaml_files.line_of(path, name)
            raise UserError(f"{path}:{line}: unknown section {name!r}; sections are {', '.join(SECTIONS)}")
    values = recipe.get(section) or {}
    if not isinstance(values, dict):
        raise UserError(f"{path}:{yaml_files.line_of(path, section)}: section {section!r} should hold keys and values")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    checked = {}
    for key, value in values.items():
        where = f"{path}:{yaml_files.line_of(path, section, key)}"
        if key not in fields and RENAMED.get(key) in fields:
            raise UserError(f"{where}: the key {key!r} is called {RENAMED[key]!r} now")
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r} in section {section!r}; keys are {', '.join(fields)}")
        checked[key] = _check(key, value, hints[key], fields[key], where)
    return checked


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose refusals are UserErrors: one line, exit code 2."""

    def error(self, message):
        renamed = [f"--{old} is called --{new} now; " for old, new in RENAMED.items() if f"--{old}" in message]
        raise UserError(f"{message} ({''.join(renamed)}--help lists the options)")


def parse(kind: type[Settings], section: str | None, doc: str, argv: list[str] | None = None) -> Settings:
    """Resolve a stage's settings: defaults, then the recipe's section (--config), then the command line.

    section: None for a script that has none, and then takes no --config. What was set, and where, is the attribute
    `given` of what is returned: name -> --option, or the recipe.
    Raises UserError for unknown or mistyped values, those outside their range, and missing required ones.
    """
    parser = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if section:
        parser.add_argument("--config", metavar="YAML", help=f"recipe; its section {section!r} is read")
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        scalar, many, _ = _base_type(hints[field.name])
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
        text = field.metadata["help"].replace("%", "%%")
        limits = [span(field.metadata)] if span(field.metadata) else []
        text += f" ({', '.join([*limits, 'required' if field.metadata['required'] else f'default: {default}'])})"
        option = "--" + field.name.replace("_", "-")
        if scalar is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            parser.add_argument(
                option,
                type=scalar,
                nargs="+" if many else None,
                default=None,
                help=text,
                choices=field.metadata["choices"],
                metavar=None if field.metadata["choices"] else scalar.__name__.upper(),
            )
    args = vars(parser.parse_args(argv))
    config = args.pop("config", None)
    values = load_section(kind, section, config) if config else {}
    given = dict.fromkeys(values, config)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key, value in args.items():
        if value is not None:
            given[key] = "--" + key.replace("_", "-")
            values[key] = _check(given[key], value, hints[key], fields[key])
    settings = kind(**values)
    vars(settings)["given"] = given
    for field in dataclasses.fields(kind):
        if field.metadata["choices"] == DTYPES:
            setattr(settings, field.name, _dtype(settings, field, args[field.name]))
        if field.metadata["required"] and getattr(settings, field.name) in (None, [], ""):
            option = "--" + field.name.replace("_", "-")
            raise UserError(f"{option} is required (or {field.name!r} in section {section!r} of the recipe)")
    return settings


def _dtype(settings: Any, field: dataclasses.Field, given: str | None) -> str:
    """The type of weights that is meant. given: on the command line. Raises UserError for one where servers compute."""
    servers = field.metadata["servers"]
    if not getattr(settings, servers or "", None):
        return runtime.compute_dtype(getattr(settings, field.name))
    if given:
        option, url = (f"--{name.replace('_', '-')}" for name in (field.name, servers))
        raise UserError(f"{option} is of an engine of this process, not of {url}: servers have a type of their own")
    return AS_SERVED


THEN = "--then"


def parse_runs(kind: type[Settings], section: str | None, doc: str, argv: list[str] | None = None) -> list[Settings]:
    """The settings of several runs in one process: what follows each --then differs from the first run's options."""
    argv = sys.argv[1:] if argv is None else argv
    ends = [at for at, word in enumerate(argv) if word == THEN] + [len(argv)]
    first = argv[: ends[0]]
    later = [argv[start + 1 : end] for start, end in itertools.pairwise(ends)]
    return [parse(kind, section, doc, first + differing) for differing in ([], *later)]


def resolved(settings: Any) -> dict[str, Any]:
    """Settings as a plain dict for a manifest. Paths, URLs and overwrite flags are left out."""
    skip = {"output", "overwrite", "judge_profile"} | {
        field.name for field in dataclasses.fields(settings) if field.metadata.get("is_url")
    }
    return {k: v for k, v in dataclasses.asdict(settings).items() if k not in skip}
