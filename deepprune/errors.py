"""One way to tell a user what is wrong: a UserError ends a stage with exit code 2 and one line."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deepprune import console


class UserError(Exception):
    """Bad input or settings. The message names the file (and line) and the remedy, on one line."""


def without_credentials(text: Any) -> Any:
    """The text, its URLs without user and password: http://me:secret@host/v1 -> http://host/v1. Also within dicts and lists."""
    if isinstance(text, dict):
        return {without_credentials(key): without_credentials(value) for key, value in text.items()}
    if isinstance(text, list | tuple):
        return [without_credentials(value) for value in text]
    if not isinstance(text, str):
        return text
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s\"'<>]*@", r"\1", text)


# What stands for ENOSPC, EDQUOT and EFBIG in errors that are no OSError: of safetensors, torch and SQLite.
_SAID = {
    errno.ENOSPC: ("no space left on device", "(os error 28)", "database or disk is full", "file write failed"),
    errno.EDQUOT: ("disk quota exceeded", "(os error 122)"),
    errno.EFBIG: ("file too large", "(os error 27)"),
    errno.EROFS: ("read-only file system", "(os error 30)", "attempt to write a readonly database"),
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MEANS = {
    errno.ENOSPC: "no space left: {disk}; make room",
    errno.EDQUOT: "the disk quota is used up: {disk}; make room or ask for more",
    errno.EFBIG: "larger than a file may be here (ulimit -f, or the file system's limit: {disk}); raise it",
    errno.EROFS: "a read-only file system: {disk}; choose another place or make it writable",
    errno.EACCES: "permission denied; choose another place or make it accessible to this user",
    errno.EPERM: "not permitted; choose another place",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EIO: "the disk cannot be read or written (an input/output error: {disk})",
}


def storage_trouble(error: BaseException | None, *candidates: Any) -> str | None:
    """What a full or unwritable disk did, in words that name file and disk, if that is behind an error; else None.

    candidates: what may have been written, for errors that do not say. Looks along the chain of causes, and for a full disk also at
    what was being handled when the error came.
    """
    first, seen = error, set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = error.errno if isinstance(error, OSError) else None
        if number not in _MEANS:
            text = str(error).lower()
            number = next((n for n, said in _SAID.items() if any(words in text for words in said)), None)
        if number is not None and (number in _FULL or error is first):
            named = error.filename if isinstance(error, OSError) else None
            where = [os.fsdecode(place) for place in ([named] if isinstance(named, str | bytes) else candidates)]
            if number == errno.ENOSPC:  # of several, those that are full, if any still is
                where = [place for place in where if _free(place) < 100e6] or where
            disks = dict.fromkeys(map(disk_of, where or [os.getcwd()]))
            return f"{' or '.join(where) or 'a file'}: {_MEANS[number].format(disk='; '.join(disks))}"
        error = error.__cause__ or error.__context__
    return None


def _existing(path: Any) -> Path:
    """A path, or the nearest folder above it that is there."""
    here = Path(os.fsdecode(path)).absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    return here


def _free(path: Any) -> float:
    """Bytes that are free where a path lies or would; infinite where the system does not say."""
    try:
        stat = os.statvfs(_existing(path))
    except OSError:
        return math.inf
    return stat.f_bavail * stat.f_frsize if stat.f_favail or not stat.f_files else 0


def disk_of(path: Any) -> str:
    """The disk that a path lies on (or would), and what is free there: '/data, 0.0 of 2.0 MB free'."""
    here = Path(os.fsdecode(path)).absolute()
    try:
        here = _existing(path)
        device, stat = here.stat().st_dev, os.statvfs(here)
        while here != here.parent and here.parent.stat().st_dev == device:
            here = here.parent
    except OSError:
        return str(here)
    if stat.f_files and not stat.f_favail:
        return f"{here}, no room for another file (its {stat.f_files:,} inodes are used)"
    size, free = stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB")) if size >= u), (1e3, "kB"))
    return f"{here}, {free / unit:.1f} of {size / unit:.1f} {name} free"


@contextlib.contextmanager
def writing(path: Any, kept: str = "what was written before is kept, run the same command again") -> Iterator[None]:
    """Around what writes `path`: a full or unwritable disk becomes a UserError that names both, whoever found it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        trouble = storage_trouble(error, path)
        if trouble is None:
            raise
        raise UserError(f"{trouble}; {kept}") from error


_asked_to_stop = False
_process = os.getpid()


def _stop(signum, frame) -> None:
    """Ctrl-C and SIGTERM: unwind at once; dying at once would leave vLLM's worker processes behind."""
    global _asked_to_stop
    if os.getpid() != _process:  # a forked child that has not set its own handlers yet
        os._exit(130)
    _asked_to_stop = True
    raise KeyboardInterrupt


def check_stop() -> None:
    """Raise KeyboardInterrupt if we were asked to stop: a library that starts up may have swallowed the first one."""
    if _asked_to_stop:
        raise KeyboardInterrupt


def _traceback(kind, error, trace) -> None:
    """An unexpected error's traceback, as Python prints it."""
    print(without_credentials("".join(traceback.format_exception(kind, error, trace))), end="", file=console.errors())


def places() -> list[Any]:
    """Where a write may have failed that does not say: the locked outputs, temporary files, the caches of data sets and models."""
    from deepprune import locks

    home = os.path.expanduser("~/.cache")
    caches = [
        os.environ.get(name) or home for name in ("HF_DATASETS_CACHE", "HF_HOME", "DEEPPRUNE_CACHE", "XDG_CACHE_HOME")
    ]
    return list(dict.fromkeys(map(str, [*locks.held(), os.environ.get("TMPDIR") or "/tmp", *caches])))


def _end(code: int, message: str) -> None:
    """Print a message on one line and exit. What cannot be printed (the log's disk is full) changes nothing."""
    with contextlib.suppress(OSError):
        print(" ".join(without_credentials(message).split()), file=console.errors(), flush=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # Python would try again at its end, and exit with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a stage's main: UserError, a full or unwritable disk -> exit code 2 and one line, Ctrl-C or SIGTERM -> 130 and a word
    on resuming.

    What is printed of an error holds no user and password of a URL, not even a traceback.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        console.open_console()
        sys.excepthook = _traceback
        signal.signal(signal.SIGTERM, _stop)
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # not where a shell had it ignored
            signal.signal(signal.SIGINT, _stop)
        try:
            main(*args, **kwargs)
            sys.stdout.flush()  # where it goes to a full disk, here and not when Python ends
        except UserError as error:
            _end(2, f"error: {error}")
        except Exception as error:
            trouble = storage_trouble(error, *places())
            if trouble is None and isinstance(error, OSError) and error.errno is not None:
                trouble = f"{error.strerror}{f' ({error.filename})' if error.filename else ''}"
            if trouble is None:
                raise
            _end(2, f"error: {trouble}; what was written before is kept, run the same command again")
        except KeyboardInterrupt:
            _end(130, "interrupted: what is on disk is kept; run the same command again to continue")

    return wrapped
