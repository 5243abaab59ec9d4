r"""Letters of multiple choice: reading the one that a text begins with, and finding those that a trace states.

What follows a cue such as "the answer is" is cues.py's; here are lines with the letter alone, "the correct option is
X", "we choose X", and the option that ends a text.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator

from deepprune.data.answers.characters import FULL_WIDTH
from deepprune.data.answers.latex import BOX, CANDIDATES, FONT, FONTS, NOTHING
from deepprune.data.answers.sentences import (
    DENIAL,
    DOUBT,
    GAP,
    NEGATION,
    NO_ANSWER,
    VERB,
    WEAK_CHARS,
    last_lines,
    last_sentence,
    lower_case,
    places,
    sentence_before,
    value_start,
)

_LETTER = re.compile(r"([\s(\"'“‘:.]{0,12})([A-Ja-j])(?![A-Za-z0-9_^'’]|[-–—][A-Za-z0-9])")
_AFTER_ARTICLE = re.compile(
    r"\s{1,3}(?:because|since|as|is|was|are|for|due|which|with|by|given|and|or|seems|remains|looks|fits|it"
    r"|but|while|would|must|should|has|describes|matches|states|correctly)(?![A-Za-z])"
    r"|\s{0,3}(?:[^\sA-Za-z]|[A-Z]|\Z)|\s*\n"
)
_SECOND = re.compile(
    r"[\s)\"'”]{0,6}(?:,?[\s(]{0,3}(?:and|or)[\s)]{1,3}(?:(?:also|option|choice|maybe)\s{1,3})?|[/&+]\s{0,3})"
    r"[(\"']{0,3}(?:[A-HJ](?![A-Za-z0-9_'’])|I(?![A-Za-z0-9_'’]|\s{1,3}[a-z]))"
    r"|[\s)\"'”]{0,6},\s{0,3}[(\"']{0,3}[A-J][)\"']{0,3}\s{0,3}(?:[.,;)\]]|\Z|\n|(?:and|or)(?![A-Za-z]))"
    r"|;\s{0,3}\(?[A-J][)\s.]{0,4}\Z|\s{1,2}[A-J](?:[)\s.]{0,4}\Z)"
)


def in_round_brackets(text: str) -> str:
    """LaTeX and Markdown around letters as round brackets, so that one pattern reads them all."""
    text = BOX.sub("", text).translate(FULL_WIDTH)
    text = re.sub(r"</?(?:b|strong|i|em|u|code)>|\\(?:text)?color\{\w{1,20}\}", "", text)
    text = re.sub(r"(?<!\w)['‘<]([A-Ja-j])['’>](?!\w)", r"(\1)", text)
    text = re.sub(rf"\\{FONTS}(?![A-Za-z])\*?[ \t]{{0,3}}\{{|\\[(\[]|\$\$?|\*\*|__|`|\[|\{{|\\left\b", "(", text)
    text = re.sub(r"\\[)\]]|\]|\}|\\right\b", ")", text)
    text = re.sub(r"\\q?quad(?![a-z])|\\[,;:! ]|~|\\\\", " ", text)
    return FONT.sub("(", text)


def letter_of(text: str, colon: bool = False, whole: bool = False) -> str | None:
    """The letter that text begins with: None if none does, NOTHING if it names two or says that there is none.

    colon: text stands after "answer:"; whole: text is all that was stated (a box); both allow a small letter.
    """
    if NO_ANSWER.match(text):
        return NOTHING
    plain = in_round_brackets(text)
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
    elif letter == "I" and re.match(r"\s{1,3}(?!(?:is|because|since)\b)[a-z'’]", tail):
        return None
    if _SECOND.match(tail):
        return NOTHING
    return letter.upper()


_NOUNS = ("option", "choice", "statement", "response", "alternative", "letter", "selection", "correct one", "right one")
_PICK = re.compile(
    r"\b(?:choos(?:e|ing)|chose|select(?:ing|ed)?|pick(?:ing|ed)?|opt for"
    r"|(?:go|going|went|stick|sticking|proceed) with|settled? on|left with(?: only)?"
    r"|lea(?:ves|ving)(?: us with)?(?: only)?|I(?:['’]d| would|['’]ll| will) say"
    r"|corresponds? to|match(?:es)?|point(?:s|ing) to|confirms|supports|lean(?:ing)? towards?"
    r"|(?:must|has to|have to) be|it(?:['’]s| is)"
    r"|(?:which|this|that)(?: is| means| gives| matches)(?= (?:option|choice|answer))"
    r"|(?P<noun>(?:correct|right|best|chosen|only|my|most (?:likely|plausible|accurate|appropriate)|remaining|final)"
    r" (?:option|choice|statement|response|alternative|letter|one|selection|match|fit|possibility)"
    r"(?: left| remaining)?))\b",
    re.IGNORECASE,
)
_CHOSEN_CHINESE = re.compile(
    r"选项\s?([A-J])\s?(?:是|为|最)?(?:正确|对的|符合)|选[择择]?(?:项?[为是])?[\s:：]{0,3}[(（*]{0,3}([A-J])(?![A-Za-z0-9、和或])"
)
_NOUN_VERB = re.compile(
    rf"{GAP}[ ]?(?:[ ](?:to|for|of|in|from|among|here)[ ][^.?!\n:：=]{{0,80}}?[ ])?(?:,[ ][a-z]{{2,12}},[ ])?{VERB}",
    re.IGNORECASE,
)
_IS_RIGHT = re.compile(
    r"(?<![\w'’.=+-])\(?([A-J])\)?(?:[ ]?\*\*)?[ ](?:is|must be|should be|seems|remains|looks|appears)(?: to be)?"
    r"(?: therefore| thus| clearly| indeed| then| definitely| probably| likely| still)?"
    r"(?: the(?: \w{2,15}){0,3} (?:answer|choice|option|fit|one|explanation|statement|candidate)"
    r"| a?n? ?(?:correct|right|best|true)\b| left\b)(?! answer is)"
)
_ONLY = re.compile(r"\b[Oo]nly \(?([A-J])\)? (?:remains|is left|fits|works|survives|matches|is possible|is correct)\b")
_LAST = re.compile(
    r"[\s*_#>]{0,8}(?:(?:so|thus|therefore|hence|final|final choice|final selection|my choice|solution|choice"
    r"|option|selected option|result|verdict|correct|response|label|pick|letter)[\s*_]{0,4}[:,：]"
    r"|(?:so|thus|hence|therefore|clearly|definitely|probably|likely)"
    r"|(?:(?:so|thus|hence|therefore),? )?(?:option|choice))"
    r"[\s*_(\[$]{0,8}([A-J])[\s*_)\]$.]{0,8}",
    re.IGNORECASE,
)
_LONE = re.compile(
    rf"\n([ \t]{{0,40}})(?:[*_$(\[{{\"'`#>.\\-]|\\{FONTS}(?![A-Za-z]) ?){{0,12}}([A-Ja-j])"
    r"([ \t*_$)\]}\"'`.\\:-]{0,12})(?=\n|\Z)"
)
_OPTION = re.compile(r"[ ]{0,3}[*_(\-]{0,3}([A-J])[*_)]{0,3}[.:)][*_]{0,2}\s{1,4}\S")

_ITEM = re.compile(
    r"[ ]{0,3}(?:[-*+>•]|\d{1,2}[.)])[ ][*_(]{0,3}([A-J])[*_).]{0,4}[ ]{0,3}"
)  # "- C": one item, a letter


def letters_alone(text: str) -> Iterator[tuple[int, str]]:
    """(position, letter) of the lines that are a letter and not a list's, a small letter's or indented thinking's."""
    end = len(text.rstrip())
    text = "\n" + text
    letters: list[tuple[int, str]] = []
    before: re.Match | None = None
    for m in collections.deque(_LONE.finditer(text), CANDIDATES):
        between = text[before.end() : m.start() + 1] if before else "x"
        listed = before is not None and before[2] != m[2] and not between.strip()
        adjacent = listed and "\n\n" not in between
        if adjacent and letters and letters[-1][0] == before.start():
            letters.pop()
        before = m
        line = m[0].strip()
        small = m[2].islower() and (line == m[2] or line.startswith(("-", "* ")))
        if m.end() > end and not adjacent or not (listed or small or len(m[1]) > 3):
            letters.append((m.start(), m[2].upper()))
    yield from letters


def letter_at_end(text: str) -> str | None:
    """The letter of a last line such as "C. Water" (an option as a whole, no list of them) or "Hence, C."."""
    lines = last_lines(text)
    if not lines:
        return None
    last = lines[-1]
    said = _LAST.fullmatch(last) or _LAST.fullmatch(text[last_sentence(text) :].rstrip())
    if said and (said[1].isupper() or f"({said[1]})" in said[0]):
        return said[1].upper()
    item = _ITEM.fullmatch(last)
    if item and (len(lines) == 1 or not _ITEM.fullmatch(lines[0])):
        return item[1]
    option = _OPTION.match(last)
    if option is None or set(re.findall(r"(?<![\w(])([A-J])[.)]\s", last)) - {option[1]}:
        return None
    if len(lines) > 1:
        other = _OPTION.match(lines[0].strip())
        apart = text.rstrip()[: -len(last.rstrip())].rstrip(" \t").endswith("\n\n")
        if not apart or (other and other[1] != option[1]):
            return None
    return option[1]


def _option_first(text: str) -> str | None:
    """The letter of an option that is the first paragraph of several."""
    paragraph, _, rest = text[:2000].strip("\n").partition("\n\n")
    option = _OPTION.match(paragraph)
    if option and "\n" not in paragraph and rest.strip() and not _OPTION.match(rest.lstrip("\n")):
        return option[1]
    return None


def _letter_after(text: str, start: int, noun: bool) -> tuple[str | None, bool]:
    """(the letter, whether it is said to be so) after a word such as "choose" or, with a verb, "correct option"."""
    verb = _NOUN_VERB.match(text, start, start + 160)
    if noun and verb is None:
        return None, False
    start = verb.end() if verb else start
    if NEGATION.match(text[start : start + 12].lstrip(" *_")):
        return None, False
    return letter_of(text[value_start(text, start, start + 120) : start + 160]), bool(verb and not verb["weak"])


def letters_named(text: str) -> Iterator[tuple[int, str]]:
    """(position, letter) of "the correct option is X"."""
    lower = lower_case(text)
    for pos in places(lower, _NOUNS):
        named = lower[max(0, pos - 8) : pos].endswith(("correct ", "right "))
        if not named and not lower.startswith(("correct", "right"), pos):
            continue
        before = sentence_before(text, pos)
        word = re.match(r"(?:correct |right )?[a-z]+", lower[pos : pos + 40])
        letter, said = _letter_after(text, pos + word.end(), noun=True)
        if letter is not None and said and not DOUBT.search(before) and not DENIAL.search(before):
            yield pos, letter


def letters_chosen(text: str) -> Iterator[tuple[int, str]]:
    """(position, letter) of weaker words near the end: "we choose X", "X is correct"."""
    first = _option_first(text)
    if first:
        yield 0, first
    offset = max(0, len(text) - WEAK_CHARS)
    for m in collections.deque(_PICK.finditer(text, offset), CANDIDATES):
        if not DENIAL.search(sentence_before(text, m.start())):
            letter, _ = _letter_after(text, m.end(), bool(m["noun"]))
            if letter:
                yield m.start(), letter
    for m in collections.deque(_IS_RIGHT.finditer(text, offset), CANDIDATES):
        asked = re.match(r"[^.!\n]{0,40}\?", text[m.end() : m.end() + 50])
        if not asked and not DOUBT.search(sentence_before(text, m.start())):
            yield m.start(), m[1]
    hence = re.search(
        r"(?:[;,] (?:hence|so|thus|therefore),? |\((?:option|choice|answer) )\(?([A-J])\)?[\s.*)]{0,6}\Z", text[-80:]
    )
    if hence:
        yield len(text) - 1, hence[1]
    for m in re.finditer(r"\bnone of the (?:options|choices|above|given|answers)", text[offset:], re.IGNORECASE):
        yield offset + m.start(), NOTHING
    if not text.isascii():
        for m in collections.deque(re.finditer("选", text[offset:]), CANDIDATES):
            chosen = _CHOSEN_CHINESE.match(text, offset + m.start())
            if chosen:
                yield offset + m.start(), chosen[1] or chosen[2]
    for m in collections.deque(_ONLY.finditer(text, offset), CANDIDATES):
        yield m.start(), m[1]
