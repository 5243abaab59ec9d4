"""What a question asks, however it is written; and the options that a multiple-choice question lists."""

from __future__ import annotations

import re
import unicodedata

from deepprune.base.errors import UserError

_NO_MEANING = re.compile(
    r"\\(?:quad|qquad|left|right|bigg?[lrm]?|displaystyle|textstyle|limits)(?![a-z])|\\(?:begin|end)\{[^{}]*\}"
    r"|\\[,;:!>\s()\[\]\\]|[$~_]|-{3,}|={3,}|\*{3,}|#+"
    r"|(?<!\S)\*\*?(?=[^\W\d_]{2})|(?<=[^\W\d_]{2})\*\*?(?![^\s.,;:?!)])"  # emphasis: *not*, **Question**
    r"|(?<!\S)\*\*(?=\S)|(?<=\S)\*\*(?!\S)"
)
_ONE_SPELLING = [
    (r"\\(?:cdot|times|ast)(?![a-z])|[×·⋅∗]", " * "),
    (r"\\div(?![a-z])|÷", " / "),
    (r"[−–—‐‑]|--", "-"),
    (r"\\(?:leq?|leqslant)(?![a-z])|<=|⩽", " ≤ "),
    (r"\\(?:geq?|geqslant)(?![a-z])|>=|⩾", " ≥ "),
    (r"\\neq?(?![a-z])|!=", " ≠ "),
    (r"\\pm(?![a-z])", " ± "),
    (r"\\[dtc]frac(?![a-z])", r"\\frac"),
    (r"(?<=[\w)\]}])\*\*(?=[\w({\\-])", "^"),
    ("°", r"^\\circ "), ("²", "^2"), ("³", "^3"), ("π", r"\\pi "), ("√", r"\\sqrt "),
]  # fmt: skip
_ONE_SPELLING = [(re.compile(pattern), sign) for pattern, sign in _ONE_SPELLING]
_FONT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|sc)?|math(?:rm|bf|it|sf|tt)|mbox|emph|operatorname|boldsymbol)$")
_TOKEN = re.compile(r"(\s*)(\\[a-z]+|\d+(?:\.\d+)?|\.\d+|[^\W\d_]+|(?<=[a-z])'+(?=\()|\S)")
_SIGNS = frozenset("-*/^%!'")


def question_words(text: str) -> str:
    """Lower case, letters and digits only, single spaces."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def normalised_question(text: str) -> str:
    """Question text for comparisons: two texts that are equal here ask the same.

    Case, white space, punctuation, dollar signs, emphasis, LaTeX's spacing and fonts are left out. Operators, decimal
    points and brackets around several terms stay: 2 + 2 and 2 * 2 are two questions, 2^{n+1} and 2^n + 1 too.
    """
    text = _NO_MEANING.sub(" ", text.casefold().replace("{,}", ","))
    for pattern, spelling in _ONE_SPELLING:
        text = pattern.sub(spelling, text)
    spaced = [(bool(space), token) for space, token in _TOKEN.findall(text.strip())]
    tokens: list[str] = []
    # Of each open bracket: where it stands in tokens, whether it may stay, how many terms and signs it holds.
    brackets = [[0, "never", 0, 0]]
    for i, (_, token) in enumerate(spaced):
        if token in ("(", "[", "{"):
            before = spaced[i - 1][1] if i else ""
            braces = token == "{" or before == "^"
            brackets.append([len(tokens), "never" if _FONT.match(before) else "terms" if braces else "signs", 0, 0])
            tokens.append("")
        elif token in (")", "]", "}"):
            if len(brackets) > 1:
                place, stays, terms, signs = brackets.pop()
                if terms > 1 and (stays == "terms" or (stays == "signs" and signs)):
                    tokens[place] = "("
                    tokens.append(")")
                    terms, signs = 1, 0
                brackets[-1][2] += terms
                brackets[-1][3] += signs
        elif _counts(spaced, i):
            tokens.append(f"0{token}" if token[0] == "." else token.lstrip("\\"))
            brackets[-1][2] += 1
            brackets[-1][3] += _is_sign(token)
    while tokens and tokens[-1] in ("", "="):
        tokens.pop()
    return " ".join(filter(None, tokens)) or " ".join(text.split())


def question_without_numbers(text: str) -> str:
    """The normalised question with 0 for every number: variants of one problem are equal here."""
    return re.sub(r"\d+(?:[. ]+\d+)*", "0", normalised_question(text))


def _is_sign(token: str) -> bool:
    return token[0] in _SIGNS or (len(token) == 1 and unicodedata.category(token) == "Sm")


def _counts(spaced: list[tuple[bool, str]], i: int) -> bool:
    """Whether a token (of pairs: white space before it?, token) says what is asked; it is no bracket."""
    token = spaced[i][1]
    left, right = (spaced[j][1] if 0 <= j < len(spaced) else "." for j in (i - 1, i + 1))
    if token == "-":  # a minus, or a dash or hyphen in a sentence?
        function = i + 2 < len(spaced) and spaced[i + 2][1] == "("
        words = [len(left) > 1 and left.isalpha(), len(right) > 1 and right.isalpha() and not function]
        if not spaced[i][0] and i + 1 < len(spaced) and not spaced[i + 1][0]:  # well-known, x-axis, 3-digit
            return not (words[1] and left[-1].isalnum() or words[0] and right.isalpha() and not function)
        return not ((words[0] or left in ".,;:?!") and (words[1] or right in ".,;:?!"))
    if token[0] == "'":  # f'(x)
        return left.isalpha() and right == "(" and not spaced[i][0]
    if token == "!":  # 5!, n!, (n - 1)!; not "How many are there!"
        return not spaced[i][0] and (
            left[-1].isdigit() or left in (")", "]", "}") or (len(left) == 1 and left.isalpha())
        )
    if token[0] == "\\":
        return len(token) > 1 and not _FONT.match(token)
    return token[0] == "." and len(token) > 1 or token[-1].isalnum() or _is_sign(token)


_OPTION = r"(?<![^\W_])[(\[]?([A-Z])\s?[)\].:](?=[^\w.]|$)"
_OPTIONS = [re.compile(r"(?m)^[ \t>*$-]*(?:\\text\w*\{)?" + _OPTION), re.compile(_OPTION)]


def listed_options(question: str) -> dict[str, str]:
    """Letter -> text of the options that a question lists, A) ... B) ... and so on, at lines' starts or in one line.

    Of several such lists the longest counts, of two as long the last. {} if the question lists none.
    """
    for pattern in _OPTIONS:
        marks = list(pattern.finditer(question))
        lists = [_from(marks, i) for i in [i for i, m in enumerate(marks) if m.group(1) == "A"][-20:]]
        best = max(reversed(lists), key=len, default=[])
        if len(best) > 1:
            ends = [mark.start() for mark in best[1:]] + [len(question)]
            texts = [question[mark.end() : end].strip(" \t\r\n*,;") for mark, end in zip(best, ends, strict=True)]
            if all(texts):  # else the letters are places or points in sentences
                return {mark.group(1): text for mark, text in zip(best, texts, strict=True)}
    return {}


def _from(marks: list[re.Match], start: int) -> list[re.Match]:
    """The marks A, B, C, ... from the one at `start` on; others in between (A. Smith) are passed over."""
    run = [marks[start]]
    for mark in marks[start + 1 :]:
        if ord(mark.group(1)) == ord(run[-1].group(1)) + 1:
            run.append(mark)
    return run


def choice_letter(answer: str, question: str) -> str | None:
    """The option's letter that an answer names: C, (c), C., "C) Paris", or the option's own text if one option has it.

    None if the question lists options and the answer is none of them, or the answer names no letter.
    """
    options = listed_options(question)
    plain = re.sub(r"\\boxed\{(.*)\}|\\text\{(.*)\}", r"\1\2", answer.strip().strip("$").strip())
    letter = re.fullmatch(r"[*(\[\s]*(?:option\s+)?([A-Za-z])[*)\].:\s]*", plain, re.IGNORECASE)
    if letter:
        name = letter.group(1).upper()
        return name if not options or name in options else None
    texts = {name: normalised_question(text) for name, text in options.items()}
    same = [name for name, text in options.items() if text == plain]  # mV is not MV where both are options
    same = same or [name for name, text in texts.items() if text == normalised_question(plain)]
    if not same:  # "C) Paris"
        marked = re.match(r"[*(\[\s]*([A-Za-z])\s?[)\].:][*\s]+(?=\S)", plain)
        name = marked.group(1).upper() if marked else None
        if name and (not options or texts.get(name) == normalised_question(plain[marked.end() :])):
            same = [name]
    return same[0] if len(same) == 1 else None


def likely_type(gold: str, question: str) -> str:
    """The answer type where none is stated: choice (a letter of the options), text (yes, no, true, false), math."""
    if gold.strip().lower() in ("yes", "no", "true", "false"):
        return "text"
    letter = gold.strip().strip("().")
    return "choice" if letter in listed_options(question) else "math"


def checked_gold(gold: str, question: str, answer_type: str) -> str:
    """The gold answer: what follows #### in a solution (as GSM8K's), of a multiple-choice question its letter.

    Raises UserError if that is none of the options.
    """
    solution, hashes, last = gold.rpartition("####")
    if hashes and last.strip() and "\n" not in last.strip():
        gold = last.strip()
    if answer_type != "choice":
        return gold
    letter = choice_letter(gold, question)
    if letter is None:
        options = ", ".join(listed_options(question)) or "none that can be read"
        raise UserError(
            f"the gold answer {gold[:60]!r} is no letter, and not one option's text, of a multiple-choice "
            f"question (options listed: {options})"
        )
    return letter
