"""Stage 05: prune recorded traces by greedy clustering, finish a few, vote.

    python Online/greedy_cluster_threshold.py --config scripts/recipes/cpu.yaml --model results/demo/judge \
        --problems DeepPrune_data/problems/*.jsonl --output results/demo/pruning.jsonl
    python Online/greedy_cluster_threshold.py --judge oracle --problems ... --output oracle.jsonl
    python Online/greedy_cluster_threshold.py ... --output paper.jsonl --then --asks likely --output likely.jsonl

After --then come the options in which a further run differs: the runs follow each other in one process, and share the
engine of one judge.

Many problems advance in lockstep, so that each call to the judge is large. A model's scores are kept in a store
(OUTPUT.scores.sqlite, or --store to share one between runs): no pair is scored twice, and a killed run goes on with the
same command. Finished groups of problems are on disk.

A record: {"problem_id": "6c1f...", "judge": "judge@1f3c9a2b", "settings": {"tau": 0.5, ...},
           "clusters": [["b0e1...", ...], ...], "finished": ["b0e1...", ...], "answer": "42", "correct": true,
           "tokens": {"prefix": 820, "rest": 1440, "total": 2260, "consensus": 5210, "sequential": 310},
           "judge_calls": 61, "judge_tokens": 17800, "judge_cached_tokens": 9100}
"""

from typing import Any

from deepprune import judges
from deepprune.base import config, console, progress, records, runtime
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.records import Problem, Pruning
from deepprune.base.stage import command
from deepprune.data import problems
from deepprune.engines import models
from deepprune.prune import costs, prefixes, recorded
from deepprune.prune.prefixes import Prefixed
from deepprune.prune.recorded import Judges, PruneSettings, TraceScorer


@command
def main() -> None:
    runs = config.parse_runs(PruneSettings, "prune", __doc__)
    for settings in runs:
        settings.cluster_rule(), settings.finish_rule()
        settings.judge = settings.kind_of_judge(settings.judge)
        records.read_problems(*settings.problems)
    if any(judges.KINDS[settings.judge].needs_vllm for settings in runs):
        runtime.ensure()
    with Judges() as opened:
        for settings in runs:
            prune(settings, opened)


def prune(settings: PruneSettings, opened: Judges) -> None:
    """One run. opened: the judges of the runs before, which are used again."""
    by_id = records.read_problems(*settings.problems)
    groups = select(settings, by_id)
    judge = judges.describe(settings.judge, settings.model, settings.seed, settings.judge_profile)
    profile = judges.profile_of(settings.judge, settings.model, settings.judge_profile)
    profile.check_truncation([settings.cut().as_dict()], settings.other_truncation)
    manifest = open_manifest(settings, judge)
    judges.note(manifest, judge)
    with manifest.appender() as out:
        done = {p.problem_id for p in records.read(Pruning, settings.output)}
        todo = [i for i in groups if i not in done]
        print(
            f"{len(groups)} problems: {len(groups) - len(todo)} done before, {len(todo)} to prune with {judge['name']} "
            f"by {settings.reads()}"
        )
        if judge["parameters"] is None:
            print(f"the size of the judge {judge['name']} is not known: neither is its cost, in reasoner tokens")
        if todo:
            with TraceScorer(settings, judge, by_id, groups, opened) as scorer:
                with progress.bar(total=sum(len(groups[i]) for i in todo), desc="traces placed", unit="trace") as bar:
                    for start in range(0, len(todo), settings.lockstep):
                        for pruned in recorded.prune(todo[start : start + settings.lockstep], scorer, bar.update):
                            out.append(records.to_row(pruned))
                            judges.note_mass(manifest, scorer.label_mass)
                console.detail(f"{scorer.asked:,} pairs asked about, {scorer.scored:,} of them scored now")
    prunings = [p for p in records.read(Pruning, settings.output) if p.problem_id in groups]
    if not prunings:
        raise UserError(f"{settings.traces}: no problem to prune; give other traces or a larger --limit")
    show(prunings, judge["name"])
    manifest.finish(len(prunings), tokens=costs.total_tokens(prunings))


def select(settings: PruneSettings, by_id: dict[str, Problem]) -> dict[str, list[Prefixed]]:
    """Traces by problem, in arrival order, of one reasoner, problems spread evenly when limited."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    groups = prefixes.select([settings.traces], settings.cut(), tokenizer, by_id, settings.reasoner, pruned=True)
    stopped = sum(t.pruned for group in groups.values() for t in group)
    if stopped:
        print(
            f"{settings.traces}: {stopped} traces were stopped by live pruning: the clusters are those of whole "
            "traces, but votes and tokens know only what was generated"
        )
    keys = problems.spread(list(groups), settings.limit)
    groups = {key: prefixes.arrival(groups[key], settings.n, settings.order, settings.seed, key) for key in keys}
    console.detail(prefixes.whole_line((t.whole, t.answer) for group in groups.values() for t in group))
    return groups


def open_manifest(settings: PruneSettings, judge: dict[str, Any]) -> Manifest:
    made_from = settings.made_from(judge["prompt_version"])
    made_from.pop("problems"), made_from.pop("traces"), made_from.pop("model")
    return Manifest.open(
        settings.output,
        "prune",
        made_from,
        [*settings.problems, settings.traces],
        config.free_settings(PruneSettings),
        settings.overwrite,
        {"judge": judge["name"]},
        also=[settings.store_path()],
    )


def show(prunings: list[Pruning], judge: str) -> None:
    """A run in one line: accuracy, tokens, the judge's calls."""
    total = costs.total_tokens(prunings)
    print(
        f"{len(prunings)} problems, judge {judge}: accuracy "
        f"{sum(p.correct is True for p in prunings) / len(prunings):.3f}, "
        f"tokens {total['total']:,} of {total['consensus']:,} for cons@n: reduction "
        f"{costs.reduction(total['total'], total['consensus']):.1%} without the judge's cost; judge: "
        f"{sum(p.judge_calls for p in prunings):,} calls, {sum(p.judge_tokens for p in prunings):,} prompt tokens, "
        f"{sum(p.judge_cached_tokens for p in prunings):,} of them in a perfect prefix cache"
    )


if __name__ == "__main__":
    main()
