r"""Plain numbers in answers: read exactly, spelled in one way, compared with what they were rounded from."""

from __future__ import annotations

import re
from fractions import Fraction

from deepprune.data.answers.characters import MINUS
from deepprune.data.answers.latex import closing

MAX_DIGITS = 1000  # of a number that is read exactly
MAX_EXPONENT = 400  # of a number such as 1e-7 that is read exactly
MIN_PLACES, MIN_FIGURES = 6, 5  # of a decimal that is taken for a rounded value

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_VALUES = {word: value for value, word in enumerate(_SMALL)} | {word: 20 + 10 * i for i, word in enumerate(_TENS)}
_BELOW_100 = (
    rf"(?:(?:{'|'.join(_TENS)})(?:[ -](?:{'|'.join(_SMALL[1:10])}))?|{'|'.join(sorted(_SMALL, key=len)[::-1])})"
)
_BELOW_1000 = rf"(?:(?:{'|'.join(_SMALL[1:10])}|a)[ -]hundred(?:[ -](?:and )?{_BELOW_100})?|{_BELOW_100})"
_IN_WORDS = re.compile(
    rf"(?:(?:{_BELOW_1000}|a)[ -](?:thousand|million|billion)(?:,? (?:and )?(?={_BELOW_1000}))?){{0,3}}"
    rf"(?:{_BELOW_1000})?(?![A-Za-z])(?!-[a-z])",
    re.IGNORECASE,
)
_DIGITS = r"(?:\d{1,3}(?:[,\s]\d{3})+|\d+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_PLAIN_NUMBER = re.compile(rf"([-+]?)\s*({_PLAIN})(?:[eE]([-+]?\d+))?")
_POWER_OF_TEN = re.compile(rf"([-+]?)\s*({_PLAIN})\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{{?\s*([-+]?\d+)\s*\}}?")
_REPEATING = re.compile(r"([-+]?)\s*(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{?(\d+)\}?|\((\d+)\))")
_OVER = re.compile(rf"([-+]?)\s*({_PLAIN})\s*/\s*([-+]?{_PLAIN})")
_FRAC = re.compile(
    rf"([-+]?)\s*\\frac\s*(?:\{{\s*([-+]?\s*{_PLAIN})\s*\}}|(\d))\s*(?:\{{\s*([-+]?\s*{_PLAIN})\s*\}}|(\d))"
)
_MIXED = re.compile(
    r"([-+]?)\s*(\d+)(?:\s+(\d+)\s*/\s*(\d+)|\s*\\frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d)))"
)


def in_words(text: str) -> tuple[int, int] | None:
    """(value, end) of the whole number in words that text begins with: "one hundred and seven", "twenty-one"."""
    match = _IN_WORDS.match(text)
    words = re.findall("[a-z]+", match[0].lower()) if match else []
    total = part = 0
    for word in words:
        if word == "hundred":
            part = max(part, 1) * 100
        elif word in _SCALES:
            total, part = total + max(part, 1) * _SCALES[word], 0
        else:
            part += _VALUES.get(word, 0)  # a, and
    return (total + part, match.end()) if words else None


def _plain(digits: str) -> Fraction:
    return Fraction(re.sub(r"[,\s]", "", digits))


def number(text: str) -> Fraction | None:
    r"""The exact value of a plain number: 1,234.5, 3/4, \frac{3}{4}, 2 1/2, 1e-7, 0.\overline{3}; else None."""
    text = text.strip()
    if len(text) > MAX_DIGITS or not any(c.isdigit() for c in text):
        return None
    while text.startswith("(") and text.endswith(")") and "," not in text and closing(text, 1, "()") == len(text):
        text = text[1:-1].strip()
    try:
        if match := _PLAIN_NUMBER.fullmatch(text) or _POWER_OF_TEN.fullmatch(text):
            sign, digits, exponent = match.groups()
            if abs(int(exponent or 0)) > MAX_EXPONENT:
                return None
            value = _plain(digits) * Fraction(10) ** int(exponent or 0)
        elif match := _OVER.fullmatch(text) or _FRAC.fullmatch(text):
            sign, *parts = match.groups()
            above, below = (p for p in parts if p is not None)
            value = _plain(above) / _plain(below)
        elif match := _MIXED.fullmatch(text):
            sign, *parts = match.groups()
            whole, above, below = (p for p in parts if p is not None)
            value = int(whole) + Fraction(int(above), int(below))
        elif match := _REPEATING.fullmatch(text):
            sign, whole, fixed, *periods = match.groups()
            period = periods[0] or periods[1]
            nines = 10 ** len(fixed) * (10 ** len(period) - 1)
            value = Fraction((whole or "0") + "." + (fixed or "0")) + Fraction(int(period), nines)
        else:
            return None
    except ZeroDivisionError:
        return None
    return -value if sign == "-" else value


def in_base(digits: str, base: int) -> Fraction | None:
    """Value of digits in a base; None where they are no number of it."""
    whole, _, part = digits.partition(".")
    if not 2 <= base <= 36 or len(digits) > MAX_DIGITS:
        return None
    try:
        return Fraction(int(whole + part, base), base ** len(part))
    except ValueError:
        return None


def decimal_places(value: Fraction) -> int | None:
    """Decimal places of a number that ends (0 for an integer); None for one that does not, such as 1/3."""
    twos = fives = 0
    rest = value.denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None


def rounds_to(decimal: Fraction, value: Fraction) -> bool:
    """Whether a decimal is `value` rounded or cut off at its own last place.

    Only a decimal of at least MIN_PLACES places and MIN_FIGURES significant figures is taken for a rounded value:
    0.333333 is 1/3, 0.34 and 0.3333 are not.
    """
    places = decimal_places(decimal)
    if places is None or places < MIN_PLACES or places > MAX_DIGITS:
        return False
    scale = 10**places
    figures = abs(int(decimal * scale))
    if figures < 10 ** (MIN_FIGURES - 1) or abs(decimal - value) * scale > 9 or decimal * value < 0:
        return False
    exact = abs(value) * scale
    if figures >= 10**14 and (decimal_places(value) or MAX_DIGITS) > 40:  # as a float prints it: the last is not sure
        return abs(figures - exact) * 10**15 <= 3 * figures
    return figures in (int(exact), int(exact + Fraction(1, 2)), round(exact))


def equal_numbers(a: Fraction, b: Fraction) -> bool:
    """Whether two plain numbers are equal: exactly, or one is the other's decimal rounded (see rounds_to)."""
    if a == b or a.denominator == b.denominator == 1:
        return a == b
    try:
        if abs(float(a) - float(b)) > 1e-3 * max(abs(float(a)), abs(float(b))):  # much cheaper
            return False
    except OverflowError:
        pass
    return rounds_to(a, b) or rounds_to(b, a)


def integer(text: str) -> str | None:
    """An integer of any length without plus and leading zeros; None for anything else."""
    if not re.fullmatch(r"[-+]?\d+", text):
        return None
    digits = text.lstrip("+-").lstrip("0") or "0"
    return "-" + digits if text.startswith("-") and digits != "0" else digits


def number_spelling(value: str) -> str:
    """Groups of three digits without their blanks, mixed numbers as LaTeX, the plain minus sign."""
    value = re.sub(f"[{MINUS}]", "-", value)
    if re.fullmatch(r"-?[1-9]\d{0,2}(?:[ \u00a0\u202f]\d{3})+(?:\.\d+)?", value):
        return re.sub(r"[ \u00a0\u202f]", "", value)
    mixed = re.fullmatch(r"(-?\d+)\s+(\d+)\s?/\s?(\d+)", value)
    return rf"{mixed[1]}\frac{{{mixed[2]}}}{{{mixed[3]}}}" if mixed else value
