"""A made-up vLLM server, for loads that no small machine could generate: reasoner and judge in one, without a model.

    python benchmarks/fake_vllm.py --model HuggingFaceTB/SmolLM2-135M-Instruct --port 9001

It answers /v1/models, /v1/completions (prompts as token ids, streamed with `return_token_ids`, and a judge's
`logprob_token_ids`) and /metrics as vLLM does, in the tokens of --model. Traces are short sums: three of four end in
the same answer. A request is aborted when its client closes its half of the connection, as vLLM does.
"""

import asyncio
import dataclasses
import json
import math
import zlib
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from tokenizers import Tokenizer

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.stage import command
from deepprune.engines import models

TEXT = (
    "First we look at {n}. Then we add the tens, so that {a} is near. But we check it once more: the ones are right. "
    "Therefore the answer is \\boxed{{{a}}}."
)


@dataclasses.dataclass
class FakeSettings:
    model: str = setting(config.REQUIRED, "model whose tokenizer is used: folder or hub id")
    port: int = setting(9001, "port on loopback", at_least=1, at_most=65535)
    tokens_a_second: float = setting(100.0, "of each trace", above=0)
    at_once: int = setting(8, "tokens of a piece", at_least=1)


@dataclasses.dataclass
class Counts:
    running: int = 0
    generated: int = 0
    started: int = 0


def planned(tokenizer: Tokenizer, prompt: list[int], counts: Counts) -> list[int]:
    """Token ids of a new trace, or of the rest of one that the prompt ends in."""
    said = tokenizer.decode(prompt)
    _, begun, part = said.rpartition("First we look at ")
    if begun:  # it goes on: the text up to here is the plan's beginning
        number = int(part.split(".")[0]) if part.split(".")[0].isdigit() else 0
    else:
        counts.started += 1
        number = counts.started
    value = 7 if number % 4 == 0 else zlib.crc32(said.partition("First we look at ")[0].encode()) % 90 + 10
    ids = tokenizer.encode(TEXT.format(n=number, a=value), add_special_tokens=False).ids
    if begun:
        done = len(tokenizer.encode(begun + part, add_special_tokens=False).ids)
        return ids[done:] or ids[-1:]
    return ids


def judged(body: dict[str, Any]) -> dict[str, Any]:
    """A judge's reply: log-probabilities of the labels, or of the likeliest tokens where none are named."""
    share = 0.15 + 0.7 * (zlib.crc32(json.dumps(body["prompt"]).encode()) % 997) / 997
    labels = body.get("logprob_token_ids")
    chances = (0.13 * share, 0.13 * (1 - share)) if labels else (0.1413, 0.1271, 0.1173, 0.1097, 0.1031)
    tokens = labels or range(100, 105)
    logprobs = {f"token_id:{token}": math.log(p) for token, p in zip(tokens, chances, strict=True)}
    choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": {"top_logprobs": [logprobs]}}
    usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 1, "total_tokens": len(body["prompt"]) + 1}
    return {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def app(settings: FakeSettings) -> FastAPI:
    tokenizer, counts = Tokenizer.from_file(f"{models.resolve(settings.model).path}/tokenizer.json"), Counts()
    served = FastAPI()

    @served.get("/v1/models")
    async def listed() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": settings.model, "owned_by": "fake", "max_model_len": 2048}]}

    @served.get("/health")
    async def health() -> dict[str, str]:
        return {}

    @served.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(
            f"vllm:num_requests_running {counts.running}\nvllm:num_requests_waiting 0\n"
            f"vllm:generation_tokens_total {counts.generated}\n"
        )

    @served.post("/v1/completions")
    async def completions(request: Request) -> Any:
        body = await request.json()
        if not body.get("stream"):
            counts.generated += 1
            return judged(body)
        ids = planned(tokenizer, body["prompt"], counts)
        return StreamingResponse(generate(ids, body), media_type="text/event-stream")

    async def generate(ids: list[int], body: dict[str, Any]) -> AsyncIterator[str]:
        counts.running += 1
        wanted, step = ids[: body["max_tokens"]], settings.at_once
        try:
            for start in range(0, len(wanted), step):
                await asyncio.sleep(step / settings.tokens_a_second)
                part = wanted[start : start + step]
                counts.generated += len(part)
                last = start + step >= len(wanted)
                reason = ("stop" if len(wanted) == len(ids) else "length") if last else None
                choice = {"index": 0, "text": tokenizer.decode(part), "token_ids": part, "finish_reason": reason}
                choice["logprobs"] = likely(part) if body.get("logprobs") else None
                event = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
                yield f"data: {json.dumps(event)}\n\n"
            yield "data: [DONE]\n\n"
        finally:
            counts.running -= 1

    return served


def likely(part: list[int]) -> dict[str, Any]:
    """Log-probabilities as vLLM streams them, alike at every token."""
    return {"top_logprobs": [{f"token_id:{token}": -0.2, "token_id:1": -2.0} for token in part]}


@command
def main() -> None:
    settings = config.parse(FakeSettings, None, __doc__)
    uvicorn.run(app(settings), port=settings.port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()
