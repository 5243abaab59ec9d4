"""OpenAI-compatible servers: how they are reached, what their refusals mean, and several of one model as a fleet.

The openai client tries connection errors, timeouts, 408, 409, 429 and 5xx again, with growing pauses or after as long
as the server asks (Retry-After). A fleet is several servers of one model: each request goes to the one that has least
under way, and one that is lost is left out; its requests are done by the others.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from deepprune.base import config, console
from deepprune.base.config import setting
from deepprune.base.errors import UserError, without_credentials

T = TypeVar("T")
R = TypeVar("R")
KEY = "OPENAI_API_KEY"
NO_KEY = "none"  # what is sent to servers that want no key
# What reading an answer raises that is none of OpenAI's API: a page, broken JSON, nothing.
NO_ANSWER = (LookupError, AttributeError, TypeError, ValueError)
MOST_SAID = 300  # characters of a server's own words in an error line


@dataclasses.dataclass
class ServerSettings:
    """How servers are reached: the settings of every stage that may ask one. None of them changes a result."""

    api_key_env: str = setting(KEY, "servers: environment variable that holds their key", free=True)
    served_model: str | None = setting(
        None, "servers: which of the models that they offer (default: the first)", free=True
    )
    timeout: float = setting(
        600.0, "servers: seconds to wait for an answer", free=True, above=0, at_most=config.LONGEST_SECONDS
    )
    retries: int = setting(
        4, "servers: times to try again after a connection error, or while it is too busy", free=True, at_least=0
    )


class ServerLost(Exception):
    """A server cannot be reached any more, or stays too busy. The message says what happened."""


class Server:
    """One server of a model. url: as http://127.0.0.1:8000/v1; `shown`: as it may be told, without a password."""

    def __init__(self, url: str, settings: ServerSettings):
        self.base, self.settings = url.rstrip("/"), settings
        self.shown = without_credentials(self.base)
        self.root = self.base.removesuffix("/v1")
        self.served: str | None = None
        self.owner: str | None = None  # what runs it, as it says itself: vllm, sglang ...
        self.context: int | None = None  # its context length in tokens, where it says so

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key(self.settings.api_key_env)}"}

    def client(self, kind: type) -> Any:
        """An openai.OpenAI or openai.AsyncOpenAI of this server."""
        s = self.settings
        return kind(base_url=self.base, api_key=api_key(s.api_key_env), timeout=s.timeout, max_retries=s.retries)

    def choose(self, offered: Any) -> None:
        """Note which model is asked for, of the answer to a question for all. Raises UserError if it is not offered."""
        try:
            models = {model.id: model for model in offered.data}
            names = ", ".join(models)
        except NO_ANSWER as error:
            raise UserError(self.refusal(error)) from error
        if not models:
            raise UserError(f"{self.shown}: the server offers no model: is one loaded there?")
        self.served = self.settings.served_model or next(iter(models))
        if self.served not in models:
            raise UserError(f"{self.shown}: offers {names}, not --served-model {self.served}")
        model = models[self.served]
        self.owner, self.context = getattr(model, "owned_by", None), getattr(model, "max_model_len", None)

    def lost(self, error: Exception) -> Exception:
        """What an error of the client is to us: ServerLost if another server may do better, else UserError."""
        return (ServerLost if passing(error) else UserError)(self.refusal(error))

    def refusal(self, error: Exception) -> str:
        """One line on what an error means and what to do."""
        import openai

        env, status = self.settings.api_key_env, getattr(error, "status_code", None)
        tries, said = self.settings.retries + 1, self.told(error)
        tried = f", tried up to {tries} times" if passing(error) and tries > 1 else ""
        if status in (401, 403):
            there = "the one in" if os.environ.get(env) else "put it into"
            rest = " was refused" if os.environ.get(env) else ""
            return f"{self.shown}: the server wants a key (HTTP {status}): {there} the environment variable {env}{rest}"
        if status == 404:
            return (
                f"{self.shown}: the server has no such model or address (HTTP 404: {said}): "
                "give the URL as http://HOST:PORT/v1"
            )
        if status == 429:
            return (
                f"{self.shown}: too many requests for the server (HTTP 429: {said}){tried}: send fewer at once, or "
                "raise --retries"
            )
        if status is not None and status >= 500:
            return f"{self.shown}: the server failed (HTTP {status}){tried}: {said}: its own log says why"
        if isinstance(error, openai.APITimeoutError):
            return (
                f"{self.shown}: no answer within {self.settings.timeout:g} s{tried}: raise --timeout, or send fewer "
                "requests at once"
            )
        if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
            return f"{self.shown}: refused a request: {said}"
        cause = f"{type(error).__name__}: {said}"
        return f"{self.shown}: no OpenAI-compatible server answers there ({cause}){tried}; start one with `vllm serve`"

    def checked(self, reply: Any) -> Any:
        """A reply to a request. Raises ServerLost if it is an error (routers answer so) or no reply: a page, null."""
        error = getattr(reply, "error", None)
        if error or not hasattr(reply, "choices"):
            told = self.told(ValueError(error or reply))
            raise ServerLost(f"{self.shown}: answered {'with an error' if error else 'what is no completion'}: {told}")
        return reply

    def told(self, error: Exception) -> str:
        """What an error says, short, on one line and without the key, which servers send back and clients tell."""
        words, key = " ".join((str(error.__cause__ or "") or str(error)).split()), api_key(self.settings.api_key_env)
        words = f"{words if key == NO_KEY else words.replace(key, '***'):.{MOST_SAID}}"
        response = getattr(error, "response", None)
        if response is None:
            return words
        wait = response.headers.get("retry-after")
        words += f"; it asks to wait, Retry-After: {wait:.40}" if wait else ""
        return words + (f"; redirected to {response.url}, give its address" if response.history else "")


class Fleet(Generic[T]):
    """Which of several servers does the next request: the one with the least under way, of those that are not lost."""

    def __init__(self, servers: Sequence[T]):
        self.servers = list(servers)
        self.under_way = [0] * len(self.servers)
        self.lock = threading.Lock()

    def take(self) -> T:
        """The server for a request, which is under way until it is given back."""
        with self.lock:
            least = min(range(len(self.servers)), key=self.under_way.__getitem__)
            self.under_way[least] += 1
            return self.servers[least]

    def give(self, server: T) -> None:
        """A request has ended."""
        with self.lock:
            if server in self.servers:
                self.under_way[self.servers.index(server)] -= 1

    def lose(self, server: T, error: Exception) -> None:
        """Leave a server out from here on; raise the error if it was the last."""
        with self.lock:
            if server not in self.servers:
                return
            if len(self.servers) == 1:
                raise error
            at = self.servers.index(server)
            del self.servers[at], self.under_way[at]
        print(f"{error}; the other servers go on ({len(self.servers)} left)", file=console.errors())

    def restore(self, server: T) -> None:
        """Take a server in again that was lost and is back."""
        with self.lock:
            if server not in self.servers:
                self.servers.append(server)
                self.under_way.append(0)

    def go_on_without(self, server: T, error: Exception, hint: str = "", kind: type[Exception] = UserError) -> None:
        """Leave out a server that is lost; if it was the last, raise its error as `kind`, with a hint.

        What is no ServerLost, a refusal say, is raised as it is.
        """
        if not isinstance(error, ServerLost):
            raise error
        try:
            self.lose(server, error)
        except ServerLost as last:
            raise kind(f"{last}{hint}") from error

    def run(self, ask: Callable[[T], R]) -> R:
        """ask(server), of another server where one is lost. Raises ServerLost of the last, and what else ask raises."""
        while True:
            server = self.take()
            try:
                return ask(server)
            except ServerLost as error:
                self.lose(server, error)
            finally:
                self.give(server)


def api_key(env: str = KEY) -> str:
    """The servers' key, from an environment variable; servers that want none take any.

    Raises UserError for one that no header can hold.
    """
    key = os.environ.get(env, "").strip() or NO_KEY  # a key that was read from a file ends in its line's end
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the key in the environment variable {env} holds characters that no key has: copy it again")
    return key


def check_one_model(servers: Sequence[Server]) -> None:
    """Raise UserError unless the servers of a fleet offer one model."""
    names = {server.served for server in servers}
    if len(names) > 1:
        raise UserError(
            f"the servers offer different models ({', '.join(sorted(names))}): give --served-model, or serve them "
            "under one name (vllm serve --served-model-name)"
        )


def metric(text: str, *names: str) -> int | None:
    """The sum of the samples of these names in a server's /metrics; None unless each is there.

    Raises ValueError for a text that is none.
    """
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples if sample.name in names]
    return int(sum(s.value for s in samples)) if {s.name for s in samples} == set(names) else None


def passing(error: Exception) -> bool:
    """Whether an error is a server's that is lost or too busy, after all retries: another one may do better."""
    import openai

    status = getattr(error, "status_code", None)
    return isinstance(error, openai.APIConnectionError) or status in (408, 409, 429) or (status or 0) >= 500


def broken() -> tuple[type[Exception], ...]:
    """What a connection that breaks in the middle of an answer raises."""
    import httpx
    import httpx2
    import openai

    return openai.APIError, httpx.HTTPError, httpx2.HTTPError, json.JSONDecodeError
