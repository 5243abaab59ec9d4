"""Does this machine's GPU compute what a CPU computed? Training, scoring, sampling and live pruning, each with PASS or FAIL.

    scripts/run_gpu_check.sh                      # after set-up; at most 10 minutes on one GPU
    scripts/run_gpu_check.sh --without vllm       # leaves out what the machine lacks
    scripts/run_gpu_check.sh --only live sample   # some checks; those that were run before stay in the report
    scripts/run_gpu_check.sh --cpu --write-reference   # makes benchmarks/gpu_check_cpu.json, with which all is compared

Models and data are those of the repository and its set-up: SmolLM2-135M-Instruct (the packaged weights, also where a hub has
others under the name), Offline/DeepPrune-Judge-mini, DeepPrune_data. Every check runs a stage as a user would, in a process of
its own. Without a GPU everything runs on the CPU.

- train-lora-auto, train-lora-eager, train-full-auto, train-full-eager: 40 steps of LLaMA-Factory/train.py, batches of 2 rows
  with padding, 2 batches a step, automatic (sdpa) or eager attention, bfloat16 on a GPU: the losses against the CPU's.
- scores-transformers, scores-vllm: p_same of 300 pairs, in float32 and on a GPU in bfloat16, against the CPU's and each other's.
- sample: 64 traces; recorded counts and texts against the engine's token ids, and its counter.
- live: two questions pruned live, a reasoner and a judge on vLLM; its counts against the engine's, nothing left running.
- parallel-tensor, parallel-data: p_same of 64 pairs by a random model that is spread over two devices, and by two copies of it,
  against one process's; traces by two copies of SmolLM2; where there are two GPUs, or two cores on the CPU.

Writes OUTPUT/report.md, checks.csv, report.json, losses.png, p_same.png, and each check's log under OUTPUT/logs. Exit code 1 if
a check fails. Run it again to continue: checks that passed are skipped unless machine, packages, code or settings are others.
"""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deepprune.base import config, console, jsonl, manifest, records, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.engines import models
from deepprune.evaluate import device_check
from deepprune.evaluate.device_check import FAIL, LEFT_OUT, NOT_RUN, PASS, Line, LossLimits

ROOT = Path(__file__).resolve().parent.parent
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
JUDGE = "Offline/DeepPrune-Judge-mini"
STUDY = "DeepPrune_data/study/miniature"
PROBLEMS = "DeepPrune_data/problems/words.jsonl"
RECIPE = "scripts/recipes/cpu.yaml"
REFERENCE = "benchmarks/gpu_check_cpu.json"

STEPS, ROWS_A_BATCH, BATCHES_A_STEP = 40, 2, 2
LONGEST_ROW = 1000  # characters of a training row's prompt: 160 rows of 260 tokens on average
PAIRS, TRACES, QUESTIONS, PARALLEL_PAIRS = 300, 64, 2, 64
LEARNING_RATES = {"lora": 5e-4, "full": 2e-5}
GRACE_SECONDS = 10  # in which a stage's processes may end after it
ATTENTION = {"auto": "auto", "eager": "disabled"}

# Limits; docs/gpu.md says why.
LOSS_LIMITS = {
    "float32": LossLimits(first=0.001, last=0.03),
    "bfloat16": LossLimits(first=0.03, last=0.15),
    "float16": LossLimits(first=0.03, last=0.15),
}
SCORE_LIMITS = {"float32": 0.02, "bfloat16": 0.08, "float16": 0.08}


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


class CheckBroken(Exception):
    """A stage did not end well. The message is its last error line."""


@dataclasses.dataclass
class Stage:
    """A finished stage: its output, and the most memory its processes had, in MiB (on_gpu: of the whole card; None: no card)."""

    text: str
    seconds: float
    memory: int
    on_gpu: int | None
    alive: int  # processes left when it had ended

    def peak(self) -> dict[str, str]:
        """The memory, in words."""
        here = {"host memory": f"{self.memory / 1024:.1f} GiB"}
        return here | ({} if self.on_gpu is None else {"GPU memory": f"{self.on_gpu / 1024:.1f} GiB"})


@dataclasses.dataclass
class Run:
    """What the checks need to know. kept: the CPU's values, None while they are being made."""

    settings: GpuCheckSettings
    folder: Path
    on_gpu: bool
    dtype: str
    kept: dict[str, Any] | None

    def environment(self) -> dict[str, str]:
        """Of every stage: this checkout's code, the packaged weights under the hub's name, no network."""
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        env |= {"DEEPPRUNE_CACHE": str((self.folder / "cache").resolve()), "HF_HUB_OFFLINE": "1"}
        env.pop(console.DESCRIPTORS, None)  # all of a stage's lines go to the check's log
        return env if self.on_gpu else env | {"CUDA_VISIBLE_DEVICES": ""}

    def stage(self, check: str, script: str, *options: Any) -> Stage:
        """Run a script as a user would. Raises CheckBroken."""
        log = self.folder / "logs" / f"{check}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a+b") as out:
            start = out.seek(0, os.SEEK_END)
            out.write(f"$ python {script} {' '.join(map(str, options))}\n".encode())
            out.flush()
            started = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, str(ROOT / script), *map(str, options)],
                cwd=ROOT,
                env=self.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            memory, on_gpu = 0, None
            try:
                while process.poll() is None:
                    memory = max(memory, sum(map(resident, in_session(process.pid))))
                    on_gpu = most(on_gpu, card_memory() if self.on_gpu else None)
                    if time.monotonic() - started > self.settings.limit_seconds:
                        raise CheckBroken(f"it took longer than {self.settings.limit_seconds} s ({log})")
                    time.sleep(0.5)
                alive = wait_gone(process.pid)
            finally:
                end_session(process)
            out.seek(start)
            text = out.read().decode(errors="replace")
        if process.returncode:
            raise CheckBroken(f"{last_error(text)} ({script} ended with {process.returncode}; {log})")
        return Stage(text, time.monotonic() - started, memory, on_gpu, alive)


def in_session(session: int) -> list[int]:
    """Processes that run in a session (defunct ones do not run)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def resident(process: int) -> int:
    """Resident memory of a process in MiB; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def most(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def wait_gone(session: int) -> int:
    """How many processes of a session are left after GRACE_SECONDS."""
    until = time.monotonic() + GRACE_SECONDS
    while (left := len(in_session(session))) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def end_session(process: subprocess.Popen) -> None:
    """End what still runs in a stage's session: kindly, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in in_session(process.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        if process.poll() is None:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                continue
        if not wait_gone(process.pid):
            return


def last_error(text: str) -> str:
    """The last line of an output that tells of an error, or its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"error: |[\w.]*(Error|Exception)\b", line)]
    return (told or lines or ["no output"])[-1]


def query_card(what: str) -> list[str]:
    """nvidia-smi's answer for the first card that this process may use; empty where it does not answer."""
    first = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--id={first}", f"--query-gpu={what}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [cell.strip() for cell in done.stdout.strip().split(",")]


def card_memory() -> int | None:
    """MiB in use on the card, by all programs."""
    answer = query_card("memory.used")
    return int(answer[0]) if answer and answer[0].isdigit() else None


def machine(on_gpu: bool) -> dict[str, Any]:
    """What the checks run on: device, driver, cores, packages, commit."""
    text = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    cpu_name = f"{cpu[1] if cpu else 'CPU'}, {len(os.sched_getaffinity(0))} cores"
    found = {"device": cpu_name}
    if on_gpu:
        name, driver, memory = query_card("name,driver_version,memory.total") or ("an NVIDIA GPU", "unknown", "")
        found = {"device": name, "driver": driver, "GPU memory, MiB": memory, "CPU": cpu_name}
    found["bfloat16 instructions of the CPU"] = "yes" if runtime.has_bfloat16() else "no"
    found["python"] = sys.version.split()[0]
    return found | {"commit": manifest.code_commit(), "packages": manifest.package_versions()}


# -- what the checks read


def prepare(run: Run, base: Path) -> None:
    """The model under the hub's name, the training rows, the pairs and the problems, in the check's own folder."""
    link = run.folder / "cache" / "models" / SMOL.split("/")[1]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(base.resolve())
    rows = [row for _, row in jsonl.read(ROOT / STUDY / "train.jsonl.gz") if len(row["instruction"]) <= LONGEST_ROW]
    jsonl.write(run.folder / "data" / "train.jsonl", rows[: STEPS * ROWS_A_BATCH * BATCHES_A_STEP])
    registry = json.loads((ROOT / "DeepPrune_data" / "dataset_info.json").read_text())["deepprune_pairs"]
    jsonl.write_json(run.folder / "data" / "dataset_info.json", {"gpu_check": registry | {"file_name": "train.jsonl"}})
    pairs = list(records.read(records.Pair, ROOT / STUDY / "pairs.jsonl.gz"))
    records.write(run.folder / "pairs.jsonl", pairs[:: len(pairs) // PAIRS][:PAIRS])


def model_for_two(run: Run) -> Path:
    """A random Llama whose heads can be halved (SmolLM2's 9 cannot), with SmolLM2's tokenizer."""
    folder = run.folder / "random-model"
    if not (folder / "config.json").is_file():
        import torch
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

        tokenizer = AutoTokenizer.from_pretrained(run.folder / "cache" / "models" / SMOL.split("/")[1])
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        shape = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.1,
        )
        LlamaForCausalLM(shape).save_pretrained(folder)
    return folder


def starting_adapter(run: Run) -> Path:
    """A fresh LoRA adapter, drawn on the CPU: a GPU would draw other numbers, and the losses could not be compared."""
    folder = run.folder / "adapter"
    if not (folder / "adapter_model.safetensors").is_file():
        import peft
        import torch
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(run.folder / "cache" / "models" / SMOL.split("/")[1])
        settings = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        peft.get_peft_model(model, settings).save_pretrained(folder)
    return folder


# -- the checks: (run, name) -> lines of the table, what was measured


def train(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """40 steps of stage 03; the losses of every step."""
    _, kind, attention = check.split("-")
    output = run.folder / check
    shutil.rmtree(output, ignore_errors=True)
    start = [f"adapter_name_or_path={starting_adapter(run)}"] if kind == "lora" else []
    stage = run.stage(
        check,
        "LLaMA-Factory/train.py",
        "Offline/SmolLM2_lora_cpu.yaml",
        f"finetuning_type={kind}",
        *start,
        f"flash_attn={ATTENTION[attention]}",
        f"use_cpu={str(not run.on_gpu).lower()}",
        f"bf16={str(run.dtype == 'bfloat16').lower()}",
        f"fp16={str(run.dtype == 'float16').lower()}",
        f"dataset_dir={run.folder / 'data'}",
        "dataset=gpu_check",
        f"output_dir={output}",
        f"max_steps={STEPS}",
        f"per_device_train_batch_size={ROWS_A_BATCH}",
        f"gradient_accumulation_steps={BATCHES_A_STEP}",
        "disable_shuffling=true",
        f"learning_rate={LEARNING_RATES[kind]}",
        "logging_steps=1",
        "save_strategy='no'",
    )
    log = [row for row in json.loads((output / "trainer_state.json").read_text())["log_history"] if "loss" in row]
    seconds = json.loads((output / "manifest.json").read_text())["wall_seconds"]
    shutil.rmtree(output)  # weights of up to 540 MB
    values, norms = [row["loss"] for row in log], [row["grad_norm"] for row in log]
    kept = run.kept and run.kept["losses"][kind]
    lines = device_check.losses(check, values, norms, STEPS, kept, LOSS_LIMITS[run.dtype])
    speed = f"{STEPS * ROWS_A_BATCH * BATCHES_A_STEP / seconds:.2f} rows/s with start-up"
    return lines, {"losses": values, "grad_norms": norms, "shown": {"dtype": run.dtype, "speed": speed, **stage.peak()}}


def scored(run: Run, judge: str, dtype: str) -> dict[str, float] | None:
    """p_same by pair id as a check has written it, or None."""
    file = run.folder / f"{judge}-{dtype}.jsonl"
    return {s.pair_id: s.p_same for s in records.read(records.PairScore, file)} if file.is_file() else None


def score(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """300 pairs by stage 04."""
    judge = check.removeprefix("scores-")
    lines, shown, p_same = [], {}, {}
    for dtype in dict.fromkeys(("float32", run.dtype)):
        output = run.folder / f"{judge}-{dtype}.jsonl"
        stage = run.stage(
            check,
            "Offline/test_model_performance_parallel.py",
            "--judge",
            judge,
            "--model",
            JUDGE,
            "--pairs",
            run.folder / "pairs.jsonl",
            "--dtype",
            dtype,
            "--max-model-len",
            2048,
            "--batch",
            64 if judge == "vllm" else 16,
            "--resamples",
            10,
            "--output",
            output,
            "--overwrite",
        )
        p_same[dtype] = scored(run, judge, dtype)
        if run.kept:
            whose = f"the CPU's ({dtype} here)"
            lines += device_check.scores(check, p_same[dtype], run.kept["p_same"], SCORE_LIMITS[dtype], whose)
        other = scored(run, "transformers", dtype) if judge == "vllm" else None
        if other:
            whose = f"transformers' ({dtype})"
            lines += device_check.scores(check, p_same[dtype], other, SCORE_LIMITS[dtype], whose)
        speed = re.search(r"^([0-9.]+) pairs/s$", stage.text, re.MULTILINE)
        memory = ", ".join(f"{name} {value}" for name, value in stage.peak().items())
        shown[f"{dtype}:"] = f"{speed[1] if speed else 'unknown'} pairs/s, {memory}"
    return lines, {"p_same": p_same, "shown": shown}


def sample(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """64 traces by stage 01, their token ids beside them."""
    from transformers import AutoTokenizer

    output, ids = run.folder / "traces.jsonl", run.folder / "token_ids.jsonl"
    ids.unlink(missing_ok=True)
    per_problem = 4
    stage = run.stage(
        check,
        "benchmarks/gpu_check_sample.py",
        ids,
        "--config",
        RECIPE,
        "--problems",
        PROBLEMS,
        "--model",
        SMOL,
        "--n",
        per_problem,
        "--limit",
        TRACES // per_problem,
        "--max-tokens",
        192,
        "--output",
        output,
        "--overwrite",
    )
    traces = {f"{t.problem_id}/{t.sample_index}": (t.n_tokens, t.text) for t in records.read(records.Trace, output)}
    token_ids = {row["request"]: row["token_ids"] for _, row in jsonl.read(ids)}
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "cache" / "models" / SMOL.split("/")[1])

    def decode(some: list[int]) -> str:
        return tokenizer.decode(some, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    counted = sum(json.loads(manifest.manifest_path(output).read_text())["engine_tokens"])
    lines = [device_check.equal(check, "traces", len(traces), TRACES)]
    lines += device_check.tokens(check, traces, token_ids, counted, decode)
    speed = re.findall(r"([0-9]+) tokens/s", stage.text)
    return lines, {"shown": {"speed": f"{speed[-1] if speed else 'unknown'} tokens/s", **stage.peak()}}


def live(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """Two questions by Online/live_pruning.py."""
    output = run.folder / "live.jsonl"
    stage = run.stage(
        check,
        "Online/live_pruning.py",
        "--config",
        RECIPE,
        "--reasoner",
        SMOL,
        "--judge",
        "vllm",
        "--judge-model",
        JUDGE,
        "--problems",
        PROBLEMS,
        "--limit",
        QUESTIONS,
        "--max-tokens",
        192,
        "--output",
        output,
        "--overwrite",
    )
    rows = list(records.read(records.Pruning, output))
    traces = records.read(records.Trace, run.folder / "live.traces.jsonl")
    counted = json.loads(manifest.manifest_path(output).read_text())["engine_tokens"]
    left = re.search(r"requests left running: (\d+)", stage.text)
    lines = device_check.live(
        check,
        len(rows),
        QUESTIONS,
        sum(p.tokens["total"] for p in rows),
        sum(t.n_tokens for t in traces),
        None if None in counted else sum(counted),
        int(left[1]) if left else None,
        stage.alive,
    )
    return lines, {"shown": {"time": f"{stage.seconds:.0f} s with start-up", **stage.peak()}}


def parallel(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """64 pairs by stage 04 on two devices."""
    pairs = list(records.read(records.Pair, run.folder / "pairs.jsonl"))[:PARALLEL_PAIRS]
    records.write(run.folder / "pairs-parallel.jsonl", pairs)
    p_same, shown = {}, {}
    for judge, more in (("transformers", ()), ("vllm", (f"--{check.removeprefix('parallel-')}-parallel", 2))):
        output = run.folder / f"{check}-{judge}.jsonl"
        stage = run.stage(
            check,
            "Offline/test_model_performance_parallel.py",
            "--judge",
            judge,
            "--model",
            model_for_two(run),
            "--pairs",
            run.folder / "pairs-parallel.jsonl",
            "--dtype",
            "float32",
            "--least-label-mass",
            0,
            "--resamples",
            10,
            "--output",
            output,
            "--overwrite",
            *more,
        )
        p_same[judge] = {s.pair_id: s.p_same for s in records.read(records.PairScore, output)}
        shown[f"{judge}:"] = f"{stage.seconds:.0f} s with start-up"
    spread = max(p_same["transformers"].values()) - min(p_same["transformers"].values())
    lines = [
        device_check.at_least(
            check, "p_same of the random model, largest minus least", spread, 10 * SCORE_LIMITS["float32"]
        )
    ]
    lines += device_check.scores(
        check, p_same["vllm"], p_same["transformers"], SCORE_LIMITS["float32"], "one process's"
    )
    lines.append(device_check.equal(check, "processes left running", stage.alive, 0))
    if check == "parallel-data":
        lines += sampled_by_copies(run, check)
    return lines, {"shown": shown}


def sampled_by_copies(run: Run, check: str) -> list[Line]:
    """32 traces of one question by stage 01 and two copies of the model: with the same seed, and yet all different."""
    output, count = run.folder / f"{check}-traces.jsonl", 32
    run.stage(
        check,
        "scripts/01_sample_traces.py",
        "--config",
        RECIPE,
        "--problems",
        PROBLEMS,
        "--limit",
        1,
        "--model",
        SMOL,
        "--n",
        count,
        "--max-tokens",
        64,
        "--temperature",
        1.0,
        "--data-parallel",
        2,
        "--output",
        output,
        "--overwrite",
    )
    traces = list(records.read(records.Trace, output))
    counted = sum(json.loads(manifest.manifest_path(output).read_text())["engine_tokens"])
    return [
        device_check.equal(
            check, "different traces of one question by two copies", len({t.text for t in traces}), count
        ),
        device_check.equal(
            check, "their tokens, against the engines' counters", sum(t.n_tokens for t in traces), counted
        ),
    ]


# name: (the check, what it needs)
CHECKS: dict[str, tuple[Callable[[Run, str], tuple[list[Line], dict[str, Any]]], str | None]] = {
    "train-lora-auto": (train, "llamafactory"),
    "train-lora-eager": (train, "llamafactory"),
    "train-full-auto": (train, "llamafactory"),
    "train-full-eager": (train, "llamafactory"),
    "scores-transformers": (score, None),
    "scores-vllm": (score, "vllm"),
    "sample": (sample, "vllm"),
    "live": (live, "vllm"),
    "parallel-tensor": (parallel, "vllm"),
    "parallel-data": (parallel, "vllm"),
}


def outcome(run: Run, check: str, made_by: dict[str, Any]) -> dict[str, Any]:
    """Run a check, or take what an equal run before has found. Whatever breaks in it is a line that says FAIL."""
    before = found_before(run, check, made_by)
    if before and not run.settings.overwrite and all(line["result"] == PASS for line in before["lines"]):
        return before | {"before": True}
    started = time.monotonic()
    try:
        lines, measured = CHECKS[check][0](run, check)
    except Exception as error:  # noqa: BLE001 - the other checks go on
        said = str(error) if isinstance(error, CheckBroken | UserError) else f"{type(error).__name__}: {error}"
        lines, measured = [device_check.broken(check, said)], {}
    found = {
        "lines": [dataclasses.asdict(line) for line in lines],
        "measured": measured,
        "seconds": time.monotonic() - started,
        "made_by": made_by,
    }
    jsonl.write_json(outcome_file(run, check), found)
    return found


def outcome_file(run: Run, check: str) -> Path:
    return run.folder / "checks" / f"{check}.json"


def found_before(run: Run, check: str, made_by: dict[str, Any]) -> dict[str, Any] | None:
    """What a check has found on this machine with this code, or None."""
    file = outcome_file(run, check)
    before = json.loads(file.read_text()) if file.is_file() else None
    return before if before and before["made_by"] == made_by else None


def devices(on_gpu: bool) -> int:
    """GPUs that this process may use, or cores."""
    if not on_gpu:
        return len(os.sched_getaffinity(0))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        len([part for part in visible.split(",") if part]) if visible else len(list(Path("/dev").glob("nvidia[0-9]*")))
    )


def chosen(settings: GpuCheckSettings, count: int) -> Iterator[tuple[str, str, str]]:
    """Every check with PASS if it shall run, else LEFT_OUT or NOT_RUN and why. count: devices.

    Raises UserError for an unknown name.
    """
    unknown = set(settings.only or ()) - set(CHECKS)
    if unknown:
        raise UserError(f"--only: there is no check {min(unknown)!r}; they are {', '.join(CHECKS)}")
    for check, (function, needs) in CHECKS.items():
        if needs in settings.without:
            yield check, LEFT_OUT, f"--without {needs}"
        elif function is parallel and count < 2:
            yield check, LEFT_OUT, "there is one device"
        elif settings.only and check not in settings.only:
            yield check, NOT_RUN, "not among --only"
        else:
            yield check, PASS, ""


def write_reference(found: dict[str, dict[str, Any]], weights: str, settings: GpuCheckSettings) -> None:
    """Keep the CPU's values, with a manifest. Raises UserError if a check that gives them has failed."""
    needed = {"lora": "train-lora-auto", "full": "train-full-auto"}
    missing = [c for c in (*needed.values(), "scores-transformers") if not found.get(c, {}).get("measured")]
    if missing:
        raise UserError(f"{REFERENCE} is not written: {', '.join(missing)} did not run to its end")
    target = ROOT / REFERENCE
    inputs = [ROOT / STUDY / name for name in ("train.jsonl.gz", "pairs.jsonl.gz")]
    note = manifest.Manifest.open(
        target,
        "gpu_check",
        {"dtype": "float32", "steps": STEPS, "learning_rates": LEARNING_RATES},
        inputs,
        overwrite=True,
        models={"judge": JUDGE, "base": f"{SMOL} ({models.PACKAGED[SMOL].requirement})"},
    )
    p_same = found["scores-transformers"]["measured"]["p_same"]["float32"]
    kept = {
        "weights": weights,
        "losses": {kind: [round(x, 6) for x in found[check]["measured"]["losses"]] for kind, check in needed.items()},
        "p_same": {pair: round(p, 6) for pair, p in sorted(p_same.items())},
    }
    jsonl.write_json(target, kept)
    note.finish(len(kept["p_same"]))
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
    folder = Path(settings.output)
    base = models.from_package(SMOL)
    weights = models.weights_hash(base)
    kept = None if settings.write_reference else json.loads((ROOT / REFERENCE).read_text())
    if kept and kept["weights"] != weights:
        raise UserError(f"{base}: other weights than those of {REFERENCE}: delete the folder, it is fetched again")
    run = Run(settings, folder, on_gpu, dtype, kept)
    prepare(run, base)
    here = machine(on_gpu)
    made_by = {"machine": here, "dtype": dtype, "reference": manifest.file_hash(ROOT / REFERENCE) if kept else None}
    started, lines, found = time.monotonic(), [], {}
    for check, plan_is, why in plan:
        if plan_is == NOT_RUN and (before := found_before(run, check, made_by)):
            found[check] = before
            lines += [Line(**line) for line in before["lines"]]
            continue
        if plan_is != PASS:
            lines.append(Line(check, why, "", "", plan_is))
            continue
        print(f"{check}: ", end="", flush=True)
        found[check] = outcome(run, check, made_by)
        own = [Line(**line) for line in found[check]["lines"]]
        lines += own
        bad = [
            f"{line.compared}: {line.figure}{line.limit and f', not {line.limit}'}"
            for line in own
            if line.result == FAIL
        ]
        before = " (as before)" if found[check].get("before") else ""
        print(
            f"{FAIL if bad else PASS}, {found[check]['seconds']:.0f} s{before}{''.join(f'; {b}' for b in bad)}",
            flush=True,
        )
    if settings.write_reference:
        write_reference(found, weights, settings)
    report(run, here, lines, found, time.monotonic() - started)
    if any(line.result == FAIL for line in lines):
        sys.exit(1)


def report(run: Run, here: dict[str, Any], lines: list[Line], found: dict[str, dict], seconds: float) -> None:
    """Write the report and say where it is."""
    measured = {check: f["measured"].get("shown", {}) for check, f in found.items()}
    times = {check: f["seconds"] for check, f in found.items()}
    trained = {check: f["measured"]["losses"] for check, f in found.items() if "losses" in f["measured"]}
    judged = {
        f"{check}, {dtype}": p for check, f in found.items() for dtype, p in f["measured"].get("p_same", {}).items()
    }
    kept = run.kept or json.loads((ROOT / REFERENCE).read_text())
    try:
        figures = device_check.draw(run.folder, trained, judged, kept, here["device"])
    except ImportError as error:
        print(f"no figures: {error}")
        figures = []
    device_check.write(run.folder, lines, here, times, measured, figures)
    width = max(len(line.check) for line in lines)
    for line in lines:
        print(
            f"{line.result:<9}{line.check:<{width + 2}}{line.compared}{line.figure and f': {line.figure}'}{line.limit and f' (limit: {line.limit})'}"
        )
    count = {result: sum(line.result == result for line in lines) for result in (PASS, FAIL, LEFT_OUT, NOT_RUN)}
    print(f"{', '.join(f'{n} {result}' for result, n in count.items())}; {seconds:.0f} s; {run.folder / 'report.md'}")


if __name__ == "__main__":
    main()
