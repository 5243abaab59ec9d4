r"""Cues: words and marks after which a trace states its answer ("the answer is", "####", "==>"); how sure they are."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from typing import NamedTuple

from deepprune.data.answers.latex import CANDIDATES
from deepprune.data.answers.sentences import DENIAL, DOUBT, GAP, VERB, lower_case, places, sentence_before

_ANSWER = re.compile(
    rf"(?:answers?|solution|ans\.?)(?:[ ]?(?:choice|option|letter))?{GAP}"
    r"(?:[ ](?:to|for|of|in|from|among|here|under|based|as|by|at|on|with|I|we|that)(?![A-Za-z])[^.?!\n:：=]{0,80}?[ ]"
    rf"|(?:\([^()\n]{{0,60}}\))?)[ \t]{{0,3}}{GAP}(?:,[ ][a-z]{{2,12}},[ ])?{VERB}",
    re.IGNORECASE,
)
_RESULT = re.compile(
    rf"(?:result|conclusion|decision|verdict|final[ ]value|output){GAP}[ \t]{{0,3}}{VERB}", re.IGNORECASE
)
_DASH = re.compile(rf"answer{GAP}[-–—](?=[ ])", re.IGNORECASE)
_LINE = re.compile(
    r"(?:answer|ans\.?)(?=[ ](?:\(?[A-J]\)?|[-−]?\d[\d,./]{0,30})[.*]{0,3}[ ]{0,3}(?:\n|\Z))", re.IGNORECASE
)  # "ANSWER (C)", "Answer 42"
_FOREIGN_WORDS = (  # "answer", "result", "correct option"
    "antwort lösung ergebnis réponse respuesta resposta risposta răspuns ответ відповідь отговор odpowiedź "
    "odpověď odpoveď odgovor antwoord svaret svar vastaus válasz cevap yanıt jawaban απάντηση תשובה الإجابة الاجابة "
    "الجواب جواب پاسخ उत्तर जवाब उत्तर คำตอบ 答え 答案 解答 正解 答： 答: 정답 답"
).split() + ["đáp án", "trả lời", "opción correcta", "opcion correcta", "opção correta", "opzione corretta",
    "alternativa correta", "option correcte", "richtig ist", "правильный вариант", "верный вариант"]  # fmt: skip
_FOREIGN = re.compile(
    rf"(?:{'|'.join(sorted(_FOREIGN_WORDS, key=len, reverse=True))})(?:[ ][^\W\d_]{{1,14}}){{0,3}}?"
    rf"{GAP}[ \t]{{0,3}}(?P<verb>】|(?<=答)[:：]|(?<=richtig ist)|[:：=]"
    r"|(?:ist|lautet|est|es|is|é|è|este|on|to|je|jest|är|er|là|adalah|ialah|είναι|هي|هو|היא|है|คือ)(?=[ :*(])|—|-"
    r"|(?:应该|应当|应|就)?[是为為選选]|は|은|는)[:：]?"
    r"(?:[ ](?:(?:la|el|die|der|a|o)[ ])?(?:opci[oó]n|option|opção|letra|lettre|lettera|alternativa|opzione|вариант"
    r"|буква|选项|選択肢|선택지|buchstabe)(?=[ ])|[ ](?:la|el|a|o|die)(?=[ ][*(]{0,3}[A-J]\b))?",
    re.IGNORECASE,
)
_KEYWORDS = (
    "answer", "ans:", "ans.", "ans =", "ans is", "solution", "result", "conclusion", "decision", "verdict",
    "final value", "output", *_FOREIGN_WORDS,
)  # fmt: skip
_TITLE = re.compile(r"answers?[ \t*_:：}]{0,8}(?:\n(?:-{3,40}|={3,40})[ \t]{0,3})?(?:\n[ \t]{0,8}){1,4}", re.IGNORECASE)
_HEADING = re.compile(
    r"[\s#*_>$\\(\[{.\d:-]{0,20}(?:\\[a-z]{2,12}[{ ]?){0,3}[\s*_]{0,4}(?:(?:so|thus|therefore|hence),?[ ])?"
    r"(?:my[ ]|our[ ]|the[ ])?(?:final[ ]|correct[ ]|best[ ]|right[ ]|short[ ]|boxed[ ])?(?:numerical[ ])?",
    re.IGNORECASE,
)
_BEGINS_LINE = re.compile(
    r"(?:[#*_>$\\(\[{\s.\d-]|text(?:bf)?|math(?:bf|rm)|boxed){0,16}(?:(?:my|the|our) )?"
    r"(?:final |correct |right |best )?",
    re.IGNORECASE,
)
_HASHES = re.compile(r"####(?<!#####)(?!#)[ \t]{0,5}")
_ARROW = re.compile(
    r"(?:={1,3}>|-{1,3}>|→|∴|⇒|⟹|\\implies|\\Rightarrow|(?:QED|Q\.E\.D\.)[ \t]{0,3}(?:[:=→-]{1,3}>?|[■□])?)[ \t]{0,5}"
)


def heading(text: str, pos: int) -> bool:
    """Whether only marks and words such as "the final" stand before pos in its line."""
    line = text[max(0, text.rfind("\n", max(0, pos - 60), pos) + 1, pos - 60) : pos]
    return _HEADING.fullmatch(line) is not None


def begins_line(text: str, pos: int) -> bool:
    """Whether the cue at pos begins its line, but for marks and "final": not in indented thinking, not "Thus ..."."""
    line = text[max(0, text.rfind("\n", max(0, pos - 40), pos) + 1, pos - 40) : pos]
    return not line.startswith(("    ", "\t")) and _BEGINS_LINE.fullmatch(line) is not None


def is_whole_line(text: str, pos: int, start: int) -> bool:
    """Whether "The correct answer is X" is all of its line."""
    named = re.search(r"\b(?:correct|final|right|best) \Z", text[max(0, pos - 10) : pos], re.IGNORECASE)
    return bool(named) and re.match(r"[^\n]{1,80}(?:\n|\Z)", text[start : start + 90]) is not None


class Cue(NamedTuple):
    """Words or marks that an answer follows."""

    tier: int  # 1 explicit, 2 and 3 weaker
    pos: int
    start: int  # where the value begins
    verb: str  # how it ends: ":", "is", "####", "==>" ...


def cues(text: str, answer_type: str) -> Iterator[Cue]:
    """Every cue of a text: words, hashes, arrows."""
    lower = lower_case(text)
    for pos in places(lower, _KEYWORDS):
        cue = _cue_at(text, lower, pos, answer_type)
        if cue:
            yield cue
    for m in collections.deque(_HASHES.finditer(text), CANDIDATES):
        yield Cue(1, m.start(), m.end(), "####")
    end = len(text.rstrip())
    for m in collections.deque(_ARROW.finditer(text), CANDIDATES):
        proved = m[0].startswith("Q") or text[max(0, m.start() - 12) : m.start()].rstrip().endswith(("QED", "Q.E.D."))
        if answer_type == "math" and not proved and 0 <= text.find("\n", m.end()) < end:
            continue  # "=> x = 2" is a step of a derivation, unless it is the last line
        if (proved or heading(text, m.start())) and (answer_type == "choice" or ">" in m[0]):
            yield Cue(1, m.start(), m.end(), "==>")


def _cue_at(text: str, lower: str, pos: int, answer_type: str) -> Cue | None:
    """The cue that begins with the keyword at pos; None if it is none."""
    word = next((w for w in ("answer", "ans", "solution", "conclusion") if lower.startswith(w, pos)), "")
    if word in ("ans", "") and lower[pos - 1 : pos].isalpha() and lower[pos] < "\u0590":
        return None  # inside a word, in scripts with blanks between words: "ansvar"
    is_heading = heading(text, pos)
    title = _TITLE.match(text, pos, pos + 80) if word == "answer" and is_heading else None
    if title:
        return Cue(1, pos, title.end(), ":")
    kind = _ANSWER if word in ("answer", "ans", "solution") else _RESULT
    cue = kind.match(text, pos, pos + 160) or _FOREIGN.match(text, pos, pos + 60)
    if cue is None:
        label = _DASH.match(text, pos) or _LINE.match(text, pos)
        return Cue(1, pos, label.end(), ":") if label and is_heading else None
    verb = cue["verb"].lower()
    if text[cue.end() : cue.end() + 4].lstrip(" *_").startswith((":", "：")):
        verb = ":"  # "the answer is: the Nile"
    before = sentence_before(text, pos)
    if DENIAL.search(before):
        return None
    working = word == "solution" and not lower[max(0, pos - 6) : pos].endswith("final ")
    if working and verb in (":", "：", "=", "-", "–", "—"):
        return None  # "Solution:" heads the working
    tier = 1 if kind is _ANSWER or cue.re is _FOREIGN else 3
    if word == "conclusion" and is_heading and verb in (":", "："):
        tier = 1 if answer_type == "choice" else 2
    if tier == 1 and (working or (verb == "=" and not is_heading)):
        tier = 2
    doubted = cue.groupdict().get("weak") or DOUBT.search(before)
    if tier == 3:
        unnamed = verb in (":", "：") and not is_heading and not before.rstrip().lower().endswith("final")
        if unnamed or (doubted and answer_type != "text"):
            return None  # "the cube root of the result:"
    elif doubted or verb == "was":
        tier = 3
    return Cue(tier, pos, cue.end(), verb)
