"""The output folder of a training: its manifest, its checkpoints, and whether there is anything left to do."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

from deepprune.base import jsonl
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest, manifest_path
from deepprune.engines import models
from deepprune.judges import profiles
from deepprune.judges.profiles import Profile
from deepprune.judges.training.data import TrainingData
from deepprune.judges.training.guard import ADVICE, weights_problem
from deepprune.judges.training.recipe import Recipe
from deepprune.judges.training.watch import Watch

# Where things lie and how often they are logged or saved does not change the judge: free on resume.
FREE = ("logging_steps", "save_steps", "save_total_limit", "dataloader_num_workers", "overwrite_cache",
        "preprocessing_num_workers", "preprocessing_batch_size", "plot_loss", "report_to", "run_name",
        "disable_tqdm", "flash_attn")  # fmt: skip
WEIGHTS = ("adapter_model*", "model*.safetensors", "pytorch_model*.bin")


@dataclasses.dataclass
class TrainingRun:
    """One rank's view of a training. manifest: the first rank writes it; the others read what is there (or None)."""

    output: Path
    model: models.ResolvedModel
    manifest: Manifest | None
    first: bool  # the first rank
    profile: Profile

    @classmethod
    def open(cls, recipe: Recipe, data: TrainingData, model: models.ResolvedModel) -> TrainingRun:
        """Start the output folder, or go on with it. Raises UserError if it was made from other settings or data."""
        output, first = recipe.output, os.environ.get("RANK", "0") == "0"
        version = data.profile.version
        asked = {"prompt_version": None if version == profiles.DEFAULT.version else version}
        settings = recipe.settings() | {"datasets": data.entries} | asked
        files = [*data.files("dataset"), *data.files("eval_dataset")]
        judge = {"judge": f"{model.name} ({model.source})"}
        anew = bool(recipe.args.get("overwrite_output_dir"))
        if not first:
            manifest = None
            if not anew and manifest_path(output).is_file():
                manifest = Manifest.open(output, "train", settings, files, FREE, models=judge, read_only=True)
            return cls(output, model, manifest, first, data.profile)
        if anew and manifest_path(output).is_file():  # ours, so its checkpoints are ours to remove
            for old in output.glob("checkpoint-*"):
                shutil.rmtree(old)
        empty = output.is_dir() and not any(output.iterdir())
        try:
            manifest = Manifest.open(output, "train", settings, files, FREE, anew or empty, models=judge)
        except UserError as error:
            raise UserError(str(error).replace("pass --overwrite", "add overwrite_output_dir=true")) from error
        return cls(output, model, manifest, first, data.profile)

    def is_done(self) -> bool:
        """Whether the judge is trained already. Raises UserError if its weights are not finite."""
        if not (self.manifest and self.manifest.complete):
            return False
        if not any(any(self.output.glob(name)) for name in WEIGHTS):  # gone: until they are back it is not complete
            if self.first:
                self.manifest.data["complete"] = False
                self.manifest.save()
            return False
        problem = weights_problem(self.output)
        if problem:
            raise UserError(f"{self.output}: {problem}; train anew with overwrite_output_dir=true ({ADVICE})")
        if self.first:
            print(f"{self.output}: trained already with these settings and data, nothing to do")
        return True

    def checkpoint(self) -> Path | None:
        """The newest checkpoint with a trainer state, the last file that a checkpoint gets, and finite weights.

        None: start anew. Which it is, and why one is passed over, is printed.
        """
        whole = [path.parent for path in self.output.glob("checkpoint-*/trainer_state.json") if is_whole(path)]
        for checkpoint in sorted(whole, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
            problem = weights_problem(checkpoint)
            if self.first:
                print(
                    f"{checkpoint}: passed over: {problem}"
                    if problem
                    else f"{self.output}: going on from {checkpoint.name}"
                )
            if problem is None:
                return checkpoint
        return None

    def finish(self, watch: Watch) -> None:
        """Complete the manifest and say how it went."""
        if not self.first:
            return
        name_base_model(self.output, self.model.name)
        profiles.save(self.profile, self.output / profiles.FILE)
        losses = [entry["loss"] for entry in watch.log if "loss" in entry]
        final = losses[-1] if losses else None  # finite: the guard stops at the first one that is not
        mean = sum(losses) / len(losses) if losses else None
        self.manifest.finish(watch.rows, final_loss=final, steps=watch.steps, mean_loss=mean)
        shown = "not logged" if final is None else f"{final:.4f}"
        seconds = self.manifest.data["wall_seconds"]
        print(f"{self.output}: {watch.rows} pairs, {watch.steps} steps, final loss {shown}, {seconds:.0f} s")


def is_whole(state: Path) -> bool:
    try:
        return bool(json.loads(state.read_text()))
    except ValueError:
        return False


def name_base_model(output: Path, name: str) -> None:
    """In an adapter's config, the model as the user named it instead of a cache folder of this machine."""
    file = output / "adapter_config.json"
    if file.is_file():
        adapter = json.loads(file.read_text())
        jsonl.write_json(file, adapter | {"base_model_name_or_path": name}, indent=2)
