"""The records that stages exchange, one JSON object a line. Ids are content hashes: join on them.

Problem -> Trace -> Pair -> PairScore -> Pruning. Each class checks its own fields when it is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from deepprune.base import jsonl
from deepprune.base.errors import UserError
from deepprune.base.questions import choice_letter, listed_options

ANSWER_TYPES = ("math", "choice", "text")
ANSWER_ONLY = {"text": "not in the imported file"}  # in `sampling` of a trace of which only answer and length are known


def content_hash(*parts: Any) -> str:
    """16 hex digits of the SHA-256 of the parts' JSON: stable across machines, runs and Python versions."""
    data = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(data.encode()).hexdigest()[:16]


@dataclasses.dataclass
class Problem:
    """A question with a checkable answer. `family` groups problems of one kind inside a dataset."""

    id_field: ClassVar[str] = "problem_id"
    problem_id: str
    dataset: str
    question: str
    gold: str
    answer_type: str = "math"  # one of ANSWER_TYPES
    family: str = ""

    @classmethod
    def new(cls, dataset: str, question: str, gold: str, answer_type: str = "math", family: str = "") -> Problem:
        """A problem with its id made from dataset, question and gold answer."""
        gold = str(gold)
        return cls(content_hash("problem", dataset, question, gold), dataset, question, gold, answer_type, family)

    @property
    def group(self) -> str:
        """What problems of one kind share: the family, or the dataset where it has no families."""
        return self.family or self.dataset

    def check(self) -> str | None:
        if self.answer_type not in ANSWER_TYPES:
            return f"answer_type must be one of {', '.join(ANSWER_TYPES)}, found {self.answer_type!r}"
        if not self.question.strip():
            return "question is empty"
        if not self.gold.strip():
            return "gold is empty"
        if self.answer_type == "choice" and (len(self.gold) != 1 or choice_letter(self.gold, self.question) is None):
            options = ", ".join(listed_options(self.question)) or "A, B, ..."
            return (
                f"gold of a multiple-choice question should be the letter of an option ({options}), found {self.gold!r}"
            )
        return None


@dataclasses.dataclass
class Trace:
    """One sampled chain of thought. `answer` None: no answer could be extracted; `correct` None: unknown."""

    id_field: ClassVar[str] = "trace_id"
    trace_id: str
    problem_id: str
    model: str
    sample_index: int
    text: str
    n_tokens: int
    finish_reason: str  # stop, length, abort, unknown
    answer: str | None
    correct: bool | None
    sampling: dict = dataclasses.field(default_factory=dict)
    confidence: dict | None = None  # see deepprune/data/confidence.py

    @property
    def pruned(self) -> bool:
        """Stopped by live pruning: its answer and its length are not known."""
        return self.finish_reason == "abort"

    @property
    def answer_only(self) -> bool:
        """Imported from a file that holds answers and lengths but no texts: no judge can read it."""
        return self.sampling.get("text") == ANSWER_ONLY["text"]

    def check(self) -> str | None:
        if not self.text.strip() and self.answer is not None and not self.answer_only:
            return f"text is empty although the answer is {self.answer!r}; remove the line or sample the trace again"
        if self.n_tokens < 1:
            return f"n_tokens must be at least 1, found {self.n_tokens}"
        return None


@dataclasses.dataclass
class Pair:
    """Two truncated traces of one problem; label 1 = same final answer, 0 = different."""

    id_field: ClassVar[str] = "pair_id"
    pair_id: str
    problem_id: str
    trace_a: str
    trace_b: str
    prefix_a: str
    prefix_b: str
    truncation: dict  # {"strategy": ..., "k": ...}
    label: int
    question: str
    model: str = ""  # the reasoner(s) of the two traces
    family: str = ""

    def check(self) -> str | None:
        if self.label not in (0, 1):
            return f"label must be 0 or 1, found {self.label!r}"
        return None


@dataclasses.dataclass
class PairScore:
    """What a judge said of a pair: p_same in [0, 1], verdict = p_same > 0.5."""

    id_field: ClassVar[str] = "pair_id"
    pair_id: str
    judge: str
    p_same: float
    verdict: bool
    prompt_tokens: int
    cached_tokens: int

    def check(self) -> str | None:
        return None if 0.0 <= self.p_same <= 1.0 else f"p_same must lie in [0, 1], found {self.p_same}"


@dataclasses.dataclass
class Pruning:
    """What pruning did for one problem: clusters in arrival order, finished traces, the vote, the cost."""

    id_field: ClassVar[str] = "problem_id"
    problem_id: str
    judge: str
    settings: dict
    clusters: list
    finished: list
    answer: str | None
    correct: bool | None
    tokens: dict  # by kind, see deepprune/prune/costs.py
    judge_calls: int
    judge_tokens: int
    judge_cached_tokens: int = 0

    def check(self) -> str | None:
        if "comparisons" in self.settings:
            return "its setting 'comparisons' is called 'asks' now: prune again, or change the name in the file"
        return None


Record = TypeVar("Record", Problem, Trace, Pair, PairScore, Pruning)


def to_row(record: Any) -> dict[str, Any]:
    """The record as a JSON object (fields in their declared order). Raises UserError for NaN or an infinite number."""
    row = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    for name, value in row.items():
        if not _finite(value):
            kind, identity = type(record).__name__, row[record.id_field]
            raise UserError(f"{name} of the {kind} {identity} holds a number that is not finite: {value!r:.80}")
    return row


def _finite(value: Any) -> bool:
    """Whether no float in it is NaN or infinite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, (list, tuple)) else True


def _matches(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, h) for h in typing.get_args(hint))
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


_HINTS: dict[type, dict[str, Any]] = {}


def from_row(kind: type[Record], row: dict[str, Any], where: str) -> Record:
    """Check a row and make it a record. Raises UserError starting with `where` (file:line)."""
    hints = _HINTS.setdefault(kind, typing.get_type_hints(kind))
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in row:
            values[field.name] = row[field.name]
            if not _matches(row[field.name], hints[field.name]):
                raise UserError(
                    f"{where}: field {field.name!r} of a {kind.__name__} should be {field.type}, "
                    f"found {type(row[field.name]).__name__}"
                )
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: a {kind.__name__} needs the field {field.name!r}; the line lacks it")
    record = kind(**values)
    problem = record.check() if hasattr(record, "check") else None
    if problem:
        raise UserError(f"{where}: {problem}")
    return record


def read(kind: type[Record], *paths: str | Path) -> Iterator[Record]:
    """Stream the records of one or more JSONL files.

    Raises UserError naming file and line for broken lines, missing or mistyped fields, and duplicate ids
    (also across the files).
    """
    seen: dict[str, str] = {}
    for path in paths:
        for number, row in jsonl.read(path):
            where = f"{path}:{number}"
            record = from_row(kind, row, where)
            identity = getattr(record, kind.id_field)
            if identity in seen:
                raise UserError(
                    f"{where}: duplicate {kind.id_field} {identity} (first at {seen[identity]}); remove one of them"
                )
            seen[identity] = where
            yield record


def read_problems(*paths: str | Path) -> dict[str, Problem]:
    """The problems of one or more files, by id, in the files' order. Raises UserError as `read`, or for none."""
    problems = {p.problem_id: p for p in read(Problem, *paths)}
    if not problems:
        raise UserError(
            f"{', '.join(map(str, paths))}: no problems; make them with scripts/00_make_problems.py or import them"
        )
    return problems


def write(path: str | Path, records: Any) -> int:
    """Write records atomically; returns how many."""
    return jsonl.write(path, (to_row(record) for record in records))
