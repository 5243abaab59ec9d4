"""Problem and Trace records from the JSONL files that people already have: question, gold answer and text a line.

What cannot be read rightly ends with one line that names file and line; what is read with a doubt is counted, and the
first cases are shown with their lines (`Counts`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepprune.base import jsonl, questions
from deepprune.base.errors import UserError
from deepprune.base.records import ANSWER_ONLY, Problem, Trace
from deepprune.data import answers, traces

SHOWN = 3  # examples of each doubt
LONG = 200  # characters that no two samples have in common by chance


@dataclasses.dataclass
class Counts:
    """What an import read, and its doubts: what -> (how often, the first few cases)."""

    rows: int = 0
    doubts: dict[str, tuple[int, list[str]]] = dataclasses.field(default_factory=dict)

    def note(self, what: str, case: str) -> None:
        count, cases = self.doubts.get(what, (0, []))
        self.doubts[what] = (count + 1, [*cases, case] if len(cases) < SHOWN else cases)

    def lines(self) -> list[str]:
        """For the console: a line a doubt."""
        return [
            f"{count} x {what}: {'; '.join(cases)}{'; ...' if count > len(cases) else ''}"
            for what, (count, cases) in self.doubts.items()
        ]

    def to_manifest(self) -> dict[str, Any]:
        return {"rows_read": self.rows, "doubts": {what: count for what, (count, _) in self.doubts.items()}}


@dataclasses.dataclass
class _Question:
    """A problem as it was first met, and what later rows write for it."""

    problem: Problem
    line: int
    golds: set[str]  # spellings that are the problem's gold


class _Row:
    """One line of the file: its fields under our names, read as text."""

    def __init__(self, where: str, row: dict[str, Any], fields: dict[str, str], defaults: dict[str, str]):
        self.where, self.row, self.fields, self.defaults = where, row, fields, defaults

    def field(self, name: str) -> str:
        return self.fields.get(name, name)

    def value(self, name: str) -> Any:
        """The field's value; None where it is missing, null, NaN or infinite. Raises UserError for lists and objects."""
        value = self.row.get(self.field(name))
        if isinstance(value, (list, dict)):
            raise UserError(
                f"{self.where}: field {self.field(name)!r} ({name}) should be text or a number, found a "
                f"{'list' if isinstance(value, list) else 'JSON object'}"
            )
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def text(self, name: str) -> str | None:
        """The value as text, a boolean as "true" or "false"; the default, or None, where there is none."""
        value = self.value(name)
        if isinstance(value, bool):
            value = "true" if value else "false"
        text = "" if value is None else str(value)
        return text if text.strip() else self.defaults.get(name)

    def needed(self, name: str) -> str:
        """The text of a field that every row must have. Raises UserError where it is missing, blank or a boolean."""
        field = self.field(name)
        if field not in self.row:
            hint = ""
            if name == "text" and (self.field("answer") in self.row):
                hint = (
                    f"; rows of answers and token counts without text are imported with --answer-field {self.field('answer')} "
                    "(for votes and costs: no judge can read them)"
                )
            raise UserError(
                f"{self.where}: no {name} in field {field!r} (fields here: {', '.join(self.row):.300}); "
                f"name it with --{name}-field{hint}"
            )
        value, text = self.value(name), self.text(name)
        if isinstance(value, bool) and name != "gold":
            raise UserError(f"{self.where}: the {name} in field {field!r} is {text}; name another with --{name}-field")
        if text is None and (name != "text" or value is None):
            found = self.row[field]
            what = (
                "null"
                if found is None
                else "empty"
                if isinstance(found, str)
                else "NaN"
                if math.isnan(found)
                else "infinite"
            )
            raise UserError(f"{self.where}: no {name}: field {field!r} is {what}; mend or remove the line")
        return text or ""


def import_file(
    path: str | Path,
    fields: dict[str, str],
    defaults: dict[str, str],
    tokenizer=None,
    pattern: str | None = None,
    counts: Counts | None = None,
) -> Iterator[tuple[Problem, Trace]]:
    """Problem and Trace of each row of a JSONL file that holds question, gold answer and text.

    fields: our name -> their field, for question, gold, text (required) and model, dataset, sample_id, family,
    answer_type, n_tokens, finish_reason (used where the rows have them), and answer: the file's own reading of the
    answer, which then counts instead of the text's (missing or null: the trace states none). defaults: model, dataset,
    answer_type for rows without. n_tokens comes from the row, else from `tokenizer`. pattern: what finds the answer in a
    text, see `answers.extract`. Without a finish reason, a trace with an answer counts as 'stop', one without as
    'unknown'. counts is filled while rows are read. Rows of a file without texts are imported where it has an answer
    field and token counts (`Trace.answer_only`).

    Rows that ask the same question (`questions.normalised_question`) share the Problem of the first. A row that repeats
    an earlier one with its sample id is left out. An empty trace has no answer. Raises UserError naming file and line
    for a missing or unfit value, a gold that is none of the options, two golds of one question that differ, and a
    sample id of two different traces.
    """
    counts = Counts() if counts is None else counts
    asked: dict[str, _Question] = {}
    samples: dict[tuple[str, str, str], tuple[int, Any]] = {}  # -> line, what the row holds
    texts: set[tuple[str, str, int]] = set()
    numbers: dict[tuple[str, str], int] = {}
    own_reading = False
    for number, data in jsonl.read(path, strict=False):
        counts.rows += 1
        halves = {k: jsonl.whole(v) for k, v in data.items() if isinstance(v, str) and not _is_utf8(v)}
        if halves:
            counts.note(
                "a character cut in two (half a surrogate pair), now U+FFFD", f"line {number}: {', '.join(halves)}"
            )
        data |= halves
        row = _Row(f"{path}:{number}", data, fields, defaults)
        problem = _problem(row, number, asked, counts)
        answer_only = "answer" in fields and fields["answer"] in data and row.field("text") not in data
        text, model = None if answer_only else row.needed("text"), row.text("model") or "unknown"
        if "answer" in fields:
            own_reading |= fields["answer"] in data
            stated = row.text("answer")
        else:
            stated = None
        sampling = {"imported_from": Path(path).name} | (ANSWER_ONLY if answer_only else {})
        sample_id = row.value("sample_id")
        if sample_id is not None:
            whole = isinstance(sample_id, float) and sample_id.is_integer()  # pandas writes 3.0 in a column with gaps
            sampling["sample_id"] = str(int(sample_id) if whole else sample_id)
            content = (hash(text), row.value("n_tokens"), stated)
            line, first = samples.setdefault((problem.problem_id, model, sampling["sample_id"]), (number, content))
            if line != number:
                if content != first:
                    raise UserError(
                        f"{row.where}: sample {sampling['sample_id']!r} of this question stands in line {line} too, with "
                        "another text, length or answer; remove one, or name another field with --sample-id-field"
                    )
                counts.note("a row that repeats an earlier one, left out", f"line {number} (as line {line})")
                continue
        elif text is not None and len(text) >= LONG:
            like = (problem.problem_id, model, hash(text))
            if like in texts:
                counts.note(
                    "a trace word for word like another of its question (no sample id tells whether it is one "
                    "row written twice)",
                    f"line {number}",
                )
            texts.add(like)
        answer = _answer(row, number, problem, text, stated, pattern, counts)
        index = numbers.get((problem.problem_id, model), 0)
        numbers[problem.problem_id, model] = index + 1
        reason = row.text("finish_reason") or ("stop" if answer is not None else "unknown")
        n_tokens = _n_tokens(row, text, tokenizer)
        yield problem, traces.graded(problem, answer, model, index, text or "", n_tokens, reason, sampling)
    if counts.rows and "answer" in fields and not own_reading:
        raise UserError(f"{path}: no row has the field {fields['answer']!r}; name another with --answer-field")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problem(row: _Row, number: int, asked: dict[str, _Question], counts: Counts) -> Problem:
    """The row's problem: the first of this question, with which the row must agree."""
    question, answer_type = row.needed("question"), row.text("answer_type") or "math"
    written = row.needed("gold")
    if isinstance(row.value("gold"), bool) and answer_type != "text":
        raise UserError(
            f"{row.where}: the gold answer is {written}, which is no {answer_type} answer; "
            "with --answer-type text it is read as that word"
        )
    try:
        gold = questions.checked_gold(written, question, answer_type)
    except UserError as error:
        raise UserError(f"{row.where}: {error}") from error
    made = Problem.new(row.text("dataset") or "", question, gold, answer_type, row.text("family") or "")
    if made.check():
        raise UserError(f"{row.where}: {made.check()}")
    key = questions.normalised_question(question)
    first = asked.get(key)
    if first is None:
        if answer_type == "math" and not answers.readable(gold):
            counts.note(
                "a gold answer that is no readable mathematics (only the same spelling is right)",
                f"line {number}: {gold!r:.60}",
            )
        asked[key] = _Question(made, number, {gold})
        return made
    problem = first.problem
    if answer_type != problem.answer_type:
        raise UserError(
            f"{row.where}: the question {question[:60]!r} is of answer type {answer_type} here and "
            f"{problem.answer_type} in line {first.line}; make them one"
        )
    if gold not in first.golds:
        if answers.same(gold, problem.gold, answer_type) is not True:
            raise UserError(
                f"{row.where}: the question {question[:60]!r} has the gold {gold[:60]!r} here and "
                f"{problem.gold[:60]!r} in line {first.line}; mend one of them"
            )
        first.golds.add(gold)
    if (made.dataset, made.family) != (problem.dataset, problem.family):
        counts.note(
            "a row whose data set or family is not that of the first row with its question; the first one's holds",
            f"line {number} (line {first.line})",
        )
    return problem


def _answer(
    row: _Row, number: int, problem: Problem, text: str | None, stated: str | None, pattern: str | None, counts: Counts
) -> str | None:
    """The row's answer: what the file says it is if it says so, else what the text (None: there is none) states."""
    if text is None:
        counts.note("a row without text: its answer and length are known, no judge can read it", f"line {number}")
    elif not text.strip():
        counts.note("an empty trace, its answer unknown", f"line {number}")
        return None
    found = None if text is None else answers.extract(text, problem.answer_type, pattern)
    if "answer" not in row.fields:
        return found
    field = row.field("answer")
    if stated is not None:
        stated = stated.strip()
        if problem.answer_type == "choice":
            letter = questions.choice_letter(stated, problem.question)
            if letter is None:
                counts.note(
                    f"an answer in field {field!r} that is none of the question's options",
                    f"line {number}: {stated!r:.60}",
                )
            stated = letter or stated
    if text is None:
        return stated
    both = f"line {number}: {stated!r:.40} in the field, {found!r:.40} in the text"
    if stated is None and found is not None:
        counts.note(f"no answer in field {field!r} although the text states one; unknown", both)
    elif stated is not None and found is None:
        counts.note(f"an answer in field {field!r} that the text does not state; the field's counts", both)
    elif stated is not None and answers.same(stated, found, problem.answer_type) is not True:
        counts.note(f"an answer in field {field!r} that disagrees with the text's; the field's counts", both)
    return stated


def _n_tokens(row: _Row, text: str | None, tokenizer) -> int:
    """The trace's token count: the row's, else the tokenizer's; an empty trace has at least its end token (None: no text)."""
    value, field = row.value("n_tokens"), row.field("n_tokens")
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():  # pandas writes 5.0 in a column with gaps
        value = int(value)
    if value is None or value == "":
        if text is None or tokenizer is None:
            remedy = "name it with --n-tokens-field" if text is None else "give --tokenizer"
            raise UserError(f"{row.where}: no token count in field {field!r}; {remedy}")
        value = len(tokenizer.encode(text, add_special_tokens=False))
    elif isinstance(value, bool) or not isinstance(value, int) or value < (1 if text is None or text.strip() else 0):
        raise UserError(
            f"{row.where}: the token count in field {field!r} should be a whole number of at least 1, "
            f"found {row.row[field]!r:.60}"
        )
    return max(value, 1)
