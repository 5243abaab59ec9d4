"""Tables of the judge study: pairs and several judges' scores side by side, with intervals. The notebooks' side.

frame = study.frame("pairs.jsonl.gz", {"Sentence-BERT": "scores_sbert.jsonl.gz", "trained": "scores.jsonl.gz"})
study.table(frame, by="reasoner")
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from deepprune.base import config, jsonl, metrics, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.records import Pair, Problem, Trace
from deepprune.data import answers, traces
from deepprune.data import pairs as pairing
from deepprune.evaluate import tables
from deepprune.judges import scoring
from deepprune.prune import voting

METRICS = {"auroc": "AUROC", "within_problem_auroc": "AUROC within problems", "tnr_at_0.2_fnr": "TNR@0.2"}
ABOUT = ("pair_id", "problem_id", "family", "reasoner", "label", "cut", "source", "whole", "characters", "share")


@dataclasses.dataclass
class TableSettings:
    """Of the scripts that set judges side by side."""

    pairs: str = setting(config.REQUIRED, "JSONL file of Pair records (stage 02)")
    scores: list[str] = setting(config.REQUIRED, "files of scores of exactly these pairs (stage 04), as NAME=FILE")
    output: str = setting(config.REQUIRED, "path without ending of the files to write")
    resamples: int = config.resamples()
    seed: int = config.seed("seed of the bootstrap")


def frame(pairs: str | Path, scores: Mapping[str, str | Path]) -> pd.DataFrame:
    """One row a pair: pair_id, problem_id, family, reasoner, label, cut (as words:25), and p_same of each judge.

    scores: the judge's name in tables -> its scores file. Raises UserError if a file does not score exactly
    these pairs.
    """
    pairs_read = list(records.read(Pair, pairs))
    if not pairs_read:
        raise UserError(f"{pairs}: no pairs")
    data = {
        "pair_id": [p.pair_id for p in pairs_read],
        "problem_id": [p.problem_id for p in pairs_read],
        "family": [p.family for p in pairs_read],
        "reasoner": [p.model for p in pairs_read],
        "label": [p.label for p in pairs_read],
        "cut": ["{strategy}:{k}".format(**p.truncation) for p in pairs_read],
    }
    for name, path in scores.items():
        by_id = next(iter(scoring.load([path], pairs_read).values()))
        data[name] = [by_id[p.pair_id].p_same for p in pairs_read]
    return pd.DataFrame(data)


def how_much_is_seen(pairs: str | Path, trace_files: Mapping[str, str | Path]) -> pd.DataFrame:
    """One row a pair, in the file's order: what of its two traces the prefixes hold.

    source: the name under which the file of its traces is given; whole: how many of the two prefixes are whole traces;
    characters: of a prefix, and share of its trace, the mean of both. Raises UserError for a trace that no file has.
    """
    lengths: dict[str, tuple[str, int]] = {}
    for source, file in trace_files.items():
        lengths |= {t.trace_id: (source, len(t.text)) for t in records.read(Trace, file)}
    rows = []
    for pair in records.read(Pair, pairs):
        missing = [t for t in (pair.trace_a, pair.trace_b) if t not in lengths]
        if missing:
            raise UserError(f"{pairs}: trace {missing[0]} is in no --traces file")
        cut = [len(pair.prefix_a), len(pair.prefix_b)]
        full = [lengths[t][1] for t in (pair.trace_a, pair.trace_b)]
        rows.append(
            {
                "source": lengths[pair.trace_a][0],
                "whole": sum(c >= f for c, f in zip(cut, full, strict=True)),
                "characters": sum(cut) / 2,
                "share": sum(c / max(f, 1) for c, f in zip(cut, full, strict=True)) / 2,
            }
        )
    return pd.DataFrame(rows)


def by_prefix(data: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """How early can one tell? `table` for each source and all, at each cut, on partial pairs alone and on all pairs.

    data: `frame` with the columns of `how_much_is_seen`. Further columns: source, cut, seen ("partial", no prefix is a
    whole trace; or "all"), characters and share (medians). Shortest prefixes first, last all cuts together.
    """
    cuts = [*data.groupby("cut")["characters"].median().sort_values().index, "all"]
    parts = []
    for source, of_source in [("all", data), *data.groupby("source", sort=False)]:
        for cut in cuts:
            at_cut = of_source[of_source["cut"].eq(cut) | (cut == "all")]
            for seen, pairs in (("partial", at_cut[at_cut["whole"] == 0]), ("all", at_cut)):
                if len(pairs):
                    lengths = {name: pairs[name].median() for name in ("characters", "share")}
                    about = {"source": source, "cut": cut, "seen": seen} | lengths
                    numbers = table(pairs, None, resamples, seed).drop(columns="group")
                    parts.append(pd.DataFrame([about] * len(numbers)).join(numbers))
    return pd.concat(parts, ignore_index=True)


def judges_of(data: pd.DataFrame) -> list[str]:
    """The judges' columns of a `frame`."""
    return [c for c in data.columns if c not in ABOUT]


def table(data: pd.DataFrame, by: str | None = None, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Each judge's metrics with 95 % intervals over problems, on all rows or on each group of column `by`.

    Columns: group, judge, pairs, problems, same (share), then per metric of METRICS: the value, "... low" and
    "... high". Values are nan where a group has one class only.
    """
    groups = [("all", data)] if by is None else list(data.groupby(by, sort=True))
    rows = []
    for group, pairs in groups:
        for judge in judges_of(data):
            numbers = metrics.judge_table(
                pairs["label"].to_list(), pairs[judge].to_list(), pairs["problem_id"].to_list(), resamples, seed
            )
            row = {
                "group": group,
                "judge": judge,
                "pairs": len(pairs),
                "problems": pairs["problem_id"].nunique(),
                "same": pairs["label"].mean(),
            }
            for key, title in METRICS.items():
                row |= {
                    title: numbers[key]["value"],
                    f"{title} low": numbers[key]["low"],
                    f"{title} high": numbers[key]["high"],
                }
            rows.append(row)
    return pd.DataFrame(rows)


def readable(numbers: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """A table with every 'X', 'X low', 'X high' written as one cell: value [low, high]."""
    shown = numbers.copy()
    for title in [c for c in numbers.columns if f"{c} low" in numbers.columns]:
        shown[title] = [tables.interval(row, title, f".{digits}f") for _, row in numbers.iterrows()]
        shown = shown.drop(columns=[f"{title} low", f"{title} high"])
    return shown


def difference(
    data: pd.DataFrame,
    first: str,
    second: str,
    statistic: Callable = metrics.auroc,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(value, low, high) of statistic(first) - statistic(second) on the same resampled problems (paired)."""
    y, a, b = (data[c].to_numpy() for c in ("label", first, second))
    return metrics.bootstrap(
        data["problem_id"].to_list(), lambda r: statistic(y[r], a[r]) - statistic(y[r], b[r]), resamples, seed
    )


def agreement(problems: Mapping[str, Problem], recorded: Sequence[Trace]) -> pd.DataFrame:
    """One row a problem and reasoner: traces, pass@1, unknown (share), pairs, same (share of same-answer pairs)."""
    traces.refuse_pruned(recorded)
    rows = []
    groups: dict[tuple[str, str], list[Trace]] = {}
    for trace in recorded:
        groups.setdefault((trace.model, trace.problem_id), []).append(trace)
    for (model, problem_id), group in groups.items():
        problem = problems[problem_id]
        same, pairs = traces.agreement([t.answer for t in group], problem.answer_type)
        rows.append(
            {
                "reasoner": model,
                "problem_id": problem_id,
                "family": problem.group,
                "traces": len(group),
                "pass@1": sum(t.correct is True for t in group) / len(group),
                "unknown": sum(t.answer is None for t in group) / len(group),
                "pairs": pairs,
                "same": same / pairs if pairs else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def against_k(
    problems: Mapping[str, Problem], recorded: Sequence[Trace], ks: Sequence[int] | None = None
) -> pd.DataFrame:
    """One row a problem and k: pass@k, cons@k, distinct (expected number of different answers).

    Exact, over all choices of k traces. recorded: one reasoner's traces. ks: default 1, 2, 4, ... and the number of
    traces. A k above a problem's number of traces has no row.
    """
    rows = []
    for problem_id, labels, right in _labelled(problems, recorded):
        n, counts = len(labels), [labels.count(c) for c in sorted(set(labels) - {None})]
        unknown = labels.count(None)
        for k in ks or sorted({2**i for i in range(n.bit_length())} | {n}):
            if k <= n:
                correct = 0 if right is None else counts[right]
                rows.append(
                    {
                        "problem_id": problem_id,
                        "family": problems[problem_id].group,
                        "k": k,
                        "pass@k": metrics.pass_at_k(n, correct, k),
                        "cons@k": metrics.cons_at_k(counts, right, unknown, k),
                        "distinct": metrics.distinct_at_k(counts, unknown, k),
                    }
                )
    return pd.DataFrame(rows)


def settling(
    problems: Mapping[str, Problem], recorded: Sequence[Trace], orders: int = 100, seed: int = 0
) -> pd.DataFrame:
    """One row a problem: traces, right (is the majority right?), and after how many traces the vote settles.

    Quantiles (low 0.1, median, high 0.9) over random orders of the traces: `voting.settles_at`.
    """
    rows = []
    for problem_id, labels, right in _labelled(problems, recorded):
        rng = np.random.default_rng([seed, len(rows)])
        at = [voting.settles_at([labels[i] for i in rng.permutation(len(labels))]) for _ in range(orders)]
        low, median, high = np.quantile(at, [0.1, 0.5, 0.9])
        rows.append(
            {
                "problem_id": problem_id,
                "family": problems[problem_id].group,
                "traces": len(labels),
                "right": right is not None and voting.vote(labels) == right,
                "low": low,
                "median": median,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def _labelled(problems: Mapping[str, Problem], recorded: Sequence[Trace]):
    """(problem id, answer classes of its traces, the right class or None) of each problem."""
    traces.refuse_pruned(recorded)
    groups: dict[str, list[Trace]] = {}
    for trace in recorded:
        groups.setdefault(trace.problem_id, []).append(trace)
    for problem_id, group in groups.items():
        labels = answers.classes([t.answer for t in group], problems[problem_id].answer_type)
        yield problem_id, labels, answers.right_class(labels, [t.correct for t in group])


def mean_interval(data: pd.DataFrame, column: str, resamples: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high) of a column over rows that are one problem each (nan rows left out)."""
    values = data[column].dropna().to_numpy()
    return metrics.bootstrap(range(len(values)), lambda r: float(values[r].mean()), resamples, seed)


def cross_fitted_temperature(data: pd.DataFrame, judge: str) -> tuple[pd.Series, list[float]]:
    """p_same after temperature scaling, each half of the problems with the temperature fitted on the other half."""
    problems = sorted(data["problem_id"].unique())
    half = data["problem_id"].isin(problems[::2]).to_numpy()
    mended, fitted = data[judge].astype(float).copy(), []
    for rows in (half, ~half):
        other = data[~rows]
        fitted.append(metrics.fit_temperature(other["label"].to_numpy(), other[judge].to_numpy()))
        mended[rows] = metrics.with_temperature(data.loc[rows, judge].to_numpy(), fitted[-1])
    return mended, fitted


def worst_errors(pairs: str | Path, data: pd.DataFrame, judge: str, count: int = 20) -> list[tuple[Pair, float]]:
    """The pairs on which the judge is most surely wrong, with its p_same; worst first, at most two a problem."""
    by_id = {p.pair_id: p for p in records.read(Pair, pairs)}
    rows = data.assign(error=(data[judge] - data["label"]).abs()).sort_values(
        ["error", "pair_id"], ascending=[False, True]
    )
    rows = rows[rows["error"] > 0.5]
    rows = rows[rows.groupby("problem_id").cumcount() < 2]
    return [(by_id[i], p) for i, p in zip(rows["pair_id"][:count], rows[judge][:count], strict=True)]


def training_rows(folder: str | Path) -> list[dict]:
    """The rows of a study's training file (with pair_id, problem_id, label)."""
    return [row for _, row in jsonl.read(find(folder, "train"))]


def check_leak(problems: Mapping[str, Problem], train_ids: Sequence[str], data: pd.DataFrame) -> int:
    """Raise UserError if a training problem's text is among the tested ones; returns the number compared."""
    train = [problems[i] for i in dict.fromkeys(train_ids)]
    test = [problems[i] for i in data["problem_id"].unique()]
    pairing.check_leak(train, test)
    return len(train) * len(test)


def find(folder: str | Path, name: str) -> Path:
    """folder/name.jsonl.gz or folder/name.jsonl. Raises UserError that says how to make it."""
    for path in (Path(folder) / f"{name}.jsonl.gz", Path(folder) / f"{name}.jsonl"):
        if path.is_file():
            return path
    raise UserError(f"{Path(folder) / name}.jsonl(.gz): no such file; scripts/run_study.sh writes results/study/")


def scored(folder: str | Path, judges: Mapping[str, str]) -> pd.DataFrame:
    """`frame` of a study's folder: its pairs file, and scores_NAME of each judge (title -> NAME)."""
    return frame(find(folder, "pairs"), {title: find(folder, f"scores_{name}") for title, name in judges.items()})
