"""Stage 02: from traces to the judge's training and test pairs.

    python Offline/build_pair_dataset.py --config scripts/recipes/cpu.yaml \
        --problems DeepPrune_data/problems/arithmetic.jsonl --traces DeepPrune_data/traces/arithmetic.jsonl.gz

Writes, under --data-dir:
    finetune_data/NAME.jsonl      training pairs in LLaMA-Factory's alpaca format, oversampled, shuffled
    offline_test_data/NAME.jsonl  Pair records of held-out problems (and of --test-traces)
    offline_train_data/NAME.jsonl with --fitting-pairs: as those, of the training problems, for what is fitted without
                                  LLaMA-Factory (Preliminaries/fitted_references.py)
    online_test_data/NAME.jsonl   Trace records of the same problems, for pruning
    finetune_data/NAME.judge_profile.yaml  how the rows ask and what they answer, for training to pass on
    dataset_info.json             LLaMA-Factory's registry, entry NAME

A training row: {"system": "...", "instruction": "Problem: ...", "input": "", "output": "yes",
                 "pair_id": "77ab...", "problem_id": "6c1f...", "label": 1}
"""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

from deepprune.base import config, console, locks, progress, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest, check_paths
from deepprune.base.stage import command
from deepprune.data import pairs, traces
from deepprune.data.problems import spread
from deepprune.data.truncation import Truncation
from deepprune.engines import models
from deepprune.judges import JudgeSettings, profiles
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import Profile
from deepprune.judges.training import rows
from deepprune.prune import prefixes
from deepprune.prune.rules import CutSettings

Groups = dict[str, list[records.Trace]]  # by problem


@dataclasses.dataclass
class PairSettings(CutSettings, pairs.PairingSettings):
    data_dir: str = setting("DeepPrune_data", "folder to write under")
    name: str = setting("deepprune_pairs", "name of the data set (files and LLaMA-Factory entry)", is_name=True)
    judge_profile: str | None = config.like(
        JudgeSettings, "judge_profile", help="YAML of how the judge will be asked (default: our prompt)"
    )
    other_truncation: bool = config.like(JudgeSettings, "other_truncation")
    train_balanced: bool = setting(
        False, "sample as many same as different pairs of a training problem, where it has both"
    )
    test_traces_per_problem: int | None = setting(
        None, "draw test pairs among so many traces of each problem and reasoner, spread over them", at_least=2
    )
    train_partial: bool = setting(False, "train only on pairs of which both prefixes end before their traces")
    cuts: list[str] = setting(
        [], "several cuts in one set, as words:25 or tokens:500, pairs drawn for each (default: --truncation alone)"
    )
    test_cuts: list[str] = setting([], "cuts of the test side, the same pairs at each (default: as for training)")
    variants_together: bool = setting(
        False, "problems that differ in their numbers alone stay on one side of the split (as the same ones do)"
    )
    shared_to_test: bool = setting(
        False, "problems of --traces that --test-traces ask too go to the test side (default: that is an error)"
    )
    fitting_pairs: bool = setting(
        False, "write Pair records of the training problems too, drawn as the test side's are (offline_train_data)"
    )
    oversampling: int = setting(
        2, "times a training pair of the minority class is used (1: no oversampling)", at_least=1, at_most=100
    )
    seed: int = config.seed("seed of split, sampling and order")


@command
def main() -> None:
    settings = config.parse(PairSettings, "pairs", __doc__)
    profile = asked_with(settings)
    root = Path(settings.data_dir)
    sides = ["finetune", "offline_test", "online_test", *(["offline_train"] if settings.fitting_pairs else [])]
    outputs = {side: root / f"{side}_data" / f"{settings.name}.jsonl" for side in sides}
    inputs = [*settings.problems, *settings.traces, *settings.test_traces]
    check_paths([*outputs.values(), root / "dataset_info.json"], inputs)
    for path in outputs.values():
        locks.hold(path)
    by_id = records.read_problems(*settings.problems)
    seen = traces.by_problem(read_traces(settings.traces, by_id))
    unseen = traces.by_problem(read_traces(settings.test_traces, by_id))
    unseen_problems = [by_id[i] for i in unseen]
    tested = unseen_problems if settings.shared_to_test else []
    train, test = pairs.split(
        [by_id[i] for i in seen], settings.test_share, settings.seed, tested, settings.variants_together
    )
    pairs.check_leak(train, unseen_problems)

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    train_pairs = training_pairs(train, seen, settings, tokenizer)
    test_pairs = testing_pairs(test, seen, "test pairs", settings, tokenizer)
    if unseen:
        test_pairs += testing_pairs(unseen_problems, unseen, "test pairs, unseen model", settings, tokenizer)
    say_how_much_is_whole(train_pairs, test_pairs, [t for group in [*seen.values(), *unseen.values()] for t in group])
    fitting = rows.within_cutoff(train_pairs, test_pairs, settings.cutoff, PairPrompts(profile, tokenizer))
    rows.balance("before oversampling", fitting)
    final = pairs.oversample(fitting, settings.oversampling)
    rows.balance("after oversampling", final)
    random.Random(settings.seed).shuffle(final)

    test_traces = [t for group in [*(seen[p.problem_id] for p in test), *unseen.values()] for t in group]
    to_write = {
        "finetune": (rows.training_row(p, profile, tokenizer) for p in final),
        "offline_test": map(records.to_row, test_pairs),
        "online_test": map(records.to_row, test_traces),
    }
    if settings.fitting_pairs:
        fitting_pairs = testing_pairs(train, seen, "pairs to fit on", settings, tokenizer)
        to_write["offline_train"] = map(records.to_row, fitting_pairs)
    made_from = settings.made_from(profile.version)
    counts = {"train_problems": len(train), "test_problems": len(test) + len(unseen)}
    for side, path in outputs.items():
        Manifest.open(path, "pairs", made_from, inputs, overwrite=True).write(to_write[side], **counts)
    profiles.save(profile, profiles.rows_profile(outputs["finetune"]))
    rows.register(root, settings.name)
    for path in outputs.values():
        console.detail(str(path))


def cuts_of(settings: PairSettings, test: bool = False) -> list[Truncation]:
    """The truncations of the training side, or of the test side."""
    written = (test and settings.test_cuts) or settings.cuts
    return [Truncation.read(text, settings.cut().words) for text in written] or [settings.cut()]


def asked_with(settings: PairSettings) -> Profile:
    """The profile that the rows are written for, with the truncation of their traces (none: there are several)."""
    profile = profiles.load(settings.judge_profile) if settings.judge_profile else profiles.DEFAULT
    cuts = cuts_of(settings)
    profile.check_truncation([cut.as_dict() for cut in cuts], settings.other_truncation)
    return dataclasses.replace(profile, truncation=cuts[0] if len(cuts) == 1 else None)


def training_pairs(problems: list[records.Problem], groups: Groups, settings: PairSettings, tokenizer):
    """The training side's pairs: of each cut others, drawn with seeds of their own."""

    def drawn(problem: records.Problem, cut: Truncation, number: int):
        most, seed = settings.train_pairs_per_problem, settings.seed + number
        wanted = settings.train_balanced, settings.train_partial
        return pairs.build(groups[problem.problem_id], problem, cut, most, seed, tokenizer, *wanted)

    return build(problems, cuts_of(settings), drawn, "training pairs")


def testing_pairs(problems: list[records.Problem], groups: Groups, what: str, settings: PairSettings, tokenizer):
    """The test side's pairs: at each cut the same."""

    def drawn(problem: records.Problem, cut: Truncation, number: int):
        most, seed = settings.test_pairs_per_problem, settings.seed
        return pairs.build(
            tested_traces(groups[problem.problem_id], settings.test_traces_per_problem),
            problem,
            cut,
            most,
            seed,
            tokenizer,
        )

    return build(problems, cuts_of(settings, test=True), drawn, what)


def tested_traces(group: list[records.Trace], most: int | None) -> list[records.Trace]:
    """At most so many of a problem's traces by each reasoner, spread over them."""
    by_model = {model: [t for t in group if t.model == model] for model in dict.fromkeys(t.model for t in group)}
    return [trace for own in by_model.values() for trace in spread(own, most)]


def build(problems: list[records.Problem], cuts: list[Truncation], drawn: Callable, what: str) -> list[records.Pair]:
    """The pairs of these problems' traces at each cut; how many is printed. what: for the bar.

    drawn: (problem, cut, the cut's number) -> its pairs and how many were dropped.
    """
    result, dropped = [], 0
    for problem in progress.bar(problems, desc=what, unit="problem", leave=False):
        for number, cut in enumerate(cuts):
            new, unknown = drawn(problem, cut, number)
            result, dropped = result + new, dropped + unknown
    print(
        f"{what}: {len(problems)} problems, {len(result)} pairs; "
        f"{dropped} possible pairs dropped (an answer is unknown)"
    )
    return result


def say_how_much_is_whole(
    train_pairs: list[records.Pair], test_pairs: list[records.Pair], traces: list[records.Trace]
) -> None:
    """Print how many prefixes are whole traces, which hold the answer."""
    by_id = {t.trace_id: t for t in traces}
    whole = sum(p.prefix_a == by_id[p.trace_a].text and p.prefix_b == by_id[p.trace_b].text for p in train_pairs)
    share = whole / max(len(train_pairs), 1)
    console.detail(f"training pairs in which both prefixes are whole traces: {share:.1%}")
    for side, side_pairs in (("training", train_pairs), ("test", test_pairs)):
        console.detail(f"{side}, {prefixes.whole_line(used(side_pairs, by_id))}")


def read_traces(paths: list[str], by_id: dict) -> list[records.Trace]:
    """Traces of the given files; an unknown problem id is an error."""
    traces = []
    for path in paths:
        for trace in records.read(records.Trace, path):
            if trace.problem_id not in by_id:
                raise UserError(
                    f"{path}: trace {trace.trace_id} is of problem {trace.problem_id}, which no --problems file holds"
                )
            traces.append(trace)
    if len({t.trace_id for t in traces}) < len(traces):
        raise UserError(f"{' and '.join(paths)} hold the same trace ids; give each trace file once")
    return traces


def used(side: list[records.Pair], by_trace: dict[str, records.Trace]) -> list[tuple[bool, str | None]]:
    """(Whether its prefix is the whole trace, its answer) of each trace in the pairs, at each cut."""
    cut = {}
    for p in side:
        for trace_id, prefix in ((p.trace_a, p.prefix_a), (p.trace_b, p.prefix_b)):
            cut[trace_id, *p.truncation.values()] = prefix
    return [(prefix == by_trace[i].text, by_trace[i].answer) for (i, *_), prefix in cut.items()]


if __name__ == "__main__":
    main()
