"""What the judge of a live run is asked: one queue for all questions, and one question's clustering of its traces."""

from __future__ import annotations

import asyncio

from deepprune.base.errors import without_credentials
from deepprune.judges import Judge, NotAJudge, Request, Score
from deepprune.prune import clustering, finishing
from deepprune.prune.live_traces import LiveTraces


class JudgeLost(Exception):
    """The judge cannot be reached any more. The message says what happened."""


class JudgeQueue:
    """Many questions' requests to one judge, scored together: one batch at a time, in a thread of its own."""

    def __init__(self, judge: Judge):
        self.judge = judge
        self.waiting: list[tuple[list[Request], asyncio.Future]] = []
        self.task: asyncio.Task | None = None

    async def score(self, requests: list[Request]) -> list[Score]:
        """Scores in the order of the requests. Raises JudgeLost, and NotAJudge, at which every run stops."""
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((requests, future))
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self.waiting:
            await asyncio.sleep(0)  # let questions that are ready at the same time join
            batch, self.waiting = self.waiting, []
            try:
                scores = await asyncio.to_thread(self.judge.score, [r for requests, _ in batch for r in requests])
            except Exception as error:  # noqa: BLE001 - whatever ended the judge, the questions must hear of it
                told = without_credentials(f"the judge {self.judge.name} failed: {error}")
                lost = error if isinstance(error, NotAJudge) else JudgeLost(told)
                for _, future in batch:
                    if not future.done():
                        future.set_exception(lost)
                continue
            start = 0
            for requests, future in batch:
                if not future.done():
                    future.set_result(scores[start : start + len(requests)])
                start += len(requests)


class LiveClusters:
    """The pure clustering of one question's traces, advanced as far as they are open; counts what is asked."""

    def __init__(self, traces: LiveTraces, judge: JudgeQueue):
        self.traces, self.judge = traces, judge
        self.calls = self.prompt_tokens = self.cached_tokens = 0
        self.clusters: list[list[int]] = []
        settings, key = traces.settings, traces.problem.problem_id
        self.running = clustering.greedy(settings.n, settings.cluster, key, self.clusters)
        self.wanted: list[tuple[int, int]] | None = [(-1, 0)]  # not started

    def sizes(self) -> list[int]:
        """Sizes of the clusters so far, the largest first."""
        return sorted(map(len, self.clusters), reverse=True)

    async def place(self, opened: int) -> list[int]:
        """Each of the first `opened` arrivals' cluster number (-1: dropped), when all of them are held and placed."""
        while self.wanted is not None and self.wanted[0][1] < opened:
            reply = None if self.wanted[0][0] < 0 else await self._ask(self.wanted)
            try:
                self.wanted = self.running.send(reply)
            except StopIteration:
                self.wanted = None
        await self.traces.arrival(opened - 1)
        return finishing.placed_of(self.clusters, opened)

    async def _ask(self, pairs: list[tuple[int, int]]) -> list[float]:
        """p_same of pairs of arrivals, waiting for the new one to be held."""
        new = await self.traces.arrival(pairs[0][1])
        members = [self.traces.arrived[member] for member, _ in pairs]
        problem = self.traces.problem

        def identity(trace) -> str:
            return f"{problem.problem_id}/{trace.arrival}"

        scores = await self.judge.score(
            [Request(problem.question, m.prefix, new.prefix, identity(m), identity(new)) for m in members]
        )
        self.calls += sum(s.calls for s in scores)
        self.prompt_tokens += sum(s.prompt_tokens for s in scores)
        self.cached_tokens += sum(s.cached_tokens for s in scores)
        p_same = [s.p_same for s in scores]
        self.traces.event("judged", new, members=[m for m, _ in pairs], p_same=[round(p, 4) for p in p_same])
        return p_same
