"""Live pruning: run n traces in vLLM, judge their prefixes as they appear, never generate the redundant ones, vote.

    python Online/live_pruning.py --config scripts/recipes/cpu.yaml --reasoner Qwen/Qwen2.5-Coder-0.5B-Instruct \
        --judge-model results/demo/judge --problems DeepPrune_data/problems/words.jsonl --n 16 --output results/live.jsonl
    python Online/live_pruning.py --config scripts/recipes/cpu.yaml --reasoner HuggingFaceTB/SmolLM2-135M-Instruct \
        --judge sbert --judge-model sentence-transformers/all-MiniLM-L6-v2 --n 8 --question "What is 12 + 30?"
    python Online/live_pruning.py --reasoner Qwen/Qwen3-8B --reasoner-url http://127.0.0.1:8000/v1 --judge server \
        --judge-model models/DeepPrune-Judge-4B --judge-url http://127.0.0.1:8001/v1 --n 512 --problems AIME24.problems.jsonl --output live.jsonl

The reasoner is an engine of this process, or a vLLM server (--reasoner-url); the judge likewise (--judge server), or
Sentence-BERT. Each trace is held when its prefix is complete, by aborting its request; what the finish rule chooses goes on
from there. Writes Pruning records to OUTPUT, Trace records to OUTPUT.traces.jsonl (finished ones the moment they end) and
every event to OUTPUT.events.jsonl. Traces are numbered in the order in which they were held, so that
Online/greedy_cluster_threshold.py on them clusters as the live run did. A killed run goes on with the same command; what an
unfinished question had generated moves to OUTPUT.interrupted.jsonl.
"""

import asyncio
import contextlib
import dataclasses
import signal
import time
from pathlib import Path

from deepprune import judges
from deepprune.base import config, jsonl, records
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.records import Problem
from deepprune.base.stage import command
from deepprune.data.problems import spread
from deepprune.engines import models
from deepprune.engines.reasoners import ReasonerLost
from deepprune.prune import costs, live_setup, prefixes
from deepprune.prune.live import JudgeLost, JudgeQueue, LiveSettings, Question
from deepprune.prune.live_display import Display
from deepprune.prune.live_setup import LivePruneSettings


@command
def main() -> None:
    settings = config.parse(LivePruneSettings, "live", __doc__)
    if bool(settings.question) == bool(settings.problems):
        raise UserError("give either --question or --problems")
    if settings.problems and not settings.output:
        raise UserError("--output is required with --problems")
    live_setup.check(settings)
    how = live_setup.how(settings)
    described = live_setup.describe_judge(settings)
    name = described["name"]
    if settings.question:
        outcome = asyncio.run(
            under_signals(answer([Problem.new("question", settings.question, "")], settings, how, None))
        )
        show(outcome, settings)
        return
    problems = spread(list(records.read_problems(*settings.problems).values()), settings.limit)
    made_from = settings.made_from(described["prompt_version"])
    for place in ("problems", "reasoner_url", "judge_url", "judge_model"):
        made_from.pop(place)
    manifest = Manifest.open(
        settings.output,
        "live",
        made_from,
        settings.problems,
        config.free_settings(LivePruneSettings),
        settings.overwrite,
        {"reasoner": models.resolve(settings.reasoner).name, "judge": name},
        also=places(settings.output),
    )
    judges.note(manifest, described)
    with Files(manifest) as files:
        todo = [p for p in problems if p.problem_id not in files.done]
        print(
            f"{len(problems)} questions x {settings.n} traces: {len(files.done)} done before, {len(todo)} to answer, judge {name}"
        )
        if todo:
            outcome = asyncio.run(under_signals(answer(todo, settings, how, files)))
            manifest.data.setdefault("engine_tokens", []).append(outcome.counted)
            judges.note_mass(manifest, outcome.label_mass)
            show(outcome, settings)
    rows = list(records.read(records.Pruning, settings.output))
    total = {kind: sum(p.tokens[kind] for p in rows) for kind in ("prefix", "rest", "total", "consensus")}
    known = [p.correct is True for p in rows]
    print(
        f"{len(rows)} questions: accuracy {sum(known) / len(known):.3f}, {total['total']:,} tokens generated; cons@{settings.n} would "
        f"have taken about {total['consensus']:,} (from the lengths of finished traces): "
        f"{costs.reduction(total['total'], total['consensus']):.1%} saved"
    )
    manifest.finish(len(rows), tokens=total)


@dataclasses.dataclass
class Outcome:
    """A run's Pruning records, tokens as we counted and as the engine counted (None: not readable), seconds; whole: in words,
    how many traces the judge read whole; label_mass: see judges.Judge.
    """

    pruned: list[records.Pruning]
    reported: int
    counted: int | None
    left_running: int | None
    seconds: float
    whole: str
    label_mass: dict[str, float] | None


def places(output: str | Path) -> list[Path]:
    """The files that a live run writes beside its output: traces, events, and traces of questions that were interrupted."""
    base = Path(output).with_suffix("")
    return [Path(f"{base}.{what}.jsonl") for what in ("traces", "events", "interrupted")]


class Files:
    """OUTPUT, its traces and its events, each appended to; unfinished questions' traces are moved aside on opening."""

    def __init__(self, manifest: Manifest):
        traces, events, aside = places(manifest.output)
        self.paths = [manifest.output, traces, events]
        self.appenders = [manifest.appender(path, is_log=path == events) for path in self.paths]
        self.done = {p.problem_id for p in records.read(records.Pruning, self.paths[0])}
        rows = [row for _, row in jsonl.read(self.paths[1])]
        unfinished = [row for row in rows if row["problem_id"] not in self.done]
        if unfinished:
            with jsonl.Appender(aside) as out:
                for row in unfinished:
                    out.append(row)
            self.appenders[1].file.close()
            jsonl.write(self.paths[1], [row for row in rows if row["problem_id"] in self.done])
            self.appenders[1] = manifest.appender(self.paths[1])
            print(f"{len(unfinished)} traces of questions that were interrupted moved to {aside}")

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        for appender in self.appenders:
            appender.__exit__(*error)

    def prune(self, row: records.Pruning) -> None:
        self.appenders[0].append(records.to_row(row))

    def trace(self, row: records.Trace) -> None:
        self.appenders[1].append(records.to_row(row))

    def event(self, row: dict) -> None:
        self.appenders[2].append(row)


async def under_signals(work):
    """Ctrl-C and SIGTERM cancel the work, so that every request is aborted and every engine stopped, then interrupt."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def answer(
    problems: list[Problem], settings: LivePruneSettings, how: LiveSettings, files: Files | None
) -> Outcome:
    """Answer the questions, a few at a time."""
    from transformers import AutoTokenizer

    async with contextlib.AsyncExitStack() as stack:
        reasoner = live_setup.open_reasoner(settings)
        judge = live_setup.open_judge(settings)
        stack.callback(judge.close)
        stack.push_async_callback(reasoner.close)
        await reasoner.open()
        tokenizer = (
            AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
            if settings.tokenizer
            else reasoner.tokenizer
        )
        queue, slots, room = (
            JudgeQueue(judge),
            asyncio.Semaphore(settings.max_num_seqs),
            asyncio.Semaphore(settings.questions),
        )
        before = await reasoner.generated()
        display = stack.enter_context(Display(len(problems)))
        started = time.monotonic()
        questions: list[Question] = []

        async def one(problem: Problem) -> records.Pruning:
            async with room:
                question = Question(
                    problem,
                    reasoner,
                    queue,
                    how,
                    slots,
                    tokenizer,
                    files.event if files else lambda e: None,
                    files.trace if files else lambda t: None,
                )
                questions.append(question)
                display.begin(question)
                pruned = await question.run()
                if files:
                    for trace in question.arrived:
                        if not trace.whole:
                            files.trace(question.record(trace))
                    files.prune(pruned)
                right = {
                    True: "right",
                    False: "wrong",
                    None: "not graded" if not problem.gold else "wrong (no answer)",
                }[pruned.correct]
                display.end(
                    question,
                    f"{pruned.answer} ({right}), {len(pruned.finished)} of {len(question.arrived)} traces finished, "
                    f"{len(pruned.clusters)} clusters, {pruned.tokens['total']:,} tokens",
                )
                return pruned

        tasks = [asyncio.create_task(one(problem)) for problem in problems]
        try:
            pruned = await asyncio.gather(*tasks)
        except (ReasonerLost, JudgeLost) as error:
            hint = "; --on-judge-failure consensus would go on without a judge" if isinstance(error, JudgeLost) else ""
            raise UserError(
                f"{error}{hint}. What ended before is on disk: run the same command again to continue"
            ) from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        seconds = time.monotonic() - started
        reported = sum(len(t.token_ids) for q in questions for t in q.live)
        for _ in range(100):  # aborted requests leave the engine within a step, on a busy machine some seconds later
            await asyncio.sleep(0.3)
            if not (left := await reasoner.running()):  # None where the engine does not say
                break
        after = await reasoner.generated()
        counted = after - before if after is not None and before is not None else None
        if counted is not None and (settings.judge_url or "").rstrip("/") == (settings.reasoner_url or "none").rstrip(
            "/"
        ):
            # The judge's verdicts, and what it asked beside them: a token each.
            counted -= sum(calls for q in questions for calls, _, _ in q.spent) + judge.calls_beside
        whole = prefixes.whole_line(
            (t.read_whole, question.record(t).answer) for question in questions for t in question.arrived
        )
        return Outcome(pruned, reported, counted, left, seconds, whole, judge.label_mass)


def show(outcome: Outcome, settings: LivePruneSettings) -> None:
    """What the run cost, by our count and the engine's; for one question, its answer and vote."""
    counted = "not readable" if outcome.counted is None else f"{outcome.counted:,}"
    print(
        f"{outcome.reported:,} tokens generated by our count, {counted} by the engine's own; {outcome.seconds:.1f} s; requests left "
        f"running: {'unknown' if outcome.left_running is None else outcome.left_running}"
    )
    print(outcome.whole)
    if settings.question:
        (done,) = outcome.pruned
        sizes = sorted(map(len, done.clusters), reverse=True)
        print(f"answer: {done.answer}")
        print(
            f"vote of {len(done.finished)} finished traces of {settings.n}; clusters by size: {' '.join(map(str, sizes))}"
        )
        if done.tokens["consensus"]:
            print(
                f"tokens: {done.tokens['total']:,} spent, about {done.tokens['consensus'] - done.tokens['total']:,} saved "
                f"({costs.reduction(done.tokens['total'], done.tokens['consensus']):.0%} of cons@{settings.n}, estimated from finished traces)"
            )
        print(
            f"judge: {done.judge_calls} calls, {done.judge_tokens:,} prompt tokens, {done.judge_cached_tokens:,} of them cached"
        )


if __name__ == "__main__":
    main()
