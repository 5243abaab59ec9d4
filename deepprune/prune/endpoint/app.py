"""The endpoint's addresses: /v1/chat/completions, /v1/models, /metrics, /health. All that they do is at the Desk."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from deepprune.base import jsonl
from deepprune.prune.endpoint import question, reply
from deepprune.prune.endpoint.desk import Desk, unexpected
from deepprune.prune.endpoint.question import Asked
from deepprune.prune.endpoint.refusals import FORBIDDEN, Refusal, gone
from deepprune.prune.endpoint.reply import Progress, Reply

QUIET_SECONDS = 1.0  # between two comments of a stream
SECONDS_TO_SEND = 60  # a request's body
SECONDS_REFUSED, SECONDS_OF_SILENCE = 20, 1  # in which a client may send the rest of a body that is refused


class Stream(StreamingResponse):
    """A question's stream. However it is left, the question is ended."""

    def __init__(self, asked: Asked, task: asyncio.Task, progress: Progress):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "X-Request-Id": asked.id}
        super().__init__(events(asked, task, progress), media_type="text/event-stream", headers=headers)
        self.task = task

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.task.cancel()


def app(desk: Desk, key: str | None) -> FastAPI:
    """The application. key: what clients must send as a bearer token; None: none is wanted (loopback alone)."""
    served = FastAPI(title="deepprune", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    def allowed(request: Request) -> bool:
        given = request.headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        right = hmac.compare_digest(
            token.strip().encode("latin-1"), (key or "").encode()
        )  # takes as long for any wrong one
        return key is None or (scheme.lower() == "bearer" and right)

    def check(request: Request) -> None:
        if not allowed(request):
            told = "Incorrect API key" if "authorization" in request.headers else "No API key was sent"
            raise Refusal(401, f"{told}: send it as Authorization: Bearer KEY", kind=FORBIDDEN, code="invalid_api_key")

    handle_errors(served, desk)

    @served.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        check(request)
        sent = await raw(request, desk.limits.body)
        asked = await asyncio.to_thread(question.asked, sent, desk.catalogue, desk.answerer, desk.limits)
        task, progress = desk.start(asked)
        if asked.stream:
            return Stream(asked, task, progress)
        return as_json(reply.completion(asked, await waited(request, task)), {"X-Request-Id": asked.id})

    @served.get("/v1/models")
    async def models(request: Request) -> Response:
        check(request)
        return as_json({"object": "list", "data": [desk.catalogue.row(model) for model in desk.catalogue.models]})

    @served.get("/v1/models/{model:path}")
    async def model(request: Request, model: str) -> Response:
        check(request)
        return as_json(desk.catalogue.row(model))

    @served.get("/metrics")
    async def metrics(request: Request) -> Response:
        check(request)
        return Response(desk.measured(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @served.api_route("/health", methods=["GET", "HEAD"])
    async def health(request: Request) -> Response:
        status, state = desk.health(allowed(request))
        return as_json(state, status=status)

    return served


def handle_errors(served: FastAPI, desk: Desk) -> None:
    """Every error has OpenAI's shape."""

    @served.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> Response:
        return refused(desk, refusal)

    @served.exception_handler(HTTPException)
    async def no_such_address(request: Request, error: HTTPException) -> Response:
        told = f"{request.method} {request.url.path[:100]}: {error.detail}"
        answer = refused(desk, Refusal(error.status_code, told, code="unknown_url"))
        answer.headers.update(error.headers or {})  # which methods there are
        return answer

    @served.exception_handler(ClientDisconnect)
    async def left(*_: Any) -> Response:
        return Response(status_code=400)  # nobody reads it

    @served.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return refused(desk, unexpected(error))

    served.add_exception_handler(404, no_such_address)
    served.add_exception_handler(405, no_such_address)


def as_json(data: Any, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    return Response(jsonl.dumps(data), status, headers, "application/json")


class LastWord(Response):
    """JSON after which the connection is closed, when the client has sent what it is sending, which is thrown away.

    Closed at once, a client that still sends would find its connection broken before it has read the answer.
    """

    def __init__(self, data: Any, headers: dict[str, str], status: int):
        super().__init__(jsonl.dumps(data), status, headers, "application/json")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_REFUSED):
                while (await asyncio.wait_for(receive(), SECONDS_OF_SILENCE)).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})


def refused(desk: Desk, refusal: Refusal) -> Response:
    desk.metrics.refused.labels(str(refusal.status)).inc()
    if refusal.status in (401, 408, 413, 415):  # its body was not read
        return LastWord(refusal.body, refusal.headers | {"Connection": "close"}, refusal.status)
    return as_json(refusal.body, refusal.headers, refusal.status)


async def raw(request: Request, most: int) -> bytes:
    """The request's body. Raises Refusal for one of another type (415) or of more bytes (413), before it is read
    whole."""
    kind, coding = (request.headers.get(f"content-{name}", "") for name in ("type", "encoding"))
    if kind.partition(";")[0].strip().lower() != "application/json":
        told = "The body should be JSON: send Content-Type: application/json"
        raise Refusal(415, told, code="unsupported_media_type")
    if coding.strip().lower() not in ("", "identity"):
        told = f"The body should be plain JSON: Content-Encoding {coding[:40]!r} is not supported"
        raise Refusal(415, told, code="unsupported_media_type")
    too_large = Refusal(413, f"The body is larger than {most} bytes", code="request_too_large")
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 12 or int(length) > most):
        raise too_large
    read = bytearray()
    try:
        async with asyncio.timeout(SECONDS_TO_SEND):
            async for part in request.stream():
                read += part
                if len(read) > most:
                    raise too_large
    except TimeoutError:
        raise Refusal(408, f"The body did not arrive within {SECONDS_TO_SEND} s", code="timeout") from None
    return bytes(read)


async def waited(request: Request, task: asyncio.Task) -> Reply:
    """The reply, unless the client hangs up before: then the question is ended. Raises Refusal."""
    leaving = asyncio.create_task(hung_up(request))
    try:
        await asyncio.wait([task, leaving], return_when=asyncio.FIRST_COMPLETED)
        return await outcome(task)
    finally:
        leaving.cancel()
        task.cancel()


async def hung_up(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def outcome(task: asyncio.Task) -> Reply:
    """What came of a question; one that is not done is ended. Raises Refusal, for one that was ended too."""
    if not task.done():
        task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        raise gone("The question was ended before its answer: the server is being stopped", 10)
    return task.result()


async def events(asked: Asked, task: asyncio.Task, progress: Progress) -> AsyncIterator[str]:
    """A stream: comments while traces are generated, then the answer in chunks, or an error."""
    while not task.done():
        yield progress.comment()
        await asyncio.wait([task], timeout=QUIET_SECONDS)
    try:
        for chunk in reply.chunks(asked, await outcome(task)):
            yield reply.event(chunk)
    except Refusal as refusal:
        yield reply.event(refusal.body)
    yield reply.event("[DONE]")
