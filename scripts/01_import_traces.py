r"""Stage 01, for traces that you already have: any JSONL with question, gold answer and text.

    python scripts/01_import_traces.py --input mine.jsonl.gz --dataset MATH500 --model my-model \
        --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct \
        --output-problems DeepPrune_data/problems/mine.jsonl --output-traces DeepPrune_data/traces/mine.jsonl

Fields with other names are named by options (--text-field completion). The answer is what the text states last, after
its thinking, in a box, a tag, a field, a line or a sentence (deepprune/data/answers/extraction.py); nothing stated is
unknown. Two options say it better where the file knows better: --answer-field NAME (the file's own reading; null or
missing: none) and --answer-pattern REGEX (what to look for in the text). A file of answers and token counts without
texts is imported with --answer-field too: for votes and costs, no judge can read it. What is doubtful in the file is
counted and shown at the end.
"""

import dataclasses
import re
from pathlib import Path

from deepprune.base import config, locks, progress, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest, check_paths
from deepprune.base.stage import command
from deepprune.data import imports, traces
from deepprune.data.import_rows import Fields
from deepprune.engines import models

FIELDS = "question gold text model dataset sample_id family answer_type n_tokens finish_reason".split()


@dataclasses.dataclass
class ImportSettings:
    input: str = setting(config.REQUIRED, "JSONL file (or .jsonl.gz) to import")
    output_problems: str = setting(config.REQUIRED, "JSONL file of Problem records to write", ends=config.PACKED)
    output_traces: str = setting(config.REQUIRED, "JSONL file of Trace records to write", ends=config.PACKED)
    question_field: str = setting("question", "field of the question")
    gold_field: str = setting("gold", "field of the right answer")
    text_field: str = setting("text", "field of the trace")
    model_field: str = setting("model", "field of the reasoner's name")
    dataset_field: str = setting("dataset", "field of the data set's name")
    sample_id_field: str = setting("sample_id", "field that tells one sample from another (kept for reference)")
    family_field: str = setting("family", "field of the kind of problem")
    answer_type_field: str = setting("answer_type", "field of the answer's type: math, choice or text")
    n_tokens_field: str = setting("n_tokens", "field of the trace's token count")
    finish_reason_field: str = setting("finish_reason", "field of the reason for the trace's end")
    answer_field: str | None = setting(
        None, "field of the final answer, where the file has it; it counts, not the text's"
    )
    answer_pattern: str | None = setting(
        None, "regular expression of the final answer in a text: its last match, or that match's group 1 if it has one"
    )
    model: str = setting("unknown", "reasoner, where rows do not name it")
    dataset: str = setting("imported", "data set, where rows do not name it")
    answer_type: str = setting("math", "answers' type, where rows do not name it", choices=records.ANSWER_TYPES)
    tokenizer: str | None = setting(None, "model whose tokenizer counts tokens, where rows do not")
    overwrite: bool = setting(False, "replace existing outputs")


@command
def main() -> None:
    settings = config.parse(ImportSettings, "import", __doc__)
    outputs = (settings.output_problems, settings.output_traces)
    check_outputs(settings, outputs)
    importer = imports.Importer(fields_of(settings), tokenizer_of(settings), checked_pattern(settings.answer_pattern))
    problems: dict[str, records.Problem] = {}
    tally, counts = traces.Tally(problems), importer.counts

    def trace_rows():
        rows = imports.jsonl_rows(settings.input)
        for problem, trace in progress.bar(importer.read(rows), unit="trace", desc="import"):
            problems[problem.problem_id] = problem
            tally.add(trace)
            yield records.to_row(trace)
        if not problems:
            raise UserError(f"{settings.input}: no rows")

    def written(path, rows) -> int:
        manifest = Manifest.open(path, "import", config.resolved(settings), [settings.input], overwrite=True)
        return manifest.write(rows, counts.to_manifest)

    number = written(settings.output_traces, trace_rows())
    written(settings.output_problems, map(records.to_row, problems.values()))
    unknown = tally.show()["all"]["unknown"]
    print(
        f"{counts.rows} rows read: {len(problems)} problems, {number} traces, {round(unknown * number)} of them without "
        "an answer"
    )
    for line in counts.lines():
        print(f"  {line}")


def check_outputs(settings: ImportSettings, outputs: tuple[str, str]) -> None:
    """Lock the outputs. Raises UserError where they are the input, one file, or there already."""
    check_paths(outputs, [settings.input])
    for path in outputs:
        locks.hold(path)
    there = [path for path in outputs if Path(path).exists()]
    if there and not settings.overwrite:
        if len(there) == len(outputs):
            raise UserError(f"{there[0]} exists; delete it, choose another output, or pass --overwrite")
        # One alone is of an import that could not write the other (a full disk), or refused.
        Manifest.open(there[0], "import", config.resolved(settings), [settings.input])


def fields_of(settings: ImportSettings) -> Fields:
    names = {name: getattr(settings, f"{name}_field") for name in FIELDS}
    if settings.answer_field:
        names["answer"] = settings.answer_field
    return Fields(names, {name: getattr(settings, name) for name in ("model", "dataset", "answer_type")})


def tokenizer_of(settings: ImportSettings):
    if not settings.tokenizer:
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path, model_max_length=10**9)


def checked_pattern(pattern: str | None) -> str | None:
    if pattern is not None:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(f"--answer-pattern {pattern!r} is no regular expression: {error}") from error
    return pattern


if __name__ == "__main__":
    main()
