"""Judge scoring through vLLM against plain transformers: the same pairs, one run, side by side.

    python benchmarks/judge_scoring.py --model HuggingFaceTB/SmolLM2-135M-Instruct --pairs PAIRS.jsonl --count 300

Prints pairs/s of both, their ratio, the largest difference in p_same, and how many prompt tokens came from
vLLM's prefix cache. Start-up is not timed; both compute in --dtype.
"""

import dataclasses
import time

from deepprune import judges
from deepprune.base import config, jsonl, manifest, provenance, records, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.data import pairs


def timed(kind: str, model: str, requests: list, batch: int, dtype: str) -> tuple[list, float]:
    """(scores, seconds) of one judge, after a warm-up on requests of its own."""
    judge = judges.open_judge(kind, model, dtype=dtype, batch=batch, max_model_len=2048 if kind == "vllm" else None)
    warm = [judges.Request("Warm-up?", f"one {i}", f"two {i}", "a", "b") for i in range(4)]
    judge.score(warm)
    started = time.perf_counter()
    scores = judge.score(requests)
    seconds = time.perf_counter() - started
    judge.close()
    return scores, seconds


@dataclasses.dataclass
class SpeedSettings:
    model: str = setting("HuggingFaceTB/SmolLM2-135M-Instruct", "the judge")
    pairs: str = setting("DeepPrune_data/offline_test_data/deepprune_pairs.jsonl", "Pair records (stage 02)")
    count: int = setting(300, "pairs to score", at_least=1)
    batch: int = setting(64, "vLLM: pairs at once (transformers uses 16)", at_least=1)
    dtype: str = config.dtype("the judge's weights' type")
    output: str | None = setting(None, "JSON file for the numbers")


@command
def main() -> None:
    args = config.parse(SpeedSettings, None, __doc__)
    if args.output:
        manifest.check_paths([args.output], [args.pairs])
    runtime.ensure()
    chosen = pairs.scoring_order(records.read(records.Pair, args.pairs))[: args.count]
    if len(chosen) < args.count:
        raise UserError(f"{args.pairs}: holds {len(chosen)} pairs, --count asks for {args.count}")
    requests = [judges.Request.of(p) for p in chosen]
    slow, slow_seconds = timed("transformers", args.model, requests, 16, args.dtype)
    fast, fast_seconds = timed("vllm", args.model, requests, args.batch, args.dtype)
    tokens, cached = sum(s.prompt_tokens for s in fast), sum(s.cached_tokens for s in fast)
    numbers = {
        "pairs": len(chosen),
        "model": args.model,
        "dtype": args.dtype,
        "prompt_tokens": tokens,
        "cached_tokens": cached,
        "transformers_pairs_per_second": len(chosen) / slow_seconds,
        "vllm_pairs_per_second": len(chosen) / fast_seconds,
        "ratio": slow_seconds / fast_seconds,
        "largest_difference": max(abs(a.p_same - b.p_same) for a, b in zip(fast, slow, strict=True)),
        "commit": provenance.code_commit(),
        "packages": provenance.package_versions(),
    }
    print(f"{len(chosen)} pairs, {tokens / len(chosen):.0f} prompt tokens each")
    print(f"transformers {numbers['transformers_pairs_per_second']:.2f} pairs/s")
    print(
        f"vLLM         {numbers['vllm_pairs_per_second']:.2f} pairs/s, "
        f"{cached / tokens:.1%} of prompt tokens from the prefix cache"
    )
    print(
        f"ratio vLLM / transformers {numbers['ratio']:.2f}; "
        f"largest difference in p_same {numbers['largest_difference']:.4f}"
    )
    if args.output:
        jsonl.write_json(args.output, numbers)


if __name__ == "__main__":
    main()
