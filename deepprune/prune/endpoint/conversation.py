"""Messages of a request -> system message, earlier turns, question.

All system (and developer) messages stand together at the front; turns of the same role that follow each other are one.
The last turn is the question, which the method answers; the turns before stand before it in the chat template.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from deepprune.prune.endpoint.refusals import Refusal, bad

SYSTEM, TURNS = ("system", "developer"), ("user", "assistant")
# Fields that a message may have beside role and content: what our own replies hold, and what is null.
OWN = {"assistant": ("reasoning_content",), "user": (), "system": (), "developer": ()}


@dataclasses.dataclass(frozen=True)
class Conversation:
    """earlier: (role, text) of the turns before the question, which begin with the user's and alternate."""

    system: str | None
    earlier: tuple[tuple[str, str], ...]
    question: str


def read(messages: list[dict[str, Any]]) -> Conversation:
    """Raises Refusal (400) for other roles than system, developer, user and assistant, for what is not text (images,
    files, sound, tool calls), and for turns that end in no question."""
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role")
        if role not in SYSTEM + TURNS:
            given = "none" if "role" not in message else ascii(role)[:40]
            raise bad(
                f"{where}.role should be one of {', '.join(SYSTEM + TURNS)}, found {given}: tools are not supported",
                f"{where}.role",
            )
        for name, value in message.items():
            if name not in ("role", "content", *OWN[role]) and value not in (None, []):
                raise bad(f"{where}.{name[:40]} is not supported", f"{where}.{name[:40]}", "unsupported_parameter")
        content = _text(message.get("content"), f"{where}.content")
        if role in SYSTEM:
            system.append(content)
        elif turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{content}")
        else:
            turns.append((role, content))
    if not turns or turns[-1][0] != "user" or not turns[-1][1].strip():
        raise bad("messages should end with the user's question", "messages")
    if turns[0][0] != "user":
        raise bad("messages: the first turn after the system message should be the user's", "messages")
    return Conversation("\n\n".join(system) or None, tuple(turns[:-1]), turns[-1][1])


def _text(content: Any, where: str) -> str:
    """A message's text: a string, or parts that are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise bad(f"{where} should be text, found {type(content).__name__}", where, "invalid_type")
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str) or part.keys() > {"type", "text"}:
            raise _no_text(kind, f"{where}[{number}]")
        texts.append(part["text"])
    return "\n\n".join(texts)


def _no_text(kind: Any, where: str) -> Refusal:
    if isinstance(kind, str) and kind != "text":
        told = f"{where}: parts of type {ascii(kind)[:40]} are not supported: the models read text alone"
        return bad(told, where, "unsupported_content")
    return bad(f'{where} should be {{"type": "text", "text": ...}}', where, "invalid_type")
