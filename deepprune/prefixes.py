"""What pruning needs of recorded traces: prefixes, lengths and answers, not the texts.

Traces are streamed, so that memory follows the prefixes: 30 problems x 512 traces of 16,000 tokens are over a
gigabyte of text, their prefixes a few dozen megabytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from deepprune import costs, progress, records
from deepprune.records import Trace
from deepprune.truncation import Truncation


@dataclasses.dataclass(slots=True)
class Prefixed:
    """A recorded trace without its text. prefix_tokens: in the reasoner's tokens."""

    trace_id: str
    problem_id: str
    model: str
    sample_index: int
    n_tokens: int
    answer: str | None
    correct: bool | None
    prefix: str
    prefix_tokens: int
    confidence: dict | None


def stream(
    paths: Iterable[str | Path], truncation: Truncation, tokenizer, keep: Callable[[Trace], bool] = lambda trace: True
) -> dict[str, list[Prefixed]]:
    """Prefixed traces by problem, each problem's in sample order. tokenizer: cuts and counts.

    Raises UserError naming file and line for bad records.
    """

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    groups: dict[str, list[Prefixed]] = {}
    for trace in progress.bar(records.read(Trace, *paths), desc="reading traces", unit="trace", leave=False):
        if not keep(trace):
            continue
        prefix = truncation.cut(trace.text, tokenizer)
        groups.setdefault(trace.problem_id, []).append(
            Prefixed(
                trace.trace_id, trace.problem_id, trace.model, trace.sample_index, trace.n_tokens, trace.answer,
                trace.correct, prefix, costs.prefix_tokens(trace, prefix, count), trace.confidence,
            )
        )  # fmt: skip
    for group in groups.values():
        group.sort(key=lambda t: (t.model, t.sample_index))
    return groups
