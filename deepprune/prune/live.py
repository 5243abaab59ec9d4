"""A question answered while its traces are generated: any method, driven between reasoner and judge.

The method (deepprune/prune/methods/) says what is generated, stopped and compared, and is told what happens, as on
recorded traces. A trace is held when its prefix is complete (the truncation's k-th word or token). When the method has
its votes, every request that is in flight is stopped. Nothing else is ever generated.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from deepprune.base.records import Problem, Pruning, Trace
from deepprune.data import answers
from deepprune.engines.reasoners import Reasoner
from deepprune.prune import finishing, rules
from deepprune.prune.live_judging import JudgeLost, JudgeQueue, LiveComparisons
from deepprune.prune.live_traces import NO_JUDGE, LiveSettings, LiveTraces
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.deepprune import Clustering
from deepprune.prune.protocol import Command, Compare, Event, Generate, Method, Stop, Votes


class LiveQuestion:
    """One question's live run. `tell` gets every event as a dict; `keep` gets each whole Trace the moment it ends.

    judge: None for methods that need none. log: what the method was told, in order (see `replay.rerun`).
    """

    def __init__(
        self,
        problem: Problem,
        reasoner: Reasoner,
        judge: JudgeQueue | None,
        settings: LiveSettings,
        slots: AbstractAsyncContextManager,
        tokenizer: Any,
        tell: Callable[[dict], None] = lambda event: None,
        keep: Callable[[Trace], None] = lambda trace: None,
    ):
        self.problem, self.judge, self.settings = problem, judge, settings
        self.traces = LiveTraces(problem, reasoner, settings, slots, tokenizer, tell, keep)
        self.comparisons = LiveComparisons(self.traces, judge)
        self.clustering: Clustering | None = None
        self.log: list[Event] = []
        self.votes: Votes = {}
        self.judge_failed: str | None = None

    async def run(self) -> Pruning:
        """Answer the question. Raises ReasonerLost, and JudgeLost unless the settings go on without a judge."""
        try:
            return await self._answer(self._method())
        except JudgeLost as error:
            if self.settings.on_judge_failure != "consensus":
                raise
            self.judge_failed = str(error)
            self.traces.event("judge lost", error=str(error))
            return await self.consensus()
        finally:
            await self._end()

    async def consensus(self) -> Pruning:
        """cons@n: every trace to the end, one vote each, no judge. Raises ReasonerLost."""
        self.traces.flights.forget()
        self.clustering, self.log = None, []
        try:
            return await self._answer(METHODS["consensus"].start(self.settings.n))
        finally:
            await self._end()

    @property
    def _options(self) -> Any:
        """The method's settings."""
        return METHODS[self.settings.method].settings() if self.settings.options is None else self.settings.options

    def _method(self) -> Method:
        n, kind, key, options = self.settings.n, METHODS[self.settings.method], self.problem.problem_id, self._options
        if not kind.clusters:
            return kind.start(n, options, key)
        self.clustering = Clustering(n, options.cluster, key)
        return kind.start(n, options, key, clusters=self.clustering)

    async def _answer(self, method: Method) -> Pruning:
        """Do what the method wants, until it returns its votes."""
        event: Event | None = None
        while True:
            try:
                commands = method.send(event)
            except StopIteration as stop:
                self.votes = stop.value
                break
            for command in commands:
                self._do(command)
            event = await self.traces.next()
            self.log.append(event)
        await self._end()
        return await self._pruning()

    def _do(self, command: Command) -> None:
        if isinstance(command, Generate):
            self.traces.start(command)
        elif isinstance(command, Stop):
            self.traces.flights.stop(command.traces)
        elif isinstance(command, Compare):
            self.comparisons.ask(command)

    async def _end(self) -> None:
        await self.comparisons.end()
        await self.traces.end()

    def _decision(self) -> tuple[str | None, bool | None]:
        """The answer that the votes give, and whether it is right (None: not graded)."""
        problem, records = self.problem, [self.traces.all[number].record for number in self.votes]
        answer = answers.majority([r.answer for r in records], problem.answer_type, list(self.votes.values()))
        return answer, answers.same(answer, problem.gold, problem.answer_type) if problem.gold else None

    async def _pruning(self) -> Pruning:
        """The Pruning record of the votes."""
        traces = self.traces
        traces.prune()
        answer, correct = await asyncio.to_thread(self._decision)
        traces.event("answered", answer=answer)
        ids = [traces.record(t).trace_id for t in traces.arrived]
        clusters = self.clustering.clusters if self.clustering else []
        return Pruning(
            self.problem.problem_id,
            self.judge.judge.name if self.judge else NO_JUDGE,
            self._recorded() | {"live": True, "judge_failed": self.judge_failed},
            [[ids[i] for i in c] for c in finishing.first(clusters, len(ids))],
            [traces.record(t).trace_id for t in traces.finished()],
            answer,
            correct,
            self.traces.tokens(),
            self.comparisons.calls,
            self.comparisons.prompt_tokens,
            self.comparisons.cached_tokens,
        )

    def _recorded(self) -> dict[str, Any]:
        """The method and its settings, as Pruning.settings holds them."""
        s, kind, options = self.settings, METHODS[self.settings.method], self._options
        how = dataclasses.asdict(options)
        if kind.clusters:  # what the recorded path has too is named as there
            how = {name: value for name, value in how.items() if name not in ("cluster", "finish")}
            how |= rules.recorded(options.cluster, options.finish, s.truncation, s.n, "held")
        elif kind.needs_judge:
            how |= s.truncation.as_dict()
        return {"method": s.method} | how | {"n": s.n, "order": "held" if kind.needs_judge else "started"}
