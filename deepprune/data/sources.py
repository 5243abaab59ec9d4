"""Rows of files that others made, streamed: JSON Lines, JSON, CSV, TSV and parquet, packed or not, folders, data sets.

A source is a file, a folder of them, or `hf:NAME[:SPLIT]`, a data set of the hub (or a local folder of one) that
`datasets` loads. What is read is told by the name's ending, of which .gz and .zst may be a part. Memory is that of a
few rows, whatever the size; a row that cannot be read ends with one line that names file and line or row.

JSON documents are read with Python's decoder piece by piece: ijson, which streams too, knows no NaN (Python writes it)
and lets a key stand twice. CSV with Python's csv: readers that guess types make 0.5 of 0.50 and nothing of NA.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from deepprune.base import jsonl
from deepprune.base.errors import UserError
from deepprune.data import hub_data
from deepprune.data.import_rows import Row, shorten

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
PACKED = (".gz", ".zst")
# What stands beside data and is none: of `datasets`, of LLaMA-Factory.
NO_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
CHUNK = 1 << 20  # characters of a JSON document that are read at once
MOST_CELL = 1 << 30  # characters of a CSV cell
BATCH = 128  # rows of a parquet file that are in memory at once
_BETWEEN = re.compile(r"[\s,\[\]\ufeff]*")  # what stands between the values of a JSON document


def rows(source: str, dataset_revision: str | None = None) -> Iterator[Row]:
    """The rows of a source; dataset_revision: the commit of a hub's (None: the newest).

    Raises UserError for what is not there, is of no known kind, or cannot be read.
    """
    if hub_data.is_one(source):
        yield from hub_data.rows(source, dataset_revision)
        return
    for path in files(source):
        yield from _READERS[_kind(path)](path)


def inputs(source: str) -> list[Path]:
    """What a manifest holds the hashes of: the file or the folder; nothing for a data set of the hub."""
    if hub_data.is_one(source):
        folder = hub_data.folder(source)
        return [folder] if folder else []
    files(source)
    return [Path(source)]


def files(source: str) -> list[Path]:
    """The files of a source, in the order of their names. Raises UserError if there is none that can be read."""
    path = Path(source)
    if not path.is_dir():
        _kind(path)
        return [path]
    there = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith((".", "_"))]
    readable = [
        file
        for file in there
        if _ending(file) in ENDINGS and not file.name.endswith("manifest.json") and file.name not in NO_DATA
    ]
    if not readable:
        saved = f"; a data set that `datasets` saved is given as hf:{source}" if any(path.rglob("*.arrow")) else ""
        raise UserError(f"{source}: no file in it that can be read ({', '.join(ENDINGS)}, packed or not){saved}")
    return readable


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] and suffixes[-1] in PACKED and len(suffixes) > 1 else "".join(suffixes[-1:])


def _kind(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path}: no such file")
    ending = _ending(path)
    if ending not in ENDINGS:
        raise UserError(f"{path}: of no kind that can be read ({', '.join(ENDINGS)}, packed as .gz or .zst or not)")
    return ending


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path, "rb") as file:
            yield file
    elif path.suffix.lower() == ".zst":
        import pyarrow

        with pyarrow.input_stream(str(path), compression="zstd") as stream, io.BufferedReader(stream) as file:
            yield file
    else:
        with open(path, "rb") as file:
            yield file


@contextlib.contextmanager
def _text(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    with _opened(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline=newline) as text:
        yield text


# What a broken file raises while it is read (pyarrow's errors are ValueErrors and OSErrors)
_BROKEN = (UnicodeDecodeError, EOFError, zlib.error, OSError, csv.Error, ValueError)


def _cannot_be_read(where: str, error: Exception) -> UserError:
    said = " ".join(str(error).split())
    remedy = "save the file as UTF-8" if isinstance(error, UnicodeDecodeError) else "fetch or write the file again"
    return UserError(f"{where}: cannot be read ({said:.200}); {remedy}")


def _json_rows(path: Path) -> Iterator[Row]:
    """JSON Lines, a JSON array of objects, or objects one after the other that go over several lines."""
    with _text(path) as file:
        try:
            start = file.read(CHUNK)
        except _BROKEN as error:
            raise _cannot_be_read(f"{path}:1", error) from error
        first = start.lstrip("\ufeff \t\r\n")
        line = first.partition("\n")[0]
        whole_line = len(line) < len(first) or len(start) < CHUNK
    if first.startswith("[") or (_ending(path) == ".json" and first and whole_line and not _is_object(line)):
        yield from _document_rows(path)
        return
    with _text(path) as file:
        for number, data in jsonl.parse(file, path, strict=False):
            yield Row(str(path), number, data)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


_ENDS = {True: "cut off: nothing closes it", False: "closed, and was never opened"}


def _document_rows(path: Path) -> Iterator[Row]:
    """The objects of JSON arrays, or of a text that holds one after the other."""
    text, pos, line, number, is_last = "", 0, 1, 0, False
    depth = 0  # arrays that are open
    with _text(path) as file:
        while True:
            between = _BETWEEN.match(text, pos)
            pos, depth = between.end(), depth + between[0].count("[") - between[0].count("]")
            if is_last and pos == len(text):
                if depth:
                    raise UserError(
                        f"{path}, row {number + 1}: the array is {_ENDS[depth > 0]}; fetch or write it again"
                    )
                return
            try:
                data, end = jsonl.LENIENT.raw_decode(text, pos)
                number, pos = number + 1, end
                if not isinstance(data, dict):
                    raise UserError(f"{path}, row {number}: expected a JSON object, found {type(data).__name__}")
                yield Row(str(path), number, data, "row")
                continue
            except json.JSONDecodeError as error:
                goes_on = error.msg.startswith("Unterminated string") or error.pos > len(text) - 16
                if is_last or not goes_on:
                    where = f"{path}, row {number + 1} (line {line + text.count(chr(10), 0, error.pos)})"
                    raise UserError(f"{where}: not valid JSON: {error.msg}; mend or remove the row") from error
            except (RecursionError, ValueError) as error:
                raise UserError(f"{path}, row {number + 1}: {error}; mend or remove the row") from error
            line += text.count("\n", 0, pos)
            try:
                more = file.read(max(CHUNK, len(text) - pos))  # twice as much each time: a long row is read once
            except _BROKEN as error:
                raise _cannot_be_read(f"{path}, row {number + 1}", error) from error
            text, pos, is_last = text[pos:] + more, 0, not more


def _table_rows(path: Path) -> Iterator[Row]:
    """CSV or TSV with a header, whose most frequent of comma, semicolon and tab parts the cells.

    All cells are text, as they stand there; an empty one is missing.
    """
    csv.field_size_limit(MOST_CELL)
    number = 0
    with _text(path, newline="") as file:
        try:
            first = file.readline()
            lines = csv.reader(itertools.chain([first], file), delimiter=max(",;\t", key=first.count), strict=True)
            header = next(lines, [])
            header = [name.lstrip("\ufeff").strip() for name in header]
            if len(set(header)) < len(header):
                raise UserError(f"{path}: two columns of the header have one name ({', '.join(header):.200})")
            for number, cells in enumerate((line for line in lines if line), 1):
                if len(cells) != len(header):
                    raise UserError(
                        f"{path}, row {number}: {len(cells)} cells, and the header has {len(header)}; is a quotation "
                        "mark or a delimiter missing?"
                    )
                filled = {name: cell or None for name, cell in zip(header, cells, strict=True)}
                yield Row(str(path), number, filled, "row")
        except _BROKEN as error:
            raise _cannot_be_read(f"{path}, row {number + 1}", error) from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow.parquet

    number = 0
    with contextlib.ExitStack() as stack:
        try:
            file: Any = path
            if path.suffix.lower() in PACKED:  # parquet is read from its end: unpacked to disk first
                file = stack.enter_context(tempfile.TemporaryFile())
                with _opened(path) as packed:
                    shutil.copyfileobj(packed, file, 1 << 20)
            table = stack.enter_context(pyarrow.parquet.ParquetFile(file))
            short = {"halffloat": "float16", "float": "float32"}
            floats = {f.name: short[str(f.type)] for f in table.schema_arrow if str(f.type) in short}
            for batch in table.iter_batches(batch_size=BATCH):
                for data in batch.to_pylist(maps_as_pydicts="strict"):
                    number += 1
                    shorten(data, floats)
                    yield Row(str(path), number, data, "row")
        except _BROKEN as error:
            raise _cannot_be_read(f"{path}, row {number + 1}", error) from error


_READERS = {
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".json": _json_rows,
    ".csv": _table_rows,
    ".tsv": _table_rows,
    ".parquet": _parquet_rows,
}
