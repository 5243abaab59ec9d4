r"""Characters of answers: Unicode mathematics and full-width signs as the LaTeX and ASCII that readers know."""

from __future__ import annotations

import re

MINUS = "−–—‐‑﹣－"  # what is written for a minus sign
FULL_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)}
GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega"
).split()

_SPELLINGS = {
    "-": MINUS,
    "/": "÷⁄∕",
    r"\times ": "×",
    r"\cdot ": "⋅·∙",
    r"\infty ": "∞",
    r"\pm ": "±",
    r"\mp ": "∓",
    r"\leq ": "≤⩽",
    r"\geq ": "≥⩾",
    r"\neq ": "≠",
    r"\approx ": "≈",
    r"\in ": "∈",
    r"\cup ": "∪",
    r"\cap ": "∩",
    r"\emptyset ": "∅",
    "(": "⟨",
    ")": "⟩",
    r"^\circ ": "°º",
    r"\triangle ": "△",
    r"\angle ": "∠",
    "'": "′‘’",
    '"': "“”″",
    "%": "﹪",
    ".": "。",
    "μ": "µ",
    " ": "\u00a0\u2009\u202f\u2007\u2002\u2003\u3000",
    "": "\u200b\u2060\ufeff✓✔■□∎✅",
    r"\phi ": "ϕ",
}
_LATEX = {character: spelling for spelling, characters in _SPELLINGS.items() for character in characters}
_LATEX |= {chr(0xFF10 + i): str(i) for i in range(10)} | {
    c: chr(ord(c) - 0xFEE0) for c in "％，．：；（）＋＝＜＞／＊＾［］｛｝"
}
_LATEX |= {c: rf"\mathbb{{{name}}}" for c, name in zip("ℝℤℕℚℂ", "RZNQC", strict=True)}
_LATEX |= {c: rf"\{name} " for c, name in zip("αβγδεζηθικλμνξπρστφχψω", GREEK, strict=True)}
_LATEX |= {c: rf"\{name} " for c, name in zip("ΔΘΣΦΩ", "Delta Theta Sigma Phi Omega".split(), strict=True)}
_FRACTIONS = "½1/2 ⅓1/3 ⅔2/3 ¼1/4 ¾3/4 ⅕1/5 ⅖2/5 ⅗3/5 ⅘4/5 ⅙1/6 ⅚5/6 ⅐1/7 ⅛1/8 ⅜3/8 ⅝5/8 ⅞7/8 ⅑1/9 ⅒1/10".split()
_LATEX |= {f[0]: r"\frac{%s}{%s}" % tuple(f[1:].split("/")) for f in _FRACTIONS}  # noqa: UP031 - braces
_LATEX = str.maketrans(_LATEX)
_HIGH, _LOW = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙᵢ"
_SMALL = str.maketrans(_HIGH + _LOW, "0123456789+-=()ni" * 2)
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[A-Za-z]|(?=[({\\]))")


def as_latex(text: str) -> str:
    """Unicode mathematics as LaTeX: x² is x^{2}, √3 is \\sqrt{3}, π is \\pi."""
    if text.isascii():
        return text
    text = re.sub(f"[{_HIGH}]+", lambda m: "^{" + m[0].translate(_SMALL) + "}", text)
    text = re.sub(f"[{_LOW}]+", lambda m: "_{" + m[0].translate(_SMALL) + "}", text)
    text = _ROOT.sub(lambda m: _ROOTS[m[1]] + (f"{{{m[2]}}}" if m[2] else ""), text)
    return text.translate(_LATEX)
