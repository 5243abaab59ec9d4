"""A request's body -> a question, with the settings that it is answered with."""

from __future__ import annotations

import dataclasses
import secrets
import time
from typing import Any

from deepprune.base.errors import UserError
from deepprune.judges import prompts
from deepprune.prune.answerer import Answerer
from deepprune.prune.endpoint import body as bodies
from deepprune.prune.endpoint import conversation
from deepprune.prune.endpoint.body import Body
from deepprune.prune.endpoint.catalogue import Catalogue
from deepprune.prune.endpoint.refusals import bad
from deepprune.prune.endpoint.watch import context_of
from deepprune.prune.live_traces import LiveSettings


@dataclasses.dataclass(frozen=True)
class Limits:
    """questions: in progress at once; max_tokens: of a trace; body: bytes; seconds: for a question."""

    questions: int
    max_tokens: int
    body: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question, read and checked. id: of the completion; model: as it was named; method: its second part."""

    id: str
    model: str
    method: str
    question: str
    answer_type: str
    settings: LiveSettings
    prompt_tokens: int
    messages: list[dict[str, Any]]
    stream: bool = False
    include_usage: bool = False
    created: int = dataclasses.field(default_factory=lambda: int(time.time()))


def asked(raw: bytes, catalogue: Catalogue, answerer: Answerer, limits: Limits) -> Asked:
    """A request's body as a question with the settings to answer it with. Takes a second of a megabyte.

    Raises Refusal.
    """
    body = bodies.read(raw)
    method, offer, count = catalogue.find(body.model)
    talk, usual, tokenizer = conversation.read(body.messages), answerer.settings, answerer.reasoner.tokenizer
    system = prompts.plain(talk.system, tokenizer) if talk.system else usual.system
    settings = dataclasses.replace(
        usual,
        n=count,
        method=offer.method,
        options=offer.options,
        system=system,
        earlier=talk.earlier,
        run=secrets.token_hex(4),
    )
    try:
        prompt = prompts.reasoner_prompt_ids(
            tokenizer, talk.question, system, settings.suffix, talk.earlier, **settings.template
        )
    except UserError as error:
        raise bad(f"messages: {error}", "messages") from error
    longest = _longest(body, len(prompt), limits.max_tokens, context_of(answerer.reasoner))
    sampling = dataclasses.replace(usual.sampling, **body.sampled, max_tokens=longest)
    if sampling.temperature == 0 and count > 1:
        raise bad(
            "temperature: at 0 all traces are the same, and a vote among them says nothing: leave it out, or take "
            f"a model of one trace ({catalogue.name}-{method}-1)",
            "temperature",
        )
    return Asked(
        f"chatcmpl-{secrets.token_hex(12)}",
        body.model,
        method,
        talk.question,
        body.answer_type,
        dataclasses.replace(settings, sampling=sampling),
        len(prompt),
        body.messages,
        bool(body.stream),
        bool(body.stream_options and body.stream_options.include_usage),
    )


def _longest(body: Body, prompt: int, most: int, context: int | None) -> int:
    """Most tokens of a trace. most: allowed; context: of prompt and trace together (None: not known).

    Raises Refusal if they are too many, or do not fit.
    """
    wanted = body.longest
    param = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
    if wanted is not None and wanted > most:
        raise bad(f"{param}: a trace has at most {most} tokens here, found {str(wanted)[:20]}", param)
    room = most if context is None else context - prompt
    if room < (wanted or 1):
        raise bad(
            f"This model's context is {context} tokens: the prompt has {prompt}, and a trace of {wanted or 1} more "
            "does not fit",
            "messages",
            "context_length_exceeded",
        )
    return wanted or min(most, room)
