r"""Final answers: finding the one that a trace states.

Extraction, in order: the last \boxed{...}, the last <answer>...</answer>, a sentence such as
"the answer is 42". Nothing found means *unknown* (None).
"""

from __future__ import annotations

import re

MAX_ANSWER_CHARS = 500  # longer "answers" are runaway text, not answers

_NUMBER = r"[-+]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?"
_CUE = re.compile(
    r"(?:final answer|answer|result)\s*(?:is|:|=|equals)\s*:?\s*\**\s*\$?\s*(" + _NUMBER + r")", re.IGNORECASE
)
_HASHES = re.compile(r"####\s*(" + _NUMBER + r")")
_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_CHOICE_CUE = re.compile(r"(?:answer|option|choice)\s*(?:is|:)?\s*\**\s*\(?\s*([A-J])\b(?![a-z'])", re.IGNORECASE)
_CHOICE = re.compile(r"^\W*(?:\\(?:text|mathrm|textbf|mathbf)\{)?\W*([A-J])(?:\W|$)", re.IGNORECASE)


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete \boxed{...} (or \fbox{...}), braces balanced; None if there is none."""
    for start in reversed([m.end() for m in re.finditer(r"\\f?boxed\s*\{", text)]):
        depth = 1
        for i in range(start, len(text)):
            if text[i] == "\\":
                continue
            escaped = i > 0 and text[i - 1] == "\\"
            if text[i] == "{" and not escaped:
                depth += 1
            elif text[i] == "}" and not escaped:
                depth -= 1
                if depth == 0:
                    return text[start:i].strip() or None
    return None


def extract(text: str, answer_type: str = "math") -> str | None:
    """The final answer that a trace states, or None when it states none (unknown)."""
    found = last_boxed(text)
    if found is None:
        tags = _TAG.findall(text)
        found = tags[-1].strip() if tags else None
        if found:
            found = last_boxed(found) or found
    if answer_type == "choice":
        letter = _CHOICE.match(found) if found else None
        if letter is None:
            cues = _CHOICE_CUE.findall(text)
            return cues[-1].upper() if cues else None
        return letter.group(1).upper()
    if not found and answer_type == "math":
        plain = _HASHES.findall(text) or _CUE.findall(text)
        found = plain[-1] if plain else None
    if not found or len(found) > MAX_ANSWER_CHARS:
        return None
    return found
