r"""LaTeX that wraps answers: fonts, brackets and boxes, for finding an answer as for comparing two.

Patterns stay linear: what they look at is bounded (MAX_ANSWER_CHARS), and of the boxes of a text the last CANDIDATES
are read.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator

MAX_ANSWER_CHARS = 500  # longer "answers" are runaway text, not answers
CANDIDATES = 1000  # places of one kind that are read, the last ones first
NOTHING = ""  # an explicit statement that gives no answer ("Answer: I don't know")

# Commands of fonts: those that hold words too, those that change the weight of mathematics, and the rest.
TEXT_FONTS = "|".join(
    "text textbf textit textrm textsf texttt textnormal textsc textup emph underline mbox hbox "
    "mathrm mathbf mathit mathsf mathtt".split()
)
BOLD_FONTS = "boldsymbol|bm|pmb"
SWITCHES = "bfseries|bf|rm|it|sf|tt|sc|large|Large|LARGE|huge|Huge|displaystyle"  # they hold to the end of the group
FONTS = rf"(?:{TEXT_FONTS}|{BOLD_FONTS}|mathbb|mathcal|mathscr|operatorname|{SWITCHES})"
FONT = re.compile(rf"\\{FONTS}(?![A-Za-z])\*?[ \t]{{0,3}}")

BOX = re.compile(r"(\\{1,2}(?:boxed|fbox|framebox)|\x08oxed|\\bbox(?:\[[^\[\]\n]{0,80}\])?)(?![A-Za-z])")
_UNBRACED = re.compile(
    r"[ \t]{0,3}(\\d?t?frac[ \t]?(?:\d\d|\{[^{}]{1,80}\}\{[^{}]{1,80}\})|\\[a-zA-Z]{1,20}(?:\{[^{}]{0,80}\})?"
    r"|-?\d[\d,]*(?:\.\d+)?|[A-Za-z](?![A-Za-z]))"
)
_EATEN = {"\x08": "\\b", "\x0c": "\\f", "\x07": "\\a", "\x0b": "\\v"}  # backslash and letter, read as one escape
_PLACEHOLDER = re.compile(
    r"(?:[\s.…?_~*-]|\\[ldcv]?dots|\\(?:square|Box|blacksquare|cdot|bullet|circ)(?![A-Za-z])|\\q?quad|\\[,;:! _]"
    r"|\[?(?:your|the|insert|final|answer|result|number|value|here|letter|expression)\]?(?![A-Za-z])|<[^<>]{0,40}>)*\Z",
    re.IGNORECASE,
)  # each turn of the loop takes at least one character and no two alternatives start alike
_LABEL = re.compile(
    r"(?:the[ \t])?(?:final[ \t]|correct[ \t])?(?:answer|ans)[ \t]?[*)}]{0,3}[ \t]{0,3}"
    r"(?:is[ \t]?:?|[:：=])(?:\s|\\[,;:! ]|~){0,5}",
    re.IGNORECASE,
)
_BRACKETS = {"{}": re.compile(r"\\.|[{}]", re.DOTALL), "()": re.compile(r"[()]")}


def closing(text: str, start: int, pair: str = "{}") -> int | None:
    """Position after the bracket that closes the one before `start`; None if none does within a few answers' length."""
    depth, (opening, ending) = 1, pair
    for m in _BRACKETS[pair].finditer(text, start, start + 4 * MAX_ANSWER_CHARS):
        if m[0] == opening:
            depth += 1
        elif m[0] == ending:
            depth -= 1
            if depth == 0:
                return m.end()
    return None


def _box_at(text: str, m: re.Match) -> tuple[str, int] | None:
    r"""(content, end) of the box whose command m matched, with or without braces; None if it is cut off."""
    brace = m.end()
    while brace < min(len(text), m.end() + 8) and text[brace] in " \t":
        brace += 1
    if text[brace : brace + 1] == "{":
        end = closing(text, brace + 1)
        if end is None:
            return None
        content = text[brace + 1 : end - 1]
    else:
        unbraced = _UNBRACED.match(text, m.end())
        if unbraced is None:
            return None
        content, end = unbraced[1].rstrip(","), unbraced.end()
    if m[1].startswith("\\\\") and "\\\\" in content:
        content = content.replace("\\\\", "\\")  # the whole text was escaped once more
    for eaten, meant in _EATEN.items():
        content = content.replace(eaten, meant)
    content = re.sub(r"\t(?=ext|imes|frac|heta|au\b)", r"\\t", content)
    return content, end


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of the last complete boxes; a box within a box is part of it."""
    boxes: list[tuple[int, int, str]] = []
    for m in collections.deque(BOX.finditer(text), CANDIDATES):
        if boxes and m.start() < boxes[-1][1]:
            continue
        box = _box_at(text, m)
        if box is not None:
            boxes.append((m.start(), box[1], box[0]))
    return boxes


def unwrap_box(content: str) -> str:
    r"""What a box holds without an inner box, the word ANSWER, or the font around all of it that this word stood in."""
    for _ in range(4):
        content = content.strip()
        if len(content) > 1 and content[0] == content[-1] == "$" and "$" not in content[1:-1].strip("$"):
            content = content.strip("$").strip()
        if content.startswith(("\\(", "\\[")) and content.endswith(("\\)", "\\]")):
            content = content[2:-2].strip()
        inner = BOX.match(content)
        box = _box_at(content, inner) if inner else None
        if box and box[1] == len(content):
            content = box[0]
            continue
        font = FONT.match(content)
        start = font.end() if font else 0
        braced = content[start : start + 1] == "{"
        label = _LABEL.match(content, start + braced)
        if label is None:
            break
        end = closing(content, start + 1) if braced else None
        inside = content[label.end() : end - 1] if end is not None and label.end() < end else None
        content = content[label.end() :] if inside is None else inside + content[end:]
        content = re.sub(r"\A(?:[\s}~]|\\[,;:! ])+", "", content)
    return content.strip()


def is_placeholder(content: str) -> bool:
    """Whether a box or a value is none yet: dots, a square, "your answer here"."""
    plain = FONT.sub("", re.sub(r"\\[hv]?phantom\{[^{}]{0,80}\}", "", content)).replace("{", "").replace("}", "")
    return len(plain) < 80 and bool(_PLACEHOLDER.match(plain))


_JOIN = re.compile(
    r"(?:[\s$.&]|\\[)\]]|\\\\|\\q?quad|\\[,;:! ])*"
    r"(?:[,;&]|and\b|or\b|\n\s{0,4}[-*•]\s|\\text\{[\s,]?(?:and|or)\s?\})"
    r"(?:[\s$&]|\\[(\[]|\\q?quad|\\[,;:! ]|and\b|or\b|\\text\{\s?(?:and|or)\s?\})*(?:[A-Za-z](?:_\{?\w\}?)?\s?=\s?)?"
)


def chains(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """(start, end, contents) of the boxes, last first; boxes that only a comma, "and" or "or" parts belong together."""
    boxes = [box for box in _boxes(text) if not is_placeholder(unwrap_box(box[2]))]
    while boxes:
        start, end, content = boxes.pop()
        contents = [unwrap_box(content)]
        while boxes and start - boxes[-1][1] < 40 and _JOIN.fullmatch(text, boxes[-1][1], start):
            start, _, content = boxes.pop()
            contents.insert(0, unwrap_box(content))
        yield start, end, list(dict.fromkeys(contents))


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete, filled \boxed{...} (or \fbox{...}), braces balanced; None if there is none."""
    for _, _, contents in chains(text):
        return contents[-1] or None
    return None
