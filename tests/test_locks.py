"""Two processes, one output: the second says who has it; a dead one has nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepprune.base import locks, manifest
from deepprune.base.errors import UserError
from deepprune.judges.score_store import ScoreStore

HOLD = """
import os, sys, time
from deepprune.base import locks
locks.hold(sys.argv[1])
if sys.argv[2] == "fork" and os.fork() == 0:
    time.sleep(600)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """holder(path, how) starts a process that has the lock of path."""
    processes = []

    def start(path, how="alone", *more):
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", HOLD, path, how, *more],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        assert processes[-1].stdout.readline() == "held\n"
        return processes[-1]

    yield start
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def test_half_written_copies_of_killed_processes_are_removed(tmp_path):
    killed, ours, others = (
        tmp_path / f".{name}.tmp" for name in ("a[1].jsonl.7", f"a[1].jsonl.{os.getpid()}", "b.jsonl.7")
    )
    for file in (killed, ours, others):
        file.touch()
    locks.hold(tmp_path / "a[1].jsonl")
    locks.release(tmp_path / "a[1].jsonl")
    assert not killed.exists() and ours.exists() and others.exists()


@pytest.mark.parametrize("path", ["out.jsonl", "folder", "link.jsonl"])
def test_the_second_process_says_who_writes(tmp_path, holder, path):
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "out.jsonl")
    first = holder(
        tmp_path / ("out.jsonl" if path == "link.jsonl" else path), "alone", "--url", "http://me:secret@host/v1"
    )
    with pytest.raises(UserError, match=rf"process {first.pid} on .* since .*--url http://host/v1") as refused:
        manifest.Manifest.open(tmp_path / path, "stage", {}, [])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_killed_process_holds_nothing(tmp_path, holder, how):
    first = holder(tmp_path / "out.jsonl", how)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    locks.hold(tmp_path / "out.jsonl")
    locks.hold(tmp_path / "out.jsonl")  # this process has it
    locks.release(tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_released_output_can_be_had_by_another(tmp_path, holder):
    locks.hold(tmp_path / "out.jsonl")
    locks.release(tmp_path / "out.jsonl")
    holder(tmp_path / "out.jsonl")


def test_a_score_store_is_locked_while_it_is_open(tmp_path, holder):
    with ScoreStore(tmp_path / "s.sqlite", {"judge": "a"}):
        assert locks.lock_file(tmp_path / "s.sqlite").exists()
    holder(tmp_path / "s.sqlite")
    with pytest.raises(UserError, match="is being written by process"):
        ScoreStore(tmp_path / "s.sqlite", {"judge": "a"})


def test_where_nothing_can_be_locked_it_is_said(tmp_path, monkeypatch, capsys):
    def lockf(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", lockf)
    locks.hold(tmp_path / "out.jsonl")
    assert "out.jsonl: cannot be locked here (No locks available)" in capsys.readouterr().err


def test_waiting_for_a_short_write(tmp_path, holder):
    first = holder(tmp_path / "index.json")
    waiter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from deepprune.base import locks; "
            "print('up', flush=True); locks.hold(sys.argv[1], wait=True); print('held')",
            tmp_path / "index.json",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert waiter.stdout.readline() == "up\n"
    time.sleep(0.2)
    assert waiter.poll() is None
    os.kill(first.pid, signal.SIGKILL)
    assert waiter.communicate(timeout=300)[0] == "held\n"
    assert not Path(locks.lock_file(tmp_path / "index.json")).exists()
