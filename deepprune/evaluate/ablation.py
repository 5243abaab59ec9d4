"""The paper's ablation grid: {tokens, words} x {cross-entropy, focal loss} x {no oversampling, oversampling}."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from deepprune.base import metrics, records
from deepprune.base.errors import UserError
from deepprune.data.truncation import STRATEGIES
from deepprune.evaluate import paper, study

LOSSES = ("ce", "focal")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One judge of the grid."""

    truncation: str  # of deepprune.data.truncation.STRATEGIES
    loss: str  # of LOSSES
    oversampled: bool

    @property
    def name(self) -> str:
        return f"{self.truncation}-{self.loss}-{'oversampled' if self.oversampled else 'plain'}"

    @property
    def data(self) -> str:
        """Name of its data set: the loss does not matter to it."""
        return f"{self.truncation}-{'oversampled' if self.oversampled else 'plain'}"


GRID = tuple(Cell(*choice) for choice in itertools.product(STRATEGIES, LOSSES, (False, True)))


def pairs_file(folder: str | Path, cell: Cell) -> Path:
    """The cell's evaluation pairs (the same traces in every cell, truncated its way)."""
    return Path(folder) / "data" / "offline_test_data" / f"{cell.data}.jsonl"


def scores_file(folder: str | Path, cell: Cell) -> Path:
    """The scores of the cell's judge; a packed .jsonl.gz where there is no plain file."""
    path = Path(folder) / f"scores_{cell.name}.jsonl"
    packed = path.with_name(path.name + ".gz")
    return packed if packed.is_file() and not path.is_file() else path


def table(folder: str | Path, scores: str | Path | None = None, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Metrics of the cells that are scored, in grid order: the columns of study.table, and the paper's figures.

    scores: folder of the scores (default: the same; a packed .jsonl.gz is taken too). Raises UserError if no cell
    is scored, or if a cell was scored on other pairs.
    """
    rows = []
    for cell in GRID:
        path = scores_file(scores or folder, cell)
        if not path.is_file():
            continue
        data = study.frame(pairs_file(folder, cell), {cell.name: path})
        row = study.table(data, resamples=resamples, seed=seed).iloc[0].to_dict()
        stated = paper.ABLATION[cell.truncation, cell.loss, cell.oversampled]
        rows.append(
            {"cell": cell.name, **dataclasses.asdict(cell)}
            | {k: v for k, v in row.items() if k not in ("group", "judge")}
            | {"paper AUROC": stated["AUROC"], "paper TNR@0.2": stated.get("TNR@0.2")}
        )
    if not rows:
        raise UserError(f"{scores or folder}: no scores of the grid; run scripts/run_ablation.py")
    return pd.DataFrame(rows)


def effects(folder: str | Path, scores: str | Path | None = None, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """What each factor does to the AUROC, averaged over the other two: factor, AUROC (difference), low, high.

    The cells are resampled together (the same problems, 95 % intervals). Raises UserError unless all eight cells
    are scored on pairs of the same traces.
    """
    columns, first = {}, None
    for cell in GRID:
        path = scores_file(scores or folder, cell)
        data = study.frame(pairs_file(folder, cell), {cell.name: path})
        traces = [(p.trace_a, p.trace_b) for p in records.read(records.Pair, pairs_file(folder, cell))]
        if first is None:
            first, labels, problems = traces, data["label"].to_numpy(), data["problem_id"].to_list()
        if traces != first:
            raise UserError(
                f"{pairs_file(folder, cell)}: other traces are paired than in the first cell; make the pairs again"
            )
        columns[cell] = data[cell.name].to_numpy()
    factors = {
        "reasoning words instead of tokens": lambda c: c.truncation == "words",
        "focal loss instead of cross-entropy": lambda c: c.loss == "focal",
        "oversampling instead of none": lambda c: c.oversampled,
    }
    # One AUROC a cell and resample, shared by the three factors.
    per_cell: dict[int, dict[Cell, float]] = {}

    def difference(rows: np.ndarray, on) -> float:
        key = hash(rows.tobytes())
        if key not in per_cell:
            per_cell[key] = {c: metrics.auroc(labels[rows], p[rows]) for c, p in columns.items()}
        areas = per_cell[key]
        return float(
            np.mean([a for c, a in areas.items() if on(c)]) - np.mean([a for c, a in areas.items() if not on(c)])
        )

    table = []
    for name, on in factors.items():
        value, low, high = metrics.bootstrap(problems, lambda r, on=on: difference(r, on), resamples, seed)
        table.append({"factor": name, "AUROC": value, "low": low, "high": high})
    return pd.DataFrame(table)
