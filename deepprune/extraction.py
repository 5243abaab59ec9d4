r"""Final answers: finding the one that a trace states, as a careful reader would.

What comes after the thinking counts before what stands in it, and the last explicit statement counts before
earlier ones. Explicit are a box, <answer> tags, a JSON field, "Answer: X", "#### X", "==> X", "the answer is
X", and for multiple choice a line with the letter alone. Weaker ones ("the result is", "we choose D") count
where nothing explicit stands; what is doubted or asked ("if ...", "... would be", "is it A?") is weak too.
Nothing stated, two letters for one, or thinking that was cut off give None: *unknown*.

Time is linear in the text: keywords are found in one scan, and at most CANDIDATES places, from the end
backwards, are read, each within a window of fixed size. math-verify's own extraction is not used for this:
its patterns backtrack over the whole text, take the 2 of "2x + 3", and know nothing of thinking.
"""

from __future__ import annotations

import bisect
import collections
import json
import re
from collections.abc import Iterator

MAX_ANSWER_CHARS = 500  # longer "answers" are runaway text, not answers
WEAK_CHARS = 2000  # weak statements count only so near the end
CANDIDATES = 1000  # places of one kind that are read, the last ones first
NOTHING = ""  # an explicit statement that gives no answer ("Answer: I don't know")

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
    """The text without blanks and end-of-text tokens at its end."""
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


# ---------------------------------------------------------------- LaTeX: boxes, fonts

_BOX = re.compile(r"(\\{1,2}(?:boxed|fbox|framebox)|\x08oxed|\\bbox(?:\[[^\[\]\n]{0,80}\])?)(?![A-Za-z])")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_FONTS = r"(?:text|textbf|textit|textrm|textnormal|texttt|textsf|textsc|textup|mathrm|mathbf|mathit|mathsf|mathbb|mathcal|mathtt|mathscr|boldsymbol|pmb|bm|mbox|operatorname|underline|emph|bfseries|bf|rm|it|sf|tt|sc|large|Large|LARGE|huge|Huge|displaystyle)"
_FONT = re.compile(rf"\\{_FONTS}(?![A-Za-z])\*?[ \t]{{0,3}}")
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
    for m in collections.deque(_BOX.finditer(text), CANDIDATES):
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
        inner = _BOX.match(content)
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


def _is_placeholder(content: str) -> bool:
    plain = _FONT.sub("", re.sub(r"\\[hv]?phantom\{[^{}]{0,80}\}", "", content)).replace("{", "").replace("}", "")
    return len(plain) < 80 and bool(_PLACEHOLDER.match(plain))


_JOIN = re.compile(
    r"(?:[\s$.&]|\\[)\]]|\\\\|\\q?quad|\\[,;:! ])*(?:[,;&]|and\b|or\b|\n\s{0,4}[-*•]\s|\\text\{[\s,]?(?:and|or)\s?\})(?:[\s$&]|\\[(\[]|\\q?quad|\\[,;:! ]|and\b|or\b|\\text\{\s?(?:and|or)\s?\})*"
    r"(?:[A-Za-z](?:_\{?\w\}?)?\s?=\s?)?"
)


def _chains(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """(start, end, contents) of the boxes, last first; boxes that only a comma, "and" or "or" parts belong together."""
    boxes = [b for b in _boxes(text) if not _is_placeholder(_unwrap(b[2]))]
    while boxes:
        start, end, content = boxes.pop()
        contents = [_unwrap(content)]
        while boxes and start - boxes[-1][1] < 40 and _JOIN.fullmatch(text, boxes[-1][1], start):
            start, _, content = boxes.pop()
            contents.insert(0, _unwrap(content))
        yield start, end, list(dict.fromkeys(contents))


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete, filled \boxed{...} (or \fbox{...}), braces balanced; None if there is none."""
    for _, _, contents in _chains(text):
        return contents[-1] or None
    return None


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
_NO_ANSWER = re.compile(
    r"[^\w]{0,6}(?:I[ ](?:really[ ])?(?:do[ ]not|don['’]t|cannot|can['’]t|can[ ]not|am[ ]not|have[ ]no)\b|unknown\b|none\b|neither\b|nothing\b|no[ ](?:answer|solution[ ]found|idea|option)\b|not[ ](?:sure|known|enough|determinable|given|found|available|possible)\b|un(?:sure|clear|certain|determined|decided)\b|impossible[ ]to\b|cannot[ ]be\b|can['’]t[ ]be\b|can[ ]not[ ]be\b|insufficient\b|n/a\b|undetermined\b|all[ ]of[ ]the\b|both[ ]of\b|\?{1,3}\s*\Z)",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?:therefore|thus|hence|then|so|clearly|definitely|certainly|probably|likely|most likely|indeed|simply|just|exactly|precisely|equal to|given by|approximately|about|roughly|actually|still|now|also|again|surely|obviously|apparently|in fact|of course|finally|"
    r"I think|I believe|I'd say|I would say|I guess|I choose|I'm going with|that|it is|it's|it must be|it should be|must be|should be|to be|is|are|"
    r"(?:the )?(?:correct |right |best )?(?:option|choice|letter|answer|number|value|integer)s?|following|as follows|with|by)(?![A-Za-z'’])[\s,:：]{0,6}",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?。！？](?=[\s*)\"'”]|\Z)|\n|[。！？]")


def _lower(text: str) -> str:
    """Small letters, as many characters as before."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _places(lower: str, words: tuple[str, ...]) -> list[int]:
    """Where the last CANDIDATES of the words begin (a literal search for each: fast on any text)."""
    found: list[int] = []
    for word in words:
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
    marks = r"(?:[#*_>$\\(\[{\s.\d-]|text(?:bf)?|math(?:bf|rm)|boxed){0,16}(?:(?:my|the|our) )?(?:final |correct )?"
    return not line.startswith(("    ", "\t")) and bool(re.fullmatch(marks, line, re.IGNORECASE))


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
            dash = re.compile(rf"answer{_GAP}[-–—](?=[ ])", re.IGNORECASE).match(text, pos)
            if dash and _heading(text, pos):
                yield 1, pos, dash.end(), ":"
            continue
        groups = cue.groupdict()
        verb = groups["verb"].lower()
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
    for m in collections.deque(_ARROW.finditer(text), CANDIDATES):
        qed = m[0].startswith("Q")
        own_line = (
            qed
            or _heading(text, m.start())
            or text[max(0, m.start() - 12) : m.start()].rstrip().endswith(("QED", "Q.E.D."))
        )
        if own_line and (answer_type == "choice" or ">" in m[0]):
            yield (1 if own_line else 3), m.start(), m.end(), "==>"


_MARKS = re.compile(r"(?:[\s*_:：=~`\"“}]|</?(?:b|strong|i|em|u|code)>|\\[,;:! ]|\\q?quad(?![a-z])){0,40}")


def _skip(text: str, start: int, stop: int) -> int:
    """Where the value begins: after marks and words such as "therefore" (a fixed number of them)."""
    start = _MARKS.match(text, start, stop).end()
    for _ in range(4):
        filler = _FILLER.match(text, start, stop)
        if filler is None:
            break
        start = _MARKS.match(text, filler.end(), stop).end()
    return start


# ---------------------------------------------------------------- reading a value: letters

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
    text = re.sub(r"</?(?:b|strong|i|em|u|code)>|\\(?:text)?color\{\w{1,20}\}", "", _BOX.sub("", text)).translate(
        _FULL_WIDTH
    )
    text = re.sub(r"(?<!\w)['‘<]([A-Ja-j])['’>](?!\w)", r"(\1)", text)
    text = re.sub(rf"\\{_FONTS}(?![A-Za-z])\*?[ \t]{{0,3}}\{{|\\[(\[]|\$\$?|\*\*|__|`|\[|\{{|\\left\b", "(", text)
    text = re.sub(r"\\[)\]]|\]|\}|\\right\b", ")", text)
    text = re.sub(r"\\q?quad(?![a-z])|\\[,;:! ]|~|\\\\", " ", text)
    return _FONT.sub("(", text).replace("（", "(").replace("）", ")").replace("：", ":")


def _letter(text: str, colon: bool = False, whole: bool = False) -> str | None:
    """The letter that text begins with: None if none does, NOTHING if it names two or says that there is none.

    colon: text stands after "answer:"; whole: text is all that was stated (a box); both allow a small letter.
    """
    if _NO_ANSWER.match(text):
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


_PICK = re.compile(
    r"\b(?:choos(?:e|ing)|chose|select(?:ing|ed)?|pick(?:ing|ed)?|opt for|(?:go|going|went|stick|sticking|proceed) with|settled? on|leaves(?: us with)?(?: only)?|left with(?: only)?|corresponds? to|match(?:es)?|point(?:s|ing) to|confirms|supports|lean(?:ing)? towards?|(?:must|has to|have to) be|(?:so|thus|therefore|hence),? it(?:'s| is)|"
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
    r"[\s*_#>]{0,8}(?:(?:so|thus|therefore|hence|final|final choice|final selection|my choice|solution|choice|option|selected option|result|verdict|correct|response|label|pick)[\s*_]{0,4}[:,：]|(?:so|thus|hence|therefore))[\s*_(\[$]{0,8}([A-J])[\s*_)\]$.]{0,8}",
    re.IGNORECASE,
)
_LONE = re.compile(
    rf"\n([ \t]{{0,40}})(?:[*_$(\[{{\"'`#>.\\-]|\\{_FONTS}(?![A-Za-z]) ?){{0,12}}([A-Ja-j])([ \t*_$)\]}}\"'`.\\:-]{{0,12}})(?=\n|\Z)"
)
_OPTION = re.compile(r"[ ]{0,3}[*_(\-]{0,3}([A-J])[*_)]{0,3}[.:)][*_]{0,2}\s{1,4}\S")


def _last_lines(text: str) -> list[str]:
    """The last two lines that are not empty."""
    return [line for line in text[-3000:].splitlines() if line.strip()][-2:]


def _letters_alone(text: str) -> Iterator[tuple[int, str]]:
    """(position, letter) of the lines that are a letter, or at the end of the text an option as a whole."""
    end = len(text.rstrip())
    text = "\n" + text
    previous: tuple[int, str] = (-1, "")
    for m in collections.deque(_LONE.finditer(text), CANDIDATES):
        last = m.end() > end
        listed = (
            previous[0] >= 0
            and previous[1] != m[2]
            and text[previous[0] : previous[0] + 40].lstrip()[:1] == m[0].lstrip()[:1]
            and not text[previous[0] : m.start()].strip()
        )
        previous = (m.end(), m[2])
        line = m[0].strip()
        wrapped = line != m[2] and not line.startswith(("-", "* "))
        if last or not (len(m[1]) > 3 or listed or (m[2].islower() and not wrapped)):
            yield m.start(), m[2].upper()
    lines = _last_lines(text)
    if lines:
        option = _OPTION.match(lines[-1])
        before = _OPTION.match(lines[0].strip()) if len(lines) > 1 else None
        said = _LAST.fullmatch(lines[-1]) or _LAST.fullmatch(text[_last_sentence(text) :].rstrip())
        if said and (said[1].isupper() or f"({said[1]})" in said[0]):
            yield max(0, end - len(lines[-1].strip())), said[1]
        blank_before = text[: end + 1 - len(lines[-1].strip())].rstrip(" \t").endswith("\n\n")
        apart = len(lines) == 1 or blank_before
        if option and apart and (before is None or before[1] == option[1]):
            yield max(0, end - len(lines[-1].strip())), option[1]


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
    return _letter(text[_skip(text, start, start + 120) : start + 160]), bool(verb and not verb["weak"])


def _letters_named(text: str) -> Iterator[tuple[int, int, str]]:
    """(tier 1, position, letter) of "the correct option is X"."""
    lower = _lower(text)
    for pos in _places(lower, _NOUNS):
        if not (
            lower[max(0, pos - 8) : pos].endswith(("correct ", "right ")) or lower.startswith(("correct", "right"), pos)
        ):
            continue
        before = _sentence_before(text, pos)
        word = re.compile(r"(?:correct |right )?[a-z]+").match(lower, pos)
        letter, said = _letter_after(text, word.end(), noun=True)
        if letter is not None and said and not _DOUBT.search(before) and not _DENIAL.search(before):
            yield 1, pos, letter


def _letters_chosen(text: str) -> Iterator[tuple[int, int, str]]:
    """(tier 2, position, letter) of weaker words near the end: "we choose X", "X is correct"."""
    first = _option_first(text)
    if first:
        yield 2, 0, first
    offset = max(0, len(text) - WEAK_CHARS)
    for m in collections.deque(_PICK.finditer(text, offset), CANDIDATES):
        if not _DENIAL.search(_sentence_before(text, m.start())):
            letter, _ = _letter_after(text, m.end(), bool(m["noun"]))
            if letter:
                yield 2, m.start(), letter
    for m in collections.deque(_IS_RIGHT.finditer(text, offset), CANDIDATES):
        if not _DOUBT.search(_sentence_before(text, m.start())) and not text[m.end() : m.end() + 40].split("\n")[
            0
        ].strip().endswith("?"):
            yield 2, m.start(), m[1]
    hence = re.search(r"[;,] (?:hence|so|thus|therefore),? \(?([A-J])\)?[\s.*]{0,6}\Z", text[-80:])
    if hence:
        yield 2, len(text) - 1, hence[1]
    for m in re.finditer(r"\bnone of the (?:options|choices|above|given|answers)", text[offset:], re.IGNORECASE):
        yield 2, offset + m.start(), NOTHING
    if not text.isascii():
        for m in collections.deque(re.finditer("选", text[offset:]), CANDIDATES):
            chosen = _CHOSEN_CHINESE.match(text, offset + m.start())
            if chosen:
                yield 2, offset + m.start(), chosen[1]
    for m in collections.deque(_ONLY.finditer(text, offset), CANDIDATES):
        yield 2, m.start(), m[1]


# ---------------------------------------------------------------- reading a value: mathematics

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
    r"\s{0,3}(?:mod|modulo|out of|in \d|times|plus|minus|divided|multiplied|steps?\s+(?:away|ahead))\b", re.IGNORECASE
)
_WHICH_IS = re.compile(
    r"[\s*_$)]{0,4},?\s{0,2}(?:which|that)\s(?:is|equals|simplifies to|evaluates to|reduces to|gives|can be simplified to|is equal to|comes to)(?: just| simply)?\s(?=[-−$\\\d(])",
    re.IGNORECASE,
)
_DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))


def _delimited(text: str) -> tuple[str, int] | None:
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


def _plain_math(text: str) -> tuple[str, int] | None:
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
    value = text[:last].strip().rstrip("-+*/^_=<>|~([{ :'")
    return (value, last) if re.search(r"[\dA-Za-z∞π√½⅓⅔¼¾]", value) else None


def _math(text: str, verb: str, newline: bool = False) -> str | None:
    """The mathematical value that text (what follows a cue) begins with; None if none, NOTHING if it says so."""
    if _BOX.match(text) or _BOX.match(text.lstrip("$\\([ \n")):
        return None  # boxes are statements of their own
    word = re.match(r"[*_]{0,2}([A-Za-z]+)(?![A-Za-z])", text)
    if (
        word
        and word[1].lower() in _NUMBER_WORDS
        and not re.match(r"[ -](?:hundred|thousand|of|more|less|solutions?|possib)", text[word.end() :])
    ):
        return _NUMBER_WORDS[word[1].lower()]
    if _NO_ANSWER.match(text):
        return NOTHING
    values, pos = [], 0
    for _ in range(12):
        formula = _delimited(text[pos:])
        if formula is None:
            break
        if _BOX.search(formula[0]):
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
        plain = _plain_math(text)
        if plain is None:
            return None
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
    if verb == "####" and not re.match(r"[\s.*$]{0,4}(?:\n|\Z)|,\s|[ ][a-z]+[ ]?[a-z]*[.]?(?:\n|\Z)", rest):
        return None  # "#### 1. A heading"
    value = re.sub(r"\A\([A-E]\)\s+(?=\S)", "", value)
    simpler = _WHICH_IS.match(rest)
    if simpler:
        start = len(text) - len(text[pos:]) if values else plain[1]
        return _math(text[start + simpler.end() :], verb) or value
    if re.fullmatch(r"\d{1,2}", value) and re.match(r"[.)]\s{1,3}[A-Za-z*]", rest) and newline:
        return None  # the first item of a list
    if (
        not re.search(r"\d|\\(?:infty|pi|emptyset|varnothing|sqrt)|[∞π√∅½⅓⅔¼¾]", value)
        and len(re.sub(r"[^A-Za-z]", "", _FONT.sub("", value))) < 2
    ):
        return None  # a lone variable is talked about, not stated
    return value if value and not _is_placeholder(value) else None


# ---------------------------------------------------------------- reading a value: text

_YES_NO = re.compile(
    r"[^\w\n]{0,8}(yes|no|true|false)(?![A-Za-z-])(?![ ](?:one|doubt|matter|such|answer|longer|need|problem|(?:and|or)[ ](?:yes|no|true|false))\b)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"\n|[.!?](?=\s|[*\"'”)]|\Z)|[。！？]|[,;]\s(?:because|since|as|which|so|but|for|given|due|while|and not|not)\b|\s(?:because|since|due to)\s|\s[-–—]\s"
)


def _text(text: str, verb: str) -> str | None:
    """The words that text (what follows a cue) begins with, to the end of the clause."""
    if _NO_ANSWER.match(text) and not _YES_NO.match(text):
        return NOTHING
    word = _YES_NO.match(text)
    if word:
        return None if text[word.end() : word.end() + 1] == "?" else word[1]
    if _BOX.match(text.lstrip("$\\([ \n")):
        return None
    clause = _CLAUSE.search(text)
    value = text[: clause.start()] if clause else text
    if clause and clause[0] == "?":
        return None
    if verb not in (":", "：", "####", "==>") and not re.match(r"[\"'“*$\\]|[A-Z\d]|[^\x00-\x7f]", value):
        return None  # "the answer is in the question"
    value = _bare(value)
    return value if value and len(value) <= 200 and not _is_placeholder(value) else None


def _bare(value: str) -> str:
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


# ---------------------------------------------------------------- statements of all kinds


def _whole(content: str, answer_type: str) -> str | None:
    """The answer in what a box, a tag or a JSON field holds as a whole."""
    content = _unwrap(content)
    if not content or len(content) > MAX_ANSWER_CHARS or _is_placeholder(content):
        return None
    if answer_type == "math":  # the option's letter before its value
        content = re.sub(r"\A(?:\\text(?:bf)?\{)?\s?\([A-E]\)\s?\}?(?:\s|\\[ ,;]|~)+(?=\S)", "", content)
    if answer_type == "choice":
        plain = content
        for _ in range(3):
            filler = _FILLER.match(_plain(plain).lstrip("( "))
            plain = _plain(plain).lstrip("( ")[filler.end() :] if filler else plain
        return _letter(plain, whole=True)
    if re.fullmatch(
        r"\W*(?:\\text\{)?\W*(?:I don['’]t know|unknown|undefined answer|N/A|none|null)\W*", content, re.IGNORECASE
    ):
        return NOTHING if answer_type == "math" or content.lower() in ("null", "none", "n/a", "unknown") else content
    return _bare(content) if answer_type == "text" else _number_spelling(content)


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


def _statements(text: str, answer_type: str) -> list[tuple[int, int, bool, object]]:
    """(tier, position, whether it stands by itself, value or how to read it) of all candidates."""
    found: list[tuple[int, int, bool, object]] = []
    inside: list[tuple[int, int]] = []  # boxes and tags: what stands in them is no statement of its own
    for start, end, content in _tags(text):
        boxed = last_boxed(content) if len(content) < 4 * MAX_ANSWER_CHARS else None
        found.append((1, end - 1, True, _whole(boxed or content, answer_type)))
        inside.append((start, end))
    for start, end, contents in _chains(text):
        inside.append((start, end))
        if answer_type == "choice":
            letters = {x for x in (_whole(c, "choice") for c in contents) if x is not None}
            value = letters.pop() if len(letters) == 1 else NOTHING if letters else None
        else:
            values = [v for v in (_whole(c, answer_type) for c in contents) if v is not None]
            value = ", ".join(values) if values else None
        found.append((1, end - 1, True, value))
    for m in collections.deque(_JSON.finditer(text), CANDIDATES):
        items = _JSON_ITEM.findall(m[1]) if m[1][0] == "[" else [m[1]]
        values = {_whole(_json_text(item), answer_type): None for item in items if item.lower() not in ("null", "none")}
        values.pop(None, None)
        if answer_type == "choice" and len(values) > 1:
            found.append((1, m.start(1), True, NOTHING))
        elif values:
            found.append((1, m.start(1), True, ", ".join(values)))
    inside.sort()
    starts = [i[0] for i in inside]

    def covered(pos: int) -> bool:
        k = bisect.bisect_right(starts, pos) - 1
        return k >= 0 and pos < inside[k][1]

    for tier, pos, start, verb in _cues(text, answer_type):
        if not covered(pos):
            found.append((tier, pos, _alone(text, pos) and verb in (":", "：", "####", "==>"), (start, verb)))
    if answer_type == "choice":
        found += [(1, pos, True, letter) for pos, letter in _letters_alone(text) if not covered(pos)]
        found += [(tier, pos, False, letter) for tier, pos, letter in _letters_named(text) if not covered(pos)]
    return found


def _cue_value(text: str, start: int, verb: str, answer_type: str) -> str | None:
    """The value after a cue that ends at start."""
    if verb == "####" and not re.match(r"[^\n]{1,100}(?:\n|\Z)", text[start : start + 110]):
        return None
    if verb == "####" and answer_type == "text" and "\n" in text[start : start + 300].strip():
        return None  # a heading
    if _NEGATION.match(text[start : start + 12].lstrip(" *_")):
        return None
    begin = start if verb == "####" else _skip(text, start, start + 160)
    window = text[begin : begin + MAX_ANSWER_CHARS]
    if answer_type == "choice":
        head = text[start : start + 100].lstrip(" *_:：\n")
        if _NO_ANSWER.match(head):
            return NOTHING
        return _letter(window[:120], colon=verb in (":", "："))
    if _NO_ANSWER.match(text[start : start + 100].lstrip(" *_:：\n")) and not _YES_NO.match(
        text[start : start + 100].lstrip(" *_:：\n")
    ):
        return NOTHING
    value = _math(window, verb, "\n" in text[start:begin]) if answer_type == "math" else _text(window, verb)
    return value if not value or len(value) <= MAX_ANSWER_CHARS else None


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

    def best(candidates: list) -> str | None:
        for tier, pos, alone, value in sorted(candidates, key=lambda s: (s[0], -s[1])):
            if only_at_end and not (alone and pos >= last):
                continue
            if (
                only_at_end
                and not isinstance(value, tuple)
                and re.search(r"[A-Za-z]{2}", _TAG.sub("", text[pos + 1 :]))
            ):
                continue  # the sentence goes on after a box
            where = _skip(text, value[0], value[0] + 160) if isinstance(value, tuple) else pos
            if cut and not (alone and tier == 1) and (where < last or (tier == 3 and len(text) > 200)):
                continue
            value = _cue_value(text, *value, answer_type) if isinstance(value, tuple) else value
            if value is not None:
                return value
        return None

    value = best([s for s in found if s[0] == 1])
    if value is None:
        found = [s for s in found if s[0] > 1 and s[1] >= len(text) - WEAK_CHARS]
        if answer_type == "choice":
            found += [(tier, pos, False, letter) for tier, pos, letter in _letters_chosen(text)]
        value = best(found)
    return value


_OPENERS = frozenset(
    "a an the to in on at it this that these given let we so i if based first sure okay both while according there answer final".split()
)


def _only_value(text: str, answer_type: str, marked: bool) -> str | None:
    """The answer where the text is nothing but one. marked: it follows marked thinking."""
    text = text.strip()
    if not text or len(text) > 200 or "\n" in text:
        return None
    if answer_type == "text":
        word = _YES_NO.match(text)
        if word:
            return word[1]
        return (
            _bare(text)
            if marked
            and len(text.split()) <= 3
            and text.lower().split()[0] not in _OPENERS
            and len(text) > 1
            and not _is_placeholder(text)
            and not _NO_ANSWER.match(text)
            else None
        )
    if answer_type == "math":
        inner = text.strip("*_ ").rstrip(". ")
        value = _math(inner, ":")
        formula = _delimited(inner)
        plain = _plain_math(inner)
        if value and ((formula and formula[1] >= len(inner)) or (plain and plain[1] >= len(inner))):
            return value
    return None


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
        return (_whole(value, answer_type) or None) if value and len(value) <= MAX_ANSWER_CHARS else None
    thinking, final, ended = split_thinking(_without_end(text))
    value = _stated(final, answer_type)
    if value is None and (thinking or answer_type == "text"):
        value = _only_value(final, answer_type, bool(thinking))
    if value is None and thinking:
        value = _stated(thinking, answer_type, only_at_end=not ended, cut=_cut_off(final) if final.strip() else None)
    return value or None
