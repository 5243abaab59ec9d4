"""Write the numbers of the result tables in docs/ from the CSV files that the commands left.

    python scripts/fill_doc_tables.py             # all pages of docs/; prints what changed

A table that is filled has a comment above it that names its file and what holds for all of its rows:

    <!-- filled from Online/results/r1.csv: K2 20, thousands -->
    | method | accuracy | ... |

Which row of the file a line shows is read from its first cell (`cons@8`, `paper rule, K1 = 1, oracle`); which columns,
from the head of the table. Rows and columns are chosen by hand; columns of the paper's figures are left as they are.
"""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.evaluate import tables

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"<!-- filled from (?P<file>\S+?)(?:: (?P<options>.*))? -->")
Row = Mapping[str, object]
Options = Mapping[str, str]
Cell = Callable[[Row, Options], str]


def over_cons(row: Row, _: Options) -> str:
    """A difference with its sign; 0 of the vote that is set against itself."""
    itself = row["method"].startswith("cons@") and not any(row[f"over_cons{end}"] for end in ("", " low", " high"))
    return "0" if itself else tables.interval(row, "over_cons", "+.3f")


def tokens(name: str) -> Cell:
    """Tokens; thousands of them where the table says so (with one digit after the point: `tenths of sequential`)."""

    def cell(row: Row, options: Options) -> str:
        if "thousands" not in options:
            return tables.number(row[name], ",.0f")
        return tables.number(row[name] / 1000, f",.{1 if f'tenths of {name}' in options else 0}f")

    return cell


METHOD_CELLS: dict[str, Cell] = {
    "accuracy": lambda row, _: tables.interval(row, "accuracy"),
    "over cons@m with the same total tokens": over_cons,
    "reasoner tokens": tokens("tokens"),
    "with the judge": tokens("total"),
    "reduction, judge not counted": lambda row, _: tables.number(row["reduction_no_judge"], ".1%"),
    "judge counted": lambda row, _: tables.number(row["reduction"], ".1%"),
    "sequential tokens": tokens("sequential"),
    "finished": lambda row, _: tables.number(row["finished"], ".1f"),
    "coverage": lambda row, _: tables.number(row["coverage"]),
}
METRICS = {"AUROC": "AUROC", "within problems": "AUROC within problems", "TNR@0.2": "TNR@0.2"}
POSTERIOR = re.compile(r"posterior, b = (\d+), threshold ([\d.]+), (.+)")
ASKS = {"only needed comparisons": ("needed", "best"), "largest first until likely": ("likely", "largest")}


def method_of(label: str, options: Options) -> dict[str, str]:
    """The columns of a comparison's row that a line's first cell asks for.

    'staged rule, K1 = 1, largest first until likely, judge of AUROC 0.87' -> method staged, K1 1, asks likely ...;
    what it does not say: K1 10, asks all, assign best, tau 0.5, of posterior m0 16, and the options of the table.
    Raises UserError.
    """
    if posterior := POSTERIOR.fullmatch(label):
        return {"method": f"posterior, m0 16, b {posterior[1]}, {posterior[2]}", "judge": judge_of(posterior[3])}
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
    where["judge"] = judge_of(parts[-1])
    return where


def judge_of(label: str) -> str:
    """'simulated judge of AUROC 0.87' -> 'AUROC 0.87'; 'trained judge' -> 'trained'."""
    simulated = re.fullmatch(r"(?:simulated )?judge of (AUROC [\d.]+)", label)
    return simulated[1] if simulated else label.removesuffix(" judge")


def only(rows: pd.DataFrame, where: Options, label: str) -> Row:
    """The one row with these columns; what is a number there is compared as one. Raises UserError."""
    match = pd.Series(True, index=rows.index)
    for name, wanted in where.items():
        column = rows.get(name, pd.Series("", index=rows.index))
        match &= column == (float(wanted) if pd.api.types.is_numeric_dtype(column) else wanted)
    if match.sum() != 1:
        raise UserError(f"{label!r}: {match.sum()} rows have {dict(where)}")
    return rows[match].iloc[0]


def method_cells(rows: pd.DataFrame, head: list[str], cells: list[str], options: Options) -> list[str]:
    """A line of a table of methods."""
    where = method_of(cells[0], options)
    if where.get("judge") == "oracle" and "oracle" not in set(rows["judge"]):
        where["judge"] = "AUROC 1"  # in simulation
    row = only(rows, where, cells[0])
    filled = [
        METHOD_CELLS[name](row, options) if name in METHOD_CELLS else cell
        for name, cell in zip(head, cells, strict=False)
    ]
    return [cells[0], *filled[1:]]


def judge_cells(rows: pd.DataFrame, head: list[str], cells: list[str], options: Options) -> list[str]:
    """A line of a table of judges: heads are metrics, after 'seen reasoner: ' of that group (an option names it).

    How many rows a judge was trained on ('..., 720 rows') is no part of its name.
    """
    filled, group, judge = [cells[0]], "all", without_rows(cells[0])
    rows = rows.assign(judge=rows["judge"].map(without_rows))
    for name, cell in zip(head[1:], cells[1:], strict=False):
        place, colon, metric = name.rpartition(": ")
        if colon:
            group = options.get(place, "")
        if metric not in METRICS or not group:
            filled.append(cell)
            continue
        filled.append(tables.interval(only(rows, {"group": group, "judge": judge}, cells[0]), METRICS[metric]))
    return filled


def prefix_cells(rows: pd.DataFrame, head: list[str], cells: list[str], options: Options) -> list[str]:
    """A line of a table of judges on prefixes: heads are cuts (of all sources) or sources (at all cuts).

    Options: partial or all (pairs), and the metric (AUROC where none is named). A cell of too few pairs is n/a.
    """
    metric = next((METRICS[name] for name in options if name in METRICS), "AUROC")
    seen = "all" if "all" in options else "partial"
    filled = [cells[0]]
    for name in head[1:]:
        place = {"source": "all", "cut": name} if name in set(rows["cut"]) else {"source": name, "cut": "all"}
        row = only(rows, place | {"seen": seen, "judge": cells[0]}, cells[0])
        filled.append(tables.interval(row, metric))
    return filled


def without_rows(judge: str) -> str:
    return re.sub(r", \d+ rows$", "", judge)


def cells_of(rows: pd.DataFrame) -> Callable:
    """What fills a line from such a file."""
    if "cut" in rows:
        return prefix_cells
    return judge_cells if "group" in rows else method_cells


def check_head(head: list[str], rows: pd.DataFrame, page: str, line: int) -> list[str]:
    """The head, if every column is known or the paper's. Raises UserError."""
    places = {*rows["cut"], *rows["source"]} if "cut" in rows else set()
    for name in head[1:]:
        known = name in places or name.rpartition(": ")[2] in METHOD_CELLS | METRICS
        if not known and not name.startswith("the paper"):
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
            table = (pd.read_csv(root / mark["file"]), options_of(mark["options"]), None)
        elif table and line.startswith("|"):
            rows, options, head = table
            cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            cells += [""] * (len(head or []) - len(cells))
            if head is None:
                table = (rows, options, check_head(cells, rows, page, number + 1))
            elif not line.startswith("|---"):
                try:
                    cells = cells_of(rows)(rows, head, cells, options)
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
