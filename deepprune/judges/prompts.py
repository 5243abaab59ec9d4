"""Text to token ids: control tokens in a text are text, messages stand in the model's chat template.

The wording of the judge's prompt is in profiles.py; the reasoner's prompt is made here (`reasoner_prompt_ids`), for
recorded and live traces alike. Prompts are token ids: an engine that is handed text would put its own first token
before the chat template's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from deepprune.base.errors import UserError

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
    return _control(tokenizer).sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def reasoner_prompt_ids(
    tokenizer: Any,
    question: str,
    system: str | None = None,
    suffix: str = "",
    earlier: Sequence[tuple[str, str]] = (),
    **options: Any,
) -> list[int]:
    """Token ids of the prompt that a trace goes on from: the question with the suffix, in the reasoner's chat template.

    earlier: (role, text) of turns before the question; options: arguments of the template, as enable_thinking. Raises
    UserError as `templated`.
    """
    user = plain(question, tokenizer) + suffix
    turns = [(role, plain(text, tokenizer)) for role, text in earlier]
    return list(tokenizer.encode(templated(tokenizer, system, user, turns, **options), add_special_tokens=False))


def templated(
    tokenizer: Any, system: str | None, user: str, earlier: Sequence[tuple[str, str]] = (), **options: Any
) -> str:
    """The messages in the tokenizer's chat template, up to where the answer begins. options: of the template.

    Where the template knows no system role (Gemma) or leaves it out, the system text stands before the user's, an empty
    line between. earlier: turns before, (role, text), the user's first. Raises UserError if the tokenizer has no chat
    template or its template takes no question.
    """
    from jinja2 import TemplateError

    def write(*turns: tuple[str, str]) -> str:
        chat = [{"role": role, "content": content} for role, content in turns]
        return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)

    name = getattr(tokenizer, "name_or_path", "the model")
    if getattr(tokenizer, "chat_template", "") is None:
        raise UserError(f"{name} has no chat template: take an instruct model")
    turns = [*earlier, ("user", user)]
    if system:
        try:
            text = write(("system", system), *turns)
            if system.strip() in text:
                return text
        except TemplateError:
            pass
        turns[0] = ("user", f"{system}\n\n{turns[0][1]}")
    try:
        return write(*turns)
    except (TemplateError, ValueError) as error:
        raise UserError(
            f"{name}: its chat template takes no question ({error}): take another instruct model"
        ) from error
