"""All methods live on the same questions and one engine, in turn: tokens, seconds and accuracy, the judge counted.

    python benchmarks/live_methods.py --config scripts/recipes/cpu.yaml --reasoner Qwen/Qwen2.5-Coder-0.5B-Instruct \
        --judge-model Offline/DeepPrune-Judge-mini --problems DeepPrune_data/problems/unseen.jsonl \
        --n 32 --max-num-seqs 32 --k2 8 --k3 8 --k 8 --k1 1 --output results/live_methods.jsonl

Options are those of Online/live_pruning.py. One question at a time is answered by every method, one after the other;
which is first changes from question to question. What a question and a method came to is a row of OUTPUT: a killed run
goes on after it. Beside it: OUTPUT.md (tables), OUTPUT.tokens.png, OUTPUT.seconds.png (drawn again by every run, from
the questions that all methods have answered), and in the manifest the numbers. Start-up is not timed. 'deepprune,
paper' is the paper's rule, 'deepprune, ours' clusters largest first until likely and finishes in stages. --methods
leaves some out; a new method of deepprune/prune/methods/ takes part with its own settings.

    {"problem_id": "...", "method": "adaptive", "place": 2, "seconds": 31.2, "engine_tokens": 2811, "answer": "42",
     "correct": true, "tokens": {"prefix": 0, "rest": 2650, "stopped": 161, ...}, "judge_calls": 0, ...}
"""

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import live_methods_page

from deepprune.base import config, jsonl, progress, records, tasks
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.records import Problem
from deepprune.base.stage import command
from deepprune.data import answers
from deepprune.data.problems import spread
from deepprune.engines import models
from deepprune.judges import Judge
from deepprune.prune import costs, live_options, live_setup
from deepprune.prune.answerer import Answerer
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.live import LiveQuestion
from deepprune.prune.live_run import until_idle
from deepprune.prune.live_setup import LivePruneSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.consensus import ConsensusSettings
from deepprune.prune.rules import RuleSettings

RUNNING, AT_REST = ("started", "resumed"), ("held", "finished", "stopped", "pruned")


@dataclasses.dataclass
class MethodsSettings(LivePruneSettings):
    methods: list[str] = setting([], "only these, by their titles (default: all)")
    n: int = config.like(LivePruneSettings, "n", 32)
    limit: int | None = config.like(LivePruneSettings, "limit", 24)
    adaptive_batch: int = config.like(LivePruneSettings, "adaptive_batch", 8)
    adaptive_rolling: bool = config.like(LivePruneSettings, "adaptive_rolling", True)
    esc_early: bool = config.like(LivePruneSettings, "esc_early", True)
    deepconf_warmup: int = config.like(LivePruneSettings, "deepconf_warmup", 8)
    confidence_window: int = config.like(LivePruneSettings, "confidence_window", 32)
    confidence_stride: int = config.like(LivePruneSettings, "confidence_stride", 8)
    reasoner_parameters: float | None = setting(
        None, "the reasoner's parameters, to weigh the judge's tokens (default: from its name)", free=True, above=0
    )

    @property
    def judged(self) -> bool:
        """Whether a method needs a judge."""
        return any(METHODS[name].needs_judge for name, _ in self.variants.values())

    def not_used(self) -> set[str]:
        """Every setting is of one of the methods."""
        return set()

    def made_from(self, prompt_version: str | None) -> dict[str, Any]:
        """The settings for the manifest."""
        skip = ("problems", "judge_model", "method")
        return {key: value for key, value in RuleSettings.made_from(self, prompt_version).items() if key not in skip}

    @functools.cached_property
    def variants(self) -> dict[str, tuple[str, Any]]:
        """title -> (method, its settings); the first is what the others are compared with."""

        def own(name: str, **changes: Any) -> tuple[str, Any]:
            return name, dataclasses.replace(live_options.options(name, self), **changes)

        def ours() -> tuple[str, Any]:  # largest cluster first until likely, staged, stopped in the middle of a batch
            cluster = dataclasses.replace(self.cluster_rule(), asks="likely", assign="largest")
            return own("deepprune", cluster=cluster, finish=finish("staged"), early=True)

        def finish(rule: str) -> FinishSettings:
            return dataclasses.replace(self.finish_rule(), rule=rule)

        known = {
            f"cons@{self.n}": lambda: ("consensus", ConsensusSettings()),
            f"cons@{self.n}, early": lambda: ("consensus", ConsensusSettings(early=True)),
            "adaptive": lambda: own("adaptive"),
            "esc": lambda: own("esc"),
            "deepconf-low": lambda: own("deepconf", keep=0.1),
            "deepconf-high": lambda: own("deepconf", keep=0.9),
            "deepprune, paper": lambda: own("deepprune", finish=finish("paper"), early=False),
            "deepprune, ours": ours,
        }
        others = [name for name in METHODS if name not in ("consensus", "adaptive", "esc", "deepconf", "deepprune")]
        every = known | {name: functools.partial(own, name) for name in others}
        unknown = [title for title in self.methods if title not in every]
        if unknown:
            raise UserError(f"--methods: no {unknown[0]!r}; there are {', '.join(map(repr, every))}")
        return {title: every[title]() for title in every if not self.methods or title in self.methods}


@command
def main() -> None:
    settings = config.parse(MethodsSettings, "live", __doc__)
    if not settings.problems or not settings.output:
        raise UserError("--problems and --output are required")
    titles = {title: METHODS[name].needs_judge for title, (name, _) in settings.variants.items()}
    live_setup.check(settings)
    problems = spread(list(records.read_problems(*settings.problems).values()), settings.limit)
    judge, reasoner = (
        live_setup.describe_judge(settings),
        settings.reasoner_name or models.resolve(settings.reasoner).name,
    )
    manifest = Manifest.open(
        settings.output,
        "live methods",
        settings.made_from(judge["prompt_version"]),
        settings.problems,
        tuple(name for name in config.free_settings(MethodsSettings) if name not in ("limit", "max_num_seqs")),
        settings.overwrite,
        {"reasoner": reasoner, "judge": judge["name"]},
        also=live_methods_page.places(settings.output),
    )
    with manifest.appender() as output:
        done = {(row["problem_id"], row["method"]) for _, row in jsonl.read(settings.output)}
        todo = [run for run in runs(problems, list(titles)) if (run[0].problem_id, run[1]) not in done]
        print(f"{len(problems)} questions x {len(titles)} methods, n = {settings.n}: {len(todo)} runs to do")
        if todo:
            asyncio.run(measure(todo, settings, output))
    rows = [row for _, row in jsonl.read(settings.output)]
    sizes = (judge["parameters"], settings.reasoner_parameters or costs.parameters_from_name(reasoner))
    what = f"{reasoner}, judge {judge['name']}, n = {settings.n}"
    result = live_methods_page.write(rows, titles, sizes, what, settings.output)
    manifest.finish(len(rows), judge_parameters=sizes[0], reasoner_parameters=sizes[1], result=result)


def runs(problems: Sequence[Problem], titles: Sequence[str]) -> Iterable[tuple[Problem, str, int]]:
    """(problem, method, its place): each question by every method, each method first in its turn."""
    for number, problem in enumerate(problems):
        first = number % len(titles)
        for place, title in enumerate([*titles[first:], *titles[:first]]):
            yield problem, title, place


async def measure(todo: Sequence[tuple[Problem, str, int]], settings: MethodsSettings, output: jsonl.Appender) -> None:
    """Answer question after question on one engine, each row appended when it is done."""
    judge = Clocked(live_setup.open_judge(settings)) if settings.judged else None
    how = live_setup.how(settings)
    async with contextlib.AsyncExitStack() as stack:
        reasoner = live_setup.open_reasoner(settings)
        if judge:
            stack.callback(judge.judge.close)
        stack.push_async_callback(reasoner.close)
        await reasoner.open()
        answerers = {}
        for title, (method, options) in settings.variants.items():
            mine = dataclasses.replace(how, method=method, options=options)
            needed = judge.judge if METHODS[method].needs_judge else None
            answerers[title] = Answerer.of(reasoner, needed, mine, in_flight=settings.max_num_seqs, questions=1)
        await tasks.under_signals(answer(todo, answerers, judge, output))


class Clocked:
    """A judge whose batches are timed. batches: (begin, end) of each since the last `clear`."""

    def __init__(self, judge: Judge):
        self.judge, self.batches, self._score = judge, [], judge.score
        judge.score = self.score

    def score(self, requests):
        begin = time.time()
        try:
            return self._score(requests)
        finally:
            self.batches.append((begin, time.time()))


async def answer(
    todo: Sequence[tuple[Problem, str, int]],
    answerers: dict[str, Answerer],
    judge: Clocked | None,
    output: jsonl.Appender,
) -> None:
    """The runs, after a warm-up: nothing is timed that is done once, with the judge and without."""
    for answerer in {answerer.judge: answerer for answerer in answerers.values()}.values():
        settings = dataclasses.replace(answerer.settings, n=2)
        warm = Answerer.of(answerer.reasoner, answerer.judge, settings, in_flight=2, questions=1)
        await warm.run(Problem.new("warm-up", "What is 1 + 1?", "2"))
    for problem, title, place in progress.bar(todo, desc="live methods", unit="run"):
        row = await one(answerers[title], problem, judge)
        output.append({"problem_id": problem.problem_id, "method": title, "place": place} | row)


async def one(answerer: Answerer, problem: Problem, judge: Clocked | None) -> dict[str, Any]:
    """What answering one question came to."""
    reasoner, events = answerer.reasoner, []
    if judge:
        judge.batches.clear()
    before, begin = await reasoner.generated(), time.time()
    question, pruning = await answerer.run(problem, tell=events.append)
    end = time.time()
    left = await until_idle(reasoner)
    after = await reasoner.generated()
    return {
        "seconds": round(end - begin, 3),
        "engine_tokens": None if None in (before, after) else after - before,
        "left_running": left,
        "answer": pruning.answer,
        "correct": pruning.correct is True,
        "tokens": pruning.tokens,
        "started": len(question.traces.arrived),
        "finished": len(pruning.finished),
        "clusters": len(pruning.clusters),
        "judge_calls": pruning.judge_calls,
        "judge_tokens": pruning.judge_tokens,
        "judge_cached_tokens": pruning.judge_cached_tokens,
        "judge_batches": len(judge.batches) if judge else 0,
        "profile": profile(events, judge.batches if judge else [], begin, end),
        **whole(question),
    }


def whole(question: LiveQuestion) -> dict[str, Any]:
    """Of a method that generates every trace: classes, lengths and the right class, for cons@m of every m."""
    traces = [trace.record for trace in question.traces.all if trace.record]
    if question.settings.method != "consensus" or len(traces) < question.settings.n:
        return {}
    labels = answers.classes([trace.answer for trace in traces], question.problem.answer_type)
    right = answers.right_class(labels, [trace.correct for trace in traces])
    return {"labels": labels, "lengths": [trace.n_tokens for trace in traces], "right": right}


def profile(
    events: Sequence[dict], batches: Sequence[tuple[float, float]], begin: float, end: float
) -> dict[str, float]:
    """Seconds from begin to end in which traces were generated, the judge was busy, both, or neither.

    events: those of a LiveQuestion; batches: (begin, end) of the judge's.
    """
    changes = [
        (event["time"], "trace", event["trace"], event["event"] in RUNNING)
        for event in events
        if event["event"] in RUNNING + AT_REST
    ]
    for number, (start, stop) in enumerate(batches):
        changes += [(start, "batch", number, True), (stop, "batch", number, False)]
    seconds = dict.fromkeys(("generating", "judging", "both", "neither"), 0.0)
    running: dict[str, set] = {"trace": set(), "batch": set()}
    before = begin
    for at, kind, number, starts in [*sorted(changes, key=lambda change: change[0]), (end, "trace", None, False)]:
        at = min(max(at, before), end)
        traces, judged = bool(running["trace"]), bool(running["batch"])
        seconds["both" if traces and judged else "generating" if traces else "judging" if judged else "neither"] += (
            at - before
        )
        before = at
        (running[kind].add if starts else running[kind].discard)(number)
    return {name: round(value, 3) for name, value in seconds.items()}


if __name__ == "__main__":
    main()
