"""What rows of an import must agree in: one problem a question, one trace a sample id. What is in doubt is counted.

Of a row nothing is held but a few hashes, so that a file may be larger than the memory.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from deepprune.base import questions
from deepprune.base.errors import UserError
from deepprune.base.records import Problem
from deepprune.data import answers
from deepprune.data.import_rows import Fields, Row

SHOWN = 3  # examples of each doubt
LONG = 200  # characters that no two samples have in common by chance


@dataclasses.dataclass
class Counts:
    """What an import read, and its doubts: what -> (how often, the first few cases)."""

    rows: int = 0
    doubts: dict[str, tuple[int, list[str]]] = dataclasses.field(default_factory=dict)
    files: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)  # (file, unit) -> its number

    def note(self, what: str, row: Row, more: str = "") -> None:
        count, cases = self.doubts.get(what, (0, []))
        if len(cases) < SHOWN:
            cases = [*cases, self.named(self.place(row)) + more]
        self.doubts[what] = (count + 1, cases)

    def place(self, row: Row) -> int:
        """File and number of a row as one number, which takes less memory than words."""
        return self.files.setdefault((row.file, row.unit), len(self.files)) << 40 | row.number

    def named(self, place: int) -> str:
        """A row's place in words: line 12, or line 12 of mine.jsonl where there are several files."""
        file, unit = list(self.files)[place >> 40]
        return f"{unit} {place & (1 << 40) - 1}" + (f" of {Path(file).name}" if len(self.files) > 1 else "")

    def lines(self) -> list[str]:
        """For the console: a line a doubt."""
        return [
            f"{count} x {what}: {'; '.join(cases)}{'; ...' if count > len(cases) else ''}"
            for what, (count, cases) in self.doubts.items()
        ]

    def to_manifest(self) -> dict[str, Any]:
        return {"rows_read": self.rows, "doubts": {what: count for what, (count, _) in self.doubts.items()}}


@dataclasses.dataclass
class AskedBefore:
    """A problem as a row first asked it, and what later rows write for it."""

    problem: Problem
    place: int  # of that row, see Importer._place
    golds: set[str]  # spellings that are the problem's gold


class ProblemIndex:
    """The problems of an import by their questions (`questions.normalised_question`)."""

    def __init__(self, fields: Fields, counts: Counts):
        self.fields, self.counts = fields, counts
        self.asked: dict[str, AskedBefore] = {}
        self.exactly: dict[tuple[str, ...], Problem] = {}  # by question, gold, type, data set and family as written

    def problem(self, row: Row) -> Problem:
        """The row's problem: the first of this question, with which the row must agree."""
        fields = self.fields
        question, written = fields.needed(row, "question"), fields.needed(row, "gold")
        stated = fields.text(row, "answer_type")
        answer_type = stated or questions.likely_type(written, question)
        dataset, family = fields.text(row, "dataset") or "", fields.text(row, "family") or ""
        as_written = (question, written, answer_type, dataset, family)
        if as_written in self.exactly:
            return self.exactly[as_written]
        if isinstance(fields.value(row, "gold"), bool) and answer_type != "text":
            raise UserError(
                f"{row.where}: the gold answer is {written}, which is no {answer_type} answer; "
                "with --answer-type text it is read as that word"
            )
        try:
            gold = questions.checked_gold(written, question, answer_type)
        except UserError as error:
            raise UserError(f"{row.where}: {error}") from error
        problem = Problem.new(dataset, question, gold, answer_type, family)
        if problem.check():
            raise UserError(f"{row.where}: {problem.check()}")
        first = self.asked.get(questions.normalised_question(question))
        if first is not None:
            self._check_agrees(row, problem, first)
            if (dataset, family) != (first.problem.dataset, first.problem.family):
                return first.problem  # noted for each such row
            problem = first.problem
        else:
            if answer_type != (stated or "math"):
                what = f"a problem of no stated type, read as {answer_type} for its gold (--answer-type says otherwise)"
                self.counts.note(what, row, f": {gold!r}")
            if answer_type == "math" and not answers.readable(gold):
                what = "a gold answer that is no readable mathematics (only the same spelling is right)"
                self.counts.note(what, row, f": {gold!r:.60}")
            self.asked[questions.normalised_question(question)] = AskedBefore(problem, self.counts.place(row), {gold})
        self.exactly[as_written] = problem
        return problem

    def _check_agrees(self, row: Row, problem: Problem, first: AskedBefore) -> None:
        """Raise UserError if a row's problem has another answer than the first with its question; note other names."""
        question, before = repr(problem.question[:60]), first.problem
        if problem.answer_type != before.answer_type:
            raise UserError(
                f"{row.where}: the question {question} is of answer type {problem.answer_type} here and "
                f"{before.answer_type} in {self.counts.named(first.place)}; make them one"
            )
        if problem.gold not in first.golds:
            if answers.same(problem.gold, before.gold, before.answer_type) is not True:
                raise UserError(
                    f"{row.where}: the question {question} has the gold {problem.gold[:60]!r} here and "
                    f"{before.gold[:60]!r} in {self.counts.named(first.place)}; mend one of them"
                )
            first.golds.add(problem.gold)
        if (problem.dataset, problem.family) != (before.dataset, before.family):
            what = (
                "a row whose data set or family is not that of the first row with its question; the first one's holds"
            )
            self.counts.note(what, row, f" ({self.counts.named(first.place)})")


class SampleIndex:
    """The traces of an import by their sample ids; those without one by their texts.

    Keys are 64-bit hashes: two of a million rows share one once in 30 million imports, and that would be said.
    """

    def __init__(self, counts: Counts):
        self.counts = counts
        self.samples: dict[int, tuple[int, int]] = {}  # -> place of the row, hash of what it holds
        self.texts: set[int] = set()

    def is_repeated(
        self, row: Row, problem_id: str, model: str, sample_id: str | None, text: str | None, more: tuple
    ) -> bool:
        """Whether a row is an earlier one again; more: what else of it would be the same.

        Raises UserError where its sample id is another trace's.
        """
        if sample_id is None:
            self._note_alike(row, problem_id, model, text)
            return False
        key, content = hash((problem_id, model, sample_id)), hash((text, more))
        if key not in self.samples:
            self.samples[key] = self.counts.place(row), content
            return False
        place, first = self.samples[key]
        if content != first:
            raise UserError(
                f"{row.where}: sample {sample_id!r} of this question stands in {self.counts.named(place)} too, with "
                "another text, length or answer; remove one, or name another field with --sample-id-field"
            )
        self.counts.note("a row that repeats an earlier one, left out", row, f" (as {self.counts.named(place)})")
        return True

    def _note_alike(self, row: Row, problem_id: str, model: str, text: str | None) -> None:
        if text is None or len(text) < LONG:
            return
        alike = hash((problem_id, model, text))
        if alike in self.texts:
            what = (
                "a trace word for word like another of its question (no sample id tells whether it is one row "
                "written twice)"
            )
            self.counts.note(what, row)
        self.texts.add(alike)
