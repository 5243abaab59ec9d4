"""Questions answered from Python, by any method: `from deepprune import Answerer`. An example: docs/live.md."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from deepprune.base.errors import UserError
from deepprune.base.records import ANSWER_TYPES, Problem, Pruning, Trace
from deepprune.base.tasks import together
from deepprune.data import answers
from deepprune.data.sampling import Sampling
from deepprune.data.truncation import Truncation
from deepprune.engines.reasoners import FleetReasoner, Reasoner, ServerReasoner
from deepprune.judges import Judge
from deepprune.prune import voting
from deepprune.prune.live import LiveQuestion
from deepprune.prune.live_judging import JudgeQueue
from deepprune.prune.live_setup import LivePruneSettings
from deepprune.prune.live_slots import Slots
from deepprune.prune.live_traces import LiveSettings
from deepprune.prune.methods import METHODS

Tell, Keep = Callable[[dict], None], Callable[[Trace], None]


def nobody(_: Any) -> None:
    """Who listens to what happens, where nobody does."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a question.

    answer: None without any vote. votes: each answer's share of the vote's weight, the largest first. confidence: the
    probability that the answer is the majority (`voting.beta_confidence`). traces: those that were started, and
    states: what became of each (finished, pruned, stopped). tokens: the reasoner's, as Pruning.tokens; judge_tokens: of
    the judge's prompts. seconds: from its turn among the questions to the answer.
    """

    answer: str | None
    votes: dict[str, float]
    confidence: float
    traces: list[Trace]
    states: list[str]
    tokens: dict[str, int]
    judge_calls: int
    judge_tokens: int
    seconds: float


class Answerer:
    """One reasoner (and judge) that answers questions by one method; several at once share both.

    method: a name of METHODS; options: its settings (default: its defaults). n: most traces a question. in_flight: most
    requests at once, over all questions; questions: most questions at once. Opens the reasoner on entering (`async
    with`, once), and closes it and the judge on leaving. A call that is cancelled stops its requests. All calls are of
    one event loop. Raises UserError for a method that does not exist, or needs a judge and has none, and for settings
    that make no sense.
    """

    def __init__(
        self,
        reasoner: Reasoner,
        judge: Judge | None = None,
        *,
        method: str = "adaptive",
        options: Any = None,
        n: int = 64,
        sampling: Sampling | None = None,
        truncation: Truncation | None = None,
        suffix: str = LivePruneSettings.suffix,
        system: str | None = None,
        in_flight: int = 64,
        questions: int = 4,
    ):
        _check(method, judge, options, n=n, in_flight=in_flight, questions=questions)
        cut = truncation or Truncation(LivePruneSettings.truncation, LivePruneSettings.truncation_k)
        self.settings = LiveSettings(n, cut, method, options, sampling or Sampling(), suffix, system)
        # A server alone is a fleet of one: if it is lost, the reasoner is.
        self.reasoner = FleetReasoner([reasoner]) if isinstance(reasoner, ServerReasoner) else reasoner
        self.judge, self.tokenizer = judge, reasoner.tokenizer
        self.queue = JudgeQueue(judge) if judge else None
        self.slots, self.room = Slots(in_flight), asyncio.Semaphore(questions)
        self.loop: asyncio.AbstractEventLoop | None = None  # the first that it was used in

    @classmethod
    def of(
        cls,
        reasoner: Reasoner,
        judge: Judge | None,
        settings: LiveSettings,
        *,
        tokenizer: Any = None,
        in_flight: int,
        questions: int,
    ) -> Answerer:
        """One whose settings are there already. tokenizer: cuts, in truncation by tokens (default: the reasoner's)."""
        how = {"method": settings.method, "in_flight": in_flight, "questions": questions}
        answerer = cls(reasoner, judge, **how)
        answerer.settings = settings
        answerer.tokenizer = tokenizer or answerer.tokenizer
        return answerer

    async def __aenter__(self) -> Answerer:
        if self.loop:
            raise UserError("an Answerer is opened once: make another one, with its own reasoner and judge")
        self._check_loop()
        try:
            await self.reasoner.open()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_) -> None:
        try:
            await self.reasoner.close()
        finally:
            if self.judge:
                self.judge.close()

    def _check_loop(self) -> None:
        """Raise UserError in another event loop than the first: what waits in one cannot be woken from another."""
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise UserError(
                "an Answerer belongs to the event loop in which it was opened: hand a question of another thread over "
                "with asyncio.run_coroutine_threadsafe, or open an Answerer in each"
            )

    async def answer(
        self,
        question: str,
        answer_type: str = "math",
        tell: Tell = nobody,
        settings: LiveSettings | None = None,
    ) -> Answer:
        """Answer a question. answer_type: math, choice or text (else UserError).

        Raises ReasonerLost, JudgeLost, NotAJudge.

        settings: of this question alone, another method say (default: those of all).

        tell: gets what happens, when it does, as a dict of time, event (started, held, judged, resumed, finished,
        stopped, pruned, answered), problem_id and, of a trace, trace (its number) and tokens. It must return at once.
        """
        if answer_type not in ANSWER_TYPES:
            raise UserError(f"answer_type should be one of {', '.join(ANSWER_TYPES)}, found {answer_type!r}")
        problem = dataclasses.replace(Problem.new("question", question, ""), answer_type=answer_type)
        started: list[float] = []
        live, pruning = await self.run(problem, lambda _: started.append(time.monotonic()), tell, settings=settings)
        seconds = time.monotonic() - started[0]
        votes, confidence = await asyncio.to_thread(_votes, live)
        arrived = live.traces.arrived
        return Answer(
            pruning.answer,
            votes,
            confidence,
            [live.traces.record(trace) for trace in arrived],
            [trace.state for trace in arrived],
            pruning.tokens,
            pruning.judge_calls,
            pruning.judge_tokens,
            seconds,
        )

    async def answer_many(self, questions: Sequence[str], answer_type: str = "math") -> list[Answer]:
        """Answer several questions, a few at a time; one that fails stops the others."""
        return await together(self.answer(question, answer_type) for question in questions)

    async def run(
        self,
        problem: Problem,
        begin: Callable[[LiveQuestion], None] = nobody,
        tell: Tell = nobody,
        keep: Keep = nobody,
        settings: LiveSettings | None = None,
    ) -> tuple[LiveQuestion, Pruning]:
        """Answer a Problem, when there is room. begin: gets the question when its turn comes; tell, keep: its events
        and whole traces (LiveQuestion). Errors as of `answer`."""
        self._check_loop()
        how = settings or self.settings
        async with self.room:
            queue = self.queue if METHODS[how.method].needs_judge else None
            live = LiveQuestion(problem, self.reasoner, queue, how, self.slots.share(), self.tokenizer, tell, keep)
            begin(live)
            return live, await live.run()


def _check(method: str, judge: Judge | None, options: Any, **limits: Any) -> None:
    """Raise UserError for settings that make no sense."""
    if method not in METHODS:
        raise UserError(f"method should be one of {', '.join(METHODS)}, found {method!r}")
    if METHODS[method].needs_judge and judge is None:
        raise UserError(f"the method {method!r} needs a judge")
    if options is not None and not isinstance(options, METHODS[method].settings):
        raise UserError(
            f"the method {method!r} takes a {METHODS[method].settings.__name__}, found {type(options).__name__}"
        )
    for name, number in limits.items():
        if not isinstance(number, int) or number < 1:
            raise UserError(f"{name} should be a whole number of at least 1, found {number!r}")


def _votes(live: LiveQuestion) -> tuple[dict[str, float], float]:
    """Each answer's share of the votes, and the probability that the leading one is the majority."""
    given = [live.traces.all[number].record.answer for number in live.votes]
    labels = answers.classes(given, live.problem.answer_type)
    totals = voting.totals(zip(labels, live.votes.values(), strict=True))
    voters, whole = sum(label is not None for label in labels), sum(totals.values()) or 1.0
    # As of votes of one each: what a weight is a multiple of (a trace's confidence, say) makes nothing surer.
    first, second = (voters * weight / whole for weight in voting.leading(list(totals.values())))
    confidence = voting.beta_confidence(first, second) if totals else 0.0
    shares = {given[labels.index(label)]: weight / whole for label, weight in totals.items()}
    return dict(sorted(shares.items(), key=lambda share: -share[1])), confidence
