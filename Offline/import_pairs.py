r"""Stage 02 without traces: ready pairs, or rows that LLaMA-Factory trains on, as training and test pairs of a judge.

    python Offline/import_pairs.py --input pairs.csv --name mine --prefix-a-field text1 --prefix-b-field text2
    python Offline/import_pairs.py --input hf:org/judge-data:train --rows alpaca --judge-profile theirs.yaml \
        --name theirs --side train

--rows pairs: a row is a question, two texts and a label. alpaca, sharegpt: a row is a prompt and an answer, which the
judge profile (its user template and labels) takes apart again. --input as in scripts/01_import_traces.py: any usual
kind of file, a folder, a data set. Texts are taken as they are: their truncation is the profile's, where it says one.

Writes, under --data-dir, what Offline/build_pair_dataset.py writes, but for traces: finetune_data/NAME.jsonl with its
judge profile and entry in dataset_info.json, and offline_test_data/NAME.jsonl, split by question.
"""

import dataclasses
import random
from pathlib import Path

from deepprune.base import config, console, locks, progress, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest, check_paths
from deepprune.base.stage import command
from deepprune.data import hub_data, pairs, sources
from deepprune.data.import_rows import Fields
from deepprune.engines import models
from deepprune.judges import JudgeSettings, profiles
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import Profile
from deepprune.judges.ready_pairs import KINDS, ReadyPairs
from deepprune.judges.training import rows

FIELDS = "question prefix_a prefix_b label model family system instruction input output conversations".split()


@dataclasses.dataclass
class ReadySettings:
    input: str = setting(
        config.REQUIRED,
        "file (.jsonl, .json, .csv, .tsv, .parquet; .gz, .zst), folder of such files, or hf:NAME[:SPLIT]",
    )
    rows: str = setting("pairs", "what a row is", choices=KINDS)
    judge_profile: str | None = config.like(
        JudgeSettings, "judge_profile", help="YAML of how the judge will be asked (default: our prompt)"
    )
    question_field: str = setting("question", "rows of pairs: field of the question")
    prefix_a_field: str = setting("prefix_a", "rows of pairs: field of the first text")
    prefix_b_field: str = setting("prefix_b", "rows of pairs: field of the second text")
    label_field: str = setting("label", "rows of pairs: field of the label")
    model_field: str = setting("model", "field of the reasoner's name")
    family_field: str = setting("family", "field of the kind of problem")
    system_field: str = setting("system", "ready rows: field of the system text")
    instruction_field: str = setting("instruction", "alpaca: field of the prompt")
    input_field: str = setting("input", "alpaca: field of the prompt's second part")
    output_field: str = setting("output", "alpaca: field of the answer")
    conversations_field: str = setting("conversations", "sharegpt: field of the turns")
    same_label: str | None = setting(None, "word of the rows for the same answer (default: the profile's; 1, true)")
    different_label: str | None = setting(None, "word for different answers (default: the profile's; 0, false)")
    side: str = setting(
        "both", "side of the pairs: train, test, or both, split by question", choices=("both", "train", "test")
    )
    test_share: float = setting(0.25, "side both: share of each family's questions for the test", at_least=0, below=1)
    data_dir: str = setting("DeepPrune_data", "folder to write under")
    name: str = setting(config.REQUIRED, "name of the data set (files and LLaMA-Factory entry)", is_name=True)
    tokenizer: str = setting("Qwen/Qwen3-4B-Instruct-2507", "model whose tokenizer counts (the judge's backbone)")
    cutoff: int = setting(8192, "longest judge prompt in tokens; longer training pairs are left out", at_least=2)
    oversampling: int = setting(
        2, "times a training pair of the minority class is used (1: once)", at_least=1, at_most=100
    )
    seed: int = config.seed("seed of split and order")


@command
def main() -> None:
    settings = config.parse(ReadySettings, "ready_pairs", __doc__)
    profile = profiles.load(settings.judge_profile) if settings.judge_profile else profiles.DEFAULT
    inputs = sources.inputs(settings.input)
    sides = ("finetune", "offline_test") if settings.side == "both" else _SIDES[settings.side]
    root = Path(settings.data_dir)
    outputs = {side: root / f"{side}_data" / f"{settings.name}.jsonl" for side in sides}
    check_paths([*outputs.values(), root / "dataset_info.json"], inputs)
    for path in outputs.values():
        locks.hold(path)
    origin = hub_data.revision_of(settings.input)
    reader = ReadyPairs(settings.rows, profile, fields_of(settings), labels_of(settings))
    read = list(progress.bar(reader.read(sources.rows(settings.input, **origin)), desc="pairs", unit="pair"))
    if not read:
        raise UserError(f"{settings.input}: no rows")
    train, test = split(read, settings)
    print(f"{reader.counts.rows} rows read: {len(train)} training pairs, {len(test)} test pairs")
    for line in reader.counts.lines():
        print(f"  {line}")
    to_write = {"offline_test": map(records.to_row, test)}
    if "finetune" in outputs:
        to_write["finetune"] = training_rows(train, test, profile, settings)
    made_from = config.resolved(settings) | {"prompt_version": profile.version}
    for side, path in outputs.items():
        manifest = Manifest.open(path, "ready pairs", made_from, inputs, overwrite=True)
        manifest.write(to_write[side], **origin, **reader.counts.to_manifest())
        console.detail(str(path))
    if "finetune" in outputs:
        profiles.save(profile, profiles.rows_profile(outputs["finetune"]))
        rows.register(root, settings.name)


_SIDES = {"train": ("finetune",), "test": ("offline_test",)}


def fields_of(settings: ReadySettings) -> Fields:
    return Fields({name: getattr(settings, f"{name}_field") for name in FIELDS}, {})


def labels_of(settings: ReadySettings) -> tuple[str, str] | None:
    """The rows' words for (different, same), where they are given. Raises UserError for one alone."""
    given = settings.different_label, settings.same_label
    if given == (None, None):
        return None
    if None in given or given[0].strip().casefold() == given[1].strip().casefold():
        raise UserError("give both --different-label and --same-label, two different words")
    return given


def split(read: list[records.Pair], settings: ReadySettings) -> tuple[list[records.Pair], list[records.Pair]]:
    """(training pairs, test pairs), by question."""
    if settings.side != "both":
        return (read, []) if settings.side == "train" else ([], read)
    asked = {p.problem_id: p for p in read}
    problems = [records.Problem(i, settings.name, p.question, "not given", "text", p.family) for i, p in asked.items()]
    train = {problem.problem_id for problem in pairs.split(problems, settings.test_share, settings.seed)[0]}
    return [p for p in read if p.problem_id in train], [p for p in read if p.problem_id not in train]


def training_rows(train: list[records.Pair], test: list[records.Pair], profile: Profile, settings: ReadySettings):
    """LLaMA-Factory's rows of the training pairs: those that fit, oversampled, shuffled."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    fitting = rows.within_cutoff(train, test, settings.cutoff, PairPrompts(profile, tokenizer))
    final = pairs.oversample(fitting, settings.oversampling)
    rows.balance("after oversampling", final)
    random.Random(settings.seed).shuffle(final)
    return (rows.training_row(p, profile, tokenizer) for p in final)


if __name__ == "__main__":
    main()
