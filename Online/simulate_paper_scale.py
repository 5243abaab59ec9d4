"""At paper scale, from answers and lengths: how good and how cheap must a judge be to be worth it?

    python Online/simulate_paper_scale.py --answers aime24_answers.jsonl.gz aime25_answers.jsonl.gz --output results/aime.jsonl

Reads one row a trace: {"dataset": "AIME24", "problem_id": "...", "gold": "204", "answer": "204", "n_tokens": 3856}.
Through the same clustering, finish-rule, cost and baseline code as recorded traces go: cons@m for every m (exact),
Adaptive-Consistency, ESC, and pruning with the oracle and with simulated judges of chosen AUROC, under every finish
rule. Averages over random orders of the traces; intervals over problems. Judge tokens are prompt tokens that a perfect
prefix cache leaves to compute, weighted by judge / reasoner parameters.

Writes one row a problem (a killed run goes on), OUTPUT.csv with a row a method, and a PNG beside it. A row:
    {"problem_id": "...", "dataset": "AIME24", "n": 128, "length": 14021.5, "cons": [0.71, ...], "pass": [...],
     "longest": [...], "methods": {"adaptive-consistency": {"accuracy": 0.9, "tokens": 81000.0, ...}, ...}}
"""

import dataclasses
import math
import random
from pathlib import Path

import numpy as np
import pandas as pd

from deepprune import baselines, config, finishing, jsonl, metrics, plotting, progress, simulation
from deepprune.clustering import ClusterSettings
from deepprune.config import setting
from deepprune.errors import command
from deepprune.finishing import FinishSettings
from deepprune.manifest import Manifest

FIELDS = ("accuracy", "tokens", "sequential", "judge_calls", "judge_prompt", "judge_cached", "total", "coverage",
          "represented", "opened", "finished")  # fmt: skip


@dataclasses.dataclass
class SimulateSettings:
    answers: list[str] = setting(config.REQUIRED, "JSONL files of answers and token counts")
    output: str = setting(config.REQUIRED, "JSONL file of results; appended to when it exists")
    aurocs: list[float] = setting([0.6, 0.7, 0.8, 0.87, 0.9, 0.95, 0.99, 1.0], "AUROC of the judges (1.0: the oracle)")
    shared: float = setting(0.0, "share of a judge's noise that comes from the two traces instead of the pair")
    rules: list[str] = setting(list(finishing.RULES), "finish rules")
    k1s: list[int] = setting([1, 10], "values of K1 (most members of a cluster compared)")
    tau: float = setting(0.5, "a trace joins the most similar cluster above this similarity")
    k: int = setting(32, "most clusters (K)")
    k2: int = setting(20, "most traces finished (K2)")
    k3: int = setting(20, "traces finished when every cluster is a singleton (K3)")
    threshold: float = setting(0.95, "of Adaptive-Consistency, and of the adaptive and staged finish rules")
    trust: float = setting(0.25, "adaptive, staged: share of a vote that an unfinished member of a cluster lends it")
    batch: int = setting(4, "adaptive, staged: traces finished at once")
    start: int = setting(16, "staged: prefixes opened first; doubled while undecided")
    window: int = setting(8, "ESC's window")
    prefix_tokens: int = setting(500, "tokens of a prefix (a shorter trace is its own prefix)")
    overhead: int = setting(200, "tokens of the judge's instructions and question")
    judge_ratio: float = setting(0.5, "judge parameters / reasoner parameters (a 4B judge of an 8B reasoner: 0.5)")
    orders: int = setting(20, "random orders of the traces that are averaged over")
    resamples: int = setting(1000, "bootstrap resamples over problems", free=True)
    seed: int = setting(0, "seed of orders, scores, clustering and bootstrap")
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(SimulateSettings, "simulate", __doc__)
    questions = simulation.read_questions(*settings.answers)
    kept = config.resolved(settings)
    kept.pop("answers")
    manifest = Manifest.open(
        settings.output, "simulate", kept, settings.answers, config.free_settings(SimulateSettings), settings.overwrite
    )
    with jsonl.Appender(settings.output) as out:
        rows = {(r["dataset"], r["problem_id"]): r for _, r in jsonl.read(settings.output)}
        todo = [q for q in questions if (q.dataset, q.problem_id) not in rows]
        for question in progress.bar(todo, desc="problems", unit="problem"):
            row = simulate(question, settings)
            out.append(row)
            rows[question.dataset, question.problem_id] = row
    results = [rows[q.dataset, q.problem_id] for q in questions]
    numbers = table(results, settings)
    base = Path(settings.output).with_suffix("")
    jsonl.write_text(base.with_suffix(".csv"), numbers.to_csv(index=False))
    plotting.save(figure(numbers, results), base.with_suffix(".png"))
    columns = ["method", "accuracy", "total", "reduction", "sequential", "coverage", "over_cons", "over_cons low", "over_cons high"]
    print(numbers[columns].round(3).to_string(index=False))
    print(f"{len(results)} problems, {settings.orders} orders; {base}.csv, {base}.png")
    manifest.finish(len(results))


def simulate(question: simulation.Question, settings: SimulateSettings) -> dict:
    """All methods on one question; averages over orders."""
    n = len(question.labels)
    counts = np.bincount([x for x in question.labels if x is not None], minlength=1).tolist()
    unknown = n - sum(counts)
    right = 0 if question.right is None else counts[question.right]
    lengths = sorted(question.lengths)
    longest = [sum(x * math.comb(i, m - 1) for i, x in enumerate(lengths)) / math.comb(n, m) for m in range(1, n + 1)]
    sums: dict[str, np.ndarray] = {}

    def add(name: str, values: list[float]) -> None:
        sums[name] = sums.get(name, 0.0) + np.asarray(values, dtype=np.float64)

    for number in range(settings.orders):
        key = f"{question.dataset}/{question.problem_id}/{number}"
        order = random.Random(f"{settings.seed}/order/{key}").sample(range(n), n)
        labels = [question.labels[i] for i in order]
        length = [question.lengths[i] for i in order]
        prefixes = [min(x, settings.prefix_tokens) for x in length]
        for name, done in (
            ("adaptive-consistency", baselines.adaptive_consistency(labels, length, settings.threshold)),
            ("esc", baselines.early_stopping(labels, length, settings.window)),
        ):
            found = any(labels[i] == question.right for i in done.finished) and question.right is not None
            hit = done.answer is not None and done.answer == question.right
            add(name, [hit, done.tokens, done.sequential, 0, 0, 0, done.tokens, found, found, done.opened, len(done.finished)])
        for auroc in settings.aurocs:
            scores = simulation.simulated_scores(labels, auroc, settings.seed, key, settings.shared).tolist()
            for k1 in settings.k1s:
                clustered = simulation.cluster(scores, ClusterSettings(settings.tau, settings.k, k1, seed=settings.seed), key)
                for rule in settings.rules:
                    add(f"{rule}, K1 {k1}, AUROC {auroc:g}", pruned(question, labels, length, prefixes, clustered, rule, key, settings))
    return {
        "problem_id": question.problem_id, "dataset": question.dataset, "n": n, "length": float(np.mean(question.lengths)),
        "cons": [metrics.cons_at_k(counts, question.right, unknown, m) for m in range(1, n + 1)],
        "pass": [metrics.pass_at_k(n, right, m) for m in range(1, n + 1)],
        "longest": longest,
        "methods": {name: dict(zip(FIELDS, (v / settings.orders).tolist(), strict=True)) for name, v in sums.items()},
    }  # fmt: skip


def pruned(question, labels, lengths, prefixes, clustered, rule: str, key: str, settings: SimulateSettings) -> list[float]:
    """One finish rule on one clustering: the values of FIELDS."""
    how = FinishSettings(rule, settings.k2, settings.k3, threshold=settings.threshold, trust=settings.trust,
                         batch=settings.batch, start=settings.start, seed=settings.seed)  # fmt: skip
    done = finishing.play(clustered.placed, labels, lengths, prefixes, how, key)
    prompt, cached = simulation.judge_tokens(clustered.asked, prefixes, done.opened, settings.overhead)
    tokens = done.prefix + done.rest
    right = question.right
    first = [c[0] for c in finishing.clusters_of(clustered.placed[: done.opened])]
    coverage = right is not None and any(labels[i] == right for i in done.finished)
    represented = right is not None and any(labels[i] == right for i in {*first, *done.finished})
    calls = sum(len(a) for a in clustered.asked[: done.opened])
    total = tokens + (prompt - cached) * settings.judge_ratio
    hit = done.answer is not None and done.answer == right
    return [hit, tokens, done.sequential, calls, prompt, cached, total, coverage, represented, done.opened, len(done.finished)]


def table(results: list[dict], settings: SimulateSettings) -> pd.DataFrame:
    """A row a method: means over problems with intervals, and the accuracy over cons@m at equal total tokens."""
    n = min(r["n"] for r in results)
    lengths = np.asarray([r["length"] for r in results])
    cons, found, longest = (np.asarray([r[k][:n] for r in results]) for k in ("cons", "pass", "longest"))
    problems = range(len(results))

    def interval(values: np.ndarray) -> tuple[float, float, float]:
        return metrics.bootstrap(problems, lambda r: float(values[r].mean()), settings.resamples, settings.seed)

    def cons_at_tokens(tokens: float) -> np.ndarray:
        """Each problem's cons@m accuracy at m = tokens / mean length, the same m everywhere, linear between two m."""
        m = min(max(tokens / lengths.mean(), 1.0), float(n))
        low = int(m)
        high = min(low + 1, n)
        return cons[:, low - 1] + (m - low) * (cons[:, high - 1] - cons[:, low - 1])

    rows = []
    for m in sorted({*(2**i for i in range(int(math.log2(n)) + 1)), n}):
        value, lowest, highest = interval(cons[:, m - 1])
        rows.append({"method": f"cons@{m}", "rule": "cons", "accuracy": value, "accuracy low": lowest, "accuracy high": highest,
                     "tokens": m * lengths.mean(), "total": m * lengths.mean(), "sequential": longest[:, m - 1].mean(),
                     "coverage": found[:, m - 1].mean(), "represented": found[:, m - 1].mean(), "opened": m, "finished": m,
                     "over_cons": 0.0, "over_cons low": 0.0, "over_cons high": 0.0})  # fmt: skip
    for method in results[0]["methods"]:
        values = {f: np.asarray([r["methods"][method][f] for r in results]) for f in FIELDS}
        value, lowest, highest = interval(values["accuracy"])
        over = interval(values["accuracy"] - cons_at_tokens(values["total"].mean()))
        parts = method.split(", ")
        rows.append({"method": method, "rule": parts[0], "K1": int(parts[1][3:]) if len(parts) > 1 else None,
                     "AUROC": float(parts[2][6:]) if len(parts) > 1 else None,
                     **{f: v.mean() for f, v in values.items()}, "accuracy": value, "accuracy low": lowest,
                     "accuracy high": highest, "over_cons": over[0], "over_cons low": over[1], "over_cons high": over[2]})  # fmt: skip
    numbers = pd.DataFrame(rows)
    numbers["reduction"] = 1.0 - numbers["total"] / (n * lengths.mean())
    return numbers


def figure(numbers: pd.DataFrame, results: list[dict]):
    """Accuracy, latency and coverage against total tokens: cons@m as a line, every other method as a marker."""
    import matplotlib.pyplot as plt

    panels = (("accuracy", "accuracy"), ("sequential", "sequential tokens (latency)"), ("coverage", "answer coverage: a right answer is finished"))
    drawn, axes = plt.subplots(1, 3, figsize=(16, 5.2))
    rules = [r for r in dict.fromkeys(numbers["rule"]) if r not in ("cons", "adaptive-consistency", "esc")]
    colours = dict(zip(rules, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    for axis, (column, title) in zip(axes, panels, strict=True):
        line = numbers[numbers["rule"] == "cons"]
        axis.plot(line["total"] / 1000, line[column], "-", color="black", marker=".", label="cons@m")
        for name, marker in (("adaptive-consistency", "*"), ("esc", "P")):
            some = numbers[numbers["rule"] == name]
            axis.plot(some["total"] / 1000, some[column], marker, color="black", markersize=11, label=name)
        for rule in rules:
            for k1, style in zip(sorted(numbers["K1"].dropna().unique()), ("-", ":"), strict=False):
                some = numbers[(numbers["rule"] == rule) & (numbers["K1"] == k1)].sort_values("AUROC")
                axis.plot(some["total"] / 1000, some[column], style, color=colours[rule], linewidth=0.8, marker="o", markersize=3,
                          label=f"{rule}, K1 {k1:.0f}")  # fmt: skip
                for _, row in some.iloc[[0, -1]].iterrows():
                    axis.annotate(f"{row['AUROC']:g}", (row["total"] / 1000, row[column]), fontsize=6, color=colours[rule],
                                  xytext=(2, 3), textcoords="offset points")  # fmt: skip
        axis.set(xscale="log", xlabel="tokens a problem, judge included (thousands, reasoner-equivalent)", ylabel=title)
        axis.grid(alpha=0.3)
    axes[1].set_yscale("log")
    names = ", ".join(sorted({r["dataset"] for r in results}))
    drawn.suptitle(f"{names}: {len(results)} problems, n = {results[0]['n']} traces; small numbers: AUROC of the simulated judge (1: oracle)")
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="lower center", ncols=6, fontsize=8, bbox_to_anchor=(0.5, -0.08))
    drawn.tight_layout()
    return drawn


if __name__ == "__main__":
    main()
