"""Reading and writing JSON Lines so that a killed run loses nothing and bad input is named by line.

    python -m deepprune.base.jsonl pack traces.jsonl     # -> traces.jsonl.gz, the same bytes every time

Files ending in .gz are read and (in one atomic step) written compressed. Appending is for plain files.

Every JSON file of the project is written here, and NaN never stands in one: a number that does not exist (the AUROC of
one class, a mean over nothing) is null, an infinite one is an error. A record holds neither (`records.to_row`).
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from deepprune.base.errors import UserError
from deepprune.base.stage import check_stop, command
from deepprune.base.storage import storage_trouble, writing


def _open_text(path: Path) -> IO[str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8")
    return open(path, encoding="utf-8")


def read(path: str | Path, strict: bool = True) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each non-blank line of a file; raises UserError as `parse`."""
    with _open_text(Path(path)) as file:
        yield from parse(file, path, strict)


def parse(lines: Iterable[str], path: str | Path, strict: bool = True) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each non-blank line; a byte order mark is passed over.

    Raises UserError naming file (path) and line for a missing file, broken JSON (a truncated last line included), a
    line that is not an object, a key twice in one object, a number that JSON does not know (NaN, Infinity, 1e999) or
    half a surrogate pair, broken UTF-8 or a broken stream. strict False, for files that others made: such numbers are
    floats (nan, inf) and such halves stay in the text.
    """
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            line = line.lstrip("\ufeff")  # where files with a mark were put together, it stands at later lines too
            if line.strip():
                yield number, _row(line, f"{path}:{number}", strict)
    except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        remedy = "save the file as UTF-8" if isinstance(error, UnicodeDecodeError) else "fetch or write the file again"
        raise UserError(f"{path}:{number + 1}: cannot be read ({error}); {remedy}") from error


def _row(line: str, where: str, strict: bool) -> dict[str, Any]:
    """The object of a line. Raises UserError that begins with `where`."""
    remedy = "remove the line, or run the stage that writes this file again"
    try:
        row = strictly(line) if strict else LENIENT.decode(line)
    except json.JSONDecodeError as error:
        cut = "" if line.endswith("\n") else " (the last line, cut off: the run that wrote it was killed?)"
        raise UserError(f"{where}: not valid JSON{cut}: {error.msg}; {remedy}") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deep to be read; {remedy}") from error
    except ValueError as error:  # ours, or Python's for an integer of thousands of digits
        long = "int_max_str_digits" in str(error)
        what = "an integer of more digits than can be read (write it as text)" if long else error
        raise UserError(f"{where}: {what}; {remedy}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


def strictly(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for what is no JSON, a key twice in one object, a number that JSON
    does not know and half a surrogate pair, RecursionError for what is nested too deep."""
    value = _STRICT.decode(text)
    if "\\ud" in text.lower():
        _utf8(value)
    return value


def _utf8(value: Any) -> None:
    """Raise ValueError for text that UTF-8 cannot hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise ValueError(f"half a surrogate pair ({half}: a character cut in two) in a text") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_constant(digits)


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
LENIENT = json.JSONDecoder(object_pairs_hook=_once)


def dumps(data: Any, indent: int | None = None) -> str:
    """JSON text, without newline; on one line unless `indent` is given. NaN is written as null.

    Raises UserError for an infinite number.
    """
    options = {"ensure_ascii": False, "indent": indent, "separators": (",", ":") if indent is None else None}
    try:
        return json.dumps(data, allow_nan=False, **options)
    except ValueError:
        try:
            return json.dumps(nan_to_none(data), allow_nan=False, **options)
        except ValueError as error:
            raise UserError(f"an infinite number cannot be written as JSON ({error})") from error


def nan_to_none(data: Any) -> Any:
    """The same dicts, lists and values, with None for every float that is NaN."""
    if isinstance(data, dict):
        return {key: nan_to_none(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [nan_to_none(value) for value in data]
    return None if isinstance(data, float) and math.isnan(data) else data


def write_json(path: str | Path, data: Any, indent: int = 1) -> None:
    """Write one JSON file (a manifest, a report) atomically; NaN is written as null."""
    write_text(path, dumps(data, indent) + "\n")


def whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair (half an emoji, cut off by another program)."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode(text: str) -> bytes:
    """UTF-8; half a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return whole(text).encode()


def write(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write all rows in one atomic step (old file or new file, never half). Returns the row count."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with atomic(path) as raw:
        # mtime=0 and no name: the same rows give the same bytes
        packed = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") if path.suffix == ".gz" else None
        out = packed or raw
        for row in rows:
            out.write(encode(dumps(row) + "\n"))
            count += 1
        if packed:
            packed.close()
    return count


class atomic:
    """Context manager: a binary file that replaces `path` when the block ends well, else vanishes."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> IO[bytes]:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.temporary, "wb")
        return self.file

    def __exit__(self, kind, error, trace) -> None:
        remedy = "what was there is untouched, run the same command again"
        trouble = storage_trouble(error, self.path)  # asked before the half-written file goes, and its room is free
        try:
            with writing(self.path, remedy):
                self.file.close()  # a full disk may show only here
                if kind is None:
                    os.replace(self.temporary, self.path)
        finally:
            self.temporary.unlink(missing_ok=True)
        if trouble and not isinstance(error, UserError):
            raise UserError(f"{trouble}; {remedy}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as file:
        file.write(encode(text))


class Appender:
    """Append rows to a plain JSONL file, one flushed line each, so that a kill costs at most that line.

    Opening removes a cut-off last line that an earlier kill left behind (`repaired` tells).
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.suffix == ".gz":
            raise UserError(f"{self.path}: results are appended to a plain .jsonl; pack it when it is complete")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.repaired = repair(self.path)
        self.file = open(self.path, "ab", buffering=0)

    def append(self, row: dict[str, Any]) -> None:
        """Write one row. Raises UserError on a full disk; earlier rows stay."""
        data = encode(dumps(row) + "\n")
        start = self.file.tell()
        with writing(self.path, "rows written before are kept, run the same command again to continue"):
            try:
                while data:
                    data = data[self.file.write(data) :]
            except OSError:
                os.ftruncate(self.file.fileno(), start)
                raise
        check_stop()

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, *_) -> None:
        self.file.close()


def repair(path: Path) -> bool:
    """Cut an unfinished last line (no newline at its end) off our own output. True if there was one."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with open(path, "rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return False
        file.seek(0)
        keep = 0
        for line in file:
            if line.endswith(b"\n"):
                keep += len(line)
        file.truncate(keep)
    return True


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pack"])
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        if path.suffix == ".gz":
            raise UserError(f"{path}: is packed already")
        packed = path.with_name(path.name + ".gz")
        rows = write(packed, (row for _, row in read(path)))
        print(f"{packed}: {rows} rows, {packed.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
