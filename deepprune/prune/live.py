"""Live pruning: traces are stopped while they are generated. The driver between reasoner, judge, clustering and vote.

For each question the finish rule (deepprune/prune/finishing.py) opens traces; each is held when its prefix is complete (the
truncation's k-th word or token) by aborting its request; prefixes go to the judge in the order in which they were
held; the same pure clustering as on recorded traces places them. What the rule then wants finished goes on from prompt
plus kept tokens, which the engine's prefix cache makes cheap. Nothing else is ever generated.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable
from typing import Any

from deepprune.base.errors import UserError, without_credentials
from deepprune.base.records import Problem, Pruning, Trace
from deepprune.data import answers, traces
from deepprune.data.truncation import Truncation
from deepprune.engines.reasoners import Reasoner, ReasonerLost, Sampling
from deepprune.judges import Judge, NotAJudge, Request, Score, prompts
from deepprune.prune import clustering, finishing, rules
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings

STATES = ("waiting", "started", "held", "resumed", "finished", "pruned")
ON_JUDGE_FAILURE = ("stop", "consensus")


class JudgeLost(Exception):
    """The judge cannot be reached any more. The message says what happened."""


@dataclasses.dataclass
class Live:
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

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"n should be at least 1, found {self.n}")
        if self.on_judge_failure not in ON_JUDGE_FAILURE:
            raise UserError(
                f"on_judge_failure should be one of {', '.join(ON_JUDGE_FAILURE)}, found {self.on_judge_failure!r}"
            )


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
                lost = (
                    error
                    if isinstance(error, NotAJudge)
                    else JudgeLost(without_credentials(f"the judge {self.judge.name} failed: {error}"))
                )
                for _, future in batch:
                    if not future.done():
                        future.set_exception(lost)
                continue
            start = 0
            for requests, future in batch:
                if not future.done():
                    future.set_result(scores[start : start + len(requests)])
                start += len(requests)


class Question:
    """One question's live run. `tell` gets every event as a dict; `keep` gets each whole Trace the moment it ends."""

    def __init__(
        self,
        problem: Problem,
        reasoner: Reasoner,
        judge: JudgeQueue,
        settings: LiveSettings,
        slots: asyncio.Semaphore,
        tokenizer: Any,
        tell: Callable[[dict], None],
        keep: Callable[[Trace], None],
    ):
        self.problem, self.reasoner, self.judge, self.settings = problem, reasoner, judge, settings
        self.slots, self.tokenizer, self.tell, self.keep = slots, tokenizer, tell, keep
        self.prompt = prompts.reasoner_prompt_ids(
            reasoner.tokenizer, problem.question, settings.system, settings.suffix
        )
        self.live = [Live(number) for number in range(settings.n)]
        self.arrived: list[Live] = []  # in the order of being held
        self.more = asyncio.Condition()
        self.placed: list[int] = []
        self.spent: list[tuple[int, int, int]] = []  # judge calls, prompt tokens, cached ones by arrival
        self.holding = True  # until the question is answered without a judge
        self.judge_failed: str | None = None
        self.clusterer: Clusterer | None = None
        self.opened = 0
        self.tasks: list[asyncio.Task] = []

    def sizes(self) -> list[int]:
        """The cluster number of each trace placed so far."""
        return [n for n, members in enumerate(self.clusterer.clusters) for _ in members] if self.clusterer else []

    def saved_so_far(self) -> str:
        """An estimate of the share of cons@n's tokens that is not generated; empty while no trace has ended."""
        consensus = self._consensus_tokens()
        return f"{1 - sum(len(t.token_ids) for t in self.live) / consensus:.0%}" if consensus else ""

    # -- what happens to one trace

    def _event(self, kind: str, trace: Live | None = None, **more: Any) -> None:
        event = {"time": round(time.time(), 3), "event": kind, "problem_id": self.problem.problem_id}
        if trace is not None:
            event |= {"trace": trace.number, "tokens": len(trace.token_ids)}
        self.tell(event | more)

    async def generate(self, trace: Live, hold: bool) -> None:
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

    async def _open(self, trace: Live) -> None:
        async with self.slots:
            trace.state = "started"
            self._event("started", trace)
            await self.generate(trace, hold=True)
        trace.prefix = self.settings.truncation.cut(trace.text, self.tokenizer)
        trace.prefix_tokens = len(trace.token_ids)
        trace.read_whole = trace.whole and trace.prefix == trace.text
        trace.arrival = len(self.arrived)
        trace.state = "finished" if trace.whole else "held"
        self._event(trace.state, trace, arrival=trace.arrival)
        async with self.more:
            self.arrived.append(trace)
            self.more.notify_all()
        if trace.whole:
            self._keep(trace)

    async def _finish(self, trace: Live) -> None:
        if trace.whole:
            return
        async with self.slots:
            trace.state = "resumed"
            self._event("resumed", trace)
            await self.generate(trace, hold=False)
        trace.pieces = [self._decoded(trace)]
        trace.state = "finished"
        self._event("finished", trace)
        self._keep(trace)

    def _decoded(self, trace: Live) -> str:
        """The whole text from the whole tokens: a character cut in two by the hold is whole again."""

        def decode(ids: list[int]) -> str:
            return self.reasoner.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

        ids, last = trace.token_ids, decode(trace.token_ids[-1:])
        # Engines leave the token that ends a trace out of its text, even if the tokenizer does not call it special.
        ended = trace.finish_reason == "stop" and last and not trace.text.endswith(last)
        return decode(ids[:-1] if ended else ids)

    def _keep(self, trace: Live) -> None:
        trace.record = self.record(trace)
        self.keep(trace.record)

    def record(self, trace: Live) -> Trace:
        """The Trace record. Its sample index is its place in the order of being held, in which it was clustered."""
        if trace.record:
            return trace.record
        s = self.settings
        sampling = s.sampling.recorded() | {
            "system": s.system,
            "suffix": s.suffix,
            "live": True,
            "seed": s.seed,
            "run": s.run,
        }
        made = traces.make(
            self.problem,
            self.reasoner.name,
            trace.arrival or 0,
            trace.text,
            max(1, len(trace.token_ids)),
            trace.finish_reason or "abort",
            sampling,
        )
        if not trace.whole:  # a prefix that happens to hold an answer has not been finished
            made.answer = made.correct = None
        return made

    # -- clustering as prefixes arrive

    async def _prefix(self, arrival: int) -> Live:
        async with self.more:
            await self.more.wait_for(lambda: len(self.arrived) > arrival)
        return self.arrived[arrival]

    async def _ask(self, wanted: list[tuple[int, int]]) -> list[float]:
        """p_same of pairs of arrivals, waiting for the new one to be held."""
        new = wanted[0][1]
        await self._prefix(new)
        requests = []
        for member, _ in wanted:
            a, b = self.arrived[member], self.arrived[new]
            ids = (f"{self.problem.problem_id}/{trace.arrival}" for trace in (a, b))
            requests.append(Request(self.problem.question, a.prefix, b.prefix, *ids))
        scores = await self.judge.score(requests)
        while len(self.spent) <= new:
            self.spent.append((0, 0, 0))
        calls, prompt, cached = self.spent[new]
        self.spent[new] = (
            calls + sum(s.calls for s in scores),
            prompt + sum(s.prompt_tokens for s in scores),
            cached + sum(s.cached_tokens for s in scores),
        )
        self._event(
            "judged", self.arrived[new], members=[m for m, _ in wanted], p_same=[round(s.p_same, 4) for s in scores]
        )
        return [s.p_same for s in scores]

    async def run(self) -> Pruning:
        """Answer the question. Raises ReasonerLost, and JudgeLost unless the settings go on without a judge."""
        try:
            return await self._run()
        except JudgeLost as error:
            if self.settings.on_judge_failure != "consensus":
                raise
            self.judge_failed = str(error)
            self._event("judge lost", error=str(error))
            return await self.consensus()
        finally:
            await self._end_tasks()

    async def consensus(self) -> Pruning:
        """cons@n: every trace to the end, one vote each, no judge. Raises ReasonerLost."""
        self.holding = False
        try:
            self.tasks += [asyncio.create_task(self._open(trace)) for trace in self.live[self.opened :]]
            await asyncio.gather(*self.tasks)
            before = {t.number: len(t.token_ids) for t in self.arrived}
            ending = [asyncio.create_task(self._finish(trace)) for trace in self.arrived]
            self.tasks += ending
            await asyncio.gather(*ending)
        finally:
            await self._end_tasks()
        longest = max(t.prefix_tokens for t in self.arrived) + max(
            len(t.token_ids) - before[t.number] for t in self.arrived
        )
        everyone = list(range(len(self.arrived)))
        self.placed = [-1] * len(self.arrived)
        return self._pruning(everyone, dict.fromkeys(everyone, 1.0), longest)

    async def _end_tasks(self) -> None:
        """Cancel what still runs and wait until its requests are gone from the engine."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _run(self) -> Pruning:
        settings = self.settings
        clusterer = self.clusterer = Clusterer(self, settings.n)
        rule = finishing.rule(settings.n, settings.finish, self.problem.problem_id)
        request, sequential = next(rule), 0
        finished: list[int] = []
        while True:
            if isinstance(request, finishing.Open):
                new = self.live[self.opened : request.count]
                self.tasks += [asyncio.create_task(self._open(trace)) for trace in new]
                self.opened = request.count
                self.placed = await self._while_generating(clusterer.place(self.opened))
                sequential += max((t.prefix_tokens for t in self.arrived[self.opened - len(new) :]), default=0)
                reply: Any = finishing.clusters_of(self.placed)
            else:
                chosen = [self.arrived[i] for i in request.traces]
                before = [len(t.token_ids) for t in chosen]
                self._prune(finished + list(request.traces), rule)
                finishing_now = [asyncio.create_task(self._finish(trace)) for trace in chosen]
                self.tasks += finishing_now
                await asyncio.gather(*finishing_now)
                sequential += max((len(t.token_ids) - b for t, b in zip(chosen, before, strict=True)), default=0)
                finished += request.traces
                labels = self._labels(finished)
                reply = labels[len(finished) - len(request.traces) :]
            try:
                request = rule.send(reply)
            except StopIteration as stop:
                return self._pruning(finished, stop.value, sequential)

    async def _while_generating(self, work) -> Any:
        """The result of `work`, or the error of a trace's task: nobody would wait for a prefix that never comes."""
        main = asyncio.create_task(work)
        pending = {main, *(task for task in self.tasks if not task.done())}
        try:
            while not main.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {main}:
                    task.result()  # raises what ended it
            return main.result()
        finally:
            main.cancel()

    def _prune(self, chosen: list[int], rule) -> None:
        """Tell of the traces that the paper's rule will not go on with (other rules may still want them)."""
        if self.settings.finish.rule in ("paper", "weighted"):
            for trace in self.arrived:
                if trace.state == "held" and trace.arrival not in chosen:
                    trace.state = "pruned"
                    self._event("pruned", trace)

    def _labels(self, finished: list[int]) -> list[int | None]:
        """Answer classes of the finished traces, in the order of finishing (so earlier ones keep theirs)."""
        return answers.classes([self.arrived[i].record.answer for i in finished], self.problem.answer_type)

    def _pruning(self, finished: list[int], votes: dict[int, float], sequential: int) -> Pruning:
        for trace in self.arrived:
            if trace.state == "held":
                trace.state = "pruned"
                self._event("pruned", trace)
        s = self.settings
        order = sorted(votes)
        found = [self.arrived[i].record.answer for i in order]
        answer = answers.majority(found, self.problem.answer_type, [votes[i] for i in order])
        prefix = sum(t.prefix_tokens for t in self.arrived)
        total = sum(len(t.token_ids) for t in self.arrived)
        ids = [self.record(t).trace_id for t in self.arrived]
        self._event("answered", answer=answer)
        return Pruning(
            self.problem.problem_id,
            self.judge.judge.name,
            rules.recorded(s.cluster, s.finish, s.truncation, s.n, "held")
            | {"live": True, "judge_failed": self.judge_failed},
            [[ids[i] for i in c] for c in finishing.clusters_of(self.placed)],
            [ids[i] for i in finished],
            answer,
            answers.same(answer, self.problem.gold, self.problem.answer_type) if self.problem.gold else None,
            # What cons@n would have cost is not known: the pruned traces were never finished. Estimated from those that were.
            {
                "prefix": prefix,
                "rest": total - prefix,
                "total": total,
                "consensus": self._consensus_tokens(),
                "sequential": sequential,
            },
            *(sum(column) for column in zip(*(self.spent or [(0, 0, 0)]), strict=True)),
        )

    def _consensus_tokens(self) -> int:
        """An estimate of cons@n's tokens: n times the mean length of the traces that ended."""
        whole = [len(t.token_ids) for t in self.live if t.whole]
        return round(self.settings.n * sum(whole) / len(whole)) if whole else 0


class Clusterer:
    """The pure clustering, advanced as far as traces are open."""

    def __init__(self, question: Question, count: int):
        self.question = question
        self.clusters: list[list[int]] = []
        self.running = clustering.greedy(count, question.settings.cluster, question.problem.problem_id, self.clusters)
        self.wanted: list[tuple[int, int]] | None = [(-1, 0)]  # not started

    async def place(self, opened: int) -> list[int]:
        """Each of the first `opened` arrivals' cluster number (-1: dropped), when all of them are held and placed."""
        while self.wanted is not None and self.wanted[0][1] < opened:
            reply = None if self.wanted[0][0] < 0 else await self.question._ask(self.wanted)
            try:
                self.wanted = self.running.send(reply)
            except StopIteration:
                self.wanted = None
        await self.question._prefix(opened - 1)
        return finishing.placed_of(self.clusters, opened)
