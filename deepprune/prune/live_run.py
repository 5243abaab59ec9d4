"""A live run of many questions by one Answerer: everything on disk the moment it is known."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from deepprune.base import jsonl, records
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.records import Problem, Pruning, Trace
from deepprune.base.tasks import together, under_signals
from deepprune.engines import models
from deepprune.engines.reasoners import Reasoner, ReasonerLost
from deepprune.prune import live_setup, prefixes
from deepprune.prune.answerer import Answerer
from deepprune.prune.live import LiveQuestion
from deepprune.prune.live_display import Display
from deepprune.prune.live_judging import JudgeLost
from deepprune.prune.live_setup import LivePruneSettings


def places(output: str | Path) -> list[Path]:
    """The files that a live run writes beside its output: traces, events, traces of questions that were interrupted."""
    base = Path(output).with_suffix("")
    return [Path(f"{base}.{what}.jsonl") for what in ("traces", "events", "interrupted")]


class LiveFiles:
    """OUTPUT, its traces and its events, each appended to; unfinished questions' traces are moved aside on opening."""

    def __init__(self, manifest: Manifest):
        traces, events, aside = places(manifest.output)
        # Opened before anything is read: an appender removes a line that a kill cut off.
        self.prunings, self.traces = manifest.appender(), manifest.appender(traces)
        self.events = manifest.appender(events, is_log=True)
        self.done = {p.problem_id for p in records.read(Pruning, manifest.output)}
        rows = [row for _, row in jsonl.read(traces)]
        unfinished = [row for row in rows if row["problem_id"] not in self.done]
        if unfinished:
            with jsonl.Appender(aside) as out:
                for row in unfinished:
                    out.append(row)
            self.traces.file.close()
            jsonl.write(traces, [row for row in rows if row["problem_id"] in self.done])
            self.traces = manifest.appender(traces)
            print(f"{len(unfinished)} traces of questions that were interrupted moved to {aside}")

    def __enter__(self) -> LiveFiles:
        return self

    def __exit__(self, *error) -> None:
        for appender in (self.prunings, self.traces, self.events):
            appender.__exit__(*error)

    def prune(self, pruned: Pruning) -> None:
        self.prunings.append(records.to_row(pruned))

    def trace(self, trace: Trace) -> None:
        self.traces.append(records.to_row(trace))

    def event(self, event: dict) -> None:
        self.events.append(event)


@dataclasses.dataclass
class Outcome:
    """What a run did: its Pruning records, tokens by our count and the engine's (None: not readable), seconds.

    whole: in words, how many traces the judge read whole; left_running: requests in the engine at the end (None: not
    known); label_mass: see judges.Judge. Of methods without a judge the two about it are '' and None.
    """

    pruned: list[Pruning]
    reported: int
    counted: int | None
    left_running: int | None
    seconds: float
    whole: str
    label_mass: dict[str, float] | None


class LiveRun:
    """Questions that an Answerer answers. files: where they are written; None: nowhere."""

    def __init__(
        self,
        settings: LivePruneSettings,
        answerer: Answerer,
        files: LiveFiles | None = None,
        display: Display | None = None,
    ):
        self.settings, self.answerer, self.files, self.display = settings, answerer, files, display
        self.questions: list[LiveQuestion] = []

    async def answer_all(self, problems: Sequence[Problem]) -> list[Pruning]:
        """Answer the questions. Raises UserError if reasoner or judge are lost: what ended before is on disk."""
        try:
            return await together(self._answer(problem) for problem in problems)
        except (ReasonerLost, JudgeLost) as error:
            hint = "; --on-judge-failure consensus would go on without a judge" if isinstance(error, JudgeLost) else ""
            raise UserError(
                f"{error}{hint}. What ended before is on disk: run the same command again to continue"
            ) from error

    def _begin(self, question: LiveQuestion) -> None:
        self.questions.append(question)
        if self.display:
            self.display.begin(question)

    async def _answer(self, problem: Problem) -> Pruning:
        files = {"tell": self.files.event, "keep": self.files.trace} if self.files else {}
        question, pruned = await self.answerer.run(problem, self._begin, **files)
        if self.files:
            for trace in question.traces.arrived:
                if not trace.whole:
                    self.files.trace(question.traces.record(trace))
            self.files.prune(pruned)
        if self.display:
            self.display.end(question, told(pruned, question))
        return pruned

    def own_tokens(self) -> int:
        """Tokens generated by our count."""
        return sum(question.traces.spent() for question in self.questions)

    def judged_by_the_reasoner(self) -> int:
        """Tokens that the judge generated on the reasoner's own server: its verdicts, and what it asked beside them."""
        if not live_setup.one_server(self.settings):
            return 0
        return sum(question.comparisons.calls for question in self.questions) + self.answerer.judge.calls_beside

    def whole_line(self) -> str:
        """See prefixes.whole_line; '' of methods without a judge."""
        if not self.answerer.judge:
            return ""
        return prefixes.whole_line(
            (trace.read_whole, question.traces.record(trace).answer)
            for question in self.questions
            for trace in question.traces.arrived
        )


def open_answerer(settings: LivePruneSettings) -> Answerer:
    """The Answerer of the settings, with its judge open where the method needs one."""
    reasoner, tokenizer = live_setup.open_reasoner(settings), None
    if settings.judged and settings.tokenizer:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    judge = live_setup.open_judge(settings) if settings.judged else None
    limits = {"in_flight": settings.max_num_seqs, "questions": settings.questions}
    return Answerer.of(reasoner, judge, live_setup.how(settings), tokenizer=tokenizer, **limits)


async def answer(problems: Sequence[Problem], settings: LivePruneSettings, files: LiveFiles | None = None) -> Outcome:
    """Open reasoner and judge, answer the questions, close both. Ctrl-C and SIGTERM end every request first."""
    async with open_answerer(settings) as answerer:
        reasoner, judge = answerer.reasoner, answerer.judge
        with Display(len(problems)) as display:
            run = LiveRun(settings, answerer, files, display)
            before, started = await reasoner.generated(), time.monotonic()
            pruned = await under_signals(run.answer_all(problems))
            seconds = time.monotonic() - started
        left = await until_idle(reasoner)
        after = await reasoner.generated()
        counted = None if None in (before, after) else after - before - run.judged_by_the_reasoner()
        mass = judge.label_mass if judge else None
        return Outcome(pruned, run.own_tokens(), counted, left, seconds, run.whole_line(), mass)


async def until_idle(reasoner: Reasoner) -> int | None:
    """Requests left in the engine: aborted ones leave it within a step, on a busy machine some seconds later."""
    for _ in range(100):
        await asyncio.sleep(0.3)
        if not (left := await reasoner.running()):  # None where the engine does not say
            break
    return left


def told(pruned: Pruning, question: LiveQuestion) -> str:
    """An answered question in a line."""
    ungraded = "wrong (no answer)" if question.problem.gold else "not graded"
    right = {True: "right", False: "wrong", None: ungraded}[pruned.correct]
    clusters = f"{len(pruned.clusters)} clusters, " if question.clustering else ""
    return (
        f"{pruned.answer} ({right}), {len(pruned.finished)} of {len(question.traces.arrived)} traces finished, "
        f"{clusters}{pruned.tokens['total']:,} tokens"
    )
