"""A folder to train in: a tiny model, a data set and a recipe. Shared by the tests of training."""

import json
import os
import subprocess
import sys

import forks
import pytest
import torch
import yaml
from conftest import ROOT, load_script
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from deepprune.engines import models
from deepprune.judges.profiles import DEFAULT

SCRIPT = ROOT / "LLaMA-Factory" / "train.py"
PAIRS = [
    ("What is 2 + 3?", "I add {2} and 3.", "First 2, then\n\nthree more.", 1),
    ("What is 7 - 4?", "Take 4 from 7:", "7 + 4 is", 0),
    ("What is 6 * 7?", "Six times seven", "6 + 7", 0),
]
STEPS = 4
RECIPES = (
    "Qwen3_full_sft.yaml",
    "Qwen3_lora_sft.yaml",
    "Qwen2.5_0.5B_lora_cpu.yaml",
    "SmolLM2_lora_cpu.yaml",
)


def make_world(folder):
    """Fill a folder: 2 samples, 4 epochs, so 4 steps of both. Returns it."""
    tokenizer = AutoTokenizer.from_pretrained(models.resolve("HuggingFaceTB/SmolLM2-135M-Instruct").path)
    tokenizer.save_pretrained(folder / "tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "tiny")
    write_data(folder / "data", [DEFAULT.training_row(*pair) for pair in PAIRS])
    recipe = yaml.safe_load((ROOT / "Offline" / "SmolLM2_lora_cpu.yaml").read_text())
    recipe |= {
        "model_name_or_path": str(folder / "tiny"),
        "dataset_dir": str(folder / "data"),
        "output_dir": str(folder / "judge"),
        "max_samples": 2,
        "num_train_epochs": STEPS,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "logging_steps": 1,
        "save_steps": 1,
        "save_total_limit": None,
        "focal_loss_alpha": [0.5, 0.25],
        "learning_rate": 0.5,
        "bf16": False,
        "optim": "sgd",  # Adam would hide a wrongly scaled gradient, and blow up rounding
    }
    del recipe["flash_attn"]
    (folder / "recipe.yaml").write_text("# the test's recipe\n" + yaml.safe_dump(recipe, sort_keys=False))
    return folder


def write_data(folder, rows, name="train.jsonl"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
    entry = {"file_name": name, "formatting": "alpaca", "columns": columns}
    (folder / "dataset_info.json").write_text(json.dumps({"deepprune_pairs": entry}))


def launch(world, *overrides, launcher=(), recipe=None, code=0):
    """Run the script in a fork, or by a launcher, in a process of its own."""
    command = [*launcher, str(SCRIPT), str(recipe or world / "recipe.yaml"), *overrides]
    if launcher:
        env = os.environ | {"HF_DATASETS_CACHE": str(world / "cache")}
        done = subprocess.run(
            [sys.executable, *command], cwd=world, env=env, capture_output=True, text=True, timeout=1800
        )
    else:
        done = forks.run(command, world)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def refusal_of(world, monkeypatch, capsys):
    """A function: call the script with these arguments; the error line of an exit with code 2."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments, recipe=None):
        monkeypatch.setattr(sys, "argv", ["train.py", str(recipe or world / "recipe.yaml"), *arguments])
        with pytest.raises(SystemExit) as end:
            load_script("LLaMA-Factory/train.py").main()
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert end.value.code == 2 and len(lines) == 1
        return lines[0]

    return call
