"""Making Trace records from a sampler's output, and what a set of traces looks like."""

from __future__ import annotations

import collections
import math
import sys
from collections.abc import Iterable
from typing import Any

from deepprune.base import console, progress
from deepprune.base.errors import UserError
from deepprune.base.records import Problem, Trace, content_hash
from deepprune.data import answers
from deepprune.data.sampling import NEUTRAL


def make(
    problem: Problem,
    model: str,
    sample_index: int,
    text: str,
    n_tokens: int,
    finish_reason: str,
    sampling: dict[str, Any],
    confidence: dict | None = None,
) -> Trace:
    """A graded Trace whose answer is the one that its text states (None: unknown)."""
    answer = answers.extract(text, problem.answer_type)
    return graded(problem, answer, model, sample_index, text, n_tokens, finish_reason, sampling, confidence)


def graded(
    problem: Problem,
    answer: str | None,
    model: str,
    sample_index: int,
    text: str,
    n_tokens: int,
    finish_reason: str,
    sampling: dict[str, Any],
    confidence: dict | None = None,
) -> Trace:
    """A Trace with this answer and its correctness by equivalence with the gold answer.

    The id depends on problem, model, sample index and the sampling settings (not on the engine's seed, which
    changes when a run resumes, nor on parameters that change nothing). An unknown answer is counted as not correct
    only by whoever averages: here it stays None.
    """
    identity = {k: v for k, v in sampling.items() if k != "engine_seed" and (k, v) not in NEUTRAL.items()}
    return Trace(
        content_hash("trace", problem.problem_id, model, sample_index, identity),
        problem.problem_id,
        model,
        sample_index,
        text,
        n_tokens,
        finish_reason,
        answer,
        answers.same(answer, problem.gold, problem.answer_type),
        sampling,
        confidence,
    )


def refuse_answer_only(trace: Trace, where: str = "") -> None:
    """Raise UserError if only answer and length of a trace are known: it has no prefix to show to a judge."""
    if trace.answer_only:
        raise UserError(
            f"{where}trace {trace.trace_id} was imported without its text, so that there is nothing to cut and to "
            "judge; Online/simulate_paper_scale.py prunes answers and lengths with simulated judges"
        )


def refuse_pruned(traces: Iterable[Any], where: str = "") -> None:
    """Raise UserError if live pruning stopped any of the traces, with or without texts: their answers are not known."""
    stopped = sum(t.pruned for t in traces)
    if stopped:
        raise UserError(
            f"{where}{stopped} traces were stopped by live pruning; their answers are not known: give whole traces"
        )


def by_problem(traces: Iterable[Trace]) -> dict[str, list[Trace]]:
    """Traces grouped by problem, each group in sample order."""
    groups: dict[str, list[Trace]] = {}
    for trace in traces:
        groups.setdefault(trace.problem_id, []).append(trace)
    for group in groups.values():
        group.sort(key=lambda t: (t.model, t.sample_index))
    return groups


def agreement(stated: Iterable[str | None], answer_type: str) -> tuple[int, int]:
    """(pairs with the same answer, all pairs) of the answers to one problem; unknown answers are in no pair."""
    labels = [label for label in answers.classes(list(stated), answer_type) if label is not None]
    same = sum(count * (count - 1) // 2 for count in collections.Counter(labels).values())
    return same, len(labels) * (len(labels) - 1) // 2


class Tally:
    """What a set of traces looks like by family, counted one trace at a time: only their answers are held."""

    def __init__(self, problems: dict[str, Problem], traces: Iterable[Trace] = ()):
        self.problems = problems
        self.counts: dict[str, collections.Counter] = {}  # by family
        self.stated: dict[str, list[str | None]] = {}  # by problem
        for trace in traces:
            self.add(trace)

    def add(self, trace: Trace) -> None:
        counts = self.counts.setdefault(self.problems[trace.problem_id].group, collections.Counter())
        counts.update(traces=1, right=trace.correct is True, unknown=trace.answer is None, tokens=trace.n_tokens)
        answer = None if trace.answer is None else sys.intern(trace.answer)
        self.stated.setdefault(trace.problem_id, []).append(answer)

    def table(self) -> dict[str, dict[str, float]]:
        """A row a family, by name, and "all": counts, pass@1, and the share of same-answer pairs.

        pass@1 counts an unknown answer as wrong. The pair share is over all pairs of all problems pooled; unknown
        answers are in no pair. NaN where there is nothing to divide by.
        """
        counts = {name: collections.Counter(self.counts[name]) for name in sorted(self.counts)}
        for problem_id, stated in progress.bar(
            self.stated.items(), desc="comparing answers", unit="problem", leave=False
        ):
            problem = self.problems[problem_id]
            same, pairs = agreement(stated, problem.answer_type)
            counts[problem.group].update(problems=1, same=same, pairs=pairs)
        counts["all"] = sum(counts.values(), collections.Counter())
        return {name: _row(numbers) for name, numbers in counts.items()}

    def show(self) -> dict[str, dict[str, float]]:
        """Print the table; returns it."""
        table = self.table()
        console.detail(
            f"{'family':<22}{'problems':>9}{'traces':>8}{'pass@1':>8}{'unknown':>9}{'same pairs':>12}{'tokens':>9}"
        )
        for name, row in table.items():
            same = "n/a" if math.isnan(row["same_answer_pairs"]) else f"{row['same_answer_pairs']:.3f}"
            console.detail(
                f"{name[:21]:<22}{row['problems']:>9}{row['traces']:>8}{row['pass@1']:>8.3f}{row['unknown']:>9.3f}"
                f"{same:>12}{row['mean_tokens']:>9.1f}"
            )
        row = table["all"]
        console.brief(
            f"pass@1 {row['pass@1']:.3f}, without an answer {row['unknown']:.3f}, "
            f"mean length {row['mean_tokens']:.0f} tokens"
        )
        return table


def _row(counts: collections.Counter) -> dict[str, float]:
    def share(what: str, of: str = "traces") -> float:
        return counts[what] / counts[of] if counts[of] else float("nan")

    return {
        "problems": counts["problems"],
        "traces": counts["traces"],
        "pass@1": share("right"),
        "unknown": share("unknown"),
        "same_answer_pairs": share("same", "pairs"),
        "mean_tokens": share("tokens"),
    }


def summary(traces: Iterable[Trace], problems: dict[str, Problem]) -> dict[str, float]:
    """The row of all traces in `Tally.table`."""
    return Tally(problems, traces).table()["all"]
