"""Pairs that people already have: two texts and a label, or rows that LLaMA-Factory trains on, read back by a profile.

Kinds of rows, and the fields that they need (names of their own are given as `Fields`):

    pairs     question, prefix_a, prefix_b, label
    alpaca    instruction, output; input and system where they have them
    sharegpt  conversations: a list of {from, value} or {role, content}; system where they have it

A prompt of the last two is taken apart by the profile's user template, so that question and texts are known again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from deepprune.base.errors import UserError
from deepprune.base.questions import normalised_question
from deepprune.base.records import Pair, content_hash
from deepprune.data import pairs
from deepprune.data.import_checks import Counts
from deepprune.data.import_rows import MISSING, Fields, Row, lookup
from deepprune.judges.profiles import SLOTS, Profile

KINDS = ("pairs", "alpaca", "sharegpt")
AS_GIVEN = {"strategy": "as given", "k": 0}  # the truncation of texts where the profile does not say it
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
         "system": "system"}  # fmt: skip
ONE_TURN = ["user", "assistant"], ["system", "user", "assistant"]
MORE = ("history", "tools")  # columns of LLaMA-Factory that make a prompt longer than we read


class ReadyPairs:
    """Makes Pairs of ready rows; `counts` is filled while they are read.

    labels: the rows' words for (different, same). None: the profile's labels, in rows of pairs 0 and 1 or booleans too.
    """

    def __init__(self, kind: str, profile: Profile, fields: Fields, labels: tuple[str, str] | None = None):
        self.kind, self.profile, self.fields, self.labels = kind, profile, fields, labels
        self.counts = Counts()
        self.seen: dict[str, tuple[int, int]] = {}  # pair id -> place of its row, label
        self.truncation = profile.truncation.as_dict() if profile.truncation else AS_GIVEN
        if kind != "pairs" and profile.second is not None:
            raise UserError(
                "the judge profile has a second text, as a classifier's: no prompt can be taken apart by it"
            )
        if kind != "pairs" and not all(profile.parts[2:5:2]):
            raise UserError(
                "the judge profile's user template has slots side by side: no prompt can be taken apart by it"
            )

    def read(self, rows: Iterable[Row]) -> Iterator[Pair]:
        """The pair of each row. A row that repeats an earlier one is left out.

        Raises UserError naming file and line for a missing field, a prompt that is not as the profile writes it, an
        answer that is no label, and a pair that stands twice with two labels.
        """
        for row in rows:
            self.counts.rows += 1
            question, prefix_a, prefix_b, answer = (
                self._of_texts(row) if self.kind == "pairs" else self._of_prompt(row, *self._turns(row))
            )
            label = self._label(row, answer)
            asked = normalised_question(question)
            trace_a, trace_b = (content_hash("ready", asked, prefix) for prefix in (prefix_a, prefix_b))
            pair_id = pairs.pair_id(trace_a, trace_b, self.truncation)
            place, before = self.seen.setdefault(pair_id, (self.counts.place(row), label))
            if before != label:
                raise UserError(f"{row.where}: the same pair stands in {self.counts.named(place)} with the other label")
            if place != self.counts.place(row):
                self.counts.note(
                    "a pair that repeats an earlier one, left out", row, f" (as {self.counts.named(place)})"
                )
                continue
            model, family = (self.fields.text(row, name) or "" for name in ("model", "family"))
            ids = pair_id, content_hash("ready problem", asked), trace_a, trace_b
            yield Pair(*ids, prefix_a, prefix_b, dict(self.truncation), label, question, model, family)

    def _of_texts(self, row: Row) -> tuple[str, str, str, Any]:
        texts = (self.fields.needed(row, name) for name in ("question", "prefix_a", "prefix_b"))
        if not self.fields.has(row, "label"):
            self.fields.needed(row, "label")
        return *texts, self.fields.value(row, "label")

    def _turns(self, row: Row) -> tuple[str, str, str]:
        """(system, prompt, answer) of a row for LLaMA-Factory."""
        more = [name for name in MORE if row.data.get(name)]
        if more:
            raise UserError(f"{row.where}: holds {more[0]!r} too: a ready row is one question and one answer to it")
        system = self.fields.text(row, "system") or ""
        if self.kind == "alpaca":
            prompt, query = self.fields.needed(row, "instruction"), self.fields.text(row, "input")
            return system, f"{prompt}\n{query}" if query else prompt, self.fields.needed(row, "output")
        field = self.fields.of("conversations")
        turns = lookup(row.data, field)
        if turns is MISSING or not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise UserError(f"{row.where}: no list of turns in field {field!r}; name it with --conversations-field")
        # A table's turns have all fields that one of them has: those of the others are null.
        roles = [str(turn.get("from") or turn.get("role")) for turn in turns]
        texts = [turn.get("content") if turn.get("value") is None else turn["value"] for turn in turns]
        known = [ROLES.get(role.casefold()) for role in roles]
        if known not in ONE_TURN or not all(isinstance(text, str) for text in texts):
            raise UserError(
                f"{row.where}: {field!r} should be one question of a user and one answer to it, after at most one "
                f"system text; its turns are of {', '.join(roles):.100} ({', '.join(ROLES)} are known)"
            )
        return (system, *texts)[-3:]

    def _of_prompt(self, row: Row, system: str, prompt: str, answer: str) -> tuple[str, str, str, str]:
        """Question, texts and answer of a prompt."""
        problem = None
        if system.strip() != (self.profile.system or "").strip():
            problem = f"its system text is {system[:60]!r}"
        elif (texts := taken_apart(self.profile, prompt)) is None:
            problem = f"its prompt is not as the user template writes it ({prompt[:60]!r} ...)"
        if problem:
            raise UserError(
                f"{row.where}: {problem}: not the judge profile's; write a profile of these rows (--judge-profile, "
                "docs/published_judge.md)"
            )
        if any(prompt.count(part) > 1 for part in self.profile.parts[2:5:2]):
            what = "a prompt in which what stands between the texts occurs twice; cut where it comes first"
            self.counts.note(what, row)
        return *texts, answer.removeprefix(self.profile.answer_prefix)

    def _label(self, row: Row, answer: Any) -> int:
        """0 or 1 of the row's label."""
        if isinstance(answer, float) and answer.is_integer():  # pandas writes 1.0 in a column with gaps, as text in CSV
            answer = int(answer)
        word = str(answer).strip()
        words = [[label.strip()] for label in self.labels or self.profile.labels]
        if self.labels is None and self.kind == "pairs":
            words = [[*words[0], "0", "false", "0.0"], [*words[1], "1", "true", "1.0"]]
        meant = [label for label in (0, 1) if word in words[label]]
        meant = meant or [label for label in (0, 1) if word.casefold() in [one.casefold() for one in words[label]]]
        if len(meant) != 1:
            different, same = (" or ".join(map(repr, names)) for names in words)
            raise UserError(
                f"{row.where}: the label is {answer!r:.60}, neither {different} (different) nor {same} (same); "
                "name the rows' words with --different-label and --same-label"
            )
        return meant[0]


def taken_apart(profile: Profile, prompt: str) -> tuple[str, str, str] | None:
    """(question, prefix_a, prefix_b) of a prompt that the profile's user template wrote; None if it did not."""
    head, slot_1, between, slot_2, between_2, slot_3, tail = profile.parts
    head, tail, prompt = head.lstrip(), tail.rstrip(), prompt.strip()
    if not (prompt.startswith(head) and prompt.endswith(tail) and len(prompt) >= len(head) + len(tail)):
        return None
    first, cut, rest = prompt[len(head) : len(prompt) - len(tail)].partition(between)
    second, cut_2, third = rest.partition(between_2)
    texts = dict(zip((slot_1, slot_2, slot_3), (first, second, third), strict=True))
    if not (cut and cut_2 and all(text.strip() for text in texts.values())):
        return None
    return tuple(texts[slot] for slot in SLOTS)
