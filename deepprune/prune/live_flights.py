"""Requests in flight: each takes one trace to its prefix or its end, and can be stopped at the next token.

A trace is held or stopped by aborting its request. What goes on later goes on from prompt plus kept tokens, which the
engine's prefix cache makes cheap.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from deepprune.base.records import Trace
from deepprune.base.tasks import cancel
from deepprune.data import confidence, reasoning
from deepprune.data.confidence import Windows
from deepprune.data.sampling import Sampling
from deepprune.data.truncation import Truncation
from deepprune.engines.reasoners import Chunk, Reasoner, ReasonerLost
from deepprune.prune.protocol import PREFIX, Dropped, Ended, Generate, Held

STATES = ("waiting", "started", "held", "resumed", "finished", "stopped", "pruned")
SECONDS_TO_STOP = 5.0  # for a stopped trace's next token; after that its request is cancelled


@dataclasses.dataclass(eq=False)
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
    resumed: int = 0  # prompt tokens of the requests that went on with it
    cached: int | None = 0  # of these, from the engine's prefix cache (None: it does not say)
    confidences: list[float] = dataclasses.field(default_factory=list)  # of its tokens, where the reasoner brings them
    arrival: int | None = None  # position in the order of being held, where traces are held
    record: Trace | None = None  # set when it is whole

    @property
    def text(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""

    @property
    def plain(self) -> str:
        """The text as records hold it."""
        return reasoning.plain(self.text)

    @property
    def whole(self) -> bool:
        return self.finish_reason is not None


@dataclasses.dataclass(eq=False)
class Flight:
    """A trace on its way to its prefix or its end. depth: tokens of the longest chain of generation before it."""

    trace: LiveTrace
    goal: str  # PREFIX or END
    below: float | None  # see Generate
    depth: int
    before: asyncio.Task | None  # of the same trace; it is being stopped
    stop: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)  # aborts the request
    stopped: bool = False  # nobody wants to hear of it any more
    running: bool = False  # it has had its turn
    dropped: bool = False  # its confidence fell
    heard: bool = False  # its first chunk has come
    tokens: int = 0  # received
    task: asyncio.Task | None = None


class Flights:
    """What is in flight of one question's traces. tell: gets the kind of what happened, and the trace.

    slots: each request enters it (live_slots.py); tokenizer: cuts, in truncation by tokens; windows: of confidence.
    """

    def __init__(
        self,
        reasoner: Reasoner,
        prompt: list[int],
        sampling: Sampling,
        truncation: Truncation,
        slots: AbstractAsyncContextManager,
        tokenizer: Any,
        tell: Callable[[str, LiveTrace], None],
        windows: Windows | None,
    ):
        self.reasoner, self.prompt, self.sampling, self.truncation = reasoner, prompt, sampling, truncation
        self.slots, self.tokenizer, self.tell, self.windows = slots, tokenizer, tell, windows
        self.more = {"top": windows.top_k} if windows else {}  # of each request
        self.last: dict[int, Flight] = {}  # of each trace
        self.happened: asyncio.Queue[tuple[Flight | None, Any]] = asyncio.Queue()

    def start(self, trace: LiveTrace, command: Generate, depth: int) -> None:
        """Set a trace on its way; one that is in flight goes on to the new goal."""
        before = self.last.get(trace.number)
        if before and not before.task.done() and not before.stopped:
            before.goal, before.below = command.to, command.below
            return
        if before:
            before.stopped = True
        flight = self.last[trace.number] = Flight(trace, command.to, command.below, depth, before and before.task)
        flight.task = asyncio.create_task(self._fly(flight))

    def stop(self, numbers: Sequence[int]) -> None:
        """Stop these traces at their next token."""
        for number in numbers:
            if flight := self.last.get(number):
                flight.stopped = True
                flight.stop.set()
                if not flight.running:
                    flight.task.cancel()

    async def end(self) -> None:
        """Stop what still runs and wait until its requests are gone from the engine."""
        tasks = [flight.task for flight in self.last.values()]
        self.stop(list(self.last))
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=SECONDS_TO_STOP)
        finally:  # also where who waits here is cancelled
            await cancel(tasks)

    def put(self, event: Any) -> None:
        """Queue an event that no trace brought, or what ended its source."""
        self.happened.put_nowait((None, event))

    def forget(self) -> None:
        """Nobody waits for what has happened so far any more."""
        self.happened = asyncio.Queue()

    async def next(self) -> tuple[Flight | None, Any]:
        """A flight that arrived, with the kind of its event; or (None, what was put). Raises what ended its source."""
        while True:
            flight, event = await self.happened.get()
            if isinstance(event, BaseException):
                raise event
            if flight is None or not flight.stopped:
                return flight, event

    async def _fly(self, flight: Flight) -> None:
        """Generate, and say what came of it."""
        trace, resumed = flight.trace, bool(flight.trace.token_ids)
        try:
            if flight.before:
                await asyncio.wait([flight.before])
            if not trace.whole and (flight.goal != PREFIX or trace.prefix is None):
                await self._generate(flight, "resumed" if resumed else "started")
                self._arrive(flight, resumed)
        except Exception as error:  # noqa: BLE001 - whatever ended the trace, the question must hear of it
            self.happened.put_nowait((flight, error))
        else:
            kind = Dropped if flight.dropped else Held if flight.goal == PREFIX else Ended
            self.happened.put_nowait((flight, kind))

    def _arrive(self, flight: Flight, resumed: bool) -> None:
        trace = flight.trace
        if flight.stopped and not trace.whole:
            trace.state = "stopped"
            self.tell("stopped", trace)
        elif flight.goal == PREFIX:
            text = trace.plain
            trace.prefix = self.truncation.cut(text, self.tokenizer)
            trace.prefix_tokens = len(trace.token_ids)
            trace.read_whole = trace.whole and trace.prefix == text
        elif trace.whole:
            if resumed:
                trace.pieces = [decoded(trace, self.reasoner.tokenizer, not self.reasoner.channels)]
            if flight.below is not None:  # a trace that is shorter than a window is one
                flight.dropped = confidence.lowest_group(self.windows.summarise(trace.confidences)) < flight.below

    def _receive(self, flight: Flight, chunk: Chunk) -> bool:
        """Note what was generated; whether its confidence fell below what the flight's command allows."""
        trace = flight.trace
        if trace.token_ids and not flight.heard:  # it goes on
            trace.resumed += len(self.prompt) + len(trace.token_ids)
            trace.cached = None if None in (trace.cached, chunk.cached) else trace.cached + chunk.cached
        flight.heard = True
        trace.pieces.append(chunk.text)
        trace.token_ids += chunk.token_ids
        flight.tokens += len(chunk.token_ids)
        if not self.windows:
            return False
        known = len(trace.confidences)
        trace.confidences += self.windows.of(chunk.likely)
        return flight.below is not None and self.windows.fell_below(trace.confidences, known, flight.below)

    async def _generate(self, flight: Flight, state: str) -> None:
        """Generate until the prefix is complete, the trace ends or it is stopped."""
        trace, stop = flight.trace, flight.stop
        left = self.sampling.max_tokens - len(trace.token_ids)
        if left < 1:
            trace.finish_reason = "length"
            return
        watch = reason = None
        async with self.slots:
            flight.running, trace.state = True, state
            self.tell(state, trace)
            # aclosing: a cancelled task must end its request in the engine now, not when the generator is collected.
            stream = self.reasoner.stream(self.prompt + trace.token_ids, self.sampling, left, stop, **self.more)
            async with contextlib.aclosing(stream):
                async for chunk in stream:
                    fell, reason = self._receive(flight, chunk), chunk.finish_reason
                    if reason in ("stop", "length"):
                        trace.finish_reason = reason
                    elif flight.goal == PREFIX:
                        seen = chunk.text
                        if watch is None:  # of what was generated on an earlier way too
                            watch, seen = self.truncation.watch(self.tokenizer), trace.text
                        if watch.add(seen):
                            stop.set()
                    else:
                        watch = None
                        if fell:
                            flight.dropped = True
                            stop.set()
        if not trace.whole and not stop.is_set():
            raise ReasonerLost(
                f"{self.reasoner.name}: a request ended before its trace did ({reason or 'no reason given'})"
            )


def decoded(trace: LiveTrace, tokenizer: Any, skip_special_tokens: bool = True) -> str:
    """The whole text from the whole tokens: a character cut in two by the hold is whole again."""

    def decode(ids: list[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)

    ids, last = trace.token_ids, decode(trace.token_ids[-1:])
    # Engines leave the token that ends a trace out of its text, even if the tokenizer does not call it special.
    ended = trace.finish_reason == "stop" and last and not trace.text.endswith(last)
    return decode(ids[:-1] if ended else ids)
