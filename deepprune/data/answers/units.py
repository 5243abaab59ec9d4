r"""Units, percent, currencies, bases and words for large numbers: what stands beside an answer's value.

A word after a value that is none of these (12 students, 5 ways) says nothing about the value and is dropped.
"""

from __future__ import annotations

import re

from deepprune.data.answers.characters import GREEK
from deepprune.data.answers.decoration import BOLD, ORDINAL, SPACE, unwrap
from deepprune.data.answers.latex import TEXT_FONTS
from deepprune.data.answers.numbers import in_base

_UNITS = {
    "m": "meter meters metre metres", "cm": "centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres", "km": "kilometer kilometers kilometre kilometres kms",
    "nm": "nanometer nanometers", "in": "inch inches", "ft": "foot feet", "yd": "yard yards", "mi": "mile miles",
    "g": "gram grams gm", "kg": "kilogram kilograms kgs", "mg": "milligram milligrams", "lb": "pound pounds lbs",
    "oz": "ounce ounces", "ton": "tons tonne tonnes", "l": "liter liters litre litres L",
    "ml": "milliliter milliliters mL",
    "gal": "gallon gallons", "quart": "quarts", "pint": "pints", "cup": "cups",
    "s": "second seconds sec secs", "ms": "millisecond milliseconds", "min": "minute minutes mins",
    "h": "hour hours hr hrs", "day": "days", "week": "weeks", "month": "months", "yr": "year years yrs",
    "$": "dollar dollars USD usd", "cent": "cents ¢", "€": "euro euros EUR", "£": "GBP", "¥": "yen JPY",
    "₹": "rupee rupees Rs rs INR", "deg": "degree degrees", "rad": "radian radians",
    "°C": "celsius Celsius", "°F": "fahrenheit Fahrenheit", "K": "kelvin Kelvin kelvins",
    "mph": "", "kmh": "kph kmph", "N": "newton newtons", "J": "joule joules", "kJ": "kilojoule kilojoules",
    "W": "watt watts", "kW": "kilowatt kilowatts", "V": "volt volts", "Pa": "pascal pascals", "Hz": "hertz",
    "mol": "mole moles", "am": "AM a.m. A.M. a.m A.M", "pm": "PM p.m. P.M. p.m P.M", "acre": "acres",
    "hectare": "hectares ha",
    "%": "percent percentage pct percents",
}  # fmt: skip
_UNIT = {alias: unit for unit, aliases in _UNITS.items() for alias in [unit, *aliases.split()]}
_WORD_UNITS = {u for u in _UNIT if len(u) > 1 and u not in ("in", "am", "ms")}  # no \text needed after a number
_SPACED_UNITS = {
    "m",
    "g",
    "s",
    "h",
    "N",
    "J",
    "W",
    "V",
    "K",
    "L",
    "in",
    "am",
    "ms",
    "$",
    "%",
    "€",
    "£",
    "¥",
    "₹",
    "¢",
}  # only after a space
_POWERS = {"square": "2", "sq": "2", "squared": "2", "cubic": "3", "cu": "3", "cubed": "3"}
MATH_WORDS = set(
    "and or pi sqrt cbrt root sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln lg exp inf infty "
    "infinity oo mod abs min max gcd lcm floor ceil times pm cup cap union empty none all real".split()
) | set(GREEK)
_TEXT = rf"\\(?:{TEXT_FONTS}|rm|operatorname)\s*\{{[^{{}}]*\}}(?:\s*\^\s*\{{?\s*-?\d\s*\}}?)?"
_TEXT_TAIL = re.compile(rf"(?:(?:[\s/*]|\\cdot|\\times)*{_TEXT})+$")
_DEGREES = re.compile(
    r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|(?<=\d)\s*\^\s*(?:\{?\s*o\s*\}?|\{?\s*\\(?:text|mathrm)\s*\{\s*o\s*\}\s*\}?)(?=$)|\\degree|\\deg(?![a-z]))\s*(?:\\(?:text|mathrm)\s*\{\s*)?([CF])?\s*\}?$"
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
ZEROS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LARGE = re.compile(
    rf"^([-+]?[\d.,]*\d)\s*(\\(?:{TEXT_FONTS})\s*\{{)?\s*({'|'.join(ZEROS)})(?![A-Za-z])\s*(\}})?", re.IGNORECASE
)


def _unit_of(words: str) -> str:
    r"""Canonical unit of what stands after a number ("square inches" -> in^2); "" where it names none."""
    words = re.sub(rf"\\(?:{TEXT_FONTS}|rm|operatorname)\s*\{{([^{{}}]*)\}}", r" \1 ", words)
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
    return {"mi /h": "mph", "km /h": "kmh", "deg °C": "°C", "deg °F": "°F"}.get(unit, unit)


_COMPOUND = re.compile(
    r"(\d+)\s?([a-z]+)(?:,? and|,)?\s(\d+(?:\.\d+)?)\s?([a-z]+)(?:(?:,? and|,)?\s(\d+(?:\.\d+)?)\s?([a-z]+))?"
    r"(?![A-Za-z])",
    re.IGNORECASE,
)


def compound_quantity(text: str) -> tuple[str, int] | None:
    """(5 ft 3 in, end) of the quantity in two or three units that text begins with, its units in one spelling."""
    match = _COMPOUND.match(text)
    parts = [part for part in match.groups() if part] if match else []
    units = [_UNIT.get(unit, "") for unit in parts[1::2]]
    if not units or "" in units or len(set(units)) < len(units):
        return None
    return " ".join(f"{value} {unit}" for value, unit in zip(parts[::2], units, strict=True)), match.end()


def _is_unit_tail(rest: str, tail: str) -> bool:
    """Whether plain words after a value are a unit or a noun, not mathematics (5 xy, 2 pi, 3t)."""
    words = re.split(r"[\s/]+", re.sub(r"\^\{?-?\d\}?", "", tail))
    if any(w.strip(".") in MATH_WORDS - {"min", "pm", "cup"} for w in words) or not re.search(r"[\d}]\s*$", rest):
        return False
    spaced = rest[-1:].isspace()
    return all(
        w in _WORD_UNITS
        or w.strip(".") in _WORD_UNITS
        or w.lower().strip(".") in _POWERS
        or w == "per"
        or (spaced and w in ("of", "the", "a", "an") and i < len(words) - 1)
        or (spaced and w in _SPACED_UNITS)
        or (("/" in tail or i > 0) and w in _UNIT)
        or (spaced and len(w.strip(".")) >= 3 and re.search("[aeiou]", w))
        for i, w in enumerate(words)
    )


def _joins(tail: str) -> bool:
    r"""Whether a trailing \text{...} belongs to the mathematics (\text{ or }, \text{th power}), not to a unit."""
    return bool(re.search(r"\b(?:or|and)\b", tail))


def take_unit(text: str) -> tuple[str, str]:
    """(value as it is spelled, unit) of an answer without decoration."""
    unit = ""
    if currency := _CURRENCY.match(text):
        unit, text = _currency(currency[2]), currency[1] + text[currency.end() :]
    elif currency := _CURRENCY_AFTER.search(text):
        unit, text = _currency(currency[1]), text[: currency.start()]
    text = BOLD.sub("", ORDINAL.sub("", unwrap(SPACE.sub(" ", text))))
    text = _LARGE.sub(lambda m: rf"{m[1]} \times 10^{{{ZEROS[m[3].lower()]}}} {'' if m[4] else m[2] or ''}", text)
    if (match := re.search(r"\s*\\?%$", text)) and match.start():
        unit, text = unit or "%", text[: match.start()]
    if match := _BASE.match(text):
        digits, base = match[1] + match[2].upper(), (match[3] or match[4]).lower()
        base = int(base) if base.isdecimal() and len(base) < 3 else _BASES.get(base, 0)
        if in_base(digits, base) is not None and (match[2][0].isdigit() or base > 10):
            return digits, f"base {base}"
    if not unit and (match := _DEGREES.search(text)) and match.start() and not _TRIGONOMETRY.search(text):
        unit, text = "°" + match[1] if match[1] else "deg", text[: match.start()]
    if not unit and (match := re.search(r"(?<=\d)\s*(['\"])$", text)):
        unit, text = {"'": "ft", '"': "in"}[match[1]], text[: match.start()]
    match = _TEXT_TAIL.search(text)
    if match and re.search(r"[^\s=+*/({\[^_<>|,-]\s*$", text[: match.start()]) and not _joins(match[0]):
        unit, text = unit or _unit_of(match[0]), text[: match.start()]
    elif (match := _WORD_TAIL.search(text)) and _is_unit_tail(text[: match.start(1)], match[1]):
        unit, text = unit or _unit_of(match[1]), text[: match.start(1)]
    if unit in ("am", "pm"):
        text = re.sub(r"^0(?=\d)|:00\s*$", "", text)
    return ORDINAL.sub("", unwrap(text)), unit
