"""Beside every X.jsonl lies X.manifest.json: what made it, from what, and whether it is complete.

A stage opens its output through `Manifest.open`. If the output is there already, the stage goes on where it
stopped, provided settings and inputs are the same; if they are not, it refuses instead of mixing. While a stage
writes, its output is locked. Rows are written through `Manifest.appender`: the manifest is on disk with the first row,
so that a run that fails before leaves nothing that refuses the mended command. What --overwrite replaces goes when the
appender opens.

`runs` lists what wrote rows: {"commit": ..., "packages": {...}, "python": ..., "machine": ..., "started": ...,
"rows": 64}; rows is null where a killed run could not say.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from deepprune.base import jsonl, locks, provenance
from deepprune.base.errors import UserError, without_credentials


def manifest_path(output: str | Path) -> Path:
    """X.jsonl, X.jsonl.gz -> X.manifest.json; a folder -> folder/manifest.json."""
    output = Path(output)
    if output.suffix not in (".gz", ".jsonl", ".json"):
        return output / "manifest.json"
    name = output.name
    for suffix in (".gz", ".jsonl", ".json"):
        name = name.removesuffix(suffix)
    return output.with_name(name + ".manifest.json")


def _places(path: str | Path) -> set:
    """What tells a file or folder from others: its path with links followed and, if it is there, its inode."""
    real = Path(path).resolve()
    places = {real}
    if real.exists():
        stat = real.stat()
        places.add((stat.st_dev, stat.st_ino))
    return places


def check_paths(outputs: Sequence[str | Path], inputs: Sequence[str | Path] = ()) -> None:
    """Raise UserError if an output (or its manifest) is one of the inputs, or is another output; links are followed."""
    for output in outputs:
        for path in (Path(output), manifest_path(output)):
            for given in inputs:
                if _places(path) & _places(given):
                    beside = "" if path == Path(output) else f" (the manifest of {output})"
                    raise UserError(f"{path}{beside} would overwrite the input {given}; choose another output")
    for first, second in itertools.combinations(outputs, 2):
        if _places(first) & _places(second):
            raise UserError(f"{first} and {second} are one file; choose an output of its own for each")
        if _places(manifest_path(first)) & _places(manifest_path(second)):
            raise UserError(
                f"{first} and {second} would have one manifest, {manifest_path(first).name}; choose other names"
            )


WRITER = ("commit", "packages", "python", "machine")  # what a run's rows depend on besides settings and inputs


def commits(data: dict[str, Any]) -> list[str]:
    """All commits that wrote rows of an output, by its manifest; older manifests know the last one."""
    runs = data.get("runs")
    writers = runs if isinstance(runs, list) else [data]
    return list(dict.fromkeys(run.get("commit", "unknown") for run in writers)) or ["unknown"]


def has_rows(output: Path) -> bool:
    """Whether a file holds a whole line (or is packed and not empty), or a folder is there."""
    if not output.is_file():
        return output.exists()
    if output.suffix == ".gz":
        return output.stat().st_size > 0
    with open(output, "rb") as file:
        return file.readline().endswith(b"\n")


def count_rows(output: Path) -> int | None:
    """Whole lines of a plain JSONL file; None for anything else."""
    if output.suffix != ".jsonl" or not output.is_file():
        return None
    with open(output, "rb") as file:
        return sum(line.endswith(b"\n") for line in file)


@dataclasses.dataclass
class Manifest:
    """The manifest of one output. `resumed` is True when rows of an earlier, equal run are there."""

    path: Path
    data: dict[str, Any]
    resumed: bool
    output: Path
    run: dict[str, Any]  # this run's entry in `runs`, once it has written
    started: float = dataclasses.field(default_factory=time.monotonic)
    replaces: bool = False  # --overwrite
    begun: bool = False  # this run has written a row or a checkpoint
    before: int | None = None  # rows of earlier runs on disk, once an appender is open

    @classmethod
    def open(
        cls,
        output: str | Path,
        stage: str,
        settings: dict[str, Any],
        inputs: list[str | Path],
        free: tuple[str, ...] = (),
        overwrite: bool = False,
        models: dict[str, str] | None = None,
        also: Sequence[str | Path] = (),
        read_only: bool = False,
    ) -> Manifest:
        """Start or continue an output.

        settings: resolved settings; inputs: files whose hashes are recorded; free: settings that may change
        between the runs of one output (batch sizes, progress). models: role -> 'name (source)'. also: other files that
        the stage writes. read_only: look only, without lock (the ranks of a training that do not write).
        Raises UserError if the output exists but was made from other settings or inputs, if it is one of its inputs,
        and if another process is writing it.
        """
        check_paths([output, *also], inputs)
        settings, models = without_credentials(settings), without_credentials(models or {})
        output, path = Path(output), manifest_path(output)
        if not read_only:
            locks.hold(output)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        run = provenance.writer() | {"started": now, "rows": None}
        # Inputs are known by what they hold, not by where they lie: the same file elsewhere is the same input.
        data = {
            "stage": stage,
            "complete": False,
            "settings": settings,
            "inputs": [{"file": Path(p).name, "sha256": provenance.file_hash(p)} for p in inputs],
            "models": models,
            **{key: run[key] for key in WRITER},
            "started": now,
            "rows": 0,
            "wall_seconds": 0.0,
            "runs": [],
        }
        if overwrite or not output.exists() or _never_begun(path) or not (path.is_file() or has_rows(output)):
            manifest = cls(path, data, False, output, run, replaces=overwrite)
            if manifest.of_folder and not read_only:  # its first files come before its first checkpoint
                manifest._store(begun=False)
            return manifest
        old = _read_old(output, path)
        _refuse_differences(output, old, data, free)
        # Until this run writes a row, everything is as the runs before it left it, save for what may change.
        data = data | old | {"settings": settings, "inputs": data["inputs"]}
        data.pop("begun", None)
        return cls(path, data, True, output, run)

    @property
    def of_folder(self) -> bool:
        return self.path.parent == self.output

    @property
    def complete(self) -> bool:
        return self.data["complete"]

    def appender(self, path: str | Path | None = None, is_log: bool = False) -> Rows:
        """An Appender for the output, or for another file of the same stage. The manifest begins with the first row.

        is_log: a file of which nobody goes on; its rows begin nothing.
        """
        return Rows(self, self.output if path is None else Path(path), is_log)

    def begin(self) -> None:
        """Say on disk that this run is writing: at the first row, a checkpoint or the end, whichever comes first."""
        if self.begun:
            return
        self.begun = True
        *earlier, last = self.data["runs"] or [None]
        others = [run.get("rows") for run in earlier]
        if last and last.get("rows") is None and self.before is not None and None not in others:  # it was killed
            last["rows"] = self.before - sum(others)
        self.data["runs"].append(self.run)
        self.data.update({key: self.run[key] for key in WRITER}, complete=False)
        self._store()

    def save(self) -> None:
        """Write the manifest, as that of an output that has begun."""
        self.begin()
        self._store()

    def _store(self, begun: bool = True) -> None:
        data = self.data if begun else self.data | {"begun": False}
        jsonl.write_json(self.path, without_credentials(data))

    def finish(self, rows: int, **extra: Any) -> None:
        """Mark the output complete, with its row count and whatever else should be traceable; unlock it.

        A resumed run that wrote no row is not listed in `runs`.
        """
        if not self.resumed or self.of_folder:
            self.begin()
        if self.begun and self.run["rows"] is None:
            self.run["rows"] = rows
        self.data.update(extra, rows=rows, complete=True)
        self.data["wall_seconds"] = round(self.data["wall_seconds"] + time.monotonic() - self.started, 1)
        self._store()
        locks.release(self.output)

    def write(self, rows: Iterable[dict[str, Any]], known_then: Callable[[], dict] = dict, **extra: Any) -> int:
        """Write all rows at once and finish; returns their number.

        Both files or none: a full disk leaves nothing that refuses the same command. known_then: what else should be
        traceable and is known when the last row is.
        """
        count = jsonl.write(self.output, rows)
        try:
            self.finish(count, **extra, **known_then())
        except BaseException:
            self.output.unlink(missing_ok=True)
            raise
        return count


class Rows(jsonl.Appender):
    """An Appender that begins its manifest with the first row. Where it replaces an old file, that goes on opening."""

    def __init__(self, manifest: Manifest, path: Path, is_log: bool = False):
        self.manifest, self.main, self.is_log = manifest, path == manifest.output, is_log
        if not manifest.resumed and path.is_file() and (self.main or manifest.replaces):
            path.unlink()
            manifest_path(path).unlink(missing_ok=True)
        super().__init__(path)
        if self.main:
            manifest.before = count_rows(path)

    def append(self, row: dict[str, Any]) -> None:
        if not self.is_log:
            self.manifest.begin()
        super().append(row)

    def __exit__(self, kind=None, error=None, trace=None) -> None:
        super().__exit__(kind, error, trace)
        if self.manifest.begun and self.main:
            there = count_rows(self.path)
            self.manifest.run["rows"] = None if there is None else there - (self.manifest.before or 0)
            # On a full disk the first error says so, and the next run counts.
            with contextlib.suppress(*([UserError] if kind else [])):
                self.manifest._store()
        elif kind is not None and self.path.stat().st_size == 0:
            self.path.unlink()


def _never_begun(path: Path) -> bool:
    """Whether a manifest is that of a folder in which nothing but a start was made: no checkpoint yet."""
    try:
        return json.loads(path.read_text()).get("begun") is False and not any(path.parent.glob("checkpoint-*"))
    except (OSError, ValueError, AttributeError):
        return False


REMEDY = "choose another output, delete the old one, or pass --overwrite"


def _read_old(output: Path, path: Path) -> dict[str, Any]:
    """The manifest of an output that is there. Raises UserError if there is none, or it cannot be read."""
    if not path.is_file():
        raise UserError(f"{output} exists without {path.name}, so what made it is unknown; {REMEDY}")
    try:
        old = json.loads(path.read_text())
        # What is compared and continued: an old manifest that lacks it, or has it in another form, is not readable.
        old["stage"], old["settings"].keys(), [(item["file"], item["sha256"]) for item in old["inputs"]]
        return old | {"runs": _runs(old)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a readable manifest ({error}); {REMEDY}") from error


def _refuse_differences(output: Path, old: dict[str, Any], new: dict[str, Any], free: Sequence[str]) -> None:
    """Raise UserError if an output's two manifests differ in stage, inputs, models or settings that are not free."""
    before, settings, remedy = old["settings"], new["settings"], REMEDY
    changed = [key for key in sorted(set(before) | set(settings)) if before.get(key) != settings.get(key)]
    different = [f"{key}: {before.get(key)!r} there, {settings.get(key)!r} now" for key in changed if key not in free]
    if old["stage"] != new["stage"]:
        different.insert(0, f"stage: {old['stage']!r} there, {new['stage']!r} now")
    if [item["sha256"] for item in old["inputs"]] != [item["sha256"] for item in new["inputs"]]:
        different.append(f"inputs: {[item['file'] for item in old['inputs']]} hold other data now")
    if old.get("models", {}) != new["models"]:
        different.append(f"models: {old.get('models')} there, {new['models']} now")
    for key in changed:  # a type of weights: 'auto' is another one on another machine
        if key in settings and key.endswith("dtype") and key not in free and before.get(key) not in (None, "auto"):
            remedy = f"go on with --{key.replace('_', '-')} {before[key]}, {remedy}"
    if different:
        raise UserError(f"{output} was made differently ({'; '.join(different)}); {remedy}")


def _runs(old: dict[str, Any]) -> list[dict[str, Any]]:
    """A manifest's list of runs. Older manifests hold their number, and know the last one only."""
    if isinstance(old["runs"], list):
        return [dict(run) for run in old["runs"]]
    known = {key: old[key] for key in (*WRITER, "started") if key in old}
    return [known | {"rows": old["rows"] or None}]
