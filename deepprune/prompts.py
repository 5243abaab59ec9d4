"""The judge's prompt and its two label tokens: one place for training, evaluation and clustering.

What repeats comes first (instructions, question, trace A = the cluster's representative), what changes comes
last (trace B = the new trace), so that an engine's prefix cache does most of the work.

The judge answers with one token: LABELS[1] when both traces will end in the same answer, else LABELS[0].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from deepprune.errors import UserError
from deepprune.records import content_hash

LABELS = ("no", "yes")  # index = pair label: 0 different, 1 same

SYSTEM = "You compare the beginnings of two solutions to the same problem and predict whether they will reach the same final answer."

USER = """Problem:
{question}

Solution A (beginning):
{prefix_a}

Solution B (beginning):
{prefix_b}

Will solutions A and B end in the same final answer? Reply yes or no."""

VERSION = content_hash("prompt", SYSTEM, USER, LABELS)  # stored scores are valid for one version only

# The list-wise judge: one prompt for all open clusters. It answers with the letter of the cluster, or NONE.
NONE = "0"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LIST_LABELS = (NONE, *LETTERS)

LIST_SYSTEM = (
    "You compare the beginning of a new solution to a problem with the beginnings of earlier solutions and predict which of them "
    "will reach the same final answer."
)  # fmt: skip

LIST_USER = """Problem:
{question}
{representatives}
New solution (beginning):
{new}

Which solution will end in the same final answer as the new one? Reply with its letter, or 0 if none will."""


def user_message(question: str, prefix_a: str, prefix_b: str) -> str:
    """The user turn for one pair (str.format is not used: traces hold braces)."""
    parts = {"{question}": question, "{prefix_a}": prefix_a, "{prefix_b}": prefix_b}
    text, rest = "", USER
    for slot, value in parts.items():
        before, rest = rest.split(slot, 1)
        text += before + value.strip()
    return text + rest


def list_user_message(question: str, representatives: Sequence[str], new: str) -> str:
    """The user turn of a list-wise judge. What repeats comes first: an opened cluster leaves the start as it was.

    Raises UserError for more representatives than LETTERS.
    """
    if len(representatives) > len(LETTERS):
        raise UserError(
            f"a list-wise judge tells at most {len(LETTERS)} clusters apart, found {len(representatives)}: lower K"
        )
    listed = "".join(
        f"\nSolution {letter} (beginning):\n{prefix.strip()}\n"
        for letter, prefix in zip(LETTERS, representatives, strict=False)
    )
    start, rest = LIST_USER.split("{question}")
    middle, end = rest.split("{representatives}")
    before, after = end.split("{new}")
    return start + question.strip() + middle + listed + before + new.strip() + after


def list_training_row(question: str, representatives: Sequence[str], new: str, label: int | None) -> dict[str, str]:
    """A row for a list-wise judge in LLaMA-Factory's alpaca format. label: the representative's position; None: none."""
    return {
        "system": LIST_SYSTEM,
        "instruction": list_user_message(question, representatives, new),
        "input": "",
        "output": NONE if label is None else LETTERS[label],
    }


def list_prompt_ids(tokenizer: Any, question: str, representatives: Sequence[str], new: str) -> list[int]:
    """Token ids of a list-wise judge's prompt."""
    return _ids(tokenizer, LIST_SYSTEM, list_user_message(question, representatives, new))


def training_row(question: str, prefix_a: str, prefix_b: str, label: int) -> dict[str, str]:
    """A pair in LLaMA-Factory's alpaca format (system, instruction, input, output)."""
    return {
        "system": SYSTEM,
        "instruction": user_message(question, prefix_a, prefix_b),
        "input": "",
        "output": LABELS[label],
    }


def prompt_ids(tokenizer: Any, question: str, prefix_a: str, prefix_b: str) -> list[int]:
    """Token ids of the prompt, up to where the label token is generated.

    Thinking templates (Qwen3) are asked not to think: the label must be the first token.
    """
    return _ids(tokenizer, SYSTEM, user_message(question, prefix_a, prefix_b))


@dataclasses.dataclass(frozen=True)
class Frame:
    """Tokens of a pair's prompt beside the two prefixes: before the first, between them, after the second."""

    head: int = 0
    middle: int = 0
    tail: int = 0


def frame(tokenizer: Any, question: str) -> Frame:
    """A question's Frame, in this tokenizer's tokens."""
    first, second = "<<first prefix>>", "<<second prefix>>"
    text = _text(tokenizer, SYSTEM, user_message(question, first, second))
    head, rest = text.rsplit(first, 1)
    return Frame(*(len(tokenizer.encode(part, add_special_tokens=False)) for part in (head, *rest.split(second, 1))))


def _text(tokenizer: Any, system: str, user: str) -> str:
    chat = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False)


def _ids(tokenizer: Any, system: str, user: str) -> list[int]:
    return tokenizer.encode(_text(tokenizer, system, user), add_special_tokens=False)


def label_token_ids(tokenizer: Any, labels: Sequence[str] = LABELS) -> tuple[int, ...]:
    """Token ids of the labels (LABELS: different, same). Raises UserError if one is not exactly one token."""
    ids = []
    for label in labels:
        tokens = tokenizer.encode(label, add_special_tokens=False)
        if len(tokens) != 1:
            raise UserError(f"the judge's label {label!r} is {len(tokens)} tokens for this tokenizer, must be one")
        ids.append(tokens[0])
    return tuple(ids)
