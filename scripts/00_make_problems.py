"""Stage 00: make a problem set.

    python scripts/00_make_problems.py --output DeepPrune_data/problems/train.jsonl --per-family 24 --seed 1
    python scripts/00_make_problems.py --output aime24.jsonl --benchmark AIME24            # from the hub
    python scripts/00_make_problems.py --output aime24.jsonl --benchmark AIME24 --path aime24.parquet

A record: {"problem_id": "6c1f...", "dataset": "reasoning-gym", "question": "...", "gold": "42",
           "answer_type": "math", "family": "chain_sum"}
"""

import dataclasses
from pathlib import Path

from deepprune.base import config, locks, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.stage import command
from deepprune.data import answers, problems


@dataclasses.dataclass
class ProblemSettings:
    output: str = setting(config.REQUIRED, "JSONL file of Problem records to write", ends=config.PACKED)
    level: str = setting(
        "short", "how many steps reasoning-gym's problems take: short or long", choices=tuple(problems.LEVELS)
    )
    families: list[str] = setting(
        [], "reasoning-gym families (default: all of the level)", choices=problems.ALL_FAMILIES
    )
    per_family: int = setting(24, "problems of each family", at_least=1)
    seed: int = setting(1, "seed of the generator", at_least=0, at_most=config.LARGEST_SEED)
    exclude: list[str] = setting([], "problem files whose questions must not come again")
    benchmark: str | None = setting(
        None, f"a benchmark instead: {', '.join(problems.BENCHMARKS)}", choices=tuple(problems.BENCHMARKS)
    )
    path: str | None = setting(None, "local file with the benchmark's columns (jsonl, json, csv, parquet)")
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(ProblemSettings, "problems", __doc__)
    skip = {problems.normalised_question(p.question) for p in records.read(records.Problem, *settings.exclude)}
    inputs = settings.exclude + ([settings.path] if settings.path else [])
    locks.hold(settings.output)
    if Path(settings.output).exists() and not settings.overwrite:
        raise UserError(f"{settings.output} exists; delete it, choose another output, or pass --overwrite")
    manifest = Manifest.open(settings.output, "problems", config.resolved(settings), inputs, overwrite=True)
    if settings.benchmark:
        problem_set = problems.load_benchmark(settings.benchmark, settings.path)
    else:
        problem_set = []
        for family in settings.families or problems.LEVELS[settings.level]:
            problem_set += problems.generate(family, settings.per_family, settings.seed, skip, settings.level)
    rows = manifest.write(map(records.to_row, problem_set))
    print(f"{settings.output}: {rows} problems")
    unreadable = [p.gold for p in problem_set if p.answer_type == "math" and not answers.readable(p.gold)]
    if unreadable:
        shown = ", ".join(f"{gold!r:.40}" for gold in unreadable[:3])
        print(f"{len(unreadable)} gold answers are no readable mathematics (only the same spelling is right): {shown}")


if __name__ == "__main__":
    main()
