r"""math-verify in a process of its own, which can be killed: odd input keeps sympy busy for minutes, or for ever.

`MathWorker` is the parent's side. Requests and replies are lines of JSON and carry a number:

    {"id": 7, "a": "\\frac{\\pi}{3}", "b": "\\pi /3", "seconds": 5.0}  ->  {"id": 7, "same": true}
    {"id": 8, "a": "2x+1", "seconds": 5.0}  ->  {"id": 8, "values": [2.28, ...]}

so a reply that comes late, or anything else on the worker's output, is never taken for another question's. The worker
counts its own CPU time and the kernel ends it when a comparison needs more than `seconds` (a busy machine changes
nothing about what is decided); the parent waits a few times longer before it kills the worker itself. The worker ends
with its parent: at the end of its input, or of its comparison.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import typing
import zlib

from deepprune.base.errors import UserError

START_SECONDS = 60.0  # to import sympy and say ready; a worker that has not is killed and started once more
WALL_FACTOR = 6.0  # the parent waits this many times a comparison's CPU limit, plus WALL_SECONDS
WALL_SECONDS = 2.0
MEMORY_BYTES = 4 << 30  # address space of the worker

COMMAND = [sys.executable, "-m", "deepprune.data.math_worker"]


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


# The worker's side. Only here is sympy imported.


def _comparer() -> tuple[typing.Callable[[str, str], bool], typing.Callable[[str], list[float] | None]]:
    """The functions that compare two answers in LaTeX and evaluate one: math-verify, what it misjudges put right.

    Put right: numbers are compared exactly or to many digits instead of to six decimals (1e-7 is not 2e-7,
    2^{2024} is not 2^{2024} - 1; a decimal of many places is what it was rounded from); two equations are the same
    where one is a multiple of the other; no letter is dropped as a unit (2t is not 2); A is not a.
    """
    import functools
    from fractions import Fraction

    import sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
    from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
    from math_verify import grader, verify
    from math_verify.parser import get_last_eq

    from deepprune.data import math_spelling

    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    numeric_eq, symbolic_eq = grader.sympy_numeric_eq, grader.sympy_symbolic_eq
    near = sympy.Float("1e-25")

    def exact(value):
        """A sympy expression with each decimal as the fraction that was written."""
        return value.xreplace({f: sympy.Rational(str(f)) for f in value.atoms(sympy.Float)})

    def fraction(value) -> Fraction:
        return Fraction(int(value.p), int(value.q))

    def equal_values(a, b) -> bool:
        """Whether two numbers (expressions without variables) are equal. Raises MemoryError for numbers too large."""
        if isinstance(a, sympy.Rational) and isinstance(b, sympy.Rational):
            return math_spelling.equal_numbers(fraction(a), fraction(b))
        low, high = a.evalf(40), b.evalf(40)
        if not (low.is_finite and high.is_finite):
            return low == high and low is not sympy.nan and low is not sympy.zoo
        low, high = (sympy.S.Zero if getattr(x, "_prec", 53) < 10 else x for x in (low, high))  # no digit is sure
        larger = max(abs(low), abs(high))
        if abs(low - high) > larger * near:
            for decimal, other in ((a, high), (b, low)):
                if isinstance(decimal, sympy.Rational) and other.is_real:
                    if math_spelling.rounds_to(fraction(decimal), fraction(sympy.Rational(other))):
                        return True
            return False
        if larger < 10**15:
            return True
        if larger > sympy.Float("1e20000"):  # cannot be told apart in any time
            raise MemoryError
        difference = exact((a - b).doit())
        return difference == 0 if difference.is_Rational else abs(difference.evalf(40)) < near

    def at_points(*expressions) -> typing.Iterator[list]:
        """Expressions with their variables set to three rows of numbers, which depend on the names alone."""
        names = set().union(*(x.free_symbols for x in expressions))
        for sign in (1, -1, 3) if names else (1,):
            point = {}
            for name in names:
                code = zlib.crc32(f"{name} {sign}".encode())
                number = sympy.Rational(code % 15013 + 1009, 7919)
                point[name] = -number if sign < 0 or sign == 3 and code % 2 else number
            yield [x.xreplace(point) for x in expressions]

    def equal_everywhere(a, b) -> bool | None:
        """Whether two expressions are equal for some values of their variables; None: they cannot be evaluated."""
        for left, right in at_points(a, b):
            if not (left.is_number and right.is_number):
                return None
            if not equal_values(left, right):
                return None if any(x.evalf(15).is_finite is not True for x in (left, right)) else False
        return True

    def numerically(a, b, float_rounding, numeric_precision) -> bool:
        """Takes the place of math-verify's comparison of rounded values."""
        if any(isinstance(x, (sympy.MatrixBase, sympy.MatrixExpr)) for x in (a, b)):
            return numeric_eq(a, b, float_rounding, numeric_precision)
        return equal_everywhere(exact(a), exact(b)) is True

    def symbolically(a, b) -> bool:
        """Takes the place of math-verify's `simplify`, which is asked only where values do not decide."""
        try:
            decided = equal_everywhere(exact(a), exact(b))
        except (TypeError, AttributeError, ValueError):  # matrices, and what has no value
            decided = None
        return symbolic_eq(a, b) if decided is None else decided

    grader.sympy_numeric_eq, grader.sympy_symbolic_eq = numerically, symbolically

    @functools.lru_cache(maxsize=4096)
    def parsed(text: str):
        """The sympy expression of an answer in LaTeX, or of the end of its chain of equations; None: unreadable."""
        text = normalize_latex(text, config)
        for part in dict.fromkeys((text, get_last_eq(text))):
            try:
                read = latex2sympy(
                    part,
                    is_real=not grader.should_treat_as_complex(part),
                    convert_degrees=bool(re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])", part)),
                    normalization_config=None,
                    conversion_config=ConversionConfig(lowercase_symbols=False),
                )
                if grader.is_equation(read) and not read.free_symbols:  # 9 - 5 = 4 states 4
                    read = grader.take_last_relation(read).rhs
                if isinstance(read, sympy.Expr):
                    read = read.xreplace({name: sympy.I for name in read.free_symbols if name.name == "i"})
                return read
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001 - latex2sympy raises bare Exception on what it cannot read
                continue
        return None

    def multiples(a, b) -> bool:
        """Whether two equations or inequalities are multiples of each other (3x+6y-9=0 and y=-x/2+3/2)."""
        if not all(isinstance(x, sympy.core.relational.Relational) for x in (a, b)) or a.free_symbols != b.free_symbols:
            return False
        a, b = (x.reversed if isinstance(x, (sympy.Gt, sympy.Ge)) else x for x in (a, b))
        left, right = (sympy.expand(exact(x.lhs - x.rhs)) for x in (a, b))
        ratio = sympy.cancel(left / right) if right != 0 else sympy.nan
        if type(a) is not type(b) or not ratio.is_number or not ratio.is_finite or ratio == 0:
            return False
        return isinstance(a, (sympy.Eq, sympy.Ne)) or bool(ratio.is_positive)

    def values(text: str) -> list[float] | None:
        """Real and imaginary parts of an expression at the points; None where it has none.

        None too for products of letters, which may be words (\\text{abc} is abc).
        """
        expression = parsed(text)
        if not isinstance(expression, sympy.Expr) or isinstance(expression, (sympy.MatrixExpr, sympy.Symbol)):
            return None
        if (
            expression == sympy.E
            or isinstance(expression, sympy.Mul)
            and all(isinstance(x, sympy.Symbol) or x == sympy.E for x in expression.args)
        ):
            return None
        row: list[float] = []
        for (value,) in at_points(exact(expression)):
            value = value.evalf(20)
            for part in value.as_real_imag():
                row.append(0.0 if getattr(part, "_prec", 53) < 10 else float(part))
        return row if all(x == 0 or 1e-200 < abs(x) < 1e200 for x in row) else None

    def same(a: str, b: str) -> bool:
        left, right = parsed(a), parsed(b)
        if left is None or right is None:
            return False
        for test in (
            lambda: verify(left, right, timeout_seconds=None, raise_on_error=True),
            lambda: verify(right, left, timeout_seconds=None, raise_on_error=True),
            lambda: multiples(left, right),
        ):
            try:
                if test():
                    return True
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001 - sympy raises nearly everything on what it cannot do
                continue
        return False

    return same, values


def _serve() -> None:
    """Read a request a line, write a reply a line; the output that libraries print goes to stderr."""
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends us
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # its default ends the process, whatever Python is busy with
    replies = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    sys.setrecursionlimit(3000)
    compare, values = _comparer()
    for pair in (("x+1", "1+x"), (r"\sqrt{2}", "1"), ("y=2x", "2y=4x"), ("(1,2)", "(1,3)")):
        compare(*pair)
        values(pair[0])  # what sympy loads and sets up when first used is not the first question's to pay for
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, ValueError, OSError):
        pass
    print(json.dumps({"id": 0, "ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict = {"id": request["id"]}
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        try:
            if "b" in request:
                reply["same"] = compare(request["a"], request["b"])
            else:
                reply["values"] = values(request["a"])
        except MemoryError:
            reply["hung"] = True
        except Exception:  # noqa: BLE001 - sympy raises nearly everything; whatever it is: not known
            pass
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    _serve()
