"""Figures, all drawn without a display. Axes are titled, counts stand in titles or legends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from deepprune.base import jsonl  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent


def save(figure: Any, path: str | Path) -> None:
    """Write a figure as PNG, atomically, and close it."""
    with jsonl.atomic(path) as file:
        figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)


def show(figure: Any, name: str, folder: str | Path = "results/figures") -> Any:
    """For notebooks: write the figure to folder/name.png (relative to the repository) and show that picture."""
    from IPython.display import Image

    path = ROOT / folder / f"{name}.png"
    save(figure, path)
    return Image(data=path.read_bytes(), width=round(figure.get_figwidth() * 90))


def plain_ticks(axis: Any) -> None:
    """1, 2, 5, 10, 20 ... instead of powers, on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def precision_recall(curves: dict[str, tuple[Sequence[int], Sequence[float]]], title: str) -> Any:
    """Precision-recall curves of the class "same"; curves: legend name -> (labels, scores)."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axis = plt.subplots(figsize=(5, 4.6))
    for name, (labels, scores) in curves.items():
        precision, recall, _ = precision_recall_curve(labels, scores)
        axis.step(recall, precision, where="post", label=f"{name}: AP {average_precision_score(labels, scores):.3f}")
        base = sum(labels) / len(labels)
    axis.axhline(base, linestyle=":", color="grey", label=f"share of same-answer pairs {base:.3f}")
    axis.set(xlabel="recall (same-answer pairs found)", ylabel="precision", title=title, ylim=(0, 1.03))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=7)
    return figure


def score_histograms(scores: dict[str, tuple[Sequence[int], Sequence[float]]], title: str) -> Any:
    """p_same by class, a panel a judge; scores: judge -> (labels, p_same)."""
    figure, axes = plt.subplots(1, len(scores), figsize=(3 * len(scores), 3.2), sharey=False, squeeze=False)
    for axis, (judge, (labels, p)) in zip(axes[0], scores.items(), strict=True):
        for label, name, colour in ((0, "different", "tab:red"), (1, "same", "tab:blue")):
            of_class = [x for x, y in zip(p, labels, strict=True) if y == label]
            axis.hist(
                of_class,
                bins=20,
                range=(0, 1),
                density=True,
                alpha=0.5,
                color=colour,
                label=f"{name} ({len(of_class)})",
            )
        axis.set(xlabel="p_same", title=judge, ylim=(0, 1.3 * axis.get_ylim()[1]))  # room for the legend
        axis.title.set_fontsize(10)
        axis.legend(fontsize=8)
    axes[0][0].set_ylabel("density (pairs of the class)")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    return figure


def reliability(judges: dict[str, tuple[list[dict[str, float]], float]], title: str) -> Any:
    """Reliability diagram; judges: legend name -> (bins of metrics.reliability, ECE). Dot size: pairs in the bin."""
    figure, axis = plt.subplots(figsize=(5, 4.6))
    axis.plot([0, 1], [0, 1], ":", color="grey", label="calibrated")
    for name, (bins, error) in judges.items():
        x, y = [b["mean_p"] for b in bins], [b["same_share"] for b in bins]
        line = axis.plot(x, y, linewidth=1, label=f"{name}: ECE {error:.3f}")[0]
        sizes = [8 + b["count"] / 2 for b in bins]
        axis.scatter(x, y, s=sizes, color=line.get_color(), alpha=0.7, clip_on=False, zorder=3)
    axis.set(
        xlabel="mean p_same of the bin (size of a dot: its pairs)",
        ylabel="share of pairs with the same answer",
        title=title,
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=7)
    return figure


def intervals(
    rows: Sequence[tuple[str, float, float, float]],
    xlabel: str,
    title: str,
    reference: float | None = None,
    meaning: str = "chance",
    marks: dict[str, float] | None = None,
    colours: Sequence[Any] | None = None,
) -> Any:
    """A dot and its interval a row, first row on top; rows: (name, value, low, high).

    reference: a dotted line, and what it means; marks: row name -> the paper's value, a grey cross; colours: rows of
    one value share a colour.
    """
    figure, axis = plt.subplots(figsize=(6.4, 0.9 + 0.34 * len(rows)))
    kinds = list(dict.fromkeys(colours or [0]))
    for index, (name, value, low, high) in enumerate(rows):
        colour = f"C{kinds.index(colours[index] if colours else 0)}"
        axis.errorbar(value, index, xerr=[[value - low], [high - value]], marker="o", capsize=3, color=colour)
        if marks and marks.get(name) is not None:
            axis.plot(marks[name], index, "x", color="grey")
    if reference is not None:
        axis.axvline(reference, linestyle=":", color="grey")
    axis.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    notes = ["x: the paper's"] * bool(marks) + [f"dotted: {meaning}"] * (reference is not None)
    axis.set(xlabel=f"{xlabel} ({'; '.join(notes)})" if notes else xlabel, title=title)
    axis.title.set_fontsize(10)
    axis.grid(axis="x", alpha=0.3)
    return figure


def agreement(shares: dict[str, Sequence[float]], title: str, paper: float = 0.8) -> Any:
    """Histogram of each problem's share of same-answer pairs, a panel a reasoner; shares: panel title -> shares."""
    import numpy as np

    columns = min(2, len(shares))
    rows = -(-len(shares) // columns)
    size = (4.2 * columns, 3 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, (name, values) in zip(axes.flat, shares.items(), strict=False):
        axis.hist(values, bins=20, range=(0, 1), color="tab:blue", alpha=0.7)
        axis.axvline(np.mean(values), color="black", linewidth=1, label=f"mean {np.mean(values):.2f}")
        axis.axvline(paper, linestyle="--", color="grey", label=f"the paper: over {paper:.2f}")
        axis.set(xlabel="share of pairs with the same answer", title=name, ylabel="problems")
        axis.title.set_fontsize(9)
        axis.legend(fontsize=8)
    for axis in axes.flat[len(shares) :]:
        axis.axis("off")
    figure.suptitle(title, fontsize=10)
    return figure


def against_k(curves: dict[str, Sequence[tuple]], ylabel: str, title: str) -> Any:
    """Curves over the number of traces k (log axis); curves: name -> (k, value) or (k, value, low, high) points."""
    figure, axis = plt.subplots(figsize=(6.4, 4.6))
    for name, points in curves.items():
        k, value, *band = map(list, zip(*points, strict=True))
        line = axis.plot(k, value, marker="o", markersize=3, label=name)[0]
        if band:
            axis.fill_between(k, band[0], band[1], alpha=0.15, color=line.get_color())
    axis.set_xscale("log", base=2)
    axis.set_xticks(k, [str(x) for x in k], fontsize=8)
    axis.set(xlabel="traces k", ylabel=ylabel, title=title)
    axis.title.set_fontsize(10)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)
    axis.grid(alpha=0.3)
    return figure


def learning_curve(
    curves: dict[str, Sequence[tuple[float, float, float, float]]], levels: dict[str, float], title: str
) -> Any:
    """AUROC against the number of training pairs (log axis); curves: name -> (pairs, value, low, high)...

    levels: judges without training -> AUROC, horizontal lines.
    """
    figure, axis = plt.subplots(figsize=(6, 4))
    for name, points in curves.items():
        n, value, low, high = map(list, zip(*points, strict=True))
        axis.errorbar(
            n,
            value,
            yerr=[[v - x for v, x in zip(value, low, strict=True)], [x - v for v, x in zip(value, high, strict=True)]],
            marker="o",
            capsize=3,
            label=name,
        )
    for (name, value), style in zip(levels.items(), ("--", ":", "-."), strict=False):
        axis.axhline(value, linestyle=style, color="grey", label=f"{name}: {value:.3f}")
    axis.set_xscale("log")
    ticks = sorted({point[0] for points in curves.values() for point in points})
    axis.set_xticks(ticks, [f"{int(t)}" for t in ticks], minor=False)
    axis.minorticks_off()
    axis.set(xlabel="training pairs (after oversampling)", ylabel="AUROC, 95 % interval over problems", title=title)
    axis.title.set_fontsize(10)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    axis.grid(alpha=0.3)
    return figure


def roc(curves: dict[str, tuple[Sequence[int], Sequence[float], float]], title: str) -> Any:
    """ROC curves; curves: legend name -> (labels, scores, AUROC)."""
    from sklearn.metrics import roc_curve

    figure, axis = plt.subplots(figsize=(5, 4.6))
    for name, (labels, scores, area) in curves.items():
        if len(set(labels)) < 2:
            axis.plot([], [], label=f"{name}: none (pairs of one class)")
            continue
        false_positive, true_positive, _ = roc_curve(labels, scores)
        axis.plot(false_positive, true_positive, label=f"{name}: AUROC {area:.3f}")
    axis.plot([0, 1], [0, 1], ":", color="grey", label="chance")
    axis.axhline(0.8, color="grey", linewidth=0.5)
    axis.text(0.0, 0.805, "FNR 0.2", ha="left", va="bottom", fontsize=7, color="grey")
    axis.set(xlabel="false-positive rate (different pairs called same)", ylabel="true-positive rate", title=title)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=7)
    return figure


def tokens_against_accuracy(
    points: dict[str, dict[str, tuple[float, float, float]]],
    title: str,
    lines: dict[str, Sequence[tuple[float, float]]] | None = None,
) -> Any:
    """Points with intervals; points: name -> {"tokens": (value, low, high), "accuracy": (value, low, high)}.

    Tokens are reasoner-equivalent tokens a problem; "counted": the same with the judge's, a hollow point beside the
    other. Points of pruning have it or None and are in colour, those without the key are votes without a judge.
    lines: name -> (tokens, accuracy) points to join.
    """
    figure, axis = plt.subplots(figsize=(7, 4.6))
    for name, line in (lines or {}).items():
        axis.plot([x / 1000 for x, _ in line], [y for _, y in line], ".-", color="grey", linewidth=1, label=name)
    colours = iter([f"C{index}" for index in range(10)] * len(points))
    for marker, (name, point) in zip(itertools.cycle("osD^vP*X<>"), points.items(), strict=False):
        look = {"marker": marker, "linestyle": "none", "capsize": 2}
        look["color"] = next(colours) if "counted" in point else "dimgrey"
        counted = point.get("counted")
        label = f"{name}; hollow: judge counted" if counted else name
        _cross(axis, point["tokens"], point["accuracy"], label=label, **look)
        if counted:
            _cross(axis, counted, point["accuracy"], markerfacecolor="white", **look)
            ends = [point["tokens"][0] / 1000, counted[0] / 1000]
            axis.plot(ends, 2 * [point["accuracy"][0]], ":", color=look["color"], linewidth=1)
    axis.set(
        xlabel="reasoner tokens a problem (thousands; a judge's weighted by parameters)",
        ylabel="accuracy",
        title=title,
        ylim=(-0.03, 1.03),
    )
    axis.set_xlim(left=0)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)
    axis.grid(alpha=0.3)
    return figure


def _cross(axis: Any, tokens: Sequence[float], accuracy: Sequence[float], **look: Any) -> None:
    """A point with its intervals; one that is not known is none."""
    (x, *x_ends), (y, *y_ends) = tokens, accuracy
    (x_low, x_high), (y_low, y_high) = (
        [value if end is None or math.isnan(end) else end for end in ends] for value, ends in ((x, x_ends), (y, y_ends))
    )
    x_error, y_error = [[(x - x_low) / 1000], [(x_high - x) / 1000]], [[y - y_low], [y_high - y]]
    axis.errorbar(x / 1000, y, xerr=x_error, yerr=y_error, **look)


def against_length(numbers: pd.DataFrame, column: str, title: str, reference: float = 0.5, least: int = 30) -> Any:
    """Values with their 95 % intervals over problems against the length of a prefix: a panel a source, a line a judge.

    numbers: columns source, judge, characters, pairs, `column`, `column` low and `column` high. Points of fewer pairs
    than `least` are left out. reference: a dotted line (chance).
    """
    numbers = numbers[numbers["pairs"] >= least].dropna(subset=[column])
    sources, judges = list(dict.fromkeys(numbers["source"])), list(dict.fromkeys(numbers["judge"]))
    if not sources:
        figure, axis = plt.subplots(figsize=(6, 1))
        axis.set_title(f"{title}: no point has {least} pairs", fontsize=10)
        axis.axis("off")
        return figure
    columns = min(2, len(sources))
    rows = -(-len(sources) // columns)
    size = (4 * columns, 2.2 * rows + 0.7)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis, source in zip(axes.flat, sources, strict=False):
        of_source = numbers[numbers["source"] == source]
        for index, judge in enumerate(judges):
            points = of_source[of_source["judge"] == judge].sort_values("characters")
            shift = 1.025 ** (index - (len(judges) - 1) / 2)  # so that intervals do not cover each other
            axis.errorbar(
                points["characters"] * shift,
                points[column],
                yerr=[points[column] - points[f"{column} low"], points[f"{column} high"] - points[column]],
                fmt="o-",
                markersize=3,
                linewidth=1,
                elinewidth=0.7,
                color=f"C{index}",
                label=judge,
            )
        axis.axhline(reference, linestyle=":", color="grey")
        axis.set_title(f"{source}\n{of_source['pairs'].min()} to {of_source['pairs'].max()} pairs a point", fontsize=8)
        axis.set_xscale("log")
        plain_ticks(axis.xaxis)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("median prefix, characters", fontsize=8)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(sources) :]:
        axis.axis("off")
    figure.supylabel(column, fontsize=9)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), fontsize=8, frameon=False)
    figure.suptitle(f"{title}\npoints of at least {least} pairs", fontsize=10)
    return figure


def grouped(numbers: pd.DataFrame, column: str, title: str, reference: float | None = None) -> Any:
    """Values with their 95 % intervals over problems: a band a group (first on top), in it the judges side by side.

    numbers: columns judge, group, pairs, `column`, `column` low and `column` high. reference: a dotted line (chance).
    """
    import textwrap

    groups, judges = list(dict.fromkeys(numbers["group"])), list(dict.fromkeys(numbers["judge"]))
    figure, axis = plt.subplots(figsize=(7.2, 1.6 + (0.3 + 0.14 * len(judges)) * len(groups)), layout="constrained")
    for index, judge in enumerate(judges):
        rows = numbers[numbers["judge"] == judge]
        y = [groups.index(group) + (index - (len(judges) - 1) / 2) * 0.7 / len(judges) for group in rows["group"]]
        spread = [rows[column] - rows[f"{column} low"], rows[f"{column} high"] - rows[column]]
        axis.errorbar(rows[column], y, xerr=spread, fmt="o", markersize=4, capsize=2, color=f"C{index}", label=judge)
    for border in range(1, len(groups)):
        axis.axhline(border - 0.5, color="grey", linewidth=0.5, alpha=0.5)
    if reference is not None:
        axis.axvline(reference, linestyle=":", color="grey", label="chance")
    pairs = numbers.drop_duplicates("group").set_index("group")["pairs"]
    names = [f"{textwrap.fill(str(group).split('/')[-1], 34)}\n({pairs[group]} pairs)" for group in groups]
    axis.set_yticks(range(len(groups)), names, fontsize=8)
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set(xlabel=f"{column}, 95 % intervals over problems", title=title)
    axis.title.set_fontsize(10)
    axis.grid(axis="x", alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return figure
