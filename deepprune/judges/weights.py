"""A judge's weights as one plain model folder: full weights as they are, a LoRA adapter merged into its base.

A LoRA adapter attached at run time made vLLM's CPU build three times slower, so it is merged once and cached.

    python -m deepprune.judges.weights pack results/study/miniature/qwen2.5-0.5b Offline/DeepPrune-Judge-mini

copies a trained adapter in bfloat16, half the size, to give it away: weights, config and what made it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

from deepprune import jsonl, models
from deepprune.errors import UserError, command
from deepprune.manifest import check_paths, file_hash


@functools.cache  # hashing a large judge takes minutes: once a process
def prepare(name: str) -> tuple[str, str]:
    """(name for records, folder of full weights) of a judge model.

    The record name ends in the hash of the adapter's (or, for a local folder, the config's and weights')
    bytes: another training run is another judge. Raises UserError for unknown models or a broken adapter.
    """
    resolved = models.resolve(name)
    folder = Path(resolved.path)
    if not (folder / "adapter_config.json").is_file():
        if resolved.source != "folder":
            return resolved.name, resolved.path
        digest = file_hash(_single(folder, "model*.safetensors"))[:8]
        return f"{folder.name}@{digest}", resolved.path
    try:
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (ValueError, KeyError) as error:
        raise UserError(f"{folder / 'adapter_config.json'}: not a readable adapter config ({error})") from error
    weights = _single(folder, "adapter_model.safetensors")
    digest = file_hash(weights)[:16]
    target = models.cache_dir() / "merged" / digest
    if not (target / "config.json").is_file():
        _merge(models.resolve(base).path, folder, target)
    return f"{folder.name}@{digest[:8]}", str(target)


def _single(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise UserError(f"{folder}: no {pattern} in it; is the training complete?")
    return found[0]


def _merge(base: str, adapter: Path, target: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target.parent.mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    with tempfile.TemporaryDirectory(dir=target.parent) as tmp:
        staged = Path(tmp) / "model"
        merged.save_pretrained(staged)
        AutoTokenizer.from_pretrained(base).save_pretrained(staged)
        try:
            os.rename(staged, target)
        except OSError:
            if not (target / "config.json").is_file():
                raise


def pack(adapter: Path, target: Path) -> int:
    """Copy a LoRA adapter in bfloat16, with its config and manifest; returns the bytes of its weights.

    A packed adapter is another judge than the original (its name ends in another hash): score it, not the other.
    Raises UserError if the folder is no adapter.
    """
    import torch
    from safetensors.torch import load_file, save

    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"{adapter}: no adapter_config.json in it; only LoRA adapters are packed")
    check_paths([target], [adapter])
    tensors = load_file(_single(adapter, "adapter_model.safetensors"))
    data = save({name: value.to(torch.bfloat16) for name, value in tensors.items()}, metadata={"format": "pt"})
    with jsonl.atomic(target / "adapter_model.safetensors") as file:
        file.write(data)
    for name in ("adapter_config.json", "manifest.json"):
        if (adapter / name).is_file():
            shutil.copyfile(adapter / name, target / name)
    return len(data)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pack"])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    print(f"{args.target}: {pack(args.adapter, args.target):,} bytes of weights")


if __name__ == "__main__":
    main()
