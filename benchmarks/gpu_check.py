"""Does this machine's GPU compute what a CPU computed? Training, scoring, sampling, live pruning: PASS or FAIL.

    scripts/run_gpu_check.sh                      # after set-up; at most 10 minutes on one GPU
    scripts/run_gpu_check.sh --without vllm       # leaves out what the machine lacks
    scripts/run_gpu_check.sh --only live sample   # some checks; those that were run before stay in the report
    scripts/run_gpu_check.sh --cpu --write-reference   # makes benchmarks/gpu_check_cpu.json, with which all is compared

Models and data are those of the repository and its set-up: SmolLM2-135M-Instruct (the packaged weights, also where a
hub has others under the name), Offline/DeepPrune-Judge-mini, DeepPrune_data. Every check runs a stage as a user would,
in a process of its own. Without a GPU everything runs on the CPU.

- train-lora-auto, train-lora-eager, train-full-auto, train-full-eager: 40 steps of LLaMA-Factory/train.py, batches of 2
  rows with padding, 2 batches a step, automatic (sdpa) or eager attention, bfloat16 on a GPU: the losses against the
  CPU's.
- scores-transformers, scores-vllm: p_same of 300 pairs, in float32 and on a GPU in bfloat16, against the CPU's and each
  other's.
- sample: 64 traces; recorded counts and texts against the engine's token ids, and its counter.
- live: two questions pruned live, a reasoner and a judge on vLLM; its counts against the engine's, nothing left
  running.
- parallel-tensor, parallel-data: p_same of 64 pairs by a random model that is spread over two devices, and by two
  copies of it, against one process's; traces by two copies of SmolLM2; where there are two GPUs, or two cores on the
  CPU.

Writes OUTPUT/report.md, checks.csv, report.json, losses.png, p_same.png, and each check's log under OUTPUT/logs. Exit
code 1 if a check fails. Run it again to continue: checks that passed are skipped unless machine, packages, code or
settings are others.
"""

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpu_check_stages as stages
from gpu_check_stages import ROOT, SMOL, STUDY, Run

from deepprune.base import config, console, jsonl, provenance, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.processes import ProgramFailed
from deepprune.base.stage import command
from deepprune.engines import models
from deepprune.evaluate import device_check, plotting
from deepprune.evaluate.device_check import FAIL, LEFT_OUT, NOT_RUN, PASS, Line

REFERENCE = "benchmarks/gpu_check_cpu.json"


@dataclasses.dataclass
class GpuCheckSettings:
    output: str = setting("results/gpu_check", "folder of the report, and of what the checks make")
    cpu: bool = setting(False, "run on the CPU (vLLM's GPU build cannot: on a machine with a GPU it is left out)")
    compute_in: str | None = setting(
        None,
        "type to train in, and to score in beside float32 (default: on a GPU bfloat16 if it has it, on a CPU float32)",
        choices=("float32", "bfloat16", "float16"),
    )
    only: list[str] | None = setting(None, "only these checks", choices=None)
    without: list[str] = setting([], "leave out the checks that need these", choices=("vllm", "llamafactory"))
    limit_seconds: int = setting(1800, "a check that takes longer fails", at_least=1)
    write_reference: bool = setting(False, f"with --cpu: keep what was computed, as {REFERENCE}")
    overwrite: bool = setting(False, "run checks again that passed")


def machine(on_gpu: bool) -> dict[str, Any]:
    """What the checks run on: device, driver, cores, packages, commit."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cpu_name = f"{cpu[1] if cpu else 'CPU'}, {len(os.sched_getaffinity(0))} cores"
    described = {"device": cpu_name}
    if on_gpu:
        name, driver, memory = runtime.query_card("name,driver_version,memory.total") or (
            "an NVIDIA GPU",
            "unknown",
            "",
        )
        described = {"device": name, "driver": driver, "GPU memory, MiB": memory, "CPU": cpu_name}
    described["bfloat16 instructions of the CPU"] = "yes" if runtime.has_bfloat16() else "no"
    described["python"] = sys.version.split()[0]
    return described | {"commit": provenance.code_commit(), "packages": provenance.package_versions()}


def devices(on_gpu: bool) -> int:
    """GPUs that this process may use, or cores."""
    if not on_gpu:
        return len(os.sched_getaffinity(0))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return len(list(filter(None, visible.split(",")))) if visible else len(list(Path("/dev").glob("nvidia[0-9]*")))


def chosen(settings: GpuCheckSettings, count: int) -> Iterator[tuple[str, str, str]]:
    """Every check with PASS if it shall run, else LEFT_OUT or NOT_RUN and why. count: devices.

    Raises UserError for an unknown name.
    """
    unknown = set(settings.only or ()) - set(stages.CHECKS)
    if unknown:
        raise UserError(f"--only: there is no check {min(unknown)!r}; they are {', '.join(stages.CHECKS)}")
    for check, (function, needs) in stages.CHECKS.items():
        if needs in settings.without:
            yield check, LEFT_OUT, f"--without {needs}"
        elif function is stages.parallel and count < 2:
            yield check, LEFT_OUT, "there is one device"
        elif settings.only and check not in settings.only:
            yield check, NOT_RUN, "not among --only"
        else:
            yield check, PASS, ""


def before(run: Run, check: str, made_by: dict[str, Any]) -> dict[str, Any] | None:
    """What a check came to on this machine with this code, or None."""
    file = outcome_file(run, check)
    outcome = json.loads(file.read_text()) if file.is_file() else None
    return outcome if outcome and outcome["made_by"] == made_by else None


def outcome_file(run: Run, check: str) -> Path:
    return run.folder / "checks" / f"{check}.json"


def outcome_of(run: Run, check: str, made_by: dict[str, Any]) -> dict[str, Any]:
    """Run a check. Whatever breaks in it is a line that says FAIL."""
    started = time.monotonic()
    try:
        lines, measured = stages.CHECKS[check][0](run, check)
    except Exception as error:  # noqa: BLE001 - the other checks go on
        said = str(error) if isinstance(error, ProgramFailed | UserError) else f"{type(error).__name__}: {error}"
        lines, measured = [device_check.broken(check, said)], {}
    rows, seconds = [dataclasses.asdict(line) for line in lines], time.monotonic() - started
    outcome = {"lines": rows, "measured": measured, "seconds": seconds, "made_by": made_by}
    jsonl.write_json(outcome_file(run, check), outcome)
    return outcome


def run_checks(
    run: Run, plan: list[tuple[str, str, str]], made_by: dict[str, Any], overwrite: bool
) -> tuple[list[Line], dict[str, dict]]:
    """All lines of the table, and each check's outcome. made_by: what must be equal for an earlier one to be taken."""
    lines, outcomes = [], {}
    for check, planned, why in plan:
        earlier = before(run, check, made_by)
        if planned == LEFT_OUT or (planned == NOT_RUN and not earlier):
            lines.append(Line(check, why, "", "", planned))
            continue
        if planned == PASS and (overwrite or not earlier or any(line["result"] == FAIL for line in earlier["lines"])):
            print(f"{check}: ", end="", flush=True)
            earlier = None
        outcomes[check] = earlier or outcome_of(run, check, made_by)
        own = [Line(**line) for line in outcomes[check]["lines"]]
        lines += own
        if planned == PASS:
            told = f"{check}: as before, " if earlier else ""
            failed = [f"; {line.told()}" for line in own if line.result == FAIL]
            print(f"{told}{FAIL if failed else PASS}, {outcomes[check]['seconds']:.0f} s{''.join(failed)}", flush=True)
    return lines, outcomes


def write_reference(outcomes: dict[str, dict[str, Any]], weights: str) -> None:
    """Keep the CPU's values, with a manifest. Raises UserError if a check that gives them has failed."""
    needed = {"lora": "train-lora-auto", "full": "train-full-auto"}
    missing = [c for c in (*needed.values(), "scores-transformers") if not outcomes.get(c, {}).get("measured")]
    if missing:
        raise UserError(f"{REFERENCE} is not written: {', '.join(missing)} did not run to its end")
    target = ROOT / REFERENCE
    inputs = [ROOT / STUDY / name for name in ("train.jsonl.gz", "pairs.jsonl.gz")]
    note = Manifest.open(
        target,
        "gpu_check",
        {"dtype": "float32", "steps": stages.STEPS, "learning_rates": stages.LEARNING_RATES},
        inputs,
        overwrite=True,
        models={"judge": stages.JUDGE, "base": f"{SMOL} ({models.PACKAGED[SMOL].requirement})"},
    )
    losses = {kind: outcomes[check]["measured"]["losses"] for kind, check in needed.items()}
    p_same = outcomes["scores-transformers"]["measured"]["p_same"]["float32"]
    reference = {
        "weights": weights,
        "losses": {kind: [round(loss, 6) for loss in values] for kind, values in losses.items()},
        "p_same": {pair: round(p, 6) for pair, p in sorted(p_same.items())},
    }
    jsonl.write_json(target, reference)
    note.finish(len(p_same))
    print(f"{REFERENCE}: written")


@command
def main() -> None:
    settings = config.parse(GpuCheckSettings, None, __doc__)
    os.environ.update(console.quiet(os.environ))
    on_gpu = runtime.has_gpu() and not settings.cpu
    if not on_gpu:
        print("this machine has no NVIDIA GPU" if not runtime.has_gpu() else "on the CPU, as asked", end=": ")
        print("everything runs on the CPU, and is compared with what another CPU computed")
    if settings.cpu and runtime.has_gpu() and "vllm" not in settings.without:
        print("vLLM's GPU build does not run on a CPU: its checks are left out")
        settings.without = [*settings.without, "vllm"]
    plan = list(chosen(settings, devices(on_gpu)))
    if settings.write_reference and (on_gpu or settings.compute_in not in (None, "float32")):
        raise UserError("--write-reference keeps what a CPU computes in float32: give --cpu")
    dtype = settings.compute_in or (runtime.compute_dtype("auto") if on_gpu else "float32")
    base = models.from_package(SMOL)
    weights = models.weights_hash(base)
    reference = None if settings.write_reference else json.loads((ROOT / REFERENCE).read_text())
    if reference and reference["weights"] != weights:
        raise UserError(f"{base}: other weights than those of {REFERENCE}: delete the folder, it is fetched again")
    run = Run(Path(settings.output), on_gpu, dtype, reference, settings.limit_seconds)
    stages.prepare(run, base)
    here = machine(on_gpu)
    compared_with = provenance.file_hash(ROOT / REFERENCE) if reference else None
    made_by = {"machine": here, "dtype": dtype, "reference": compared_with}
    started = time.monotonic()
    lines, outcomes = run_checks(run, plan, made_by, settings.overwrite)
    if settings.write_reference:
        write_reference(outcomes, weights)
    report(run, here, lines, outcomes, time.monotonic() - started)
    if any(line.result == FAIL for line in lines):
        sys.exit(1)


def draw(run: Run, measured: dict[str, dict[str, Any]], device: str) -> list[str]:
    """losses.png and p_same.png, of what was run; returns their names."""
    reference = run.reference or json.loads((ROOT / REFERENCE).read_text())
    trained = {check: values for check, values in measured.items() if values.get("losses")}
    scored = {check: values for check, values in measured.items() if check.startswith("scores-") and values}
    drawn = {}
    if trained:
        limit = stages.LOSS_LIMITS[run.dtype].last
        drawn["losses.png"] = device_check.draw_losses(trained, reference["losses"], limit, device)
    if scored:
        drawn["p_same.png"] = device_check.draw_scores(scored, reference["p_same"], stages.SCORE_LIMITS, device)
    for name, figure in drawn.items():
        plotting.save(figure, run.folder / name)
    return list(drawn)


def report(run: Run, here: dict[str, Any], lines: list[Line], outcomes: dict[str, dict], seconds: float) -> None:
    """Write the report and say where it is."""
    measured = {check: outcome["measured"] for check, outcome in outcomes.items()}
    figures = draw(run, measured, here["device"])
    times = {check: outcome["seconds"] for check, outcome in outcomes.items()}
    shown = {check: values.get("shown", {}) for check, values in measured.items()}
    device_check.write(run.folder, lines, here, times, shown, figures)
    width = max(len(line.check) for line in lines)
    for line in lines:
        print(f"{line.result:<9}{line.check:<{width + 2}}{line.told()}")
    print(f"{device_check.counts(lines)}; {seconds:.0f} s; {run.folder / 'report.md'}")


if __name__ == "__main__":
    main()
