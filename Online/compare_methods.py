"""All methods on recorded traces, in one run: pruning by every judge and finish rule, and what else saves tokens.

    python Online/compare_methods.py --config scripts/recipes/cpu.yaml --problems DeepPrune_data/problems/*.jsonl \
        --traces DeepPrune_data/online_test_data/deepprune_pairs.jsonl --reasoner Qwen/Qwen2.5-Coder-0.5B-Instruct \
        --judges trained=results/demo/judge zero-shot=HuggingFaceTB/SmolLM2-135M-Instruct --output results/compare.jsonl

cons@m for every m (exact; also what a random subset of as many tokens gets), Adaptive-Consistency, ESC, DeepConf-low
and -high where token confidence is recorded, and greedy pruning with: each model of --judges, Sentence-BERT, the oracle
(true labels: the limit of the method), a random judge, simulated judges of --aurocs. Sweeps tau, K, K1, K2 and the
finish rules. Each model scores each unordered pair of a problem's traces once, before the sweep, into a store
(OUTPUT.NAME.sqlite); the sweep itself asks no judge. Averages over random orders of the traces, intervals over
problems.

Writes one row a problem (a killed run goes on), OUTPUT.csv (every setting), OUTPUT.md (those to read first) and figures
(OUTPUT.png, OUTPUT_latency.png, OUTPUT_quality.png). Total tokens count the judge's prompts that a perfect prefix cache
leaves to compute, weighted by parameters.
"""

import dataclasses
import itertools
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from deepprune import judges
from deepprune.base import arguments, config, jsonl, metrics, progress, records, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.stage import command
from deepprune.data import answers
from deepprune.engines import models
from deepprune.evaluate import methods, methods_figures, simulation
from deepprune.judges import calibrate, profiles, score_store, scoring
from deepprune.judges.calibration import SILENT, Calibration
from deepprune.judges.pair_prompts import Frame
from deepprune.judges.score_store import ScoreStore
from deepprune.prune import costs, prefixes
from deepprune.prune.prefixes import Prefixed
from deepprune.prune.rules import CutSettings, RuleSettings

SIMULATED = Frame(60, 9, 26)  # a simulated judge's prompt beside the prefixes; the small judge's is about so


@dataclasses.dataclass
class CompareSettings(CutSettings, methods.Grid, judges.JudgeSettings):
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    traces: list[str] = setting(config.REQUIRED, "JSONL files of Trace records")
    taus: list[float] = config.like(methods.Grid, "taus", [0.25, 0.5, 0.75])
    output: str = setting(config.REQUIRED, "JSONL file of results; appended to when it exists", ends=config.JSONL)
    judges: list[str] = setting([], "models scored on vLLM, as NAME=FOLDER-OR-HUB-ID")
    sbert: str | None = setting("sentence-transformers/all-MiniLM-L6-v2", "sentence encoder ('none': without)")
    aurocs: list[float] = setting(
        [], "AUROC of simulated judges (those of --judge-ratio times the reasoner's size)", at_least=0.5, at_most=1
    )
    judge_ratio: float = setting(0.5, "simulated judges: judge parameters / reasoner parameters", at_least=0)
    reasoner: str | None = setting(None, "only traces of this model (default: all must be of one)")
    reasoner_parameters: float | None = setting(
        None, "the reasoner's parameters (default: from its name, as in '0.5B')", above=0
    )
    only: str | None = setting(None, "JSONL file of Pair records: only its problems (the judge's test side)")
    n: int | None = setting(None, "only the first n traces of each problem", at_least=1)
    scores: str = config.like(
        RuleSettings, "scores", "raw", "clustering goes by p_same as it is, or calibrated on the other problems"
    )
    max_pairs: int = setting(200_000, "refuse to score more pairs than this with a model", free=True, at_least=0)
    tokenizer: str = setting("Qwen/Qwen3-4B-Instruct-2507", "model whose tokenizer cuts and counts")
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(CompareSettings, "compare", __doc__)
    named = arguments.named("--judges", "NAME=FOLDER-OR-HUB-ID", settings.judges)
    for name in named:
        config.check_range("", "a name of --judges", name, {"is_name": True})  # of a file: OUTPUT.NAME.sqlite
    if named:
        runtime.ensure()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    by_id = records.read_problems(*settings.problems)
    groups = select(settings, by_id, tokenizer)
    size = settings.reasoner_parameters or costs.parameters_from_name(next(iter(groups.values()))[0].model)
    if not size:
        raise UserError("the reasoner's name does not tell its size: give --reasoner-parameters")
    names = {name: judges.name_of("vllm", model) for name, model in named.items()}
    versions = {judges.profile_of("vllm", model, settings.judge_profile).version for model in named.values()}
    made_from = settings.made_from(" and ".join(sorted(versions)) or profiles.DEFAULT.version)
    made_from.pop("problems"), made_from.pop("traces"), made_from.pop("judges")
    if settings.scores == "raw":  # as in comparisons of before there was a choice
        made_from.pop("scores")
    inputs = [*settings.problems, *settings.traces, *([settings.only] if settings.only else [])]
    manifest = Manifest.open(
        settings.output,
        "compare",
        made_from,
        inputs,
        config.free_settings(CompareSettings),
        settings.overwrite,
        names,
        also=places(settings.output, named),
    )
    tables = {name: scored(name, model, settings, by_id, groups) for name, model in named.items()}
    if sbert := encoded(settings, groups):
        tables["Sentence-BERT"] = sbert
    manifest.data["judges"] = {}
    for name, table in tables.items():
        pairs = known_pairs(table, by_id, groups)
        manifest.data["judges"][name] = quality(name, pairs, settings)
        tables[name] = calibrated(table, pairs, settings.scores)
    with manifest.appender() as out:
        rows = {r["problem_id"]: r for _, r in jsonl.read(settings.output)}
        todo = [i for i in groups if i not in rows]
        for i in progress.bar(todo, desc="problems", unit="problem"):
            traces = methods.trace_set(by_id[i], groups[i], [t.prefix_tokens for t in groups[i]])
            fixed = {name: table[i].weighted(size) for name, table in tables.items()}
            rows[i] = methods.compare(
                traces, settings, lambda number, t=traces, fixed=fixed: fixed | drawn(t, number, settings)
            )
            out.append(rows[i])
    results = [rows[i] for i in groups]
    what = f"{len(results)} problems, n = {results[0]['n']} traces of {next(iter(groups.values()))[0].model}"
    methods_figures.write(results, settings, what, settings.output)
    manifest.finish(len(results), reasoner_parameters=size)


def places(output: str, judges: Iterable[str]) -> list[str]:
    """The files that are written beside the output."""
    base = Path(output).with_suffix("")
    return [
        *methods_figures.places(output),
        f"{base}.embeddings.npz",
        *(f"{base}.{name}.sqlite" for name in judges),
    ]


def select(settings: CompareSettings, by_id: dict, tokenizer) -> dict[str, list[Prefixed]]:
    """Traces by problem of one reasoner; every problem with the same number of traces."""
    wanted = {p.problem_id for p in records.read(records.Pair, settings.only)} if settings.only else None
    groups = prefixes.select(settings.traces, settings.cut(), tokenizer, by_id, settings.reasoner, wanted)
    fewest = min(map(len, groups.values()))
    n = settings.n or fewest
    if n > fewest:
        raise UserError(f"--n {n}: a problem has {fewest} traces only")
    if max(map(len, groups.values())) > n:
        print(f"the first {n} traces of each problem are used")
    return {i: group[:n] for i, group in groups.items()}


def scored(
    name: str, model: str, settings: CompareSettings, by_id: dict, groups: dict[str, list[Prefixed]]
) -> dict[str, methods.Judged]:
    """A model's score of every unordered pair, from the store where it is known. `ratio` holds its parameters."""
    judge_is = judges.describe("vllm", model, judge_profile=settings.judge_profile)
    profile = judges.profile_of("vllm", model, settings.judge_profile)
    profile.check_truncation([settings.cut().as_dict()], settings.other_truncation)
    identity = score_store.identity(judge_is, "vllm", settings.dtype, settings.cut(), settings.tokenizer)
    requests = [
        judges.Request(by_id[i].question, a.prefix, b.prefix, a.trace_id, b.trace_id)
        for i, traces in groups.items()
        for a, b in itertools.combinations(traces, 2)
    ]

    def open_judge() -> judges.Judge:
        return judges.open_judge("vllm", model, settings)

    own, result = judges.prompts_of(model, settings.judge_profile), {}
    at = f"{Path(settings.output).with_suffix('')}.{name}.sqlite"
    with ScoreStore(at, identity, settings.least_label_mass) as store:
        store.check_prefixes({t.trace_id: t.prefix for traces in groups.values() for t in traces})
        scoring.fill(store, requests, open_judge, settings.batch, name, settings.max_pairs)
        for i, traces in groups.items():
            table, stored = store.tables([t.trace_id for t in traces])
            frame, lengths = costs.prompt_parts(own, by_id[i].question, [t.prefix for t in traces])
            result[i] = methods.Judged(table, judge_is["parameters"], lengths, frame, stored=stored)
    return result


def encoded(settings: CompareSettings, groups: dict) -> dict[str, methods.Judged]:
    """Sentence-BERT's similarity of every pair; each prefix is encoded once. `ratio` holds its parameters."""
    if settings.sbert in (None, "none"):
        return {}
    from deepprune.judges.sbert import p_same_of

    judge = judges.open_judge(
        "sbert", settings.sbert, batch=settings.batch, cache=f"{Path(settings.output).with_suffix('')}.embeddings.npz"
    )
    result = {}
    everything = [t.prefix for traces in groups.values() for t in traces]
    vectors, tokens = judge.encode(everything)
    start = 0
    for i, traces in groups.items():
        own = vectors[start : start + len(traces)]
        p_same = p_same_of(own @ own.T).astype(np.float64)
        result[i] = methods.Judged(p_same, judge.parameters, tokens[start : start + len(traces)], per_trace=True)
        start += len(traces)
    return result


def known_pairs(tables: dict[str, methods.Judged], by_id: dict, groups: dict[str, list[Prefixed]]) -> list[tuple]:
    """(label, score, problem, the two traces) of each pair whose answers are both known."""
    rows = []
    for i, table in tables.items():
        labels = answers.classes([t.answer for t in groups[i]], by_id[i].answer_type)
        for a, b in itertools.combinations(range(len(labels)), 2):
            if None not in (labels[a], labels[b]):
                rows.append((int(labels[a] == labels[b]), table.scores[a, b], i, f"{i}/{a}", f"{i}/{b}"))
    return rows


def quality(name: str, pairs: list[tuple], settings: CompareSettings) -> dict[str, Any]:
    """How well a judge tells these pairs apart (metrics.judge_table), and how often it says same (p_same >= 0.5).

    Printed too. {} without pairs.
    """
    if not pairs:
        return {}
    labels, scores, problems, *_ = zip(*pairs, strict=True)
    numbers = metrics.judge_table(labels, scores, problems, settings.resamples, settings.seed)
    says, same = float(np.mean(np.asarray(scores) >= 0.5)), float(np.mean(labels))
    area = numbers["auroc"]
    print(
        f"{name}: AUROC {area['value']:.3f} {metrics.in_brackets(area['low'], area['high'])} on {len(labels):,} pairs "
        f"with known answers; says same of {says:.1%} of them ({same:.1%} are)"
    )
    return {"pairs": len(labels), "same": same, "says_same": says, "metrics": numbers}


def calibrated(tables: dict[str, methods.Judged], pairs: list[tuple], scores: str) -> dict[str, methods.Judged]:
    """The same with each problem's calibration, which is fitted on the others (SILENT where there are none).

    scores 'calibrated': the tables themselves are calibrated by it, but for a flat one.
    """
    if not pairs:
        return tables
    names, scored = list(dict.fromkeys(row[2] for row in pairs)), calibrate.Scored.of(pairs)
    known = {
        names[number]: worth
        for part, worth in calibrate.cross_fitted(scored)
        for number in np.unique(scored.problems[part])
    }
    result = {i: dataclasses.replace(t, calibration=known.get(i, SILENT)) for i, t in tables.items()}
    if scores == "calibrated":
        return {i: t if t.calibration.flat else read_by(t.calibration, t) for i, t in result.items()}
    return result


def read_by(worth: Calibration, table: methods.Judged) -> methods.Judged:
    """A table of calibrated scores, which are worth what the others were."""
    as_said = dataclasses.replace(worth, slope=1.0, bias=0.0, knots=())
    return dataclasses.replace(table, scores=worth.p_same(table.scores), calibration=as_said)


def drawn(traces: methods.TraceSet, number: int, settings: CompareSettings) -> dict[str, methods.Judged]:
    """The oracle, the random judge and simulated ones, drawn anew for each order."""
    key = f"{traces.dataset}/{traces.problem_id}/{number}"
    rng = np.random.default_rng(random.Random(f"{settings.seed}/random/{key}").getrandbits(64))
    uniform = np.triu(rng.random((len(traces.labels), len(traces.labels))), 1)
    sure = simulation.simulated_calibration
    result = {
        "oracle": methods.Judged(
            simulation.simulated_scores(traces.labels, 1.0, settings.seed, key), calibration=sure(1.0)
        ),
        "random": methods.Judged(uniform + uniform.T, calibration=SILENT),
    }
    for auroc in settings.aurocs:
        scores = simulation.simulated_scores(traces.labels, auroc, settings.seed, key)
        result[f"AUROC {auroc:g}"] = methods.Judged(
            scores, settings.judge_ratio, traces.prefixes, SIMULATED, calibration=sure(auroc)
        )
    return result


if __name__ == "__main__":
    main()
