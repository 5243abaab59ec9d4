"""A program in a session of its own: its output and most memory, and nothing of it left running."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

GRACE_SECONDS = 10  # in which a program's processes may end after it


class ProgramFailed(Exception):
    """A program did not end well. The message is its last error line."""


@dataclasses.dataclass
class Finished:
    """A program that ended well. memory: the most that its processes held together, in MiB; alive: how many it left."""

    output: str
    seconds: float
    memory: int
    alive: int


def run(
    command: Sequence[str],
    log: Path,
    folder: Path,
    environment: Mapping[str, str],
    limit_seconds: float,
    watch: Callable[[], None] = lambda: None,
) -> Finished:
    """Run a program in `folder`; the command, its stdout and its stderr are appended to the log.

    watch: called twice a second. Raises ProgramFailed if its exit code is not 0 or it takes longer than limit_seconds.
    What it leaves running is ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a+b") as out:
        out.write(f"$ {shlex.join(command)}\n".encode())
        out.flush()
        start = out.seek(0, os.SEEK_END)
        started, memory = time.monotonic(), 0
        program = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while program.poll() is None:
                memory = max(memory, sum(map(resident, in_session(program.pid))))
                watch()
                if time.monotonic() - started > limit_seconds:
                    raise ProgramFailed(f"it took longer than {limit_seconds:g} s ({log})")
                time.sleep(0.5)
            alive = wait_gone(program.pid)
        finally:
            end_session(program)
        out.seek(start)
        output = out.read().decode(errors="replace")
    if program.returncode:
        raise ProgramFailed(f"{last_error(output)} (it ended with {program.returncode}; {log})")
    return Finished(output, time.monotonic() - started, memory, alive)


def in_session(session: int) -> list[psutil.Process]:
    """The processes that run in a session (those that have ended and wait to be collected do not)."""
    processes = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except (psutil.Error, OSError):  # it is gone
            continue
    return processes


def wait_gone(session: int) -> int:
    """How many processes of a session are left after GRACE_SECONDS."""
    until = time.monotonic() + GRACE_SECONDS
    while (left := len(in_session(session))) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def resident(process: psutil.Process) -> int:
    """Resident memory of a process in MiB; 0 if it is gone."""
    try:
        return process.memory_info().rss // 2**20
    except psutil.Error:
        return 0


def end_session(program: subprocess.Popen) -> None:
    """End what still runs in a program's session: kindly, then not."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in in_session(program.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(GRACE_SECONDS)
        if not wait_gone(program.pid):
            return


def last_error(output: str) -> str:
    """The last line of an output that tells of an error, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"error: |[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or ["no output"])[-1]
