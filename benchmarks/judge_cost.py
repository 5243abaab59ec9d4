"""What the judge costs: the full rule, exact savings and approximate modes, side by side in one run.

    python benchmarks/judge_cost.py --problems DeepPrune_data/problems/arithmetic.jsonl \
        --traces DeepPrune_data/traces/qwen2.5-coder-0.5b-deep.jsonl.gz --model results/demo/judge --truncation-k 2 \
        --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct --n 16 32 64 --output results/judge_cost

1. Counted: every pair of the largest n is scored once into OUTPUT.sqlite (a killed run goes on), then each mode is
   replayed from the store for every n, K and reading of the paper (--similarities, --assigns): judge calls, prompt
   tokens without and with a perfect prefix cache, the clusters' agreement with the full rule (adjusted Rand index),
   accuracy and answer diversity under the paper's finish rule. 'least possible' is the fewest calls with which any
   exact rule could justify the same clusters. 'largest first, likely' is not a reading of the paper but ours: the
   largest cluster that is likely above tau is joined. Where an LLM judge for every pair of hundreds of traces is too
   much: --judge sbert (a sentence encoder's similarity, its own --tau) or simulated (scores drawn to have each --auroc;
   1 is the oracle).
2. Timed (--timed questions, --timed-n traces): the modes really run, one after the other in this process: wall time,
   and prompt tokens computed and cached by vLLM's own count. One pair at a time with transformers is timed on
   --slow-pairs pairs and scaled up.

Writes OUTPUT.csv, OUTPUT.json (with the timings) and OUTPUT.png.
"""

import dataclasses
import itertools
from pathlib import Path

import judge_cost_timed
import numpy as np
import pandas as pd
from judge_cost_data import CASE, COUNTED, CostSettings, Data, outcome, summary
from least_comparisons import least_comparisons

from deepprune import judges
from deepprune.base import config, jsonl, locks, manifest, progress, provenance, runtime
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.evaluate import judge_cost_figures, plotting, simulation
from deepprune.evaluate.judge_cost_figures import FULL, LEAST
from deepprune.judges import score_store, scoring
from deepprune.prune import costs


def arguments() -> CostSettings:
    args = config.parse(CostSettings, None, __doc__)
    if args.judge == "vllm" and not args.model:
        raise UserError("--judge vllm needs --model")
    if args.judge != "vllm" and args.timed:
        raise UserError(f"--timed runs a judge on vLLM; with --judge {args.judge} there is none")
    outputs = [f"{args.output}{end}" for end in (".csv", ".json", ".png")]
    manifest.check_paths(outputs, [*args.problems, *args.traces])
    locks.hold(outputs[0])
    return args


Table = dict[str, list[list[float]]]  # p_same[member][new] of each question's first traces


def tables(data: Data) -> dict[str, Table]:
    """Of each judge, by its name."""
    args, n = data.args, max(data.args.n)
    if args.judge == "simulated":
        return {
            f"simulated, AUROC {auroc:g}": {
                i: simulation.simulated_scores(data.labels[i][:n], auroc, args.seed, i).tolist() for i in data.groups
            }
            for auroc in args.auroc
        }
    if args.judge == "sbert":
        from deepprune.judges.sbert import p_same_of

        return {
            judges.name_of("sbert", args.sbert): {
                i: p_same_of(np.asarray(rows)[:n, :n]).tolist() for i, rows in cosines(data).items()
            }
        }
    described = judges.describe("vllm", args.model)
    return {described["name"]: judged(data, described)}


def judged(data: Data, described: dict) -> Table:
    """Every pair of the first max(n) traces, scored once by the judge (judges.describe) on vLLM and stored."""
    args, n = data.args, max(data.args.n)
    identity = score_store.identity(described, "vllm", args.dtype, data.cut, args.tokenizer)
    requests = [data.request(i, a, b) for i in data.groups for a, b in itertools.combinations(range(n), 2)]

    def open_judge() -> judges.Judge:
        return judges.open_judge(
            "vllm", args.model, dtype=args.dtype, max_model_len=args.max_model_len, batch=args.batch
        )

    with score_store.ScoreStore(args.store or f"{args.output}.sqlite", identity) as store:
        store.check_prefixes({t.trace_id: t.prefix for g in data.groups.values() for t in g})
        scoring.fill(store, requests, open_judge, args.batch, described["name"])
        return {i: store.tables([t.trace_id for t in group[:n]])[0].tolist() for i, group in data.groups.items()}


def cosines(data: Data) -> dict[str, list[list[float]]]:
    """How alike two traces of a question look to the sentence encoder."""
    encoder = judges.open_judge("sbert", data.args.sbert, batch=data.args.batch)
    result = {}
    for i, group in data.groups.items():
        vectors, _ = encoder.encode([t.prefix for t in group])
        result[i] = (vectors @ vectors.T).tolist()
    return result


def counted(data: Data) -> pd.DataFrame:
    """Part 1, a row of each of CASE and a mode: means over questions."""
    args, rows = data.args, []
    cases = list(itertools.product(tables(data).items(), args.similarities, args.assigns, args.n, args.k))
    for (judge, scores), similarity, assign, n, k in progress.bar(cases, desc="counting", unit="case"):
        case = dict(zip(CASE, (judge, similarity, assign, n, k), strict=True))
        cut = {i: [row[:n] for row in scores[i][:n]] for i in data.groups}
        full = {}
        for mode, (asks, other) in COUNTED.items():
            if other == assign:
                continue  # 'likely' is that already
            outcomes = []
            for i, table in cut.items():
                done = simulation.cluster(table, data.rule(asks, k, similarity, other or assign), i)
                full.setdefault(i, done.placed)
                prompt, cached = costs.judge_tokens(done.asked, data.tokens[i][:n], n, data.frame[i])
                asked = {
                    "calls": sum(map(len, done.asked)),
                    "prompt tokens": prompt,
                    "computed tokens": prompt - cached,
                }
                outcomes.append(asked | outcome(data, i, done.placed, full[i]))
            rows.append({"mode": mode} | case | summary(outcomes))
        rule = data.rule("all", k, similarity, assign)
        least = [{"calls": least_comparisons(table, rule, i)} for i, table in cut.items()]
        rows.append({"mode": LEAST} | case | summary(least))
    result = pd.DataFrame(rows)
    for column, of, name in (
        ("calls", "calls", "calls / full rule"),
        ("computed tokens", "prompt tokens", "computed tokens / full rule without a cache"),
    ):
        base = result[result["mode"] == FULL].set_index(CASE)[of]
        result[name] = (
            result[column].to_numpy() / base.loc[list(result[CASE].itertuples(index=False, name=None))].to_numpy()
        )
    return result


@command
def main() -> None:
    args = arguments()
    runtime.ensure()
    data = Data(args)
    numbers = counted(data)
    shown = [
        "mode",
        *CASE,
        "calls",
        "calls / full rule",
        "computed tokens / full rule without a cache",
        "adjusted Rand index",
        "same clusters",
        "accuracy",
        "diversity",
    ]
    print(numbers[shown].round(3).to_string(index=False))
    jsonl.write_text(f"{args.output}.csv", numbers.to_csv(index=False))
    about = {
        "settings": {
            k: v
            for k, v in dataclasses.asdict(args).items()
            if k not in ("problems", "traces", "model", "only", "output", "store")
        },
        "judges": list(numbers["judge"].unique()),
        "questions": list(data.groups),
        "commit": provenance.code_commit(),
        "packages": provenance.package_versions(),
        "inputs": {Path(p).name: provenance.file_hash(p) for p in [*args.problems, *args.traces]},
    }

    def save(rows: list[dict]) -> None:
        jsonl.write_json(f"{args.output}.json", about | ({"timed": rows} if args.timed else {}))

    times = judge_cost_timed.timed(data, save) if args.timed else []
    save(times)
    plotting.save(judge_cost_figures.draw(numbers, times), f"{args.output}.png")
    print(f"{args.output}.csv, {args.output}.json, {args.output}.png")


if __name__ == "__main__":
    main()
