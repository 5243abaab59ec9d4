"""Questions that are being answered: taken if there is room, counted, logged, ended when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import math
import traceback
from collections.abc import AsyncIterator
from typing import Any

from deepprune.base import console, jsonl
from deepprune.base.errors import UserError, without_credentials
from deepprune.base.tasks import cancel
from deepprune.engines.reasoners import ReasonerLost
from deepprune.judges import NotAJudge
from deepprune.prune import costs
from deepprune.prune.answerer import Answer, Answerer
from deepprune.prune.endpoint import reply
from deepprune.prune.endpoint.catalogue import Catalogue
from deepprune.prune.endpoint.metrics import Metrics
from deepprune.prune.endpoint.question import Asked, Limits
from deepprune.prune.endpoint.refusals import SERVER, Refusal, gone
from deepprune.prune.endpoint.reply import Progress, Reply
from deepprune.prune.endpoint.watch import Part
from deepprune.prune.live_judging import JudgeLost, JudgeRefused
from deepprune.prune.methods import METHODS


class Desk:
    """What the endpoint's addresses do. parts: reasoner, and judge if there is one; log: None: no log."""

    def __init__(
        self,
        answerer: Answerer,
        catalogue: Catalogue,
        limits: Limits,
        parts: list[Part],
        log: jsonl.Appender | None = None,
        log_prompts: bool = False,
    ):
        self.answerer, self.catalogue, self.limits = answerer, catalogue, limits
        self.parts = {part.name: part for part in parts}
        self.log, self.log_prompts = log, log_prompts
        self.metrics = Metrics()
        self.tasks: set[asyncio.Task] = set()
        self.stopping, self.answered = False, 0
        self.usual = 1.0  # seconds of a question, on average, the last ones counting more

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Desk]:
        """Look after reasoner and judge; on leaving, end what is still in progress."""
        watching = [asyncio.create_task(part.watch()) for part in self.parts.values()]
        try:
            yield self
        finally:
            await self.end(0)
            await cancel(watching)

    async def end(self, grace: float) -> None:
        """Take no question any more; let those in progress go on for `grace` seconds, then end them."""
        self.stopping = True
        if self.tasks and grace:
            await asyncio.wait(self.tasks, timeout=grace)
        await cancel(self.tasks)

    def start(self, asked: Asked) -> tuple[asyncio.Task, Progress]:
        """Begin to answer. The task ends with a Reply or a Refusal; cancelling it stops its requests.

        Raises Refusal: 503 if what the method needs is gone, 429 if there is no room.
        """
        if self.stopping:
            raise gone("The server is being stopped", 10)
        for part in self._needed(asked):
            if part.reason is not None:
                raise gone(f"The {part.name} is gone: {part.reason}", max(1, math.ceil(part.pause)))
        if len(self.tasks) >= self.limits.questions:
            raise Refusal(
                429,
                f"{self.limits.questions} questions are in progress, which is as many as this server takes at once",
                kind="rate_limit_error",
                code="rate_limit_exceeded",
                retry_after=min(60, max(1, round(self.usual / self.limits.questions))),
            )
        progress = Progress()
        task = asyncio.create_task(self._answer(asked, progress))
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        self.metrics.in_progress.set(len(self.tasks))
        return task, progress

    def _needed(self, asked: Asked) -> list[Part]:
        names = ["reasoner"] + ["judge"] * METHODS[asked.settings.method].needs_judge
        return [self.parts[name] for name in names]

    def _ended(self, task: asyncio.Task) -> None:
        self.tasks.discard(task)
        self.metrics.in_progress.set(len(self.tasks))
        if not task.cancelled():
            task.exception()  # somebody has looked at it, even if its client has gone

    async def _answer(self, asked: Asked, progress: Progress) -> Reply:
        try:
            async with asyncio.timeout(self.limits.seconds):
                answer = await self.answerer.answer(
                    asked.question, asked.answer_type, progress.tell, settings=asked.settings
                )
            tokenizer = self.answerer.reasoner.tokenizer
            result = await asyncio.to_thread(reply.of, answer, asked, tokenizer, judge_weight(self.answerer))
            self._note(asked, answer, result)
            return result
        except asyncio.CancelledError:
            self.metrics.lose(asked.method, "stopped" if self.stopping else None, progress.generated)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the client hears of it
            reason, refusal = self._failure(error)
            self.metrics.lose(asked.method, reason, progress.generated)
            raise refusal from error

    def _failure(self, error: Exception) -> tuple[str, Refusal]:
        """(a word for the metrics, what the client is told) of what kept a question from being answered."""
        told = without_credentials(str(error))
        if isinstance(error, TimeoutError):
            told = f"The question was not answered within {self.limits.seconds:g} s"
            return "time", Refusal(504, told, kind=SERVER, code="timeout")
        if isinstance(error, ReasonerLost):
            self.parts["reasoner"].lose(told)
            return "reasoner", gone(f"The reasoner was lost: {told}", math.ceil(self.parts["reasoner"].pause))
        if isinstance(error, JudgeRefused):
            return "long", Refusal(400, told, param="messages", code="context_length_exceeded")
        if isinstance(error, JudgeLost | NotAJudge):
            self.parts["judge"].lose(told)
            return "judge", gone(f"The judge was lost: {told}", math.ceil(self.parts["judge"].pause))
        if isinstance(error, UserError):
            return "error", Refusal(500, told, kind=SERVER, code="server_error")
        return "error", unexpected(error)

    def _note(self, asked: Asked, answer: Answer, result: Reply) -> None:
        """Write an answered question into the log, and count it. Raises UserError if the log cannot be written."""
        if self.log is not None:
            row: dict[str, Any] = {
                "id": asked.id,
                "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
                "model": asked.model,
                **{name: result.more[name] for name in ("answer", "votes", "confidence", "traces", "tokens", "judge")},
                "prompt_tokens": asked.prompt_tokens,
                "sampling": asked.settings.sampling.recorded(),
                "seconds": result.more["seconds"],
                "stream": asked.stream,
            }
            if self.log_prompts:
                row |= {"messages": asked.messages, "content": result.content}
            self.log.append(row)
        self.answered += 1
        self.usual += 0.2 * (answer.seconds - self.usual)
        self.metrics.answer(asked.method, answer)

    def health(self, with_reasons: bool) -> tuple[int, dict[str, Any]]:
        """(status, body): 503 while nothing can be answered, 200 while all or (`degraded`) some models are there."""
        away = {part.name: part for part in self.parts.values() if part.reason is not None}
        status = "gone" if "reasoner" in away else "stopping" if self.stopping else "degraded" if away else "ok"
        body: dict[str, Any] = {"status": status, "questions": len(self.tasks)}
        for part in self.parts.values():
            more = {"since": round(part.since)} | ({"reason": part.reason} if with_reasons else {})
            body[part.name] = {"state": "gone", **more} if part.name in away else {"state": "ok"}
        if "judge" not in self.parts:
            body["judge"] = {"state": "none"}
        return (503 if status in ("gone", "stopping") else 200), body

    def measured(self) -> bytes:
        """/metrics."""
        for part in self.parts.values():
            self.metrics.up.labels(part.name).set(part.reason is None)
        return self.metrics.text()


def judge_weight(answerer: Answerer) -> float | None:
    """What a token of the judge costs, in the reasoner's; None: not known."""
    judge, parameters = answerer.judge, costs.parameters_from_name(answerer.reasoner.name)
    return costs.equivalent_tokens(1, 0, judge.parameters, parameters) if judge else 0.0


def unexpected(error: Exception) -> Refusal:
    """What a client is told of an error that should not be. Prints its traceback."""
    trace = without_credentials("".join(traceback.format_exception(error)))
    print(trace, end="", file=console.errors(), flush=True)
    told = f"The server failed ({type(error).__name__}); its own output says more"
    return Refusal(500, told, kind=SERVER, code="server_error")
