"""One question's traces while they are generated: what a method wants of them, what it is told, their records.

Answers are read, graded and compared in threads: a comparison may take seconds of the math worker, and the other
questions' tokens do not wait for it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from deepprune.base.errors import UserError
from deepprune.base.records import Problem, Trace
from deepprune.data import answers, confidence, traces
from deepprune.data.confidence import Windows
from deepprune.data.truncation import Truncation
from deepprune.engines.reasoners import Reasoner, Sampling
from deepprune.judges import prompts
from deepprune.prune.live_flights import Flights, LiveTrace
from deepprune.prune.methods import METHODS
from deepprune.prune.protocol import PREFIX, Dropped, Ended, Event, Generate, Held

ON_JUDGE_FAILURE = ("stop", "consensus")
NO_JUDGE = "none"  # in records of methods without one


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """How a question is answered. method: a name of METHODS; options: its settings (None: their defaults)."""

    n: int
    truncation: Truncation
    method: str
    options: Any
    sampling: Sampling
    suffix: str
    system: str | None = None
    on_judge_failure: str = "stop"
    seed: int = 0  # the engine's
    run: str = dataclasses.field(default_factory=lambda: secrets.token_hex(4))  # no two runs sample the same traces
    template: dict[str, Any] = dataclasses.field(default_factory=dict)  # arguments of the chat template
    earlier: tuple[tuple[str, str], ...] = ()  # (role, text) of the turns before the question
    windows: Windows = Windows()  # noqa: RUF009 - frozen

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
        earlier = {"earlier": [list(turn) for turn in self.earlier]} if self.earlier else {}
        return self.sampling.recorded() | own | template | earlier

    def judged(self, question: str) -> str:
        """The question as the judge reads it: after earlier turns, all of them with their roles."""
        turns = [*self.earlier, ("user", question)]
        return "\n\n".join(f"{role.title()}: {text}" for role, text in turns) if self.earlier else question


class LiveTraces:
    """One question's traces. `tell` gets every event as a dict; `keep` gets each whole Trace the moment it ends.

    slots, tokenizer: see Flights. depth: the longest chain of dependent generation so far, in tokens.
    """

    def __init__(
        self,
        problem: Problem,
        reasoner: Reasoner,
        settings: LiveSettings,
        slots: AbstractAsyncContextManager,
        tokenizer: Any,
        tell: Callable[[dict], None],
        keep: Callable[[Trace], None],
    ):
        self.problem, self.reasoner, self.settings, self.tell, self.keep = problem, reasoner, settings, tell, keep
        asked = problem.question, settings.system, settings.suffix, settings.earlier
        prompt = prompts.reasoner_prompt_ids(reasoner.tokenizer, *asked, **settings.template)
        sampling, cut = settings.sampling, settings.truncation
        windows = settings.windows if METHODS[settings.method].needs_confidence else None
        self.flights = Flights(reasoner, prompt, sampling, cut, slots, tokenizer, self.event, windows)
        self.all = [LiveTrace(number) for number in range(settings.n)]
        self.arrived: list[LiveTrace] = []  # in the order of being held, or of ending
        self.ended: dict[int, int | None] = {}  # those told to the method: their answers' classes
        self.classes = answers.Classes(problem.answer_type)
        self.wanted: dict[int, None] = {}  # to be generated to the end, in the order in which that was asked for
        self.depth = 0
        self.holds = METHODS[settings.method].needs_judge

    def event(self, kind: str, trace: LiveTrace | None = None, **more: Any) -> None:
        """Tell of something that happened now."""
        event = {"time": round(time.time(), 3), "event": kind, "problem_id": self.problem.problem_id}
        if trace is not None:
            event |= {"trace": trace.number, "tokens": len(trace.token_ids)}
        self.tell(event | more)

    def start(self, command: Generate) -> None:
        """Do what a method wants generated."""
        for number in command.traces:
            self.flights.start(self.all[number], command, self.depth)
            if command.to != PREFIX:
                self.wanted[number] = None

    async def next(self) -> Event:
        """The next event for the method. Raises what ended a trace's generation, or the judge."""
        flight, event = await self.flights.next()
        if flight is None:
            return event
        trace = flight.trace
        self.depth = max(self.depth, flight.depth + flight.tokens)
        await self._settle(trace)
        state, trace.state = trace.state, "stopped" if event is Dropped else "finished" if trace.whole else "held"
        if state != trace.state:
            self.event(trace.state, trace, **({} if trace.arrival is None else {"arrival": trace.arrival}))
        if event is Held:
            return Held(trace.number, trace.prefix_tokens)
        if event is Dropped:
            return Dropped(trace.number)
        if trace.number not in self.ended:
            self.ended[trace.number] = await asyncio.to_thread(self.classes.add, trace.record.answer)
        summary = trace.record.confidence
        lowest = None if summary is None else confidence.lowest_group(summary)
        return Ended(trace.number, self.ended[trace.number], lowest, len(trace.token_ids))

    async def _settle(self, trace: LiveTrace) -> None:
        """Give a trace that is held or at its end its place, and keep it if it is whole."""
        if trace not in self.arrived:
            if self.holds:
                trace.arrival = len(self.arrived)
            self.arrived.append(trace)
        if trace.whole and trace.record is None:
            trace.record = await asyncio.to_thread(self.record, trace)
            self.keep(trace.record)

    async def end(self) -> None:
        """Stop what still runs and wait until its requests are gone from the engine."""
        await self.flights.end()
        for trace in self.all:
            if unseen := trace.state in ("started", "resumed"):  # cancelled, failed, or nobody waited for its end
                trace.state = "finished" if trace.whole else "stopped"
            if trace.whole or trace.state == "stopped":
                await self._settle(trace)
            if unseen:
                self.event(trace.state, trace)

    def prune(self) -> None:
        """Tell of the held traces that nobody went on with."""
        for trace in self.arrived:
            if trace.state == "held":
                trace.state = "pruned"
                self.event("pruned", trace)

    def finished(self) -> list[LiveTrace]:
        """The traces that were generated to the end, in the order in which that was asked for."""
        return [self.all[number] for number in self.wanted if number in self.ended]

    def record(self, trace: LiveTrace) -> Trace:
        """The Trace record. Its sample index is its place in the order of being held, or else of starting."""
        if trace.record:
            return trace.record
        # A prefix that happens to hold an answer has not been finished.
        text = trace.plain
        answer = answers.extract(text, self.problem.answer_type) if trace.whole else None
        return traces.graded(
            self.problem,
            answer,
            self.reasoner.name,
            trace.number if trace.arrival is None else trace.arrival,
            text,
            max(1, len(trace.token_ids)),
            trace.finish_reason or "abort",
            self.settings.recorded_sampling(),
            self.settings.windows.summarise(trace.confidences),
        )

    def tokens(self) -> dict[str, int]:
        """Tokens by kind, as Pruning.tokens.

        What cons@n would have cost is an estimate: not all traces ended. Where there are some, stopped: of traces that
        were stopped on their way; resumed: of prompts with which traces went on, and resumed_cached: of these, from the
        engine's prefix cache (if it says).
        """
        prefix, total = sum(t.prefix_tokens for t in self.all), self.spent()
        stopped = sum(len(t.token_ids) - t.prefix_tokens for t in self.all if t.state == "stopped")
        resumed, cached = sum(t.resumed for t in self.all), [t.cached for t in self.all]
        return {
            "prefix": prefix,
            "rest": total - prefix - stopped,
            **({"stopped": stopped} if stopped else {}),
            "total": total,
            "consensus": self.consensus_tokens(),
            "sequential": self.depth,
            **({"resumed": resumed} if resumed else {}),
            **({"resumed_cached": sum(cached)} if resumed and None not in cached else {}),
        }

    def spent(self) -> int:
        """Tokens generated so far."""
        return sum(len(t.token_ids) for t in self.all)

    def consensus_tokens(self) -> int:
        """An estimate of cons@n's tokens: n times the mean length of the traces that ended; 0 while none has."""
        whole = [len(t.token_ids) for t in self.all if t.whole]
        return round(self.settings.n * sum(whole) / len(whole)) if whole else 0
