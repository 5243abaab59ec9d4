"""Is the reasoner there, is the judge? What is gone is looked for until it is back.

Servers are asked for their models every few seconds: those that a fleet has lost are taken in again as soon as they
answer with the right model. An engine in this process that died is started again, and so is a judge that fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from deepprune.base import console
from deepprune.base.errors import UserError, without_credentials
from deepprune.engines.reasoners import EngineReasoner, FleetReasoner, Reasoner, ReasonerLost
from deepprune.engines.servers import NO_ANSWER, Server
from deepprune.judges import Judge, Request
from deepprune.judges.server import ServerJudge
from deepprune.prune.answerer import Answerer
from deepprune.prune.live_judging import JudgeLost, JudgeQueue

SECONDS_TO_ANSWER = 30  # a server that takes longer to list its models is gone
PROBE = Request("What is 1 + 1?", "1 + 1", "One", "probe/0", "probe/1")
LONGEST_PAUSE = 60


class Part:
    """The reasoner or the judge. reason: why it is gone; None: it is there. mend: raises while it is gone."""

    def __init__(self, name: str, mend: Callable[[Part], Awaitable[None]], pause: float):
        self.name, self.mend, self.pause = name, mend, pause
        self.reason: str | None = None
        self.since = 0.0
        self.wake = asyncio.Event()

    def lose(self, reason: str) -> None:
        """It is gone, as far as is known: look again at once."""
        if self.reason is None:
            self.since = time.time()
            print(f"the {self.name} is gone: {without_credentials(reason)}", file=console.errors(), flush=True)
        self.reason = without_credentials(reason)
        self.wake.set()

    async def watch(self) -> None:
        """Look for it for ever; while it is gone, with growing pauses."""
        pause = self.pause
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self.wake.wait()
            except TimeoutError:
                pass
            self.wake.clear()
            try:
                await self.mend(self)
            except Exception as error:  # noqa: BLE001 - whatever keeps it from coming back is told, and tried again
                self.lose(str(error) or type(error).__name__)
                self.wake.clear()
                pause = min(2 * pause, LONGEST_PAUSE, 4 * self.pause)
            else:
                if self.reason is not None:
                    print(f"the {self.name} is back", file=console.errors(), flush=True)
                self.reason, pause = None, self.pause


def reasoner_part(reasoner: Reasoner, pause: float) -> Part:
    """The reasoner as a Part. One that is neither an engine nor servers mends itself, if it has a `mend`."""

    async def engine(part: Part) -> None:
        if reasoner.engine is not None and not reasoner.engine.errored:
            return
        part.lose("the engine died; it is being started again")
        await reasoner.close()
        await asyncio.to_thread(reasoner.start)

    async def servers(part: Part) -> None:
        lost = [m for m in reasoner.members if part.reason is not None or m not in reasoner.fleet.servers]
        reasons = await asyncio.gather(*(asking(member.server) for member in reasoner.members))
        if all(reasons):
            raise ReasonerLost("; ".join(reasons))
        for member, reason in zip(reasoner.members, reasons, strict=True):
            if member in lost and not reason:
                before = member.server.served
                await member.open()
                same_model(member.server, before)
                reasoner.fleet.restore(member)

    async def other(part: Part) -> None:
        if hasattr(reasoner, "mend"):
            await reasoner.mend()

    kinds = ((EngineReasoner, engine), (FleetReasoner, servers), (Reasoner, other))
    return Part("reasoner", next(mend for kind, mend in kinds if isinstance(reasoner, kind)), pause)


def context_of(reasoner: Reasoner) -> int | None:
    """Tokens that the reasoner's prompt and trace may have together; None: not known."""
    if isinstance(reasoner, EngineReasoner):
        return reasoner.engine.model_config.max_model_len if reasoner.engine else None
    if isinstance(reasoner, FleetReasoner):
        return min((m.server.context for m in reasoner.members if m.server.context), default=None)
    return None


def judge_part(answerer: Answerer, open_judge: Callable[[], Judge], pause: float) -> Part:
    """The judge as a Part. open_judge: opens it again where it is in this process."""

    async def servers(part: Part) -> None:
        judge: Any = answerer.judge
        lost = [s for s in judge.clients if part.reason is not None or s not in judge.fleet.servers]
        reasons = await asyncio.gather(*(asking(server) for server in judge.clients))
        if all(reasons):
            raise JudgeLost("; ".join(reasons))
        for server, reason in zip(judge.clients, reasons, strict=True):
            if server in lost and not reason:
                await asyncio.to_thread(take_back, judge, server)

    async def here(part: Part) -> None:
        if part.reason is None:
            return
        try:
            await answerer.queue.score([PROBE])
        except (JudgeLost, UserError):
            answerer.judge.close()
            answerer.judge = await asyncio.to_thread(open_judge)
            answerer.queue = JudgeQueue(answerer.judge)
            await answerer.queue.score([PROBE])

    return Part("judge", servers if isinstance(answerer.judge, ServerJudge) else here, pause)


def take_back(judge: ServerJudge, server: Server) -> None:
    """Ask a judge's server that was lost again. Raises UserError if it serves another model now."""
    import openai

    before = server.served
    try:
        server.choose(judge.clients[server].models.list())
    except (openai.APIError, *NO_ANSWER) as error:
        raise server.lost(error) from error
    same_model(server, before)
    judge.checked = False  # its weights may be others
    judge.fleet.restore(server)


def same_model(server: Server, before: str | None) -> None:
    """Raise UserError if a server that is back serves another model than before (None: it was never asked)."""
    if before not in (None, server.served):
        now, server.served = server.served, before
        raise UserError(f"{server.shown}: serves {now} now, not {before}")


async def asking(server: Server) -> str | None:
    """Why a server does not answer; None: it does."""
    import httpx

    try:
        async with httpx.AsyncClient(timeout=SECONDS_TO_ANSWER, headers=server.headers) as client:
            status = (await client.get(f"{server.base}/models")).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{server.shown}: nobody answers ({type(error).__name__})"
    return None if status < 500 else f"{server.shown}: the server failed (HTTP {status})"
