"""What bfloat16 changes: the same judge on the same pairs in float32 and in bfloat16, side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/judge_dtype.py --judge transformers --models Offline/DeepPrune-Judge-mini \
        --batch 8 --pairs DeepPrune_data/study/miniature/pairs.jsonl.gz --count 300 \
        --problems DeepPrune_data/problems/{arithmetic,words}.jsonl \
        --traces DeepPrune_data/traces/qwen2.5-coder-0.5b-{arithmetic,words}.jsonl.gz --limit 4 --n 8 \
        --output Offline/results/dtype.jsonl

Weights and all that follows from them are in the one type or the other; the logits are in float32 both times, as in
every judge of ours. Test pairs: AUROC, TNR@0.2, how far p_same moves, pairs/s (start-up is not timed; --judge
transformers: by CPU time, for a machine that is not idle). Clusters: the paper's rule on each problem's first --n
traces, every two of them asked about; then once more in the same type with a fourth of the batch: other rounding alone.

A row a judge in OUTPUT, which a killed or longer run goes on with; then OUTPUT's .md and its manifest.
"""

import dataclasses
import itertools
import os
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from deepprune import judges
from deepprune.base import config, jsonl, metrics, records, runtime
from deepprune.base.config import like, setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.stage import command
from deepprune.data import pairs, problems
from deepprune.engines import models
from deepprune.evaluate import simulation, tables
from deepprune.judges import Request
from deepprune.prune import prefixes, rules

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass
class DtypeSettings(rules.CutSettings):
    models: list[str] = setting(config.REQUIRED, "judges: folders, LoRA adapter folders or hub ids", free=True)
    judge: str = setting(
        "vllm", "what scores; transformers: in this process, whose CPU time is taken", choices=("vllm", "transformers")
    )
    pairs: str = setting(config.REQUIRED, "JSONL file of Pair records, the judges' test side")
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    traces: list[str] = setting(
        config.REQUIRED, "JSONL files of Trace records: those of the pairs' problems are clustered"
    )
    output: str = setting(config.REQUIRED, "JSONL file, a row a judge; appended to when it exists", ends=config.JSONL)
    truncation_k: int = like(rules.CutSettings, "truncation_k", 2)
    tokenizer: str = setting("HuggingFaceTB/SmolLM2-135M-Instruct", "model whose tokenizer cuts and counts")
    count: int | None = setting(None, "only the first so many pairs in scoring order (whole problems)", at_least=1)
    n: int = setting(12, "traces of a problem that are clustered", at_least=2)
    limit: int = setting(8, "problems that are clustered, spread evenly over the file", at_least=1)
    tau: float = like(rules.RuleSettings, "tau")
    max_model_len: int | None = setting(2048, "context length in tokens", free=True, at_least=2)
    batch: int = setting(64, "pairs at once", at_least=4)
    resamples: int = setting(1000, "bootstrap resamples for the intervals", at_least=1)
    seed: int = config.seed("seed of the bootstrap")
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(DtypeSettings, None, __doc__)
    runtime.ensure()
    tested = pairs.scoring_order(records.read(records.Pair, settings.pairs))[: settings.count]
    if not tested:
        raise UserError(f"{settings.pairs}: no pairs")
    groups = select(settings, {p.problem_id for p in tested})
    asked = [
        Request(question, a.prefix, b.prefix, a.trace_id, b.trace_id)
        for question, group in groups.values()
        for a, b in itertools.combinations(group, 2)
    ]
    made_from = {k: v for k, v in config.resolved(settings).items() if k not in ("pairs", "problems", "traces")}
    manifest = Manifest.open(
        settings.output,
        "dtype",
        made_from,
        [settings.pairs, *settings.problems, *settings.traces],
        config.free_settings(DtypeSettings),
        settings.overwrite,
        also=[settings.output.replace(".jsonl", ".md")],
    )
    with manifest.appender() as out:
        rows = {row["judge"]: row for _, row in jsonl.read(settings.output)}
        for model in settings.models:
            name = judges.name_of("vllm", model)
            if name not in rows:
                rows[name] = measured(model, name, settings, tested, groups, asked)
                out.append(rows[name])
    page = table(list(rows.values()), "pairs/s" if settings.judge == "vllm" else "pairs a second of CPU time")
    jsonl.write_text(settings.output.replace(".jsonl", ".md"), page)
    print(page)
    manifest.finish(
        len(rows), bfloat16_instructions=runtime.bfloat16_flags(), threads=os.environ.get("OMP_NUM_THREADS")
    )


def select(settings: DtypeSettings, wanted: set[str]) -> dict[str, tuple[str, list[prefixes.Prefixed]]]:
    """(question, its first n traces) of some of the wanted problems, by id."""
    from transformers import AutoTokenizer

    cutter = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    by_id = records.read_problems(*settings.problems)
    groups = prefixes.select(settings.traces, settings.cut(), cutter, by_id, only=wanted)
    enough = [i for i, group in groups.items() if len(group) >= settings.n]
    if not enough:
        raise UserError(f"{', '.join(settings.traces)}: no problem of the pairs has {settings.n} traces")
    return {i: (by_id[i].question, groups[i][: settings.n]) for i in problems.spread(enough, settings.limit)}


def measured(model: str, name: str, settings: DtypeSettings, tested: list, groups: dict, asked: list[Request]) -> dict:
    """One judge's row."""
    row = {"judge": name, "model": model, "parameters": judges.parameters_of("vllm", model), "pairs": len(tested)}
    scores, clusters, again = {}, {}, {}
    clock = time.perf_counter if settings.judge == "vllm" else time.process_time
    for dtype in DTYPES:
        judge = opened(model, dtype, settings.batch, settings)
        started = clock()
        scores[dtype] = np.asarray([s.p_same for s in judge.score([Request.of(p) for p in tested])])
        row[f"{dtype} pairs/s"] = len(tested) / (clock() - started)
        clusters[dtype] = clustered(judge.score(asked), groups, settings)
        judge.close()
        judge = opened(model, dtype, settings.batch // 4, settings)
        again[dtype] = clustered(judge.score(asked), groups, settings)
        judge.close()
        print(f"{name}, {dtype}: {row[f'{dtype} pairs/s']:.2f} pairs/s", flush=True)
    labels, of = np.asarray([p.label for p in tested]), [p.problem_id for p in tested]
    for dtype in DTYPES:
        row[dtype] = metrics.judge_table(labels, scores[dtype], of, settings.resamples, settings.seed)
    full, half = (scores[dtype] for dtype in DTYPES)
    value, low, high = metrics.bootstrap(
        of,
        lambda r: metrics.auroc(labels[r], half[r]) - metrics.auroc(labels[r], full[r]),
        settings.resamples,
        settings.seed,
    )
    row |= {
        "AUROC difference": {"value": value, "low": low, "high": high},
        "largest difference of p_same": float(np.abs(half - full).max()),
        "mean difference of p_same": float(np.abs(half - full).mean()),
        "verdicts changed": float(((half > 0.5) != (full > 0.5)).mean()),
        "distinct p_same": {dtype: len(set(scores[dtype].tolist())) for dtype in DTYPES},
        "clustered problems": len(groups),
        "clustered traces": settings.n,
        "clusters": {
            "bfloat16 to float32": agreement(clusters["float32"], clusters["bfloat16"]),
            **{f"{dtype} twice": agreement(clusters[dtype], again[dtype]) for dtype in DTYPES},
        },
    }
    return row


def opened(model: str, dtype: str, batch: int, settings: DtypeSettings) -> judges.Judge:
    """The judge, warm. Zero-shot models are measured too, whatever they make of the labels."""
    judge = judges.open_judge(settings.judge, model, dtype=dtype, batch=batch, max_model_len=settings.max_model_len)
    judge.score([Request("Warm-up?", f"one {i}", f"two {i}", "a", "b") for i in range(4)])
    return judge


def clustered(scores: Sequence[judges.Score], groups: dict, settings: DtypeSettings) -> dict[str, list[int]]:
    """Each trace's cluster by the paper's rule, by problem. scores: of every two traces of a problem, in order."""
    rule, left = rules.RuleSettings(tau=settings.tau).cluster_rule(), iter(scores)
    placed = {}
    for problem, (_, group) in groups.items():
        p_same, pairs_of_two = np.ones((len(group), len(group))), np.triu_indices(len(group), 1)
        p_same[pairs_of_two] = p_same.T[pairs_of_two] = [next(left).p_same for _ in pairs_of_two[0]]
        placed[problem] = simulation.cluster(p_same, rule, problem).placed
    return placed


def agreement(clusters: dict[str, list[int]], other: dict[str, list[int]]) -> dict[str, float]:
    """Share of problems with equal clusters, and the mean adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score

    return {
        "same": float(np.mean([placed == other[i] for i, placed in clusters.items()])),
        "adjusted Rand index": float(np.mean([adjusted_rand_score(p, other[i]) for i, p in clusters.items()])),
    }


def table(rows: list[dict], pace: str) -> str:
    """The page: a column a judge and type. pace: what the pairs/s are."""

    def metric(row, dtype, name):
        value = row[dtype][name]
        return f"{value['value']:.3f} {metrics.in_brackets(value['low'], value['high'])}"

    def clusters(row, which):
        agreed = row["clusters"][which]
        return f"{agreed['same']:.0%} of problems, ARI {agreed['adjusted Rand index']:.2f}"

    titles = {"auroc": "AUROC", "within_problem_auroc": "AUROC within problems", "tnr_at_0.2_fnr": "TNR@0.2"}
    columns = {
        f"{row['judge']}, {dtype}": {
            **{titles.get(name, name): metric(row, dtype, name) for name in (*titles, "accuracy")},
            pace: f"{row[f'{dtype} pairs/s']:.1f}",
            "distinct p_same": row["distinct p_same"][dtype],
            "same clusters with a fourth of the batch": clusters(row, f"{dtype} twice"),
        }
        for row in rows
        for dtype in DTYPES
    }
    shown = pd.DataFrame(columns).rename_axis("").reset_index()
    lines = ["Judges in float32 and in bfloat16 (logits in float32 both times); 95 % intervals over problems", ""]
    lines.append(tables.markdown(shown))
    for r in rows:
        change = r["AUROC difference"]
        lines += [
            "",
            f"- {r['judge']}, {r['pairs']} pairs: bfloat16's AUROC minus float32's {change['value']:+.4f} "
            f"{metrics.in_brackets(change['low'], change['high'], '+.4f')}; p_same moves by "
            f"{r['mean difference of p_same']:.4f} on average, {r['largest difference of p_same']:.4f} at most; "
            f"{r['verdicts changed']:.1%} of the verdicts change. Clusters of "
            f"{r['clustered problems']} problems of {r['clustered traces']} traces, bfloat16's and float32's the same: "
            f"{clusters(r, 'bfloat16 to float32')}. {r['bfloat16 pairs/s'] / r['float32 pairs/s']:.2f} times the pace.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
