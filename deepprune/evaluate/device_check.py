"""What a device computed, held against what a CPU computed: the lines of benchmarks/gpu_check.py and their report.

A line says what was compared, how large the difference is and how large it may be. A value that is missing or not
finite never passes.

    A line: {"check": "train-lora-auto", "compared": "mean loss of the last 20 steps, difference to the CPU's",
             "figure": "0.021 (0.2144 and 0.1934)", "limit": "at most 0.15", "result": "PASS"}
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepprune.base import jsonl
from deepprune.evaluate import plotting, tables

PASS, FAIL, LEFT_OUT, NOT_RUN = "PASS", "FAIL", "left out", "not run"


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of the table. figure: what was measured, as text; limit: what it may be."""

    check: str
    compared: str
    figure: str
    limit: str
    result: str


def at_most(check: str, compared: str, value: float, limit: float, more: str = "") -> Line:
    """PASS if the value is finite and at most the limit. more: said beside the figure."""
    passed = math.isfinite(value) and value <= limit
    return Line(check, compared, f"{value:.4g}{more}", f"at most {limit:g}", PASS if passed else FAIL)


def at_least(check: str, compared: str, value: float, limit: float) -> Line:
    """PASS if the value is finite and at least the limit."""
    passed = math.isfinite(value) and value >= limit
    return Line(check, compared, f"{value:.4g}", f"at least {limit:g}", PASS if passed else FAIL)


def equal(check: str, compared: str, value: Any, wanted: Any) -> Line:
    """PASS if the two are equal."""
    return Line(check, compared, f"{value}", f"{wanted}", PASS if value == wanted else FAIL)


def broken(check: str, error: str) -> Line:
    """The line of a check that did not run to its end. error: its last error line."""
    return Line(check, "runs to its end", " ".join(error.split()) or "no message", "", FAIL)


@dataclasses.dataclass(frozen=True)
class LossLimits:
    """How far a training's losses may lie from the CPU's.

    first: share of the loss before the first update; last: nats a target.
    """

    first: float
    last: float


# Steps with the weights of the start: the first one's learning rate is 0 (warm-up).
BEFORE_UPDATE = 2


def losses(
    check: str,
    here: Sequence[float],
    gradients: Sequence[float],
    steps: int,
    reference: Sequence[float] | None,
    limits: LossLimits,
) -> list[Line]:
    """Lines of a training. here, reference: the loss at each step, in nats a target; gradients: norms; steps: how many
    there should be; reference None: nothing to compare with.

    Compared are the losses of the first weights, which only rounding moves, and how far the second half has come:
    between, Adam's first steps follow the signs of gradients, and one sign that rounding turns changes all losses
    after.
    """
    values = [*here, *gradients]
    finite = sum(math.isfinite(x) for x in values)
    lines = [equal(check, "steps", len(here), steps)]
    lines.append(equal(check, "losses and gradient norms that are finite", finite, 2 * steps))
    lines.append(equal(check, "steps whose gradient is 0", sum(g == 0 for g in gradients), 0))
    if reference and len(here) == len(reference):
        first = largest(abs(a - b) / b for a, b in zip(here[:BEFORE_UPDATE], reference[:BEFORE_UPDATE], strict=True))
        what = f"loss of the first {BEFORE_UPDATE} steps, before an update: largest share of difference to the CPU's"
        lines.append(at_most(check, what, first, limits.first))
        half = len(reference) // 2
        last, wanted = (sum(values[half:]) / (len(reference) - half) for values in (here, reference))
        what = f"mean loss of the last {len(reference) - half} steps, difference to the CPU's"
        lines.append(at_most(check, what, abs(last - wanted), limits.last, f" ({last:.4g} and {wanted:.4g})"))
    return lines


def largest(values: Iterable[float]) -> float:
    """The largest; NaN if one is NaN, or if there is none."""
    values = list(values)
    return math.nan if not values or any(map(math.isnan, values)) else max(values)


def scores(
    check: str, here: Mapping[str, float], reference: Mapping[str, float], limit: float, whose: str
) -> list[Line]:
    """Lines of two sets of p_same by pair id. whose: what `reference` is, in words."""
    lines = [equal(check, f"pairs scored, as {whose}", len(set(here) & set(reference)), len(reference))]
    differences = [abs(here[i] - reference[i]) for i in reference if i in here]
    most = largest(differences)
    mean = sum(differences) / len(differences) if differences else math.nan
    lines.append(at_most(check, f"p_same, largest difference to {whose}", most, limit, f" (mean {mean:.2g})"))
    return lines


def tokens(
    check: str,
    traces: Mapping[str, tuple[int, str]],
    token_ids: Mapping[str, Sequence[int]],
    counted: int | None,
    decode: Callable[[Sequence[int]], str],
) -> list[Line]:
    """Lines of sampled traces. traces: request -> (tokens recorded, text); token_ids: as the engine gave them.

    counted: tokens by the engine; decode: token ids -> text without special tokens. A last character that was cut in
    two is not compared.
    """
    recorded = sum(n for n, _ in traces.values())
    same_length = sum(len(token_ids.get(name, ())) == n for name, (n, _) in traces.items())
    same_text = sum(
        name in token_ids and decode(token_ids[name]).rstrip("\ufffd") == text.rstrip("\ufffd")
        for name, (_, text) in traces.items()
    )
    return [
        equal(check, "traces whose recorded count is that of their token ids", same_length, len(traces)),
        equal(check, "traces whose text is that of their token ids", same_text, len(traces)),
        equal(check, "tokens recorded, against the engine's counter", recorded, counted),
    ]


def live(
    check: str,
    answered: int,
    questions: int,
    recorded: int,
    traced: int,
    counted: int | None,
    left: int | None,
    alive: int,
) -> list[Line]:
    """Lines of live pruning. recorded: tokens by the Pruning records; traced: by the traces; counted: by the engine.

    left: requests; alive: processes.
    """
    return [
        equal(check, "questions answered", answered, questions),
        equal(check, "tokens of the records, against the engine's counter", recorded, counted),
        equal(check, "tokens of the traces, against the engine's counter", traced, counted),
        equal(check, "requests left in the engine", left, 0),
        equal(check, "processes left running", alive, 0),
    ]


def to_markdown(
    lines: Sequence[Line],
    machine: Mapping[str, Any],
    seconds: Mapping[str, float],
    measured: Mapping[str, Mapping[str, Any]],
    figures: Sequence[str],
) -> str:
    """The report as a page. machine: what it ran on; seconds: by check; measured: speeds and memory by check."""
    count = {result: sum(line.result == result for line in lines) for result in (PASS, FAIL, LEFT_OUT, NOT_RUN)}
    times = [
        {
            "check": check,
            "seconds": f"{time:.0f}",
            "measured": ", ".join(f"{name} {value}" for name, value in measured.get(check, {}).items()),
        }
        for check, time in seconds.items()
    ]
    about = {name: value for name, value in machine.items() if not isinstance(value, dict)}
    about |= machine.get("packages", {})
    parts = [
        f"# GPU check: {machine['device']}",
        ", ".join(f"{number} {result}" for result, number in count.items() if number or result in (PASS, FAIL)),
        tables.markdown([dataclasses.asdict(line) for line in lines]),
        tables.markdown(times),
        tables.markdown([{"machine": name, "": value} for name, value in about.items()]),
        *(f"![{Path(figure).stem}]({figure})" for figure in figures),
    ]
    return "\n\n".join(parts) + "\n"


def draw(
    folder: Path,
    trained: Mapping[str, Sequence[float]],
    judged: Mapping[str, Mapping[str, float]],
    reference: Mapping[str, Any],
    device: str,
) -> list[str]:
    """losses.png and p_same.png, of what was run; returns their names. trained: check -> losses; judged: -> p_same.

    reference: the CPU's values, as benchmarks/gpu_check_cpu.json holds them.
    """
    figures = {}
    if trained:
        figures["losses.png"] = _losses_figure(trained, reference["losses"], device)
    if judged:
        figures["p_same.png"] = _scores_figure(judged, reference["p_same"], device)
    for name, figure in figures.items():
        plotting.save(figure, folder / name)
    return list(figures)


def _losses_figure(trained: Mapping[str, Sequence[float]], reference: Mapping[str, Any], device: str) -> Any:
    """Losses by step, a panel a kind of training. reference: kind -> losses."""
    figure, axes = plotting.plt.subplots(1, 2, figsize=(8, 3.2), squeeze=False, layout="constrained")
    for axis, kind in zip(axes[0], ("lora", "full"), strict=True):
        curves = {"CPU, float32 (reference)": reference[kind]} if kind in reference else {}
        curves |= {f"{check} on {device}": values for check, values in trained.items() if f"-{kind}-" in check}
        for name, values in curves.items():
            axis.plot(range(1, len(values) + 1), values, "k:" if name.startswith("CPU") else "-", label=name, alpha=0.8)
        axis.set(xlabel="optimizer step", ylabel="focal loss (nats a target)", title=kind)
        axis.legend(fontsize=6)
    return figure


def _scores_figure(judged: Mapping[str, Mapping[str, float]], reference: Mapping[str, float], device: str) -> Any:
    """p_same against the CPU's."""
    figure, axis = plotting.plt.subplots(figsize=(4.6, 4.2))
    axis.plot([0, 1], [0, 1], ":", color="grey")
    for check, values in judged.items():
        both = [i for i in reference if i in values]
        x, y = [reference[i] for i in both], [values[i] for i in both]
        axis.plot(x, y, ".", markersize=3, label=f"{check} ({len(both)} pairs)")
    axis.set(xlabel="p_same on CPU, float32, transformers (reference)", ylabel=f"p_same on {device}")
    axis.legend(fontsize=6)
    return figure


def write(
    folder: Path,
    lines: Sequence[Line],
    machine: Mapping[str, Any],
    seconds: Mapping[str, float],
    measured: Mapping[str, Mapping[str, Any]],
    figures: Sequence[str],
) -> None:
    """report.md, checks.csv and report.json."""
    rows = [dataclasses.asdict(line) for line in lines]
    jsonl.write_text(folder / "report.md", to_markdown(lines, machine, seconds, measured, figures))
    jsonl.write_text(folder / "checks.csv", pd.DataFrame(rows).to_csv(index=False))
    everything = {"machine": machine, "lines": rows, "seconds": seconds, "measured": measured}
    jsonl.write_json(folder / "report.json", everything)
