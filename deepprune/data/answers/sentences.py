r"""Words and sentences around an answer: what is doubted or denied, fillers before a value, where sentences begin."""

from __future__ import annotations

import collections
import re

from deepprune.data.answers.latex import CANDIDATES

WEAK_CHARS = 2000  # weak statements count only so near the end
NO_ANSWER = re.compile(
    r"[^\w]{0,6}(?:I[ ](?:really[ ])?(?:do[ ]not|don['’]t|cannot|can['’]t|can[ ]not|am[ ]not|have[ ]no)\b"
    r"|unknown\b|none\b|neither\b|nothing\b|no[ ](?:answer|solution[ ]found|idea|option)\b"
    r"|not[ ](?:sure|known|enough|determinable|given|found|available|possible)\b"
    r"|un(?:sure|clear|certain|determined|decided)\b|impossible[ ]to\b|(?:cannot|can['’]t|can[ ]not)[ ]be\b"
    r"|insufficient\b|n/a\b|all[ ]of[ ]the\b|both[ ]of\b|yes[ ]?/[ ]?no\b|true[ ]?/[ ]?false\b|\?{1,3}\s*\Z)",
    re.IGNORECASE,
)
FILLER = re.compile(
    r"(?:,[ ])?(?:donc|also|daher|folglich|somit|entonces|portanto|quindi|dunque|следовательно"
    r"|therefore|thus|hence|then|so|clearly|definitely|certainly|probably|likely|most likely|indeed|simply|just"
    r"|exactly|precisely|equal to|given by|approximately|about|roughly|actually|still|now|also|again|surely"
    r"|obviously|apparently|in fact|of course|finally|I think|I believe|I'd say|I would say|I guess|I choose"
    r"|I'm going with|that|it is|it's|it must be|it should be|must be|should be|to be|is|are"
    r"|(?:the )?(?:correct |right |best )?(?:option|choice|letter|answer|number|value|integer)s?"
    r"|following|as follows|with|by)(?![A-Za-z'’])[\s,:：]{0,6}",
    re.IGNORECASE,
)
YES_NO = re.compile(
    r"[^\w\n]{0,8}(yes|no|true|false)(?![A-Za-z/-])"
    r"(?![ ](?:one|doubt|matter|such|answer|longer|need|problem|(?:and|or)[ ](?:yes|no|true|false))\b)",
    re.IGNORECASE,
)
GAP = r"[ \t*_`\"'’”)}\]$]{0,8}"
VERB = (
    r"(?P<verb>[:：]|={1,3}>|[-–—]{1,2}>|→|⇒|=(?!=)|(?:is|are|was|equals|remains|becomes)(?![A-Za-z'’])"
    r"|(?:should|must|has[ ]to|will|can[ ]only|seems[ ]to|appears[ ]to|turns[ ]out[ ]to)[ ]"
    r"(?:therefore[ ]|then[ ]|thus[ ]|indeed[ ]|still[ ])?be(?![A-Za-z])"
    r"|(?:comes|works)[ ]out[ ](?:to[ ]be|to|as)|(?:has[ ]got|would[ ]have|will[ ]have)[ ]to[ ]be|can[ ]be[ ]only"
    r"|(?P<weak>(?:would|could|might|may|can|ought[ ]to)[ ]"
    r"(?:therefore[ ]|then[ ]|thus[ ]|probably[ ]|also[ ])?be(?![A-Za-z])))"
)
DOUBT = re.compile(
    r"\b(?:if|maybe|perhaps|possibly|might|could|would|suppose|assume|assuming|whether|unless|guess|initially"
    r"|at first|first thought|doubt|wrong|incorrect|instead of|rather than|(?:some|someone|one) (?:may|might)"
    r"|when|had|where|similar|source|online|another|check(?:ing)?|hmm|until)\b",
    re.IGNORECASE,
)
DENIAL = re.compile(
    r"\b(?:not|never|no longer|isn't|don't think|can't be|cannot be)\b[^,;:]{0,30}\Z"
    r"|\bno (?:correct |right |final )?\Z",
    re.IGNORECASE,
)
NEGATION = re.compile(r"(?:not|n't|never|neither|nor|no longer)\b", re.IGNORECASE)
SENTENCE = re.compile(r"[.!?。！？](?=[\s*)\"'”]|\Z)|\n|[。！？]")
_MARKS = re.compile(r"(?:[\s*_:：=~`\"“}]|</?(?:b|strong|i|em|u|code)>|\\[,;:! ]|\\q?quad(?![a-z])){0,40}")


def lower_case(text: str) -> str:
    """Small letters, as many characters as before."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def places(lower: str, keywords: tuple[str, ...]) -> list[int]:
    """Where the last CANDIDATES of the keywords begin (a literal search for each: fast on any text)."""
    starts: list[int] = []
    for word in keywords:
        if word in lower:
            starts += (m.start() for m in collections.deque(re.finditer(re.escape(word), lower), CANDIDATES))
    return sorted(starts)[-CANDIDATES:]


def sentence_before(text: str, pos: int) -> str:
    """What stands before pos in its sentence (at most 120 characters of it)."""
    before = text[max(0, pos - 120) : pos]
    ends = [m.end() for m in SENTENCE.finditer(before)]
    return before[ends[-1] :] if ends else before


def value_start(text: str, start: int, stop: int) -> int:
    """Where the value begins: after marks and words such as "therefore" (a fixed number of them)."""
    start = _MARKS.match(text, start, stop).end()
    for _ in range(4):
        filler = FILLER.match(text, start, stop)
        if filler is None:
            break
        start = _MARKS.match(text, filler.end(), stop).end()
    return start


def last_lines(text: str) -> list[str]:
    """The last two lines that are not empty."""
    return [line for line in text[-3000:].splitlines() if line.strip()][-2:]


def cut_off(text: str) -> bool:
    """Whether the text ends in the middle of a sentence."""
    tail = text[-200:].rstrip()
    last = last_sentence(text)
    if re.fullmatch(r"[\s\d.,]+", text[last:]) and text[last - 1 : last] != "\n":
        return False  # "... is C. 12"
    if last_lines(tail)[-1:] and last_lines(tail)[-1].startswith(("    ", "\t")):
        return True  # indented thinking
    return bool(re.search(r"[\w,;:=+\-–/\\(\[{&<^]\Z", tail))


def last_sentence(text: str) -> int:
    """Where the last sentence of the text begins (within its last 1,000 characters)."""
    tail = text[-1000:].rstrip()
    ends = [m.end() for m in SENTENCE.finditer(tail) if tail[m.end() :].strip(" *_)\"'”$\\]")]
    return len(text) - len(text[-1000:]) + (ends[-1] if ends else 0)
