"""Every way to vote, on the same questions: pruning by any judge and finish rule, and the baselines.

A question is answers, lengths and prefix lengths; a judge is a table of scores. So recorded traces with a real
judge's stored scores, and answers alone with a simulated judge, go through the same code.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from deepprune.base import config, metrics, registry
from deepprune.base.config import like, setting
from deepprune.base.records import Problem, Trace
from deepprune.data import answers
from deepprune.evaluate import baselines, simulation
from deepprune.judges import prompts
from deepprune.prune import clustering, costs, finishing
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.prefixes import Prefixed

# What is known of a method for one question (averages over orders of the traces):
#   accuracy; tokens: the reasoner's; sequential: the longest chain of dependent generation; judge_calls, judge_prompt,
#   judge_cached: the judge's prompts, their tokens, and those that a perfect prefix cache saves (costs.judge_tokens);
#   total: the reasoner's tokens and the judge's computed ones weighted by parameters (None: the judge's size is not
#   known); total_uncached: the same without a cache;
#   coverage: a right answer is among the finished traces; represented: ... or among the clusters' first traces;
#   diversity: share of the distinct answers of all n traces that are among the finished ones, diversity_represented
#   likewise; opened, finished: traces started, and generated to the end.
FIELDS = ("accuracy", "tokens", "sequential", "judge_calls", "judge_prompt", "judge_cached", "total", "total_uncached",
          "coverage", "represented", "diversity", "diversity_represented", "opened", "finished", "clusters")  # fmt: skip
KEYS = ("method", "judge", "tau", "K", "K1", "K2", "comparisons")


COMPARISONS = tuple(asked + assign for asked in clustering.ASKS for assign in ("", "/best", "/first", "/largest"))


@dataclasses.dataclass
class Question:
    """One problem's n traces, in recorded order.

    labels: answer classes (None: unknown); right: the right answer's class (None: no trace is right); lengths,
    prefixes: reasoner tokens of whole traces and of their prefixes; confidences: Trace.confidence of each (or empty).
    """

    problem_id: str
    dataset: str
    labels: list[int | None]
    right: int | None
    lengths: list[int]
    prefixes: list[int]
    confidences: list[dict] = dataclasses.field(default_factory=list)


def question(problem: Problem, traces: Sequence[Trace | Prefixed], prefixes: Sequence[int] = ()) -> Question:
    """A problem's recorded traces as the comparison needs them. prefixes: the reasoner's tokens of each prefix, for pruning."""
    labels = answers.classes([t.answer for t in traces], problem.answer_type)
    right = answers.right_class(labels, [t.correct for t in traces])
    confidences = [t.confidence for t in traces] if all(t.confidence for t in traces) else []
    lengths = [t.n_tokens for t in traces]
    return Question(
        problem.problem_id, problem.dataset, labels, right, lengths, list(prefixes) or [0] * len(traces), confidences
    )


@dataclasses.dataclass
class Judged:
    """A judge's scores of one question's traces: p_same[i][j], for any order of i and j.

    ratio: judge / reasoner parameters (None: not known). prefixes: judge tokens of each prefix, frame: of the rest of its
    prompt; stored[i][j]: tokens of a scored pair's whole prompt, where they are known.
    per_trace: the judge reads each trace once (an encoder) and not each pair.
    """

    scores: np.ndarray
    ratio: float | None = 0.0
    prefixes: Sequence[int] = ()
    frame: prompts.Frame = prompts.Frame()  # noqa: RUF009 - frozen
    per_trace: bool = False
    stored: np.ndarray | None = None

    def weighted(self, reasoner_parameters: float) -> Judged:
        """The same with a ratio, from one whose `ratio` holds the judge's parameters."""
        return dataclasses.replace(self, ratio=None if self.ratio is None else self.ratio / reasoner_parameters)


@dataclasses.dataclass
class Grid:
    """What is tried: every combination of taus, ks, k1s, k2s, comparisons and rules, with every judge.

    The settings that the scripts of Online/ share.
    """

    taus: list[float] = like(
        ClusterSettings, "tau", [0.5], "values of tau (a trace joins the most similar cluster above it)"
    )
    ks: list[int] = like(ClusterSettings, "k", [32], "values of K (most clusters)")
    k1s: list[int] = like(ClusterSettings, "k1", [1, 10], "values of K1 (most members of a cluster compared)")
    k2s: list[int] = like(FinishSettings, "k2", [20], "values of K2 (most traces finished)")
    k3: int = like(FinishSettings, "k3")
    comparisons: list[str] = setting(
        ["all", "needed", "likely/largest"],
        "all: every sampled member is compared; needed: only as far as decides (the same clusters); likely: as far as likely "
        "decides. With /largest (or /first) a trace joins not the best but the largest (first) cluster above tau",
        choices=COMPARISONS,
    )
    overflow: str = like(ClusterSettings, "overflow")
    rules: list[str] = like(FinishSettings, "rule", list(finishing.RULES), "finish rules")
    threshold: float = like(
        FinishSettings, "threshold", help="of Adaptive-Consistency, and of the adaptive and staged finish rules"
    )
    trust: float = like(FinishSettings, "trust")
    finish_batch: int = like(FinishSettings, "batch")
    start: int = like(FinishSettings, "start")
    window: int = setting(8, "ESC's window", at_least=1)
    warmup: int = setting(16, "DeepConf's warm-up traces", at_least=1)
    orders: int = setting(20, "random orders of the traces that are averaged over (1: the recorded order)", at_least=1)
    resamples: int = setting(1000, "bootstrap resamples over problems", free=True, at_least=1)
    seed: int = config.seed("seed of orders, simulated scores, clustering and bootstrap")

    def order(self, question: Question, number: int) -> list[int]:
        """The number-th order of a question's traces."""
        n = len(question.labels)
        if self.orders == 1:
            return list(range(n))
        return random.Random(f"{self.seed}/order/{question.dataset}/{question.problem_id}/{number}").sample(range(n), n)


def compare(question: Question, grid: Grid, judges) -> dict:
    """All methods on one question.

    judges(number): judge name -> Judged, for the number-th order, with tables in *recorded* order (a simulated judge
    draws anew for each). Returns a JSON row: cons@m, pass@m and the expected longest of m traces for every m (exact),
    and a list of methods with KEYS and FIELDS.
    """
    n = len(question.labels)
    counts = np.bincount([x for x in question.labels if x is not None], minlength=1).tolist()
    right = 0 if question.right is None else counts[question.right]
    unknown = n - sum(counts)
    lengths = sorted(question.lengths)
    sums: dict[tuple, np.ndarray] = {}
    for number in range(grid.orders):
        order = grid.order(question, number)
        view = dataclasses.replace(
            question,
            **{f: [getattr(question, f)[i] for i in order] for f in ("labels", "lengths", "prefixes")},
            confidences=[question.confidences[i] for i in order] if question.confidences else [],
        )
        for key, values in _one_order(view, order, grid, judges(number), number):
            sums[key] = sums.get(key, 0.0) + np.asarray(values, dtype=np.float64)
    return {
        "problem_id": question.problem_id,
        "dataset": question.dataset,
        "n": n,
        "length": float(np.mean(lengths)),
        "pass@1": right / n,
        "cons": [metrics.cons_at_k(counts, question.right, unknown, m) for m in range(1, n + 1)],
        "pass": [metrics.pass_at_k(n, right, m) for m in range(1, n + 1)],
        "longest": [
            sum(x * math.comb(i, m - 1) for i, x in enumerate(lengths)) / math.comb(n, m) for m in range(1, n + 1)
        ],
        "distinct": len(set(question.labels) - {None}),
        "methods": [
            dict(zip(KEYS, key, strict=True)) | dict(zip(FIELDS, _known(v / grid.orders), strict=True))
            for key, v in sums.items()
        ],
    }


def _known(values: np.ndarray) -> list[float | None]:
    """As a JSON row holds them: None for what is not known."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def _one_order(question: Question, order: list[int], grid: Grid, judges: Mapping[str, Judged], number: int):
    """(KEYS, values of FIELDS) of every method on a question whose traces arrive in this order."""
    labels, lengths = question.labels, question.lengths
    plain = [way for where in baselines.BASELINES.values() for way in registry.load(where)(question, grid).items()]
    for name, done in plain:
        surviving = survivors(question.labels, question.right, done.finished)
        yield (
            (name, *[None] * (len(KEYS) - 1)),
            [
                _hit(question, done.answer),
                done.tokens,
                done.sequential,
                0,
                0,
                0,
                done.tokens,
                done.tokens,
                *surviving[:1],
                *surviving[:1],
                *surviving[1:],
                *surviving[1:],
                done.opened,
                len(done.finished),
                0,
            ],
        )
    key = f"{question.dataset}/{question.problem_id}/{number}"
    for judge, judged in judges.items():
        table = judged.scores[np.ix_(order, order)].tolist()
        prefixes = [judged.prefixes[i] for i in order] if len(judged.prefixes) else [0] * len(order)
        stored = None if judged.stored is None else judged.stored[np.ix_(order, order)].tolist()
        for tau, k, k1, comparisons in itertools.product(grid.taus, grid.ks, grid.k1s, grid.comparisons):
            asked, _, assign = comparisons.partition("/")
            settings = ClusterSettings(tau, k, k1, grid.overflow, assign=assign or "best", asks=asked, seed=grid.seed)
            clustered = simulation.cluster(table, settings, key)
            for rule, k2 in itertools.product(grid.rules, grid.k2s):
                how = FinishSettings(
                    rule,
                    k2,
                    grid.k3,
                    threshold=grid.threshold,
                    trust=grid.trust,
                    batch=grid.finish_batch,
                    start=grid.start,
                    seed=grid.seed,
                )
                done = finishing.play(clustered.placed, labels, lengths, question.prefixes, how, key)
                yield (
                    (rule, judge, tau, k, k1, k2, comparisons),
                    _pruned(question, judged, prefixes, stored, clustered, done),
                )


def _pruned(question: Question, judged: Judged, prefixes: Sequence[int], stored, clustered, done) -> list[float]:
    """The values of FIELDS of one finish rule on one clustering."""
    asked = clustered.asked[: done.opened]
    if judged.per_trace:
        prompt, cached = sum(prefixes[: done.opened]), 0
    elif judged.ratio == 0:
        prompt = cached = 0
    else:
        length = (lambda member, new: stored[member][new]) if stored else None
        prompt, cached = costs.judge_tokens(asked, prefixes, done.opened, judged.frame, length)
    ratio = math.nan if judged.ratio is None else judged.ratio
    tokens = done.prefix + done.rest
    clusters = finishing.clusters_of(clustered.placed[: done.opened])
    finished = survivors(question.labels, question.right, done.finished)
    represented = survivors(question.labels, question.right, {*(c[0] for c in clusters), *done.finished})
    return [
        _hit(question, done.answer),
        tokens,
        done.sequential,
        sum(map(len, asked)),
        prompt,
        cached,
        tokens + (prompt - cached) * ratio,
        tokens + prompt * ratio,
        finished[0],
        represented[0],
        finished[1],
        represented[1],
        done.opened,
        len(done.finished),
        len(clusters),
    ]


def _hit(question: Question, answer: int | None) -> bool:
    return answer is not None and answer == question.right


def survivors(labels: Sequence[int | None], right: int | None, finished: Iterable[int]) -> tuple[bool, float]:
    """(a right answer is among the traces kept, share of all distinct answers that is)."""
    here = {labels[i] for i in finished} - {None}
    everywhere = set(labels) - {None}
    return right is not None and right in here, len(here) / len(everywhere) if everywhere else 1.0


def table(rows: Sequence[dict], resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """A row a method: means over questions, intervals of the accuracy, and two paired differences with intervals.

    over_cons_n: accuracy minus cons@n's. over_cons: accuracy minus that of cons@m with the same m for all questions
    and the same total tokens (linear between two m): what a random subset of as many tokens gets. reduction: 1 - total
    / tokens of cons@n; reduction_no_judge: the judge not counted. What depends on the size of a judge whose size is not
    known is nan.
    """
    n = min(r["n"] for r in rows)
    lengths = np.asarray([r["length"] for r in rows])
    cons, pass_at, longest = (np.asarray([r[k][:n] for r in rows]) for k in ("cons", "pass", "longest"))
    consensus = n * lengths.mean()

    def interval(values: np.ndarray, name: str) -> dict[str, float]:
        value, low, high = metrics.bootstrap(range(len(rows)), lambda r: float(values[r].mean()), resamples, seed)
        return {name: value, f"{name} low": low, f"{name} high": high}

    def cons_at_tokens(tokens: float) -> np.ndarray:
        if math.isnan(tokens):
            return np.full(len(rows), math.nan)
        m = min(max(tokens / lengths.mean(), 1.0), float(n))
        low = int(m)
        high = min(low + 1, n)
        return cons[:, low - 1] + (m - low) * (cons[:, high - 1] - cons[:, low - 1])

    result = []
    for m in sorted({*(2**i for i in range(int(math.log2(n)) + 1)), n}):
        tokens, value = m * lengths.mean(), cons[:, m - 1]
        distinct = {"coverage": pass_at[:, m - 1].mean(), "represented": pass_at[:, m - 1].mean()}
        result.append(
            {
                "method": f"cons@{m}",
                "m": m,
                "tokens": tokens,
                "total": tokens,
                "total_uncached": tokens,
                "sequential": longest[:, m - 1].mean(),
                "opened": m,
                "finished": m,
            }
            | distinct
            | interval(value, "accuracy")
            | interval(value - cons[:, n - 1], "over_cons_n")
            | interval(0.0 * value, "over_cons")
        )
    for index, method in enumerate(rows[0]["methods"]):
        values = {f: np.asarray([r["methods"][index][f] for r in rows], dtype=np.float64) for f in FIELDS}
        if any({k: r["methods"][index][k] for k in KEYS} != {k: method[k] for k in KEYS} for r in rows):
            raise ValueError("the rows hold different methods")
        result.append(
            {k: method[k] for k in KEYS}
            | {f: float(v.mean()) for f, v in values.items()}
            | interval(values["accuracy"], "accuracy")
            | interval(values["accuracy"] - cons[:, n - 1], "over_cons_n")
            | interval(values["accuracy"] - cons_at_tokens(values["total"].mean()), "over_cons")
        )
    numbers = pd.DataFrame(result)
    numbers["reduction"] = 1.0 - numbers["total"] / consensus
    numbers["reduction_no_judge"] = 1.0 - numbers["tokens"] / consensus
    return numbers


UNKNOWN = "unknown"
SHOWN = ["method", "judge", "tau", "K", "K1", "K2", "comparisons", "accuracy", "accuracy low", "accuracy high", "over_cons_n", "over_cons_n low",
         "over_cons_n high", "over_cons", "over_cons low", "over_cons high", "total", "reduction", "reduction_no_judge", "sequential",
         "coverage", "represented", "diversity"]  # fmt: skip


def usual(pruned: pd.DataFrame) -> pd.DataFrame:
    """Of pruned rows those with tau nearest 0.5 and the largest K and K2."""
    taus = sorted(pruned["tau"].unique(), key=lambda tau: (abs(tau - 0.5), tau))
    rows = pruned[pruned["tau"] == taus[0]] if taus else pruned
    return rows[(rows["K"] == rows["K"].max()) & (rows["K2"] == rows["K2"].max())]


def digest(numbers: pd.DataFrame) -> pd.DataFrame:
    """The rows to read first: every baseline; of each judge the paper's rule with the largest K1 and the first of the
    comparisons, and each rule with the last of them and the smallest and the largest K1; tau nearest 0.5, the largest K and K2.
    """
    pruned = numbers["judge"].notna()
    rows = usual(numbers[pruned])
    compared = list(dict.fromkeys(rows["comparisons"]))
    full = (
        (rows["method"] == "paper")
        & (rows["K1"] == rows["K1"].max())
        & (rows["comparisons"] == compared[0] if compared else False)
    )
    ends = rows["K1"].isin([rows["K1"].min(), rows["K1"].max()])
    cheap = ends & (rows["comparisons"] == compared[-1] if compared else False)
    return pd.concat([numbers[~pruned], rows[full | cheap]])


def to_markdown(numbers: pd.DataFrame, what: str) -> str:
    """The table as a page: one row a method, intervals in brackets."""

    def cell(row, name: str) -> str:
        if pd.isna(row[name]):
            return UNKNOWN
        return f"{row[name]:.3f} {metrics.in_brackets(row[name + ' low'], row[name + ' high'])}"

    def number(value: float, form: str) -> str:
        return UNKNOWN if pd.isna(value) else format(value, form)

    def settings(row) -> str:
        return (
            ""
            if pd.isna(row["tau"])
            else f"τ {row['tau']:g}, K {row['K']:.0f}, K1 {row['K1']:.0f}, K2 {row['K2']:.0f}, {row['comparisons']} compared"
        )

    lines = [
        f"{what}. Brackets: 95 % bootstrap intervals over problems, differences paired. Tokens are reasoner tokens a problem; "
        "a judge's computed prompt tokens are weighted by parameters. *Over cons at equal tokens*: accuracy minus that of "
        "cons@m with the same total tokens. *Sequential*: longest chain of dependent generation.",
        "",
        "| method | judge | settings | accuracy | over cons@n | over cons at equal tokens | total tokens | reduction, judge counted "
        "| not counted | sequential | coverage | diversity |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for _, row in numbers.iterrows():
        lines.append(
            f"| {row['method']} | {'' if pd.isna(row['judge']) else row['judge']} | {settings(row)} | {cell(row, 'accuracy')} "
            f"| {cell(row, 'over_cons_n')} | {cell(row, 'over_cons')} | {number(row['total'], ',.0f')} | {number(row['reduction'], '.1%')} "
            f"| {row['reduction_no_judge']:.1%} | {row['sequential']:,.0f} | {row['coverage']:.3f} "
            f"| {'' if pd.isna(row['diversity']) else format(row['diversity'], '.3f')} |"
        )
    left_out = unknown_cost(numbers)
    if left_out:
        lines += ["", f"{UNKNOWN}: the size of {', '.join(left_out)} is not known, so what it costs is not either."]
    return "\n".join(lines) + "\n"


def unknown_cost(numbers: pd.DataFrame) -> list[str]:
    """The judges whose cost is not known."""
    return list(dict.fromkeys(numbers.loc[numbers["total"].isna(), "judge"]))


def front(points: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The rows that no other row beats (as accurate for a lower cost, or more accurate for the same), cheapest first.

    cost: a column; rows whose cost is not known are left out.
    """
    rows, best = [], -math.inf
    for index, row in points.dropna(subset=[cost]).sort_values([cost, "accuracy"], ascending=[True, False]).iterrows():
        if row["accuracy"] > best:
            best = row["accuracy"]
            rows.append(index)
    return points.loc[rows]


def varied(numbers: pd.DataFrame) -> list[str]:
    """The settings of KEYS that differ among the pruned rows: what a figure must say of a point."""
    pruned = numbers[numbers["judge"].notna()]
    return [key for key in KEYS[2:] if pruned[key].nunique() > 1]


def short_settings(row: pd.Series, keys: Sequence[str]) -> str:
    """A row's settings in a few words: 'τ 0.5, K1 10, likely/largest'."""
    words = [row[key] if key == "comparisons" else f"{'τ' if key == 'tau' else key} {row[key]:g}" for key in keys]
    return ", ".join(words)
