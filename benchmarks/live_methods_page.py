"""The tables and figures of benchmarks/live_methods.py, from its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepprune.base import jsonl, metrics
from deepprune.evaluate import plotting, tables
from deepprune.prune import costs

MOST = 6  # series of a panel
PARTS = ("generating", "judging", "both", "neither")


def places(output: str | Path) -> list[Path]:
    """The files beside the rows."""
    base = Path(output).with_suffix("")
    return [Path(f"{base}.{what}") for what in ("md", "tokens.png", "seconds.png")]


def write(
    rows: Sequence[dict],
    titles: Mapping[str, bool],
    sizes: tuple[float | None, float | None],
    what: str,
    output: str | Path,
) -> list[dict]:
    """Write tables and figures of the questions that all methods have answered; returns the numbers.

    titles: the methods, the first of which the others are compared with, and whether each needs a judge. sizes:
    parameters of judge and reasoner (None: unknown). Raises UserError if there is no such question.
    """
    by_method = together(rows, list(titles))
    numbers = table(by_method, sizes)
    numbers["judged"] = pd.Series(titles)
    first = next(iter(by_method.values()))
    line = consensus_line(first)
    page, tokens, seconds = places(output)
    what = f"{what}: {len(first)} questions"
    text = to_markdown(numbers, by_method, what)
    jsonl.write_text(page, text)
    plotting.save(accuracy_figure(numbers, line, what), tokens)
    plotting.save(seconds_figure(numbers, what), seconds)
    print(text)
    return jsonl.nan_to_none(numbers.reset_index().to_dict("records"))


def together(rows: Sequence[dict], titles: Sequence[str]) -> dict[str, list[dict]]:
    """Each method's rows of the questions that all of them have answered, in one order."""
    answered = {title: {row["problem_id"]: row for row in rows if row["method"] == title} for title in titles}
    common = [q for q in answered[titles[0]] if all(q in of for of in answered.values())]
    return {title: [of[q] for q in common] for title, of in answered.items()}


def table(by_method: dict[str, list[dict]], sizes: tuple[float | None, float | None]) -> pd.DataFrame:
    """A row a method: means over questions, and against the first method in pairs, with 95 % intervals (low, high).

    tokens: generated, by the engine's counter where it can be read; total: with the judge's, weighted by parameters
    (NaN: a size is unknown). Ratios are of sums.
    """
    reference = next(iter(by_method.values()))
    result = []
    for title, rows in by_method.items():
        values = {name: [of(row, sizes) for row in rows] for name, of in COLUMNS.items()}
        base = {name: [of(row, sizes) for row in reference] for name, of in COLUMNS.items()}
        row: dict[str, Any] = {"method": title}
        for name in COLUMNS:
            _put(row, name, len(rows), lambda chosen, v=values[name]: sum(v[i] for i in chosen) / len(chosen))
        for name in ("tokens", "total", "seconds", "sequential"):
            v, b = values[name], base[name]
            ratio = lambda chosen, v=v, b=b: sum(v[i] for i in chosen) / sum(b[i] for i in chosen)  # noqa: E731
            _put(row, f"{name} ratio", len(rows), ratio)
        v, b = values["accuracy"], base["accuracy"]
        _put(row, "gain", len(rows), lambda chosen, v=v, b=b: sum(v[i] - b[i] for i in chosen) / len(chosen))
        row["our count"] = sum(r["tokens"]["total"] for r in rows) / sum(values["tokens"])
        result.append(row)
    return pd.DataFrame(result).set_index("method")


def _put(row: dict, name: str, count: int, statistic: Callable[[Any], float]) -> None:
    row[name], row[f"{name} low"], row[f"{name} high"] = metrics.bootstrap(range(count), statistic)


def _total(row: dict, sizes: tuple[float | None, float | None]) -> float:
    judge = (
        costs.equivalent_tokens(row["judge_tokens"], row["judge_cached_tokens"], *sizes) if row["judge_calls"] else 0
    )
    return float("nan") if judge is None else COLUMNS["tokens"](row, sizes) + judge


COLUMNS: dict[str, Callable[[dict, Any], float]] = {
    "tokens": lambda row, _: row["tokens"]["total"] if row["engine_tokens"] is None else row["engine_tokens"],
    "total": _total,
    "seconds": lambda row, _: row["seconds"],
    "sequential": lambda row, _: row["tokens"]["sequential"],
    "accuracy": lambda row, _: float(row["correct"]),
    "judge tokens": lambda row, _: row["judge_tokens"],
}


def consensus_line(rows: Sequence[dict]) -> list[tuple[float, float]]:
    """(tokens, accuracy) of cons@m for m = 1, 2, 4 ... n, exact over all choices of m of the n traces."""
    whole = [row for row in rows if "labels" in row]
    if not whole:
        return []
    n = len(whole[0]["labels"])
    length = sum(sum(row["lengths"]) for row in whole) / (n * len(whole))
    points = []
    for m in sorted({2**k for k in range(n.bit_length()) if 2**k <= n} | {n}):
        accuracy = 0.0
        for row in whole:
            known = [label for label in row["labels"] if label is not None]
            counts = [known.count(label) for label in range(max(known, default=-1) + 1)]
            accuracy += metrics.cons_at_k(counts, row["right"], n - len(known), m) / len(whole)
        points.append((m * length, accuracy))
    return points


def to_markdown(numbers: pd.DataFrame, by_method: dict[str, list[dict]], what: str) -> str:
    """The tables, for reading."""
    first = numbers.index[0]
    cells = []
    for title, row in numbers.iterrows():
        cells.append(
            {
                "method": title,
                "tokens": tables.interval(row, "tokens", ",.0f"),
                "with the judge's": tables.interval(row, "total", ",.0f"),
                "seconds": tables.interval(row, "seconds", ",.1f"),
                "sequential tokens": tables.number(row["sequential"], ",.0f"),
                "accuracy": tables.interval(row, "accuracy", ".3f"),
                "judge tokens": tables.number(row["judge tokens"], ",.0f"),
            }
        )
    against = []
    for title, row in numbers.iloc[1:].iterrows():
        against.append(
            {
                "method": title,
                "tokens": tables.interval(row, "tokens ratio", ".2f"),
                "with the judge's": tables.interval(row, "total ratio", ".2f"),
                "seconds": tables.interval(row, "seconds ratio", ".2f"),
                "sequential tokens": tables.interval(row, "sequential ratio", ".2f"),
                "accuracy": tables.interval(row, "gain", "+.3f"),
            }
        )
    parts = [
        f"{what}. Means a question, with 95 % bootstrap intervals over questions.",
        tables.markdown(cells),
        f"Against {first}, in pairs: ratios, and the difference of accuracy.",
        tables.markdown(against),
        "Where the seconds go (share of each method's): traces are generated, the judge is busy, both, neither.",
        tables.markdown(_profiles(by_method)),
    ]
    return "\n\n".join(parts) + "\n"


def _profiles(by_method: dict[str, list[dict]]) -> list[dict[str, str]]:
    result = []
    for title, rows in by_method.items():
        seconds = sum(row["seconds"] for row in rows)
        shares = {part: sum(row["profile"][part] for row in rows) / seconds for part in PARTS}
        prompts = sum(row["tokens"].get("resumed", 0) for row in rows)
        cached = sum(row["tokens"].get("resumed_cached", 0) for row in rows)
        calls, batches = (sum(row[name] for row in rows) for name in ("judge_calls", "judge_batches"))
        result.append(
            {"method": title}
            | {part: f"{share:.0%}" for part, share in shares.items()}
            | {
                "pairs a batch": f"{calls / batches:.1f}" if batches else "",
                "resumed from the prefix cache": f"{cached / prompts:.0%}" if prompts else "",
                "traces started": f"{sum(row['started'] for row in rows) / len(rows):.1f}",
                "finished": f"{sum(row['finished'] for row in rows) / len(rows):.1f}",
                "stopped tokens": f"{sum(row['tokens'].get('stopped', 0) for row in rows) / len(rows):,.0f}",
            }
        )
    return result


def panels(numbers: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(title, rows) of each panel, six series at most: the methods without a judge, then those with one.

    The first method is in all of them, and the second panel repeats the cheapest of the first.
    """
    plain, judged = numbers[~numbers["judged"]], numbers[numbers["judged"]]
    groups = [("without a judge", plain.iloc[start : start + MOST]) for start in range(0, len(plain), MOST)]
    if len(judged):
        cheapest = plain.loc[[plain["tokens"].idxmin()]] if len(plain) else plain
        beside = pd.concat([plain.iloc[:1], cheapest]).drop_duplicates()
        groups.append(("with a judge", pd.concat([beside, judged.iloc[: MOST - len(beside)]])))
    return groups


def _figure(numbers: pd.DataFrame, title: str) -> tuple[Any, list[tuple[Any, str, pd.DataFrame]]]:
    groups = panels(numbers)
    figure, axes = plotting.plt.subplots(
        1, len(groups), figsize=(4.6 * len(groups), 4.8), squeeze=False, sharey=True, layout="constrained"
    )
    figure.suptitle(title, fontsize=10)
    for axis, (name, _) in zip(axes[0], groups, strict=True):
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.3)
    return figure, [(axis, name, rows) for axis, (name, rows) in zip(axes[0], groups, strict=True)]


def _point(axis: Any, row: pd.Series, x: str, y: str, scale: tuple[float, float], **look: Any) -> None:
    """A method's point with its intervals."""
    ends = []
    for name, by in ((x, scale[0]), (y, scale[1])):
        low, high = (row[f"{name} {end}"] if pd.notna(row[f"{name} {end}"]) else row[name] for end in ("low", "high"))
        ends.append([[(row[name] - low) / by], [(high - row[name]) / by]])
    axis.errorbar(row[x] / scale[0], row[y] / scale[1], xerr=ends[0], yerr=ends[1], capsize=2, linestyle="none", **look)


def _looks(numbers: pd.DataFrame) -> dict[str, dict[str, str]]:
    """A method's colour and marker, the same in every panel."""
    colours = [f"C{i}" for i in range(10) if i != 7]  # grey is cons@m's
    return {
        title: {"color": colours[i % len(colours)], "marker": "osD^vPX*<>"[i % 10]}
        for i, title in enumerate(numbers.index)
    }


def _legend(axis: Any) -> None:
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, ncols=2)


def accuracy_figure(numbers: pd.DataFrame, line: Sequence[tuple[float, float]], what: str) -> Any:
    """Accuracy against tokens. Hollow: with the judge's tokens, weighted by parameters. Grey: cons@m for m up to n."""
    figure, axes = _figure(numbers, f"Accuracy against tokens (line: cons@m, m = 1, 2, 4 ...)\n{what}")
    looks = _looks(numbers)
    for axis, _, rows in axes:
        if line:
            axis.plot([x / 1000 for x, _ in line], [y for _, y in line], ".-", color="grey", linewidth=1)
        for title, row in rows.iterrows():
            _point(axis, row, "tokens", "accuracy", (1000, 1), label=title, **looks[title])
            if row["judged"] and pd.notna(row["total"]):
                _point(axis, row, "total", "accuracy", (1000, 1), markerfacecolor="white", **looks[title])
        axis.set_xlim(left=0)
        axis.set_xlabel("tokens a question (thousands; hollow: with the judge's)", fontsize=9)
        _legend(axis)
    axes[0][0].set_ylabel("accuracy")
    return figure


def seconds_figure(numbers: pd.DataFrame, what: str) -> Any:
    """Tokens against seconds."""
    figure, axes = _figure(numbers, f"Seconds against tokens\n{what}")
    looks = _looks(numbers)
    for axis, _, rows in axes:
        for title, row in rows.iterrows():
            _point(axis, row, "tokens", "seconds", (1000, 1), label=title, **looks[title])
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("tokens a question (thousands)", fontsize=9)
        _legend(axis)
    axes[0][0].set_ylabel("seconds a question")
    return figure
