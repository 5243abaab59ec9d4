r"""Stage 01, for traces that you already have: rows with question, gold answer and text, of any usual kind of file.

    python scripts/01_import_traces.py --input mine.jsonl.gz --dataset MATH500 --model my-model \
        --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct \
        --output-problems DeepPrune_data/problems/mine.jsonl --output-traces DeepPrune_data/traces/mine.jsonl
    python scripts/01_import_traces.py --input hf:org/traces:train --text-field generation --show 3   # writes nothing

--input is JSON Lines, JSON (an array, or objects one after the other), CSV, TSV or parquet, packed (.gz, .zst) or not,
a folder of them, or hf:NAME[:SPLIT], a data set that `datasets` loads. All are streamed. --traces-field NAME: a row is
a problem with a list of traces or answers. Dots lead into objects and lists (--gold-field meta.answer). How the first
row is read is shown before the rest is.

Fields with other names are named by options (--text-field completion). The answer is what the text states last, after
its thinking, in a box, a tag, a field, a line or a sentence (deepprune/data/answers/extraction.py); nothing stated is
unknown. Two options say it better where the file knows better: --answer-field NAME (the file's own reading; null or
missing: none) and --answer-pattern REGEX (what to look for in the text). A file of answers and token counts without
texts is imported with --answer-field too: for votes and costs, no judge can read it. What is doubtful in the file is
counted and shown at the end.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from deepprune.base import config, locks, progress, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest, check_paths
from deepprune.base.stage import command
from deepprune.data import hub_data, imports, sources, traces
from deepprune.data.import_checks import Counts
from deepprune.data.import_rows import FIELDS, Fields
from deepprune.engines import models


@dataclasses.dataclass
class ImportSettings:
    input: str = setting(
        config.REQUIRED,
        "file (.jsonl, .json, .csv, .tsv, .parquet; .gz, .zst), folder of such files, or hf:NAME[:SPLIT]",
    )
    output_problems: str | None = setting(None, "JSONL file of Problem records to write", ends=config.PACKED)
    output_traces: str | None = setting(None, "JSONL file of Trace records to write", ends=config.PACKED)
    show: int = setting(0, "only show how the first so many rows are read, write nothing", at_least=0)
    traces_field: str | None = setting(None, "field of a list of traces, where a row is a problem with all of them")
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
    answer_type: str | None = setting(
        None,
        "answers' type, where rows do not name it (default: choice where the gold is a letter of the question's "
        "options, text where it is yes, no, true or false, else math)",
        choices=records.ANSWER_TYPES,
    )
    tokenizer: str | None = setting(None, "model whose tokenizer counts tokens, where rows do not")
    overwrite: bool = setting(False, "replace existing outputs")


@command
def main() -> None:
    settings = config.parse(ImportSettings, "import", __doc__)
    importer = imports.Importer(fields_of(settings), tokenizer_of(settings), checked_pattern(settings.answer_pattern))
    if settings.show:
        for _ in itertools.islice(imported(importer, settings, shown=settings.show), settings.show):
            pass
        show_doubts(importer.counts)
        return
    outputs = (settings.output_problems, settings.output_traces)
    inputs = check_paths_of(settings, outputs)
    origin = hub_data.revision_of(settings.input)
    problems: dict[str, records.Problem] = {}
    tally, counts = traces.Tally(problems), importer.counts

    def trace_rows():
        for problem, trace in progress.bar(imported(importer, settings, **origin), unit="trace", desc="import"):
            problems[problem.problem_id] = problem
            tally.add(trace)
            yield records.to_row(trace)

    def written(path, rows) -> int:
        manifest = Manifest.open(path, "import", config.resolved(settings), inputs, overwrite=True)
        return manifest.write(rows, counts.to_manifest, **origin)

    number = written(settings.output_traces, trace_rows())
    written(settings.output_problems, map(records.to_row, problems.values()))
    unknown = tally.show()["all"]["unknown"]
    print(
        f"{counts.rows} rows read: {len(problems)} problems, {number} traces, "
        f"{round(unknown * number)} of them without an answer"
    )
    show_doubts(counts)


def show_doubts(counts: Counts) -> None:
    for line in counts.lines():
        print(f"  {line}")


def imported(
    importer: imports.Importer, settings: ImportSettings, shown: int = 1, dataset_revision: str | None = None
) -> Iterator[tuple[records.Problem, records.Trace]]:
    """The problems and traces of the input; prints how the first rows are read. Raises UserError if there is none."""
    rows = sources.rows(settings.input, dataset_revision)
    if settings.traces_field:
        rows = imports.unnested(rows, settings.traces_field, importer.fields, importer.counts)
    number = 0
    for number, (problem, trace) in enumerate(importer.read(rows), 1):
        if number <= shown:
            print(*imports.described(importer.row, importer.fields, problem, trace), sep="\n")
        yield problem, trace
    if not number:
        raise UserError(f"{settings.input}: no rows")


def check_paths_of(settings: ImportSettings, outputs: tuple[str | None, str | None]) -> list[Path]:
    """Lock the outputs; returns the inputs to hash. Raises UserError where outputs are inputs, one file, or there."""
    if None in outputs:
        raise UserError(
            "--output-problems and --output-traces are needed; without them --show 3 shows how rows are read"
        )
    inputs = sources.inputs(settings.input)
    check_paths(outputs, inputs)
    for path in outputs:
        if any(given.resolve() in Path(path).resolve().parents for given in inputs):
            raise UserError(f"{path} would be written into the input {inputs[0]}; choose another output")
        locks.hold(path)
    there = [path for path in outputs if Path(path).exists()]
    if there and not settings.overwrite:
        if len(there) == len(outputs):
            raise UserError(f"{there[0]} exists; delete it, choose another output, or pass --overwrite")
        # One alone is of an import that could not write the other (a full disk), or refused.
        Manifest.open(there[0], "import", config.resolved(settings), inputs)
    return inputs


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
