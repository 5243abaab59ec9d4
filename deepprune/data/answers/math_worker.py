r"""math-verify in a process of its own, which can be killed: odd input keeps sympy busy for minutes, or for ever.

math_comparer.py is what runs there. Requests and replies are lines of JSON and carry a number:

    {"id": 7, "a": "\\frac{\\pi}{3}", "b": "\\pi /3", "seconds": 5.0}  ->  {"id": 7, "same": true}
    {"id": 8, "a": "2x+1", "seconds": 5.0}  ->  {"id": 8, "values": [2.28, ...]}

so a reply that comes late, or anything else on the worker's output, is never taken for another question's. The worker
counts its own CPU time and the kernel ends it when a comparison needs more than `seconds` (a busy machine changes
nothing about what is decided); the parent waits a few times longer before it kills the worker itself. The worker ends
with its parent: at the end of its input, or of its comparison.

No library's pool takes its place: those that can kill one call (pebble) start their process with `multiprocessing`,
which runs the caller's main module again in it: it fails in a script without a main guard, and forks threads otherwise.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import typing

from deepprune.base.errors import UserError

START_SECONDS = 300.0  # to import sympy and say ready, on a busy machine; one that has not is started once more
WALL_FACTOR = 6.0  # the parent waits this many times a comparison's CPU limit, plus WALL_SECONDS
WALL_SECONDS = 2.0
COMMAND = [sys.executable, "-m", "deepprune.data.answers.math_comparer"]


class Outcome(typing.NamedTuple):
    """What came of a comparison: same (None: not known) and whether it was ended for lack of time or memory."""

    same: bool | None
    hung: bool = False


class Values(typing.NamedTuple):
    """An expression's values at fixed points (None: it has none, or is no expression), or hung as for Outcome."""

    values: list[float] | None
    hung: bool = False


class _Gone(Exception):
    """The worker ended, or did not answer in time."""


class MathWorker:
    """One worker process, started when first asked, started again after it was killed or died.

    Safe to use from several threads (one comparison at a time) and after a fork (the child starts its own).
    """

    def __init__(self, command: list[str] | None = None) -> None:
        self.command = command or COMMAND
        self.asked = 0  # comparisons sent so far; the number of the next request is one more
        self.process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._buffer = b""
        self._errors: typing.IO[bytes] | None = None
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """In a forked child: the worker is the parent's, and the lock may be held by a thread that is not here."""
        self._lock = threading.Lock()
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                pipe.close()  # unbuffered: nothing of the parent's is written
            self.process.returncode = 0  # not ours to wait for
            self.process = None

    def close(self) -> None:
        """End the worker, if there is one."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, self._errors):
            try:
                pipe.close()
            except OSError:  # data that could not be flushed to a dead process
                pass

    def _line(self, deadline: float) -> bytes:
        """The next line of the worker's output. Raises _Gone at its end or at the deadline (time.monotonic)."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _Gone
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    raise _Gone
                self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _reply(self, number: int, seconds: float) -> dict:
        """The reply that carries the number; all else is passed over. Raises _Gone if it does not come in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                reply = json.loads(self._line(deadline))
            except ValueError:
                continue
            if isinstance(reply, dict) and reply.get("id") == number and type(reply.get("id")) is int:
                return reply

    def _start(self) -> None:
        """Start the worker; one that does not say ready in time is killed. Raises UserError after the second."""
        for _ in range(2):
            self._buffer = b""
            self._errors = tempfile.TemporaryFile()
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
            )
            try:
                self._reply(0, START_SECONDS)
                return
            except _Gone:
                self._errors.seek(0)
                said = self._errors.read().decode(errors="replace").strip().splitlines()
                self.close()
        raise UserError(
            f"the process that compares answers with math-verify did not start ({said[-1] if said else 'no word'}); "
            f'try `{" ".join(self.command)}` (it should print a line with "ready")'
        )

    def same(self, a: str, b: str, seconds: float) -> Outcome:
        """Whether two answers in LaTeX are equal by math-verify, within `seconds` of the worker's CPU time.

        Raises UserError if no worker can be started.
        """
        reply = self._ask({"a": a, "b": b, "seconds": seconds})
        return Outcome(reply.get("same"), bool(reply.get("hung")))

    def values(self, a: str, seconds: float) -> Values:
        """An answer's values, its variables (by name) set to fixed numbers: one that differs is another answer.

        Time and errors as in `same`.
        """
        reply = self._ask({"a": a, "seconds": seconds})
        return Values(reply.get("values"), bool(reply.get("hung")))

    def _ask(self, request: dict) -> dict:
        """The reply to a request. A worker that dies is asked once more; one that dies again counts as hung."""
        with self._lock:
            for _ in range(2):
                if self.process is None or self.process.poll() is not None:
                    self.close()
                    self._start()
                self.asked += 1
                line = json.dumps({"id": self.asked} | request).encode() + b"\n"
                try:
                    self.process.stdin.write(line)
                    return self._reply(self.asked, request["seconds"] * WALL_FACTOR + WALL_SECONDS)
                except BrokenPipeError:
                    self.close()
                except _Gone:
                    ended = self._ended()
                    self.close()
                    if ended in (None, -signal.SIGPROF):  # still running, or ended at its CPU limit
                        break
            return {"hung": True}

    def _ended(self) -> int | None:
        """Exit status of a worker that may just have ended; None while it runs."""
        try:
            return self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            return None
