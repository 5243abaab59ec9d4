"""One question's traces while they are generated: opened, held when their prefix is complete, finished, recorded.

A trace is held by aborting its request. What is to be finished goes on from prompt plus kept tokens, which the engine's
prefix cache makes cheap.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from deepprune.base.errors import UserError
from deepprune.base.records import Problem, Trace
from deepprune.data import traces
from deepprune.data.truncation import Truncation
from deepprune.engines.reasoners import Reasoner, ReasonerLost, Sampling
from deepprune.judges import prompts
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings

STATES = ("waiting", "started", "held", "resumed", "finished", "pruned")
ON_JUDGE_FAILURE = ("stop", "consensus")


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """What live pruning of a question needs to know."""

    n: int
    truncation: Truncation
    cluster: ClusterSettings
    finish: FinishSettings
    sampling: Sampling
    suffix: str
    system: str | None = None
    on_judge_failure: str = "stop"
    seed: int = 0  # the engine's
    run: str = dataclasses.field(default_factory=lambda: secrets.token_hex(4))  # no two runs sample the same traces
    template: dict[str, Any] = dataclasses.field(default_factory=dict)  # arguments of the chat template

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"n should be at least 1, found {self.n}")
        if self.on_judge_failure not in ON_JUDGE_FAILURE:
            raise UserError(
                f"on_judge_failure should be one of {', '.join(ON_JUDGE_FAILURE)}, found {self.on_judge_failure!r}"
            )

    def recorded_sampling(self) -> dict[str, Any]:
        """How traces are sampled, as their records hold it."""
        own = {"system": self.system, "suffix": self.suffix, "live": True, "seed": self.seed, "run": self.run}
        template = {"chat_template_args": self.template} if self.template else {}
        return self.sampling.recorded() | own | template


@dataclasses.dataclass
class LiveTrace:
    """One trace while it is generated."""

    number: int  # in the order of starting
    state: str = "waiting"
    pieces: list[str] = dataclasses.field(default_factory=list)  # of the text
    token_ids: list[int] = dataclasses.field(default_factory=list)
    prefix: str | None = None  # set when it is held or ends
    read_whole: bool = False  # it ended before its prefix was complete: the judge sees how it ends
    prefix_tokens: int = 0  # generated when it was held: what its prefix cost
    finish_reason: str | None = None  # of the whole trace; None while it is unfinished
    arrival: int | None = None  # position in the order of being held
    record: Trace | None = None  # set when it is whole

    @property
    def text(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""

    @property
    def whole(self) -> bool:
        return self.finish_reason is not None


class LiveTraces:
    """One question's traces. `tell` gets every event as a dict; `keep` gets each whole Trace the moment it ends.

    slots: as many requests as may run at once, over all questions; tokenizer: cuts, in truncation by tokens.
    """

    def __init__(
        self,
        problem: Problem,
        reasoner: Reasoner,
        settings: LiveSettings,
        slots: asyncio.Semaphore,
        tokenizer: Any,
        tell: Callable[[dict], None],
        keep: Callable[[Trace], None],
    ):
        self.problem, self.reasoner, self.settings = problem, reasoner, settings
        self.slots, self.tokenizer, self.tell, self.keep = slots, tokenizer, tell, keep
        self.prompt = prompts.reasoner_prompt_ids(
            reasoner.tokenizer, problem.question, settings.system, settings.suffix, **settings.template
        )
        self.all = [LiveTrace(number) for number in range(settings.n)]
        self.arrived: list[LiveTrace] = []  # in the order of being held
        self.more = asyncio.Condition()  # told when one arrives
        self.opened = 0
        self.holding = True  # until the question is answered without a judge
        self.tasks: list[asyncio.Task] = []

    def event(self, kind: str, trace: LiveTrace | None = None, **more: Any) -> None:
        """Tell of something that happened now."""
        event = {"time": round(time.time(), 3), "event": kind, "problem_id": self.problem.problem_id}
        if trace is not None:
            event |= {"trace": trace.number, "tokens": len(trace.token_ids)}
        self.tell(event | more)

    def open(self, count: int) -> None:
        """Start traces until `count` are open."""
        self.tasks += [asyncio.create_task(self._open(trace)) for trace in self.all[self.opened : count]]
        self.opened = max(self.opened, count)

    async def finish(self, chosen: Sequence[LiveTrace]) -> int:
        """Generate these to the end; returns the tokens of the longest rest. Raises ReasonerLost."""
        before = [len(trace.token_ids) for trace in chosen]
        finishing = [asyncio.create_task(self._finish(trace)) for trace in chosen]
        self.tasks += finishing
        await asyncio.gather(*finishing)
        return max((len(t.token_ids) - b for t, b in zip(chosen, before, strict=True)), default=0)

    async def arrival(self, position: int) -> LiveTrace:
        """The trace that is held as the position-th, when it is."""
        async with self.more:
            await self.more.wait_for(lambda: len(self.arrived) > position)
        return self.arrived[position]

    async def all_held(self) -> None:
        """Wait until every open trace is held or has ended. Raises ReasonerLost."""
        await asyncio.gather(*self.tasks)

    async def end(self) -> None:
        """Cancel what still runs and wait until its requests are gone from the engine."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def prune(self, chosen: Sequence[int] = ()) -> None:
        """Tell of the held traces that nobody will go on with: all but those at the chosen arrivals."""
        for trace in self.arrived:
            if trace.state == "held" and trace.arrival not in chosen:
                trace.state = "pruned"
                self.event("pruned", trace)

    def record(self, trace: LiveTrace) -> Trace:
        """The Trace record. Its sample index is its place in the order of being held, in which it was clustered."""
        if trace.record:
            return trace.record
        record = traces.make(
            self.problem,
            self.reasoner.name,
            trace.arrival or 0,
            trace.text,
            max(1, len(trace.token_ids)),
            trace.finish_reason or "abort",
            self.settings.recorded_sampling(),
        )
        if not trace.whole:  # a prefix that happens to hold an answer has not been finished
            record.answer = record.correct = None
        return record

    async def _open(self, trace: LiveTrace) -> None:
        async with self.slots:
            trace.state = "started"
            self.event("started", trace)
            await self._generate(trace, hold=True)
        trace.prefix = self.settings.truncation.cut(trace.text, self.tokenizer)
        trace.prefix_tokens = len(trace.token_ids)
        trace.read_whole = trace.whole and trace.prefix == trace.text
        trace.arrival = len(self.arrived)
        trace.state = "finished" if trace.whole else "held"
        self.event(trace.state, trace, arrival=trace.arrival)
        async with self.more:
            self.arrived.append(trace)
            self.more.notify_all()
        if trace.whole:
            self._keep(trace)

    async def _finish(self, trace: LiveTrace) -> None:
        if trace.whole:
            return
        async with self.slots:
            trace.state = "resumed"
            self.event("resumed", trace)
            await self._generate(trace, hold=False)
        trace.pieces = [decoded(trace, self.reasoner.tokenizer)]
        trace.state = "finished"
        self.event("finished", trace)
        self._keep(trace)

    def _keep(self, trace: LiveTrace) -> None:
        trace.record = self.record(trace)
        self.keep(trace.record)

    async def _generate(self, trace: LiveTrace, hold: bool) -> None:
        """Generate until the prefix is complete (hold) or the trace ends."""
        settings, stop = self.settings, asyncio.Event()
        left = settings.sampling.max_tokens - len(trace.token_ids)
        if left < 1:
            trace.finish_reason = "length"
            return
        watch, reason = settings.truncation.watch(self.tokenizer), None
        # aclosing: a cancelled task must end its request in the engine now, not when the generator is collected.
        async with contextlib.aclosing(
            self.reasoner.stream(self.prompt + trace.token_ids, settings.sampling, left, stop)
        ) as stream:
            async for chunk in stream:
                trace.pieces.append(chunk.text)
                trace.token_ids += chunk.token_ids
                reason = chunk.finish_reason
                if reason in ("stop", "length"):
                    trace.finish_reason = reason
                elif hold and watch.add(chunk.text) and self.holding:
                    stop.set()
        if not trace.whole and not stop.is_set():
            raise ReasonerLost(
                f"{self.reasoner.name}: a request ended before its trace did ({reason or 'no reason given'})"
            )


def decoded(trace: LiveTrace, tokenizer: Any) -> str:
    """The whole text from the whole tokens: a character cut in two by the hold is whole again."""

    def decode(ids: list[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    ids, last = trace.token_ids, decode(trace.token_ids[-1:])
    # Engines leave the token that ends a trace out of its text, even if the tokenizer does not call it special.
    ended = trace.finish_reason == "stop" and last and not trace.text.endswith(last)
    return decode(ids[:-1] if ended else ids)


async def unless_failed(tasks: list[asyncio.Task], work: Coroutine) -> Any:
    """The result of `work`, or the error of a trace's task: nobody would wait for a prefix that never comes."""
    main = asyncio.create_task(work)
    pending = {main, *(task for task in tasks if not task.done())}
    try:
        while not main.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {main}:
                task.result()  # raises what ended it
        return main.result()
    finally:
        main.cancel()
