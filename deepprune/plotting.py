"""Figures, all drawn without a display. Axes are titled, counts stand in titles or legends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from deepprune import jsonl  # noqa: E402


def save(figure: Any, path: str | Path) -> None:
    """Write a figure as PNG, atomically, and close it."""
    with jsonl.atomic(path) as file:
        figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)


def roc(curves: dict[str, tuple[Sequence[int], Sequence[float], float]], title: str) -> Any:
    """ROC curves; curves: legend name -> (labels, scores, AUROC)."""
    from sklearn.metrics import roc_curve

    figure, axis = plt.subplots(figsize=(5, 4.6))
    for name, (labels, scores, area) in curves.items():
        false_positive, true_positive, _ = roc_curve(labels, scores)
        axis.plot(false_positive, true_positive, label=f"{name}: AUROC {area:.3f}")
    axis.plot([0, 1], [0, 1], ":", color="grey", label="chance")
    axis.axhline(0.8, color="grey", linewidth=0.5)
    axis.text(0.0, 0.805, "FNR 0.2", ha="left", va="bottom", fontsize=7, color="grey")
    axis.set(xlabel="false-positive rate (different pairs called same)", ylabel="true-positive rate", title=title)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=7)
    return figure


def tokens_against_accuracy(points: dict[str, dict[str, tuple[float, float, float]]], title: str) -> Any:
    """Points with intervals; points: name -> {"tokens": (value, low, high), "accuracy": (value, low, high)}.

    Tokens are thousands of reasoner-equivalent tokens a problem.
    """
    figure, axis = plt.subplots(figsize=(6.4, 4.4))
    markers = "osD^vP*X<>"
    for index, (name, point) in enumerate(points.items()):
        (x, x_low, x_high), (y, y_low, y_high) = point["tokens"], point["accuracy"]
        axis.errorbar(
            x / 1000, y, xerr=[[(x - x_low) / 1000], [(x_high - x) / 1000]], yerr=[[y - y_low], [y_high - y]],
            marker=markers[index % len(markers)], linestyle="none", capsize=2, label=name,
        )  # fmt: skip
    axis.set(
        xlabel="reasoner tokens a problem (thousands; a judge's weighted by parameters)",
        ylabel="accuracy",
        title=title,
        ylim=(-0.03, 1.03),
    )
    axis.set_xlim(left=0)
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.grid(alpha=0.3)
    return figure
