r"""What only decorates an answer: wrappers, fonts, layout, labels, marks and punctuation at its ends.

`unwrap` and `undecorated` take off what must not matter when two answers are compared; `bare` and `trimmed` are more
careful: the answer that is read out of a trace keeps its spelling.
"""

from __future__ import annotations

import re

from deepprune.data.answers.characters import as_latex
from deepprune.data.answers.latex import BOLD_FONTS, FONT, TEXT_FONTS, closing, unwrap_box

MAX_CHARS = 600  # of an answer that is taken apart; a longer one is compared as it is spelled

_WRAPPERS = re.compile(rf"\\(?:{TEXT_FONTS}|{BOLD_FONTS}|ensuremath|operatorname\*?|f?box|boxed|bf|rm|it)\s*\{{")
BOLD = re.compile(rf"\\(?:{BOLD_FONTS}|mathbf|mathit|mathsf|mathtt|ensuremath)\s*(?=\{{)")
_MARKS = ("$$", "$", "**", "__", "*", "_", "`", '"', "'")
_PAIRS = [*((mark, mark) for mark in _MARKS), (r"\(", r"\)"), (r"\[", r"\]"), ("``", "''"), ("<answer>", "</answer>")]
_LAYOUT = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|mathstrut|strut)(?![A-Za-z])"
)
_EMPTY = re.compile(
    r"\\(?:checkmark|blacksquare|square|qed|newline|linebreak|hfill|par|noindent|therefore|tiny|scriptsize"
    r"|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge|rm|bf|it|sf|tt|bfseries|itshape)(?![A-Za-z])"
    r"|\\(?:h|v)?phantom\s*\{[^{}]*\}|\\color\s*\{[^{}]*\}|\\textcolor\s*\{[^{}]*\}(?=\s*\{)|\\#"
    r"|\\(?:text|mbox|mathrm)\s*\{\s*\}|</?(?:br|s|p|b|i|em|strong|span|div)\s*/?>|<\|[^|<>]*\|>"
    r"|\((?:exact|exactly|approx|approx\.|approximately|rounded)\)"
)
SPACE = re.compile(
    r"(?<!\\)\\(?:[,;:> ]|quad(?![A-Za-z])|qquad(?![A-Za-z])|thinspace(?![A-Za-z])|hspace\*?\{[^{}]*\})|(?<!\\)~"
)
_END = re.compile(r"(?:[\s.,;:~]|\\+(?=$|\s)|\\[,;: !])+$")
ORDINAL = re.compile(
    rf"(?<=\d)\s*(?:\^\s*)?(?:\{{\s*)?(?:\\(?:textsuperscript|{TEXT_FONTS})\s*\{{\s*)?-?(?:st|nd|rd|th)"
    r"\s*(?:\}\s*){0,2}$"
)


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
        text = unwrap_box(text) or text
        match = _WRAPPERS.match(text)
        end = closing(text, match.end()) if match else None
        if match and end == len(text):
            text = text[match.end() : -1]
        elif match and end is None:  # cut off
            text = text[match.end() :]
        elif text.endswith("}") and not text.endswith("\\}") and text.count("{") < text.count("}"):
            text = text[:-1]
        elif text.startswith("{") and closing(text, 1) == len(text):
            text = text[1:-1]
        text = re.sub(r"^(?:\*\*|=\s*|:\s+)|\*\*$", "", text)
        if text == before:
            break
    return text


def undecorated(text: str) -> str:
    r"""An answer without decoration and layout, in one spelling of fractions and thousands (10,\!080 is 10,080)."""
    text = re.sub(r"\{\s*([.,])\s*\}", r"\1", _EMPTY.sub(" ", as_latex(text)))
    if "\\begin" not in text:  # where two backslashes end a row
        text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)
    text = re.sub(
        r"^\s*(?:\$|\\\()?\s*(?:\\approx|(?:about|approximately|roughly|around|nearly)\s(?=[-$\\\d]))\s*", "", text
    )
    text = re.sub(r"\\varnothing(?![A-Za-z])", r"\\emptyset", text)
    text = re.sub(r"\\([lr])angle(?![A-Za-z])", lambda m: "(" if m[1] == "l" else ")", text)
    text = re.sub(r"\\mathrm\s*\{\s*([ie])\s*\}", r"\1", text)
    text = re.sub(r"(?<![\\A-Za-z])[dtc]?frac\s*(?=[{\d])", r"\\frac", text)
    text = re.sub(r"(?<=\d),?\\[,!:; ]\s*(?=\d{3}(?:\D|$))|(?<=\d),\s*\\!\s*(?=\d)", ",", text).replace("\\!", "")
    text = unwrap(re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", _LAYOUT.sub("", text)))
    dollars = len(re.findall(r"(?<!\\)\$", text))
    return re.sub(r"(?<!\\)\$", "", text) if dollars > 1 and dollars % 2 == 0 else text  # $\pi$ radians


def bare(value: str) -> str:
    """Text without the marks around it."""
    for _ in range(4):
        before = value
        value = value.strip().strip('*_`$"“”').strip()
        font = FONT.match(value)
        if font and value.endswith("}") and value[font.end() : font.end() + 1] == "{" and "}" not in value[:-1]:
            value = value[font.end() + 1 : -1]
        if value.startswith(("\\(", "\\[")) and value.endswith(("\\)", "\\]")):
            value = value[2:-2]
        value = value.rstrip(".。,;:! ") if not value.endswith("...") else value
        if value.startswith("'") and value.endswith("'"):
            value = value[1:-1]
        if value == before:
            break
    return value


def trimmed(value: str) -> str:
    """Mathematics without punctuation at its end and without a label."""
    value = value.strip()
    if len(value) <= 500:
        value = re.sub(r"(?:[\s.,;:!*_]|\\\\|\\[,;: ])+\Z", "", value)
    return unwrap_box(value)
