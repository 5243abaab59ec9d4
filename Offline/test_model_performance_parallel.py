"""Stage 04: score the test pairs with a judge, many at once, and print AUROC, TNR@0.2 and accuracy.

    python Offline/test_model_performance_parallel.py --config scripts/recipes/cpu.yaml \
        --model results/demo/judge --output results/demo/scores.jsonl
    python Offline/test_model_performance_parallel.py --judge sbert --model all-MiniLM-L6-v2 --output sbert.jsonl

--model takes full weights or a LoRA adapter folder. Each score is on disk when it is known; a killed run goes
on with the same command.

A record: {"pair_id": "77ab...", "judge": "judge@1f3c9a2b", "p_same": 0.81, "verdict": true,
           "prompt_tokens": 312, "cached_tokens": 160}
"""

import dataclasses
import time

from deepprune import config, jsonl, judges, metrics, pairs, progress, prompts, records, runtime
from deepprune.config import setting
from deepprune.errors import command
from deepprune.manifest import Manifest


@dataclasses.dataclass
class EvaluateSettings:
    output: str = setting(config.REQUIRED, "JSONL file of PairScore records; appended to when it exists")
    pairs: str = setting("DeepPrune_data/offline_test_data/deepprune_pairs.jsonl", "JSONL file of Pair records")
    judge: str = setting("vllm", "kind of judge", choices=judges.KINDS)
    model: str | None = setting(None, "the judge's model: folder, LoRA adapter folder or hub id")
    dtype: str = setting("auto", "weights' type (auto: float32 on CPU, the model's own on GPU)")
    max_model_len: int | None = setting(None, "context length in tokens (default: the model's)", free=True)
    batch: int = setting(64, "pairs scored at once", free=True)
    prefix_caching: bool = setting(True, "let vLLM reuse the common start of prompts", free=True)
    tensor_parallel: int = setting(1, "GPUs that share one copy of the judge", free=True)
    data_parallel: int = setting(1, "copies of the judge", free=True)
    resamples: int = setting(1000, "bootstrap resamples for the intervals", free=True)
    seed: int = setting(0, "seed of the bootstrap and of the random judge")
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(EvaluateSettings, "evaluate", __doc__)
    some = pairs.scoring_order(records.read(records.Pair, settings.pairs))
    if settings.judge == "vllm":
        runtime.ensure()
    judge = None
    name = judges.name_of(settings.judge, settings.model, settings.seed)
    kept = config.resolved(settings) | {"prompt_version": prompts.VERSION}
    kept.pop("pairs"), kept.pop("model")
    manifest = Manifest.open(
        settings.output, "evaluate", kept, [settings.pairs], config.free_settings(EvaluateSettings),
        settings.overwrite, {"judge": name},
    )  # fmt: skip
    with jsonl.Appender(settings.output) as out:
        if out.repaired:
            print(f"{settings.output}: removed a cut-off last line left by a killed run")
        scores = {s.pair_id: s for s in records.read(records.PairScore, settings.output)}
        todo = [p for p in some if p.pair_id not in scores]
        print(f"{len(some)} pairs: {len(some) - len(todo)} scored before, {len(todo)} to score with {name}")
        if todo:
            judge = judges.open_judge(
                settings.judge, settings.model, dtype=settings.dtype, max_model_len=settings.max_model_len,
                batch=settings.batch, prefix_caching=settings.prefix_caching, seed=settings.seed,
                tensor_parallel=settings.tensor_parallel, data_parallel=settings.data_parallel,
            )  # fmt: skip
            started = time.monotonic()
            requests = (judges.Request.of(p) for p in todo)
            for position, score in progress.bar(judge.stream(requests), total=len(todo), desc="pairs", unit="pair"):
                record = records.PairScore(
                    todo[position].pair_id, name, score.p_same, score.p_same > 0.5, score.prompt_tokens,
                    score.cached_tokens,
                )  # fmt: skip
                out.append(records.to_row(record))
                scores[record.pair_id] = record
            print(f"{len(todo) / (time.monotonic() - started):.1f} pairs/s")
            judge.close()
    tokens = sum(scores[p.pair_id].prompt_tokens for p in some)
    cached = sum(scores[p.pair_id].cached_tokens for p in some)
    table = metrics.judge_table(
        [p.label for p in some], [scores[p.pair_id].p_same for p in some], [p.problem_id for p in some],
        settings.resamples, settings.seed,
    )  # fmt: skip
    print(
        f"{len(some)} pairs of {len({p.problem_id for p in some})} problems, judge {name}; 95 % intervals over problems"
    )
    for metric, row in table.items():
        print(f"  {metric:<22} {row['value']:.4f}  [{row['low']:.4f}, {row['high']:.4f}]")
    print(f"prompt tokens {tokens:,}, of which {cached:,} ({cached / max(tokens, 1):.1%}) from the prefix cache")
    manifest.finish(len(scores), metrics=table, prompt_tokens=tokens, cached_tokens=cached)


if __name__ == "__main__":
    main()
