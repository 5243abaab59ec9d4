"""Training a judge: real runs of LLaMA-Factory on a tiny random model."""

import json
import math
import re
import shutil
import sys

import pytest
import torch
import toys
from conftest import ROOT, load_script
from safetensors.torch import load_file, save_file
from training_world import PAIRS, STEPS, launch, write_data
from transformers import AutoModelForCausalLM, AutoTokenizer

from deepprune.judges.profiles import DEFAULT


@pytest.fixture(scope="module")
def trained(world):
    """The recipe's run: LoRA, focal loss on the label token."""
    return launch(world), world / "judge"


def logged_losses(output):
    state = json.loads((output / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def label_probabilities(folder):
    """p of the right label under the untrained model, at the position where evaluation reads it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    probabilities = []
    for question, a, b, label in PAIRS[:2]:
        with torch.no_grad():
            logits = model(torch.tensor([toys.prompt_ids(tokenizer, question, a, b)])).logits[0, -1]
        token = toys.label_ids(tokenizer)[label]
        probabilities.append((label, torch.softmax(logits.double(), 0)[token].item()))
    return probabilities


def test_the_screen_shows_one_bar_and_the_result(trained):
    done, output = trained
    assert len(done.stdout.splitlines()) == 1
    losses = logged_losses(output)
    shown = r"training: \d+ of \d+ in \d\d:\d\d, loss \d\.\d+"
    assert all(re.fullmatch(shown, line) for line in done.stderr.splitlines()), done.stderr
    assert done.stderr.splitlines()[-1].endswith(f"loss {losses[-1]:.4f}")


def test_a_run_learns_the_label_token_with_focal_loss(world, trained):
    done, output = trained
    losses = logged_losses(output)
    alpha = [0.5, 0.25]
    expected = sum(-alpha[y] * (1 - p) ** 2 * math.log(p) for y, p in label_probabilities(world / "tiny")) / 2
    assert losses[0] == pytest.approx(expected, rel=1e-4)  # loss, scope, weights, template and data are right
    assert len(losses) == STEPS and losses[-1] < losses[0]

    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["complete"] and manifest["stage"] == "train"
    assert manifest["final_loss"] == losses[-1] and manifest["steps"] == STEPS and manifest["rows"] == 2
    assert manifest["models"] == {"judge": f"{world / 'tiny'} (folder)"}
    assert manifest["settings"]["focal_loss_alpha"] == alpha and manifest["settings"]["lora_rank"] == 16
    assert [i["file"] for i in manifest["inputs"]] == ["train.jsonl"]
    last = done.stdout.strip().splitlines()[-1]
    assert re.fullmatch(rf"{output}: 2 pairs, {STEPS} steps, final loss {losses[-1]:.4f}, \d+ s", last)
    assert json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"] == str(world / "tiny")
    adapter = load_file(output / "adapter_model.safetensors")
    assert any(name.endswith("lora_B.weight") and value.abs().max() > 0 for name, value in adapter.items())


def same_adapter(first, second):
    a, b = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-4, msg=name)


def spoil(folder):
    """Make a saved adapter's weights NaN."""
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: value * math.nan for name, value in weights.items()}, folder / "adapter_model.safetensors")


def test_a_killed_run_goes_on_from_its_last_whole_checkpoint(world, trained):
    """The state after a kill while checkpoint-4 was being written.

    No weights, no end, half a checkpoint; and one checkpoint of NaN.
    """
    output = world / "killed"
    shutil.copytree(trained[1], output)
    for name in ("adapter_model.safetensors", "checkpoint-4/trainer_state.json", "trainer_state.json"):
        (output / name).unlink()
    spoil(output / "checkpoint-3")
    manifest = json.loads((output / "manifest.json").read_text())
    (output / "manifest.json").write_text(json.dumps(manifest | {"complete": False, "final_loss": None}))
    done = launch(world, f"output_dir={output}", "save_steps=2")
    assert re.search(r"checkpoint-3: passed over: \S+ in adapter_model.safetensors is not finite", done.stdout)
    assert "going on from checkpoint-2" in done.stdout
    assert logged_losses(output) == pytest.approx(logged_losses(trained[1]), abs=1e-5)
    same_adapter(output, trained[1])
    again = json.loads((output / "manifest.json").read_text())
    assert again["complete"] and len(again["runs"]) == 2 and again["steps"] == STEPS


def test_two_processes_train_the_same_judge_as_one(world, trained):
    """torchrun: each rank takes our keys out and applies the loss; one sample a rank is one batch of two."""
    output = world / "ranks"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch(world, f"output_dir={output}", "per_device_train_batch_size=1", launcher=launcher)
    assert logged_losses(output) == pytest.approx(logged_losses(trained[1]), abs=1e-4)
    same_adapter(output, trained[1])
    assert json.loads((output / "manifest.json").read_text())["settings"]["world_size"] == 2


def test_a_loss_that_is_nan_stops_the_run_and_names_the_pair(world, tmp_path):
    """It ended as trained: exit 0, complete, loss 0.0, an adapter of NaN. Here the third row's own words are NaN."""
    tokenizer = AutoTokenizer.from_pretrained(world / "tiny")
    tokenizer.save_pretrained(tmp_path / "poisoned")
    model = AutoModelForCausalLM.from_pretrained(world / "tiny")
    first, second, third = (set(toys.prompt_ids(tokenizer, *pair[:3])) for pair in PAIRS)
    inputs = model.get_input_embeddings().weight.detach().clone()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(inputs.clone())
    model.get_input_embeddings().weight.data[list(third - first - second)] = math.nan
    model.save_pretrained(tmp_path / "poisoned")
    rows = [DEFAULT.training_row(*pair) | {"pair_id": f"id-{i}"} for i, pair in enumerate([*PAIRS, PAIRS[0]])]
    write_data(tmp_path / "data", rows)
    output = tmp_path / "judge"
    done = launch(
        world,
        f"output_dir={output}",
        f"model_name_or_path={tmp_path / 'poisoned'}",
        f"dataset_dir={tmp_path / 'data'}",
        "max_samples=4",
        "per_device_train_batch_size=1",
        "disable_shuffling=true",
        "num_train_epochs=1",
        "learning_rate=0.01",
        code=2,
    )
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert re.match(
        r"error: training stopped at step 3: the loss is not finite; rows: pair id-2 of train.jsonl:3 \(\d+ tokens\);",
        line,
    )
    assert "flash_attn=disabled" in line and "Traceback" not in done.stderr.split("error: ")[0]
    manifest = json.loads((output / "manifest.json").read_text())
    assert not manifest["complete"] and manifest.get("final_loss") is None
    assert not any(output.glob("adapter_model*"))
    assert sorted(p.name for p in output.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    for value in load_file(output / "checkpoint-2" / "adapter_model.safetensors").values():
        assert value.isfinite().all()


def test_without_bf16_the_frozen_weights_are_float32(world):
    """Checkpoints are stored in bfloat16; computing in it is what bf16: false should not do."""
    folder = world / "stored-in-bf16"
    shutil.copytree(world / "tiny", folder)
    AutoModelForCausalLM.from_pretrained(world / "tiny", dtype=torch.bfloat16).save_pretrained(folder)
    output = world / "from-bf16"
    launch(world, f"output_dir={output}", f"model_name_or_path={folder}", "max_steps=1")
    alpha = [0.5, 0.25]
    expected = sum(-alpha[y] * (1 - p) ** 2 * math.log(p) for y, p in label_probabilities(folder)) / 2
    assert logged_losses(output) == [pytest.approx(expected, rel=2e-6)]  # computed in bfloat16 it is off by 1.5e-5


def test_cross_entropy_with_full_fine_tuning_learns_the_same_token(world):
    output = world / "full"
    launch(world, f"output_dir={output}", "use_focal_loss=false", "finetuning_type=full", "max_steps=1")
    expected = sum(-math.log(p) for _, p in label_probabilities(world / "tiny")) / 2
    assert logged_losses(output) == [pytest.approx(expected, rel=1e-4)]
    assert (output / "model.safetensors").is_file()


@pytest.mark.parametrize("recipe", ["Qwen3_lora_sft.yaml", "Qwen3_full_sft.yaml"])
def test_the_qwen3_recipes_take_a_step_on_a_tiny_qwen3(world, tmp_path, recipe):
    """The recipe as it is, but for what two cores cannot do: the size, the GPU and DeepSpeed."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(world / "tiny")
    tokenizer.save_pretrained(tmp_path / "qwen3")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
    )
    Qwen3ForCausalLM(config).save_pretrained(tmp_path / "qwen3")
    output = tmp_path / "judge"
    launch(
        world,
        f"model_name_or_path={tmp_path / 'qwen3'}",
        f"dataset_dir={world / 'data'}",
        f"output_dir={output}",
        "use_cpu=true",
        "bf16=false",
        "deepspeed=null",
        "max_steps=1",
        "cutoff_len=512",
        "per_device_train_batch_size=1",
        "gradient_accumulation_steps=1",
        "logging_steps=1",
        "warmup_steps=0",
        recipe=ROOT / "Offline" / recipe,
    )
    (loss,) = logged_losses(output)
    assert loss > 0
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["complete"] and manifest["steps"] == 1
    if "full" in recipe:
        trained = load_file(output / "model.safetensors")
        before = load_file(tmp_path / "qwen3" / "model.safetensors")
        assert any(not torch.equal(trained[key].float(), before[key].float()) for key in before)
    else:
        adapter = load_file(output / "adapter_model.safetensors")
        assert any(value.any() for key, value in adapter.items() if "lora_B" in key)  # B starts at zero


def test_a_finished_training_is_skipped_and_left_alone(world, trained, monkeypatch, capsys):
    weights = trained[1] / "adapter_model.safetensors"
    before = (weights.stat().st_mtime_ns, (trained[1] / "manifest.json").read_text())
    monkeypatch.setattr(sys, "argv", ["train.py", str(world / "recipe.yaml"), "logging_steps=3"])  # a free setting
    load_script("LLaMA-Factory/train.py").main()
    assert "nothing to do" in capsys.readouterr().out
    assert before == (weights.stat().st_mtime_ns, (trained[1] / "manifest.json").read_text())


def test_other_settings_or_data_for_the_same_output_are_refused(world, trained, refused, tmp_path):
    line = refused("focal_loss_gamma=1.0")
    assert str(trained[1]) in line and "focal_loss_gamma: 2.0 there, 1.0 now" in line
    assert "overwrite_output_dir=true" in line
    write_data(tmp_path / "data", [DEFAULT.training_row(*pair) for pair in PAIRS[:2]])
    assert "hold other data now" in refused(f"dataset_dir={tmp_path / 'data'}")
    stranger = tmp_path / "holiday photos"
    stranger.mkdir()
    (stranger / "beach.jpg").write_text("sun")
    assert "without manifest.json" in refused(f"output_dir={stranger}")


def test_a_judge_of_nan_is_not_taken_for_trained(trained, refused, tmp_path, world):
    output = tmp_path / "judge"
    shutil.copytree(trained[1], output)
    spoil(output)
    line = refused(f"output_dir={output}")
    assert "adapter_model.safetensors is not finite; train anew with overwrite_output_dir=true" in line
