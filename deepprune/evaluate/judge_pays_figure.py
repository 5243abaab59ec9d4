"""The figure of judge_pays.py: what cons@8's accuracy costs with a judge, over what it costs without one."""

from __future__ import annotations

from typing import Any

import pandas as pd

from deepprune.evaluate.plotting import plt

RULES = {"posterior": "o-", "staged": "s--", "paper": "^:"}


def drawn(numbers: pd.DataFrame, summary: pd.DataFrame, what: str) -> Any:
    """A panel for each share of common noise: relative tokens against AUROC, a line for each rule and judge size.

    numbers, summary: judge_pays.table and judge_pays.summary. A judge that never reaches the accuracy has no point.
    """
    parts = summary["judge"].str.extract(r"AUROC ([\d.]+), shared ([\d.]+)").astype(float)
    points = summary.assign(auroc=parts[0], shared=parts[1])
    shares = sorted(points["shared"].unique())
    ends = points[points["auroc"].isin([0.5, 1.0])]  # their noise has no share that could differ
    figure, axes = plt.subplots(
        2, len(shares), figsize=(3 * len(shares) + 0.6, 7), sharex=True, squeeze=False, layout="constrained"
    )
    for column, share in enumerate(shares):
        here = pd.concat([points[points["shared"] == share], ends]).drop_duplicates(["method", "judge", "ratio"])
        for row, cost in enumerate(("relative", "relative_sequential")):
            axis = axes[row][column]
            for (rule, ratio), line in here.sort_values("auroc").groupby(["method", "ratio"]):
                if rule != "posterior" and ratio != here["ratio"].min():
                    continue
                colour = f"C{sorted(here['ratio'].unique()).index(ratio)}" if rule == "posterior" else "grey"
                label = f"{rule}, judge of {ratio:g} of the reasoner's size"
                axis.plot(line["auroc"], line[cost], RULES[rule], color=colour, markersize=4, label=label)
            axis.axhline(1.0, color="black", label="Adaptive-Consistency, no judge")
            axis.grid(alpha=0.3)
            axis.set(yscale="log")
            axis.set_yticks([0.7, 1, 1.5, 2, 3, 5, 10], ["0.7", "1", "1.5", "2", "3", "5", "10"])
            axis.minorticks_off()
        axes[0][column].set_title(f"{share:.0%} of the noise from the traces", fontsize=9)
        axes[1][column].set(xlabel="AUROC of the simulated judge")
    axes[0][0].set(ylabel="total tokens, judge counted,\nover those without a judge")
    axes[1][0].set(ylabel="longest chain of tokens,\nover that without a judge")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    target = summary["target"].iloc[0]
    figure.suptitle(f"What an accuracy of {target:.3f} (cons@8's less 0.01) costs: {what}", fontsize=10)
    return figure
