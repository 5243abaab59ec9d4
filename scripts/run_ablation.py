"""The ablation grid, unattended: {first tokens, reasoning words} x {cross-entropy, focal} x {plain, oversampled}.

    python scripts/run_ablation.py --config scripts/recipes/ablation_cpu.yaml
    python scripts/run_ablation.py --config scripts/recipes/ablation_cpu.yaml --only-pairs   # stage 02 alone

Runs stages 02 to 04 for each of the eight judges; what is done is skipped, a killed run goes on where it stopped.
Writes, under --output: data/ (pairs), a folder a judge, scores_CELL.jsonl, and ablation.csv with AUROC, TNR@0.2 and
their intervals beside the paper's. Offline/Ablation_Study.ipynb draws it.
"""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

from deepprune.base import config, jsonl, locks
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.data.pairs import PairingSettings
from deepprune.evaluate import ablation, study

HERE = Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class AblationSettings(PairingSettings):
    output: str = setting("results/ablation", "folder to write under")
    recipe: str = setting("Offline/SmolLM2_lora_cpu.yaml", "training recipe of every judge")
    train_with: list[str] = setting([], "key=value overrides of the training recipe")
    words_k: int = setting(25, "reasoning words of the truncation by words", at_least=1)
    tokens_k: int = setting(500, "tokens of the truncation by tokens", at_least=1)
    oversampling: int = setting(2, "factor of the oversampled cells", at_least=1, at_most=100)
    max_model_len: int | None = setting(
        None, "context length of the judge in tokens (default: the model's)", at_least=2
    )
    resamples: int = config.resamples()
    seed: int = config.seed("seed of split, sampling and bootstrap")
    only_pairs: bool = setting(False, "stop after the pairs are made")


@command
def main() -> None:
    settings = config.parse(AblationSettings, "ablation", __doc__)
    root = Path(settings.output)
    locks.hold(root)
    for data in dict.fromkeys((cell.data, cell.truncation, cell.oversampled) for cell in ablation.GRID):
        build_pairs(settings, root, *data)
    if settings.only_pairs:
        return
    for number, cell in enumerate(ablation.GRID, 1):
        print(f"\n== judge {number} of {len(ablation.GRID)}: {cell.name}", flush=True)
        scores, judge = ablation.scores_file(root, cell), root / cell.name
        stage(
            "LLaMA-Factory/train.py",
            settings.recipe,
            f"dataset_dir={root / 'data'}",
            f"dataset={cell.data}",
            f"output_dir={judge}",
            f"use_focal_loss={str(cell.loss == 'focal').lower()}",
            *settings.train_with,
        )
        files = {"model": judge, "pairs": ablation.pairs_file(root, cell), "output": scores}
        given = {name: getattr(settings, name) for name in ("resamples", "seed", "max_model_len")}
        stage("Offline/test_model_performance_parallel.py", **files, **given)
    table = ablation.table(root, resamples=settings.resamples, seed=settings.seed)
    jsonl.write_text(root / "ablation.csv", table.to_csv(index=False))
    print(study.readable(table).to_string(index=False))
    print(root / "ablation.csv")


def build_pairs(settings: AblationSettings, root: Path, name: str, truncation: str, oversampled: bool) -> None:
    """Stage 02 for one data set of the grid."""
    print(f"\n== pairs {name}", flush=True)
    stage(
        "Offline/build_pair_dataset.py",
        data_dir=root / "data",
        name=name,
        truncation=truncation,
        truncation_k=settings.words_k if truncation == "words" else settings.tokens_k,
        oversampling=settings.oversampling if oversampled else 1,
        seed=settings.seed,
        **{field.name: getattr(settings, field.name) for field in dataclasses.fields(PairingSettings)},
    )


def stage(script: str, *words: str, **options: Any) -> None:
    """Run a stage in a process of its own: a_name=value is given as --a-name value, None and [] are left out.

    Raises UserError if it fails.
    """
    command = [sys.executable, str(HERE / script), *words]
    for name, value in options.items():
        if value not in (None, []):
            values = value if isinstance(value, list) else [value]
            command += [f"--{name.replace('_', '-')}", *map(str, values)]
    done = subprocess.run(command)
    if done.returncode:
        raise UserError(
            f"{script} failed (exit {done.returncode}); its message stands above. Run the same command to go on"
        )


if __name__ == "__main__":
    main()
