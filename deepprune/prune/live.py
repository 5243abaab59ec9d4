"""Live pruning: traces are stopped while they are generated. The driver between reasoner, judge, clustering and vote.

For each question the finish rule (deepprune/prune/finishing.py) opens traces; each is held when its prefix is complete
(the truncation's k-th word or token); prefixes go to the judge in the order in which they were held; the same pure
clustering as on recorded traces places them. What the rule then wants finished goes on from what was kept. Nothing else
is ever generated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from deepprune.base.records import Problem, Pruning, Trace
from deepprune.data import answers
from deepprune.engines.reasoners import Reasoner
from deepprune.prune import finishing, rules
from deepprune.prune.live_judging import JudgeLost, JudgeQueue, LiveClusters
from deepprune.prune.live_traces import LiveSettings, LiveTraces, unless_failed


class LiveQuestion:
    """One question's live run. `tell` gets every event as a dict; `keep` gets each whole Trace the moment it ends."""

    def __init__(
        self,
        problem: Problem,
        reasoner: Reasoner,
        judge: JudgeQueue,
        settings: LiveSettings,
        slots: asyncio.Semaphore,
        tokenizer: Any,
        tell: Callable[[dict], None] = lambda event: None,
        keep: Callable[[Trace], None] = lambda trace: None,
    ):
        self.problem, self.judge, self.settings = problem, judge, settings
        self.traces = LiveTraces(problem, reasoner, settings, slots, tokenizer, tell, keep)
        self.clusters = LiveClusters(self.traces, judge)
        self.judge_failed: str | None = None

    async def run(self) -> Pruning:
        """Answer the question. Raises ReasonerLost, and JudgeLost unless the settings go on without a judge."""
        try:
            return await self._prune()
        except JudgeLost as error:
            if self.settings.on_judge_failure != "consensus":
                raise
            self.judge_failed = str(error)
            self.traces.event("judge lost", error=str(error))
            return await self.consensus()
        finally:
            await self.traces.end()

    async def consensus(self) -> Pruning:
        """cons@n: every trace to the end, one vote each, no judge. Raises ReasonerLost."""
        traces = self.traces
        traces.holding = False
        try:
            traces.open(self.settings.n)
            await traces.all_held()
            rest = await traces.finish(traces.arrived)
        finally:
            await traces.end()
        everyone = list(range(len(traces.arrived)))
        longest = max(t.prefix_tokens for t in traces.arrived) + rest
        return self._pruning([-1] * len(everyone), everyone, dict.fromkeys(everyone, 1.0), longest)

    async def _prune(self) -> Pruning:
        """Do what the finish rule asks for, until it returns its votes."""
        settings, traces = self.settings, self.traces
        rule = finishing.rule(settings.n, settings.finish, self.problem.problem_id)
        request, sequential = next(rule), 0
        placed: list[int] = []
        finished: list[int] = []
        while True:
            if isinstance(request, finishing.Open):
                before = traces.opened
                traces.open(request.count)
                placed = await unless_failed(traces.tasks, self.clusters.place(traces.opened))
                sequential += max((t.prefix_tokens for t in traces.arrived[before:]), default=0)
                reply: Any = finishing.clusters_of(placed)
            else:
                if settings.finish.rule in ("paper", "weighted"):  # other rules may still want the others
                    traces.prune(finished + list(request.traces))
                sequential += await traces.finish([traces.arrived[i] for i in request.traces])
                finished += request.traces
                reply = self._labels(finished)[len(finished) - len(request.traces) :]
            try:
                request = rule.send(reply)
            except StopIteration as stop:
                return self._pruning(placed, finished, stop.value, sequential)

    def _labels(self, finished: list[int]) -> list[int | None]:
        """Answer classes of the finished traces, in the order of finishing (so earlier ones keep theirs)."""
        return answers.classes([self.traces.arrived[i].record.answer for i in finished], self.problem.answer_type)

    def _pruning(self, placed: list[int], finished: list[int], votes: dict[int, float], sequential: int) -> Pruning:
        """The Pruning record. placed, finished, votes: by arrival; sequential: tokens of the longest chain."""
        s, problem, traces = self.settings, self.problem, self.traces
        traces.prune()
        order = sorted(votes)
        voted = [traces.arrived[i].record.answer for i in order]
        answer = answers.majority(voted, problem.answer_type, [votes[i] for i in order])
        traces.event("answered", answer=answer)
        ids = [traces.record(t).trace_id for t in traces.arrived]
        settings = rules.recorded(s.cluster, s.finish, s.truncation, s.n, "held")
        return Pruning(
            problem.problem_id,
            self.judge.judge.name,
            settings | {"live": True, "judge_failed": self.judge_failed},
            [[ids[i] for i in c] for c in finishing.clusters_of(placed)],
            [ids[i] for i in finished],
            answer,
            answers.same(answer, problem.gold, problem.answer_type) if problem.gold else None,
            self._tokens(sequential),
            self.clusters.calls,
            self.clusters.prompt_tokens,
            self.clusters.cached_tokens,
        )

    def _tokens(self, sequential: int) -> dict[str, int]:
        """Tokens by kind, as Pruning.tokens. What cons@n would have cost is an estimate: pruned traces never ended."""
        prefix = sum(t.prefix_tokens for t in self.traces.arrived)
        total = self.spent()
        return {
            "prefix": prefix,
            "rest": total - prefix,
            "total": total,
            "consensus": self.consensus_tokens(),
            "sequential": sequential,
        }

    def spent(self) -> int:
        """Tokens generated so far."""
        return sum(len(t.token_ids) for t in self.traces.all)

    def consensus_tokens(self) -> int:
        """An estimate of cons@n's tokens: n times the mean length of the traces that ended; 0 while none has."""
        whole = [len(t.token_ids) for t in self.traces.all if t.whole]
        return round(self.settings.n * sum(whole) / len(whole)) if whole else 0
