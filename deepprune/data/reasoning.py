"""Reasoning and answer of a trace: apart as a server tells them, one text in a record.

A record's text holds both: `<think>`, the reasoning, `</think>`, an empty line, the answer. So they can be told apart
again, whatever wrote them: a chat template's think blocks, the channels of gpt-oss (harmony), a server that parses
them.

    <|channel|>analysis<|message|>12 + 30 is 42.<|end|><|start|>assistant<|channel|>final<|message|>42<|return|>
    -> <think>
       12 + 30 is 42.
       </think>

       42
"""

from __future__ import annotations

import re
from typing import Any

OPEN, CLOSE = "<think>", "</think>"
CHANNEL = "<|channel|>"
# A message of gpt-oss: its channel (analysis, commentary, final), perhaps words on whom it is to, its text.
_MESSAGE = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(.*?)(?:<\|end\|>|<\|return\|>|<\|call\|>|(?=<\|start\|>)|\Z)",
    re.DOTALL,
)


def join(reasoning: str | None, answer: str | None) -> str:
    """One text of both; of a trace that was cut off while it reasoned, the block stays open."""
    if not reasoning:
        return answer or ""
    if not answer:
        return f"{OPEN}\n{reasoning.strip()}\n"
    return f"{OPEN}\n{reasoning.strip()}\n{CLOSE}\n\n{answer.lstrip()}"


def split(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a trace's text; ("", text) if nothing tells them apart.

    A block that begins with the prompt (the template opened it) is closed only; one that is cut off has no answer.
    """
    if CHANNEL in text:
        parts: dict[bool, list[str]] = {True: [], False: []}
        for channel, message in _MESSAGE.findall(text):
            parts[channel == "final"].append(message.strip())
        return "\n\n".join(filter(None, parts[False])), "\n\n".join(filter(None, parts[True]))
    before, closed, after = text.partition(CLOSE)
    if closed:
        return before.replace(OPEN, "", 1).strip(), after.lstrip()
    opening, opened, rest = text.partition(OPEN)
    return (rest.strip(), "") if opened and not opening.strip() else ("", text)


def has_channels(tokenizer: Any) -> bool:
    """Whether a model tells reasoning and answer apart by special tokens, which its text must keep (gpt-oss)."""
    return CHANNEL in tokenizer.get_vocab()


def plain(text: str) -> str:
    """A trace's text as records hold it: channels become a think block; any other text comes back as it is."""
    return join(*split(text)) if CHANNEL in text else text
