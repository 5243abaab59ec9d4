"""The rows that a judge is trained and evaluated on, checked one by one before LLaMA-Factory reads them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

from deepprune.base import jsonl
from deepprune.base.errors import UserError
from deepprune.judges import profiles, prompts
from deepprune.judges.profiles import Profile
from deepprune.judges.training.recipe import Recipe

COLUMNS = {"system", "prompt", "query", "response"}


@dataclasses.dataclass
class TrainingData:
    """The data sets of a recipe. entries: by name, as they stand in the registry dataset_info.json."""

    recipe: Recipe
    folder: Path
    entries: dict[str, dict]
    profile: Profile = profiles.DEFAULT  # how the rows ask, and what they answer

    @classmethod
    def find(cls, recipe: Recipe) -> TrainingData:
        """The files behind `dataset` and `eval_dataset`, checked row by row.

        Raises UserError naming the registry, the file or its line.
        """
        folder = recipe.args.get("dataset_dir", "data")
        if not isinstance(folder, str) or folder == "ONLINE" or folder.startswith("REMOTE:"):
            where = recipe.where("dataset_dir")
            raise UserError(f"{where}: dataset_dir should be a local folder, found {folder!r}")
        registry = Path(folder) / "dataset_info.json"
        known = read_registry(registry)
        data = cls(recipe, Path(folder), {})
        given = recipe.judge_profile and profiles.load(recipe.judge_profile)
        written: dict[Path, Profile] = {}
        for key in ("dataset", "eval_dataset"):
            for name in names_in(recipe.args.get(key)):
                if name not in known:
                    has = ", ".join(known)
                    raise UserError(f"{recipe.where(key)}: no entry {name!r} in {registry}; it has {has}")
                data.entries[name] = known[name]
                file = data.folder / file_of(registry, name, known[name])
                if not file.is_file():
                    raise UserError(f"{file}: no such file (entry {name!r} of {registry}); make the pairs first")
                written[file] = profiles.of_rows(file) or given or profiles.DEFAULT
        data.profile = one_profile(recipe, written, given)
        for entry in data.entries.values():
            check_rows(data.folder / entry["file_name"], entry, data.profile, recipe.loss.focal_loss_scope == "label")
        data.check_leak()
        return data

    def files(self, key: str) -> list[Path]:
        """The files of `dataset` or `eval_dataset`."""
        return [self.folder / self.entries[name]["file_name"] for name in names_in(self.recipe.args.get(key))]

    def check_leak(self) -> None:
        """Raise UserError if a problem stands in both data sets."""
        evaluated = self.files("eval_dataset")
        both = problem_ids(self.files("dataset")) & problem_ids(evaluated) if evaluated else set()
        if both:
            raise UserError(
                f"{self.recipe.where('eval_dataset')}: {len(both)} problems stand in dataset and eval_dataset, "
                f"{min(both)} for one; evaluate on problems that the judge is not trained on"
            )

    def check_control_tokens(self, tokenizer: Any) -> None:
        """Refuse rows with a control token in their text: training would obey it, evaluation asks it as mere text."""
        for entry in self.entries.values():
            file, columns = self.folder / entry["file_name"], entry.get("columns", {})
            for number, row in jsonl.read(file):
                for column in (columns.get("prompt", "instruction"), columns.get("query", "input")):
                    text = row.get(column) or ""
                    if prompts.plain(text, tokenizer) != text:
                        raise UserError(
                            f"{file}:{number}: a control token of the model stands in {column!r}: make the pairs again "
                            "(stage 02, --tokenizer of this model), which breaks it up as evaluation does"
                        )

    def row_name(self, index: int) -> str:
        """Pair id, file and line of a row of the training data, by its position. The files are read."""
        most = self.recipe.args.get("max_samples")
        rows = (
            (file, number, row)
            for file in self.files("dataset")
            for number, row in itertools.islice(jsonl.read(file), most)
        )
        file, number, row = next(itertools.islice(rows, index, None))
        return f"pair {row['pair_id']} of {file.name}:{number}" if "pair_id" in row else f"{file.name}:{number}"


def read_registry(registry: Path) -> dict[str, Any]:
    """LLaMA-Factory's dataset_info.json: entries by name. Raises UserError."""
    if not registry.is_file():
        raise UserError(
            f"{registry}: no such file; make the pairs first (Offline/build_pair_dataset.py), or fix dataset_dir"
        )
    try:
        known = json.loads(registry.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{registry}:{error.lineno}: not valid JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{registry}: not UTF-8 ({error})") from error
    if not isinstance(known, dict):
        raise UserError(f"{registry}: expected entries by name, found {type(known).__name__}")
    return known


def file_of(registry: Path, name: str, entry: Any) -> str:
    """The file of a registry's entry. Raises UserError for an entry whose rows would not all be read as they stand."""
    where = f"{registry}: entry {name!r}"
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
        raise UserError(f"{where} has no file_name (a local file)")
    file = entry["file_name"]
    if not file.endswith(".jsonl"):
        raise UserError(
            f"{where}: file_name should be a .jsonl file, whose rows are checked line by line, found {file!r}"
        )
    if entry.get("formatting", "alpaca") != "alpaca":
        raise UserError(f"{where}: formatting should be alpaca, as stage 02 writes it, found {entry['formatting']!r}")
    other = sorted(set(entry) - {"file_name", "formatting", "columns"})
    if other:
        raise UserError(f"{where}: remove {', '.join(other)}: every row is read once, as it stands")
    columns = entry.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(column, str) for column in columns.values()):
        raise UserError(f"{where}: columns should map system, prompt, query and response to columns of the rows")
    if set(columns) - COLUMNS or "system" not in columns:
        shown = ", ".join(columns) or "none"
        raise UserError(f"{where}: columns should be system, prompt, query and response, found {shown}")
    return file


def one_profile(recipe: Recipe, written: dict[Path, Profile], given: Profile | None) -> Profile:
    """The profile that all rows were written for. Raises UserError if there are several, or another than the given."""
    first, *others = written
    for file in others:
        if (written[file].version, written[file].truncation) != (written[first].version, written[first].truncation):
            raise UserError(f"{file} was written for another judge profile or truncation than {first}")
    if given and given.version != written[first].version:
        raise UserError(
            f"{recipe.where('judge_profile')}: {recipe.judge_profile} is not the profile that {first} was written for"
        )
    return written[first]


def check_rows(file: Path, entry: dict, profile: Profile, labels_only: bool) -> None:
    """Raise UserError unless every row has the registry's columns, asks as the profile does, and answers with a label.

    labels_only: False where any answer will do.
    """
    columns = entry.get("columns", {})
    prompt, response = columns.get("prompt", "instruction"), columns.get("response", "output")
    rows = 0
    for number, row in jsonl.read(file):
        rows += 1
        for column in {prompt, response, *columns.values()}:
            if not isinstance(row.get(column), str):
                raise UserError(f"{file}:{number}: a training row needs the text field {column!r}")
        if labels_only and row[response] not in profile.answers:
            wanted = " or ".join(profile.answers)
            raise UserError(f"{file}:{number}: {response!r} should be {wanted}, found {row[response]!r}")
        query = row.get(columns.get("query", "input")) or ""
        problem = profile.row_problem(row[columns.get("system", "system")], f"{row[prompt]}{query}")
        if problem:
            raise UserError(
                f"{file}:{number}: {problem} than the judge profile's, so the judge would be asked otherwise than "
                "it is trained: name its profile in the recipe (judge_profile: FILE)"
            )
    if not rows:
        raise UserError(f"{file}: no training rows")


def problem_ids(files: list[Path]) -> set[str]:
    """The problems of stage 02's rows; rows of others may not say."""
    return {
        row["problem_id"] for file in files for _, row in jsonl.read(file) if isinstance(row.get("problem_id"), str)
    }


def names_in(value: Any) -> list[str]:
    """The names in `dataset` or `eval_dataset`: a list, or text with commas."""
    return [str(name).strip() for name in (value.split(",") if isinstance(value, str) else value or [])]
