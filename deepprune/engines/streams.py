"""What a request's stream brings, and how a stream is left so that nothing that was generated goes uncounted."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket

from deepprune.engines.servers import broken

LAST_TOKENS_SECONDS = 0.5  # how long a server that was left may take to notice


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Newly generated text and token ids. finish_reason: None while it goes on, then stop, length or abort.

    likely: log-probabilities of the likeliest tokens at each of them, where they are asked for. cached: of a request's
    first chunk: tokens of its prompt that the engine had in its prefix cache (None: it does not say).
    """

    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    likely: list[list[float]] = dataclasses.field(default_factory=list)
    cached: int | None = None


def chunk_of(event) -> Chunk | None:
    """What one event of a completions stream brings; None if it is of no trace: a count of the tokens at the end."""
    choices = getattr(event, "choices", None)
    if not choices:
        return None
    part = choices[0]
    likely = [list(token.values()) for token in (part.logprobs and part.logprobs.top_logprobs) or () if token]
    return Chunk(part.text or "", list(getattr(part, "token_ids", None) or []), part.finish_reason, likely)


async def last_tokens(reply) -> Chunk:
    """Close our half of a stream's connection, at which the server aborts the request, and read what was on its way.

    Over TLS nothing is read: closing one half would break the other.
    """
    text, token_ids, ended = "", [], "abort"
    stream = reply.response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream else None
    if connection is not None and stream.get_extra_info("ssl_object") is None:
        # A stream that is cut off, and one that something between us and the server keeps up, end here alike.
        with contextlib.suppress(OSError, TimeoutError, *broken()):
            connection.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LAST_TOKENS_SECONDS):
                async for event in reply:
                    if chunk := chunk_of(event):
                        text += chunk.text
                        token_ids += chunk.token_ids
                        ended = chunk.finish_reason or ended
    return Chunk(text, token_ids, ended)
