r"""How one mathematical answer can be spelled: `read` takes it apart into its unit and the rest.

math-verify reads LaTeX. What it misreads or drops is put right here first: the rest becomes an exact number where it
is one, and `latex` writes what is none as LaTeX that math-verify reads as meant. No sympy here: most answers are plain
numbers and need none.
"""

from __future__ import annotations

import functools
import re
import typing
from fractions import Fraction

from deepprune.data.answers.characters import GREEK
from deepprune.data.answers.decoration import MAX_CHARS, undecorated
from deepprune.data.answers.latex import closing
from deepprune.data.answers.numbers import in_base, in_words, integer, number
from deepprune.data.answers.units import MATH_WORDS, compound_quantity, take_unit

_GOES_ON = re.compile(r"(?<![\d.])(\d*\.\d*?)(\d{1,6}?)\2{2,}(?:\.{3}|…|\\[lcd]?dots)\s*\Z")  # 0.1666...
_WORDS = re.compile(r"[A-Za-z][A-Za-z'’.-]*(?:[ -]+[A-Za-z'.-]+)*")


class Reading(typing.NamedTuple):
    """An answer taken apart. Two answers are the same where their units do not differ and their values are equal."""

    value: str  # canonical spelling of the rest: a fraction in lowest terms, \text{words}, else LaTeX or plain text
    number: Fraction | None  # the exact value of a plain number (in a base: of the digits read as decimal)
    unit: str  # "m", "in^2", "%", "base 2", ...; "" where none is named

    def is_words(self) -> bool:
        """Whether the answer is words (even, east, all real numbers), not mathematics."""
        return self.value.startswith("\\text{") and self.value.count("\\") == 1


def _words(text: str, marked: bool) -> str | None:
    r"""\text{...} in small letters if an answer is words, not symbols (marked: the answer said \text)."""
    text = " ".join(text.split())
    if not _WORDS.fullmatch(text):
        return None
    if re.fullmatch(r"(?:ln|log|lg|exp|sin|cos|tan|sqrt) [a-zA-Z]", text):
        return None
    if len(text) == 1 or text.lower() in MATH_WORDS - {"none", "empty", "all", "real"}:
        return None
    if not marked and not (text.lower() in ("no", "yes") or (len(text) >= 3 and re.search("[aeiou]", text.lower()))):
        return None
    return f"\\text{{{text.casefold()}}}"


@functools.lru_cache(maxsize=65536)
def read(answer: str) -> Reading:
    """An answer (type math) taken apart into value and unit; see Reading."""
    text = " ".join(answer.split())
    if len(text) > MAX_CHARS:
        return Reading(integer(text) or text, None, "")
    if re.fullmatch(r"[-+]?\d+(?:\.\d+)?", text):  # most answers
        value = Fraction(text)
        return Reading(str(value), value, "")
    marked = any(macro in text for macro in ("\\text", "\\mbox", "\\mathrm"))
    if (compound := compound_quantity(text)) and compound[1] == len(text):
        return Reading(compound[0], None, "")
    text = _GOES_ON.sub(r"\1\\overline{\2}", text)
    text, unit = take_unit(undecorated(text))
    if swapped := re.fullmatch(r"(-?[\d./]+) ?= ?([A-Za-z])", text):
        text = f"{swapped[2]}={swapped[1]}"
    spoken = in_words(text)
    value = Fraction(spoken[0]) if spoken and spoken[1] == len(text) else number(text)
    if unit.startswith("base "):
        return Reading(text.lstrip("0") or "0", value, unit)
    if value is not None:
        return Reading(str(value), value, unit)
    text = re.sub(r"^\(([A-Za-z])\)$", r"\1", text)
    if (words := _words(text, marked)) is not None:
        return Reading(words, None, unit)
    if len(parts := text.split()) > 1 and all(number(part) is not None for part in parts):  # a list without commas
        text = ",".join(parts)
    return _list(text, unit) or Reading(_squeeze(text), None, unit)


def _list(text: str, unit: str) -> Reading | None:
    r"""Elements of 1,2 or (1,2) or \{1,2\} read each by itself; None where the text is no such list."""
    left, inner, right = re.fullmatch(r"(\\\{|[(\[]|)(.*?)(\\\}|[)\]]|)", text, re.DOTALL).groups()
    if bool(left) != bool(right) or "," not in inner or "\\begin" in inner:
        return None
    elements, depth, start = [], 0, 0
    for i, character in enumerate(inner):
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return None
        if character == "," and depth == 0:
            elements.append(inner[start:i])
            start = i + 1
    elements.append(inner[start:])
    if len(elements) < 2 or depth or not all(e.strip() for e in elements):
        return None
    readings = [read(element.strip()) for element in elements]
    units = [reading.unit for reading in readings]
    if any(units):
        unit = unit or (units[0] if len(set(units)) == 1 else ",".join(units))
    return Reading(left + ",".join(reading.value for reading in readings) + right, None, unit)


def spelled(reading: Reading) -> str:
    """A reading as one string; readings that differ have different ones."""
    value, unit = reading.value, reading.unit
    if unit.startswith("base "):
        return f"{value}_{{{unit.removeprefix('base ')}}}"
    if unit == "%":
        return value + r"\%"
    return value + (f"\\text{{ {unit}}}" if unit else "")


def _squeeze(text: str) -> str:
    """Without the white space that means nothing (that between letters or digits stays)."""
    return re.sub(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])|(?<=\d)\s+(?=[A-Za-z])", "", " ".join(text.split()))


def base_value(reading: Reading) -> Fraction | None:
    """The number that a reading in a base stands for (its digits without a base: as decimals)."""
    if reading.unit.startswith("base "):
        return in_base(reading.value, int(reading.unit.removeprefix("base ")))
    return reading.number


_PLAIN_MACRO = re.compile(
    r"(?<![\\A-Za-z])(sqrt|cbrt|exp|abs|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln"
    r"|[Ii]nfinity|INFINITY|infty|[Ii]nf|INF|oo|Pi|PI|" + "|".join(GREEK) + r")(?![A-Za-z])"
)
_CALLS = re.compile(r"(\\sqrt|\\cbrt|\\exp|\\abs|\^)\s*\(")
_CALL_FORMS = {r"\sqrt": r"\sqrt{%s}", r"\cbrt": r"\sqrt[3]{%s}", r"\exp": r"e^{%s}", r"\abs": "|%s|", "^": "^{%s}"}


def latex(value: str) -> str:
    r"""A reading's value as LaTeX that math-verify reads as meant: sqrt(2) is \sqrt{2}, 2^10 is 2^{10}, 1/2x is x/2."""
    parts = re.split(r"(\\(?:text|mbox|mathrm)\s*\{[^{}]*\})", value)
    text = "".join(p if i % 2 else _PLAIN_MACRO.sub(_macro, p) for i, p in enumerate(parts))
    text = text.replace("**", "^").replace("+/-", r"\pm ").replace("<=", r"\leq ").replace(">=", r"\geq ")
    text = text.replace("!=", r"\neq ")
    text = re.sub(r"(?<![\w\\])(?:C\((\d+), ?(\d+)\)|(\d+) ?choose ?(\d+))", _binomial, text)
    while match := _CALLS.search(text):
        end = closing(text, match.end(), "()")
        if end is None:
            break
        text = text[: match.start()] + _CALL_FORMS[match[1]] % text[match.end() : end - 1] + text[end:]
    text = re.sub(
        r"\\(sqrt|cbrt)\s*(\d+)", lambda m: (r"\sqrt[3]" if m[1] == "cbrt" else r"\sqrt") + f"{{{m[2]}}}", text
    )
    text = re.sub(r"([\^_])\s*(-?\d{2,}|-\d|-[a-zA-Z])(?![\d.])", r"\1{\2}", text)
    text = re.sub(
        r"(?<![\w.}^)/])(\d+)/(\d+)(?=\s*[A-Za-z\\(])(?!\s*\\(?:cdot|times|div|leq|geq|neq|in|cup|cap|text|pm))",
        r"\\frac{\1}{\2}",
        text,
    )
    return text


def _binomial(match: re.Match) -> str:
    return r"\binom{%s}{%s}" % tuple(n for n in match.groups() if n)  # noqa: UP031 - braces


def _macro(match: re.Match) -> str:
    if match[1] in ("Pi", "PI"):
        return r"\pi "
    return r"\infty " if match[1].lower() in ("infinity", "infty", "inf", "oo") else "\\" + match[1] + " "
