"""A judge's weights as one plain model folder: full weights as they are, a LoRA adapter merged into its base.

A LoRA adapter attached at run time made vLLM's CPU build three times slower, so it is merged once and cached.

    python -m deepprune.judges.weights pack results/study/miniature/qwen2.5-0.5b Offline/DeepPrune-Judge-mini

copies a trained adapter in bfloat16, half the size, to give it away: weights, config and what made it.

    python -m deepprune.judges.weights folder results/demo/judge

prints the folder of full weights and tokenizer, to serve it (see deepprune/judges/server.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import os
import tempfile
from pathlib import Path

from deepprune.base import jsonl
from deepprune.base.errors import UserError
from deepprune.base.manifest import check_paths, manifest_path
from deepprune.base.records import content_hash
from deepprune.base.stage import command
from deepprune.base.storage import writing
from deepprune.engines import models
from deepprune.engines.packaged import NOT_WHOLE
from deepprune.judges import profiles


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which weights a judge has. sha256: of all of them (an adapter's: of its own, what scales them, and its base's).

    name ends in the start of the hash of the weights; an adapter's, in those of its own and of its base's.
    """

    name: str
    sha256: str
    source: str  # 'folder', 'cache', 'hub', or the package


# What changes the weights that an adapter's bytes are merged to.
MERGED_BY = ("r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora", "use_dora", "fan_in_fan_out",
             "target_modules", "layers_to_transform", "modules_to_save", "peft_type", "bias")  # fmt: skip


@functools.cache  # merging takes minutes: once a process
def prepare(name: str) -> tuple[str, str]:
    """(name for records, folder of full weights) of a judge model.

    Raises UserError for unknown models, a broken adapter, and an adapter whose weights are not finite.
    """
    folder = Path(models.resolve(name).path)
    known = identify(name)
    if not (folder / "adapter_config.json").is_file():
        return known.name, str(folder)
    target = models.cache_dir() / "merged" / known.sha256[:16]
    if not (target / "config.json").is_file():
        models.check_finite(folder)
        _merge(models.resolve(_base_of(folder)[0]).path, folder, target)
    _copy_profile(folder, target)
    return known.name, str(target)


def _copy_profile(folder: Path, target: Path) -> None:
    """An adapter's profile beside the weights that it is merged or packed to, so that they are asked alike."""
    profile = folder / profiles.FILE
    if profile.is_file():
        with jsonl.atomic(target / profiles.FILE) as file:
            file.write(profile.read_bytes())


@functools.cache
def identify(name: str) -> Identity:
    """The identity of a judge model, or of a sentence encoder: another training run is another judge.

    Raises UserError for unknown models and a broken adapter.
    """
    resolved = models.resolve(name)
    folder = Path(resolved.path)
    _check_trained(folder)
    own = models.weights_hash(folder)
    shown = folder.name if resolved.source == "folder" else resolved.name
    if not (folder / "adapter_config.json").is_file():
        return Identity(f"{shown}@{own[:8]}", own, resolved.source)
    base, settings = _base_of(folder)
    under = models.weights_hash(models.resolve(base).path)
    scale = content_hash({key: settings.get(key) for key in MERGED_BY})
    whole = hashlib.sha256(f"{own} {under} {scale}".encode()).hexdigest()
    return Identity(f"{shown}@{own[:8]}+{under[:8]}", whole, resolved.source)


def _check_trained(folder: Path) -> None:
    """Raise UserError for the folder of a training that has not come to its end: killed, or still running."""
    try:
        manifest = json.loads(manifest_path(folder).read_text())
        unfinished = manifest["stage"] == "train" and manifest["complete"] is False
    except (OSError, ValueError, KeyError, TypeError):  # weights of others have no manifest of ours
        return
    if unfinished:
        raise UserError(
            f"{folder}: its training is not complete; run the command that trains it again, which goes on where it "
            "stopped"
        )


def _base_of(adapter: Path) -> tuple[str, dict]:
    """(the model that an adapter was trained on, the adapter's config)."""
    config = adapter / "adapter_config.json"
    try:
        settings = json.loads(config.read_text())
        return settings["base_model_name_or_path"], settings
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{config}: not a readable adapter config ({error})") from error


def _merge(base: str, adapter: Path, target: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    with tempfile.TemporaryDirectory(dir=target.parent) as tmp, writing(target, NOT_WHOLE):
        staged = Path(tmp) / "model"
        merged.save_pretrained(staged)
        AutoTokenizer.from_pretrained(base).save_pretrained(staged)
        try:
            os.rename(staged, target)
        except OSError:
            if not (target / "config.json").is_file():
                raise


def pack(adapter: Path, target: Path) -> int:
    """Copy a LoRA adapter in bfloat16, with its config, manifest and profile; returns the bytes of its weights.

    A packed adapter is another judge than the original (its name ends in another hash): score it, not the other.
    Raises UserError if the folder is no adapter.
    """
    import torch
    from safetensors.torch import load_file, save

    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"{adapter}: no adapter_config.json in it; only LoRA adapters are packed")
    check_paths([target], [adapter])
    tensors = load_file(models.weight_files(adapter)[0])
    data = save({name: value.to(torch.bfloat16) for name, value in tensors.items()}, metadata={"format": "pt"})
    with jsonl.atomic(target / "adapter_model.safetensors") as file:
        file.write(data)
    _copy_profile(adapter, target)
    for name in ("manifest.json", "adapter_config.json"):  # the config last: with it the folder is an adapter
        if (adapter / name).is_file():
            with jsonl.atomic(target / name) as file:
                file.write((adapter / name).read_bytes())
    return len(data)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="what", required=True)
    packing = sub.add_parser("pack", help="copy an adapter in bfloat16")
    packing.add_argument("adapter", type=Path)
    packing.add_argument("target", type=Path)
    sub.add_parser("folder", help="full weights and tokenizer; an adapter is merged").add_argument("model")
    args = parser.parse_args()
    if args.what == "pack":
        print(f"{args.target}: {pack(args.adapter, args.target):,} bytes of weights")
    else:
        print(prepare(args.model)[1])


if __name__ == "__main__":
    main()
