"""The endpoint's process: it listens, says so, and ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from deepprune.base import locks
from deepprune.base.jsonl import Appender
from deepprune.data import answers
from deepprune.judges import Judge
from deepprune.prune import live_run, live_setup
from deepprune.prune.answerer import Answerer
from deepprune.prune.endpoint.app import app
from deepprune.prune.endpoint.desk import Desk
from deepprune.prune.endpoint.settings import ServeSettings, bound
from deepprune.prune.endpoint.watch import judge_part, reasoner_part

OpenJudge = Callable[[], Judge]


class Server(uvicorn.Server):
    """uvicorn's, which tells when it is ready, and lets the desk end its questions before it closes connections."""

    def __init__(self, served: Any, desk: Desk, grace: float):
        closing = 10  # seconds for the last replies to be sent
        # Longer than clients keep an idle connection (httpx: 5 s): a question sent while it is being closed is lost.
        idle = 60
        options = {"log_level": "critical", "access_log": False, "lifespan": "off", "server_header": False}
        super().__init__(uvicorn.Config(served, timeout_graceful_shutdown=closing, timeout_keep_alive=idle, **options))
        self.desk, self.grace = desk, grace

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours: the first signal ends kindly, the second at once. Only the main thread gets any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.should_exit:
            self.force_exit, self.grace = True, 0
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"listening on http://{shown}:{port}/v1: {', '.join(self.desk.catalogue.models)}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(self.desk.end(self.grace))
        while not ending.done():  # a second signal ends what the first one left time for
            await asyncio.wait([ending], timeout=0.1)
            if self.force_exit and not ending.done():
                await self.desk.end(0)
        await super().shutdown(sockets)


def server_of(settings: ServeSettings, answerer: Answerer, open_judge: OpenJudge, log: Appender | None) -> Server:
    """The server of these settings. open_judge: opens a judge of this process again that failed."""
    parts = [reasoner_part(answerer.reasoner, settings.probe_seconds)]
    if answerer.judge:
        parts.append(judge_part(answerer, open_judge, settings.probe_seconds))
    desk = Desk(answerer, settings.catalogue, settings.limits(), parts, log, settings.log_prompts)
    return Server(app(desk, settings.key()), desk, settings.grace_seconds)


async def serve(settings: ServeSettings) -> None:
    """Open reasoner and judge, answer until SIGTERM or Ctrl-C, close both. Raises UserError if they cannot be had."""
    with contextlib.ExitStack() as stack:
        listener, log = stack.enter_context(bound(settings.host, settings.port)), None
        if settings.log:
            locks.hold(settings.log)
            stack.callback(locks.release, settings.log)
            log = stack.enter_context(Appender(settings.log))
        answers.same(r"\frac{1}{2}", "x + 1")  # starts what compares answers, which takes seconds
        async with live_run.open_answerer(settings) as answerer:
            server = server_of(settings, answerer, lambda: live_setup.open_judge(settings), log)
            async with server.desk.open():
                await server.serve(sockets=[listener])
    print(f"ended; {server.desk.answered} questions were answered", flush=True)
