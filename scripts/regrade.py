"""Read and grade stored traces again by today's rules, without generating anything.

    python scripts/regrade.py --problems DeepPrune_data/problems/words.jsonl \
        --traces DeepPrune_data/traces/qwen2.5-coder-0.5b-words.jsonl.gz
    python scripts/regrade.py --problems p.jsonl --traces t.jsonl --output t.regraded.jsonl

A trace keeps its text for ever; which answer it states and whether that is right follows from rules that get better.
This says what they change: answers found and lost, answers with another value, verdicts, and pass@1, unknown answers
and same-answer pairs before and after, by family, with examples. With --output it writes the traces with the new
answers (ids, texts and token counts stay); the input is never touched. Answers that an import took from the file's own
field (--answer-field, as the traces' manifest says) are not in the text: they are only graded again.
"""

import collections
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

from deepprune.base import config, manifest, progress, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.records import Problem, Trace
from deepprune.base.stage import command
from deepprune.data import answers, traces

ANSWERS = ("found", "lost", "another value", "another spelling")  # how an answer changes
VERDICTS = ("now right", "no longer right", "wrong or unknown")  # how `correct` changes


@dataclasses.dataclass
class RegradeSettings:
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    traces: str = setting(config.REQUIRED, "JSONL file of Trace records")
    output: str | None = setting(
        None, "JSONL file to write the traces to, graded again (default: only say what changes)"
    )
    answer_pattern: str | None = setting(
        None, "regular expression of the final answer in a text (default: that of the import, if it had one)"
    )
    examples: int = setting(3, "changes of each kind that are shown", at_least=0)
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(RegradeSettings, "regrade", __doc__)
    problems = records.read_problems(*settings.problems)
    origin = made_by(settings.traces)
    own_reading = origin.get("settings", {}).get("answer_field")
    if own_reading:
        print(f"the answers are those of field {own_reading!r} of the imported file: graded again, not read again")
        if settings.answer_pattern:
            raise UserError(
                f"{settings.traces}: its answers come from the field {own_reading!r}, which a pattern does not change"
            )
    pattern = settings.answer_pattern or origin.get("settings", {}).get("answer_pattern")
    changes = Changes(problems, settings.examples)
    rows = changes.watch(
        (trace, again(trace, problem_of(trace, problems, settings), pattern, own_reading))
        for trace in progress.bar(records.read(Trace, settings.traces), desc="grading", unit="trace")
    )
    if settings.output:
        reading = {"answer_pattern": pattern, "answer_field": own_reading}
        if Path(settings.output).exists() and not settings.overwrite:
            raise UserError(f"{settings.output} exists; delete it, choose another output, or pass --overwrite")
        record = Manifest.open(
            settings.output, "regrade", reading, [*settings.problems, settings.traces], overwrite=True
        )
        count = record.write(
            map(records.to_row, rows), lambda: {"changed": changes.to_manifest()}, traces_made_by=origin
        )
    else:
        count = sum(1 for _ in rows)
    if not count:
        raise UserError(f"{settings.traces}: no traces")
    changes.show()
    if settings.output:
        print(f"{settings.output}: {count} traces")


def made_by(path: str) -> dict:
    """The manifest of a file of traces ({} without one); of traces that were graded again, that of their making."""
    beside = manifest.manifest_path(path)
    if not beside.is_file():
        return {}
    data = json.loads(beside.read_text())
    return data.get("traces_made_by", data)


def problem_of(trace: Trace, problems: dict[str, Problem], settings: RegradeSettings) -> Problem:
    if trace.problem_id not in problems:
        raise UserError(f"{settings.traces}: problem {trace.problem_id} is in no --problems file")
    return problems[trace.problem_id]


def again(trace: Trace, problem: Problem, pattern: str | None = None, own_reading: str | None = None) -> Trace:
    """The trace with answer and verdict by today's rules. Of a trace that live pruning stopped both stay unknown."""
    if trace.pruned:
        return trace
    answer = trace.answer if own_reading else answers.extract(trace.text, problem.answer_type, pattern)
    return dataclasses.replace(trace, answer=answer, correct=answers.same(answer, problem.gold, problem.answer_type))


def kind_of_answer(before: str | None, after: str | None, answer_type: str) -> str | None:
    """One of ANSWERS; None: nothing changed."""
    if before == after:
        return None
    if before is None or after is None:
        return "found" if before is None else "lost"
    return "another spelling" if answers.same(before, after, answer_type) else "another value"


def kind_of_verdict(before: bool | None, after: bool | None) -> str | None:
    """One of VERDICTS; None: nothing changed."""
    if before is after:
        return None
    return "now right" if after else "no longer right" if before else "wrong or unknown"


def shown(share: float) -> str:
    return "n/a" if math.isnan(share) else f"{share:.3f}"


class Changes:
    """What grading again changed, by family."""

    def __init__(self, problems: dict[str, Problem], examples: int):
        self.problems, self.most = problems, examples
        self.counts: dict[str, collections.Counter] = {}
        self.examples: dict[str, list[str]] = {}
        self.tallies = traces.Tally(problems), traces.Tally(problems)  # before and after

    def watch(self, pairs: Iterator[tuple[Trace, Trace]]) -> Iterator[Trace]:
        """Count each (before, after), pass on what is after."""
        for before, after in pairs:
            problem = self.problems[before.problem_id]
            counts = self.counts.setdefault(problem.group, collections.Counter())
            for tally, trace in zip(self.tallies, (before, after), strict=True):
                tally.add(trace)
            answer = kind_of_answer(before.answer, after.answer, problem.answer_type)
            verdict = kind_of_verdict(before.correct, after.correct)
            counts.update(kind for kind in (answer, verdict) if kind)
            for kind in (answer, verdict):
                if kind not in (None, "wrong or unknown") and len(self.examples.setdefault(kind, [])) < self.most:
                    end = " ".join(before.text.split())[-80:]
                    self.examples[kind].append(
                        f"{before.trace_id}: {before.answer!r} -> {after.answer!r} (gold {problem.gold!r}), ... {end}"
                    )
            yield after

    def to_manifest(self) -> dict[str, int]:
        total = sum(self.counts.values(), collections.Counter())
        return {kind: total[kind] for kind in (*ANSWERS, *VERDICTS)}

    def show(self) -> None:
        """A row a family and one for all: what changed, and what a set of traces looks like before and after."""
        print(
            f"{'family':<22}{'traces':>8}"
            + "".join(f"{kind:>17}" for kind in (*ANSWERS, *VERDICTS))
            + f"{'pass@1':>18}{'unknown':>18}{'same pairs':>18}"
        )
        before, after = (tally.table() for tally in self.tallies)
        for name, old in before.items():
            counts, new = self.to_manifest() if name == "all" else self.counts[name], after[name]
            moved = "".join(
                f"{shown(old[key]) + ' -> ' + shown(new[key]):>18}"
                for key in ("pass@1", "unknown", "same_answer_pairs")
            )
            print(
                f"{name[:21]:<22}{old['traces']:>8}"
                + "".join(f"{counts[kind]:>17}" for kind in (*ANSWERS, *VERDICTS))
                + moved
            )
        for kind, lines in self.examples.items():
            if lines:
                print(f"{kind}:")
            for line in lines:
                print(f"  {line}")


if __name__ == "__main__":
    main()
