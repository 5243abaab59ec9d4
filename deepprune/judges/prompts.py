"""The judge's prompt and its two label tokens: one place for training, evaluation and clustering.

What repeats comes first (instructions, question, trace A = the cluster's representative), what changes comes
last (trace B = the new trace), so that an engine's prefix cache does most of the work.

The judge answers with one token: LABELS[1] when both traces will end in the same answer, else LABELS[0].

The reasoner's prompt is made here too (`reasoner_prompt_ids`), for recorded and live traces alike. Prompts are token
ids: an engine that is handed text would put its own first token before the chat template's.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

from deepprune.base.errors import UserError
from deepprune.base.records import content_hash

LABELS = ("no", "yes")  # index = pair label: 0 different, 1 same

SYSTEM = (
    "You compare the beginnings of two solutions to the same problem and predict whether they will reach the same "
    "final answer."
)

USER = """Problem:
{question}

Solution A (beginning):
{prefix_a}

Solution B (beginning):
{prefix_b}

Will solutions A and B end in the same final answer? Reply yes or no."""

VERSION = content_hash("prompt", SYSTEM, USER, LABELS)  # stored scores are valid for one version only

# What chat templates steer models with, in whatever tokenizer:
# <|im_end|>, <｜User｜>, </s>, <end_of_turn>, [INST], <<SYS>>.
_CONTROL = r"<[|｜][^<>|｜\n]{1,64}[|｜]>|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>|\[/?INST\]|<</?SYS>>"


@functools.lru_cache(maxsize=8)
def _control(tokenizer: Any) -> re.Pattern:
    """The control tokens as they stand in text: the usual ones, and this tokenizer's special tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    own = {token.content for token in added if token.special} | set(getattr(tokenizer, "all_special_tokens", ()))
    longest_first = sorted((token for token in own if len(token) > 1), key=lambda token: (-len(token), token))
    return re.compile("|".join([*map(re.escape, longest_first), _CONTROL]))


def plain(text: str, tokenizer: Any = None) -> str:
    """A question or trace in which control tokens are mere text: a space follows their first character.

    tokenizer: its special tokens are broken up too. Other text comes back as it is.
    """
    return _control(tokenizer).sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def user_message(question: str, prefix_a: str, prefix_b: str, tokenizer: Any = None) -> str:
    """The user turn for one pair (str.format is not used: traces hold braces). tokenizer: the judge's, see `plain`."""
    parts = {"{question}": question, "{prefix_a}": prefix_a, "{prefix_b}": prefix_b}
    text, rest = "", USER
    for slot, value in parts.items():
        before, rest = rest.split(slot, 1)
        text += before + plain(value, tokenizer).strip()
    return text + rest


def training_row(question: str, prefix_a: str, prefix_b: str, label: int, tokenizer: Any = None) -> dict[str, str]:
    """A pair in LLaMA-Factory's alpaca format (system, instruction, input, output).

    tokenizer: the judge's. LLaMA-Factory takes its special tokens in a row's text for what they are, so they are broken
    up here, as they are when the judge is asked.
    """
    return {
        "system": SYSTEM,
        "instruction": user_message(question, prefix_a, prefix_b, tokenizer),
        "input": "",
        "output": LABELS[label],
    }


def prompt_ids(tokenizer: Any, question: str, prefix_a: str, prefix_b: str) -> list[int]:
    """Token ids of the prompt, up to where the label token is generated.

    Thinking templates (Qwen3) are asked not to think: the label must be the first token.
    Raises UserError as `templated`.
    """
    return _ids(tokenizer, SYSTEM, user_message(question, prefix_a, prefix_b, tokenizer))


def reasoner_prompt_ids(tokenizer: Any, question: str, system: str | None = None, suffix: str = "") -> list[int]:
    """Token ids of the prompt that a trace goes on from: the question with the suffix, in the reasoner's chat template.

    Raises UserError as `templated`.
    """
    user = plain(question, tokenizer) + suffix
    return list(tokenizer.encode(templated(tokenizer, system, user), add_special_tokens=False))


def templated(tokenizer: Any, system: str | None, user: str, **options: Any) -> str:
    """The two messages in the tokenizer's chat template, up to where the answer begins. options: of the template.

    Where the template knows no system role (Gemma) or leaves it out, the system text stands before the user's, an empty
    line between. Raises UserError if the tokenizer has no chat template or its template takes no question.
    """
    from jinja2 import TemplateError

    def write(*turns: tuple[str, str]) -> str:
        chat = [{"role": role, "content": content} for role, content in turns]
        return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)

    name = getattr(tokenizer, "name_or_path", "the model")
    if getattr(tokenizer, "chat_template", "") is None:
        raise UserError(f"{name} has no chat template: take an instruct model")
    if system:
        try:
            text = write(("system", system), ("user", user))
            if system.strip() in text:
                return text
        except TemplateError:
            pass
        user = f"{system}\n\n{user}"
    try:
        return write(("user", user))
    except (TemplateError, ValueError) as error:
        raise UserError(
            f"{name}: its chat template takes no question ({error}): take another instruct model"
        ) from error


@dataclasses.dataclass(frozen=True)
class Frame:
    """Tokens of a pair's prompt beside the two prefixes: before the first, between them, after the second."""

    head: int = 0
    middle: int = 0
    tail: int = 0


def frame(tokenizer: Any, question: str) -> Frame:
    """A question's Frame, in this tokenizer's tokens."""
    first, second = "<<first prefix>>", "<<second prefix>>"
    text = _text(tokenizer, SYSTEM, user_message(question, first, second, tokenizer))
    head, rest = text.rsplit(first, 1)
    return Frame(*(len(tokenizer.encode(part, add_special_tokens=False)) for part in (head, *rest.split(second, 1))))


def _text(tokenizer: Any, system: str, user: str) -> str:
    return templated(tokenizer, system, user, enable_thinking=False)


def _ids(tokenizer: Any, system: str, user: str) -> list[int]:
    return tokenizer.encode(_text(tokenizer, system, user), add_special_tokens=False)


def label_token_ids(tokenizer: Any) -> tuple[int, ...]:
    """Token ids of LABELS (different, same).

    Raises UserError if one is not exactly one token, or if the tokenizer's chat template cannot write the prompt.
    """
    _text(tokenizer, SYSTEM, USER)
    ids = []
    for label in LABELS:
        tokens = tokenizer.encode(label, add_special_tokens=False)
        if len(tokens) != 1:
            raise UserError(f"the judge's label {label!r} is {len(tokens)} tokens for this tokenizer, must be one")
        ids.append(tokens[0])
    return tuple(ids)
