"""Write the numbers of the result tables in docs/ from the CSV files that the commands left.

    python scripts/fill_doc_tables.py             # all pages of docs/; prints what changed

A table that is filled has a comment above it that names its file and what holds for all of its rows:

    <!-- filled from Online/results/r1.csv: K2 20, thousands -->
    | method | accuracy | ... |

Which row of the file a line shows is read from its first cell (`cons@8`, `paper rule, K1 = 1, oracle`); which columns,
from the head of the table. Rows and columns are chosen by hand; columns of the paper's figures are left as they are.
"""

import argparse
import csv
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from deepprune.base.errors import UserError
from deepprune.base.stage import command

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"<!-- filled from (?P<file>\S+?)(?:: (?P<options>.*))? -->")
Row = Mapping[str, str]


def interval(row: Row, name: str, sign: str = "", digits: int = 3) -> str:
    """'0.720 [0.568, 0.857]'; a method that is set against itself is 0."""
    value, low, high = (float(row[f"{name}{end}"]) for end in ("", " low", " high"))
    if sign and value == low == high == 0 and row["method"].startswith("cons@"):
        return "0"
    value, low, high = (f"{x:{sign}.{digits}f}" for x in (value, low, high))
    return f"{value} [{low}, {high}]"


def tokens(row: Row, name: str, options: Mapping[str, str]) -> str:
    """Tokens; thousands of them where the table says so (with one digit after the point: `tenths of sequential`)."""
    value = float(row[name])
    if "thousands" not in options:
        return f"{value:,.0f}"
    return f"{value / 1000:,.{1 if f'tenths of {name}' in options else 0}f}"


def percent(row: Row, name: str) -> str:
    """'52.5%'"""
    return f"{float(row[name]):.1%}"


Cell = Callable[[Row, Mapping[str, str]], str]
METHOD_CELLS: dict[str, Cell] = {
    "accuracy": lambda row, _: interval(row, "accuracy"),
    "over cons@m with the same total tokens": lambda row, _: interval(row, "over_cons", sign="+"),
    "reasoner tokens": lambda row, options: tokens(row, "tokens", options),
    "with the judge": lambda row, options: tokens(row, "total", options),
    "reduction, judge not counted": lambda row, _: percent(row, "reduction_no_judge"),
    "judge counted": lambda row, _: percent(row, "reduction"),
    "sequential tokens": lambda row, options: tokens(row, "sequential", options),
    "coverage": lambda row, _: f"{float(row['coverage']):.3f}",
}
METRICS = {"AUROC": "AUROC", "within problems": "AUROC within problems", "TNR@0.2": "TNR@0.2"}
ASKS = {"only needed comparisons": ("needed", "best"), "largest first until likely": ("likely", "largest")}


def method_of(label: str, options: Mapping[str, str]) -> dict[str, str]:
    """The columns of a comparison's row that a line's first cell asks for.

    'staged rule, K1 = 1, largest first until likely, judge of AUROC 0.87' -> method staged, K1 1, asks likely ...;
    what it does not say: K1 10, asks all, assign best, tau 0.5, and the options of the table. Raises UserError.
    """
    method, *parts = label.split(", ")
    if not method.endswith(" rule"):
        batches = re.fullmatch(r"Adaptive-Consistency, (\d+) at once, (at most \d+)", label)
        name = f"adaptive-consistency, batches of {batches[1]}, {batches[2]}" if batches else method.lower()
        return {"method": name}
    where = {"tau": "0.5", "K1": "10", "asks": "all", "assign": "best"} | {k: v for k, v in options.items() if v}
    where["method"] = method.removesuffix(" rule")
    for part in parts[:-1]:
        if part in ASKS:
            where["asks"], where["assign"] = ASKS[part]
        elif re.fullmatch(r"(K|K1|K2|tau) = [\d.]+", part):
            name, value = part.split(" = ")
            where[name] = value
        else:
            raise UserError(f"{label!r}: what is {part!r}?")
    judge = re.fullmatch(r"(?:simulated )?judge of (AUROC [\d.]+)", parts[-1])
    where["judge"] = judge[1] if judge else parts[-1].removesuffix(" judge")
    return where


def same(value: str, wanted: str) -> bool:
    """Whether a CSV cell is what is asked for; numbers as numbers (10.0 is 10)."""
    try:
        return float(value) == float(wanted)
    except ValueError:
        return value == wanted


def only(rows: list[Row], where: Mapping[str, str], label: str) -> Row:
    """The one row with these columns. Raises UserError."""
    matches = [row for row in rows if all(same(row.get(k, ""), v) for k, v in where.items())]
    if len(matches) != 1:
        raise UserError(f"{label!r}: {len(matches)} rows have {dict(where)}")
    return matches[0]


def method_cells(rows: list[Row], head: list[str], cells: list[str], options: Mapping[str, str]) -> list[str]:
    """A line of a table of methods."""
    where = method_of(cells[0], options)
    if where.get("judge") == "oracle" and not any(row["judge"] == "oracle" for row in rows):
        where["judge"] = "AUROC 1"  # in simulation
    row = only(rows, where, cells[0])
    filled = [
        METHOD_CELLS[name](row, options) if name in METHOD_CELLS else cell
        for name, cell in zip(head, cells, strict=False)
    ]
    return [cells[0], *filled[1:]]


def judge_cells(rows: list[Row], head: list[str], cells: list[str], options: Mapping[str, str]) -> list[str]:
    """A line of a table of judges: heads are metrics, after 'seen reasoner: ' of that group (an option names it).

    How many rows a judge was trained on ('..., 720 rows') is no part of its name.
    """
    filled, group, judge = [cells[0]], "all", without_rows(cells[0])
    rows = [{"method": "", **row, "judge": without_rows(row["judge"])} for row in rows]
    for name, cell in zip(head[1:], cells[1:], strict=False):
        place, colon, metric = name.rpartition(": ")
        if colon:
            group = options.get(place, "")
        if metric not in METRICS or not group:
            filled.append(cell)
            continue
        filled.append(interval(only(rows, {"group": group, "judge": judge}, cells[0]), METRICS[metric]))
    return filled


def without_rows(judge: str) -> str:
    return re.sub(r", \d+ rows$", "", judge)


def check_head(head: list[str], page: str, line: int) -> list[str]:
    """The head, if every column is known or the paper's. Raises UserError."""
    for name in head[1:]:
        if name.rpartition(": ")[2] not in METHOD_CELLS | METRICS and not name.startswith("the paper"):
            raise UserError(f"{page}:{line}: no such column: {name!r}")
    return head


def options_of(text: str | None) -> dict[str, str]:
    """'K2 20, thousands' -> {'K2': '20', 'thousands': ''}; 'seen reasoner = Qwen3' -> {'seen reasoner': 'Qwen3'}."""
    parts = [re.split(r" = | (?=\d)", part.strip(), maxsplit=1) for part in (text or "").split(",") if part.strip()]
    return {part[0]: part[1] if len(part) > 1 else "" for part in parts}


def fill(text: str, page: str = "page", root: Path = ROOT) -> str:
    """A page with its marked tables filled. Raises UserError where a line asks for no row or several."""
    lines = text.splitlines(keepends=True)
    table: tuple | None = None  # rows, options, head
    for number, line in enumerate(lines):
        mark = MARK.fullmatch(line.strip())
        if mark:
            with open(root / mark["file"], newline="", encoding="utf-8") as file:
                table = (list(csv.DictReader(file)), options_of(mark["options"]), None)
        elif table and line.startswith("|"):
            rows, options, head = table
            cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            cells += [""] * (len(head or []) - len(cells))
            if head is None:
                table = (rows, options, check_head(cells, page, number + 1))
            elif not line.startswith("|---"):
                try:
                    cells = (judge_cells if "group" in rows[0] else method_cells)(rows, head, cells, options)
                except UserError as error:
                    raise UserError(f"{page}:{number + 1}: {error}") from error
                lines[number] = f"| {' | '.join(cells)} |\n"
        else:
            table = None
    return "".join(lines)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for page in sorted((ROOT / "docs").glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = fill(before, page.name)
        changed = sum(a != b for a, b in zip(before.splitlines(), after.splitlines(), strict=True))
        if changed:
            page.write_text(after, encoding="utf-8")
        print(f"{page.name}: {changed} lines changed")


if __name__ == "__main__":
    main()
