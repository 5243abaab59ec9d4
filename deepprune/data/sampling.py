"""How traces are sampled: one set of parameters for recorded and live traces, sent in full and recorded in full.

A vLLM server fills what a request leaves out from the model's generation_config (top_k, repetition penalty, ...), an
engine does not: so every parameter is sent, and unless the user says otherwise it changes nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from deepprune.base import arguments, config
from deepprune.base.config import setting
from deepprune.base.errors import UserError


@dataclasses.dataclass
class SamplingSettings:
    """The settings of a stage that samples."""

    temperature: float = setting(0.6, "sampling temperature; 0 is greedy", at_least=0)
    top_p: float = setting(0.95, "nucleus sampling mass", above=0, at_most=1)
    max_tokens: int = setting(32768, "cut a trace off after so many tokens", at_least=1)
    top_k: int = setting(0, "sample from the so many likeliest tokens; 0: from all", at_least=0)
    min_p: float = setting(0.0, "leave out tokens less likely than this share of the likeliest", at_least=0, at_most=1)
    presence_penalty: float = setting(
        0.0, "taken from the logit of each token that was generated before", at_least=-2, at_most=2
    )
    frequency_penalty: float = setting(
        0.0, "taken from a token's logit for each time it was generated before", at_least=-2, at_most=2
    )
    repetition_penalty: float = setting(
        1.0, "divides the logits of tokens that were there before; 1: none", above=0, at_most=2
    )

    thinking_token_budget: int | None = setting(
        None, "end the reasoning after so many tokens (vLLM with a reasoning parser: docs/scale.md)", at_least=0
    )
    chat_template_args: list[str] = setting(
        [], "arguments of the chat template, as NAME=VALUE: enable_thinking=false, reasoning_effort=high"
    )

    def template_args(self) -> dict[str, Any]:
        """Arguments of the chat template. Raises UserError for another form, and for those that are not the user's."""
        return arguments.of_template(self.chat_template_args)

    def sampling(self) -> Sampling:
        """Raises UserError for values that make no sense."""
        return Sampling(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Sampling)})


def check_context(max_tokens: int, max_model_len: int | None) -> None:
    """Raise UserError if a trace may be longer than the context that was asked for: it would be cut off in silence."""
    if max_model_len is not None and max_tokens >= max_model_len:
        raise UserError(
            f"--max-tokens {max_tokens} and a prompt do not fit in --max-model-len {max_model_len}: "
            "lower the one or raise the other"
        )


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Named as vLLM's parameters, ranges as SamplingSettings'. max_tokens is the length of a whole trace, in tokens."""

    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 32768
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    thinking_token_budget: int | None = None

    def __post_init__(self) -> None:
        settings = {field.name: field.metadata for field in dataclasses.fields(SamplingSettings)}
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                config.check_range("", field.name, getattr(self, field.name), settings[field.name])

    def recorded(self) -> dict[str, Any]:
        """The parameters as Trace records hold them, and as vLLM takes them."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


# What traces of before these parameters were settings were sampled with. Their ids stay: a neutral value is left out of
# a hash.
NEUTRAL = {
    name: getattr(Sampling(), name)
    for name in ("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
}
