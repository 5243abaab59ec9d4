r"""Mathematics in a sentence: the value that a window of text begins with, read to its end."""

from __future__ import annotations

import re

from deepprune.data.answers.decoration import trimmed
from deepprune.data.answers.latex import BOX, FONT, NOTHING, is_placeholder
from deepprune.data.answers.numbers import in_words, number_spelling
from deepprune.data.answers.sentences import NO_ANSWER
from deepprune.data.answers.units import ZEROS, compound_quantity

_FUNCTIONS = "|".join(
    "sqrt cbrt log ln lg exp sin cos tan cot sec csc arcsin arccos arctan arg pi infinity inf gcd lcm max min binom "
    "choose".split()
)
_PIECE = re.compile(
    rf"\\(?:text|mathrm|mbox|textbf|mathbf|operatorname)\*?\{{[^{{}}]{{0,60}}\}}|\\[a-zA-Z]{{1,20}}"
    rf"|\\[{{}}%$!,;: ]|(?:{_FUNCTIONS})(?![A-Za-z])|\d[\d]*|[.,:](?=\d)|(?<=[ ]):(?=[ ]\d)|[A-Za-z](?![A-Za-z])"
    rf"|[-+−–‐‑﹣－*/^_!%=<>|~(){{}}\[\]]|[×·÷√∛π∞°±≤≥≠≈∪∩∈′'θφαβγλμω²³⁴⁵⁶⁷⁸⁹⁰¹⁺⁻ⁿ₀₁₂₃₄₅₆₇₈₉½⅓⅔¼¾€£¥₹₩₽¢$]"
)
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4}
_VOID = re.compile(
    r"\s{0,3}(?:mod|modulo|out of|in \d|by \d|times|plus|minus|divided|multiplied|steps?\s+(?:away|ahead))\b",
    re.IGNORECASE,
)
_ENDS_LINE = re.compile(r"[\s.*$]{0,4}(?:\n|\Z)|,\s|[ ][a-z]+[ ]?[a-z]*[.]?(?:\n|\Z)")
_CONSTANT = re.compile(r"\d|\\(?:infty|pi|emptyset|varnothing|sqrt)|[∞π√∅½⅓⅔¼¾]")
_WHICH_IS = re.compile(
    r"[\s*_$)]{0,4},?\s{0,2}(?:which|that)\s(?:is|equals|simplifies to|evaluates to|reduces to|gives"
    r"|can be simplified to|is equal to|comes to)(?: just| simply)?\s(?=[-−$\\\d(])",
    re.IGNORECASE,
)
_DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))


def formula_at(text: str) -> tuple[str, int] | None:
    """(content, end) of the LaTeX formula that text begins with; None if it begins with none."""
    for left, right in _DELIMITERS:
        if not text.startswith(left):
            continue
        end = text.find(right, len(left))
        while end > 0 and text[end - 1] == "\\" and right.startswith("$"):
            end = text.find(right, end + 1)
        if end < 0 or not text[len(left) : end].strip():
            return None
        content = text[len(left) : end]
        plain = FONT.sub("", re.sub(r"\\[a-z]+\{[^{}]*\}|\\[a-z]+", "", content))
        words = re.match(r"\d", content) and re.search(r"[^\\]\b[A-Za-z]{2,}", plain)
        return None if left == "$" and ("\n" in content or words) else (content, end + len(right))  # None: currency
    return None


def _last_side(value: str) -> str:
    """Of "m + n = 5 + 7 = 12" the 12; equations such as "y = 2x + 3" stay whole."""
    sides = [s.strip() for s in re.split(r"(?<![<>!\\:])=", value)]
    letters = re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", sides[0]))
    if len(sides) < 2 or not sides[-1] or re.search(r",\s|\b(?:and|or)\b", value):
        return value
    number = re.fullmatch(r"-?\\?\$?[\d,.\s]*\d%?|-?\\[dt]?frac\{\d+\}\{\d+\}", sides[-1])
    if not letters or len(sides) > 2 or (number and re.fullmatch(r"[a-zA-Z](?:\s?[+*·-]\s?[a-zA-Z])+", sides[0])):
        return sides[-1]
    return value


def plain_mathematics(text: str) -> tuple[str, int] | None:
    """(value, end) of the mathematics that text begins with, read to its end: "2x + 3", "12:30", "(1, 2]"."""
    pos = depth = end = pieces = 0
    joined = -1  # where the last element after a comma or "and" begins
    while pos < len(text) and pieces < 200:
        m = _PIECE.match(text, pos)
        if m is None:
            if text[pos] in " \u00a0\u202f" or (depth > 0 and text[pos] in ",;."):
                pos += 1
                continue
            element = _next_element(text, pos) if end and text[end - 1] != "," else None
            if element is None:
                break
            pos = joined = element
            continue
        piece = m[0]
        if _ends(text, pos, piece, depth) or (pieces and _is_apart(text, pos, piece, depth, pos == joined)):
            break
        depth += (piece in "([{") - (piece in ")]}")
        if depth < 0:
            depth = 0
            break
        pos = end = m.end()
        pieces += 1
    if depth:
        return None  # it goes on with what is not read here
    value = re.sub(r"(?<=\d) x (?=\d)", r" \\times ", text[:end].strip()).rstrip("-+*/^_=<>|~([{ :'")
    return (value, end) if re.search(r"[\dA-Za-z∞π√½⅓⅔¼¾]", value) else None


def _next_element(text: str, pos: int) -> int | None:
    """Where the next element begins if a comma, "and" or "or" stands at pos and mathematics after it."""
    comma = re.match(
        r",?\s{0,2}(?:and|or)\s{1,2}(?=[-\d(\\$]|[a-z]\s?=)|,\s{1,2}(?=[-−]?[\d(\\]|[a-zA-Z]\s?=)", text[pos:]
    )
    if comma is None or not _PIECE.match(text, pos + comma.end()):
        return None
    counted = re.match(r"[-−]?\d+[\w.]*\s+(?!and\b|or\b)[a-z]{2,}", text[pos + comma.end() :])  # "and 3 apples"
    return None if counted else pos + comma.end()


def _ends(text: str, pos: int, piece: str, depth: int) -> bool:
    """Whether the piece at pos ends a formula, a tag or bold text."""
    if (piece == "\\end" and depth == 0) or text.startswith("</", pos):
        return True
    return piece == "*" and text.startswith("**", pos) and not re.match(r"\*\*\s?[\w(]", text[pos:])


def _is_apart(text: str, pos: int, piece: str, depth: int, joined: bool) -> bool:
    """Whether the piece at pos, not the first, is none of the mathematics before it. joined: after a comma."""
    if piece in "_*":
        return not re.match(r".\s?[\w({\\]", text[pos:])
    if not text[pos - 1].isspace():
        return False
    if re.fullmatch(r"[A-Za-z]", piece):  # "5 m", "7 I think": no operator before it
        before = text[:pos].rstrip()[-1:]
        return not joined and not re.match(r"x \d", text[pos:]) and (before.isalnum() or before in "%°)")
    return piece in "([{" and depth == 0 and re.match(r".\s?[A-Za-z]{2,}", text[pos:]) is not None  # a remark


def in_sentence(text: str) -> str | None:
    """The value in a sentence such as "The remainder is 2": what follows its last verb, or the only number in it."""
    sentence = re.split(r"[.!?](?:\s|\Z)|\n|[。！？]", text[:300], maxsplit=1)[0]
    if BOX.search(sentence) or re.match(r"(?:to|let|first|we|if|since|because|I|step|see)\b", sentence, re.IGNORECASE):
        return None
    is_a_value = re.finditer(r"\b(?:is|are|equals|be)\s+(?:about |only |exactly )?(?=[*_]{0,2}[-−$\\(\d])", sentence)
    verbs = [m.end() for m in is_a_value]
    numbers = list(re.finditer(r"(?<![A-Za-z0-9_.])[-−$]?(?:\d|\\\(|\$)", sentence))
    start = verbs[-1] if verbs else numbers[0].start() if len(numbers) == 1 else None
    return mathematics(sentence[start:].lstrip("*_"), "is") if start is not None else None


def _number_word(text: str) -> str | None:
    """The value of the number in words that text begins with (seven), if it is not a part of a larger phrase."""
    text = text[:120].lstrip("*_")
    spoken = in_words(text)
    if spoken is None or re.match(r"[ -](?:of|more|less|solutions?|possib|that|which|way to)\b", text[spoken[1] :]):
        return None
    return str(spoken[0]) + _half_after(text[spoken[1] :])


def _half_after(rest: str) -> str:
    r"""The \frac{1}{2} of "3 and a half"; else nothing."""
    part = re.match(r"[\s$*]{1,4}and (?:a|one)[ -](half|third|quarter|fourth)\b", rest)
    return rf"\frac{{1}}{{{_PARTS[part[1]]}}}" if part else ""


def _formulas(text: str) -> tuple[str | None, int] | None:
    """(value, end) of the LaTeX formulas that text begins with, side by side; None: none; (None, end): a box."""
    values, pos = [], 0
    for _ in range(12):
        formula = formula_at(text[pos:])
        if formula is None:
            break
        pos += formula[1]
        if BOX.search(formula[0]):
            return None, pos
        values.append(_last_side(trimmed(formula[0])))
        joint = re.match(r"\s{0,2}(?:,\s{0,2}(?:and|or)?|and|or)\s{0,3}(?=\$|\\[(\[])", text[pos:])
        if joint is None:
            break
        pos += joint.end()
    percent = re.match(r"\s?(\\?%)?", text[pos : pos + 60])[1] or ""
    return (", ".join(values) + percent, pos) if values else None


def _plain_value(text: str) -> tuple[str, int] | None:
    """(value, end) of the plain mathematics that text begins with, as an answer is spelled."""
    plain = plain_mathematics(text)
    if plain is None:
        return None
    value, rest = plain[0], text[plain[1] : plain[1] + 60]
    factorial = "!" if re.search(r"[\w)]!\Z", value) and rest.startswith((".", ",")) else ""  # "42!" is a cheer
    value = _last_side(number_spelling(trimmed(value) + factorial))
    if value.endswith("$") and value.count("$") == 1:
        value = value[:-1].strip()
    value = re.sub(r",?\s(?:and|or)\s", ", ", value)
    scale = re.match(r"\s{0,2}([a-z]+)", rest)
    if scale and scale[1] in ZEROS and scale[1] != "hundred":
        value += rf" \times 10^{{{ZEROS[scale[1]]}}}"
    if re.fullmatch(r"-?\d+", value):
        value += _half_after(rest)
        if compound := compound_quantity(text[:60]):
            return compound
    return value + ("%" if re.match(r"\s{0,2}per ?cent\b", rest) else ""), plain[1]


def mathematics(text: str, verb: str, newline: bool = False) -> str | None:
    """The mathematical value that text (what follows a cue) begins with; None if none, NOTHING if it says so.

    verb: how the cue ends (":", "is", "####"); newline: a line ended between cue and text.
    """
    if BOX.match(text) or BOX.match(text.lstrip("$\\([ \n")):
        return None  # boxes are statements of their own
    if minus := re.match(r"[*_]{0,2}(?:negative|minus)\s{1,3}", text):
        value = mathematics(text[minus.end() :], verb)
        return f"-{value}" if value and value[0] not in "-+" and ", " not in value else value
    if word := _number_word(text):
        return word
    if NO_ANSWER.match(text):
        return NOTHING
    if bracketed := re.match(r"<([^<>\n]{1,60})>", text):
        return mathematics(bracketed[1], verb)
    reading = _formulas(text) or _plain_value(text)
    if reading is None:
        return in_sentence(text) if verb in (":", "：") else None
    value, end = reading
    rest = text[end : end + 60]
    if value is None or _VOID.match(rest) or re.match(r"[\s*_)$]{0,4}\?", rest):
        return None
    if verb == "####" and ("=" in value or not _ENDS_LINE.match(rest)):
        return None  # a heading such as "#### n = 63, k = 19" or "#### 1. Parity"
    value = re.sub(r"\A\([A-E]\)\s+(?=\S)", "", value)
    if simpler := _WHICH_IS.match(rest):
        return mathematics(text[end + simpler.end() :], verb) or value
    if newline and re.fullmatch(r"\d{1,2}", value) and re.match(r"[.)]\s{1,3}[A-Za-z*]", rest):
        return None  # the first item of a list
    if not _CONSTANT.search(value) and len(re.sub(r"[^A-Za-z]", "", FONT.sub("", value))) < 2:
        return None  # a lone variable is talked about, not stated
    return value if value and not is_placeholder(value) else None
