"""The checks of gpu_check.py: each runs a stage as a user would, and compares what it wrote with a CPU's results."""

import dataclasses
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepprune.base import console, jsonl, processes, records, runtime
from deepprune.base.manifest import manifest_path
from deepprune.engines import random_llama
from deepprune.evaluate import device_check
from deepprune.evaluate.device_check import Line, LossLimits

ROOT = Path(__file__).resolve().parent.parent
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
JUDGE = "Offline/DeepPrune-Judge-mini"
STUDY = "DeepPrune_data/study/miniature"
PROBLEMS = "DeepPrune_data/problems/words.jsonl"
RECIPE = "scripts/recipes/cpu.yaml"
SCORING = "Offline/test_model_performance_parallel.py"

STEPS, ROWS_A_BATCH, BATCHES_A_STEP = 40, 2, 2
TRAINING_ROWS = STEPS * ROWS_A_BATCH * BATCHES_A_STEP
LONGEST_ROW = 1000  # characters of a training row's prompt: 160 rows of 260 tokens on average
PAIRS, TRACES, TRACES_A_PROBLEM, QUESTIONS, PARALLEL_PAIRS, COPIES_TRACES = 300, 64, 4, 2, 64, 32
LEARNING_RATES = {"lora": 5e-4, "full": 2e-5}
ATTENTION = {"auto": "auto", "eager": "disabled"}

# Limits; docs/gpu.md says why.
LOSS_LIMITS = {
    "float32": LossLimits(first=0.001, last=0.03),
    "bfloat16": LossLimits(first=0.03, last=0.15),
    "float16": LossLimits(first=0.03, last=0.15),
}
SCORE_LIMITS = {"float32": 0.02, "bfloat16": 0.08, "float16": 0.08}


@dataclasses.dataclass
class Run:
    """Where and how the checks run. reference: the CPU's values, None while they are being made."""

    folder: Path
    on_gpu: bool
    dtype: str
    reference: dict[str, Any] | None
    limit_seconds: float

    @property
    def base(self) -> Path:
        """The packaged weights, under the name by which the stages ask for them."""
        return self.folder / "cache" / "models" / SMOL.split("/")[1]

    def environment(self) -> dict[str, str]:
        """Of every stage: this checkout's code, the packaged weights under the hub's name, no network."""
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        env |= {"DEEPPRUNE_CACHE": str((self.folder / "cache").resolve()), "HF_HUB_OFFLINE": "1"}
        env.pop(console.DESCRIPTORS, None)  # all of a stage's lines go to the check's log
        return env if self.on_gpu else env | {"CUDA_VISIBLE_DEVICES": ""}

    def stage(self, check: str, script: str, *words: Any, **options: Any) -> tuple[processes.Finished, dict[str, str]]:
        """Run a script as a user would: a_name=value is given as --a-name value. With its memory, in words.

        Raises processes.ProgramFailed.
        """
        words = [*words, *(part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value))]
        command = [sys.executable, str(ROOT / script), *map(str, words)]
        on_card: list[int] = []
        log = self.folder / "logs" / f"{check}.txt"
        done = processes.run(
            command, log, ROOT, self.environment(), self.limit_seconds, lambda: on_card.extend(self.card_memory())
        )
        memory = {"host memory": f"{done.memory / 1024:.1f} GiB"}
        return done, memory | ({"GPU memory": f"{max(on_card) / 1024:.1f} GiB"} if on_card else {})

    def card_memory(self) -> list[int]:
        """MiB in use on the card, by all programs; none where it does not say."""
        cells = runtime.query_card("memory.used") if self.on_gpu else []
        return [int(cell) for cell in cells if cell.isdigit()]


def prepare(run: Run, base: Path) -> None:
    """The model under the hub's name, the training rows and the pairs, in the check's own folder."""
    run.base.parent.mkdir(parents=True, exist_ok=True)
    run.base.unlink(missing_ok=True)
    run.base.symlink_to(base.resolve())
    rows = [row for _, row in jsonl.read(ROOT / STUDY / "train.jsonl.gz") if len(row["instruction"]) <= LONGEST_ROW]
    jsonl.write(run.folder / "data" / "train.jsonl", rows[:TRAINING_ROWS])
    registry = json.loads((ROOT / "DeepPrune_data" / "dataset_info.json").read_text())["deepprune_pairs"]
    jsonl.write_json(run.folder / "data" / "dataset_info.json", {"gpu_check": registry | {"file_name": "train.jsonl"}})
    pairs = list(records.read(records.Pair, ROOT / STUDY / "pairs.jsonl.gz"))
    records.write(run.folder / "pairs.jsonl", pairs[:: len(pairs) // PAIRS][:PAIRS])


def starting_adapter(run: Run) -> Path:
    """A fresh LoRA adapter, drawn on the CPU: a GPU would draw other numbers, and the losses could not be compared."""
    folder = run.folder / "adapter"
    if not (folder / "adapter_model.safetensors").is_file():
        import peft
        import torch
        from transformers import AutoModelForCausalLM

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(run.base)
        settings = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        peft.get_peft_model(model, settings).save_pretrained(folder)
    return folder


def model_for_two(run: Run) -> Path:
    """A random Llama whose heads can be halved (SmolLM2's 9 cannot)."""
    folder = run.folder / "random-model"
    if not (folder / "model.safetensors").is_file():
        random_llama.save(folder, run.base, hidden=256, layers=4, heads=4, context=2048, spread=0.1)
    return folder


# -- the checks: (run, name) -> lines of the table, what was measured


def train(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """40 steps of stage 03; the losses of every step."""
    _, kind, attention = check.split("-")
    output = run.folder / check
    shutil.rmtree(output, ignore_errors=True)
    settings = {
        "finetuning_type": kind,
        "flash_attn": ATTENTION[attention],
        "use_cpu": not run.on_gpu,
        "bf16": run.dtype == "bfloat16",
        "fp16": run.dtype == "float16",
        "dataset_dir": run.folder / "data",
        "dataset": "gpu_check",
        "output_dir": output,
        "max_steps": STEPS,
        "per_device_train_batch_size": ROWS_A_BATCH,
        "gradient_accumulation_steps": BATCHES_A_STEP,
        "disable_shuffling": True,
        "learning_rate": LEARNING_RATES[kind],
        "logging_steps": 1,
        "save_strategy": "'no'",
    }
    if kind == "lora":
        settings["adapter_name_or_path"] = starting_adapter(run)
    words = (f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in settings.items())
    _, memory = run.stage(check, "LLaMA-Factory/train.py", "Offline/SmolLM2_lora_cpu.yaml", *words)
    log = [row for row in json.loads((output / "trainer_state.json").read_text())["log_history"] if "loss" in row]
    seconds = json.loads((output / "manifest.json").read_text())["wall_seconds"]
    shutil.rmtree(output)  # weights of up to 540 MB
    values, norms = [row["loss"] for row in log], [row["grad_norm"] for row in log]
    reference = run.reference and run.reference["losses"][kind]
    lines = device_check.losses(check, values, norms, STEPS, reference, LOSS_LIMITS[run.dtype])
    shown = {"dtype": run.dtype, "speed": f"{TRAINING_ROWS / seconds:.2f} rows/s with start-up", **memory}
    return lines, {"losses": values, "grad_norms": norms, "shown": shown}


def scored(run: Run, judge: str, dtype: str) -> dict[str, float] | None:
    """p_same by pair id as a check has written it, or None."""
    file = run.folder / f"{judge}-{dtype}.jsonl"
    return {s.pair_id: s.p_same for s in records.read(records.PairScore, file)} if file.is_file() else None


def score(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """300 pairs by stage 04."""
    judge = check.removeprefix("scores-")
    lines, shown, p_same = [], {}, {}
    for dtype in dict.fromkeys(("float32", run.dtype)):
        sizes = {"dtype": dtype, "max_model_len": 2048, "batch": 64 if judge == "vllm" else 16, "resamples": 10}
        files = {"pairs": run.folder / "pairs.jsonl", "output": run.folder / f"{judge}-{dtype}.jsonl"}
        stage, memory = run.stage(check, SCORING, "--overwrite", judge=judge, model=JUDGE, **sizes, **files)
        p_same[dtype] = scored(run, judge, dtype)
        others = {f"transformers' ({dtype})": scored(run, "transformers", dtype) if judge == "vllm" else None}
        if run.reference:
            others = {f"the CPU's ({dtype} here)": run.reference["p_same"]} | others
        for whose, other in others.items():
            if other:
                lines += device_check.scores(check, p_same[dtype], other, SCORE_LIMITS[dtype], whose)
        speed = re.search(r"^([0-9.]+) pairs/s$", stage.output, re.MULTILINE)
        measured = [f"{speed[1] if speed else 'unknown'} pairs/s", *(f"{name} {size}" for name, size in memory.items())]
        shown[f"{dtype}:"] = ", ".join(measured)
    return lines, {"p_same": p_same, "shown": shown}


SAMPLING = {"config": RECIPE, "problems": PROBLEMS, "model": SMOL}


def engine_tokens(output: Path) -> int | None:
    """The tokens that the engines of a stage's runs have counted; None where one cannot say."""
    counts = json.loads(manifest_path(output).read_text())["engine_tokens"]
    return None if None in counts else sum(counts)


def sample(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """64 traces by stage 01, their token ids beside them."""
    from transformers import AutoTokenizer

    output, ids = run.folder / "traces.jsonl", run.folder / "token_ids.jsonl"
    ids.unlink(missing_ok=True)
    sizes = {"n": TRACES_A_PROBLEM, "limit": TRACES // TRACES_A_PROBLEM, "max_tokens": 192}
    script = "benchmarks/gpu_check_sample.py"
    stage, memory = run.stage(check, script, ids, "--overwrite", output=output, **SAMPLING, **sizes)
    traces = {f"{t.problem_id}/{t.sample_index}": (t.n_tokens, t.text) for t in records.read(records.Trace, output)}
    token_ids = {row["request"]: row["token_ids"] for _, row in jsonl.read(ids)}
    tokenizer = AutoTokenizer.from_pretrained(run.base)

    def decode(tokens: list[int]) -> str:
        return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    lines = [device_check.equal(check, "traces", len(traces), TRACES)]
    lines += device_check.tokens(check, traces, token_ids, engine_tokens(output), decode)
    speed = re.findall(r"([0-9]+) tokens/s", stage.output)
    return lines, {"shown": {"speed": f"{speed[-1] if speed else 'unknown'} tokens/s", **memory}}


def live(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """Two questions by Online/live_pruning.py."""
    output = run.folder / "live.jsonl"
    questions = {"config": RECIPE, "problems": PROBLEMS, "limit": QUESTIONS, "max_tokens": 192, "output": output}
    models = {"reasoner": SMOL, "judge": "vllm", "judge_model": JUDGE}
    stage, memory = run.stage(check, "Online/live_pruning.py", "--overwrite", **questions, **models)
    rows = list(records.read(records.Pruning, output))
    traces = records.read(records.Trace, run.folder / "live.traces.jsonl")
    left = re.search(r"requests left running: (\d+)", stage.output)
    lines = device_check.live(
        check,
        answered=len(rows),
        questions=QUESTIONS,
        recorded=sum(p.tokens["total"] for p in rows),
        traced=sum(t.n_tokens for t in traces),
        counted=engine_tokens(output),
        left=int(left[1]) if left else None,
        alive=stage.alive,
    )
    return lines, {"shown": {"time": f"{stage.seconds:.0f} s with start-up", **memory}}


def parallel(run: Run, check: str) -> tuple[list[Line], dict[str, Any]]:
    """64 pairs by stage 04 on two devices."""
    pairs = list(records.read(records.Pair, run.folder / "pairs.jsonl"))[:PARALLEL_PAIRS]
    records.write(run.folder / "pairs-parallel.jsonl", pairs)
    options = {"model": model_for_two(run), "pairs": run.folder / "pairs-parallel.jsonl", "dtype": "float32"}
    options |= {"least_label_mass": 0, "resamples": 10}
    p_same, shown = {}, {}
    for judge, spread in (("transformers", {}), ("vllm", {f"{check.removeprefix('parallel-')}_parallel": 2})):
        output = run.folder / f"{check}-{judge}.jsonl"
        stage, _ = run.stage(check, SCORING, "--overwrite", judge=judge, output=output, **options, **spread)
        p_same[judge] = {s.pair_id: s.p_same for s in records.read(records.PairScore, output)}
        shown[f"{judge}:"] = f"{stage.seconds:.0f} s with start-up"
    one_process, limit = p_same["transformers"], SCORE_LIMITS["float32"]
    width = max(one_process.values()) - min(one_process.values())
    lines = [device_check.at_least(check, "p_same of the random model, largest minus least", width, 10 * limit)]
    lines += device_check.scores(check, p_same["vllm"], one_process, limit, "one process's")
    lines.append(device_check.equal(check, "processes left running", stage.alive, 0))
    if check == "parallel-data":
        lines += sampled_by_copies(run, check)
    return lines, {"shown": shown}


def sampled_by_copies(run: Run, check: str) -> list[Line]:
    """32 traces of one question by stage 01 and two copies of the model: with the same seed, and yet all different."""
    output = run.folder / f"{check}-traces.jsonl"
    sizes = {"n": COPIES_TRACES, "limit": 1, "max_tokens": 64, "temperature": 1.0, "data_parallel": 2}
    run.stage(check, "scripts/01_sample_traces.py", "--overwrite", output=output, **SAMPLING, **sizes)
    traces = list(records.read(records.Trace, output))
    texts, tokens = len({t.text for t in traces}), sum(t.n_tokens for t in traces)
    different, counted = "different traces of one question by two copies", "their tokens, against the engines' counters"
    return [
        device_check.equal(check, different, texts, COPIES_TRACES),
        device_check.equal(check, counted, tokens, engine_tokens(output)),
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
