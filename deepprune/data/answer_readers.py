r"""Final answers: reading one where it is known to begin (extraction.py finds the places).

Boxes and fonts of LaTeX, then a reader for each type of answer: `letter`, `mathematics`, `words` read the value
that a window of text begins with, `whole` reads what a box, a tag or a field holds. Each gives None where there
is no value, and NOTHING where the text says that there is none ("I don't know", two letters for one). Windows are
a few hundred characters, so that the patterns need not be linear.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator

MAX_ANSWER_CHARS = 500  # longer "answers" are runaway text, not answers
CANDIDATES = 1000  # places of one kind that are read, the last ones first
NOTHING = ""  # an explicit statement that gives no answer ("Answer: I don't know")

# ---------------------------------------------------------------- LaTeX: boxes, fonts

BOX = re.compile(r"(\\{1,2}(?:boxed|fbox|framebox)|\x08oxed|\\bbox(?:\[[^\[\]\n]{0,80}\])?)(?![A-Za-z])")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
FONTS = r"(?:text|textbf|textit|textrm|textnormal|texttt|textsf|textsc|textup|mathrm|mathbf|mathit|mathsf|mathbb|mathcal|mathtt|mathscr|boldsymbol|pmb|bm|mbox|operatorname|underline|emph|bfseries|bf|rm|it|sf|tt|sc|large|Large|LARGE|huge|Huge|displaystyle)"
_FONT = re.compile(rf"\\{FONTS}(?![A-Za-z])\*?[ \t]{{0,3}}")
_UNBRACED = re.compile(
    r"[ \t]{0,3}(\\d?t?frac[ \t]?(?:\d\d|\{[^{}]{1,80}\}\{[^{}]{1,80}\})|\\[a-zA-Z]{1,20}(?:\{[^{}]{0,80}\})?|-?\d[\d,]*(?:\.\d+)?|[A-Za-z](?![A-Za-z]))"
)
_EATEN = {"\x08": "\\b", "\x0c": "\\f", "\x07": "\\a", "\x0b": "\\v"}  # backslash and letter, read as one escape
_PLACEHOLDER = re.compile(
    r"(?:[\s.…?_~*-]|\\[ldcv]?dots|\\(?:square|Box|blacksquare|cdot|bullet|circ)(?![A-Za-z])|\\q?quad|\\[,;:! _]|\[?(?:your|the|insert|final|answer|result|number|value|here|letter|expression)\]?(?![A-Za-z])|<[^<>]{0,40}>)*\Z",
    re.IGNORECASE,
)  # each turn of the loop takes at least one character and no two alternatives start alike
_LABEL = re.compile(
    r"(?:the[ \t])?(?:final[ \t]|correct[ \t])?(?:answer|ans)[ \t]?[*)}]{0,3}[ \t]{0,3}(?:is[ \t]?:?|[:：=])(?:\s|\\[,;:! ]|~){0,5}",
    re.IGNORECASE,
)


def _closing(text: str, start: int, most: int = 4 * MAX_ANSWER_CHARS) -> int | None:
    """Where the brace that opened before `start` is closed; None if not within `most` characters."""
    depth = 1
    for m in _BRACES.finditer(text, start, min(len(text), start + most)):
        if m[0] == "{":
            depth += 1
        elif m[0] == "}":
            depth -= 1
            if depth == 0:
                return m.start()
    return None


def _box_at(text: str, m: re.Match) -> tuple[str, int] | None:
    r"""(content, end) of the box whose command m matched, with or without braces; None if it is cut off."""
    brace = m.end()
    while brace < min(len(text), m.end() + 8) and text[brace] in " \t":
        brace += 1
    if text[brace : brace + 1] == "{":
        end = _closing(text, brace + 1)
        if end is None:
            return None
        content, end = text[brace + 1 : end], end + 1
    else:
        bare = _UNBRACED.match(text, m.end())
        if bare is None:
            return None
        content, end = bare[1].rstrip(","), bare.end()
    if m[1].startswith("\\\\") and "\\\\" in content:
        content = content.replace("\\\\", "\\")  # the whole text was escaped once more
    for eaten, meant in _EATEN.items():
        content = content.replace(eaten, meant)
    content = re.sub(r"\t(?=ext|imes|frac|heta|au\b)", r"\\t", content)
    return content, end


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of the last complete boxes; a box within a box is part of it."""
    found: list[tuple[int, int, str]] = []
    for m in collections.deque(BOX.finditer(text), CANDIDATES):
        if found and m.start() < found[-1][1]:
            continue
        box = _box_at(text, m)
        if box is not None:
            found.append((m.start(), box[1], box[0]))
    return found


def _unwrap(content: str) -> str:
    r"""The content of a box without an inner box, the word ANSWER, or a font around all of it."""
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
        font = _FONT.match(content)
        start = font.end() if font else 0
        braced = content[start : start + 1] == "{"
        label = _LABEL.match(content, start + braced)
        if label is None:
            break
        end = _closing(content, start + 1) if braced else None
        if end is None:  # no font, or it ended with the label
            content = content[label.end() :]
        else:
            content = content[label.end() : end] + content[end + 1 :] if label.end() <= end else content[label.end() :]
        content = re.sub(r"\A(?:[\s}~]|\\[,;:! ])+", "", content)
    return content.strip()


def is_placeholder(content: str) -> bool:
    plain = _FONT.sub("", re.sub(r"\\[hv]?phantom\{[^{}]{0,80}\}", "", content)).replace("{", "").replace("}", "")
    return len(plain) < 80 and bool(_PLACEHOLDER.match(plain))


_JOIN = re.compile(
    r"(?:[\s$.&]|\\[)\]]|\\\\|\\q?quad|\\[,;:! ])*(?:[,;&]|and\b|or\b|\n\s{0,4}[-*•]\s|\\text\{[\s,]?(?:and|or)\s?\})(?:[\s$&]|\\[(\[]|\\q?quad|\\[,;:! ]|and\b|or\b|\\text\{\s?(?:and|or)\s?\})*"
    r"(?:[A-Za-z](?:_\{?\w\}?)?\s?=\s?)?"
)


def chains(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """(start, end, contents) of the boxes, last first; boxes that only a comma, "and" or "or" parts belong together."""
    boxes = [b for b in _boxes(text) if not is_placeholder(_unwrap(b[2]))]
    while boxes:
        start, end, content = boxes.pop()
        contents = [_unwrap(content)]
        while boxes and start - boxes[-1][1] < 40 and _JOIN.fullmatch(text, boxes[-1][1], start):
            start, _, content = boxes.pop()
            contents.insert(0, _unwrap(content))
        yield start, end, list(dict.fromkeys(contents))


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete, filled \boxed{...} (or \fbox{...}), braces balanced; None if there is none."""
    for _, _, contents in chains(text):
        return contents[-1] or None
    return None


# ---------------------------------------------------------------- what is no answer, and what stands before one

NO_ANSWER = re.compile(
    r"[^\w]{0,6}(?:I[ ](?:really[ ])?(?:do[ ]not|don['’]t|cannot|can['’]t|can[ ]not|am[ ]not|have[ ]no)\b|unknown\b|none\b|neither\b|nothing\b|no[ ](?:answer|solution[ ]found|idea|option)\b|not[ ](?:sure|known|enough|determinable|given|found|available|possible)\b|un(?:sure|clear|certain|determined|decided)\b|impossible[ ]to\b|cannot[ ]be\b|can['’]t[ ]be\b|can[ ]not[ ]be\b|insufficient\b|n/a\b|undetermined\b|all[ ]of[ ]the\b|both[ ]of\b|\?{1,3}\s*\Z)",
    re.IGNORECASE,
)
FILLER = re.compile(
    r"(?:therefore|thus|hence|then|so|clearly|definitely|certainly|probably|likely|most likely|indeed|simply|just|exactly|precisely|equal to|given by|approximately|about|roughly|actually|still|now|also|again|surely|obviously|apparently|in fact|of course|finally|"
    r"I think|I believe|I'd say|I would say|I guess|I choose|I'm going with|that|it is|it's|it must be|it should be|must be|should be|to be|is|are|"
    r"(?:the )?(?:correct |right |best )?(?:option|choice|letter|answer|number|value|integer)s?|following|as follows|with|by)(?![A-Za-z'’])[\s,:：]{0,6}",
    re.IGNORECASE,
)

# ---------------------------------------------------------------- letters

_LETTER = re.compile(r"([\s(\"'“‘:.]{0,12})([A-Ja-j])(?![A-Za-z0-9_^'’]|[-–—][A-Za-z0-9])")
_AFTER_ARTICLE = re.compile(
    r"\s{1,3}(?:because|since|as|is|was|are|for|due|which|with|by|given|and|or|seems|remains|looks|fits|it|but|while|would|must|should|has|describes|matches|states|correctly)(?![A-Za-z])|\s{0,3}(?:[^\sA-Za-z]|[A-Z]|\Z)|\s*\n"
)
_SECOND = re.compile(
    r"[\s)\"'”]{0,6}(?:,?[\s(]{0,3}(?:and|or)[\s)]{1,3}(?:also\s{1,3}|option\s{1,3}|choice\s{1,3}|maybe\s{1,3})?|[/&+]\s{0,3})[(\"']{0,3}(?:[A-HJ](?![A-Za-z0-9_'’])|I(?![A-Za-z0-9_'’]|\s{1,3}[a-z]))"
    r"|[\s)\"'”]{0,6},\s{0,3}[(\"']{0,3}[A-J][)\"']{0,3}\s{0,3}(?:[.,;)\]]|\Z|\n|(?:and|or)(?![A-Za-z]))"
    r"|;\s{0,3}\(?[A-J][)\s.]{0,4}\Z|\s{1,2}[A-J](?:[)\s.]{0,4}\Z)"
)


_FULL_WIDTH = {0xFF21 + i: chr(65 + i) for i in range(26)} | {0xFF41 + i: chr(97 + i) for i in range(26)}


def _plain(text: str) -> str:
    """LaTeX and Markdown around letters as round brackets, so that one pattern reads them all."""
    text = re.sub(r"</?(?:b|strong|i|em|u|code)>|\\(?:text)?color\{\w{1,20}\}", "", BOX.sub("", text)).translate(
        _FULL_WIDTH
    )
    text = re.sub(r"(?<!\w)['‘<]([A-Ja-j])['’>](?!\w)", r"(\1)", text)
    text = re.sub(rf"\\{FONTS}(?![A-Za-z])\*?[ \t]{{0,3}}\{{|\\[(\[]|\$\$?|\*\*|__|`|\[|\{{|\\left\b", "(", text)
    text = re.sub(r"\\[)\]]|\]|\}|\\right\b", ")", text)
    text = re.sub(r"\\q?quad(?![a-z])|\\[,;:! ]|~|\\\\", " ", text)
    return _FONT.sub("(", text).replace("（", "(").replace("）", ")").replace("：", ":")


def letter_of(text: str, colon: bool = False, whole: bool = False) -> str | None:
    """The letter that text begins with: None if none does, NOTHING if it names two or says that there is none.

    colon: text stands after "answer:"; whole: text is all that was stated (a box); both allow a small letter.
    """
    if NO_ANSWER.match(text):
        return NOTHING
    plain = _plain(text)
    m = _LETTER.match(plain)
    if m is None or re.match(r"[\s)]{0,4}\?", plain[m.end() :]):
        return None
    letter, tail = m[2], plain[m.end() :]
    wrapped = "(" in m[1] or tail.startswith(")")
    first = tail.lstrip(")\"'” *")
    if re.match(r"\([a-z0-9]{1,3}\)", tail):
        return None  # a function
    if re.match(r"\s{0,3}(?:[=<>^+≥≤≠∈∝≈]|\\(?:approx|propto|in|leq?|geq?|neq?|to|times|cdot|frac|mu|sim)\b)", first):
        return None  # a formula
    if letter.islower():
        ends = re.match(r"[\s).,;:\"']{0,8}(?:\Z|\n)|\)|[.)]\s", tail)
        if not (ends and (wrapped or colon or whole)):
            return None
    elif letter in "AI" and not tail.startswith(")") and not _AFTER_ARTICLE.match(tail):
        return None
    elif (
        letter == "I"
        and re.match(r"\s{1,3}(?:[a-z]|'|’)", tail)
        and not re.match(r"\s{1,3}(?:is|because|since)\b", tail)
    ):
        return None
    if _SECOND.match(tail):
        return NOTHING
    return letter.upper()


# ---------------------------------------------------------------- mathematics

_NUMBER_WORDS = {
    w: str(i)
    for i, w in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
}
_FUNCTIONS = "sqrt|cbrt|log|ln|lg|exp|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|arg|pi|infinity|inf|gcd|lcm|max|min|binom|choose"
_PIECE = re.compile(
    rf"\\(?:text|mathrm|mbox|textbf|mathbf|operatorname)\*?\{{[^{{}}]{{0,60}}\}}|\\[a-zA-Z]{{1,20}}|\\[{{}}%$!,;: ]|(?:{_FUNCTIONS})(?![A-Za-z])|\d[\d]*|[.,:](?=\d)|[A-Za-z](?![A-Za-z])|[-+−–‐‑﹣－*/^_!%=<>|~(){{}}\[\]]|[×·÷√∛π∞°±≤≥≠≈∪∩∈′'θφαβγλμω²³⁴⁵⁶⁷⁸⁹⁰¹½⅓⅔¼¾€£¥₹₩₽¢$]"
)
_SCALES = {"thousand": "10^{3}", "million": "10^{6}", "billion": "10^{9}", "trillion": "10^{12}"}
_VOID = re.compile(
    r"\s{0,3}(?:mod|modulo|out of|in \d|by \d|times|plus|minus|divided|multiplied|steps?\s+(?:away|ahead))\b",
    re.IGNORECASE,
)
_WHICH_IS = re.compile(
    r"[\s*_$)]{0,4},?\s{0,2}(?:which|that)\s(?:is|equals|simplifies to|evaluates to|reduces to|gives|can be simplified to|is equal to|comes to)(?: just| simply)?\s(?=[-−$\\\d(])",
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
        if left == "$" and (
            "\n" in content
            or re.match(r"\d", content)
            and re.search(r"[^\\]\b[A-Za-z]{2,}", _FONT.sub("", re.sub(r"\\[a-z]+\{[^{}]*\}|\\[a-z]+", "", content)))
        ):
            return None  # currency
        return content, end + len(right)
    return None


def _tidy(value: str) -> str:
    """Without punctuation at the end and without a label."""
    value = value.strip()
    value = re.sub(r"(?:[\s.,;:!*_]|\\\\|\\[,;: ])+\Z", "", value[-500:]) if len(value) <= 500 else value
    return _unwrap(value)


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


def _number_spelling(value: str) -> str:
    """Groups of three digits without their blanks, mixed numbers as LaTeX, the plain minus sign."""
    value = re.sub("[−–—‐‑﹣－]", "-", value)
    if re.fullmatch(r"-?[1-9]\d{0,2}(?:[ \u00a0\u202f]\d{3})+(?:\.\d+)?", value):
        return re.sub(r"[ \u00a0\u202f]", "", value)
    mixed = re.fullmatch(r"(-?\d+)\s+(\d+)\s?/\s?(\d+)", value)
    return rf"{mixed[1]}\frac{{{mixed[2]}}}{{{mixed[3]}}}" if mixed else value


def plain_mathematics(text: str) -> tuple[str, int] | None:
    """(value, end) of the mathematics that text begins with, read to its end: "2x + 3", "12:30", "(1, 2]"."""
    pos, depth, last = 0, 0, 0
    pieces, joined = 0, -1
    while pos < len(text) and pieces < 200:
        m = _PIECE.match(text, pos)
        if m is None:
            if depth > 0 and text[pos] in ",;. ":
                pos += 1
                continue
            if text[pos] in " \u00a0\u202f":
                pos += 1
                continue
            comma = re.match(r",?\s{0,2}(?:and|or)\s{1,2}(?=[-\d(\\$]|[a-z]\s?=)|,\s{1,2}(?=[-−]?[\d(\\])", text[pos:])
            if comma and last and text[last - 1 : last] != ",":
                rest = _PIECE.match(text, pos + comma.end())
                if rest and not re.match(r"[-−]?\d+[\w.]*\s+(?!and\b|or\b)[a-z]{2,}", text[pos + comma.end() :]):
                    pos += comma.end()
                    joined = pos
                    continue
            break
        piece = m[0]
        if (piece == "\\end" and depth == 0) or text.startswith("</", pos):
            break
        if piece == "*" and text.startswith("**", pos) and not re.match(r"\*\*\s?[\w(]", text[pos:]):
            break
        if piece in "_*" and pieces and not re.match(r".\s?[\w({\\]", text[pos:]):
            break
        if (
            re.fullmatch(r"[A-Za-z]", piece)
            and pieces
            and pos != joined
            and not re.match(r"x \d", text[pos:])
            and text[pos - 1].isspace()
            and (text[:pos].rstrip()[-1:].isalnum() or text[:pos].rstrip()[-1:] in "%°)")
        ):
            break  # "5 m", "7 I think": no operator before it
        if (
            piece in ("(", "[", "{")
            and depth == 0
            and pieces
            and text[pos - 1].isspace()
            and re.match(r".\s?[A-Za-z]{2,}", text[pos:])
        ):
            break  # a remark in brackets
        if piece in "([{":
            depth += 1
        elif piece in ")]}":
            if depth == 0:
                break
            depth -= 1
        pos = m.end()
        last = pos
        pieces += 1
    if depth:
        return None  # it goes on with what is not read here
    value = re.sub(r"(?<=\d) x (?=\d)", r" \\times ", text[:last].strip()).rstrip("-+*/^_=<>|~([{ :'")
    return (value, last) if re.search(r"[\dA-Za-z∞π√½⅓⅔¼¾]", value) else None


def _in_sentence(text: str) -> str | None:
    """The value in a sentence such as "The remainder is 2": what follows its last verb, or the only number in it."""
    sentence = re.split(r"[.!?](?:\s|\Z)|\n|[。！？]", text[:300], maxsplit=1)[0]
    if BOX.search(sentence) or re.match(r"(?:to|let|first|we|if|since|because|I|step|see)\b", sentence, re.IGNORECASE):
        return None
    verbs = [
        m.end() for m in re.finditer(r"\b(?:is|are|equals|be)\s+(?:about |only |exactly )?(?=[-−$\\(\d])", sentence)
    ]
    numbers = list(re.finditer(r"(?<![A-Za-z0-9_.])[-−$]?(?:\d|\\\(|\$)", sentence))
    start = verbs[-1] if verbs else numbers[0].start() if len(numbers) == 1 else None
    return mathematics(sentence[start:], "is") if start is not None else None


def mathematics(text: str, verb: str, newline: bool = False) -> str | None:
    """The mathematical value that text (what follows a cue) begins with; None if none, NOTHING if it says so."""
    if BOX.match(text) or BOX.match(text.lstrip("$\\([ \n")):
        return None  # boxes are statements of their own
    word = re.match(r"[*_]{0,2}([A-Za-z]+)(?![A-Za-z])", text)
    if (
        word
        and word[1].lower() in _NUMBER_WORDS
        and not re.match(r"[ -](?:hundred|thousand|of|more|less|solutions?|possib)", text[word.end() :])
    ):
        return _NUMBER_WORDS[word[1].lower()]
    if NO_ANSWER.match(text):
        return NOTHING
    bracketed = re.match(r"<([^<>\n]{1,60})>", text)
    if bracketed:
        return mathematics(bracketed[1], verb)
    values, pos = [], 0
    for _ in range(12):
        formula = formula_at(text[pos:])
        if formula is None:
            break
        if BOX.search(formula[0]):
            return None
        values.append(_last_side(_tidy(formula[0])))
        pos += formula[1]
        joint = re.match(r"\s{0,2}(?:,\s{0,2}(?:and|or)?|and|or)\s{0,3}(?=\$|\\[(\[])", text[pos:])
        if joint is None:
            break
        pos += joint.end()
    if values:
        rest = text[pos : pos + 60]
        value = ", ".join(values) + (re.match(r"\s?(\\?%)?", rest)[1] or "")
    else:
        plain = plain_mathematics(text)
        if plain is None:
            return _in_sentence(text) if verb in (":", "：") else None
        value, rest = plain[0], text[plain[1] : plain[1] + 60]
        factorial = "!" if re.search(r"[\w)]!\Z", value) and rest.startswith((".", ",")) else ""  # "42!" is a cheer
        value = _last_side(_number_spelling(_tidy(value) + factorial))
        if value.endswith("$") and value.count("$") == 1:
            value = value[:-1].strip()
        value = re.sub(r",?\s(?:and|or)\s", ", ", value)
        scale = re.match(r"\s{0,2}([a-z]+)", rest)
        if scale and scale[1] in _SCALES:
            value += rf" \times {_SCALES[scale[1]]}"
        if re.match(r"\s{0,2}per ?cent\b", rest):
            value += "%"
    if _VOID.match(rest) or re.match(r"[\s*_)$]{0,4}\?", rest):
        return None
    if verb == "####" and "=" in value:
        return None  # a heading such as "#### n = 63, k = 19"
    if verb == "####" and not re.match(r"[\s.*$]{0,4}(?:\n|\Z)|,\s|[ ][a-z]+[ ]?[a-z]*[.]?(?:\n|\Z)", rest):
        return None  # "#### 1. A heading"
    value = re.sub(r"\A\([A-E]\)\s+(?=\S)", "", value)
    simpler = _WHICH_IS.match(rest)
    if simpler:
        start = len(text) - len(text[pos:]) if values else plain[1]
        return mathematics(text[start + simpler.end() :], verb) or value
    if re.fullmatch(r"\d{1,2}", value) and re.match(r"[.)]\s{1,3}[A-Za-z*]", rest) and newline:
        return None  # the first item of a list
    if (
        not re.search(r"\d|\\(?:infty|pi|emptyset|varnothing|sqrt)|[∞π√∅½⅓⅔¼¾]", value)
        and len(re.sub(r"[^A-Za-z]", "", _FONT.sub("", value))) < 2
    ):
        return None  # a lone variable is talked about, not stated
    return value if value and not is_placeholder(value) else None


# ---------------------------------------------------------------- words

YES_NO = re.compile(
    r"[^\w\n]{0,8}(yes|no|true|false)(?![A-Za-z-])(?![ ](?:one|doubt|matter|such|answer|longer|need|problem|(?:and|or)[ ](?:yes|no|true|false))\b)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"\n|[.!?](?=\s|[*\"'”)]|\Z)|[。！？]|[,;]\s(?:because|since|as|which|so|but|for|given|due|while|and not|not)\b|\s(?:because|since|due to)\s|\s[-–—]\s"
)


def words(text: str, verb: str) -> str | None:
    """The words that text (what follows a cue) begins with, to the end of the clause."""
    if NO_ANSWER.match(text) and not YES_NO.match(text):
        return NOTHING
    word = YES_NO.match(text)
    if word:
        return None if text[word.end() : word.end() + 1] == "?" else word[1]
    if BOX.match(text.lstrip("$\\([ \n")):
        return None
    clause = _CLAUSE.search(text)
    value = text[: clause.start()] if clause else text
    if clause and clause[0] == "?":
        return None
    if verb not in (":", "：", "####", "==>") and not re.match(r"[\"'“*$\\]|[A-Z\d]|[^\x00-\x7f]", value):
        return None  # "the answer is in the question"
    value = bare(value)
    return value if value and len(value) <= 200 and not is_placeholder(value) else None


def bare(value: str) -> str:
    """Text without the marks around it."""
    for _ in range(4):
        before = value
        value = value.strip().strip('*_`$"“”').strip()
        font = _FONT.match(value)
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


# ---------------------------------------------------------------- a whole box, tag or field


def whole(content: str, answer_type: str) -> str | None:
    """The answer in what a box, a tag or a JSON field holds as a whole."""
    content = _unwrap(content)
    if not content or len(content) > MAX_ANSWER_CHARS or is_placeholder(content):
        return None
    if answer_type == "math":  # the option's letter before its value
        content = re.sub(r"\A(?:\\text(?:bf)?\{)?\s?\([A-E]\)\s?\}?(?:\s|\\[ ,;]|~)+(?=\S)", "", content)
    if answer_type == "choice":
        plain = content
        for _ in range(3):
            filler = FILLER.match(_plain(plain).lstrip("( "))
            plain = _plain(plain).lstrip("( ")[filler.end() :] if filler else plain
        return letter_of(plain, whole=True)
    if re.fullmatch(
        r"\W*(?:\\text\{)?\W*(?:I don['’]t know|unknown|undefined answer|N/A|none|null)\W*", content, re.IGNORECASE
    ):
        return NOTHING if answer_type == "math" or content.lower() in ("null", "none", "n/a", "unknown") else content
    return bare(content) if answer_type == "text" else _number_spelling(content)


_OPENERS = frozenset(
    "a an the to in on at it this that these given let we so i if based first sure okay both while according there answer final".split()
)


def value_alone(text: str, answer_type: str, marked: bool) -> str | None:
    """The answer where the text is nothing but one. marked: it follows marked thinking."""
    text = text.strip()
    if not text or len(text) > 200 or "\n" in text:
        return None
    if answer_type == "text":
        word = YES_NO.match(text)
        if word:
            return word[1]
        return (
            bare(text)
            if marked
            and len(text.split()) <= 3
            and text.lower().split()[0] not in _OPENERS
            and len(text) > 1
            and not is_placeholder(text)
            and not NO_ANSWER.match(text)
            else None
        )
    if answer_type == "math":
        inner = text.strip("*_ ").rstrip(". ")
        value = mathematics(inner, ":")
        formula = formula_at(inner)
        plain = plain_mathematics(inner)
        if value and ((formula and formula[1] >= len(inner)) or (plain and plain[1] >= len(inner))):
            return value
    return None
