"""Live pruning against cons@n: the same questions, the same n, one after the other on the same engine.

    python benchmarks/live_vs_consensus.py --config scripts/recipes/cpu.yaml \
        --reasoner Qwen/Qwen2.5-Coder-0.5B-Instruct --judge-model Offline/DeepPrune-Judge-mini \
        --problems DeepPrune_data/problems/unseen.jsonl --limit 6 --questions 2 \
        --n 64 --k 8 --k1 1 --k2 8 --k3 8 --top-p 1.0 --output results/live.jsonl

Options are those of Online/live_pruning.py. Questions are taken --questions at a time, each group first by cons@n, then
by live pruning (which finds the questions, not the traces, in the prefix cache). Every group is appended to --output: a
killed run goes on after it. Prints, and writes to the manifest beside it: wall time, tokens by vLLM's own counter and
by ours, accuracy, their ratios with intervals over questions, and what the judge cost in equivalent reasoner tokens.
Start-up is not timed.
"""

import asyncio
import contextlib
import dataclasses
import time

from deepprune.base import config, jsonl, metrics, progress, records
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.records import Problem, Pruning
from deepprune.base.stage import command
from deepprune.data.problems import spread
from deepprune.engines import models
from deepprune.prune import costs, live_setup
from deepprune.prune.live import LiveQuestion
from deepprune.prune.live_judging import JudgeQueue
from deepprune.prune.live_traces import LiveSettings

WAYS = ("consensus", "live")


@command
def main() -> None:
    settings = config.parse(live_setup.LivePruneSettings, "live", __doc__)
    if not settings.problems or not settings.output:
        raise UserError("--problems and --output are required")
    if not settings.judged:
        raise UserError("this compares pruning with cons@n: benchmarks/live_methods.py compares methods")
    live_setup.check(settings)
    problems = spread(list(records.read_problems(*settings.problems).values()), settings.limit)
    groups = [problems[i : i + settings.questions] for i in range(0, len(problems), settings.questions)]
    made_from = settings.made_from(live_setup.describe_judge(settings)["prompt_version"])
    manifest = Manifest.open(
        settings.output,
        "live against consensus",
        made_from,
        settings.problems,
        ("timeout", "retries", "least_label_mass", "other_truncation"),
        settings.overwrite,
        {"reasoner": models.resolve(settings.reasoner).name, "judge": live_setup.describe_judge(settings)["name"]},
    )
    with manifest.appender() as output:
        done = {(row["group"], row["way"]) for _, row in jsonl.read(settings.output)}
        todo = [(g, way) for g in range(len(groups)) for way in WAYS if (g, way) not in done]
        before = f"{len(done)} of {2 * len(groups)} runs done before"
        print(f"{len(problems)} questions x {settings.n} traces in {len(groups)} groups: {before}")
        if todo:
            asyncio.run(measure(groups, todo, settings, output))
    judge_parameters = live_setup.describe_judge(settings)["parameters"]
    numbers = summary(
        [row for _, row in jsonl.read(settings.output)],
        judge_parameters,
        costs.parameters_from_name(models.resolve(settings.reasoner).name),
    )
    show(numbers, settings)
    manifest.finish(2 * len(groups), judge_parameters=judge_parameters, result=numbers)


async def measure(
    groups: list[list[Problem]],
    todo: list[tuple[int, str]],
    settings: live_setup.LivePruneSettings,
    output: jsonl.Appender,
) -> None:
    """Run (group, way) after (group, way) on one engine, each appended when it is done."""
    how = live_setup.how(settings)
    async with contextlib.AsyncExitStack() as stack:
        reasoner, judge = live_setup.open_reasoner(settings), live_setup.open_judge(settings)
        stack.callback(judge.close)
        stack.push_async_callback(reasoner.close)
        await reasoner.open()
        queue, slots = JudgeQueue(judge), asyncio.Semaphore(settings.max_num_seqs)

        async def answer(problem: Problem, way: str, how: LiveSettings = how) -> Pruning:
            question = LiveQuestion(problem, reasoner, queue, how, slots, reasoner.tokenizer)
            return await (question.consensus() if way == "consensus" else question.run())

        await answer(Problem.new("warm-up", "What is 1 + 1?", "2"), "live", dataclasses.replace(how, n=2))
        for group, way in progress.bar(todo, desc="groups", unit="run"):
            before, started = await reasoner.generated(), time.perf_counter()
            pruned = await asyncio.gather(*(answer(problem, way) for problem in groups[group]))
            seconds = time.perf_counter() - started
            after = await reasoner.generated()
            counted = None if None in (before, after) else after - before
            output.append(
                {
                    "group": group,
                    "way": way,
                    "seconds": round(seconds, 2),
                    "engine_tokens": counted,
                    "questions": [row_of(pruning) for pruning in pruned],
                }
            )


def row_of(pruned: Pruning) -> dict:
    """What the summary needs of one answered question."""
    return {
        "problem_id": pruned.problem_id,
        "answer": pruned.answer,
        "correct": pruned.correct is True,
        "tokens": pruned.tokens["total"],
        "prefix_tokens": pruned.tokens["prefix"],
        "sequential_tokens": pruned.tokens["sequential"],
        "clusters": len(pruned.clusters),
        "finished": len(pruned.finished),
        "judge_calls": pruned.judge_calls,
        "judge_tokens": pruned.judge_tokens,
        "judge_cached_tokens": pruned.judge_cached_tokens,
    }


def summary(runs: list[dict], judge_parameters: float | None, reasoner_parameters: float | None) -> dict:
    """Totals of both ways, and live pruning against cons@n with bootstrap intervals, paired over questions.

    With the judge counted the token reduction is None (not known) where a size is not known.
    """
    result, rows = {}, {}
    for way in WAYS:
        mine = [run for run in runs if run["way"] == way]
        rows[way] = sorted((row for run in mine for row in run["questions"]), key=lambda row: row["problem_id"])
        result[way] = {
            "seconds": round(sum(run["seconds"] for run in mine), 1),
            "tokens": sum(row["tokens"] for row in rows[way]),
            "engine_tokens": total([run["engine_tokens"] for run in mine]),
            "sequential_tokens": sum(row["sequential_tokens"] for row in rows[way]),
            "accuracy": metrics.bootstrap(
                range(len(rows[way])), lambda chosen, way=way: mean(rows[way], chosen, "correct")
            ),
        }
    consensus, live = (rows[way] for way in WAYS)

    def saved(chosen, judge: float = 0.0) -> float:
        extra = sum(
            costs.equivalent_tokens(live[i]["judge_tokens"], live[i]["judge_cached_tokens"], judge, 1.0) for i in chosen
        )
        return costs.reduction(
            sum(live[i]["tokens"] for i in chosen) + extra, sum(consensus[i]["tokens"] for i in chosen)
        )

    everyone = range(len(live))
    result["ratios"] = {
        "token reduction": metrics.bootstrap(everyone, saved),
        "accuracy, live - consensus": metrics.bootstrap(
            everyone, lambda chosen: mean(live, chosen, "correct") - mean(consensus, chosen, "correct")
        ),
    }
    ratio = costs.equivalent_tokens(1, 0, judge_parameters, reasoner_parameters)
    result["ratios"]["token reduction, judge counted"] = (
        None if ratio is None else metrics.bootstrap(everyone, lambda chosen: saved(chosen, ratio))
    )
    return result | {"questions": len(live)}


def total(counts: list[int | None]) -> int | None:
    """The sum; None if a count is not known."""
    return None if None in counts else sum(counts)


def mean(rows: list[dict], chosen, column: str) -> float:
    """The mean of a column over the chosen rows."""
    return sum(rows[i][column] for i in chosen) / len(chosen)


def show(numbers: dict, settings: live_setup.LivePruneSettings) -> None:
    """The summary, for reading."""
    judge = live_setup.describe_judge(settings)["name"]
    print(f"{numbers['questions']} questions, n = {settings.n}, reasoner {settings.reasoner}, judge {judge}")
    for way in WAYS:
        row = numbers[way]
        value, low, high = row["accuracy"]
        counted = "not readable" if row["engine_tokens"] is None else f"{row['engine_tokens']:,}"
        print(
            f"  {way:<10} {row['seconds']:8.1f} s  {row['tokens']:>9,} tokens (engine: {counted})  "
            f"{row['sequential_tokens']:>7,} sequential  accuracy {value:.3f} {metrics.in_brackets(low, high)}"
        )
    for name, row in numbers["ratios"].items():
        value = "unknown (a size is not known)" if row is None else f"{row[0]:.3f} {metrics.in_brackets(*row[1:])}"
        print(f"  {name}: {value}")
    print(f"  live / consensus, wall time: {numbers['live']['seconds'] / numbers['consensus']['seconds']:.2f}")


if __name__ == "__main__":
    main()
