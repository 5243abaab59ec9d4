r"""math-verify with what it misjudges put right, and the process that serves it: `python -m` this module.

Put right: numbers are compared exactly or to many digits instead of to six decimals (1e-7 is not 2e-7,
2^{2024} is not 2^{2024} - 1; a decimal of many places is what it was rounded from); two equations are the same
where one is a multiple of the other; no letter is dropped as a unit (2t is not 2); A is not a.

math_worker.py starts this process and says what it asks; only here is sympy imported.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import resource
import signal
import sys
import warnings
import zlib
from collections.abc import Iterator
from fractions import Fraction

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from math_verify import grader, verify
from math_verify.parser import get_last_eq

from deepprune.data.answers.numbers import equal_numbers, rounds_to

MEMORY_BYTES = 4 << 30  # address space of the process

_NORMALIZATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
)
_NEAR = sympy.Float("1e-25")
_rounded_eq, _simplified_eq = grader.sympy_numeric_eq, grader.sympy_symbolic_eq  # math-verify's own comparisons


def _exact(value):
    """A sympy expression with each decimal as the fraction that was written."""
    return value.xreplace({f: sympy.Rational(str(f)) for f in value.atoms(sympy.Float)})


def _fraction(value) -> Fraction:
    return Fraction(int(value.p), int(value.q))


def _equal_values(a, b) -> bool:
    """Whether two numbers (expressions without variables) are equal. Raises MemoryError for numbers too large."""
    if isinstance(a, sympy.Rational) and isinstance(b, sympy.Rational):
        return equal_numbers(_fraction(a), _fraction(b))
    low, high = a.evalf(40), b.evalf(40)
    if not (low.is_finite and high.is_finite):
        return low == high and low is not sympy.nan and low is not sympy.zoo
    low, high = (sympy.S.Zero if getattr(x, "_prec", 53) < 10 else x for x in (low, high))  # no digit is sure
    larger = max(abs(low), abs(high))
    if abs(low - high) > larger * _NEAR:
        return any(
            isinstance(decimal, sympy.Rational)
            and bool(other.is_real)
            and rounds_to(_fraction(decimal), _fraction(sympy.Rational(other)))
            for decimal, other in ((a, high), (b, low))
        )
    if larger < 10**15:
        return True
    if larger > sympy.Float("1e20000"):  # cannot be told apart in any time
        raise MemoryError
    difference = _exact((a - b).doit())
    return difference == 0 if difference.is_Rational else abs(difference.evalf(40)) < _NEAR


def _at_points(*expressions) -> Iterator[list]:
    """Expressions with their variables set to three rows of numbers, which depend on the names alone."""
    names = set().union(*(x.free_symbols for x in expressions))
    for sign in (1, -1, 3) if names else (1,):
        point = {}
        for name in names:
            code = zlib.crc32(f"{name} {sign}".encode())
            number = sympy.Rational(code % 15013 + 1009, 7919)
            point[name] = -number if sign < 0 or sign == 3 and code % 2 else number
        yield [x.xreplace(point) for x in expressions]


def _equal_everywhere(a, b) -> bool | None:
    """Whether two expressions are equal for some values of their variables; None: they cannot be evaluated."""
    for left, right in _at_points(a, b):
        if not (left.is_number and right.is_number):
            return None
        if not _equal_values(left, right):
            return None if any(x.evalf(15).is_finite is not True for x in (left, right)) else False
    return True


def _numerically(a, b, float_rounding, numeric_precision) -> bool:
    """Takes the place of math-verify's comparison of rounded values."""
    if any(isinstance(x, (sympy.MatrixBase, sympy.MatrixExpr)) for x in (a, b)):
        return _rounded_eq(a, b, float_rounding, numeric_precision)
    return _equal_everywhere(_exact(a), _exact(b)) is True


def _symbolically(a, b) -> bool:
    """Takes the place of math-verify's `simplify`, which is asked only where values do not decide."""
    try:
        decided = _equal_everywhere(_exact(a), _exact(b))
    except (TypeError, AttributeError, ValueError):  # matrices, and what has no value
        decided = None
    return _simplified_eq(a, b) if decided is None else decided


@functools.lru_cache(maxsize=4096)
def _parsed(text: str):
    """The sympy expression of an answer in LaTeX, or of the end of its chain of equations; None: unreadable."""
    text = normalize_latex(text, _NORMALIZATION)
    for part in dict.fromkeys((text, get_last_eq(text))):
        try:
            expression = latex2sympy(
                part,
                is_real=not grader.should_treat_as_complex(part),
                convert_degrees=bool(re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])", part)),
                normalization_config=None,
                conversion_config=ConversionConfig(lowercase_symbols=False),
            )
            if grader.is_equation(expression) and not expression.free_symbols:  # 9 - 5 = 4 states 4
                expression = grader.take_last_relation(expression).rhs
            if isinstance(expression, sympy.Expr):
                names = {name: sympy.I for name in expression.free_symbols if name.name == "i"}
                expression = expression.xreplace(names)
            return expression
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - latex2sympy raises bare Exception on what it cannot read
            continue
    return None


def _multiples(a, b) -> bool:
    """Whether two equations or inequalities are multiples of each other (3x+6y-9=0 and y=-x/2+3/2)."""
    if not all(isinstance(x, sympy.core.relational.Relational) for x in (a, b)) or a.free_symbols != b.free_symbols:
        return False
    a, b = (x.reversed if isinstance(x, (sympy.Gt, sympy.Ge)) else x for x in (a, b))
    left, right = (sympy.expand(_exact(x.lhs - x.rhs)) for x in (a, b))
    ratio = sympy.cancel(left / right) if right != 0 else sympy.nan
    if type(a) is not type(b) or not ratio.is_number or not ratio.is_finite or ratio == 0:
        return False
    return isinstance(a, (sympy.Eq, sympy.Ne)) or bool(ratio.is_positive)


def values(text: str) -> list[float] | None:
    """Real and imaginary parts of an expression at the points; None where it has none.

    None too for products of letters, which may be words (\\text{abc} is abc).
    """
    expression = _parsed(text)
    if not isinstance(expression, sympy.Expr) or isinstance(expression, (sympy.MatrixExpr, sympy.Symbol)):
        return None
    factors = expression.args if isinstance(expression, sympy.Mul) else [expression]
    if all(x == sympy.E or isinstance(x, sympy.Symbol) for x in factors):
        return None
    row: list[float] = []
    for (value,) in _at_points(_exact(expression)):
        for part in value.evalf(20).as_real_imag():
            row.append(0.0 if getattr(part, "_prec", 53) < 10 else float(part))
    return row if all(x == 0 or 1e-200 < abs(x) < 1e200 for x in row) else None


def same(a: str, b: str) -> bool:
    """Whether two answers in LaTeX are equal."""
    left, right = _parsed(a), _parsed(b)
    if left is None or right is None:
        return False
    for test in (
        lambda: verify(left, right, timeout_seconds=None, raise_on_error=True),
        lambda: verify(right, left, timeout_seconds=None, raise_on_error=True),
        lambda: _multiples(left, right),
    ):
        try:
            if test():
                return True
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - sympy raises nearly everything on what it cannot do
            continue
    return False


def _reply(request: dict) -> dict:
    """The reply to a request, which the kernel ends when it needs more than its `seconds` of CPU time."""
    reply: dict = {"id": request["id"]}
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])
    try:
        if "b" in request:
            reply["same"] = same(request["a"], request["b"])
        else:
            reply["values"] = values(request["a"])
    except MemoryError:
        reply["hung"] = True
    except Exception:  # noqa: BLE001 - sympy raises nearly everything; whatever it is: not known
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return reply


def serve() -> None:
    """Read a request a line, write a reply a line; the output that libraries print goes to stderr."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends us
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # its default ends the process, whatever Python is busy with
    replies = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    sys.setrecursionlimit(3000)
    grader.sympy_numeric_eq, grader.sympy_symbolic_eq = _numerically, _symbolically
    for a, b in (("x+1", "1+x"), (r"\sqrt{2}", "1"), ("y=2x", "2y=4x"), ("(1,2)", "(1,3)")):
        same(a, b)
        values(a)  # what sympy loads and sets up when first used is not the first question's to pay for
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    print(json.dumps({"id": 0, "ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(_reply(json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    serve()
