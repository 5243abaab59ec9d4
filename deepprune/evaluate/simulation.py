"""Simulated judges of a chosen quality, and what methods cost from answers and lengths alone (no texts needed).

The paper's scale (hundreds of traces of 15,000 tokens) cannot be generated on a laptop, but answers and token
counts can be had, and they are all that voting, stopping and clustering with a *simulated* judge depend on.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepprune.base import jsonl
from deepprune.base.errors import UserError
from deepprune.data import answers
from deepprune.judges.calibration import LARGEST_GAP, Calibration, Noise
from deepprune.prune import clustering, finishing


@dataclasses.dataclass
class AnswerSet:
    """One problem's traces without texts: gold answer, answers (None: unknown) and lengths in tokens."""

    problem_id: str
    dataset: str
    gold: str
    answers: list[str | None]
    lengths: list[int]
    labels: list[int | None] = dataclasses.field(default_factory=list)  # answer classes
    right: int | None = None  # the class of the gold answer; None: no trace is right

    def __post_init__(self) -> None:
        self.labels = answers.classes(self.answers, "math")
        grades = [answers.same(answer, self.gold, "math") for answer in self.answers]
        self.right = answers.right_class(self.labels, grades)


def read_answers(*paths: str | Path) -> list[AnswerSet]:
    """Answer sets from JSONL rows of problem_id, dataset, gold, answer (null: unknown) and n_tokens, one a trace.

    Raises UserError naming file and line for a missing or mistyped field, a problem with two golds, and a sample_id
    that stands twice (where rows have one): the trace would vote twice.
    """
    groups: dict[tuple[str, str], AnswerSet] = {}
    rows: dict[tuple[str, str], dict] = {}
    samples: dict[tuple, str] = {}
    for path in paths:
        for number, row in jsonl.read(path):
            where = f"{path}:{number}"
            for field, kinds in (("problem_id", str), ("dataset", str), ("gold", str), ("n_tokens", int)):
                value = row.get(field)
                if not isinstance(value, kinds) or isinstance(value, bool) or not str(value).strip():
                    raise UserError(f"{where}: needs the field {field!r} ({kinds.__name__}), found {value!r}")
            if row["n_tokens"] < 1:
                raise UserError(f"{where}: n_tokens must be at least 1, found {row['n_tokens']}")
            if row.get("sample_id") is not None:
                sample = (row["dataset"], row["problem_id"], str(row.get("model")), str(row["sample_id"]))
                first = samples.setdefault(sample, where)
                if first != where:
                    raise UserError(
                        f"{where}: the sample {row['sample_id']!r} stands at {first} too; remove one of them"
                    )
            answer = row.get("answer")
            if answer is not None and not isinstance(answer, str):
                raise UserError(f"{where}: answer should be text or null, found {answer!r}")
            entry = rows.setdefault(
                (row["dataset"], row["problem_id"]), {"gold": row["gold"], "answers": [], "lengths": []}
            )
            if row["gold"] != entry["gold"] and answers.same(row["gold"], entry["gold"]) is not True:
                raise UserError(
                    f"{where}: the gold is {row['gold']!r} here and {entry['gold']!r} before; mend one of them"
                )
            entry["answers"].append(answer if answer and answer.strip() else None)
            entry["lengths"].append(row["n_tokens"])
    if not rows:
        raise UserError(f"{', '.join(map(str, paths))}: no traces")
    for (dataset, problem_id), entry in rows.items():
        groups[dataset, problem_id] = AnswerSet(problem_id, dataset, **entry)
    return list(groups.values())


def simulated_scores(
    labels: Sequence[int | None], auroc: float, seed: int, key: str, shared: float = 0.0, question: float = 0.0
) -> np.ndarray:
    """p_same of every ordered pair of n traces, (n, n) float64, from a judge with the given AUROC.

    Each unordered pair has a log-likelihood ratio drawn from a normal distribution of unit variance, d apart for
    same and different answers, d = sqrt(2) Phi^-1(AUROC); p_same = sigmoid(d x) is calibrated for equally many
    of both. An unknown answer is the same as nothing. shared in [0, 1): share of the noise's variance that comes
    from the two traces (a trace that misleads does so in all its pairs) instead of from the pair; question: the share
    that all pairs have in common. auroc 1.0 is the oracle: exactly 1 and 0. Raises UserError for an AUROC outside
    [0.5, 1].
    """
    if not 0.5 <= auroc <= 1.0 or min(shared, question) < 0.0 or shared + question >= 1.0:
        values = f"{auroc}, {shared} and {question}"
        raise UserError(f"auroc should lie in [0.5, 1], shared and question in [0, 1) together, found {values}")
    n = len(labels)
    known = np.asarray([-1 - i if x is None else x for i, x in enumerate(labels)])
    same = known[:, None] == known[None, :]
    if auroc == 1.0:
        return same.astype(np.float64)
    from scipy.special import expit, ndtri

    rng = np.random.default_rng(random.Random(f"{seed}/{key}").getrandbits(64))
    pair = np.triu(rng.standard_normal((n, n)), 1)
    trace = rng.standard_normal(n)
    noise = np.sqrt(1.0 - shared - question) * (pair + pair.T) + np.sqrt(shared / 2.0) * (trace[:, None] + trace)
    noise += np.sqrt(question) * rng.standard_normal()
    distance = float(np.sqrt(2.0) * ndtri(auroc))
    return expit(distance * (np.where(same, 0.5, -0.5) * distance + noise))


def simulated_calibration(auroc: float, shared: float = 0.0, question: float = 0.0) -> Calibration:
    """What `simulated_scores` of this judge are worth: they are calibrated, and their noise is known."""
    from scipy.special import ndtri

    if auroc == 1.0:
        return Calibration(noise=Noise(LARGEST_GAP))
    return Calibration(noise=Noise(2.0 * float(ndtri(auroc)) ** 2, shared, question))


@dataclasses.dataclass
class Clustered:
    """Greedy clustering from a table of scores: each trace's cluster (-1: dropped) and the pairs asked about.

    asked[i]: members that trace i was compared with, in the order of asking.
    """

    placed: list[int]
    asked: list[list[int]]


def cluster(
    scores: np.ndarray | Sequence[Sequence[float]], settings: clustering.ClusterSettings, key: str
) -> Clustered:
    """`clustering.greedy` on a table of scores; scores[member][new]."""
    table = scores.tolist() if isinstance(scores, np.ndarray) else scores
    clusters, asked = clustering.on_table(clustering.greedy(len(table), settings, key), table)
    return Clustered(finishing.placed_of(clusters, len(table)), asked)
