r"""Reading the answer where it is known to begin or to be all there is, by the answer's type.

Each reader gives None where there is no value, and NOTHING where the text says that there is none ("I don't know", two
letters for one). Windows are a few hundred characters, so that the patterns need not be linear.
"""

from __future__ import annotations

import re

from deepprune.data.answers.decoration import bare
from deepprune.data.answers.latex import BOX, MAX_ANSWER_CHARS, NOTHING, is_placeholder, unwrap_box
from deepprune.data.answers.letters import in_round_brackets, letter_of
from deepprune.data.answers.mathematics import formula_at, in_sentence, mathematics, plain_mathematics
from deepprune.data.answers.numbers import number_spelling
from deepprune.data.answers.sentences import FILLER, NEGATION, NO_ANSWER, YES_NO, value_start

_CLAUSE = re.compile(
    r"\n|[.!?](?=\s|[*\"'”)]|\Z)|[。！？]"
    r"|[,;]\s(?:because|since|as|which|who|whose|where|so|but|for|given|due|while|and not|not)\b"
    r"|\s(?:because|since|due to)\s|\s[-–—]\s"
)


_TITLES = frozenset("Dr Mr Mrs Ms St Prof Jr Sr Mt Ft Lt Sgt Gen Col vs No".split())
_OPENERS = frozenset(
    "a an the to in on at it this that these given let we so i if based first sure okay both while according there "
    "answer final he she they his her its you as but and because since for not".split()
)


def _is_abbreviation(text: str, clause: re.Match) -> bool:
    """Whether the full stop belongs to "Dr." or to an initial, with a name after it, and ends no clause."""
    word = re.search(r"(?<![A-Za-z])[A-Za-z]+\Z", text[max(0, clause.start() - 8) : clause.start()])
    name = re.match(r"\s(?:[A-Z]\.|([A-Z][A-Za-z'’-]+))", text[clause.end() : clause.end() + 30])
    if clause[0] != "." or not word or not name:
        return False
    return word[0] in _TITLES or (len(word[0]) == 1 and (name[1] or "").lower() not in _OPENERS)


def words(text: str, verb: str) -> str | None:
    """The words that text (what follows a cue) begins with, to the end of the clause."""
    if NO_ANSWER.match(text) and not YES_NO.match(text):
        return NOTHING
    word = YES_NO.match(text)
    if word:
        return None if text[word.end() : word.end() + 1] == "?" else word[1]
    if BOX.match(text.lstrip("$\\([ \n")):
        return None
    clause = next((c for c in _CLAUSE.finditer(text) if not _is_abbreviation(text, c)), None)
    value = text[: clause.start()] if clause else text
    if clause and clause[0] == "?":
        return None
    if verb not in (":", "：", "####", "==>") and not re.match(r"[\"'“*$\\]|[A-Z\d]|[^\x00-\x7f]", value):
        return None  # "the answer is in the question"
    value = bare(value)
    return value if value and len(value) <= 200 and not is_placeholder(value) else None


def whole(content: str, answer_type: str) -> str | None:
    """The answer in what a box, a tag or a JSON field holds as a whole."""
    content = unwrap_box(content)
    if not content or len(content) > MAX_ANSWER_CHARS or is_placeholder(content):
        return None
    if answer_type == "math":  # the option's letter before its value
        content = re.sub(r"\A(?:\\text(?:bf)?\{)?\s?\([A-E]\)\s?\}?(?:\s|\\[ ,;]|~)+(?=\S)", "", content)
    if answer_type == "choice":
        plain = content
        for _ in range(3):
            words_first = in_round_brackets(plain).lstrip("( ")
            filler = FILLER.match(words_first)
            plain = words_first[filler.end() :] if filler else plain
        return letter_of(plain, whole=True)
    if re.fullmatch(
        r"\W*(?:\\text\{)?\W*(?:I don['’]t know|unknown|undefined answer|N/A|none|null)\W*", content, re.IGNORECASE
    ):
        return NOTHING if answer_type == "math" or content.lower() in ("null", "none", "n/a", "unknown") else content
    return bare(content) if answer_type == "text" else number_spelling(content)


def value_alone(text: str, answer_type: str, marked: bool) -> str | None:
    """The answer where the text is nothing but one. marked: it follows marked thinking."""
    text = text.strip()
    if not text or len(text) > 200 or "\n" in text:
        return None
    if answer_type == "text":
        if word := YES_NO.match(text):
            return word[1]
        few = marked and 1 < len(text) and len(text.split()) <= 3 and text.lower().split()[0] not in _OPENERS
        return bare(text) if few and not is_placeholder(text) and not NO_ANSWER.match(text) else None
    if answer_type == "math":
        inner = text.strip("*_ ").rstrip(". ")
        ends = [reading[1] for reading in (formula_at(inner), plain_mathematics(inner)) if reading]
        if max(ends, default=-1) >= len(inner):
            return mathematics(inner, ":") or None
        return in_sentence(text) or None if marked and text.rstrip("*_$ ").endswith((".", "!", "\\)")) else None
    return None


def cue_value(text: str, start: int, verb: str, answer_type: str) -> str | None:
    """The value after a cue that ends at start."""
    if verb == "####":
        one_line = re.match(r"[^\n]{1,100}(?:\n|\Z)", text[start : start + 110])
        if not one_line or (answer_type == "text" and "\n" in text[start : start + 300].strip()):
            return None  # a heading
    if NEGATION.match(text[start : start + 12].lstrip(" *_")):
        return None
    head = text[start : start + 100].lstrip(" *_:：\n")
    if NO_ANSWER.match(head) and (answer_type == "choice" or not YES_NO.match(head)):
        return NOTHING
    begin = start if verb == "####" else value_start(text, start, start + 160)
    window = text[begin : begin + MAX_ANSWER_CHARS]
    quoted = re.match(r"[\s*_]{0,6}[\"“]([^\"“”\n]{1,200})[\"”]", text[start : start + 220])
    if answer_type == "text" and quoted:
        return bare(quoted[1])
    if answer_type == "choice":
        named = re.search(r"(?:option|choice|letter)[ ]\Z", text[max(0, begin - 8) : begin], re.IGNORECASE)
        return letter_of(window[:120], colon=verb in (":", "：") or bool(named))
    return mathematics(window, verb, "\n" in text[start:begin]) if answer_type == "math" else words(window, verb)


def together(values: list[str | None], answer_type: str) -> str | None:
    """One answer of the values that stand side by side; two letters are none."""
    values = list(dict.fromkeys(v for v in values if v is not None))
    if answer_type == "choice" and len(values) > 1:
        return NOTHING
    return ", ".join(values) if values else None
