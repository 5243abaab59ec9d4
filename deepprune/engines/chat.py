"""Sampling from servers that may know no token ids: any OpenAI-compatible chat endpoint.

vLLM, SGLang, llama.cpp, Ollama and hosted models. The server's template writes the prompt and its `usage` counts the
tokens, so the model need not be loadable here. One request is one trace: of several choices `usage` would count only
the sum. Several servers are a fleet (servers.py): what one that dies was to do is done by the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar

from deepprune.base.errors import UserError
from deepprune.base.tasks import cancel
from deepprune.data import reasoning
from deepprune.data.sampling import NEUTRAL, Sampling
from deepprune.engines.servers import NO_ANSWER, Fleet, Server, ServerLost, ServerSettings, check_one_model, passing

Key = TypeVar("Key")
GO_ON = ". What was finished is on disk: run the same command again to continue"
UNLISTED = (404, 405)  # of servers that list no models: --served-model is believed
TAKE_ALL = ("vllm", "sglang")  # take every parameter, and fill what is left out from the model's generation_config


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a server sampled. text: reasoning and answer (data/reasoning.py); logprobs: the likeliest at each token."""

    text: str
    n_tokens: int
    finish_reason: str
    logprobs: list[list[float]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class ChatRequest:
    """The messages of a trace, and its seed."""

    messages: list[dict[str, str]]
    seed: int


class ChatServers:
    """Servers of one model. top: log-probabilities asked for at each token; template: arguments of the chat template;
    more: fields of every request that differ from ours (None: left out).
    """

    def __init__(
        self,
        urls: Sequence[str],
        settings: ServerSettings,
        sampling: Sampling,
        *,
        top: int = 0,
        template: dict[str, Any] | None = None,
        more: dict[str, Any] | None = None,
    ):
        self.fleet = Fleet([Server(url, settings) for url in urls])
        self.sampling, self.top, self.template, self.more = sampling, top, template or {}, more or {}
        self.clients: dict[Server, Any] = {}

    @property
    def served(self) -> str:
        """The model's name there."""
        return self.fleet.servers[0].served

    async def open(self) -> None:
        """Raises UserError if no server answers, or one refuses."""
        import openai

        for server in list(self.fleet.servers):
            self.clients[server] = server.client(openai.AsyncOpenAI)
            try:
                server.choose(await self.clients[server].models.list())
            except (openai.APIError, *NO_ANSWER) as error:
                if getattr(error, "status_code", None) in UNLISTED and server.settings.served_model:
                    server.served = server.settings.served_model
                else:
                    self.fleet.go_on_without(server, server.lost(error), GO_ON)
        check_one_model(self.fleet.servers)

    async def close(self) -> None:
        for client in self.clients.values():
            await client.close()

    def body(self, server: Server, request: ChatRequest) -> dict[str, Any]:
        """A request's fields beside model and messages."""
        given = self.sampling.recorded()
        fields = {name: given[name] for name in ("temperature", "top_p", "max_tokens")} | {"seed": request.seed}
        fields |= {k: v for k, v in given.items() if server.owner in TAKE_ALL or v != NEUTRAL.get(k, v)}
        if self.top:
            fields |= {"logprobs": True, "top_logprobs": self.top}
        if self.template:
            fields["chat_template_kwargs"] = self.template
        return {name: value for name, value in (fields | self.more).items() if value is not None}

    async def ask(self, request: ChatRequest) -> Reply:
        """One trace. Raises UserError."""
        import openai

        while True:
            server = self.fleet.take()
            try:
                reply = await self.clients[server].chat.completions.create(
                    model=server.served, messages=request.messages, extra_body=self.body(server, request)
                )
                return reply_of(server.checked(reply), server)
            except openai.APIError as error:
                refused = server.lost(error)
                if not passing(error) and getattr(error, "status_code", None) in (400, 422):
                    hint = "--request-args NAME=null leaves a field out that it does not know"
                    alone = "--confidence-top-k 0 asks for no log-probabilities, " if self.top else ""
                    refused = UserError(f"{refused} ({alone}{hint})")
                self.fleet.go_on_without(server, refused, GO_ON)
            except ServerLost as error:
                self.fleet.go_on_without(server, error, GO_ON)
            except NO_ANSWER as error:
                lost = ServerLost(f"{server.shown}: answered what is no completion: {server.told(error)}")
                self.fleet.go_on_without(server, lost, GO_ON)
            finally:
                self.fleet.give(server)

    async def run(self, requests: Iterable[tuple[Key, ChatRequest]], at_once: int) -> AsyncIterator[tuple[Key, Reply]]:
        """Yield (key, reply) as each is known, at most `at_once` under way on a server. Left early, it cancels all."""
        waiting, open_requests = iter(requests), {}
        try:
            while True:
                while len(open_requests) < at_once * len(self.fleet.servers):
                    if (following := next(waiting, None)) is None:
                        break
                    open_requests[asyncio.create_task(self.ask(following[1]))] = following[0]
                if not open_requests:
                    return
                done, _ = await asyncio.wait(open_requests, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=lambda task: task.exception() is not None):  # what is there goes first
                    yield open_requests.pop(task), task.result()
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await cancel(open_requests)


def reply_of(reply: Any, server: Server) -> Reply:
    """What a chat completion holds.

    Raises UserError if it holds no answer, no count of its tokens, or a text of a form that we do not know.
    """
    choice = reply.choices[0] if reply.choices else None
    message, tokens = getattr(choice, "message", None), getattr(reply.usage, "completion_tokens", None)
    counted = isinstance(tokens, int | float) and not isinstance(tokens, bool) and tokens == int(tokens)
    if message is None or not counted or tokens < 0 or (tokens == 0 and message.content):
        raise UserError(f"{server.shown}: answered without a text or without `usage`: its tokens cannot be counted")
    thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if isinstance(message.content, list):
        thought, content = in_parts(message.content)
    else:
        content = message.content or ""
    if not isinstance(content, str) or not isinstance(thought, str | None):
        raise UserError(f"{server.shown}: answered with a text of a form that is not known here")
    text = reasoning.join(thought, content) if thought else reasoning.plain(content)
    finish = choice.finish_reason if choice.finish_reason in ("stop", "length") else "unknown"
    return Reply(text, int(tokens), finish, logprobs_of(choice))


def in_parts(content: list[Any]) -> tuple[str, str]:
    """(reasoning, answer) of a content in parts: {type: thinking, thinking: parts or text}, {type: text, text}."""
    thought, answer = "", ""
    for part in content:
        if part.get("type") == "thinking":
            inner = part["thinking"]
            thought += inner if isinstance(inner, str) else "".join(in_parts(inner))
        else:
            answer += part["text"]
    return thought, answer


def logprobs_of(choice: Any) -> list[list[float]]:
    """The likeliest tokens' log-probabilities at each token that has them."""
    tokens = (choice.logprobs.content if choice.logprobs else None) or []
    likely = ([top.logprob for top in token.top_logprobs or ()] for token in tokens)
    return [top for top in ([value for value in at if is_finite(value)] for at in likely) if top]


def is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
