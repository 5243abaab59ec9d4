r"""Finding the answer that a trace states, as a careful reader would.

What comes after the thinking counts before what stands in it, and the last explicit statement counts before
earlier ones. Explicit are a box, <answer> tags, a JSON field, "Answer: X", "#### X", "==> X", "the answer is
X", and for multiple choice a line with the letter alone. Weaker ones ("the result is", "we choose D") count
where nothing explicit stands; what is doubted or asked ("if ...", "... would be", "is it A?") is weak too.
Nothing stated, two letters for one, or thinking that was cut off give None: *unknown*.

Time is linear in the text: keywords are found in one scan, and at most CANDIDATES places, from the end
backwards, are read, each within a window of fixed size (readers.py). math-verify's own extraction is not
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

from deepprune.data.answers.characters import FULL_WIDTH
from deepprune.data.answers.cues import begins_line, cues, is_whole_line
from deepprune.data.answers.latex import CANDIDATES, MAX_ANSWER_CHARS, chains, last_boxed
from deepprune.data.answers.letters import letter_at_end, letters_alone, letters_chosen, letters_named
from deepprune.data.answers.readers import cue_value, together, value_alone, whole
from deepprune.data.answers.sentences import WEAK_CHARS, cut_off, last_sentence, value_start

_NAMES = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|analysis|scratchpad)"
_OPEN = re.compile(rf"<{_NAMES}>|\[THINK\]|◁think▷|<\|channel>|<\|channel\|>(?:analysis|commentary)", re.IGNORECASE)
_CLOSE = re.compile(
    rf"</{_NAMES}>|\\end\{{think(?:ing)?\}}|\[/THINK\]|◁/think▷|<channel\|>|<\|channel\|>final(?:<\|message\|>)?"
    r"|assistantfinal",
    re.IGNORECASE,
)
_END = re.compile(
    r"(?:\s|<\|(?:im_end|end|return|eot_id|endoftext|end_of_text|eom_id)\|>|<｜end▁of▁sentence｜>|</s>|<eos>"
    r"|<end_of_turn>|<turn\|>)+\Z"
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


_TAG = re.compile(
    r"[<\[](/?)(?:final[_ ]?)?answer(?:[ ][^<>\n]{0,40})?[>\]]|<\|(?:begin|(end))_of_box\|>", re.IGNORECASE
)
_JSON = re.compile(
    r"""["'](?:(?:final|correct|my|the|predicted|selected|chosen|best|right|model)[_ -]?)?"""
    r"(?:answer|decision|choice|option|result|prediction|label|verdict|letter|solution|response|conclusion)"
    r"""(?:[_ ]?(?:letter|choice|option|index|value))?["']\s{0,20}:\s{0,20}("""
    r""""(?:[^"\\\n]|\\.){0,500}"|'[^'\n]{0,500}'|true\b|false\b|-?\d[\d.]{0,50}(?:e[-+]?\d{1,4})?|\[[^\[\]\n]{0,200}\]|null|None)""",
    re.IGNORECASE,
)
_JSON_ITEM = re.compile(r"""("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,\[\]"']+)""")
_WORD_AT_END = re.compile(
    r"(?:\A|\n|[.!][ ]+)[ \t*_>#\"'`]{0,8}(?:(?:(?:so|thus|therefore|hence|overall|finally"
    r"|in (?:conclusion|summary|short))[,:]?|(?:conclusion|verdict)[ *_]{0,3}:)[ \t*_\"'`]{1,6})?"
    r"(yes|no|true|false)[ \t*_.!\"'`]{0,8}\s*\Z",
    re.IGNORECASE,
)


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
    statements: list[Statement] = []
    inside: list[tuple[int, int]] = []  # boxes and tags: what stands in them is no statement of its own
    for start, end, content in _tags(text):
        boxed = last_boxed(content) if len(content) < 4 * MAX_ANSWER_CHARS else None
        statements.append(Statement(1, end - 1, True, whole(boxed or content, answer_type)))
        inside.append((start, end))
    for start, end, contents in chains(text):
        statements.append(Statement(1, end - 1, True, together([whole(c, answer_type) for c in contents], answer_type)))
        inside.append((start, end))
    for m in collections.deque(_JSON.finditer(text), CANDIDATES):
        items = _JSON_ITEM.findall(m[1]) if m[1][0] == "[" else [m[1]]
        values = [whole(_json_text(item), answer_type) for item in items if item.lower() not in ("null", "none")]
        statements.append(Statement(1, m.start(1), True, together(values, answer_type)))
    inside.sort()
    starts = [i[0] for i in inside]

    def covered(pos: int) -> bool:
        k = bisect.bisect_right(starts, pos) - 1
        return k >= 0 and pos < inside[k][1]

    for tier, pos, start, verb in cues(text, answer_type):
        if not covered(pos):
            labelled = begins_line(text, pos) and (
                verb in (":", "：", "####", "==>") or is_whole_line(text, pos, start)
            )
            statements.append(Statement(tier, pos, labelled, None, (start, verb)))
    if answer_type == "choice":
        statements += [Statement(1, pos, True, letter) for pos, letter in letters_alone(text) if not covered(pos)]
        end = len(text.rstrip()) - 1
        if not covered(end):
            statements.append(Statement(1, end, True, letter_at_end(text)))
        statements += [Statement(1, pos, False, letter) for pos, letter in letters_named(text) if not covered(pos)]
    elif answer_type == "text" and (word := _WORD_AT_END.search(text[-60:])):
        statements.append(Statement(1, len(text.rstrip()) - 1, True, word[1]))
    return statements


def _stated(text: str, answer_type: str, only_at_end: bool = False, cut: bool | None = None) -> str | None:
    """What a stretch of text states: the last statement of the best tier. None: nothing; NOTHING: that there is none.

    only_at_end: only what stands by itself in the last sentence; cut: only what stands by itself or there (default:
    if the text ends in the middle of a sentence).
    """
    statements = _statements(text, answer_type)
    cut = cut_off(text) if cut is None else cut
    last = last_sentence(text)

    def counts(s: Statement) -> bool:
        if only_at_end:
            goes_on = s.cue is None and re.search(r"[A-Za-z]{2}", _TAG.sub("", text[s.pos + 1 :][:1000]))
            return s.alone and s.pos >= last and not goes_on
        if not cut or (s.alone and s.tier == 1):
            return True
        where = value_start(text, s.cue[0], s.cue[0] + 160) if s.cue else s.pos
        return where >= last and (s.tier < 3 or len(text[where:].split()) <= 2)

    def best(candidates: list[Statement]) -> str | None:
        for s in sorted(candidates, key=lambda s: (s.tier, -s.pos)):
            value = (cue_value(text, *s.cue, answer_type) if s.cue else s.value) if counts(s) else None
            if value is not None:
                return value
        return None

    value = best([s for s in statements if s.tier == 1])
    if value is None:
        weak = [s for s in statements if s.tier > 1 and s.pos >= len(text) - WEAK_CHARS]
        if answer_type == "choice":
            weak += [Statement(2, pos, False, letter) for pos, letter in letters_chosen(text)]
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
    if answer_type == "choice" and not text.isascii():
        text = text.translate(FULL_WIDTH)
    thinking, final, ended = split_thinking(_without_end(text))
    value = _stated(final, answer_type, cut=False if thinking and ended else None)
    if value is None and answer_type != "choice":
        value = value_alone(final, answer_type, bool(thinking))
    if value is None and thinking:
        value = _stated(thinking, answer_type, only_at_end=not ended, cut=cut_off(final) if final.strip() else None)
    return value or None
