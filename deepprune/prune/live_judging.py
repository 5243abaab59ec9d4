"""What the judge of a live run is asked: one queue for all questions, and one question's comparisons."""

from __future__ import annotations

import asyncio

from deepprune.base.errors import UserError, without_credentials
from deepprune.base.tasks import cancel
from deepprune.engines.servers import ServerLost
from deepprune.judges import Judge, NotAJudge, PromptTooLong, Request, Score
from deepprune.prune.live_traces import LiveTraces
from deepprune.prune.protocol import Compare, Scored

Batch = list[tuple[list[Request], asyncio.Future]]


class JudgeLost(Exception):
    """The judge cannot be reached any more. The message says what happened."""


class JudgeRefused(JudgeLost):
    """The judge is there, but a question's prompts are longer than it reads."""


class JudgeQueue:
    """Many questions' requests to one judge, scored together: one batch at a time, in a thread of its own."""

    def __init__(self, judge: Judge):
        self.judge = judge
        self.waiting: Batch = []
        self.task: asyncio.Task | None = None

    async def score(self, requests: list[Request]) -> list[Score]:
        """Scores in the order of the requests. Raises JudgeLost, JudgeRefused; NotAJudge, at which all runs stop."""
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((requests, future))
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self.waiting:
            await asyncio.sleep(0)  # let questions that are ready at the same time join
            # Nobody waits any more for what a question asked whose answer is there, or whose client has gone.
            batch, self.waiting = [(asked, future) for asked, future in self.waiting if not future.done()], []
            parts = [batch] if batch else []
            while parts:
                part = parts.pop()
                if error := await self._failure(part):
                    if len(part) > 1 and of_a_request(error):  # the other questions need not fail for it
                        parts += [[one] for one in part]
                    else:
                        self._tell(part, error)

    async def _failure(self, batch: Batch) -> Exception | None:
        """Score these requests together; what kept the judge from it."""
        try:
            scores = await asyncio.to_thread(self.judge.score, [r for requests, _ in batch for r in requests])
        except Exception as error:  # noqa: BLE001 - whatever ended the judge, the questions must hear of it
            return error
        start = 0
        for requests, future in batch:
            if not future.done():
                future.set_result(scores[start : start + len(requests)])
            start += len(requests)
        return None

    def _tell(self, batch: Batch, error: Exception) -> None:
        told = without_credentials(f"the judge {self.judge.name} failed: {error}")
        kind = JudgeRefused if isinstance(error, PromptTooLong) else JudgeLost
        lost = error if isinstance(error, NotAJudge) else kind(told)
        for _, future in batch:
            if not future.done():
                future.set_exception(lost)


def of_a_request(error: Exception) -> bool:
    """Whether it may be one request that the judge refuses (its prompt is too long), and not a judge that is gone."""
    gone = NotAJudge, ServerLost
    return isinstance(error, UserError) and not isinstance(error, gone) and not isinstance(error.__cause__, gone)


class LiveComparisons:
    """What one question's method asks the judge; counts it. judge: None for methods that need none."""

    def __init__(self, traces: LiveTraces, judge: JudgeQueue | None):
        self.traces, self.judge = traces, judge
        self.calls = self.prompt_tokens = self.cached_tokens = 0
        self.tasks: set[asyncio.Task] = set()

    def ask(self, command: Compare) -> None:
        """Have these pairs judged; the scores, or what ended the judge, are the method's next event."""
        task = asyncio.create_task(self._ask(command))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _ask(self, command: Compare) -> None:
        try:
            self.traces.flights.put(Scored(command.pairs, await self._p_same(command)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the question must hear of it
            self.traces.flights.put(error)

    async def _p_same(self, command: Compare) -> list[float]:
        problem = self.traces.problem
        question = self.traces.settings.judged(problem.question)
        pairs = [(self.traces.all[a], self.traces.all[b]) for a, b in command.pairs]

        def identity(trace) -> str:
            return f"{problem.problem_id}/{trace.arrival}"

        scores = await self.judge.score(
            [Request(question, a.prefix, b.prefix, identity(a), identity(b)) for a, b in pairs]
        )
        self.calls += sum(s.calls for s in scores)
        self.prompt_tokens += sum(s.prompt_tokens for s in scores)
        self.cached_tokens += sum(s.cached_tokens for s in scores)
        p_same = [s.p_same for s in scores]
        members = [a.arrival for a, _ in pairs]
        self.traces.event("judged", pairs[0][1], members=members, p_same=[round(p, 4) for p in p_same])
        return p_same

    async def end(self) -> None:
        """Wait for no answer any more."""
        await cancel(self.tasks)
