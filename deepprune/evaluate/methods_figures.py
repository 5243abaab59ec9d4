"""Figures of the comparison of methods: what accuracy costs, by judge, and from which judge on pruning pays.

python -m deepprune.evaluate.methods_figures Online/results/deep-64.csv   # again, from a table and its page
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepprune.base import jsonl
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.evaluate import methods, methods_table
from deepprune.evaluate.plotting import plain_ticks, plt, save

ENDS = ("", "_latency", "_quality")


def of_table(numbers: pd.DataFrame, title: str) -> dict[str, Any]:
    """The figures by the end of their file names; numbers: methods_table.table.

    "": accuracy against tokens, a panel a judge; "_latency": against the longest chain of dependent tokens; "_quality":
    from which judge on pruning pays, where judges of at least three AUROCs are simulated.
    """
    simulated = numbers["judge"].str.startswith("AUROC ", na=False)
    figures = {}
    if not simulated.any() or (numbers["judge"].notna() & ~simulated).any():
        figures = {"": fronts(numbers[~simulated], title), "_latency": fronts(numbers[~simulated], title, "sequential")}
    if numbers.loc[simulated, "judge"].nunique() >= 3:
        figures["_quality"] = by_judge_quality(numbers, title)
    return figures


def save_all(numbers: pd.DataFrame, title: str, base: str | Path) -> list[str]:
    """Write the figures to BASE.png, BASE_latency.png, BASE_quality.png, those that there are; returns their paths."""
    figures = of_table(numbers, title)
    for end, figure in figures.items():
        save(figure, f"{base}{end}.png")
    return [f"{base}{end}.png" for end in figures]


def places(output: str | Path) -> list[str]:
    """The files that `write` writes beside an output."""
    base = Path(output).with_suffix("")
    return [f"{base}.csv", f"{base}.md", *(f"{base}{end}.png" for end in ENDS)]


def write(results: Sequence[dict], grid: methods.Grid, what: str, output: str | Path) -> None:
    """Table (BASE.csv: every setting), page (BASE.md: those to read first) and figures; the page's table on the screen.

    results: rows of methods.compare; output: the file that they are in, by which the others are named.
    """
    base = Path(output).with_suffix("")
    numbers = methods_table.table(results, grid.resamples, grid.seed)
    digest = methods_table.digest(numbers)
    jsonl.write_text(f"{base}.csv", numbers.to_csv(index=False))
    jsonl.write_text(f"{base}.md", methods_table.to_markdown(digest, f"{what}, {grid.orders} orders"))
    pictures = save_all(numbers, what, base)
    print(methods_table.readable(digest).to_string(index=False))
    print(", ".join([f"{base}.csv", f"{base}.md", *pictures]))


COSTS = {
    "total": "tokens a problem, judge counted (thousands, reasoner-equivalent)",
    "sequential": "longest chain of dependent tokens (thousands)",
}


def fronts(numbers: pd.DataFrame, title: str, cost: str = "total") -> Any:
    """What accuracy costs: a panel a judge, in it one line a finish rule through the settings that no other beats.

    numbers: methods_table.table. cost: a key of COSTS. cons@m is the reference line with its 95 % interval, the ways to
    vote without a judge are one line. The star is a line's best setting: the largest gain over cons@m for as many
    tokens; the panel's legend says which it is. Judges whose size is not known have no total and are named in the
    title.
    """
    unknown = methods_table.unknown_cost(numbers) if cost == "total" else []
    drawn = [judge for judge in dict.fromkeys(numbers["judge"].dropna()) if judge not in unknown] or [None]
    columns = min(2, len(drawn))
    lines = -(-len(drawn) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.6 * columns, 4.5 * lines), squeeze=False, layout="constrained"
    )
    for axis, judge in zip(axes.flat, drawn, strict=False):
        _panel(axis, numbers, judge, cost)
    for axis in axes.flat[len(drawn) :]:
        axis.axis("off")
    left_out = f"\nnot drawn, because its size is not known: {', '.join(unknown)}" if unknown else ""
    star = "star: a rule's setting that gains most over cons@m at equal tokens, named in the legend"
    figure.suptitle(f"{title}\n{star}{left_out}", fontsize=9)
    return figure


def _panel(axis: Any, numbers: pd.DataFrame, judge: str | None, cost: str) -> None:
    """One judge's panel of `fronts`."""
    keys = methods_table.varied(numbers)
    reference = numbers[numbers["m"].notna()]
    axis.fill_between(
        reference[cost] / 1000, reference["accuracy low"], reference["accuracy high"], color="black", alpha=0.08
    )
    axis.plot(reference[cost] / 1000, reference["accuracy"], ".-", color="black", label="cons@m, m = 1, 2, 4, ...")
    plain = methods_table.front(numbers[numbers["judge"].isna() & numbers["m"].isna()], cost)
    axis.plot(
        plain[cost] / 1000,
        plain["accuracy"],
        "s--",
        color="dimgrey",
        markersize=4,
        label=f"no judge: {_leader(plain)['method']}",
    )
    pruned = numbers[numbers["judge"] == judge]
    rules = pruned["method"].str.split(",").str[0]  # the posterior's settings stand in its name
    for index, (_, rows) in enumerate(pruned.groupby(rules, sort=False)):
        line = methods_table.front(rows, cost)
        best = _leader(line)
        settings = methods_table.short_settings(best, keys)
        name = f"{best['method']}: {settings}" if settings else best["method"]
        axis.plot(line[cost] / 1000, line["accuracy"], "o-", color=f"C{index}", markersize=3, linewidth=1.2, label=name)
        size = 16 - 2 * index  # each star smaller: none hides another
        axis.plot(best[cost] / 1000, best["accuracy"], "*", color=f"C{index}", ms=size, mec="white", mew=0.3, zorder=3)
    axis.set(xscale="log", xlabel=COSTS[cost], ylabel="accuracy", title=f"judge: {judge}" if judge else "no judge")
    plain_ticks(axis.xaxis)
    axis.title.set_fontsize(9)
    axis.xaxis.label.set_fontsize(8)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1, frameon=False)


def _leader(line: pd.DataFrame) -> pd.Series:
    """The row that gains most over cons@m for as many tokens (the most accurate where no gain is known)."""
    gain = line["over_cons"] if line["over_cons"].notna().any() else line["accuracy"]
    return line.loc[gain.idxmax()]


def by_judge_quality(numbers: pd.DataFrame, title: str) -> Any:
    """From which judge on does pruning pay? Tokens and accuracy against the AUROC of simulated judges, a line a rule.

    numbers: methods_table.table with judges 'AUROC 0.6' ...; the paper's rule in full, and the paper's and the staged
    rule as they ask least. Level lines: votes without a judge.
    """
    pruned = numbers[numbers["judge"].str.startswith("AUROC ", na=False)]
    pruned = pruned.assign(auroc=pruned["judge"].str.removeprefix("AUROC ").astype(float)).sort_values("auroc")
    pruned = methods_table.usual(pruned)
    cheap = methods_table.cheapest_asked(pruned)
    cheap = cheap[cheap["K1"] == cheap["K1"].min()]
    lines = [methods_table.full_rule(pruned), *(cheap[cheap["method"] == rule] for rule in ("paper", "staged"))]
    largest = numbers.loc[numbers["m"].idxmax()]
    plain = numbers[numbers["method"].str.startswith("adaptive-consistency, batches", na=False)]
    levels = {largest["method"]: (largest, "-"), **{row["method"]: (row, "--") for _, row in plain.iterrows()}}
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 4.4), layout="constrained")
    for axis, column, scale in zip(axes, ("total", "over_cons_n"), (1000, 1), strict=True):
        for name, (row, style) in levels.items():
            axis.axhline(row[column] / scale, color="black" if style == "-" else "dimgrey", linestyle=style, label=name)
        for index, rows in enumerate(line for line in lines if len(line)):
            name = f"{rows.iloc[0]['method']}, {methods_table.short_settings(rows.iloc[0], ('K1', 'asks', 'assign'))}"
            axis.plot(rows["auroc"], rows[column] / scale, "o-", color=f"C{index}", markersize=4, label=name)
            if column == "over_cons_n":
                low, high = rows[f"{column} low"], rows[f"{column} high"]
                axis.fill_between(rows["auroc"], low, high, color=f"C{index}", alpha=0.1)
        axis.set(xlabel="AUROC of the simulated judge (1: oracle)")
        axis.grid(alpha=0.3)
    axes[0].set(yscale="log", ylabel="tokens a problem, judge counted (thousands)")
    plain_ticks(axes[0].yaxis)
    axes[1].set(ylabel=f"accuracy minus {largest['method']}'s\n(shaded: paired 95 % intervals)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def redraw(table: str | Path) -> list[str]:
    """The figures drawn again from a table NAME.csv, named as its page NAME.md begins; returns their paths.

    Raises UserError where one of the two is missing.
    """
    base = Path(table).with_suffix("")
    page = base.with_name(f"{base.name}.md")
    for path in (Path(table), page):
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; give the table that Online/compare_methods.py wrote, beside its page"
            )
    # The page begins '22 problems, n = 64 traces, 20 orders. ...'; the orders are not the figure's.
    what = page.read_text().partition(" orders. ")[0].rpartition(", ")[0]
    return save_all(methods_table.read(table), what, base)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the figures of a comparison of methods again, from its table.")
    parser.add_argument("tables", nargs="+", metavar="NAME.csv")
    for table in parser.parse_args().tables:
        print(", ".join(redraw(table)))


if __name__ == "__main__":
    main()
