"""One process at a time writes an output: a lock file beside it, `.NAME.lock`, says who does.

The lock is the system's (a POSIX record lock), so it is gone the moment its process is, however that ends; child
processes do not inherit it. A file that a killed process left behind locks nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import errno
import fcntl
import glob
import json
import os
import socket
import sys
from pathlib import Path

from deepprune.base import console
from deepprune.base.errors import UserError, without_credentials

_held: dict[
    Path, int
] = {}  # lock file -> descriptor; opened once a process: closing any descriptor of a file frees its lock
_owner = os.getpid()


def lock_file(output: str | Path) -> Path:
    """Where the lock of an output (a file or a folder) lies."""
    real = Path(output).resolve()
    return real.with_name(f".{real.name}.lock")


def held() -> list[Path]:
    """The outputs that this process has locked."""
    return [path.with_name(path.name.removeprefix(".").removesuffix(".lock")) for path in _held]


def hold(output: str | Path, wait: bool = False) -> None:
    """Lock an output until `release` or the end of this process; nothing happens if this process has it already.

    wait: until the other process is done, for writes that take an instant.
    Raises UserError that says who holds it. Where locks or their file cannot be had, says so and goes on.
    """
    global _owner
    path = lock_file(output)
    if _owner != os.getpid():  # forked: the locks stayed with the parent
        _held.clear()
        _owner = os.getpid()
    if path in _held:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(path, wait)
    except BlockingIOError:
        raise UserError(
            f"{output} is being written by {_holder(path)}; wait until it ends, or choose another output"
        ) from None
    except OSError as error:
        print(
            f"{output}: cannot be locked here ({error.strerror}): start no second run that writes it",
            file=console.errors(),
        )
        return
    who = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": without_credentials(" ".join(sys.argv)),
    }
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(file, 0)
        os.write(file, json.dumps(who).encode())
    _held[path] = file
    _remove_left_behind(Path(output))


def _remove_left_behind(output: Path) -> None:
    """Remove half-written copies of an output (`jsonl.atomic`): whoever wrote them was killed, as we have its lock."""
    for copy in output.parent.glob(f".{glob.escape(output.name)}.*.tmp"):
        pid = copy.name.split(".")[-2]
        if pid.isdecimal() and int(pid) != os.getpid():
            copy.unlink(missing_ok=True)


def _locked(path: Path, wait: bool) -> int:
    """A descriptor of the lock file, locked. Raises BlockingIOError if another process has it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except OSError as error:
            os.close(file)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise BlockingIOError from error
            raise
        os.close(file)  # removed by its holder in between: once more


def release(output: str | Path) -> None:
    """Give an output's lock back and remove its file."""
    path = lock_file(output)
    file = _held.pop(path, None)
    if file is not None and _owner == os.getpid():
        path.unlink(missing_ok=True)
        os.close(file)


@atexit.register
def _release_all() -> None:
    if _owner == os.getpid():
        for path, file in _held.items():
            path.unlink(missing_ok=True)
            os.close(file)
        _held.clear()


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text())
        return f"process {who['pid']} on {who['host']} since {who['since']} ({who['command']})"
    except (OSError, ValueError, KeyError, TypeError):  # it is about to write who it is
        return "another process"
