"""Live pruning against cons@n: the same questions, the same n, one after the other on the same engine.

    python benchmarks/live_vs_consensus.py --config scripts/recipes/cpu.yaml --reasoner Qwen/Qwen2.5-Coder-0.5B-Instruct \
        --judge sbert --judge-model sentence-transformers/all-MiniLM-L6-v2 --problems DeepPrune_data/problems/words.jsonl \
        --limit 4 --n 64 --output results/live_vs_consensus.json

Options are those of Online/live_pruning.py. Prints, and writes to --output: wall time, tokens by vLLM's own counter,
accuracy, and the ratios. Start-up is not timed.
"""

import asyncio
import contextlib
import json
import time

from deepprune import answers, config, jsonl, live_setup, manifest, metrics, records
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
        "commit": manifest.code_commit(),
        "packages": manifest.package_versions(),
    }
    jsonl.write_text(settings.output, json.dumps(numbers, indent=1) + "\n")
    a, b = numbers["consensus"], numbers["live"]
    print(
        f"{len(problems)} questions, n = {settings.n}, reasoner {settings.reasoner}, judge {live_setup.judge_name(settings)}"
    )
    for name, row in (("consensus", a), ("live", b)):
        low, high = row["accuracy_interval"]
        print(f"  {name:<10} {row['seconds']:8.1f} s  {row['tokens']:>9,} tokens (engine: {row['engine_tokens']:,})  "
              f"accuracy {row['accuracy']:.3f} [{low:.3f}, {high:.3f}]")  # fmt: skip
    print(
        f"live / consensus: wall time {b['seconds'] / a['seconds']:.2f}, generated tokens {b['engine_tokens'] / a['engine_tokens']:.2f}"
    )


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

        async def consensus(problem: Problem) -> tuple[bool, int]:
            async with room:
                asked = question(problem)

                async def one(trace: Live) -> None:
                    async with slots:
                        await asked.generate(trace, hold=False)

                await asyncio.gather(*(one(trace) for trace in asked.live))
                found = [answers.extract(t.text, problem.answer_type) for t in asked.live]
                right = (
                    answers.same(answers.majority(found, problem.answer_type), problem.gold, problem.answer_type)
                    is True
                )
                return right, sum(len(t.token_ids) for t in asked.live)

        async def live(problem: Problem) -> tuple[bool, int]:
            async with room:
                done = await question(problem).run()
                return done.correct is True, done.tokens["total"]

        warm = Problem.new("warm-up", "What is 1 + 1?", "2")
        await consensus(warm)
        result = {}
        for name, way in (("consensus", consensus), ("live", live)):
            before, started = await reasoner.generated(), time.perf_counter()
            rows = await asyncio.gather(*(way(problem) for problem in problems))
            seconds = time.perf_counter() - started
            right = [float(r) for r, _ in rows]
            value, low, high = metrics.bootstrap(
                range(len(right)), lambda r, right=right: sum(right[i] for i in r) / len(r)
            )
            result[name] = {"seconds": seconds, "tokens": sum(t for _, t in rows), "engine_tokens": await reasoner.generated() - before,
                            "accuracy": value, "accuracy_interval": [low, high]}  # fmt: skip
        return result


if __name__ == "__main__":
    main()
