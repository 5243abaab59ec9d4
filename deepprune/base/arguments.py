"""Options that take NAME=VALUE: what they are read as, and the names that are not the user's to give."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from deepprune.base.errors import UserError

# What is no variable of a chat template but an argument of the tokenizer's method that fills it.
OF_TEMPLATES = frozenset(
    "messages conversation tools documents chat_template add_generation_prompt continue_final_message tokenize padding "
    "truncation max_length return_tensors return_dict return_assistant_tokens_mask tokenizer_kwargs".split()
)
# Arguments of vLLM's engine that the stages set, and what is told of them.
OF_ENGINES = {
    "model": "it is the stage's model",
    "tokenizer": "it is the model's",
    "trust_remote_code": "no code of a model is run",
    "seed": "give --seed",
    "dtype": "give --dtype",
    "max_model_len": "give --max-model-len",
    "max_num_seqs": "give --max-num-seqs, or a judge's --batch",
    "tensor_parallel_size": "give --tensor-parallel",
    "data_parallel_size": "give --data-parallel",
}


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-5 is a number, as in JSON; PyYAML takes it for a word."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)

# Fields of a request that the stage sets, and its option for them; null leaves one out.
OF_REQUESTS = {name: f"--{name.replace('_', '-')}" for name in (
    "temperature", "top_p", "max_tokens", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "thinking_token_budget", "seed")} | {
    "logprobs": "--confidence-top-k", "top_logprobs": "--confidence-top-k", "model": "--served-model",
    "chat_template_kwargs": "--chat-template-args"}  # fmt: skip
NO_FIELDS = ("messages", "n", "stream")  # one request is one trace, whose tokens `usage` counts


def of_engine(given: list[str]) -> dict[str, Any]:
    """Further arguments of a vLLM engine. Raises UserError as `values`, and for those that the stage sets."""
    arguments = values("--engine-args", given)
    for name in arguments:
        if name in OF_ENGINES:
            raise UserError(f"--engine-args: {name} is set by the stage itself: {OF_ENGINES[name]}")
    return arguments


def of_requests(given: list[str]) -> dict[str, Any]:
    """Further fields of a request. Raises UserError as `values`, and for those that the stage sets."""
    fields = values("--request-args", given)
    for name, value in fields.items():
        if name in NO_FIELDS:
            raise UserError(f"--request-args: {name} is set by the stage itself, leave it out")
        if name in OF_REQUESTS and value is not None:
            raise UserError(f"--request-args: {name} is set by {OF_REQUESTS[name]}; null alone leaves it out")
    return fields


def of_template(given: list[str]) -> dict[str, Any]:
    """Arguments of a chat template. Raises UserError as `values`, and for those that are no variables of one."""
    arguments = values("--chat-template-args", given)
    if ours := arguments.keys() & OF_TEMPLATES:
        raise UserError(f"--chat-template-args: {', '.join(sorted(ours))} is ours to give, leave it out")
    return arguments


def values(option: str, given: list[str]) -> dict[str, Any]:
    """NAME=VALUE arguments of an option, the values as YAML reads them: numbers, true, null, {a: 1}.

    Raises UserError for another form, a repeated name, or a value that is no YAML or that JSON cannot hold (a date).
    """
    result = {}
    for name, text in named(option, "NAME=VALUE", given).items():
        try:
            result[name] = yaml.load(text, _Loader)
            json.dumps(result[name], allow_nan=False)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            said = " ".join(str(error).split())
            raise UserError(
                f"{option}: the value of {name} is not valid YAML, or nothing that JSON holds ({said:.200})"
            ) from error
    return result


def named(option: str, form: str, given: list[str]) -> dict[str, str]:
    """NAME=... arguments of an option as a dict. Raises UserError for another form or a repeated name."""
    texts: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name or not value or name in texts:
            raise UserError(f"{option} takes {form}, each name once; found {item!r}")
        texts[name] = value
    return texts
