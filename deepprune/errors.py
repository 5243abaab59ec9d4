"""One way to tell a user what is wrong: a UserError ends a stage with exit code 2 and one line."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input or settings. The message names the file (and line) and the remedy, on one line."""


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a stage's main: UserError -> exit code 2 and one line, Ctrl-C or SIGTERM -> 130 and a word on resuming."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        # SIGTERM unwinds as Ctrl-C does; dying at once would leave vLLM's worker processes behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
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
