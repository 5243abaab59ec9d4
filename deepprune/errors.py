"""One way to tell a user what is wrong: a UserError ends a stage with exit code 2 and one line."""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any


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
    print(without_credentials("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a stage's main: UserError -> exit code 2 and one line, Ctrl-C or SIGTERM -> 130 and a word on resuming.

    What is printed of an error holds no user and password of a URL, not even a traceback.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        sys.excepthook = _traceback
        signal.signal(signal.SIGTERM, _stop)
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # not where a shell had it ignored
            signal.signal(signal.SIGINT, _stop)
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {' '.join(without_credentials(str(error)).split())}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            if error.filename is None and error.errno is None:
                raise
            where = f" ({error.filename})" if error.filename else ""
            print(f"error: {error.strerror}{where}; what was written before is kept", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted: what is on disk is kept; run the same command again to continue", file=sys.stderr)
            sys.exit(130)

    return wrapped
