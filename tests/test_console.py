"""The console shows what a stage says, errors and bars; a run's log holds everything; the exit code stays."""

import os
import re
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from deepprune.base import console, progress

STAGE = """
import logging, os, subprocess, sys, time
from deepprune.base import console, progress
from deepprune.base.errors import UserError
from deepprune.base.stage import command

progress.BETWEEN = 1e9  # however busy the machine is, a bar's last line is its only one

@command
def main():
    print("result")
    console.detail("in detail")
    logging.getLogger("package").warning("a package warns")
    os.write(2, b"half 1\\rhalf 2\\n")
    subprocess.run(["sh", "-c", "echo a helper talks; echo and complains >&2"])
    for _ in progress.bar(range(3), desc="pairs", unit="pair"):
        pass
    if sys.argv[1] == "wait":
        print("up")
        time.sleep(600)
    if sys.argv[1] == "refuse":
        raise UserError("no such file: remedy")
    if sys.argv[1] == "fail":
        raise ZeroDivisionError("a fault")
main()
"""
SCRIPT = """
source scripts/common.sh
set -euo pipefail
keep_log "$1"
say "== a step"
"$2" "$3" "$4"
echo "a script's own line"
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "stage.py").write_text(STAGE)
    log = tmp_path / "results" / "log.txt"

    def command(how):
        return ["bash", "-c", SCRIPT, "run.sh", log, ROOT / ".venv/bin/python", tmp_path / "stage.py", how]

    return command, log


ON_CONSOLE = ["== a step", "result"]
HIDDEN = ["in detail", "a package warns", "half 2", "a helper talks", "and complains"]


@pytest.mark.parametrize(
    ("how", "code", "error"),
    [("end", 0, None), ("refuse", 2, "error: no such file: remedy"), ("fail", 1, "ZeroDivisionError: a fault")],
)
def test_the_log_holds_everything_and_the_console_what_a_stage_says(run, how, code, error):
    command, log = run
    done = subprocess.run(command(how), cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == code
    assert done.stdout.splitlines() == ON_CONSOLE
    shown = done.stderr.splitlines()
    assert re.fullmatch(r"pairs: 3 of 3 in 00:\d\d", shown[0])
    if error:
        assert error in shown and shown[-1] == f"run.sh: stopped with exit code {code}; every line: {log}"
    else:
        assert len(shown) == 1
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)
    texts = [line[21:] for line in lines]
    assert set(texts) >= {*ON_CONSOLE, *HIDDEN, *shown[:-1]}
    assert ("a script's own line" in texts) == (code == 0)
    subprocess.run(command("end"), cwd=ROOT, capture_output=True, timeout=600, check=True)
    again = log.read_text().splitlines()
    assert again[: len(lines)] == lines and len(again) > len(lines)  # appended


def test_ctrl_c_ends_a_run_script_quietly(run):
    command, log = run
    child = subprocess.Popen(
        command("wait"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while child.stdout.readline() not in ("up\n", ""):
        pass
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to every process
    _, err = child.communicate(timeout=600)
    assert child.returncode == 130
    assert [line.partition(":")[0] for line in err.splitlines()] == ["pairs", "interrupted"]
    assert "interrupted: what is on disk is kept" in log.read_text()


def test_without_a_run_script_details_are_on_stdout_and_errors_on_stderr(run):
    command, _ = run
    done = subprocess.run(command("refuse")[-3:], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert sorted(done.stdout.splitlines()) == ["a helper talks", "in detail", "result"]
    assert "error: no such file: remedy" in done.stderr


def test_what_a_terminal_cannot_show_is_no_error():
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    shown = "from deepprune.base import console; console.open_console(); print('7 °', chr(0xd83d))"
    done = subprocess.run([sys.executable, "-c", shown], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "7 \\xb0 \\ud83d\n"


def test_where_there_is_no_terminal_a_bar_prints_at_most_a_line_a_quarter(capsys, monkeypatch):
    monkeypatch.setattr(progress, "BETWEEN", 0)
    list(progress.bar(range(100), desc="pairs", mininterval=0, miniters=1))
    list(progress.bar(range(100), desc="not kept", leave=False))
    list(progress.bar([], desc="nothing to do"))
    lines = [line.partition(" in ")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == [f"pairs: {n} of 100" for n in (25, 50, 75, 100)]


def test_other_packages_keep_quiet_unless_the_user_has_said_otherwise():
    env = console.quiet({"VLLM_LOGGING_LEVEL": "DEBUG"})
    assert env["VLLM_LOGGING_LEVEL"] == "DEBUG" and env["TRANSFORMERS_VERBOSITY"] == "error"
    assert console.quiet({console.DESCRIPTORS: "3,4"})["TRANSFORMERS_VERBOSITY"] == "warning"  # for the log
