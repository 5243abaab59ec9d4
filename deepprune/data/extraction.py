r"""Final answers: finding the one that a trace states, as a careful reader would.

What comes after the thinking counts before what stands in it, and the last explicit statement counts before
earlier ones. Explicit are a box, <answer> tags, a JSON field, "Answer: X", "#### X", "==> X", "the answer is
X", and for multiple choice a line with the letter alone. Weaker ones ("the result is", "we choose D") count
where nothing explicit stands; what is doubted or asked ("if ...", "... would be", "is it A?") is weak too.
Nothing stated, two letters for one, or thinking that was cut off give None: *unknown*.

Time is linear in the text: keywords are found in one scan, and at most CANDIDATES places, from the end
backwards, are read, each within a window of fixed size (answer_readers.py). math-verify's own extraction is not
used for this: its patterns are quadratic (20,000 characters of unclosed "\[": 4 s), take the 2 of "2x + 3" and the
12 of "12:30", and know nothing of thinking.
"""

from __future__ import annotations

import bisect
import collections
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from deepprune.data.answer_readers import (
    CANDIDATES,
    FILLER,
    FONTS,
    MAX_ANSWER_CHARS,
    NO_ANSWER,
    NOTHING,
    YES_NO,
    chains,
    last_boxed,
    letter_of,
    mathematics,
    value_alone,
    whole,
    words,
)

__all__ = ["extract", "last_boxed", "split_thinking"]

WEAK_CHARS = 2000  # weak statements count only so near the end

# ---------------------------------------------------------------- thinking and what follows it

_NAMES = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|analysis|scratchpad)"
_OPEN = re.compile(rf"<{_NAMES}>|\[THINK\]|◁think▷|<\|channel>|<\|channel\|>(?:analysis|commentary)", re.IGNORECASE)
_CLOSE = re.compile(
    rf"</{_NAMES}>|\\end\{{think(?:ing)?\}}|\[/THINK\]|◁/think▷|<channel\|>|<\|channel\|>final(?:<\|message\|>)?|assistantfinal",
    re.IGNORECASE,
)
_END = re.compile(
    r"(?:\s|<\|(?:im_end|end|return|eot_id|endoftext|end_of_text|eom_id)\|>|<｜end▁of▁sentence｜>|</s>|<eos>|<end_of_turn>|<turn\|>)+\Z"
)


def _without_end(text: str) -> str:
    """The text without blanks and end-of-text tokens at its end, and without characters that cannot be seen."""
    text = text.replace("\r\n", "\n").replace("\u200b", "").replace("\ufeff", "")
    tail = max(0, len(text.rstrip()) - 200)
    return text[:tail] + _END.sub("", text[tail:].rstrip())


def split_thinking(text: str) -> tuple[str, str, bool]:
    """(thinking, what follows it, whether the thinking came to its end). Text without any marks follows it."""
    opens = [m for m in _OPEN.finditer(text)]
    closes = [m for m in _CLOSE.finditer(text)]
    if not opens and not closes:
        return "", text, True
    if not closes:
        return text[opens[0].start() :], text[: opens[0].start()], False
    after = [m for m in opens if m.start() >= closes[-1].end()]
    final = text[closes[-1].end() : after[0].start() if after else len(text)]
    return text[: closes[-1].start()], final, not after or bool(final.strip())


# ---------------------------------------------------------------- cues and what stands around them

_GAP = r"[ \t*_`\"'’”)}\]$]{0,8}"
_VERB = (
    r"(?P<verb>[:：]|={1,3}>|[-–—]{1,2}>|→|⇒|=(?!=)|(?:is|are|was|equals|remains|becomes)(?![A-Za-z'’])"
    r"|(?:should|must|has[ ]to|will|can[ ]only|seems[ ]to|appears[ ]to|turns[ ]out[ ]to)[ ](?:therefore[ ]|then[ ]|thus[ ]|indeed[ ]|still[ ])?be(?![A-Za-z])"
    r"|(?:comes|works)[ ]out[ ](?:to[ ]be|to|as)|(?:has[ ]got|would[ ]have|will[ ]have)[ ]to[ ]be|can[ ]be[ ]only"
    r"|(?P<weak>(?:would|could|might|may|can|ought[ ]to)[ ](?:therefore[ ]|then[ ]|thus[ ]|probably[ ]|also[ ])?be(?![A-Za-z])))"
)
_ANSWER = re.compile(
    rf"(?:answers?|solution|ans\.?)(?:[ ]?(?:choice|option|letter))?{_GAP}"
    rf"(?:[ ](?:to|for|of|in|from|among|here|under|based|as|by|at|on|with|I|we|that)(?![A-Za-z])[^.?!\n:：=]{{0,80}}?[ ]|(?:\([^()\n]{{0,60}}\))?)[ \t]{{0,3}}{_GAP}(?:,[ ][a-z]{{2,12}},[ ])?{_VERB}",
    re.IGNORECASE,
)
_RESULT = re.compile(
    rf"(?:result|conclusion|decision|verdict|final[ ]value|output){_GAP}[ \t]{{0,3}}{_VERB}", re.IGNORECASE
)
_DASH = re.compile(rf"answer{_GAP}[-–—](?=[ ])", re.IGNORECASE)
_LINE = re.compile(r"answer(?=[ ]\(?[A-J]\)?[.*]{0,3}[ ]{0,3}(?:\n|\Z))", re.IGNORECASE)  # "ANSWER (C)"
_FOREIGN = re.compile(
    r"(?:(?:antwort|lösung|ergebnis|réponse|respuesta|resposta|risposta)(?:[ ](?:finale?|correct[ae]|corret[ao]|corretta|exacte|est[áa]))?|ответ|答え|解答|答案|正确答案|最终答案|正解|답|정답|antwoord|vastaus|opci[oó]n[ ]correcta|opção[ ]correta|opzione[ ]corretta|svar|जवाब|الجواب|答|odpowiedź|cevap|đáp[ ]án|الإجابة|उत्तर)"
    rf"{_GAP}[ \t]{{0,3}}(?P<verb>[:：=]|(?:ist|lautet|est|es|is|é|è)(?![a-zé])|—|-|(?:应该|应当|应|就)?[是为為]|は|은|는)[:：]?(?:[ ](?:la|el)(?:[ ](?:opción|letra))?(?=[ ]))?",
    re.IGNORECASE,
)
_KEYWORDS = (
    "answer", "ans:", "ans.", "ans =", "ans is", "solution", "result", "conclusion", "decision", "verdict", "final value", "output",
    "antwort", "lösung", "ergebnis", "réponse", "respuesta", "resposta", "risposta", "ответ", "答え", "答：", "答:", "解答", "答案", "正解", "답",
    "antwoord", "vastaus", "opción correcta", "opcion correcta", "opção correta", "opzione corretta", "जवाब", "الجواب", "svar", "odpowied", "cevap", "đáp án", "الإجابة", "उत्तर",
)  # fmt: skip
_NOUNS = ("option", "choice", "statement", "response", "alternative", "letter", "selection", "correct one", "right one")
_HASHES = re.compile(r"####(?<!#####)(?!#)[ \t]{0,5}")
_ARROW = re.compile(
    r"(?:={1,3}>|-{1,3}>|→|∴|⇒|⟹|\\implies|\\Rightarrow|(?:QED|Q\.E\.D\.)[ \t]{0,3}(?:[:=→-]{1,3}>?|[■□])?)[ \t]{0,5}"
)
_TAG = re.compile(
    r"[<\[](/?)(?:final[_ ]?)?answer(?:[ ][^<>\n]{0,40})?[>\]]|<\|(?:begin|(end))_of_box\|>", re.IGNORECASE
)
_JSON = re.compile(
    r"""["'](?:(?:final|correct|my|the|predicted|selected|chosen|best|right|model)[_ -]?)?(?:answer|decision|choice|option|result|prediction|label|verdict|letter|solution|response|conclusion)(?:[_ ]?(?:letter|choice|option|index|value))?["']\s{0,20}:\s{0,20}("(?:[^"\\\n]|\\.){0,500}"|'[^'\n]{0,500}'|true\b|false\b|True\b|False\b|-?\d[\d.]{0,50}|\[[^\[\]\n]{0,200}\]|null|None)""",
    re.IGNORECASE,
)
_JSON_ITEM = re.compile(r"""("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,\[\]"']+)""")
_DOUBT = re.compile(
    r"\b(?:if|maybe|perhaps|possibly|might|could|would|suppose|assume|assuming|whether|unless|guess|initially|at first|first thought|doubt|wrong|incorrect|instead of|rather than|some(?:one)? (?:may|might)|one (?:may|might)|when|had|where|similar|source|online|another|check(?:ing)?|hmm|until)\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:not|never|no longer|isn't|don't think|can't be|cannot be)\b[^,;:]{0,30}\Z|\bno (?:correct |right |final )?\Z",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"(?:not|n't|never|neither|nor|no longer)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?。！？](?=[\s*)\"'”]|\Z)|\n|[。！？]")


def _lower(text: str) -> str:
    """Small letters, as many characters as before."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _places(lower: str, keywords: tuple[str, ...]) -> list[int]:
    """Where the last CANDIDATES of the keywords begin (a literal search for each: fast on any text)."""
    found: list[int] = []
    for word in keywords:
        if word.isascii() or not lower.isascii():
            found += (m.start() for m in collections.deque(re.finditer(re.escape(word), lower), CANDIDATES))
    return sorted(found)[-CANDIDATES:]


def _sentence_before(text: str, pos: int) -> str:
    """What stands before pos in its sentence (at most 120 characters of it)."""
    before = text[max(0, pos - 120) : pos]
    ends = [m.end() for m in _SENTENCE.finditer(before)]
    return before[ends[-1] :] if ends else before


def _heading(text: str, pos: int) -> bool:
    """Whether only marks and words such as "the final" stand before pos in its line."""
    line = text[max(0, text.rfind("\n", max(0, pos - 60), pos) + 1, pos - 60) : pos]
    return bool(
        re.fullmatch(
            r"[\s#*_>$\\(\[{.\d:-]{0,20}(?:\\[a-z]{2,12}[{ ]?){0,3}[\s*_]{0,4}(?:(?:so|thus|therefore|hence),?[ ])?(?:my[ ]|our[ ]|the[ ])?(?:final[ ]|correct[ ]|best[ ]|right[ ]|short[ ]|boxed[ ])?(?:numerical[ ])?",
            line,
            re.IGNORECASE,
        )
    )


def _alone(text: str, pos: int) -> bool:
    """Whether the cue at pos begins its line, but for marks and "final": not in indented thinking, not "Thus ..."."""
    line = text[max(0, text.rfind("\n", max(0, pos - 40), pos) + 1, pos - 40) : pos]
    marks = r"(?:[#*_>$\\(\[{\s.\d-]|text(?:bf)?|math(?:bf|rm)|boxed){0,16}(?:(?:my|the|our) )?(?:final |correct |right |best )?"
    return not line.startswith(("    ", "\t")) and bool(re.fullmatch(marks, line, re.IGNORECASE))


def _is_a_line(text: str, pos: int, start: int) -> bool:
    """Whether "The correct answer is X" is all of its line."""
    named = re.search(r"\b(?:correct|final|right|best) \Z", text[max(0, pos - 10) : pos], re.IGNORECASE)
    return bool(named) and re.match(r"[^\n]{1,80}(?:\n|\Z)", text[start : start + 90]) is not None


_TITLE = re.compile(r"answers?[ \t*_:：}]{0,8}(?:\n[ \t]{0,8}){1,4}", re.IGNORECASE)


def _cues(text: str, answer_type: str) -> Iterator[tuple[int, int, int, str]]:
    """(tier, start, where the value begins, verb) of every cue; tier 1 is explicit, 2 and 3 are weaker."""
    lower = _lower(text)
    for pos in _places(lower, _KEYWORDS):
        word = next((w for w in ("answer", "ans", "solution", "conclusion") if lower.startswith(w, pos)), "")
        if word == "ans" and lower[pos - 1 : pos].isalpha():
            continue
        title = _TITLE.match(text, pos, pos + 60) if word == "answer" and _heading(text, pos) else None
        if title:
            yield 1, pos, title.end(), ":"
            continue
        kind = _ANSWER if word in ("answer", "ans", "solution") else _RESULT
        cue = kind.match(text, pos, pos + 160) or _FOREIGN.match(text, pos, pos + 60)
        if cue is None:
            bare = _DASH.match(text, pos) or (_LINE.match(text, pos) if answer_type == "choice" else None)
            if bare and _heading(text, pos):
                yield 1, pos, bare.end(), ":"
            continue
        groups = cue.groupdict()
        verb = groups["verb"].lower()
        if text[cue.end() : cue.end() + 4].lstrip(" *_").startswith((":", "：")):
            verb = ":"  # "the answer is: the Nile"
        before = _sentence_before(text, pos)
        if _DENIAL.search(before):
            continue
        if word == "solution" and not lower[max(0, pos - 6) : pos].endswith("final "):
            continue  # "Solution:" heads the working
        tier = 1 if kind is _ANSWER or cue.re is _FOREIGN else 3
        if word == "conclusion" and _heading(text, pos) and verb in (":", "："):
            tier = 1 if answer_type == "choice" else 2
        if tier == 1 and verb == "=" and not _heading(text, pos):
            tier = 2
        doubted = groups.get("weak") or _DOUBT.search(before)
        if tier == 3 and doubted and answer_type != "text":
            continue
        if (
            tier == 3
            and verb in (":", "：")
            and not _heading(text, pos)
            and not before.rstrip().lower().endswith("final")
        ):
            continue  # "the cube root of the result:"
        if tier < 3 and (doubted or verb == "was"):
            tier = 3
        yield tier, pos, cue.end(), verb
    for m in collections.deque(_HASHES.finditer(text), CANDIDATES):
        yield 1, m.start(), m.end(), "####"
    end = len(text.rstrip())
    for m in collections.deque(_ARROW.finditer(text), CANDIDATES):
        qed = m[0].startswith("Q")
        after_qed = text[max(0, m.start() - 12) : m.start()].rstrip().endswith(("QED", "Q.E.D."))
        if answer_type == "math" and not (qed or after_qed) and 0 <= text.find("\n", m.end()) < end:
            continue  # "=> x = 2" is a step of a derivation, unless it is the last line
        if (qed or after_qed or _heading(text, m.start())) and (answer_type == "choice" or ">" in m[0]):
            yield 1, m.start(), m.end(), "==>"


_MARKS = re.compile(r"(?:[\s*_:：=~`\"“}]|</?(?:b|strong|i|em|u|code)>|\\[,;:! ]|\\q?quad(?![a-z])){0,40}")


def _skip(text: str, start: int, stop: int) -> int:
    """Where the value begins: after marks and words such as "therefore" (a fixed number of them)."""
    start = _MARKS.match(text, start, stop).end()
    for _ in range(4):
        filler = FILLER.match(text, start, stop)
        if filler is None:
            break
        start = _MARKS.match(text, filler.end(), stop).end()
    return start


# ---------------------------------------------------------------- letters that are stated without such a cue

_PICK = re.compile(
    r"\b(?:choos(?:e|ing)|chose|select(?:ing|ed)?|pick(?:ing|ed)?|opt for|(?:go|going|went|stick|sticking|proceed) with|settled? on|leaves(?: us with)?(?: only)?|left with(?: only)?|corresponds? to|match(?:es)?|point(?:s|ing) to|confirms|supports|lean(?:ing)? towards?|(?:must|has to|have to) be|it(?:['’]s| is)|(?:which|this|that)(?: is| means| gives| matches)(?= (?:option|choice|answer))|"
    r"(?P<noun>(?:correct|right|best|chosen|only|most (?:likely|plausible|accurate|appropriate)|remaining|final) (?:option|choice|statement|response|alternative|letter|one|selection|match|fit|possibility)(?: left| remaining)?))\b",
    re.IGNORECASE,
)
_CHOSEN_CHINESE = re.compile(r"选[择择]?(?:项?[为是])?[\s:：]{0,3}[(（*]{0,3}([A-J])(?![A-Za-z0-9、和或])")
_NOUN_VERB = re.compile(
    rf"{_GAP}[ ]?(?:[ ](?:to|for|of|in|from|among|here)[ ][^.?!\n:：=]{{0,80}}?[ ])?(?:,[ ][a-z]{{2,12}},[ ])?{_VERB}",
    re.IGNORECASE,
)
_IS_RIGHT = re.compile(
    r"(?<![\w'’.=+-])\(?([A-J])\)?(?:[ ]?\*\*)?[ ](?:is|must be|should be|seems|remains|looks|appears)(?: to be)?(?: therefore| thus| clearly| indeed| then| definitely| probably| likely| still)?"
    r"(?: the(?: \w{2,15}){0,3} (?:answer|choice|option|fit|one|explanation|statement|candidate)| a?n? ?(?:correct|right|best|true)\b| left\b)(?! answer is)"
)
_ONLY = re.compile(r"\b[Oo]nly \(?([A-J])\)? (?:remains|is left|fits|works|survives|matches|is possible|is correct)\b")
_LAST = re.compile(
    r"[\s*_#>]{0,8}(?:(?:so|thus|therefore|hence|final|final choice|final selection|my choice|solution|choice|option|selected option|result|verdict|correct|response|label|pick)[\s*_]{0,4}[:,：]|(?:so|thus|hence|therefore)|(?:(?:so|thus|hence|therefore),? )?(?:option|choice))[\s*_(\[$]{0,8}([A-J])[\s*_)\]$.]{0,8}",
    re.IGNORECASE,
)
_LONE = re.compile(
    rf"\n([ \t]{{0,40}})(?:[*_$(\[{{\"'`#>.\\-]|\\{FONTS}(?![A-Za-z]) ?){{0,12}}([A-Ja-j])([ \t*_$)\]}}\"'`.\\:-]{{0,12}})(?=\n|\Z)"
)
_OPTION = re.compile(r"[ ]{0,3}[*_(\-]{0,3}([A-J])[*_)]{0,3}[.:)][*_]{0,2}\s{1,4}\S")


_WORD_AT_END = re.compile(r"(?:\A|\n)[ \t*_>#\"'`]{0,8}(yes|no|true|false)[ \t*_.!\"'`]{0,8}\s*\Z", re.IGNORECASE)


def _last_lines(text: str) -> list[str]:
    """The last two lines that are not empty."""
    return [line for line in text[-3000:].splitlines() if line.strip()][-2:]


def _letters_alone(text: str) -> Iterator[tuple[int, str]]:
    """(position, letter) of the lines that are a letter and not a list's, a small letter's or indented thinking's."""
    end = len(text.rstrip())
    text = "\n" + text
    found: list[tuple[int, str]] = []
    before: re.Match | None = None
    for m in collections.deque(_LONE.finditer(text), CANDIDATES):
        between = text[before.end() : m.start() + 1] if before else "x"
        listed = before is not None and before[2] != m[2] and not between.strip()
        adjacent = listed and "\n\n" not in between
        if adjacent and found and found[-1][0] == before.start():
            found.pop()
        before = m
        line = m[0].strip()
        small = m[2].islower() and (line == m[2] or line.startswith(("-", "* ")))
        if m.end() > end and not adjacent or not (listed or small or len(m[1]) > 3):
            found.append((m.start(), m[2].upper()))
    yield from found


def _letter_at_end(text: str) -> str | None:
    """The letter of a last line such as "C. Water" (an option as a whole, no list of them) or "Hence, C."."""
    lines = _last_lines(text)
    if not lines:
        return None
    last = lines[-1]
    said = _LAST.fullmatch(last) or _LAST.fullmatch(text[_last_sentence(text) :].rstrip())
    if said and (said[1].isupper() or f"({said[1]})" in said[0]):
        return said[1].upper()
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
    if _NEGATION.match(text[start : start + 12].lstrip(" *_")):
        return None, False
    return letter_of(text[_skip(text, start, start + 120) : start + 160]), bool(verb and not verb["weak"])


def _letters_named(text: str) -> Iterator[tuple[int, str]]:
    """(position, letter) of "the correct option is X"."""
    lower = _lower(text)
    for pos in _places(lower, _NOUNS):
        if not (
            lower[max(0, pos - 8) : pos].endswith(("correct ", "right ")) or lower.startswith(("correct", "right"), pos)
        ):
            continue
        before = _sentence_before(text, pos)
        word = re.match(r"(?:correct |right )?[a-z]+", lower[pos : pos + 40])
        letter, said = _letter_after(text, pos + word.end(), noun=True)
        if letter is not None and said and not _DOUBT.search(before) and not _DENIAL.search(before):
            yield pos, letter


def _letters_chosen(text: str) -> Iterator[tuple[int, str]]:
    """(position, letter) of weaker words near the end: "we choose X", "X is correct"."""
    first = _option_first(text)
    if first:
        yield 0, first
    offset = max(0, len(text) - WEAK_CHARS)
    for m in collections.deque(_PICK.finditer(text, offset), CANDIDATES):
        if not _DENIAL.search(_sentence_before(text, m.start())):
            letter, _ = _letter_after(text, m.end(), bool(m["noun"]))
            if letter:
                yield m.start(), letter
    for m in collections.deque(_IS_RIGHT.finditer(text, offset), CANDIDATES):
        asked = re.match(r"[^.!\n]{0,40}\?", text[m.end() : m.end() + 50])
        if not asked and not _DOUBT.search(_sentence_before(text, m.start())):
            yield m.start(), m[1]
    hence = re.search(r"[;,] (?:hence|so|thus|therefore),? \(?([A-J])\)?[\s.*]{0,6}\Z", text[-80:])
    if hence:
        yield len(text) - 1, hence[1]
    for m in re.finditer(r"\bnone of the (?:options|choices|above|given|answers)", text[offset:], re.IGNORECASE):
        yield offset + m.start(), NOTHING
    if not text.isascii():
        for m in collections.deque(re.finditer("选", text[offset:]), CANDIDATES):
            chosen = _CHOSEN_CHINESE.match(text, offset + m.start())
            if chosen:
                yield offset + m.start(), chosen[1]
    for m in collections.deque(_ONLY.finditer(text, offset), CANDIDATES):
        yield m.start(), m[1]


# ---------------------------------------------------------------- statements of all kinds


def _json_text(value: str) -> str:
    """The text of a JSON (or Python) string, number or word."""
    if value.startswith('"'):
        try:
            return json.loads(value).encode("utf-8", "replace").decode()  # half a surrogate pair is no text
        except ValueError:  # LaTeX that was not escaped
            return value.strip('"')
    return value.strip("'")


def _tags(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, content) of <answer>...</answer>, the last first."""
    marks = list(collections.deque(_TAG.finditer(text), 2 * CANDIDATES))
    for left, right in reversed(list(zip(marks, marks[1:], strict=False))):
        content = text[left.end() : right.start()]
        slip = bool(left[1] or left[2]) and 0 < len(content.strip()) < 80  # </answer>X</answer>
        if (right[1] or right[2]) and (slip or not (left[1] or left[2])):
            yield left.start(), right.end(), content
    if marks and marks[-1][0][0] == "<" and not (marks[-1][1] or marks[-1][2]) and len(text) - marks[-1].end() <= 200:
        yield marks[-1].start(), len(text), text[marks[-1].end() :]  # the end tag was the stop string


class Statement(NamedTuple):
    """A place that may state the answer."""

    tier: int  # 1 explicit, 2 weak, 3 doubtful
    pos: int
    alone: bool  # a box, a tag, a field, a labelled line: not a part of a sentence
    value: str | None  # NOTHING: it says that there is no answer; None: no value, or not read yet
    cue: tuple[int, str] | None = None  # where the value begins and the verb before it: read when it is asked for


def _statements(text: str, answer_type: str) -> list[Statement]:
    """All candidates of a text but the weak ones for letters."""
    found: list[Statement] = []
    inside: list[tuple[int, int]] = []  # boxes and tags: what stands in them is no statement of its own
    for start, end, content in _tags(text):
        boxed = last_boxed(content) if len(content) < 4 * MAX_ANSWER_CHARS else None
        found.append(Statement(1, end - 1, True, whole(boxed or content, answer_type)))
        inside.append((start, end))
    for start, end, contents in chains(text):
        found.append(Statement(1, end - 1, True, _together([whole(c, answer_type) for c in contents], answer_type)))
        inside.append((start, end))
    for m in collections.deque(_JSON.finditer(text), CANDIDATES):
        items = _JSON_ITEM.findall(m[1]) if m[1][0] == "[" else [m[1]]
        values = [whole(_json_text(item), answer_type) for item in items if item.lower() not in ("null", "none")]
        found.append(Statement(1, m.start(1), True, _together(values, answer_type)))
    inside.sort()
    starts = [i[0] for i in inside]

    def covered(pos: int) -> bool:
        k = bisect.bisect_right(starts, pos) - 1
        return k >= 0 and pos < inside[k][1]

    for tier, pos, start, verb in _cues(text, answer_type):
        if not covered(pos):
            labelled = _alone(text, pos) and (verb in (":", "：", "####", "==>") or _is_a_line(text, pos, start))
            found.append(Statement(tier, pos, labelled, None, (start, verb)))
    if answer_type == "choice":
        found += [Statement(1, pos, True, letter) for pos, letter in _letters_alone(text) if not covered(pos)]
        end = len(text.rstrip()) - 1
        if not covered(end):
            found.append(Statement(1, end, True, _letter_at_end(text)))
        found += [Statement(1, pos, False, letter) for pos, letter in _letters_named(text) if not covered(pos)]
    elif answer_type == "text" and (word := _WORD_AT_END.search(text[-60:])):
        found.append(Statement(1, len(text.rstrip()) - 1, True, word[1]))
    return found


def _together(values: list[str | None], answer_type: str) -> str | None:
    """One answer of the values that stand side by side; two letters are none."""
    values = list(dict.fromkeys(v for v in values if v is not None))
    if answer_type == "choice" and len(values) > 1:
        return NOTHING
    return ", ".join(values) if values else None


def _cue_value(text: str, start: int, verb: str, answer_type: str) -> str | None:
    """The value after a cue that ends at start."""
    if verb == "####":
        one_line = re.match(r"[^\n]{1,100}(?:\n|\Z)", text[start : start + 110])
        if not one_line or (answer_type == "text" and "\n" in text[start : start + 300].strip()):
            return None  # a heading
    if _NEGATION.match(text[start : start + 12].lstrip(" *_")):
        return None
    head = text[start : start + 100].lstrip(" *_:：\n")
    if NO_ANSWER.match(head) and (answer_type == "choice" or not YES_NO.match(head)):
        return NOTHING
    begin = start if verb == "####" else _skip(text, start, start + 160)
    window = text[begin : begin + MAX_ANSWER_CHARS]
    if answer_type == "choice":
        return letter_of(window[:120], colon=verb in (":", "："))
    return mathematics(window, verb, "\n" in text[start:begin]) if answer_type == "math" else words(window, verb)


def _cut_off(text: str) -> bool:
    """Whether the text ends in the middle of a sentence."""
    tail = text[-200:].rstrip()
    last = _last_sentence(text)
    if re.fullmatch(r"[\s\d.,]+", text[last:]) and text[last - 1 : last] != "\n":
        return False  # "... is C. 12"
    if _last_lines(tail)[-1:] and _last_lines(tail)[-1].startswith(("    ", "\t")):
        return True  # indented thinking
    return bool(re.search(r"[\w,;:=+\-–/\\(\[{&<^]\Z", tail))


def _last_sentence(text: str) -> int:
    """Where the last sentence of the text begins (within its last 1,000 characters)."""
    tail = text[-1000:].rstrip()
    ends = [m.end() for m in _SENTENCE.finditer(tail) if tail[m.end() :].strip(" *_)\"'”$\\]")]
    return len(text) - len(text[-1000:]) + (ends[-1] if ends else 0)


def _stated(text: str, answer_type: str, only_at_end: bool = False, cut: bool | None = None) -> str | None:
    """What a stretch of text states: the last statement of the best tier. None: nothing; NOTHING: that there is none.

    only_at_end: only what stands by itself in the last sentence; cut: only what stands by itself or there (default:
    if the text ends in the middle of a sentence).
    """
    found = _statements(text, answer_type)
    cut = _cut_off(text) if cut is None else cut
    last = _last_sentence(text)

    def counts(s: Statement) -> bool:
        if only_at_end:
            goes_on = s.cue is None and re.search(r"[A-Za-z]{2}", _TAG.sub("", text[s.pos + 1 :][:1000]))
            return s.alone and s.pos >= last and not goes_on
        if not cut or (s.alone and s.tier == 1):
            return True
        where = _skip(text, s.cue[0], s.cue[0] + 160) if s.cue else s.pos
        return where >= last and (s.tier < 3 or len(text) <= 200)

    def best(candidates: list[Statement]) -> str | None:
        for s in sorted(candidates, key=lambda s: (s.tier, -s.pos)):
            value = (_cue_value(text, *s.cue, answer_type) if s.cue else s.value) if counts(s) else None
            if value is not None:
                return value
        return None

    value = best([s for s in found if s.tier == 1])
    if value is None:
        weak = [s for s in found if s.tier > 1 and s.pos >= len(text) - WEAK_CHARS]
        if answer_type == "choice":
            weak += [Statement(2, pos, False, letter) for pos, letter in _letters_chosen(text)]
        value = best(weak)
    return value


def extract(text: str, answer_type: str = "math", pattern: str | None = None) -> str | None:
    """The final answer that a trace states, or None when it states none (unknown).

    answer_type: math, choice (a letter A to J, returned as a capital) or text. pattern: a regular expression
    that finds the answer instead; its last match counts, group 1 if it has one. Raises re.error if it is none.
    """
    if pattern is not None:
        matches = collections.deque(re.finditer(pattern, text), 1)
        if not matches:
            return None
        value = matches[0][1] if matches[0].re.groups else matches[0][0]
        return (whole(value, answer_type) or None) if value and len(value) <= MAX_ANSWER_CHARS else None
    thinking, final, ended = split_thinking(_without_end(text))
    value = _stated(final, answer_type, cut=False if thinking and ended else None)
    if value is None and (thinking or answer_type == "text"):
        value = value_alone(final, answer_type, bool(thinking))
    if value is None and thinking:
        value = _stated(thinking, answer_type, only_at_end=not ended, cut=_cut_off(final) if final.strip() else None)
    return value or None
