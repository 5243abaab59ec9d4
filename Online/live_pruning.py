"""Questions answered live: run traces in vLLM, stop those that a method finds needless while they run, vote.

    python Online/live_pruning.py --config scripts/recipes/cpu.yaml --reasoner Qwen/Qwen2.5-Coder-0.5B-Instruct \
        --judge-model results/demo/judge --n 16 \
        --problems DeepPrune_data/problems/words.jsonl --output results/live.jsonl
    python Online/live_pruning.py --config scripts/recipes/cpu.yaml --reasoner HuggingFaceTB/SmolLM2-135M-Instruct \
        --judge sbert --judge-model sentence-transformers/all-MiniLM-L6-v2 --n 8 --question "What is 12 + 30?"
    python Online/live_pruning.py --config scripts/recipes/cpu.yaml --reasoner HuggingFaceTB/SmolLM2-135M-Instruct \
        --method adaptive --adaptive-batch 8 --adaptive-rolling --n 16 --question "What is 12 + 30?"
    python Online/live_pruning.py --reasoner Qwen/Qwen3-8B --reasoner-url http://127.0.0.1:8000/v1 \
        --judge-model models/DeepPrune-Judge-4B --judge-url http://127.0.0.1:8001/v1 --n 512 \
        --problems AIME24.problems.jsonl --output live.jsonl

The reasoner is an engine of this process, or on vLLM servers (--reasoner-url, one or several: docs/scale.md). --method
names one of deepprune/prune/methods/; its own settings begin with its name. deepprune (the default) needs a judge, an
engine or on servers too (--judge-url), or Sentence-BERT: each trace is held when its prefix is complete, by aborting
its request; what the finish rule chooses goes on from there. Writes Pruning records to OUTPUT, Trace records to
OUTPUT.traces.jsonl (finished ones the moment they end) and every event to OUTPUT.events.jsonl. Held traces are numbered
in the order in which they were held, so that Online/greedy_cluster_threshold.py on them clusters as the live run did;
those of methods without a judge in the order in which they were started. A killed run goes on with the same command;
what an unfinished question had generated moves to OUTPUT.interrupted.jsonl.
"""

import asyncio
from typing import Any

from deepprune import judges
from deepprune.base import config, records
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.records import Problem, Pruning
from deepprune.base.stage import command
from deepprune.data.problems import spread
from deepprune.engines import models
from deepprune.prune import costs, live_run, live_setup
from deepprune.prune.live_run import LiveFiles, Outcome
from deepprune.prune.live_setup import LivePruneSettings


@command
def main() -> None:
    settings = config.parse(LivePruneSettings, "live", __doc__)
    if bool(settings.question) == bool(settings.problems):
        raise UserError("give either --question or --problems")
    if settings.problems and not settings.output:
        raise UserError("--output is required with --problems")
    live_setup.check(settings)
    if settings.question:
        show(answer([Problem.new("question", settings.question, "")], settings), settings)
    else:
        answer_files(settings)


def answer_files(settings: LivePruneSettings) -> None:
    """Answer the questions of --problems into --output, going on where a run before ended."""
    problems = spread(list(records.read_problems(*settings.problems).values()), settings.limit)
    judge = live_setup.describe_judge(settings)
    manifest = open_manifest(settings, judge)
    judges.note(manifest, judge)
    with LiveFiles(manifest) as files:
        todo = [p for p in problems if p.problem_id not in files.done]
        print(
            f"{len(problems)} questions x {settings.n} traces: {len(files.done)} done before, {len(todo)} to answer, "
            f"{settings.method}, judge {judge['name']}"
        )
        if todo:
            outcome = answer(todo, settings, files)
            manifest.data.setdefault("engine_tokens", []).append(outcome.counted)
            judges.note_mass(manifest, outcome.label_mass)
            show(outcome, settings)
    prunings = list(records.read(records.Pruning, settings.output))
    total = costs.total_tokens(prunings)
    print(
        f"{len(prunings)} questions: accuracy {sum(p.correct is True for p in prunings) / len(prunings):.3f}, "
        f"{total['total']:,} tokens generated; cons@{settings.n} would have taken about {total['consensus']:,} (from "
        f"the lengths of finished traces): {costs.reduction(total['total'], total['consensus']):.1%} saved"
    )
    manifest.finish(len(prunings), tokens=total)


def open_manifest(settings: LivePruneSettings, judge: dict[str, Any]) -> Manifest:
    """The output's manifest. Where the judge's folder is may change when a run goes on."""
    # Manifests of before there was a choice do not name the method; another one has other settings too.
    unnamed = ("method",) if settings.method == LivePruneSettings.method else ()
    return Manifest.open(
        settings.output,
        "live",
        settings.made_from(judge["prompt_version"]),
        settings.problems,
        (*config.free_settings(LivePruneSettings), *unnamed),
        settings.overwrite,
        {"reasoner": models.resolve(settings.reasoner).name, "judge": judge["name"]},
        also=live_run.places(settings.output),
    )


def answer(problems: list[Problem], settings: LivePruneSettings, files: LiveFiles | None = None) -> Outcome:
    """Answer the questions; Ctrl-C and SIGTERM end every request and engine first."""
    return asyncio.run(live_run.answer(problems, settings, files))


def show(outcome: Outcome, settings: LivePruneSettings) -> None:
    """What the run cost, by our count and the engine's; for one question, its answer and vote."""
    counted = "not readable" if outcome.counted is None else f"{outcome.counted:,}"
    left = "unknown" if outcome.left_running is None else outcome.left_running
    print(
        f"{outcome.reported:,} tokens generated by our count, {counted} by the engine's own; {outcome.seconds:.1f} s; "
        f"requests left running: {left}"
    )
    if settings.judged:
        print(outcome.whole)
    if settings.question:
        show_answer(outcome.pruned[0], settings)


def show_answer(pruned: Pruning, settings: LivePruneSettings) -> None:
    """A single question's answer, its vote, and what they cost."""
    print(f"answer: {pruned.answer}")
    sizes = " ".join(str(size) for size in sorted(map(len, pruned.clusters), reverse=True))
    print(
        f"vote of {len(pruned.finished)} finished traces of {settings.n}"
        f"{f'; clusters by size: {sizes}' if pruned.clusters else ''}"
    )
    total, consensus = pruned.tokens["total"], pruned.tokens["consensus"]
    if consensus:
        print(
            f"tokens: {total:,} spent, about {consensus - total:,} saved "
            f"({costs.reduction(total, consensus):.0%} of cons@{settings.n}, estimated from finished traces)"
        )
    if settings.judged:
        print(
            f"judge: {pruned.judge_calls} calls, {pruned.judge_tokens:,} prompt tokens, "
            f"{pruned.judge_cached_tokens:,} of them cached"
        )


if __name__ == "__main__":
    main()
