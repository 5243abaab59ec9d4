"""Reasoners that generate while we watch: an engine in this process's care, or an OpenAI-compatible server.

One interface: `stream` yields what was generated since the last time, and ends early when it is told to stop. Both
are vLLM underneath; what a server must have is listed at `ServerReasoner`.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import itertools
import os
import random
import re
import socket
from collections.abc import AsyncIterator

from deepprune.base.errors import UserError, without_credentials
from deepprune.data.sampling import Sampling
from deepprune.engines import engine, engine_copies, models

KEY = "OPENAI_API_KEY"
NO_MODELS = (
    IndexError,
    AttributeError,
    TypeError,
    ValueError,
)  # what reading a list of models of none, or of no list, raises
LAST_TOKENS_SECONDS = 0.5  # how long a server that was left may take to notice


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Newly generated text and token ids. finish_reason: None while it goes on, then stop, length or abort."""

    text: str
    token_ids: list[int]
    finish_reason: str | None = None


class ReasonerLost(Exception):
    """The reasoner cannot be reached any more, or refused a request. The message says what happened."""


class Reasoner(abc.ABC):
    """name: the model's name in records; tokenizer: of the same model, for prompts."""

    name: str
    tokenizer: object

    async def open(self) -> None:  # noqa: B027 - a server is open already
        """Start what must be started, inside the running event loop."""

    @abc.abstractmethod
    def stream(
        self, prompt: list[int], sampling: Sampling, max_tokens: int, stop: asyncio.Event
    ) -> AsyncIterator[Chunk]:
        """Generate at most max_tokens after the prompt. Setting `stop` aborts the request in the engine.

        The last chunk has a finish_reason. Raises ReasonerLost.
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
    ):
        from transformers import AutoTokenizer

        resolved = models.resolve(model)
        self.name, self.path = name or resolved.name, resolved.path
        self.tokenizer = AutoTokenizer.from_pretrained(self.path)
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
        }
        self.ids = itertools.count()
        self.engine = None

    async def open(self) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        with engine.starting(self.path):
            self.engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**self.options))
        engine.end_with_process(self.engine, shut_down)

    async def stream(self, prompt, sampling, max_tokens, stop):
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(**sampling.recorded() | {"max_tokens": max_tokens}, output_kind=RequestOutputKind.DELTA)
        request = f"trace-{next(self.ids)}"
        outputs = self.engine.generate({"prompt_token_ids": prompt}, params, request)
        aborted = False
        try:
            async for output in outputs:
                part = output.outputs[0]
                yield Chunk(part.text, list(part.token_ids), part.finish_reason)
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

    Needs of the completions endpoint: prompts as token ids, streaming, and vLLM's `return_token_ids`. Connection errors
    and a server that is too busy are tried again with growing pauses before anything was generated; nothing else is. To
    stop a request, our half of its connection is closed: the server aborts a request whose client has gone, and what it
    had sent by then is still read and counted.
    """

    def __init__(
        self, url: str, model: str, *, name: str | None = None, timeout_seconds: float = 600.0, retries: int = 4
    ):
        from openai import AsyncOpenAI
        from transformers import AutoTokenizer

        self.base = url.rstrip("/")
        self.url = without_credentials(self.base)  # as it may be told
        resolved = models.resolve(model)
        self.name = name or resolved.name
        self.tokenizer = AutoTokenizer.from_pretrained(resolved.path)
        self.client = AsyncOpenAI(base_url=self.base, api_key=api_key(), timeout=timeout_seconds, max_retries=0)
        self.retries = retries
        self.served: str | None = None

    async def open(self) -> None:
        import openai

        try:
            self.served = (await self.client.models.list()).data[0].id
        except (openai.APIError, *NO_MODELS) as error:
            raise UserError(refusal(self.url, error)) from error
        await self._check_tokens()

    async def _check_tokens(self) -> None:
        """Raise UserError if the server's tokens are not our tokenizer's: prompts are token ids, and would be nonsense
        there.

        A server that does not say (no /tokenize) is believed.
        """
        import httpx

        text = "Is 12 + 30 = 42? Naïve: 所以 \\boxed{42}"
        body = {"model": self.served, "prompt": text, "add_special_tokens": False}
        try:
            async with httpx.AsyncClient(timeout=10, headers={"Authorization": f"Bearer {api_key()}"}) as client:
                theirs = (await client.post(f"{self.base.removesuffix('/v1')}/tokenize", json=body)).json()["tokens"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return
        if theirs != self.tokenizer.encode(text, add_special_tokens=False):
            raise UserError(
                f"{self.url}: serves {self.served}, whose tokens are not those of {self.name}: "
                "give the model that is served"
            )

    async def stream(self, prompt, sampling, max_tokens, stop):
        import httpx
        import openai

        for attempt in itertools.count():
            try:
                reply = await self.client.completions.create(
                    model=self.served,
                    prompt=prompt,
                    stream=True,
                    extra_body=sampling.recorded() | {"max_tokens": max_tokens, "return_token_ids": True},
                )
                break
            except openai.APIError as error:
                if attempt >= self.retries or not passing(error):
                    raise ReasonerLost(refusal(self.url, error, attempt + 1)) from error
                await asyncio.sleep(backoff(attempt))
        ended = None
        try:
            async for event in reply:
                chunk = chunk_of(event)
                ended = chunk.finish_reason
                yield chunk
                if stop.is_set() and ended is None:
                    yield await last_tokens(reply)
                    return
        except (openai.APIError, httpx.HTTPError) as error:
            raise ReasonerLost(f"{self.url}: the connection broke while generating: {error}") from error
        finally:
            await reply.close()
        if ended is None:
            raise ReasonerLost(f"{self.url}: the answer ended without a finish reason: is the server being stopped?")

    async def _metric(self, name: str) -> int | None:
        import httpx

        root = self.base.removesuffix("/v1")
        try:
            async with httpx.AsyncClient(timeout=10, headers={"Authorization": f"Bearer {api_key()}"}) as client:
                text = (await client.get(f"{root}/metrics")).text
        except httpx.HTTPError:
            return None
        values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? ([0-9.eE+]+)$", text, re.MULTILINE)
        return int(sum(map(float, values))) if values else None

    async def generated(self) -> int | None:
        return await self._metric("vllm:generation_tokens_total")

    async def running(self) -> int | None:
        parts = [await self._metric(f"vllm:num_requests_{state}") for state in ("running", "waiting")]
        return None if None in parts else sum(parts)

    async def close(self) -> None:
        await self.client.close()


def api_key() -> str:
    """The servers' key, from the environment variable OPENAI_API_KEY; servers that want none take any."""
    return os.environ.get(KEY) or "none"


def passing(error: Exception) -> bool:
    """Whether a server's error may be gone in a moment: not reached, or too busy."""
    import openai

    return isinstance(error, openai.APIConnectionError) or getattr(error, "status_code", None) in (429, 502, 503, 504)


def refusal(url: str, error: Exception, tries: int = 1) -> str:
    """One line on what a server's error means and what to do. url: as it may be told."""
    import openai

    status, tried = getattr(error, "status_code", None), f", tried {tries} times" if tries > 1 else ""
    if status in (401, 403):
        there = "the one in" if os.environ.get(KEY) else "put it into"
        rest = " was refused" if os.environ.get(KEY) else ""
        return f"{url}: the server wants a key (HTTP {status}): {there} the environment variable {KEY}{rest}"
    if status == 404:
        return (
            f"{url}: the server has no such model or address (HTTP 404: {error}): give the URL as http://HOST:PORT/v1"
        )
    if status == 429:
        return f"{url}: too many requests for the server (HTTP 429){tried}: send fewer at once, or raise --retries"
    if status is not None and status >= 500:
        return f"{url}: the server failed (HTTP {status}){tried}: {error}: its own log says why"
    if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
        return f"{url}: refused a request: {error}"
    cause = f"{type(error).__name__}: {error.__cause__ or error}"
    return f"{url}: no OpenAI-compatible server answers there ({cause}){tried}; start one with `vllm serve`"


def chunk_of(event) -> Chunk:
    """What one event of a completions stream brings."""
    if not event.choices:
        return Chunk("", [])
    part = event.choices[0]
    return Chunk(part.text or "", list(getattr(part, "token_ids", None) or []), part.finish_reason)


async def last_tokens(reply) -> Chunk:
    """Close our half of a stream's connection, at which the server aborts the request, and read what was on its way.

    Over TLS nothing is read: closing one half would break the other.
    """
    import httpx
    import openai

    text, token_ids, ended = "", [], "abort"
    stream = reply.response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream else None
    if connection is not None and stream.get_extra_info("ssl_object") is None:
        # A stream that is cut off, and one that something between us and the server keeps up, end here alike.
        with contextlib.suppress(OSError, TimeoutError, openai.APIError, httpx.HTTPError):
            connection.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LAST_TOKENS_SECONDS):
                async for event in reply:
                    chunk = chunk_of(event)
                    text += chunk.text
                    token_ids += chunk.token_ids
                    ended = chunk.finish_reason or ended
    return Chunk(text, token_ids, ended)


def backoff(attempt: int, first_seconds: float = 0.5, most_seconds: float = 20.0) -> float:
    """Seconds to wait before trying again: doubled each time, with some chance so that many do not come at once."""
    return min(most_seconds, first_seconds * 2**attempt) * random.uniform(0.75, 1.25)
