"""What importing a large file costs: rows a second and peak memory of stage 01 on made-up short rows.

    python benchmarks/import_scale.py --rows 1000000
    python benchmarks/import_scale.py --rows 100000 --kinds jsonl json csv parquet jsonl.zst

Rows are 100 traces a problem, with sample ids, each a sentence that ends in an answer. The file is made in a temporary
folder, imported by scripts/01_import_traces.py in a process of its own, and deleted. Memory is that process's largest
resident size; it ends with an error where that is over --most-mib.
"""

import csv
import dataclasses
import gzip
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "01_import_traces.py"
KINDS = ("jsonl", "jsonl.gz", "jsonl.zst", "json", "csv", "parquet")
TRACES = 100  # of a problem


@dataclasses.dataclass
class ScaleSettings:
    rows: int = setting(1_000_000, "rows to import", at_least=1)
    kinds: list[str] = setting(["jsonl"], "kinds of files", choices=KINDS)
    most_mib: int = setting(1024, "peak memory that is an error, MiB", at_least=1)


def made_up(rows: int) -> Iterator[dict]:
    rng = random.Random(0)
    for number in range(rows):
        a, b = divmod(number // TRACES, 97)
        answer = a + b + rng.choice((0, 0, 1))
        yield {
            "question": f"What is {a} + {b}?",
            "gold": str(a + b),
            "text": f"First I take {a}. Then I add {b}, wait, that is {answer}. So the answer is \\boxed{{{answer}}}.",
            "n_tokens": 40,
            "sample_id": number % TRACES,
        }


def write(path: Path, rows: Iterable[dict]) -> None:
    """A file of the kind that its name ends in, written row by row."""
    import pyarrow
    import pyarrow.parquet

    lines = (json.dumps(row) + "\n" for row in rows)
    if path.name.endswith(".parquet"):
        rows = iter(rows)
        table = pyarrow.Table.from_pylist(list(itertools.islice(rows, 10_000)))
        with pyarrow.parquet.ParquetWriter(path, table.schema) as file:
            while table.num_rows:
                file.write_table(table)
                table = pyarrow.Table.from_pylist(list(itertools.islice(rows, 10_000)), table.schema)
    elif path.name.endswith(".csv"):
        with open(path, "w", newline="") as file:
            first = next(rows := iter(rows))
            table = csv.DictWriter(file, list(first))
            table.writeheader()
            table.writerows(itertools.chain([first], rows))
    elif path.name.endswith(".json"):
        with open(path, "w") as file:
            file.write("[" + next(lines))
            file.writelines("," + line for line in lines)
            file.write("]")
    elif path.name.endswith(".zst"):
        with pyarrow.output_stream(str(path), compression="zstd") as file:
            file.writelines(line.encode() for line in lines)
    else:
        with gzip.open(path, "wt") if path.name.endswith(".gz") else open(path, "w") as file:
            file.writelines(lines)


def imported(path: Path) -> tuple[float, float, float]:
    """(seconds, CPU seconds, peak MiB) of the script on a file. Raises UserError if it fails."""
    outputs = ["--output-problems", path.parent / "p.jsonl", "--output-traces", path.parent / "t.jsonl", "--overwrite"]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--input", str(path), *map(str, outputs)], stdout=subprocess.PIPE, text=True
    )
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{SCRIPT.name} on {path.name} ended with exit status {process.returncode}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


@command
def main() -> None:
    args = config.parse(ScaleSettings, None, __doc__)
    too_much = []
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"rows.{kind}"
            write(path, made_up(args.rows))
            seconds, cpu_seconds, peak = imported(path)
            print(
                f"{kind:<10}{args.rows:>10,} rows{path.stat().st_size / 2**20:>8.0f} MiB{seconds:>9.1f} s"
                f"{args.rows / seconds:>9,.0f} rows/s{args.rows / cpu_seconds:>9,.0f} rows a CPU second   "
                f"peak {peak:,.0f} MiB"
            )
        if peak > args.most_mib:
            too_much.append(f"{kind} {peak:,.0f} MiB")
    if too_much:
        raise UserError(f"more memory than {args.most_mib:,} MiB: {', '.join(too_much)}")


if __name__ == "__main__":
    main()
