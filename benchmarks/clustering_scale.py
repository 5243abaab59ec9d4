"""Does pruning's own work stay small at the paper's scale? Time with stored scores, memory with long traces.

    python benchmarks/clustering_scale.py                   # some minutes, and 3 GB of temporary files
    python benchmarks/clustering_scale.py --clustered 1 --streamed 2

1. Clusters --clustered problems x 512 made-up traces through stage 05 with a store that knows every score (K = 32,
   K1 = 10).
2. Streams --streamed problems x 512 made-up traces of 16,000 tokens (30: over a gigabyte of text) through what stage
   05 reads.

Prints seconds, traces a second, and the peak memory (resident set) of each process.
"""

import dataclasses
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deepprune.base import config, records
from deepprune.base.config import setting
from deepprune.base.records import Problem, Trace, content_hash
from deepprune.base.stage import command
from deepprune.data.traces import by_problem
from deepprune.data.truncation import Truncation
from deepprune.engines import models
from deepprune.judges import Score, describe, score_store
from deepprune.prune import prefixes

ROOT = Path(__file__).resolve().parent.parent
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WORDS = ("we", "add", "so", "the", "sum", "of", "x", "and", "12", "then", "gives", "since", "it", "is", "even,", "\n")


@dataclasses.dataclass
class ScaleSettings:
    clustered: int = setting(8, "problems that are clustered", at_least=1)
    streamed: int = setting(30, "problems that are streamed", at_least=1)
    stream: str | None = setting(None, "only stream the traces of this folder (part 2 starts itself so)")


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


def clustering(folder: Path, problems: int) -> None:
    """Part 1."""
    write(folder, problems, 512, 60)
    identity = score_store.identity(
        describe("transformers", SMOL), "transformers", "auto", Truncation("words", 3), SMOL
    )
    groups = by_problem(records.read(Trace, folder / "traces.jsonl"))
    with score_store.ScoreStore(folder / "scores.sqlite", identity) as store:
        for traces in groups.values():
            rng = random.Random(0)
            pairs = list(itertools.combinations(traces, 2))
            p_same = [min(1.0, rng.random() * (1.6 if a.answer == b.answer else 0.8)) for a, b in pairs]
            scored = zip(pairs, p_same, strict=True)
            store.add([(a.trace_id, b.trace_id, Score(p, 300, 150)) for (a, b), p in scored])
    started = time.monotonic()
    files = {
        "problems": "problems.jsonl",
        "traces": "traces.jsonl",
        "store": "scores.sqlite",
        "output": "pruning.jsonl",
    }
    places = [word for name, file in files.items() for word in (f"--{name}", folder / file)]
    judge = f"--judge transformers --model {SMOL} --tokenizer {SMOL} --truncation-k 3".split()
    command = [sys.executable, "Online/greedy_cluster_threshold.py", *places, *judge]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    print(f"clustering {problems} problems x 512 traces with stored scores, whole process: {seconds:.1f} s")
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
    settings = config.parse(ScaleSettings, None, __doc__)
    if settings.stream:
        memory(Path(settings.stream))
        return
    with tempfile.TemporaryDirectory() as folder:
        clustering(Path(folder), settings.clustered)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), settings.streamed, 512, 16_000)
        subprocess.run([sys.executable, __file__, "--stream", folder], check=True)


if __name__ == "__main__":
    main()
