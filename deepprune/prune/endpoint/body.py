"""A request's body: what is supported, what is refused by name. Nothing is ignored but labels that change nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepprune.base import jsonl
from deepprune.prune.endpoint.refusals import Refusal, bad

# Fields that are refused unless they say what is done anyway, and why.
ONE_ANSWER = "the traces of a question are chosen by the model's name, and one answer is given"
NO_TOOLS = "tools are not supported: a vote needs answers that can be compared"
REFUSED: dict[str, tuple[tuple, str]] = {
    "n": ((None, 1), ONE_ANSWER),
    "best_of": ((None, 1), ONE_ANSWER),
    "seed": ((None,), "traces are sampled without seeds of their own, so that none could be kept"),
    "stop": ((None, [], ""), "stop sequences are not supported: a trace that they cut has no answer"),
    "logprobs": ((None, False), "log-probabilities are not supported: the answer is chosen after it was generated"),
    "top_logprobs": ((None, 0), "log-probabilities are not supported"),
    "logit_bias": ((None, {}), "biases are not supported"),
    "tools": ((None, []), NO_TOOLS),
    "functions": ((None, []), NO_TOOLS),
    "tool_choice": ((None, "none", "auto"), NO_TOOLS),
    "function_call": ((None, "none", "auto"), NO_TOOLS),
    "parallel_tool_calls": ((None, True, False), NO_TOOLS),
    "response_format": ((None, {"type": "text"}), "formats are not supported: the answer is text"),
    "modalities": ((None, ["text"]), "the answer is text"),
    "audio": ((None,), "the answer is text"),
    "prediction": ((None,), "predicted outputs are not supported"),
    "reasoning_effort": ((None,), "the chat template's arguments are set where the server is started"),
    "chat_template_kwargs": ((None, {}), "the chat template's arguments are set where the server is started"),
    "verbosity": ((None,), "it is not supported"),
    "web_search_options": ((None,), "there is no search"),
    "store": ((None, False), "answers are stored for nobody to fetch"),
    "service_tier": ((None, "auto", "default"), "there is one tier"),
}


SAMPLED = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "top_k", "min_p", "repetition_penalty")


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


Penalty = Annotated[float | None, Field(ge=-2, le=2)]
Tokens = Annotated[int | None, Field(ge=1)]


class Body(BaseModel):
    """The fields of POST /v1/chat/completions that are supported."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    model: str
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    # What vLLM's endpoint takes beside OpenAI's.
    top_k: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    repetition_penalty: Annotated[float | None, Field(ge=0.1, le=2)] = None
    # Ours: how answers are compared.
    answer_type: Literal["math", "choice", "text"] = "math"
    # Labels.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def longest(self) -> int | None:
        """Most tokens of a trace. Raises Refusal if the two names for it say different things."""
        limits = {limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None}
        if len(limits) > 1:
            raise bad("max_tokens and max_completion_tokens should be the same, or one of them left out", "max_tokens")
        return next(iter(limits), None)

    @property
    def sampled(self) -> dict[str, float]:
        """The sampling parameters that the request sets, but for the length."""
        return {name: getattr(self, name) for name in SAMPLED if getattr(self, name) is not None}


def read(raw: bytes) -> Body:
    """The body of a request. Raises Refusal (400) for bad JSON, and for every field that is not supported."""
    try:
        given = jsonl.strictly(raw.decode())
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise bad(f"The request's body is not valid JSON: {why}", code="invalid_json") from None
    if not isinstance(given, dict):
        raise bad(f"The request's body should be a JSON object, found {type(given).__name__}", code="invalid_json")
    for name, (neutral, why) in REFUSED.items():
        if name in given and not any(type(value) is type(given[name]) and value == given[name] for value in neutral):
            raise bad(f"{name}: {why}", name, "unsupported_parameter")
        given.pop(name, None)
    try:
        body = Body.model_validate(given)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_context=False)[0]) from None
    if body.stream_options and not body.stream:
        raise bad("stream_options: only of a stream", "stream_options")
    return body


def _refusal(error: dict[str, Any]) -> Refusal:
    """The first thing that is wrong with a body, of pydantic's list."""
    steps = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"][:3]]
    param = "".join(steps).removeprefix(".")[:100]
    if error["type"] == "missing":
        return bad(f"Missing required parameter: '{param}'", param, "missing_required_parameter")
    if error["type"] == "extra_forbidden":
        return bad(f"Unknown parameter: '{param}'", param, "unknown_parameter")
    kind = "invalid_type" if error["type"].endswith("_type") else "invalid_value"
    return bad(f"{param}: {error['msg']}, found {ascii(error['input'])[:80]}", param, kind)
