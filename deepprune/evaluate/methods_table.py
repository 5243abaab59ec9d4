"""The comparison of methods as a table: means over questions with intervals, its main rows, and what to draw of it.

A row a method; columns: KEYS of deepprune/evaluate/methods.py, m (of cons@m), FIELDS there with 'accuracy low' and
'accuracy high', over_cons_n and over_cons with their intervals, reduction and reduction_no_judge (`table`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from deepprune.base import metrics
from deepprune.evaluate import tables
from deepprune.evaluate.methods import FIELDS, KEYS

UNKNOWN = "unknown"
INTERVALS = ("accuracy", "over_cons_n", "over_cons")


def table(rows: Sequence[dict], resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """A row a method: means over questions, intervals of the accuracy, and two paired differences with intervals.

    rows: of methods.compare. over_cons_n: accuracy minus cons@n's. over_cons: accuracy minus that of cons@m with the
    same m for all questions and the same total tokens (linear between two m): what a random subset of as many tokens
    gets. reduction: 1 - total / tokens of cons@n; reduction_no_judge: the judge not counted. What depends on the size
    of a judge whose size is not known is nan.
    """
    n = min(r["n"] for r in rows)
    lengths = np.asarray([r["length"] for r in rows])
    cons, pass_at, longest = (np.asarray([r[k][:n] for r in rows]) for k in ("cons", "pass", "longest"))

    def interval(values: np.ndarray, name: str) -> dict[str, float]:
        value, low, high = metrics.bootstrap(range(len(rows)), lambda r: float(values[r].mean()), resamples, seed)
        return {name: value, f"{name} low": low, f"{name} high": high}

    def differences(accuracy: np.ndarray, at_equal_tokens: np.ndarray) -> dict[str, float]:
        return (
            interval(accuracy, "accuracy")
            | interval(accuracy - cons[:, n - 1], "over_cons_n")
            | interval(accuracy - at_equal_tokens, "over_cons")
        )

    result = []
    for m in sorted({*(2**i for i in range(int(math.log2(n)) + 1)), n}):
        tokens, accuracy, coverage = m * lengths.mean(), cons[:, m - 1], pass_at[:, m - 1].mean()
        row = {"method": f"cons@{m}", "m": m, "tokens": tokens, "total": tokens, "total_uncached": tokens}
        row |= {"sequential": longest[:, m - 1].mean(), "opened": m, "finished": m}
        row |= {"coverage": coverage, "represented": coverage}
        result.append(row | differences(accuracy, accuracy))
    for index, method in enumerate(rows[0]["methods"]):
        if any({k: r["methods"][index][k] for k in KEYS} != {k: method[k] for k in KEYS} for r in rows):
            raise ValueError("the rows hold different methods")
        values = {f: np.asarray([r["methods"][index][f] for r in rows], dtype=np.float64) for f in FIELDS}
        row = {k: method[k] for k in KEYS} | {f: float(v.mean()) for f, v in values.items()}
        at_equal_tokens = _cons_at_tokens(cons, lengths.mean(), values["total"].mean())
        result.append(row | differences(values["accuracy"], at_equal_tokens))
    numbers = pd.DataFrame(result)
    consensus = n * lengths.mean()
    numbers["reduction"] = 1.0 - numbers["total"] / consensus
    numbers["reduction_no_judge"] = 1.0 - numbers["tokens"] / consensus
    return numbers


def _cons_at_tokens(cons: np.ndarray, length: float, tokens: float) -> np.ndarray:
    """By question: the accuracy of as many traces as cost so many tokens. cons[question][m - 1]; length: of a trace."""
    if math.isnan(tokens):
        return np.full(len(cons), math.nan)
    n = cons.shape[1]
    m = min(max(tokens / length, 1.0), float(n))
    low = int(m)
    high = min(low + 1, n)
    return cons[:, low - 1] + (m - low) * (cons[:, high - 1] - cons[:, low - 1])


def read(path: str | Path) -> pd.DataFrame:
    """A table as Online/compare_methods.py and Online/simulate_paper_scale.py write it (CSV)."""
    return pd.read_csv(path)


def usual(pruned: pd.DataFrame) -> pd.DataFrame:
    """Of pruned rows those with tau nearest 0.5 and the largest K and K2."""
    taus = sorted(pruned["tau"].dropna().unique(), key=lambda tau: (abs(tau - 0.5), tau))
    rows = pruned[pruned["tau"] == taus[0]] if taus else pruned
    return rows[(rows["K"] == rows["K"].max()) & (rows["K2"] == rows["K2"].max())]


def full_rule(pruned: pd.DataFrame) -> pd.DataFrame:
    """The paper's rule as it stands in the paper: the largest K1, and the first way to ask and to assign."""
    rows = pruned[(pruned["method"] == "paper") & (pruned["K1"] == pruned["K1"].max())]
    return _asked_as(rows, pruned, 0)


def cheapest_asked(pruned: pd.DataFrame) -> pd.DataFrame:
    """Every rule with the last way to ask and to assign, and the smallest or the largest K1."""
    rows = pruned[pruned["K1"].isin([pruned["K1"].min(), pruned["K1"].max()])]
    return _asked_as(rows, pruned, -1)


def _asked_as(rows: pd.DataFrame, pruned: pd.DataFrame, which: int) -> pd.DataFrame:
    """The rows of the which-th pair of asks and assign in `pruned`."""
    if pruned.empty:
        return rows
    asks, assign = pruned[["asks", "assign"]].drop_duplicates().iloc[which]
    return rows[(rows["asks"] == asks) & (rows["assign"] == assign)]


def digest(numbers: pd.DataFrame) -> pd.DataFrame:
    """What to read first: baselines, posterior; of each judge, as `usual`, `full_rule` and `cheapest_asked`."""
    pruned = numbers["judge"].notna() & numbers["tau"].notna()
    rows = usual(numbers[pruned])
    shown = full_rule(rows).index.union(cheapest_asked(rows).index)
    return pd.concat([numbers[~pruned], rows.loc[rows.index.isin(shown)]])


def readable(numbers: pd.DataFrame) -> pd.DataFrame:
    """The rows as text, one cell a value with its interval; what is not known is 'unknown'."""
    shown = numbers[list(KEYS)].copy()
    for name in ("tau", "K", "K1", "K2"):
        shown[name] = [tables.number(value, "g") for value in numbers[name]]
    for name in INTERVALS:
        shown[name] = [tables.interval(row, name, missing=UNKNOWN) for _, row in numbers.iterrows()]
    forms = {"total": ",.0f", "reduction": ".1%", "reduction_no_judge": ".1%", "sequential": ",.0f", "coverage": ".3f"}
    for name, form in forms.items():
        shown[name] = [tables.number(value, form, UNKNOWN) for value in numbers[name]]
    shown["diversity"] = [tables.number(value) for value in numbers["diversity"]]  # cons@m has none
    return shown.fillna("")


TITLES = {
    "tau": "τ",
    "over_cons_n": "over cons@n",
    "over_cons": "over cons at equal tokens",
    "total": "total tokens",
    "reduction": "reduction, judge counted",
    "reduction_no_judge": "not counted",
}


def to_markdown(numbers: pd.DataFrame, what: str) -> str:
    """The table as a page: one row a method, intervals in brackets."""
    page = (
        f"{what}. Brackets: 95 % bootstrap intervals over problems, differences paired. Tokens are reasoner tokens a "
        "problem; a judge's computed prompt tokens are weighted by parameters. *asks*: which comparisons the judge is "
        "asked for; *assign*: which cluster above τ a trace joins. *Over cons at equal tokens*: accuracy minus that of "
        "cons@m with the same total tokens. *Sequential*: longest chain of dependent generation.\n\n"
        f"{tables.markdown(readable(numbers).rename(columns=TITLES))}\n"
    )
    left_out = unknown_cost(numbers)
    if left_out:
        page += f"\n{UNKNOWN}: the size of {', '.join(left_out)} is not known, so what it costs is not either.\n"
    return page


def unknown_cost(numbers: pd.DataFrame) -> list[str]:
    """The judges whose cost is not known."""
    return list(dict.fromkeys(numbers.loc[numbers["total"].isna(), "judge"]))


def front(points: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The rows that no other row beats (as accurate for a lower cost, or more accurate for the same), cheapest first.

    cost: a column; rows whose cost is not known are left out.
    """
    rows, best = [], -math.inf
    for index, row in points.dropna(subset=[cost]).sort_values([cost, "accuracy"], ascending=[True, False]).iterrows():
        if row["accuracy"] > best:
            best = row["accuracy"]
            rows.append(index)
    return points.loc[rows]


def varied(numbers: pd.DataFrame) -> list[str]:
    """The settings of KEYS that differ among the pruned rows: what a figure must say of a point."""
    pruned = numbers[numbers["judge"].notna()]
    return [key for key in KEYS[2:] if pruned[key].nunique() > 1]


def short_settings(row: pd.Series, keys: Sequence[str]) -> str:
    """A row's settings in a few words: 'τ 0.5, K1 10, likely, largest'."""
    has = [key for key in keys if not pd.isna(row[key])]
    return ", ".join(row[key] if key in ("asks", "assign") else f"{TITLES.get(key, key)} {row[key]:g}" for key in has)
