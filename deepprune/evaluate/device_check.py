"""What a device computed, held against what a CPU computed: the lines of benchmarks/gpu_check.py and their report.

A line says what was compared, how large the difference is and how large it may be. A value that is missing or not
finite never passes.

    {"check": "train-lora-auto", "compared": "mean loss of the last 20 steps, difference to the CPU's",
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

    def told(self) -> str:
        """The line without its check and result, in words."""
        return f"{self.compared}{self.figure and f': {self.figure}'}{self.limit and f' (limit: {self.limit})'}"


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
        what = f"loss of the first {BEFORE_UPDATE} steps, before an update: largest share that differs from the CPU's"
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


def counts(lines: Sequence[Line]) -> str:
    """How many lines say what: '12 PASS, 0 FAIL, 2 left out'."""
    count = {result: sum(line.result == result for line in lines) for result in (PASS, FAIL, LEFT_OUT, NOT_RUN)}
    return ", ".join(f"{number} {result}" for result, number in count.items() if number or result in (PASS, FAIL))


def to_markdown(
    lines: Sequence[Line],
    machine: Mapping[str, Any],
    seconds: Mapping[str, float],
    measured: Mapping[str, Mapping[str, Any]],
    figures: Sequence[str],
) -> str:
    """The report as a page. machine: what it ran on; seconds: by check; measured: speeds and memory by check."""
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
        counts(lines),
        tables.markdown([dataclasses.asdict(line) for line in lines]),
        tables.markdown(times),
        tables.markdown([{"machine": name, "": value} for name, value in about.items()]),
        *(f"![{Path(figure).stem}]({figure})" for figure in figures),
    ]
    return "\n\n".join(parts) + "\n"


def draw_losses(
    measured: Mapping[str, Mapping[str, Any]], reference: Mapping[str, Sequence[float]], limit: float, device: str
) -> Any:
    """A panel a kind of training: losses here and the CPU's, and the band in which the second half's mean should lie.

    measured: by check, "losses" at each step; reference: the CPU's, by kind; limit: nats a target.
    """
    figure, axes = plotting.plt.subplots(1, len(reference), figsize=(4.6 * len(reference), 3.6), squeeze=False)
    for axis, (kind, cpu) in zip(axes[0], sorted(reference.items(), reverse=True), strict=True):
        half, steps = len(cpu) // 2, range(1, len(cpu) + 1)
        mean = sum(cpu[half:]) / (len(cpu) - half)
        for number, attention in enumerate(("auto", "eager")):
            losses = measured.get(f"train-{kind}-{attention}", {}).get("losses")
            if losses:
                name = {"auto": "automatic", "eager": "eager"}[attention]
                axis.plot(range(1, len(losses) + 1), losses, color=f"C{number}", lw=1.2, label=f"{name} attention")
                late = losses[half:]
                if late:
                    axis.plot(
                        [half + 1, len(losses)], [sum(late) / len(late)] * 2, color=f"C{number}", lw=2.5, alpha=0.6
                    )
        axis.plot(steps, cpu, "k:", lw=1.2, label="a CPU, float32")
        band = f"the CPU's mean of these steps, ± {limit:g}"
        axis.fill_between([half + 1, len(cpu)], mean - limit, mean + limit, color="grey", alpha=0.25, lw=0, label=band)
        axis.set(xlabel="optimizer step", yscale="log", title={"lora": "LoRA", "full": "all weights"}.get(kind, kind))
        axis.set_yticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
        axis.minorticks_off()
        axis.legend(fontsize=7, loc="upper right")
    axes[0][0].set_ylabel("focal loss (nats a target, log scale)")
    figure.suptitle(f"{device}: training; thick lines: the mean of the second half", fontsize=9)
    figure.tight_layout()
    return figure


def draw_scores(
    measured: Mapping[str, Mapping[str, Any]],
    reference: Mapping[str, float],
    limits: Mapping[str, float],
    device: str,
) -> Any:
    """A panel a type of weights: by how much each pair's p_same lies above the CPU's, and the limit.

    measured: by check, "p_same" by type and pair id; reference: the CPU's; limits: by type.
    """
    dtypes = list(dict.fromkeys(dtype for values in measured.values() for dtype in values["p_same"]))
    figure, axes = plotting.plt.subplots(1, len(dtypes), figsize=(4.6 * len(dtypes), 3.6), squeeze=False)
    for axis, dtype in zip(axes[0], dtypes, strict=True):
        for check, values in measured.items():
            p_same = values["p_same"].get(dtype, {})
            pairs = [pair for pair in reference if pair in p_same]
            moved = [p_same[pair] - reference[pair] for pair in pairs]
            label = f"{check.removeprefix('scores-')} ({len(pairs)} pairs)"
            axis.plot([reference[pair] for pair in pairs], moved, ".", ms=4, alpha=0.6, label=label)
        for side, label in ((-1, None), (1, f"limit: ± {limits[dtype]:g}")):
            axis.axhline(side * limits[dtype], color="black", ls="--", lw=1, label=label)
        axis.set(xlabel="p_same on a CPU (float32, transformers)", title=f"{dtype} here")
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
    axes[0][0].set_ylabel("p_same here minus the CPU's")
    figure.suptitle(f"{device}: scoring", fontsize=9)
    figure.tight_layout()
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
