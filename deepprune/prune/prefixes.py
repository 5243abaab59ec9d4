"""What pruning needs of recorded traces: prefixes, lengths and answers, not the texts.

Traces are streamed, so that memory follows the prefixes: 30 problems x 512 traces of 16,000 tokens are over a
gigabyte of text, their prefixes a few dozen megabytes.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from deepprune.base import progress, records
from deepprune.base.errors import UserError
from deepprune.base.records import Trace
from deepprune.data import traces
from deepprune.data.truncation import Truncation
from deepprune.prune import costs


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
    pruned: bool
    whole: bool = False  # the prefix is the whole trace: a judge sees how it ends


def whole_line(traces: Iterable[tuple[bool, str | None]]) -> str:
    """One line on the traces that a judge reads whole, and on how many of these tell it their answer.

    traces: (whether its prefix is the whole trace, its answer) of each.
    """
    known = [(whole, answer is not None) for whole, answer in traces]
    whole, stated = sum(w for w, _ in known), sum(w and s for w, s in known)
    share = f" ({whole / len(known):.1%})" if known else ""
    return (
        f"traces that end before the cut: {whole} of {len(known)}{share}; the judge reads them whole, {stated} of them "
        "with their answer"
    )


def stream(
    paths: Iterable[str | Path], truncation: Truncation, tokenizer, keep: Callable[[Trace], bool] = lambda trace: True
) -> dict[str, list[Prefixed]]:
    """Prefixed traces by problem, each problem's in sample order. tokenizer: cuts and counts.

    Raises UserError naming file and line for bad records, and for traces without texts.
    """
    paths = list(paths)
    where = f"{', '.join(map(str, paths))}: "

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    groups: dict[str, list[Prefixed]] = {}
    for trace in progress.bar(records.read(Trace, *paths), desc="reading traces", unit="trace", leave=False):
        if not keep(trace):
            continue
        traces.refuse_answer_only(trace, where)
        prefix = truncation.cut(trace.text, tokenizer)
        groups.setdefault(trace.problem_id, []).append(
            Prefixed(
                trace.trace_id,
                trace.problem_id,
                trace.model,
                trace.sample_index,
                trace.n_tokens,
                trace.answer,
                trace.correct,
                prefix,
                costs.prefix_tokens(trace, prefix, count),
                trace.confidence,
                trace.pruned,
                prefix == trace.text and not trace.pruned,
            )
        )
    for group in groups.values():
        group.sort(key=lambda t: (t.model, t.sample_index))
    return groups


def arrival(group: list, n: int | None, order: str, seed: int, problem_id: str) -> list:
    """The traces of a problem that a run takes, in the order in which they arrive.

    group: traces in sample order; n: the first so many of them (None: all); order: recorded, or shuffled by `seed`.
    What prunes them and what it is compared with both ask here.
    """
    group = list(group[:n])
    if order == "shuffled":
        random.Random(f"{seed}/order/{problem_id}").shuffle(group)
    return group


def select(
    paths: list[str],
    truncation: Truncation,
    tokenizer,
    problems: Collection[str],
    reasoner: str | None = None,
    only: Collection[str] | None = None,
    pruned: bool = False,
) -> dict[str, list[Prefixed]]:
    """`stream`, of one reasoner's traces. problems: the ids that are known; only: those that are wanted (None: all).

    pruned: whether traces that live pruning stopped will do (their prefixes are whole, their answers are not known).
    Raises UserError if nothing is left, several reasoners are, a trace's problem is unknown, or a trace was pruned.
    """
    groups = stream(
        paths, truncation, tokenizer, lambda t: reasoner in (None, t.model) and (only is None or t.problem_id in only)
    )
    files = ", ".join(paths)
    if not groups:
        of = "" if only is None else " and of the given problems"
        raise UserError(f"{files}: no traces of {reasoner or 'any model'}{of}")
    reasoners = sorted({t.model for group in groups.values() for t in group})
    if len(reasoners) > 1:
        raise UserError(f"{files}: holds traces of {', '.join(reasoners)}: choose one with --reasoner")
    missing = [i for i in groups if i not in problems]
    if missing:
        raise UserError(f"{files}: problem {missing[0]} is in no --problems file")
    if not pruned:
        traces.refuse_pruned((t for group in groups.values() for t in group), f"{files}: ")
    return groups
