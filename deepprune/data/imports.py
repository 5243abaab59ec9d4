"""Problem and Trace records from rows that people already have: question, gold answer and text each.

What cannot be read rightly ends with one line that names file and line; what is read with a doubt is counted, and the
first cases are shown with their lines (`import_checks.Counts`).
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from deepprune.base import config, jsonl, questions
from deepprune.base.errors import UserError
from deepprune.base.records import ANSWER_ONLY, Problem, Trace
from deepprune.data import answers, traces
from deepprune.data.import_checks import Counts, ProblemIndex, SampleIndex
from deepprune.data.import_rows import FIELDS, MISSING, Fields, Row, lookup

OF_A_TRACE = ("text", "answer", "model", "sample_id", "n_tokens", "finish_reason")  # not of its problem


def unnested(rows: Iterable[Row], traces_field: str, fields: Fields, counts: Counts) -> Iterator[Row]:
    """A row a trace, of rows that hold a problem and a list of its traces.

    An element of the list that is an object adds its fields to the problem's. Any other is the trace's text, or its
    answer where the list is the answers' field. A trace's other fields (OF_A_TRACE) that hold lists as long are taken
    element by element.
    Raises UserError for a row without such a list.
    """
    for row in rows:
        elements = lookup(row.data, traces_field)
        if not isinstance(elements, list):
            what = "no field" if elements is MISSING else "no list in field"
            raise UserError(
                f"{row.where}: {what} {traces_field!r} (fields here: {', '.join(row.data):.300}); "
                "name the list of traces with --traces-field"
            )
        if not elements:
            counts.note("a problem without traces, left out", row)
        of_problem = {name: value for name, value in row.data.items() if name != traces_field}
        lists = {}
        for field in {fields.of(name) for name in OF_A_TRACE} - {traces_field}:
            value = lookup(row.data, field)
            if isinstance(value, list) and len(value) == len(elements):
                lists[field] = value
        for name in ("text", "n_tokens", "finish_reason"):
            if len(elements) > 1 and fields.of(name) not in lists and _of_problem_alone(row, elements, fields.of(name)):
                what = f"a problem's own {name} in field {fields.of(name)!r}, taken for that of each of its traces"
                counts.note(what, row)
        alone = "answer" if "answer" in fields and fields.of("answer") == traces_field else "text"
        sample_id = fields.of("sample_id")
        for index, element in enumerate(elements):
            own = {field: values[index] for field, values in lists.items()}
            own |= element if isinstance(element, dict) else {fields.of(alone): element}
            if sample_id in of_problem and sample_id not in own:  # the problem's: tells no traces apart
                own[sample_id] = f"{of_problem[sample_id]}/{index + 1}"
            yield Row(row.file, row.number, of_problem | own, row.unit, index + 1)


def _of_problem_alone(row: Row, elements: list, field: str) -> bool:
    """Whether a row has the field and a trace of its list has not."""
    return lookup(row.data, field) not in (MISSING, None) and any(lookup(e, field) is MISSING for e in elements)


def described(row: Row, fields: Fields, problem: Problem, trace: Trace) -> list[str]:
    """What a row was understood to be, for the console: a line for each of its parts, then the fields not used."""
    right = {True: "right", False: "not right", None: "unknown whether right"}[trace.correct]
    values = {
        "question": _shown(problem.question),
        "gold": f"{problem.gold} ({problem.answer_type})",
        "text": "none" if trace.answer_only else _shown(trace.text),
        "answer": "none" if trace.answer is None else f"{trace.answer}, {right}",
        "n_tokens": f"{trace.n_tokens:,}",
        "finish_reason": trace.finish_reason,
        "model": trace.model,
        "dataset": problem.dataset,
        "family": problem.family,
        "sample_id": trace.sampling.get("sample_id", ""),
    }
    lines = [f"{row.where} is read as"]
    for name, value in values.items():
        field = fields.of(name)
        is_asked = name != "answer" or "answer" in fields
        source = f"field {field}" if is_asked and fields.has(row, name) else _ELSEWHERE.get(name, "not in the row")
        lines.append(f"  {name:<14}{source:<24.24}{value}")
    used = {fields.of(name).split(".")[0] for name in (*FIELDS, "answer")}
    unused = [name for name in row.data if name not in used]
    return lines + ([f"  not used: {', '.join(unused):.200}"] if unused else [])


_ELSEWHERE = {
    "answer": "from the text",
    "n_tokens": "by --tokenizer",
    "finish_reason": "from the answer",
    "model": "by --model",
    "dataset": "by --dataset",
}


def _shown(text: str) -> str:
    """The beginning and the end of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:60]} ... {line[-30:]} ({len(text):,} characters)"


class Importer:
    """Makes Problems and Traces of rows that hold question, gold answer and text.

    fields: for question, gold, text (required) and model, dataset, sample_id, family, answer_type, n_tokens,
    finish_reason (used where the rows have them), and answer: the file's own reading of the answer, which then counts
    instead of the text's (missing or null: the trace states none). n_tokens comes from the row, else from `tokenizer`.
    pattern: what finds the answer in a text, see `answers.extract`. Without a finish reason, a trace with an answer
    counts as 'stop', one without as 'unknown'. counts is filled while rows are read. Rows of a file without texts are
    imported where it has an answer field and token counts (`Trace.answer_only`).
    """

    def __init__(self, fields: Fields, tokenizer=None, pattern: str | None = None, counts: Counts | None = None):
        self.fields, self.tokenizer, self.pattern = fields, tokenizer, pattern
        self.counts = Counts() if counts is None else counts
        self.problems, self.samples = ProblemIndex(fields, self.counts), SampleIndex(self.counts)
        self.sample_counts: dict[tuple[str, str], int] = {}  # by problem and model
        self.has_own_reading = False
        self.row: Row | None = None  # that was read last

    def read(self, rows: Iterable[Row]) -> Iterator[tuple[Problem, Trace]]:
        """Problem and Trace of each row.

        Rows that ask the same question (`questions.normalised_question`) share the Problem of the first. A row that
        repeats an earlier one with its sample id is left out. An empty trace has no answer. Raises UserError naming
        file and line for a missing or unfit value, a gold that is none of the options, two golds of one question that
        differ, and a sample id of two different traces.
        """
        row = None
        for row in rows:
            self.counts.rows += 1
            self.counts.place(row)  # its file is known from now on
            self.row = row
            imported = self._imported(row)
            if imported is not None:
                yield imported
        if row is not None and "answer" in self.fields and not self.has_own_reading:
            raise UserError(
                f"{row.file}: no row has the field {self.fields.of('answer')!r}; name another with --answer-field"
            )

    def _imported(self, row: Row) -> tuple[Problem, Trace] | None:
        """The row's problem and trace; None for a row that repeats another."""
        fields = self.fields
        self._mend_halves(row)
        problem = self.problems.problem(row)
        has_reading = "answer" in fields and fields.has(row, "answer")
        self.has_own_reading |= has_reading
        answer_only = has_reading and not fields.has(row, "text")
        text = None if answer_only else fields.needed(row, "text")
        model = fields.text(row, "model") or "unknown"
        stated = fields.text(row, "answer") if "answer" in fields else None
        sampling = {"imported_from": Path(row.file).name} | (ANSWER_ONLY if answer_only else {})
        sample_id = self._sample_id(row)
        if sample_id is not None:
            sampling["sample_id"] = sample_id
        also = (fields.value(row, "n_tokens"), stated)
        if self.samples.is_repeated(row, problem.problem_id, model, sample_id, text, also):
            return None
        answer = self._answer(row, problem, text, stated)
        index = self.sample_counts.get((problem.problem_id, model), 0)
        self.sample_counts[problem.problem_id, model] = index + 1
        reason = fields.text(row, "finish_reason") or ("stop" if answer is not None else "unknown")
        n_tokens = self._n_tokens(row, text)
        return problem, traces.graded(problem, answer, model, index, text or "", n_tokens, reason, sampling)

    def _mend_halves(self, row: Row) -> None:
        halves = {k: jsonl.whole(v) for k, v in row.data.items() if isinstance(v, str) and not _is_utf8(v)}
        if halves:
            what = "a character cut in two (half a surrogate pair), now U+FFFD"
            self.counts.note(what, row, f": {', '.join(halves)}")
            row.data |= halves

    def _sample_id(self, row: Row) -> str | None:
        sample_id = self.fields.value(row, "sample_id")
        if isinstance(sample_id, float) and sample_id.is_integer():  # pandas writes 3.0 in a column with gaps
            sample_id = int(sample_id)
        return None if sample_id is None else str(sample_id)

    def _answer(self, row: Row, problem: Problem, text: str | None, stated: str | None) -> str | None:
        """The row's answer: what the file says it is if it says so, else what the text (None: no text) states."""
        if text is None:
            self.counts.note("a row without text: its answer and length are known, no judge can read it", row)
        elif not text.strip():
            self.counts.note("an empty trace, its answer unknown", row)
            return None
        in_text = None if text is None else answers.extract(text, problem.answer_type, self.pattern)
        if "answer" not in self.fields:
            return in_text
        field = self.fields.of("answer")
        if stated is not None:
            stated = stated.strip()
            if problem.answer_type == "choice":
                letter = questions.choice_letter(stated, problem.question)
                if letter is None:
                    what = f"an answer in field {field!r} that is none of the question's options"
                    self.counts.note(what, row, f": {stated!r:.60}")
                stated = letter or stated
        if text is None:
            return stated
        what = None
        if stated is None and in_text is not None:
            what = f"no answer in field {field!r} although the text states one; unknown"
        elif stated is not None and in_text is None:
            what = f"an answer in field {field!r} that the text does not state; the field's counts"
        elif stated is not None and answers.same(stated, in_text, problem.answer_type) is not True:
            what = f"an answer in field {field!r} that disagrees with the text's; the field's counts"
        if what:
            self.counts.note(what, row, f": {stated!r:.40} in the field, {in_text!r:.40} in the text")
        return stated

    def _n_tokens(self, row: Row, text: str | None) -> int:
        """The trace's token count: the row's, else the tokenizer's; an empty trace has at least its end token."""
        value, field = self.fields.value(row, "n_tokens"), self.fields.of("n_tokens")
        given = value
        if isinstance(value, str | decimal.Decimal) and re.fullmatch(r"\d+(?:\.0+)?", str(value).strip()):
            value = float(value)
        if isinstance(value, float) and value.is_integer():  # pandas writes 5.0 in a column with gaps
            value = int(value)
        if value is None or value == "":
            if text is None or self.tokenizer is None:
                remedy = "name it with --n-tokens-field" if text is None else "give --tokenizer"
                raise UserError(f"{row.where}: no token count in field {field!r}; {remedy}")
            return max(len(self.tokenizer.encode(text, add_special_tokens=False)), 1)
        least = 1 if text is None or text.strip() else 0
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= config.LARGEST_WHOLE:
            raise UserError(
                f"{row.where}: the token count in field {field!r} should be a whole number of at least 1 and at most "
                f"{config.LARGEST_WHOLE:,}, found {given!r:.60}"
            )
        return max(value, 1)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
