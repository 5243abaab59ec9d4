"""How a stage ends: a UserError as one line and exit code 2, Ctrl-C and SIGTERM with a word on resuming."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from deepprune.base import console, locks
from deepprune.base.errors import UserError, without_credentials
from deepprune.base.storage import storage_trouble

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
    """Where a write may have failed that does not say: locked outputs, temporary files, caches of data and models."""
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
    """Wrap a stage's main: one line and an exit code instead of a traceback.

    UserError, a full or unwritable disk: 2. Ctrl-C or SIGTERM: 130 and a word on resuming. What is printed of an error
    holds no user and password of a URL, not even a traceback.
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
