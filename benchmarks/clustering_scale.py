"""Does pruning's own work stay small at the paper's scale? Time with stored scores, memory with long traces.

    python benchmarks/clustering_scale.py

1. Clusters 8 problems x 512 made-up traces through stage 05 with a store that knows every score (K = 32, K1 = 10).
2. Streams 30 problems x 512 made-up traces of 16,000 tokens (over a gigabyte of text) through what stage 05 reads.

Prints seconds, traces a second, and the peak memory (resident set) of each process.
"""

import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deepprune.base import records
from deepprune.base.records import Problem, Trace, content_hash
from deepprune.base.stage import command
from deepprune.data.truncation import Truncation
from deepprune.engines import models
from deepprune.judges import Score, describe, score_store
from deepprune.prune import prefixes

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WORDS = ("we", "add", "so", "the", "sum", "of", "x", "and", "12", "then", "gives", "since", "it", "is", "even,", "\n")


def trace(problem: Problem, index: int, n_words: int, answers: int) -> Trace:
    rng = random.Random(f"{problem.problem_id}/{index}")
    answer = str(int(answers * rng.random() ** 3))
    text = " ".join(rng.choices(WORDS, k=n_words)) + f" \\boxed{{{answer}}}"
    return Trace(
        content_hash(problem.problem_id, index),
        problem.problem_id,
        "made-up-1B",
        index,
        text,
        n_words,
        "stop",
        answer,
        answer == "0",
    )


def write(folder: Path, problems: int, n: int, n_words: int) -> None:
    asked = [Problem.new("made up", f"Question {i}?", "0") for i in range(problems)]
    records.write(folder / "problems.jsonl", asked)
    records.write(folder / "traces.jsonl", (trace(p, i, n_words, 60) for p in asked for i in range(n)))


def clustering(folder: Path) -> None:
    """Part 1."""
    write(folder, 8, 512, 60)
    identity = score_store.identity(
        describe("transformers", SMOL), "transformers", "auto", Truncation("words", 3), SMOL
    )
    by_problem: dict[str, list[Trace]] = {}
    for t in records.read(Trace, folder / "traces.jsonl"):
        by_problem.setdefault(t.problem_id, []).append(t)
    with score_store.ScoreStore(folder / "scores.sqlite", identity) as store:
        for traces in by_problem.values():
            rng = random.Random(0)
            store.add(
                [
                    (
                        a.trace_id,
                        b.trace_id,
                        Score(min(1.0, rng.random() * (1.6 if a.answer == b.answer else 0.8)), 300, 150),
                    )
                    for a, b in itertools.combinations(traces, 2)
                ]
            )
    started = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "Online/greedy_cluster_threshold.py",
            "--problems",
            folder / "problems.jsonl",
            "--traces",
            folder / "traces.jsonl",
            "--judge",
            "transformers",
            "--model",
            SMOL,
            "--tokenizer",
            SMOL,
            "--truncation-k",
            "3",
            "--store",
            folder / "scores.sqlite",
            "--output",
            folder / "pruning.jsonl",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"clustering 8 problems x 512 traces with stored scores, whole process: {time.monotonic() - started:.1f} s")
    print("  " + "\n  ".join(done.stdout.strip().splitlines()))
    calls = [json.loads(line)["judge_calls"] for line in open(folder / "pruning.jsonl")]
    print(f"  pairs looked up a problem: {min(calls):,} to {max(calls):,}")


def memory(folder: Path) -> None:
    """Part 2, in a process of its own so that its peak is its own."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve(SMOL).path)
    started = time.monotonic()
    groups = prefixes.stream([folder / "traces.jsonl"], Truncation("words", 25), tokenizer)
    count = sum(map(len, groups.values()))
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = (folder / "traces.jsonl").stat().st_size / 2**30
    print(
        f"streaming {len(groups)} problems x {count // len(groups)} traces, {size:.2f} GiB of JSON: {seconds:.0f} s, "
        f"{count / seconds:.0f} traces/s, peak memory {peak:.2f} GiB"
    )


@command
def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "--memory":
        memory(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as tmp:
        clustering(Path(tmp))
    with tempfile.TemporaryDirectory() as tmp:
        write(Path(tmp), 30, 512, 16_000)
        subprocess.run([sys.executable, __file__, "--memory", tmp], check=True)


if __name__ == "__main__":
    main()
