"""The judge's prompt and its two label tokens: one place for training, evaluation and clustering.

What repeats comes first (instructions, question, trace A = the cluster's representative), what changes comes
last (trace B = the new trace), so that an engine's prefix cache does most of the work.

The judge answers with one token: LABELS[1] when both traces will end in the same answer, else LABELS[0].
"""

from __future__ import annotations

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


def user_message(question: str, prefix_a: str, prefix_b: str) -> str:
    """The user turn for one pair (str.format is not used: traces hold braces)."""
    parts = {"{question}": question, "{prefix_a}": prefix_a, "{prefix_b}": prefix_b}
    text, rest = "", USER
    for slot, value in parts.items():
        before, rest = rest.split(slot, 1)
        text += before + value.strip()
    return text + rest


def messages(question: str, prefix_a: str, prefix_b: str) -> list[dict[str, str]]:
    """The chat for one pair, system and user turn."""
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": user_message(question, prefix_a, prefix_b)},
    ]


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
    text = tokenizer.apply_chat_template(
        messages(question, prefix_a, prefix_b), tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    return tokenizer.encode(text, add_special_tokens=False)


def label_token_ids(tokenizer: Any) -> tuple[int, int]:
    """Token ids of LABELS (different, same). Raises UserError if a label is not exactly one token."""
    ids = []
    for label in LABELS:
        tokens = tokenizer.encode(label, add_special_tokens=False)
        if len(tokens) != 1:
            raise UserError(f"the judge's label {label!r} is {len(tokens)} tokens for this tokenizer, must be one")
        ids.append(tokens[0])
    return ids[0], ids[1]
