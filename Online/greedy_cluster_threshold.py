"""Stage 05: prune recorded traces by greedy clustering, finish a few, vote.

    python Online/greedy_cluster_threshold.py --config scripts/recipes/cpu.yaml --model results/demo/judge \
        --problems DeepPrune_data/problems/*.jsonl --output results/demo/pruning.jsonl
    python Online/greedy_cluster_threshold.py --judge oracle --problems ... --output oracle.jsonl

Traces arrive in sample order. Many problems advance in lockstep, so that each call to the judge is large.
Finished groups of problems are on disk; a killed run goes on with the same command.

A record: {"problem_id": "6c1f...", "judge": "judge@1f3c9a2b", "settings": {"tau": 0.5, ...},
           "clusters": [["b0e1...", ...], ...], "finished": ["b0e1...", ...], "answer": "42", "correct": true,
           "tokens": {"prefix": 820, "rest": 1440, "total": 2260, "consensus": 5210},
           "judge_calls": 61, "judge_tokens": 17800, "judge_cached_tokens": 9100}
"""

import dataclasses

from deepprune import (
    answers,
    clustering,
    config,
    costs,
    jsonl,
    judges,
    models,
    pairs,
    progress,
    prompts,
    records,
    runtime,
)
from deepprune.clustering import ClusterSettings
from deepprune.config import setting
from deepprune.errors import UserError, command
from deepprune.manifest import Manifest
from deepprune.truncation import STRATEGIES, Truncation


@dataclasses.dataclass
class PruneSettings:
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    output: str = setting(config.REQUIRED, "JSONL file of Pruning records; appended to when it exists")
    traces: str = setting("DeepPrune_data/online_test_data/deepprune_pairs.jsonl", "JSONL file of Trace records")
    judge: str = setting("vllm", "kind of judge", choices=judges.KINDS)
    model: str | None = setting(None, "the judge's model: folder, LoRA adapter folder or hub id")
    reasoner: str | None = setting(None, "only traces of this model (default: all must be of one)")
    limit: int | None = setting(None, "only so many problems, spread evenly over the file", free=True)
    tau: float = setting(0.5, "a trace joins the most similar cluster above this similarity")
    k: int = setting(32, "most clusters (the paper's K)")
    k1: int = setting(10, "most members of a cluster that a new trace is compared with (K1)")
    k2: int = setting(20, "most traces finished (K2)")
    k3: int = setting(20, "traces finished when every cluster is a singleton (K3; not stated by the paper)")
    overflow: str = setting(
        "join", "K clusters open and none similar: join the best, or drop", choices=("join", "drop")
    )
    truncation: str = setting("words", "how a trace is cut (as for the judge's training)", choices=STRATEGIES)
    truncation_k: int = setting(25, "the truncation's k")
    tokenizer: str = setting("Qwen/Qwen3-4B-Instruct-2507", "model whose tokenizer cuts and counts")
    dtype: str = setting("auto", "the judge's weights' type (auto: float32 on CPU, the model's own on GPU)")
    max_model_len: int | None = setting(None, "the judge's context length in tokens", free=True)
    batch: int = setting(64, "pairs scored at once", free=True)
    lockstep: int = setting(16, "problems that advance together", free=True)
    tensor_parallel: int = setting(1, "GPUs that share one copy of the judge", free=True)
    data_parallel: int = setting(1, "copies of the judge", free=True)
    seed: int = setting(0, "seed of sampled members, random finish and the random judge")
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(PruneSettings, "prune", __doc__)
    rule = ClusterSettings(
        settings.tau, settings.k, settings.k1, settings.k2, settings.k3, settings.overflow, settings.seed
    )
    truncation = Truncation(settings.truncation, settings.truncation_k)
    by_id = {p.problem_id: p for p in records.read(records.Problem, *settings.problems)}
    groups = select(settings, by_id)
    if settings.judge == "vllm":
        runtime.ensure()
    name = judges.name_of(settings.judge, settings.model, settings.seed)
    kept = config.resolved(settings) | {"prompt_version": prompts.VERSION}
    kept.pop("problems"), kept.pop("traces"), kept.pop("model")
    manifest = Manifest.open(
        settings.output, "prune", kept, [*settings.problems, settings.traces],
        config.free_settings(PruneSettings), settings.overwrite, {"judge": name},
    )  # fmt: skip

    with jsonl.Appender(settings.output) as out:
        done = {p.problem_id for p in records.read(records.Pruning, settings.output)}
        todo = [i for i in groups if i not in done]
        print(f"{len(groups)} problems: {len(groups) - len(todo)} done before, {len(todo)} to prune with {name}")
        if todo:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
            judge = judges.open_judge(
                settings.judge, settings.model, dtype=settings.dtype, max_model_len=settings.max_model_len,
                batch=settings.batch, seed=settings.seed, tensor_parallel=settings.tensor_parallel,
                data_parallel=settings.data_parallel,
            )  # fmt: skip
            manifest.data["judge_parameters"] = judge.parameters
            manifest.save()
            with progress.bar(total=sum(len(groups[i]) for i in todo), desc="traces placed", unit="trace") as bar:
                for start in range(0, len(todo), settings.lockstep):
                    some = {i: groups[i] for i in todo[start : start + settings.lockstep]}
                    for record in prune(some, by_id, judge, rule, truncation, tokenizer, bar):
                        record.judge = name
                        out.append(records.to_row(record))
            judge.close()
    rows = [p for p in records.read(records.Pruning, settings.output) if p.problem_id in groups]
    total = {k: sum(p.tokens[k] for p in rows) for k in ("prefix", "rest", "total", "consensus")}
    print(f"{len(rows)} problems, judge {name}: accuracy {sum(p.correct is True for p in rows) / len(rows):.3f}, "
          f"tokens {total['total']:,} of {total['consensus']:,} for cons@n: reduction "
          f"{costs.reduction(total['total'], total['consensus']):.1%} without the judge's cost; judge: "
          f"{sum(p.judge_calls for p in rows):,} calls, {sum(p.judge_tokens for p in rows):,} prompt tokens, "
          f"{sum(p.judge_cached_tokens for p in rows):,} of them cached")  # fmt: skip
    manifest.finish(len(rows), tokens=total)


def select(settings: PruneSettings, by_id: dict) -> dict[str, list[records.Trace]]:
    """Traces by problem, in arrival order, of one reasoner, spread evenly when limited."""
    found = [t for t in records.read(records.Trace, settings.traces) if settings.reasoner in (None, t.model)]
    reasoners = sorted({t.model for t in found})
    if not found:
        raise UserError(f"{settings.traces}: no traces of {settings.reasoner or 'any model'}")
    if len(reasoners) > 1:
        raise UserError(f"{settings.traces} holds traces of {', '.join(reasoners)}: choose one with --reasoner")
    groups = pairs.by_problem(found)
    missing = [i for i in groups if i not in by_id]
    if missing:
        raise UserError(f"{settings.traces}: problem {missing[0]} is in no --problems file")
    keys = list(groups)
    if settings.limit is not None and settings.limit < len(keys):
        keys = [keys[i * len(keys) // settings.limit] for i in range(settings.limit)]
    return {key: groups[key] for key in keys}


def prune(groups, by_id, judge, rule, truncation, tokenizer, bar) -> list[records.Pruning]:
    """Cluster a group of problems in lockstep, finish, vote. One Pruning record a problem."""
    prefixes = {i: [truncation.cut(t.text, tokenizer) for t in traces] for i, traces in groups.items()}
    labels = {i: answers.classes([t.answer for t in traces], by_id[i].answer_type) for i, traces in groups.items()}
    spent = {i: [0, 0, 0] for i in groups}

    def score(batch):
        requests = [
            judges.Request(
                by_id[i].question, prefixes[i][a], prefixes[i][b], groups[i][a].trace_id, groups[i][b].trace_id,
                int(labels[i][a] is not None and labels[i][a] == labels[i][b]),
            )
            for i, a, b in batch
        ]  # fmt: skip
        scores = judge.score(requests)
        for (i, _, _), s in zip(batch, scores, strict=True):
            spent[i][0] += 1
            spent[i][1] += s.prompt_tokens
            spent[i][2] += s.cached_tokens
        return [s.p_same for s in scores]

    runs = {i: clustering.greedy(len(traces), rule, i) for i, traces in groups.items()}
    clusters = clustering.lockstep(runs, score, bar.update)
    bar.update(len(groups))  # the first trace of each problem is placed without a question
    result = []
    for i, traces in groups.items():
        finished = clustering.finish(clusters[i], len(traces), rule, i)
        answer = answers.majority([traces[t].answer for t in finished], by_id[i].answer_type)

        def count(text):
            return len(tokenizer.encode(text, add_special_tokens=False))

        cost = costs.tokens(
            traces, [costs.prefix_tokens(t, p, count) for t, p in zip(traces, prefixes[i], strict=True)], finished
        )
        result.append(
            records.Pruning(
                i,
                judge.name,
                dataclasses.asdict(rule),
                [[traces[t].trace_id for t in c] for c in clusters[i]],
                [traces[t].trace_id for t in finished],
                answer,
                answers.same(answer, by_id[i].gold, by_id[i].answer_type),
                cost,
                *spent[i],
            )  # fmt: skip
        )
    return result


if __name__ == "__main__":
    main()
