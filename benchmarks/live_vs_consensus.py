"""Live pruning against cons@n: the same questions, the same n, one after the other on the same engine.

    python benchmarks/live_vs_consensus.py --config scripts/recipes/cpu.yaml --reasoner Qwen/Qwen2.5-Coder-0.5B-Instruct \
        --judge-model Offline/DeepPrune-Judge-mini --problems DeepPrune_data/problems/unseen.jsonl --limit 8 --n 64 --k2 8 --k3 8 \
        --comparisons representative --output Online/results/live.json

Options are those of Online/live_pruning.py. Prints, and writes to --output with every question's row: wall time, tokens by
vLLM's own counter and by ours, accuracy, their ratios, and what the judge cost in equivalent reasoner tokens. Start-up is not
timed. cons@n runs first, so that live pruning finds the questions (not the traces) in the prefix cache.
"""

import asyncio
import contextlib
import json
import time

from deepprune import answers, config, costs, jsonl, live_setup, manifest, metrics, models, progress, records
from deepprune.errors import UserError, command
from deepprune.live import JudgeQueue, Live, Question
from deepprune.problems import spread
from deepprune.records import Problem


@command
def main() -> None:
    settings = config.parse(live_setup.LivePruneSettings, "live", __doc__)
    if not settings.problems or not settings.output:
        raise UserError("--problems and --output are required")
    live_setup.check(settings)
    problems = spread(list(records.read(Problem, *settings.problems)), settings.limit)
    numbers = asyncio.run(measure(problems, settings))
    numbers |= {
        "settings": config.resolved(settings),
        "inputs": {path: manifest.file_hash(path) for path in settings.problems},
        "models": {"reasoner": models.resolve(settings.reasoner).name, "judge": live_setup.judge_name(settings)},
        "commit": manifest.code_commit(),
        "packages": manifest.package_versions(),
    }
    jsonl.write_text(settings.output, json.dumps(numbers, indent=1) + "\n")
    print(
        f"{len(problems)} questions, n = {settings.n}, reasoner {settings.reasoner}, judge {live_setup.judge_name(settings)}"
    )
    for name in ("consensus", "live"):
        row = numbers[name]
        low, high = row["accuracy_interval"]
        print(f"  {name:<10} {row['seconds']:8.1f} s  {row['tokens']:>9,} tokens (engine: {row['engine_tokens']:,})  "
              f"accuracy {row['accuracy']:.3f} [{low:.3f}, {high:.3f}]")  # fmt: skip
    for name, (value, low, high) in numbers["ratios"].items():
        print(f"  {name}: {value:.3f} [{low:.3f}, {high:.3f}]")
    print(f"  live / consensus, wall time: {numbers['live']['seconds'] / numbers['consensus']['seconds']:.2f}")


async def measure(problems: list[Problem], settings: live_setup.LivePruneSettings) -> dict:
    """Both ways on one engine."""
    how = live_setup.how(settings)
    async with contextlib.AsyncExitStack() as stack:
        reasoner, judge = live_setup.open_reasoner(settings), live_setup.open_judge(settings)
        stack.callback(judge.close)
        stack.push_async_callback(reasoner.close)
        await reasoner.open()
        queue, slots, room = (
            JudgeQueue(judge),
            asyncio.Semaphore(settings.max_num_seqs),
            asyncio.Semaphore(settings.questions),
        )

        def question(problem: Problem) -> Question:
            return Question(
                problem, reasoner, queue, how, slots, reasoner.tokenizer, lambda event: None, lambda trace: None
            )

        async def consensus(problem: Problem) -> dict:
            async with room:
                asked = question(problem)

                async def one(trace: Live) -> None:
                    async with slots:
                        await asked.generate(trace, hold=False)

                await asyncio.gather(*(one(trace) for trace in asked.live))
                found = [answers.extract(t.text, problem.answer_type) for t in asked.live]
                answer = answers.majority(found, problem.answer_type)
                right = answers.same(answer, problem.gold, problem.answer_type) is True
                return {"correct": right, "answer": answer, "tokens": sum(len(t.token_ids) for t in asked.live)}

        async def live(problem: Problem) -> dict:
            async with room:
                done = await question(problem).run()
                return {"correct": done.correct is True, "answer": done.answer, **done.tokens, "tokens": done.tokens["total"],
                        "clusters": len(done.clusters), "finished": len(done.finished), "judge_calls": done.judge_calls,
                        "judge_tokens": done.judge_tokens, "judge_cached_tokens": done.judge_cached_tokens}  # fmt: skip

        async def timed(name: str, way) -> dict:
            with progress.bar(total=len(problems), desc=name, unit="question") as bar:

                async def one(problem: Problem) -> dict:
                    row = await way(problem)
                    bar.update()
                    return {"problem_id": problem.problem_id} | row

                before, started = await reasoner.generated(), time.perf_counter()
                rows = await asyncio.gather(*(one(problem) for problem in problems))
                seconds = time.perf_counter() - started
            value, low, high = metrics.bootstrap(range(len(rows)), lambda chosen: mean(rows, chosen, "correct"))
            return {"seconds": seconds, "tokens": sum(row["tokens"] for row in rows), "engine_tokens": await reasoner.generated() - before,
                    "accuracy": value, "accuracy_interval": [low, high], "questions": rows}  # fmt: skip

        warm = Problem.new("warm-up", "What is 1 + 1?", "2")
        await consensus(warm)
        result = {"consensus": await timed("consensus", consensus), "live": await timed("live", live)}
        result["judge_parameters"] = judge.parameters
        result["ratios"] = ratios(
            result["consensus"]["questions"], result["live"]["questions"], judge.parameters,
            costs.parameters_from_name(reasoner.name),
        )  # fmt: skip
        return result


def mean(rows: list[dict], chosen, column: str) -> float:
    """The mean of a column over the chosen rows."""
    return sum(rows[i][column] for i in chosen) / len(chosen)


def ratios(consensus: list[dict], live: list[dict], judge_parameters: int, reasoner_parameters: float | None) -> dict:
    """{name: (value, low, high)}: live against cons@n, paired over questions (the rows' order is the same)."""

    def saved(chosen, judge: float = 0.0) -> float:
        extra = sum(
            costs.equivalent_tokens(live[i]["judge_tokens"], live[i]["judge_cached_tokens"], judge, 1.0) for i in chosen
        )
        return costs.reduction(
            sum(live[i]["tokens"] for i in chosen) + extra, sum(consensus[i]["tokens"] for i in chosen)
        )

    everyone = range(len(live))
    found = {
        "token reduction": metrics.bootstrap(everyone, saved),
        "accuracy, live - consensus": metrics.bootstrap(
            everyone, lambda chosen: mean(live, chosen, "correct") - mean(consensus, chosen, "correct")
        ),
    }
    if reasoner_parameters:
        found["token reduction, judge counted"] = metrics.bootstrap(
            everyone, lambda chosen: saved(chosen, judge_parameters / reasoner_parameters)
        )
    return found


if __name__ == "__main__":
    main()
