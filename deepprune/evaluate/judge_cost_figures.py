"""Figures of what the judge costs (benchmarks/judge_cost.py): calls against n and K, clusters against calls, timings.

python -m deepprune.evaluate.judge_cost_figures Online/results/judge_cost_deep.csv   # again, from a table
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepprune.base.stage import command
from deepprune.evaluate import plotting
from deepprune.evaluate.plotting import plt

FULL = "full rule"
EXACT = "exact savings"
LIKELY = "likely"
LARGEST = "largest first, likely"
LEAST = "least possible, exact"
MODES = (FULL, EXACT, LIKELY, LARGEST)  # older tables hold more


def draw(numbers: pd.DataFrame, timed: Sequence[dict] = ()) -> Any:
    """A panel a question that the table answers, two in a row.

    One judge: calls against n and against K, a line a mode, of the first reading. Several: clusters against calls. The
    exact rule's share by judge and reading where there are several. timed: rows of the timed part: seconds by mode. A
    single case: its calls by mode.
    """
    numbers = numbers.assign(reading=numbers["similarity"] + ", " + numbers["assign"])
    first, judge = numbers.iloc[0], numbers.iloc[0]["judge"].split("/")[-1]
    numbers = numbers[numbers["mode"].isin([*MODES, LEAST])]
    largest = numbers[(numbers["n"] == numbers["n"].max()) & (numbers["K"] == numbers["K"].max())]
    alone = numbers[(numbers["judge"] == first["judge"]) & (numbers["reading"] == first["reading"])]
    panels = []
    if numbers["judge"].nunique() > 1:
        panels.append(lambda axis: _trade_off(axis, largest[largest["reading"] == first["reading"]]))
    else:
        panels += [lambda axis, x=x: _growth(axis, alone, x) for x in ("n", "K") if alone[x].nunique() > 1]
    if len(numbers[["judge", "reading"]].drop_duplicates()) > 1:
        panels.append(lambda axis: _shares(axis, largest))
    if timed:
        panels.append(lambda axis: _bars(axis, timed, "seconds", f"{judge}, each mode really run"))
    if not panels:
        panels.append(lambda axis: _bars(axis, alone.to_dict("records"), "calls", f"{judge}, n = {first['n']}"))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    size = (10, 4.6 * rows) if columns == 2 else (8, 4.6)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, panel in zip(axes.flat, panels, strict=False):
        panel(axis)
        axis.title.set_fontsize(9)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    return figure


def _legend(axis: Any) -> None:
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)


def _growth(axis: Any, numbers: pd.DataFrame, x: str) -> None:
    """Calls against n (log-log: a straight line is a power) or K (linear: a straight line is growth with K)."""
    fixed = {"n": "K", "K": "n"}[x]
    first, numbers = numbers.iloc[0], numbers[numbers[fixed] == numbers[fixed].max()]
    modes = list(numbers.groupby("mode", sort=False))
    for number, (mode, rows) in enumerate(modes):
        look = {
            "ls": "--" if mode == LEAST else "-",
            "lw": 4.5 - 3.5 * number / len(modes),
        }  # thinner: none hides another
        axis.plot(rows[x], rows["calls"], marker="o", markersize=4, label=mode, **look)
    axis.set(xlabel={"n": "traces a question, n", "K": "most clusters, K"}[x], ylabel="judge calls a question")
    axis.set_title(
        f"{first['judge'].split('/')[-1]}, {first['reading']}\n"
        f"{fixed} = {numbers[fixed].max()}, mean of {first['questions']} questions"
    )
    if x == "n":
        axis.set(xscale="log", yscale="log")
        ticks = sorted(numbers[x].unique())
        axis.set_xticks(ticks, [str(value) for value in ticks])
        plotting.plain_ticks(axis.yaxis)
        axis.minorticks_off()
    else:
        axis.set_ylim(0)
        axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.grid(alpha=0.3)
    _legend(axis)


def _trade_off(axis: Any, numbers: pd.DataFrame) -> None:
    """How near the clusters are to the answers, against calls: a line a mode through judges."""
    for mode, rows in numbers[numbers["mode"] != LEAST].groupby("mode", sort=False):
        index = rows["adjusted Rand index to the answers"]
        line = axis.plot(rows["calls"], index, marker="o", markersize=4, label=mode)[0]
        side = {"ha": "right", "xytext": (-4, -8)} if mode == EXACT else {"ha": "left", "xytext": (4, 3)}
        for x, y, judge in zip(rows["calls"], index, rows["judge"], strict=True):
            axis.annotate(_short(judge), (x, y), fontsize=7, color=line.get_color(), textcoords="offset points", **side)
    axis.margins(x=0.12)
    axis.set(xscale="log", xlabel="judge calls a question", ylabel="adjusted Rand index to the answers")
    plotting.plain_ticks(axis.xaxis)
    first = numbers.iloc[0]
    axis.set_title(f"{first['reading']}, n = {first['n']}, K = {first['K']}; small numbers: the judge's AUROC")
    axis.grid(alpha=0.3)
    _legend(axis)


def _short(judge: str) -> str:
    """A judge's name without its folder; of a simulated one its AUROC."""
    return judge.split("/")[-1].removeprefix("simulated, AUROC ")


def _shares(axis: Any, numbers: pd.DataFrame) -> None:
    """Exact calls / full rule: needed (filled), the least possible (outlined); a group a judge, a colour a reading."""
    judges, readings = numbers["judge"].unique(), numbers["reading"].unique()
    width = 0.8 / len(readings)
    for at, reading in enumerate(readings):
        for mode, look in ((EXACT, {"alpha": 0.5, "label": reading}), (LEAST, {"fill": False})):
            rows = numbers[(numbers["mode"] == mode) & (numbers["reading"] == reading)].set_index("judge")
            x, shares = np.arange(len(judges)) + at * width, rows["calls / full rule"][judges]
            axis.bar(x, shares, width, edgecolor=f"C{at}", color=f"C{at}", **look)
    axis.axhline(1 / 3, color="grey", lw=0.8, ls=":")
    axis.set_xticks(np.arange(len(judges)) + 0.4 - width / 2, [_short(name) for name in judges], fontsize=8)
    simulated = all(name.startswith("simulated, AUROC ") for name in judges)
    axis.set(ylabel="calls / full rule", ylim=(0, 1.05), xlabel="AUROC of the simulated judge" if simulated else "")
    first = numbers.iloc[0]
    axis.set_title(f"exact savings; outlined: the least; dotted: 1/3\nn = {first['n']}, K = {first['K']}")
    _legend(axis)


def _bars(axis: Any, rows: Sequence[dict], column: str, title: str) -> None:
    """A column by mode, first on top. column: calls, or seconds (beside them the calls)."""
    rows = [row for row in rows if row["mode"].startswith((*MODES, LEAST))]
    y, values = range(len(rows)), [row[column] for row in rows]
    axis.barh(y, values, color="tab:blue", alpha=0.6)
    for at, row in zip(y, rows, strict=True):
        seconds = f"{row['seconds']:,.0f} s, " if column == "seconds" else ""
        axis.text(row[column], at, f" {seconds}{row['calls']:,.0f} calls", va="center", fontsize=8)
    axis.set_yticks(y, [textwrap.fill(row["mode"], 34) for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel=column, xlim=(0, 1.35 * max(values)), title=title)
    axis.grid(axis="x", alpha=0.3)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the figure of a judge's cost again, from its table.")
    parser.add_argument("tables", nargs="+", metavar="NAME.csv")
    for table in map(Path, parser.parse_args().tables):
        timed = json.loads(table.with_suffix(".json").read_text()).get("timed", ())
        plotting.save(draw(pd.read_csv(table), timed), table.with_suffix(".png"))
        print(table.with_suffix(".png"))


if __name__ == "__main__":
    main()
