"""Reasoners that generate while we watch: an engine in this process's care, or vLLM servers.

One interface: `stream` yields what was generated since the last time, and ends early when it is told to stop. Both
are vLLM underneath; what a server must have is listed at `ServerReasoner`.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from deepprune.base.errors import UserError
from deepprune.data import reasoning
from deepprune.data.sampling import Sampling
from deepprune.engines import engine, engine_copies, models
from deepprune.engines.servers import (
    NO_ANSWER,
    Fleet,
    Server,
    ServerLost,
    ServerSettings,
    broken,
    check_one_model,
    metric,
)
from deepprune.engines.streams import Chunk, chunk_of, last_tokens


class ReasonerLost(Exception):
    """The reasoner cannot be reached any more, or refused a request. The message says what happened."""


class Reasoner(abc.ABC):
    """name: the model's name in records; tokenizer: of the same model, for prompts; channels: `has_channels` of it."""

    name: str
    tokenizer: object
    channels = False

    async def open(self) -> None:  # noqa: B027 - a server is open already
        """Start what must be started, inside the running event loop."""

    @abc.abstractmethod
    def stream(
        self, prompt: list[int], sampling: Sampling, max_tokens: int, stop: asyncio.Event, top: int = 0
    ) -> AsyncIterator[Chunk]:
        """Generate at most max_tokens after the prompt. Setting `stop` aborts the request in the engine.

        top: so many log-probabilities are brought with each token (DeepConf). The last chunk has a finish_reason.
        Raises ReasonerLost.
        """

    @abc.abstractmethod
    async def generated(self) -> int | None:
        """Tokens generated so far by the engine's own counter; None if it has none that we can read."""

    @abc.abstractmethod
    async def running(self) -> int | None:
        """Requests in the engine now, by its own count; None if unknown."""

    async def close(self) -> None:  # noqa: B027
        """Stop what `open` started."""


class EngineReasoner(Reasoner):
    """vLLM's asynchronous engine (its EngineCore is a process of its own). Run under `runtime.ensure()`."""

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        seed: int = 0,
        dtype: str = "auto",
        max_model_len: int | None = None,
        max_num_seqs: int = 64,
        tensor_parallel: int = 1,
        gpu_memory_utilization: float = 0.9,
        engine_args: Mapping[str, Any] | None = None,
    ):
        from transformers import AutoTokenizer

        resolved = models.resolve(model)
        self.name, self.path = name or resolved.name, resolved.path
        self.tokenizer = AutoTokenizer.from_pretrained(self.path)
        self.channels = reasoning.has_channels(self.tokenizer)
        self.options = {
            "model": self.path,
            "seed": seed,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "tensor_parallel_size": tensor_parallel,
            "enable_prefix_caching": True,
            "trust_remote_code": False,
            "generation_config": "vllm",  # the model's own sampling parameters are not ours
            **engine.machine_options(dtype, gpu_memory_utilization),
            **(engine_args or {}),
        }
        self.ids = itertools.count()
        self.engine = None

    async def open(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the engine, in whatever thread."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        with engine.starting(self.path):
            self.engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**self.options))
        engine.end_with_process(self.engine, shut_down)

    async def stream(self, prompt, sampling, max_tokens, stop, top=0):
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        options = sampling.recorded() | {"max_tokens": max_tokens, "logprobs": top or None}
        options |= {"output_kind": RequestOutputKind.DELTA, "skip_special_tokens": not self.channels}
        params = SamplingParams(**options)
        request = f"trace-{next(self.ids)}"
        outputs = self.engine.generate({"prompt_token_ids": prompt}, params, request)
        aborted = False
        try:
            async for output in outputs:
                part = output.outputs[0]
                likely = [[at.logprob for at in token.values()] for token in part.logprobs or ()]
                cached = getattr(output, "num_cached_tokens", None)
                yield Chunk(part.text, list(part.token_ids), part.finish_reason, likely, cached)
                if stop.is_set() and not aborted and not output.finished:
                    aborted = True
                    await self.engine.abort(request)  # the stream then ends with finish_reason "abort"
        except Exception as error:  # noqa: BLE001 - vLLM's own kinds: a dead engine, a refused request
            raise ReasonerLost(f"{self.name}: the engine failed: {type(error).__name__}: {error}") from error
        finally:
            await outputs.aclose()

    async def generated(self) -> int | None:
        return engine.generated_tokens()

    async def running(self) -> int | None:
        return self.engine.output_processor.get_num_unfinished_requests()

    async def close(self) -> None:
        if self.engine is not None:
            shut_down(self.engine)
            self.engine = None


def shut_down(asynchronous_engine) -> None:
    """Stop an AsyncLLM's processes."""
    engine.has_ended(asynchronous_engine)
    engine_copies.shut_down(asynchronous_engine)


class ServerReasoner(Reasoner):
    """A vLLM server (`vllm serve`), by its OpenAI-compatible URL, as http://127.0.0.1:8000/v1.

    Needs of the completions endpoint: prompts as token ids, streaming, and vLLM's `return_token_ids`. What fails before
    anything was generated is tried again (servers.py); nothing else is. To stop a request, our half of its connection
    is closed: the server aborts a request whose client has gone, and what it had sent by then is still read and
    counted.
    """

    def __init__(self, url: str, model: str, settings: ServerSettings | None = None, *, name: str | None = None):
        from openai import AsyncOpenAI
        from transformers import AutoTokenizer

        self.server = Server(url, settings or ServerSettings())
        resolved = models.resolve(model)
        self.name = name or resolved.name
        self.tokenizer = AutoTokenizer.from_pretrained(resolved.path)
        self.channels = reasoning.has_channels(self.tokenizer)
        self.client = self.server.client(AsyncOpenAI)

    async def open(self) -> None:
        """Raises ServerLost if nobody answers, UserError for a refusal or a server of another model."""
        import openai

        try:
            self.server.choose(await self.client.models.list())
        except (openai.APIError, *NO_ANSWER) as error:
            raise self.server.lost(error) from error
        await self._check_tokens()

    async def _check_tokens(self) -> None:
        """Raise UserError if the server's tokens are not our tokenizer's: prompts are token ids, nonsense there.

        A server that does not say (no /tokenize) is believed.
        """
        import httpx

        text = "Is 12 + 30 = 42? Naïve: 所以 \\boxed{42}"
        body = {"model": self.server.served, "prompt": text, "add_special_tokens": False}
        try:
            async with httpx.AsyncClient(timeout=10, headers=self.server.headers) as client:
                theirs = (await client.post(f"{self.server.root}/tokenize", json=body)).json()["tokens"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return
        if theirs != self.tokenizer.encode(text, add_special_tokens=False):
            raise UserError(
                f"{self.server.shown}: serves {self.server.served}, whose tokens are not those of {self.name}: "
                "give the model that is served"
            )

    async def stream(self, prompt, sampling, max_tokens, stop, top=0):
        import openai

        options = sampling.recorded() | {"max_tokens": max_tokens, "return_token_ids": True}
        options["skip_special_tokens"] = not self.channels
        if top:  # by token id, as two tokens may have one text
            options |= {"logprobs": top, "return_tokens_as_token_ids": True}
        try:
            reply = await self.client.completions.create(
                model=self.server.served,
                prompt=prompt,
                stream=True,
                extra_body=options,
            )
        except openai.APIError as error:
            refused = self.server.lost(error)
            raise (refused if isinstance(refused, ServerLost) else ReasonerLost(str(refused))) from error
        ended = None
        has_ids = False
        try:
            async for event in reply:
                chunk = chunk_of(event)
                if chunk is None:
                    continue
                ended = chunk.finish_reason
                has_ids |= bool(chunk.token_ids)
                if chunk.text and not has_ids:
                    raise ReasonerLost(
                        f"{self.server.shown}: returns no token ids: live traces need vLLM's return_token_ids"
                    )
                yield chunk
                if stop.is_set() and ended is None:
                    yield await last_tokens(reply)
                    return
        except broken() as error:
            raise ServerLost(
                f"{self.server.shown}: the connection broke while generating: {self.server.told(error)}"
            ) from error
        finally:
            await reply.close()
        if ended is None:
            raise ServerLost(
                f"{self.server.shown}: the answer ended without a finish reason: is the server being stopped?"
            )

    async def _metric(self, *names: str) -> int | None:
        """See servers.metric; None where the server has no metrics."""
        import httpx

        try:
            async with httpx.AsyncClient(timeout=10, headers=self.server.headers) as client:
                return metric((await client.get(f"{self.server.root}/metrics")).text, *names)
        except (httpx.HTTPError, ValueError):
            return None

    async def generated(self) -> int | None:
        return await self._metric("vllm:generation_tokens_total")

    async def running(self) -> int | None:
        return await self._metric("vllm:num_requests_running", "vllm:num_requests_waiting")

    async def close(self) -> None:
        await self.client.close()


class FleetReasoner(Reasoner):
    """Several servers of one model. What one that dies was generating goes on, from the last token, on another."""

    def __init__(self, members: Sequence[ServerReasoner]):
        self.members, self.fleet = list(members), Fleet(members)
        self.name, self.tokenizer, self.channels = members[0].name, members[0].tokenizer, members[0].channels

    async def open(self) -> None:
        for member in self.members:
            try:
                await member.open()
            except ServerLost as error:
                self.fleet.go_on_without(member, error)
        check_one_model([member.server for member in self.fleet.servers])

    async def stream(self, prompt, sampling, max_tokens, stop, top=0):
        tokens: list[int] = []
        while True:
            member = self.fleet.take()
            try:
                left = max_tokens - len(tokens)
                if left < 1:
                    yield Chunk("", [], "length")
                    return
                async with contextlib.aclosing(member.stream(prompt + tokens, sampling, left, stop, top)) as chunks:
                    async for chunk in chunks:
                        tokens += chunk.token_ids
                        yield chunk
                return
            except ServerLost as error:
                self.fleet.go_on_without(member, error, kind=ReasonerLost)
                if stop.is_set():
                    yield Chunk("", [], "abort")
                    return
            finally:
                self.fleet.give(member)

    async def _sum(self, ask: Callable[[ServerReasoner], Awaitable[int | None]], members: Sequence) -> int | None:
        counts = await asyncio.gather(*(ask(member) for member in members))
        return None if None in counts else sum(counts)

    async def generated(self) -> int | None:
        return await self._sum(lambda member: member.generated(), self.members)

    async def running(self) -> int | None:
        return await self._sum(lambda member: member.running(), self.fleet.servers)

    async def close(self) -> None:
        for member in self.members:
            await member.close()
