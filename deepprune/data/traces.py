"""Making Trace records from a sampler's output, and what a set of traces looks like."""

from __future__ import annotations

import collections
import math
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


def agreement(traces: Iterable[Trace], answer_type: str) -> tuple[int, int]:
    """(pairs with the same answer, all pairs) of one problem's traces; unknown answers are in no pair."""
    labels = [c for c in answers.classes([t.answer for t in traces], answer_type) if c is not None]
    same = sum(count * (count - 1) // 2 for count in collections.Counter(labels).values())
    return same, len(labels) * (len(labels) - 1) // 2


def by_problem(traces: Iterable[Trace]) -> dict[str, list[Trace]]:
    """Traces grouped by problem, each group in sample order."""
    groups: dict[str, list[Trace]] = {}
    for trace in traces:
        groups.setdefault(trace.problem_id, []).append(trace)
    for group in groups.values():
        group.sort(key=lambda t: (t.model, t.sample_index))
    return groups


def agreements(traces: Iterable[Trace], problems: dict[str, Problem]) -> dict[str, tuple[int, int]]:
    """`agreement` of each problem, by its id."""
    bar = progress.bar(by_problem(traces).items(), desc="comparing answers", unit="problem", leave=False)
    return {i: agreement(group, problems[i].answer_type) for i, group in bar}


def summary(
    traces: list[Trace], problems: dict[str, Problem], known: dict[str, tuple[int, int]] | None = None
) -> dict[str, float]:
    """Counts, pass@1 and the share of same-answer pairs (unknown answers excluded from pairs).

    pass@1 counts an unknown answer as wrong. The pair share is over all pairs of all problems pooled.
    known: `agreements` of these traces, where the caller has them.
    """
    known = agreements(traces, problems) if known is None else known
    problem_ids = {t.problem_id for t in traces}
    counts = [known[i] for i in problem_ids]
    same, pairs = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    n = len(traces)
    return {
        "problems": len(problem_ids),
        "traces": n,
        "pass@1": sum(t.correct is True for t in traces) / n if n else float("nan"),
        "unknown": sum(t.answer is None for t in traces) / n if n else float("nan"),
        "same_answer_pairs": same / pairs if pairs else float("nan"),
        "mean_tokens": sum(t.n_tokens for t in traces) / n if n else float("nan"),
    }


def print_summary(traces: list[Trace], problems: dict[str, Problem]) -> dict[str, dict[str, float]]:
    """Print `summary` per family and in all; returns the table."""
    families: dict[str, list[Trace]] = {}
    for trace in traces:
        problem = problems[trace.problem_id]
        families.setdefault(problem.group, []).append(trace)
    known = agreements(traces, problems)
    table = {name: summary(group, problems, known) for name, group in sorted(families.items())}
    table["all"] = summary(traces, problems, known)
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
