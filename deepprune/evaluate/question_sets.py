"""Questions as simulated judges need them: answers and lengths, from files of answers or from Trace records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.base.records import Trace
from deepprune.data import traces
from deepprune.evaluate import methods, simulation
from deepprune.evaluate.methods import TraceSet


def read(paths: Sequence[str], problems: Sequence[str] = (), apart: bool = False) -> list[list[TraceSet]]:
    """The questions of all files together, or (apart) of each data set. Their prefixes are empty.

    paths: files of answers (simulation.read_answers), or with files of Problem records those of their Trace records; a
    data set is then a file's traces by one reasoner. Raises UserError as these, for a trace of a problem that is in
    none of the files, and for one that was pruned.
    """
    questions: dict[str, list[TraceSet]] = {}
    for question in _recorded(paths, problems) if problems else _answered(paths):
        questions.setdefault(question.dataset if apart else "", []).append(question)
    return list(questions.values())


def cut(questions: Sequence[TraceSet], prefix_tokens: int, scaled_to: float = 0) -> list[TraceSet]:
    """The first traces of each question, as many as all have, with prefixes of so many tokens (or the whole trace).

    scaled_to: the mean of all lengths in tokens, which are stretched or shrunk to it (0: they stay as they are).
    """
    fewest = min(len(q.labels) for q in questions)
    if max(len(q.labels) for q in questions) > fewest:
        print(f"{questions[0].dataset}: the first {fewest} traces of each problem are used")
    questions = [q.ordered(range(fewest)) for q in questions]
    factor = scaled_to / np.mean([q.lengths for q in questions]) if scaled_to else None
    result = []
    for question in questions:
        lengths = [max(1, round(length * factor)) for length in question.lengths] if factor else question.lengths
        prefixes = [min(length, prefix_tokens) for length in lengths]
        right = question.right if question.right in question.labels else None  # only a later trace was right
        result.append(dataclasses.replace(question, lengths=lengths, prefixes=prefixes, right=right))
    return result


def _answered(paths: Sequence[str]) -> Iterator[TraceSet]:
    for a in simulation.read_answers(*paths):
        yield TraceSet(a.problem_id, a.dataset, a.labels, a.right, a.lengths, [0] * len(a.lengths))


def _recorded(paths: Sequence[str], problems: Sequence[str]) -> Iterator[TraceSet]:
    by_id = records.read_problems(*problems)
    for path in paths:
        groups: dict[tuple[str, str], list[Trace]] = {}
        for trace in records.read(Trace, path):
            groups.setdefault((trace.model, trace.problem_id), []).append(trace)
        for (model, problem_id), group in groups.items():
            if problem_id not in by_id:
                raise UserError(f"{path}: problem {problem_id} is in no --problems file")
            traces.refuse_pruned(group, f"{path}: ")
            name = f"{Path(path).name.split('.jsonl')[0]}, {model}"
            yield dataclasses.replace(methods.trace_set(by_id[problem_id], group), dataset=name)
