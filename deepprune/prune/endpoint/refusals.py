"""What a request is answered with where it is not answered: OpenAI's error shape, and the status."""

from __future__ import annotations

from typing import Any

INVALID, FORBIDDEN, BUSY, SERVER = "invalid_request_error", "authentication_error", "rate_limit_error", "server_error"


class Refusal(Exception):
    """An error for the client. status: of HTTP; kind: OpenAI's `type`; param: the field that it is about.

    retry_after: seconds after which the same request may be answered (None: it never will).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.param, self.code, self.retry_after = param, code, retry_after

    @property
    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        wait = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return wait | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def bad(message: str, param: str | None = None, code: str | None = "invalid_value") -> Refusal:
    """A request that makes no sense, or asks for what there is not (400)."""
    return Refusal(400, message, param=param, code=code)


def gone(message: str, retry_after: int) -> Refusal:
    """What is needed is not there now (503)."""
    return Refusal(503, message, kind=SERVER, code="unavailable", retry_after=retry_after)
