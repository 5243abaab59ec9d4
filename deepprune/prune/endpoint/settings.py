"""Settings of the endpoint, and what they offer."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import os
import socket

from deepprune import judges
from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.engines import models
from deepprune.prune import live_options
from deepprune.prune.endpoint.catalogue import Catalogue, Offer
from deepprune.prune.endpoint.question import Limits
from deepprune.prune.live_setup import SourceSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.consensus import ConsensusSettings


@dataclasses.dataclass
class ServeSettings(SourceSettings):
    host: str = setting("127.0.0.1", "address to listen on; one that is not loopback wants a key")
    port: int = setting(8080, "port to listen on; 0: any free one", at_least=0, at_most=65535)
    key_env: str = setting(
        "DEEPPRUNE_API_KEY",
        "environment variable that holds the key that clients must send (on loopback alone it may be empty)",
    )
    name: str | None = setting(
        None, "first part of the models' names (default: the end of the reasoner's)", is_name=True
    )
    models: list[str] = setting(
        [], "models to list, as METHOD-N (default: one of each method; without a judge, of those that need none)"
    )
    most_traces: int = setting(128, "most traces of a question that a model's name may ask for", at_least=1)
    questions: int = setting(16, "questions in progress at once; more are told to come again (429)", at_least=1)
    question_seconds: float = setting(
        3600.0, "end a question that takes longer (504)", above=0, at_most=config.LONGEST_SECONDS
    )
    body_limit: int = setting(1048576, "largest body of a request, in bytes", at_least=1024)
    probe_seconds: float = setting(
        5.0, "pause between two looks at reasoner and judge", above=0, at_most=config.LONGEST_SECONDS
    )
    grace_seconds: float = setting(
        30.0,
        "when it is told to end: seconds for the questions in progress; then they are ended",
        at_least=0,
        at_most=config.LONGEST_SECONDS,
    )
    log: str | None = setting(None, "JSONL file that each answered question is appended to", ends=config.JSONL)
    log_prompts: bool = setting(False, "log messages and contents too")
    consensus_early: bool = config.like(ConsensusSettings, "early", True)
    adaptive_batch: int = config.like(AdaptiveSettings, "batch", 4)
    adaptive_rolling: bool = config.like(AdaptiveSettings, "rolling", True)

    method, n, on_judge_failure = "consensus", 1, "stop"  # of all questions, until a model is named

    @property
    def judged(self) -> bool:
        """Whether there is a judge."""
        return self.judge_model is not None or bool(self.judge_url) or not judges.KINDS[self.judge].needs_model

    @functools.cached_property
    def catalogue(self) -> Catalogue:
        """The models. Raises UserError for a list of what cannot be offered."""
        offers = {
            name: Offer(name, live_options.options(name, self))
            for name, kind in METHODS.items()
            if self.judged or not kind.needs_judge
        }
        many = {name for name, kind in METHODS.items() if kind.needs_judge or kind.needs_confidence}
        usual = [f"{name}-{min(64 if name in many else 16, self.most_traces)}" for name in offers]
        whole = self.reasoner_name or models.resolve(self.reasoner).name
        return Catalogue(
            self.name or whole.rstrip("/").rpartition("/")[2], offers, self.models or usual, self.most_traces
        )

    def limits(self) -> Limits:
        return Limits(self.questions, self.max_tokens, self.body_limit, self.question_seconds)

    def key(self) -> str | None:
        """The key that clients must send; None: none. Raises UserError where one must be and is not."""
        key = os.environ.get(self.key_env, "").strip() or None  # one that was read from a file ends in its line's end
        if key is None and not is_loopback(self.host):
            raise UserError(
                f"--host {self.host} can be reached from other machines: put a key into the environment variable "
                f"{self.key_env}, or listen on 127.0.0.1"
            )
        return key


def is_loopback(host: str) -> bool:
    """Whether all addresses of a host are of this machine alone. Raises UserError for a host that has none."""
    try:
        addresses = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UserError(f"--host {host}: no such address ({error.strerror})") from error
    return all(ipaddress.ip_address(address[4][0].partition("%")[0]).is_loopback for address in addresses)


def bound(host: str, port: int) -> socket.socket:
    """A socket at this address that does not listen yet. Raises UserError if it cannot be had."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error.strerror}: choose another --port") from error
    return listener
