"""From traces to pairs of truncated traces: labels, sampling, oversampling, the split and its leak check."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Iterable, Sequence

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.questions import normalised_question, question_without_numbers, question_words
from deepprune.base.records import Pair, Problem, Trace, content_hash
from deepprune.data import answers
from deepprune.data.traces import refuse_answer_only
from deepprune.data.truncation import Truncation


@dataclasses.dataclass
class PairingSettings:
    """Of the scripts that make training and test pairs of traces."""

    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    traces: list[str] = setting(config.REQUIRED, "JSONL files of Trace records, split by problem into train and test")
    test_traces: list[str] = setting([], "trace files for the test side alone (an unseen model's, say)")
    tokenizer: str = setting(
        "Qwen/Qwen3-4B-Instruct-2507", "model whose tokenizer cuts and counts (the judge's backbone)"
    )
    cutoff: int = setting(
        8192, "longest judge prompt in tokens; longer training pairs are left out and counted", at_least=2
    )
    train_pairs_per_problem: int | None = setting(
        None, "sample so many pairs a training problem (default: all)", at_least=1
    )
    test_pairs_per_problem: int | None = setting(None, "sample so many pairs a test problem (default: all)", at_least=1)
    test_share: float = setting(0.25, "share of each family's problems on the test side", at_least=0, below=1)


def pair_id(trace_a: str, trace_b: str, truncation: dict) -> str:
    """Id of an ordered pair of truncated traces."""
    return content_hash("pair", trace_a, trace_b, truncation)


def build(
    traces: Sequence[Trace],
    problem: Problem,
    truncation: Truncation,
    per_problem: int | None,
    seed: int,
    tokenizer=None,
    balanced: bool = False,
    partial: bool = False,
) -> tuple[list[Pair], int]:
    """All C(n, 2) pairs of one problem's traces, or a seeded sample of `per_problem` of them.

    balanced: sample as many same as different pairs, as far as the problem has both.
    partial: only pairs of which both prefixes end before their traces.
    Returns (pairs, number of pairs dropped because an answer is unknown). Which trace comes first in a pair
    is drawn by the seed, so that position tells a judge nothing. Traces of different models are not paired.
    """
    labels = answers.classes([t.answer for t in traces], problem.answer_type)
    possible = [(i, j) for i, j in itertools.combinations(range(len(traces)), 2) if traces[i].model == traces[j].model]
    known = [(i, j) for i, j in possible if labels[i] is not None and labels[j] is not None]

    @functools.cache
    def prefix(index: int) -> str:
        refuse_answer_only(traces[index])
        return truncation.cut(traces[index].text, tokenizer)

    candidates = known
    if partial:
        candidates = [pair for pair in known if all(len(prefix(i)) < len(traces[i].text) for i in pair)]
    rng = random.Random(f"{seed}/{problem.problem_id}")
    settings = truncation.as_dict()
    result = []
    for i, j in _sample(candidates, labels, per_problem, balanced, rng):
        a, b = (i, j) if rng.random() < 0.5 else (j, i)
        result.append(
            Pair(
                pair_id(traces[a].trace_id, traces[b].trace_id, settings),
                problem.problem_id,
                traces[a].trace_id,
                traces[b].trace_id,
                prefix(a),
                prefix(b),
                settings,
                int(labels[a] == labels[b]),
                problem.question,
                traces[a].model,
                problem.group,
            )
        )
    return result, len(possible) - len(known)


def _sample(
    candidates: list[tuple[int, int]], labels: Sequence, most: int | None, balanced: bool, rng: random.Random
) -> list[tuple[int, int]]:
    """At most so many of the candidates, in their order; balanced: of both classes alike, as far as they go."""
    if most is None or len(candidates) <= most:
        return candidates
    if not balanced:
        return sorted(rng.sample(candidates, most))
    sides = [[pair for pair in candidates if (labels[pair[0]] == labels[pair[1]]) == same] for same in (False, True)]
    fewer, more = sorted(sides, key=len)
    half = min(most // 2, len(fewer))
    return sorted(rng.sample(fewer, half) + rng.sample(more, most - half))


def oversample(pairs: Sequence[Pair], factor: int) -> list[Pair]:
    """Repeat the minority class `factor` times in all (factor 2: each minority pair twice; 1: as it is)."""
    if factor < 1:
        raise UserError(f"oversampling factor should be at least 1, found {factor}")
    same = sum(pair.label for pair in pairs)
    minority = 0 if same * 2 >= len(pairs) else 1
    return [pair for pair in pairs for _ in range(factor if pair.label == minority else 1)]


def split(
    problems: Sequence[Problem],
    test_share: float,
    seed: int,
    tested: Iterable[Problem] = (),
    variants_together: bool = False,
) -> tuple[list[Problem], list[Problem]]:
    """Split by problem, the same share of each family: (train, test).

    Problems that ask the same question (normalised) stay together, so no text can be on both sides; with
    variants_together also those that differ in their numbers alone. tested: problems of the test side; what asks the
    same joins them there, and counts in the share.
    """
    if not 0.0 <= test_share < 1.0:
        raise UserError(f"test_share should lie in [0, 1), found {test_share}")
    key = question_without_numbers if variants_together else normalised_question
    on_test_side = {key(p.question) for p in tested}
    families: dict[str, dict[str, list[Problem]]] = {}
    owner: dict[str, str] = {}
    for problem in problems:
        question = key(problem.question)
        family = owner.setdefault(question, problem.group)
        families.setdefault(family, {}).setdefault(question, []).append(problem)
    train, test = [], []
    for family in sorted(families):
        questions = sorted(families[family], key=lambda q: (question_words(families[family][q][0].question), q))
        random.Random(f"{seed}/{family}").shuffle(questions)
        cut = round(len(questions) * test_share)
        questions.sort(key=lambda question: question not in on_test_side)
        for index, question in enumerate(questions):
            is_tested = index < cut or question in on_test_side
            (test if is_tested else train).extend(families[family][question])
    check_leak(train, test)
    return train, test


def check_leak(train: Iterable[Problem], test: Iterable[Problem]) -> None:
    """Raise UserError if a problem's text (normalised) is on both sides: the leak of the paper's first version."""
    seen = {normalised_question(p.question): p.problem_id for p in train}
    for problem in test:
        other = seen.get(normalised_question(problem.question))
        if other is not None:
            raise UserError(
                f"leak: problem {problem.problem_id} of the test side asks the same as {other} of the training side "
                f"({problem.question[:60]!r}...); remove it from one side"
            )


def scoring_order(pairs: Iterable[Pair]) -> list[Pair]:
    """Pairs that share a problem and a first trace side by side: their prompts share a cached prefix."""
    return sorted(pairs, key=lambda p: (p.problem_id, p.trace_a, p.pair_id))
