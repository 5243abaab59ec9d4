r"""How one mathematical answer can be spelled: decoration, Unicode, plain text, units, percent, bases, plain numbers.

math-verify reads LaTeX. What it misreads or drops is put right here first: `read` takes an answer apart into its
unit and the rest, and the rest into an exact number where it is one; `latex` writes the rest as LaTeX that
math-verify reads as meant. No sympy here: most answers are plain numbers and need none.
"""

from __future__ import annotations

import fractions
import functools
import re
import typing

Fraction = fractions.Fraction

MAX_CHARS = 600  # of an answer that is taken apart; a longer one is compared as it is spelled
MAX_DIGITS = 1000  # of a number that is read exactly
MAX_EXPONENT = 400  # of a number such as 1e-7 that is read exactly

_UNICODE = {
    "−": "-",
    "–": "-",
    "—": "-",
    "‐": "-",
    "‑": "-",
    "×": r"\times ",
    "⋅": r"\cdot ",
    "·": r"\cdot ",
    "∙": r"\cdot ",
    "÷": "/",
    "⁄": "/",
    "∕": "/",
    "∞": r"\infty ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "≤": r"\leq ",
    "≥": r"\geq ",
    "⩽": r"\leq ",
    "⩾": r"\geq ",
    "≠": r"\neq ",
    "≈": r"\approx ",
    "∈": r"\in ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}",
    "°": r"^\circ ",
    "º": r"^\circ ",
    "′": "'",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "％": "%",
    "﹪": "%",
    "，": ",",
    "。": ".",
    "．": ".",
    "：": ":",
    "；": ";",
    "（": "(",
    "）": ")",
    "＋": "+",
    "＝": "=",
    "＜": "<",
    "＞": ">",
    "／": "/",
    "＊": "*",
    "＾": "^",
    "－": "-",
    "［": "[",
    "］": "]",
    "｛": "{",
    "｝": "}",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": " ",
    "\u2007": " ",
    "\u2002": " ",
    "\u2003": " ",
    "\u3000": " ",
    "\u200b": "",
    "\u2060": "",
    "\ufeff": "",
    "µ": "μ",
    "△": r"\triangle ",
    "∠": r"\angle ",
    "✓": "",
    "✔": "",
    "■": "",
    "□": "",
    "∎": "",
    "✅": "",
    "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}",
    "⅖": r"\frac{2}{5}",
    "⅗": r"\frac{3}{5}",
    "⅘": r"\frac{4}{5}",
    "⅙": r"\frac{1}{6}",
    "⅚": r"\frac{5}{6}",
    "⅐": r"\frac{1}{7}",
    "⅛": r"\frac{1}{8}",
    "⅜": r"\frac{3}{8}",
    "⅝": r"\frac{5}{8}",
    "⅞": r"\frac{7}{8}",
    "⅑": r"\frac{1}{9}",
    "⅒": r"\frac{1}{10}",
} | {chr(0xFF10 + i): str(i) for i in range(10)}
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega"
).split()
_UNICODE |= {c: rf"\{name} " for c, name in zip("αβγδεζηθικλμνξπρστφχψω", _GREEK, strict=True)}
_UNICODE |= {"Δ": r"\Delta ", "Θ": r"\Theta ", "Σ": r"\Sigma ", "Φ": r"\Phi ", "Ω": r"\Omega ", "ϕ": r"\phi "}
_UNICODE = str.maketrans(_UNICODE)
_HIGH, _LOW = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙᵢ"
_SMALL = str.maketrans(_HIGH + _LOW, "0123456789+-=()ni" * 2)
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[A-Za-z]|(?=[({\\]))")

_FONTS = (
    r"text|textbf|textit|textrm|textsf|texttt|textnormal|emph|underline|mbox|hbox|mathrm|mathbf|mathit|mathsf|mathtt"
)
_WRAPPERS = re.compile(rf"\\(?:{_FONTS}|boldsymbol|bm|pmb|ensuremath|operatorname\*?|f?box|boxed|bf|rm|it)\s*\{{")
_BOLD = re.compile(r"\\(?:boldsymbol|bm|pmb|mathbf|mathit|mathsf|mathtt|ensuremath)\s*(?=\{)")
_PAIRS = [
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("_", "_"),
    ("`", "`"),
]
_PAIRS += [('"', '"'), ("'", "'"), ("``", "''"), ("<answer>", "</answer>")]
_LAYOUT = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|mathstrut|strut)(?![A-Za-z])"
)
_EMPTY = re.compile(
    r"\\(?:checkmark|blacksquare|square|qed|newline|linebreak|hfill|par|noindent|therefore|tiny|scriptsize|footnotesize|small"
    r"|normalsize|large|Large|LARGE|huge|Huge|rm|bf|it|sf|tt|bfseries|itshape)(?![A-Za-z])"
    r"|\\(?:h|v)?phantom\s*\{[^{}]*\}|\\color\s*\{[^{}]*\}|\\textcolor\s*\{[^{}]*\}(?=\s*\{)|\\#"
    r"|\\(?:text|mbox|mathrm)\s*\{\s*\}|</?(?:br|s|p|b|i|em|strong|span|div)\s*/?>|<\|[^|<>]*\|>"
    r"|\((?:exact|exactly|approx|approx\.|approximately|rounded)\)"
)
_LABEL = re.compile(
    r"^(?:\\text(?:bf|rm|it)?\s*\{\s*)?(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is\s*:?|[:=])\s*(\}?)\s*(?=\S)",
    re.IGNORECASE,
)
_SPACE = re.compile(
    r"(?<!\\)\\(?:[,;:> ]|quad(?![A-Za-z])|qquad(?![A-Za-z])|thinspace(?![A-Za-z])|hspace\*?\{[^{}]*\})|(?<!\\)~"
)
_END = re.compile(r"(?:[\s.,;:~]|\\+(?=$|\s)|\\[,;: !])+$")
_ORDINAL = re.compile(
    r"(?<=\d)\s*(?:\^\s*)?(?:\{\s*)?(?:\\(?:textsuperscript|"
    + _FONTS
    + r")\s*\{\s*)?-?(?:st|nd|rd|th)\s*(?:\}\s*){0,2}$"
)


def _close(text: str, start: int, pair: str = "{}") -> int:
    """Position after the bracket that closes the one just before `start`; -1 if none does."""
    depth = 1
    for i in range(start, len(text)):
        if text[i] in pair and not (pair == "{}" and i and text[i - 1] == "\\"):
            depth += 1 if text[i] == pair[0] else -1
            if depth == 0:
                return i + 1
    return -1


def unwrap(text: str) -> str:
    r"""An answer without what only decorates it: $...$, \(...\), \boxed, \text, bold, quotes, full stop."""
    text = " ".join(text.split())
    while len(text) <= MAX_CHARS:
        before = text
        text = _END.sub("", text.strip())
        for left, right in _PAIRS:
            inner = text[len(left) : len(text) - len(right)]
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
                if left not in inner and right not in inner and not inner.endswith("\\"):
                    text = inner
                    break
        text = text.strip("&")
        if (match := _LABEL.match(text)) and (match[1] or "{" not in match[0]):
            text = text[match.end() :]
        match = _WRAPPERS.match(text)
        if match and _close(text, match.end()) == len(text):
            text = text[match.end() : -1]
        elif match and _close(text, match.end()) < 0:  # cut off
            text = text[match.end() :]
        elif text.endswith("}") and not text.endswith("\\}") and text.count("{") < text.count("}"):
            text = text[:-1]
        elif text.startswith("{") and _close(text, 1) == len(text):
            text = text[1:-1]
        text = re.sub(r"^(?:\*\*|=\s*|:\s+)|\*\*$", "", text)
        if text == before:
            break
    return text


def _unicode(text: str) -> str:
    """Unicode mathematics as LaTeX: x² is x^{2}, √3 is \\sqrt{3}, π is \\pi."""
    if text.isascii():
        return text
    text = re.sub(f"[{_HIGH}]+", lambda m: "^{" + m[0].translate(_SMALL) + "}", text)
    text = re.sub(f"[{_LOW}]+", lambda m: "_{" + m[0].translate(_SMALL) + "}", text)
    text = _ROOT.sub(lambda m: _ROOTS[m[1]] + (f"{{{m[2]}}}" if m[2] else ""), text)
    return text.translate(_UNICODE)


# Units. A word that is none of these (12 students, 5 ways) says nothing about the value and is dropped.
_UNITS = {
    "m": "meter meters metre metres", "cm": "centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres", "km": "kilometer kilometers kilometre kilometres kms",
    "nm": "nanometer nanometers", "in": "inch inches", "ft": "foot feet", "yd": "yard yards", "mi": "mile miles",
    "g": "gram grams gm", "kg": "kilogram kilograms kgs", "mg": "milligram milligrams", "lb": "pound pounds lbs",
    "oz": "ounce ounces", "ton": "tons tonne tonnes", "l": "liter liters litre litres L", "ml": "milliliter milliliters mL",
    "gal": "gallon gallons", "quart": "quarts", "pint": "pints", "cup": "cups",
    "s": "second seconds sec secs", "ms": "millisecond milliseconds", "min": "minute minutes mins",
    "h": "hour hours hr hrs", "day": "days", "week": "weeks", "month": "months", "yr": "year years yrs",
    "$": "dollar dollars USD usd", "cent": "cents ¢", "€": "euro euros EUR", "£": "GBP", "¥": "yen JPY",
    "₹": "rupee rupees Rs rs INR", "deg": "degree degrees", "rad": "radian radians",
    "°C": "celsius Celsius", "°F": "fahrenheit Fahrenheit", "K": "kelvin Kelvin kelvins",
    "mph": "", "kmh": "kph kmph", "N": "newton newtons", "J": "joule joules", "kJ": "kilojoule kilojoules",
    "W": "watt watts", "kW": "kilowatt kilowatts", "V": "volt volts", "Pa": "pascal pascals", "Hz": "hertz",
    "mol": "mole moles", "am": "AM a.m. A.M.", "pm": "PM p.m. P.M.", "acre": "acres", "hectare": "hectares ha",
    "%": "percent percentage pct percents",
}  # fmt: skip
_UNIT = {alias: unit for unit, aliases in _UNITS.items() for alias in [unit, *aliases.split()]}
_WORD_UNITS = {u for u in _UNIT if len(u) > 1 and u not in ("in", "am", "ms")}  # no \text needed after a number
_SPACED_UNITS = {"m", "g", "s", "h", "in", "am", "ms", "$", "%", "€", "£", "¥", "₹", "¢"}  # only after a space
_POWERS = {"square": "2", "sq": "2", "squared": "2", "cubic": "3", "cu": "3", "cubed": "3"}
_MATH_WORDS = set(
    "and or pi sqrt cbrt root sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln lg exp inf infty "
    "infinity oo mod abs min max gcd lcm floor ceil times pm cup cap union empty none all real".split()
) | set(_GREEK)
_TEXT = rf"\\(?:{_FONTS}|rm|operatorname)\s*\{{[^{{}}]*\}}(?:\s*\^\s*\{{?\s*-?\d\s*\}}?)?"
_TEXT_TAIL = re.compile(rf"(?:(?:[\s/*]|\\cdot|\\times)*{_TEXT})+$")
_DEGREES = re.compile(
    r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree|\\deg(?![a-z]))\s*(?:\\(?:text|mathrm)\s*\{\s*)?([CF])?\s*\}?$"
)
_TRIGONOMETRY = re.compile("sin|cos|tan|cot|sec|csc")
_WORD_TAIL = re.compile(
    r"(?<=[\d})\s])\s*((?:(?:square|sq\.?|cubic|cu\.?|per)\s+)*[A-Za-z¢$€£¥₹][A-Za-z.¢]*"
    r"(?:\s*\^\s*\{?-?\d\}?)?(?:\s*(?:/|\s)\s*[A-Za-z][A-Za-z.]*(?:\s*\^\s*\{?-?\d\}?)?)*)$"
)
_SIGNS = "€£¥₹₩₽₿₪₫฿¢"
_CURRENCY = re.compile(
    r"^([-+]?)\s*(?:\\text\s*\{)?\s*((?:US|CA|AU|HK|NZ|C|A|S)?\s*\\?\$|\\(?:pounds|euro|texteuro|yen)(?![a-z])"
    rf"|[{_SIGNS}]|(?:USD|EUR|GBP|INR|JPY|Rs\.?)(?=\s*\d))\s*\}}?\s*(?=\S)"
)
_CURRENCY_AFTER = re.compile(rf"(?<=\d)\s*(\\?\$|[{_SIGNS}])$")
_CURRENCIES = {r"\$": "$", "$": "$", r"\pounds": "£", r"\euro": "€", r"\texteuro": "€", r"\yen": "¥", "¢": "cent"}


def _currency(sign: str) -> str:
    return _CURRENCIES.get(sign) or ("$" if sign.endswith("$") else _UNIT.get(sign.rstrip("."), sign))


_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_BASES |= {"twelve": 12, "sixteen": 16}
_BASE = re.compile(
    r"^([-+]?)(?:\\text\s*\{|\\mathrm\s*\{|\()?\s*([0-9A-Za-z]*\d[0-9A-Za-z]*(?:\.[0-9A-Za-z]+)?|[A-F]+)\s*[})]?\s*"
    r"(?:_\s*\{?\s*\(?\s*(?:\\text\s*\{)?\s*(?:base\s*)?(\w+)\s*\}?\s*\)?\s*\}?"
    r"|\(?\s*(?:\\text\s*\{)?\s*\(?\s*(?:in\s+)?base\s*[- ]?\s*\}?\s*(\w+)\s*\)?\s*\}?\s*\)?)$"
)


_ZEROS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LARGE = re.compile(
    rf"^([-+]?[\d.,]*\d)\s*(\\(?:{_FONTS})\s*\{{)?\s*({'|'.join(_ZEROS)})(?![A-Za-z])\s*(\}})?", re.IGNORECASE
)


def _unit_of(words: str) -> str:
    r"""Canonical unit of what stands after a number ("square inches" -> in^2); "" where it names none."""
    words = re.sub(rf"\\(?:{_FONTS}|rm|operatorname)\s*\{{([^{{}}]*)\}}", r" \1 ", words)
    words = re.sub(r"\\cdot|\\times|\*", " ", words).replace("/", " / ")
    words = re.sub(r"\s*\^\s*\{?\s*(-?\d)\s*\}?", r"^\1 ", words)
    units, power, below = [], None, False
    for word in words.split():
        name, _, exponent = word.partition("^")
        name = name if name in _UNIT else name.strip(".,;()")
        if name in ("/", "per"):
            below = True
        elif name.lower() in _POWERS and not exponent:
            power = _POWERS[name.lower()]
            if name.lower() in ("squared", "cubed") and units:
                units[-1] += "^" + power
                power = None
        elif name in _UNIT or name.lower() in _UNIT:
            exponent = exponent or power or ""
            name = _UNIT.get(name) or _UNIT[name.lower()]
            if below and exponent.startswith("-"):
                exponent = exponent[1:]
            elif exponent.startswith("-"):
                below, exponent = True, exponent[1:]
            units.append(("/" if below else "") + name + ("^" + exponent if exponent not in ("", "1") else ""))
            power, below = None, False
    unit = " ".join(units)
    return {"mi /h": "mph", "km /h": "kmh"}.get(unit, unit)


def _is_unit_tail(rest: str, tail: str) -> bool:
    """Whether plain words after a value are a unit or a noun, not mathematics (5 xy, 2 pi, 3t)."""
    words = re.split(r"[\s/]+", re.sub(r"\^\{?-?\d\}?", "", tail))
    if any(w.strip(".") in _MATH_WORDS for w in words) or not re.search(r"[\d}]\s*$", rest):
        return False
    spaced = rest[-1:].isspace()
    return all(
        w in _WORD_UNITS
        or w.strip(".") in _WORD_UNITS
        or w.lower() in _POWERS
        or w == "per"
        or (spaced and w in _SPACED_UNITS)
        or (("/" in tail or i > 0) and w in _UNIT)
        or (spaced and len(w.strip(".")) >= 3 and re.search("[aeiou]", w))
        for i, w in enumerate(words)
    )


_DIGITS = r"(?:\d{1,3}(?:[,\s]\d{3})+|\d+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_PLAIN_NUMBER = re.compile(rf"([-+]?)\s*({_PLAIN})(?:[eE]([-+]?\d+))?")
_POWER_OF_TEN = re.compile(rf"([-+]?)\s*({_PLAIN})\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{{?\s*([-+]?\d+)\s*\}}?")
_REPEATING = re.compile(r"([-+]?)\s*(\d*)\.(\d*)\\(?:overline|bar)\s*\{?(\d+)\}?")
_OVER = re.compile(rf"([-+]?)\s*({_PLAIN})\s*/\s*([-+]?{_PLAIN})")
_FRAC = re.compile(
    rf"([-+]?)\s*\\frac\s*(?:\{{\s*([-+]?\s*{_PLAIN})\s*\}}|(\d))\s*(?:\{{\s*([-+]?\s*{_PLAIN})\s*\}}|(\d))"
)
_MIXED = re.compile(
    r"([-+]?)\s*(\d+)(?:\s+(\d+)\s*/\s*(\d+)|\s*\\frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d)))"
)


def _plain(digits: str) -> Fraction:
    return Fraction(re.sub(r"[,\s]", "", digits))


def number(text: str) -> Fraction | None:
    r"""The exact value of a plain number: 1,234.5, 3/4, \frac{3}{4}, 2 1/2, 1e-7, 0.\overline{3}; else None."""
    text = text.strip()
    if len(text) > MAX_DIGITS or not any(c.isdigit() for c in text):
        return None
    while text.startswith("(") and text.endswith(")") and "," not in text and _close(text, 1, "()") == len(text):
        text = text[1:-1].strip()
    try:
        if match := _PLAIN_NUMBER.fullmatch(text):
            sign, digits, exponent = match.groups()
            if exponent and abs(int(exponent)) > MAX_EXPONENT:
                return None
            value = _plain(digits) * Fraction(10) ** int(exponent or 0)
        elif match := _POWER_OF_TEN.fullmatch(text):
            sign, digits, exponent = match.groups()
            if abs(int(exponent)) > MAX_EXPONENT:
                return None
            value = _plain(digits) * Fraction(10) ** int(exponent)
        elif match := _OVER.fullmatch(text):
            sign, above, below = match.groups()
            value = _plain(above) / _plain(below)
        elif match := _FRAC.fullmatch(text):
            sign, *parts = match.groups()
            above, below = (p for p in parts if p is not None)
            value = _plain(above) / _plain(below)
        elif match := _MIXED.fullmatch(text):
            sign, *parts = match.groups()
            whole, above, below = (p for p in parts if p is not None)
            value = int(whole) + Fraction(int(above), int(below))
        elif match := _REPEATING.fullmatch(text):
            sign, whole, fixed, period = match.groups()
            nines = 10 ** len(fixed) * (10 ** len(period) - 1)
            value = Fraction((whole or "0") + "." + (fixed or "0")) + Fraction(int(period), nines)
        else:
            return None
    except ZeroDivisionError:
        return None
    return -value if sign == "-" else value


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
    if len(text) == 1 or text.lower() in _MATH_WORDS - {"none", "empty", "all", "real"}:
        return None
    if not marked and not (text.lower() in ("no", "yes") or (len(text) >= 3 and re.search("[aeiou]", text.lower()))):
        return None
    return f"\\text{{{text.casefold()}}}"


def _integer(text: str) -> str | None:
    """An integer of any length without plus and leading zeros; None for anything else."""
    if not re.fullmatch(r"[-+]?\d+", text):
        return None
    digits = text.lstrip("+-").lstrip("0") or "0"
    return "-" + digits if text.startswith("-") and digits != "0" else digits


def _tidy(text: str) -> str:
    r"""An answer without decoration and layout, in one spelling of fractions and thousands (10,\!080 is 10,080)."""
    text = re.sub(r"\{\s*,\s*\}", ",", _EMPTY.sub(" ", _unicode(text)))
    if "\\begin" not in text:  # where two backslashes end a row
        text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)
    text = re.sub(r"(?<![\\A-Za-z])[dtc]?frac\s*(?=[{\d])", r"\\frac", text)
    text = re.sub(r"(?<=\d),?\\[,!:; ]\s*(?=\d{3}(?:\D|$))|(?<=\d),\s*\\!\s*(?=\d)", ",", text).replace("\\!", "")
    text = unwrap(re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", _LAYOUT.sub("", text)))
    dollars = len(re.findall(r"(?<!\\)\$", text))
    return re.sub(r"(?<!\\)\$", "", text) if dollars > 1 and dollars % 2 == 0 else text  # $\pi$ radians


def _take_unit(text: str) -> tuple[str, str]:
    """A tidy answer's value, as it is spelled, and its unit."""
    unit = ""
    if currency := _CURRENCY.match(text):
        unit, text = _currency(currency[2]), currency[1] + text[currency.end() :]
    elif currency := _CURRENCY_AFTER.search(text):
        unit, text = _currency(currency[1]), text[: currency.start()]
    text = _BOLD.sub("", _ORDINAL.sub("", unwrap(_SPACE.sub(" ", text))))
    text = _LARGE.sub(lambda m: rf"{m[1]} \times 10^{{{_ZEROS[m[3].lower()]}}} {'' if m[4] else m[2] or ''}", text)
    if (match := re.search(r"\s*\\?%$", text)) and match.start():
        unit, text = unit or "%", text[: match.start()]
    if match := _BASE.match(text):
        digits, base = match[1] + match[2].upper(), (match[3] or match[4]).lower()
        base = int(base) if base.isdecimal() and len(base) < 3 else _BASES.get(base, 0)
        if _in_base(digits, base) is not None and (match[2][0].isdigit() or base > 10):
            return digits, f"base {base}"
    if not unit and (match := _DEGREES.search(text)) and match.start() and not _TRIGONOMETRY.search(text):
        unit, text = "°" + match[1] if match[1] else "deg", text[: match.start()]
    match = _TEXT_TAIL.search(text)
    if match and re.search(r"[^\s=+*/({\[^_<>|,-]\s*$", text[: match.start()]) and not _joins(match[0]):
        unit, text = unit or _unit_of(match[0]), text[: match.start()]
    elif (match := _WORD_TAIL.search(text)) and _is_unit_tail(text[: match.start(1)], match[1]):
        unit, text = unit or _unit_of(match[1]), text[: match.start(1)]
    return _ORDINAL.sub("", unwrap(text)), unit


@functools.lru_cache(maxsize=65536)
def read(answer: str) -> Reading:
    """An answer (type math) taken apart into value and unit; see Reading."""
    text = " ".join(answer.split())
    if len(text) > MAX_CHARS:
        return Reading(_integer(text) or text, None, "")
    if re.fullmatch(r"[-+]?\d+(?:\.\d+)?", text):  # most answers
        value = Fraction(text)
        return Reading(str(value), value, "")
    marked = any(macro in text for macro in ("\\text", "\\mbox", "\\mathrm"))
    text, unit = _take_unit(_tidy(text))
    value = number(text)
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


def _joins(tail: str) -> bool:
    r"""Whether a trailing \text{...} belongs to the mathematics (\text{ or }, \text{th power}), not to a unit."""
    return bool(re.search(r"\b(?:or|and)\b", tail))


def _squeeze(text: str) -> str:
    """Without the white space that means nothing (that between letters or digits stays)."""
    return re.sub(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])|(?<=\d)\s+(?=[A-Za-z])", "", " ".join(text.split()))


def _in_base(digits: str, base: int) -> Fraction | None:
    """Value of digits in a base; None where they are no number of it."""
    whole, _, part = digits.partition(".")
    try:
        return (
            Fraction(int(whole + part, base), base ** len(part))
            if 2 <= base <= 36 and len(digits) <= MAX_DIGITS
            else None
        )
    except ValueError:
        return None


def base_value(reading: Reading) -> Fraction | None:
    """The number that a reading in a base stands for (its digits without a base: as decimals)."""
    if reading.unit.startswith("base "):
        return _in_base(reading.value, int(reading.unit.removeprefix("base ")))
    return reading.number


def _places(value: Fraction) -> int | None:
    """Decimal places of a number that ends (0 for an integer); None for one that does not, such as 1/3."""
    twos = fives = 0
    rest = value.denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None


MIN_PLACES, MIN_FIGURES = 6, 5


def rounds_to(decimal: Fraction, value: Fraction) -> bool:
    """Whether a decimal is `value` rounded or cut off at its own last place.

    Only a decimal of at least MIN_PLACES places and MIN_FIGURES significant figures is taken for a rounded value:
    0.333333 is 1/3, 0.34 and 0.3333 are not.
    """
    places = _places(decimal)
    if places is None or places < MIN_PLACES or places > MAX_DIGITS:
        return False
    scale = 10**places
    figures = abs(int(decimal * scale))
    if figures < 10 ** (MIN_FIGURES - 1) or abs(decimal - value) * scale > 9 or decimal * value < 0:
        return False
    exact = abs(value) * scale
    if figures >= 10**14 and (_places(value) or MAX_DIGITS) > 40:  # as a float prints it: the last figure is not sure
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


_PLAIN_MACRO = re.compile(
    r"(?<![\\A-Za-z])(sqrt|cbrt|exp|abs|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|[Ii]nfinity|INFINITY|infty"
    r"|[Ii]nf|INF|oo|Pi|PI|" + "|".join(_GREEK) + r")(?![A-Za-z])"
)
_CALLS = re.compile(r"(\\sqrt|\\cbrt|\\exp|\\abs|\^)\s*\(")
_CALL_FORMS = {r"\sqrt": r"\sqrt{%s}", r"\cbrt": r"\sqrt[3]{%s}", r"\exp": r"e^{%s}", r"\abs": "|%s|", "^": "^{%s}"}


def latex(value: str) -> str:
    r"""A reading's value as LaTeX that math-verify reads as meant: sqrt(2) is \sqrt{2}, 2^10 is 2^{10}, 1/2x is x/2."""
    parts = re.split(r"(\\(?:text|mbox|mathrm)\s*\{[^{}]*\})", value)
    text = "".join(p if i % 2 else _PLAIN_MACRO.sub(_macro, p) for i, p in enumerate(parts))
    text = text.replace("**", "^").replace("+/-", r"\pm ").replace("<=", r"\leq ").replace(">=", r"\geq ")
    text = text.replace("!=", r"\neq ")
    while match := _CALLS.search(text):
        end = _close(text, match.end(), "()")
        if end < 0:
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


def _macro(match: re.Match) -> str:
    if match[1] in ("Pi", "PI"):
        return r"\pi "
    return r"\infty " if match[1].lower() in ("infinity", "infty", "inf", "oo") else "\\" + match[1] + " "
