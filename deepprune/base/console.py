"""What a person sees, and the full log of a run.

What other packages print is switched off at its source (`quiet`). A stage prints what it has to say, and shows errors
(`errors`) and progress bars (progress.py).

Under a run script (scripts/common.sh) a process's own stdout and stderr are the run's log, where the lines of other
packages and of the processes that they start land with time stamps; DEEPPRUNE_CONSOLE=OUT,ERR names the descriptors of
the console. After `open_console` sys.stdout is the console with a copy in the log, and sys.stderr stays the log.
`detail` is for lines that belong in the log where there is one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import IO, Any

DESCRIPTORS = "DEEPPRUNE_CONSOLE"
LOG = "DEEPPRUNE_LOG"

_console: tuple[Both, Both] | None = None  # stdout and stderr of the console, where a run script keeps a log


class Both:
    """A text stream of the console whose whole lines also go to the log."""

    def __init__(self, descriptor: int, log: IO[str]):
        self.console = open(descriptor, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
        self.log = log
        self.encoding = "utf-8"

    def write(self, text: str) -> int:
        self.log.write(text)
        self.log.flush()
        return self.console.write(text)

    def flush(self) -> None:
        self.console.flush()
        self.log.flush()

    def isatty(self) -> bool:
        return self.console.isatty()

    def fileno(self) -> int:
        return self.console.fileno()


def open_console() -> None:
    """Switch off foreign lines; find the console that a run script names: without one stdout and stderr stay."""
    global _console
    os.environ.update(quiet(os.environ))
    _quiet_vllm()
    if os.environ["PYTHONWARNINGS"] == "ignore":  # read by Python when it starts, which was before
        warnings.filterwarnings("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # questions and names go to terminals of any encoding
            stream.reconfigure(errors="backslashreplace")
    named = os.environ.get(DESCRIPTORS)
    if not named or _console:
        return
    out, err = (int(descriptor) for descriptor in named.split(","))
    try:
        os.fstat(out), os.fstat(err)
    except OSError:  # not handed down by what started this process
        return
    _console = (Both(out, sys.stderr), Both(err, sys.stderr))
    sys.stdout = _console[0]


def errors() -> Any:
    """The stream for errors and warnings of ours: stderr, under a run script the console's (with a copy in the log)."""
    return _console[1] if _console else sys.stderr


def bars() -> Any:
    """The stream for progress bars: as `errors`, without a copy in the log."""
    return _console[1].console if _console else sys.stderr


def detail(*lines: str) -> None:
    """Print lines that a run's log holds and its console need not: to the log if there is one, else to stdout."""
    for line in lines:
        print(line, file=sys.stderr if _console else sys.stdout, flush=bool(_console))


def brief(line: str) -> None:
    """Print a line that sums `detail` up, on a console that does not show that."""
    if _console:
        print(line)


@contextlib.contextmanager
def others_hidden() -> Iterator[None]:
    """A block in which what other packages print to sys.stdout goes to the log, if there is one."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(sys.stderr if _console else nowhere):
        yield


def log(line: str) -> None:
    """A line for the log alone; nothing without one."""
    if _console:
        print(line, file=sys.stderr, flush=True)


def quiet(base: Any) -> dict[str, str]:
    """`base` (an environment) with the settings by which other packages keep quiet; what the user has set is kept.

    With a log their warnings are kept for it: on stderr, which is the log there.
    """
    env = dict(base)
    level = "WARNING" if env.get(DESCRIPTORS) else "ERROR"
    env.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    env.setdefault("VLLM_NO_USAGE_STATS", "1")
    for name in ("VLLM_LOGGING_LEVEL", "LLAMAFACTORY_VERBOSITY"):
        env.setdefault(name, level)
    for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY", "HF_HUB_VERBOSITY"):
        env.setdefault(name, level.lower())
    env.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' too; ours: models.py
    env.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    env.setdefault("TOKENIZERS_PARALLELISM", "false")
    env.setdefault("PYTHONWARNINGS", "default" if env.get(DESCRIPTORS) else "ignore")
    env.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    return env


def log_place() -> str:
    """'; every line in LOG', where a run script keeps a log, for the end of a run."""
    return f"; every line in {os.environ[LOG]}" if _console and LOG in os.environ else ""


def _quiet_vllm() -> None:
    """vLLM sets its logger's level when it starts an engine; before, a line of it would be printed at any level."""
    level = os.environ.get("VLLM_LOGGING_LEVEL")
    if level:
        logging.getLogger("vllm").setLevel(level.upper())


_quiet_vllm()  # an engine's process imports this module with the script that started it, before vLLM
