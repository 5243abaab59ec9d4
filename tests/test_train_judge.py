"""The training entry script: real runs of LLaMA-Factory on a tiny random model, and what it refuses."""

import dataclasses
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import forks
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from deepprune.engines import models
from deepprune.judges import prompts

ROOT = Path(__file__).resolve().parent.parent
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


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a tiny model, a data set and a recipe: 2 samples, 4 epochs, so 4 steps of both."""
    folder = tmp_path_factory.mktemp("world")
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
    write_data(folder / "data", [prompts.training_row(*pair) for pair in PAIRS])
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
    found = []
    for question, a, b, label in PAIRS[:2]:
        with torch.no_grad():
            logits = model(torch.tensor([prompts.prompt_ids(tokenizer, question, a, b)])).logits[0, -1]
        token = prompts.label_token_ids(tokenizer)[label]
        found.append((label, torch.softmax(logits.double(), 0)[token].item()))
    return found


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


def same_adapter(one, other):
    a, b = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-4, msg=name)


def spoil(folder):
    """Make a saved adapter's weights NaN."""
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: value * math.nan for name, value in weights.items()}, folder / "adapter_model.safetensors")


def test_a_killed_run_goes_on_from_its_last_whole_checkpoint(world, trained):
    """The state after a kill while checkpoint-4 was being written: no weights, no end, half a checkpoint; and one of NaN."""
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
    """It ended as trained: exit 0, complete, final loss 0.0, an adapter of NaN. Here the third row's own words are NaN."""
    tokenizer = AutoTokenizer.from_pretrained(world / "tiny")
    tokenizer.save_pretrained(tmp_path / "poisoned")
    model = AutoModelForCausalLM.from_pretrained(world / "tiny")
    first, second, third = (set(prompts.prompt_ids(tokenizer, *pair[:3])) for pair in PAIRS)
    inputs = model.get_input_embeddings().weight.detach().clone()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(inputs.clone())
    model.get_input_embeddings().weight.data[list(third - first - second)] = math.nan
    model.save_pretrained(tmp_path / "poisoned")
    rows = [prompts.training_row(*pair) | {"pair_id": f"id-{i}"} for i, pair in enumerate([*PAIRS, PAIRS[0]])]
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


@pytest.mark.parametrize(("bfloat16", "gpu"), [(True, False), (False, True), (False, False)])
def test_bf16_auto_is_what_the_machine_has(train, world, monkeypatch, bfloat16, gpu):
    monkeypatch.setattr(train.runtime, "has_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(train.runtime, "has_gpu", lambda: gpu)
    recipe = world / "recipe.yaml"
    assert train.read_recipe(recipe, ["bf16=auto", "use_cpu=true"])["bf16"] is bfloat16
    assert train.read_recipe(recipe, ["bf16=auto", "use_cpu=false"])["bf16"] is gpu
    assert train.read_recipe(recipe, ["bf16=true"])["bf16"] is True


def test_cross_entropy_with_full_fine_tuning_learns_the_same_token(world):
    output = world / "full"
    launch(world, f"output_dir={output}", "use_focal_loss=false", "finetuning_type=full", "max_steps=1")
    expected = sum(-math.log(p) for _, p in label_probabilities(world / "tiny")) / 2
    assert logged_losses(output) == [pytest.approx(expected, rel=1e-4)]
    assert (output / "model.safetensors").is_file()


# From here on in this process: nothing is trained.


@pytest.fixture(scope="module")
def train():
    spec = importlib.util.spec_from_file_location("train_judge", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def refused(train, world, monkeypatch, capsys):
    """Call the script with these arguments; return the error line of an exit with code 2."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments, recipe=None):
        monkeypatch.setattr(sys, "argv", ["train.py", str(recipe or world / "recipe.yaml"), *arguments])
        with pytest.raises(SystemExit) as end:
            train.main()
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert end.value.code == 2 and len(lines) == 1
        return lines[0]

    return call


def test_a_finished_training_is_skipped_and_left_alone(train, world, trained, monkeypatch, capsys):
    weights = trained[1] / "adapter_model.safetensors"
    before = (weights.stat().st_mtime_ns, (trained[1] / "manifest.json").read_text())
    monkeypatch.setattr(sys, "argv", ["train.py", str(world / "recipe.yaml"), "logging_steps=3"])  # a free setting
    train.main()
    assert "nothing to do" in capsys.readouterr().out
    assert before == (weights.stat().st_mtime_ns, (trained[1] / "manifest.json").read_text())


def test_other_settings_or_data_for_the_same_output_are_refused(world, trained, refused, tmp_path):
    line = refused("focal_loss_gamma=1.0")
    assert str(trained[1]) in line and "focal_loss_gamma: 2.0 there, 1.0 now" in line
    assert "overwrite_output_dir=true" in line
    write_data(tmp_path / "data", [prompts.training_row(*pair) for pair in PAIRS[:2]])
    assert "hold other data now" in refused(f"dataset_dir={tmp_path / 'data'}")
    stranger = tmp_path / "holiday photos"
    stranger.mkdir()
    (stranger / "beach.jpg").write_text("sun")
    assert "without manifest.json" in refused(f"output_dir={stranger}")


@pytest.mark.parametrize(
    "added, message",
    [
        ("lerning_rate: 1.0e-3", "unknown key 'lerning_rate'; did you mean 'learning_rate'?"),
        ("focal_gamma: 2", "unknown key 'focal_gamma'; did you mean 'focal_loss_gamma'?"),
        ("weight_decay: strong", "weight_decay should be float, found 'strong'"),
        ("flash_attn: sometimes", "flash_attn should be one of auto, disabled, sdpa"),
        ("train_on_prompt: true", "train_on_prompt does not go together with our loss"),
        ("use_dft_loss: true", "use_dft_loss does not go together with our loss"),
        ("label_smoothing_factor: 0.1", "label_smoothing_factor does not go together with our loss; remove it"),
        ("average_tokens_across_devices: false", "average_tokens_across_devices does not go together with our loss"),
        ("use_liger_kernel: true", "use_liger_kernel does not go together with our loss"),
        ("neftune_noise_alpha: 5", "neftune_noise_alpha would train on noisy embeddings"),
        ("neat_packing: true", "neat_packing lets pairs see each other"),
        ("val_size: 0.1", "val_size would put pairs of one problem on both sides"),
        ("tokenized_path: tokens", "tokenized_path would train on rows that were not checked"),
        ("default_system: Be brief.", "default_system would write another prompt"),
        ("hf_hub_token: hf_secret", "hf_hub_token would stand in the manifest"),
        ("temperature: 0.5", "temperature does nothing in the training of a judge"),
        ("resume_from_checkpoint: checkpoint-5", "resume_from_checkpoint is not needed"),
        ("eval_steps: 0", "eval_steps should be above 0, found 0"),
        ("max_steps: 0", "max_steps should be at least 1 (or -1"),
        ("weight_decay: .nan", "weight_decay should be finite, found nan"),
    ],
)
def test_a_bad_key_is_named_with_its_line(world, refused, tmp_path, added, message):
    text = (world / "recipe.yaml").read_text()
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(text + added + "\n")
    assert refused(recipe=recipe).startswith(f"error: {recipe}:{len(text.splitlines()) + 1}: {message}")


@pytest.mark.parametrize(
    "override, message",
    [
        ("colour=red", "command line: unknown key 'colour'"),
        ("focal_loss_gamma=-1", "command line: focal_loss_gamma should be a number >= 0, found -1"),
        ("focal_loss_alpha=[1.0]", "command line: focal_loss_alpha should be a number or [different, same]"),
        ("--learning_rate", "expected key=value after"),
        ("stage=dpo", "the judge is trained with stage: sft"),
        ("model_name_or_path=no-such/model", "unknown model 'no-such/model': no such local folder"),
        ("dataset=others", "no entry 'others' in"),
        ("learning_rate=0", "command line: learning_rate should be above 0, found 0"),
        ("gradient_accumulation_steps=0", "command line: gradient_accumulation_steps should be at least 1, found 0"),
        ("lora_rank=-1", "command line: lora_rank should be at least 1, found -1"),
        ("optim=galore_adamw_layerwise", "optim 'galore_adamw_layerwise' updates weights before"),
        ("dataset_dir=nowhere", "nowhere/dataset_info.json: no such file"),
        ("deepspeed=nowhere.json", "no such file: nowhere.json"),
        (f"deepspeed={ROOT / 'LLaMA-Factory' / 'ds_z3.json'}", "DeepSpeed needs a launcher: torchrun"),
    ],
)
def test_bad_values_exit_with_2_and_say_what(refused, override, message):
    assert message in refused(override)


def test_every_setting_of_the_installed_packages_was_looked_at(train, world, refused, monkeypatch):
    """Which of them could change the loss in silence? One that a newer version adds is refused, not passed on."""
    train.import_llamafactory()
    from llamafactory import hparams

    kinds = [getattr(hparams, f"{name}Arguments") for name in ("Model", "Data", "Training", "Finetuning", "Generating")]
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind) if field.init}
    assert fields == train.ACCEPTED | set(train.REASONS) and not train.ACCEPTED & set(train.REASONS)
    monkeypatch.setattr(train, "ACCEPTED", train.ACCEPTED - {"adam_beta1"})
    assert "command line: adam_beta1 is new in this version" in refused("adam_beta1=0.8")


def test_a_refused_setting_may_stand_at_what_it_is_anyway(train, world):
    train.import_llamafactory()
    given = [
        "packing=false",
        "label_smoothing_factor=0",
        "val_size=0.0",
        "tokenized_path=null",
        "resume_from_checkpoint=null",
        "average_tokens_across_devices=true",
        "infer_backend=huggingface",
    ]
    recipe = world / "recipe.yaml"
    train.check_keys(train.read_recipe(recipe, given), recipe, given)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"formatting": "sharegpt"}, "formatting should be alpaca, as stage 02 writes it, found 'sharegpt'"),
        ({"num_samples": 5}, "remove num_samples: every row is read once"),
        ({"file_name": "train.json"}, "file_name should be a .jsonl file"),
        ({"file_name": None}, "has no file_name"),
        ({"columns": {"prompt": "instruction", "response": "output"}}, "columns should be system, prompt, query and response"),
        ({"columns": {"system": "system", "history": "history"}}, "columns should be system, prompt, query and response"),
        ({"columns": {"system": None}}, "columns should map"),
    ],
)  # fmt: skip
def test_a_registry_whose_rows_would_not_all_be_read_as_they_stand_is_refused(refused, tmp_path, change, message):
    write_data(tmp_path / "data", [prompts.training_row(*pair) for pair in PAIRS])
    registry = tmp_path / "data" / "dataset_info.json"
    entries = json.loads(registry.read_text())
    registry.write_text(json.dumps({"deepprune_pairs": entries["deepprune_pairs"] | change}))
    line = refused(f"dataset_dir={tmp_path / 'data'}")
    assert f"{registry}: entry 'deepprune_pairs'" in line and message in line


def test_a_registry_that_is_no_registry_is_named(refused, tmp_path):
    registry = tmp_path / "dataset_info.json"
    for text, message in (("[]", "expected entries by name, found list"), ("{", "not valid JSON")):
        registry.write_text(text)
        assert message in refused(f"dataset_dir={tmp_path}") and str(registry) in refused(f"dataset_dir={tmp_path}")
    registry.write_bytes(b"\xff\xfe{")
    assert f"{registry}: not UTF-8" in refused(f"dataset_dir={tmp_path}")


def test_a_judge_of_nan_is_not_taken_for_trained(trained, refused, tmp_path, world):
    output = tmp_path / "judge"
    shutil.copytree(trained[1], output)
    spoil(output)
    line = refused(f"output_dir={output}")
    assert "adapter_model.safetensors is not finite; train anew with overwrite_output_dir=true" in line


def test_an_error_in_the_recipes_file_is_named(refused, tmp_path):
    assert f"{tmp_path / 'none.yaml'}: no such file" in refused(recipe=tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("stage: sft\n  do_train: [\n")
    assert f"{tmp_path / 'broken.yaml'}:2: not valid YAML" in refused(recipe=tmp_path / "broken.yaml")


def test_bad_training_rows_are_named_with_file_and_line(refused, tmp_path):
    rows = [prompts.training_row(*pair) for pair in PAIRS]
    file = tmp_path / "data" / "train.jsonl"
    here = f"dataset_dir={tmp_path / 'data'}"
    write_data(tmp_path / "data", rows[:1] + [rows[1] | {"output": "maybe"}])
    assert f"{file}:2: 'output' should be no or yes, found 'maybe'" in refused(here)
    write_data(tmp_path / "data", rows[:2] + [{"instruction": "?", "input": "", "output": "yes"}])
    assert f"{file}:3: a training row needs the text field 'system'" in refused(here)
    write_data(tmp_path / "data", [])
    assert f"{file}: no training rows" in refused(here)
    file.write_text(json.dumps(rows[0]) + '\n{"system": "cut')
    assert f"{file}:2: not valid JSON" in refused(here)
    file.unlink()
    assert f"{file}: no such file (entry 'deepprune_pairs'" in refused(here)


def test_what_upstream_refuses_before_the_first_step_is_one_clear_line(train):
    watch = train.make_watch(object())
    with pytest.raises(train.UserError, match="r.yaml: LLaMA-Factory refuses .*: ValueError: Please specify"):
        with train.refusals(Path("r.yaml"), watch):
            raise ValueError("Please specify dataset for training.")
    watch.on_step_begin(None, None, None)
    with (
        pytest.raises(ValueError),
        train.refusals(Path("r.yaml"), watch),
    ):  # a fault of ours or theirs: the traceback stays
        raise ValueError


def test_a_message_stands_on_a_line_of_its_own_below_the_progress_bar(train, capsys):
    watch = train.make_watch(object())
    state = types.SimpleNamespace(max_steps=8, global_step=0)
    with pytest.raises(train.UserError, match="step 3"), train.refusals(Path("r.yaml"), watch):
        watch.on_train_begin(None, state, None)
        watch.on_step_begin(None, state, None)
        state.global_step = 2
        watch.on_step_end(None, state, None)
        raise train.UserError("stopped at step 3")
    assert capsys.readouterr().err == "training: 2 of 8 in 00:00\n"


@pytest.mark.parametrize("name", RECIPES)
def test_our_recipes_hold_only_known_keys_and_good_values(train, name):
    train.import_llamafactory()
    recipe = ROOT / "Offline" / name
    args = train.read_recipe(recipe, [])
    where = train.check_keys(args, recipe, [])
    loss = train.take_loss_settings(args, where)
    assert loss.use_focal_loss and not [key for key in args if "focal" in key]
    assert isinstance(args["learning_rate"], float)
    if args["deepspeed"]:
        assert json.loads((ROOT / args["deepspeed"]).read_text())["zero_optimization"]["stage"] == 3


def test_what_stage_02_keeps_the_recipes_train_on():
    """paper.yaml kept pairs that both 4B recipes refused; the same holds for the small ones."""
    for stage, names in (("paper.yaml", RECIPES[:2]), ("cpu.yaml", RECIPES[2:])):
        cutoff = yaml.safe_load((ROOT / "scripts" / "recipes" / stage).read_text())["pairs"]["cutoff"]
        for name in names:
            longest = yaml.safe_load((ROOT / "Offline" / name).read_text())["cutoff_len"]
            assert longest == cutoff


def test_our_recipes_differ_in_values_only_but_for_lora(train):
    keys = {name: train.read_recipe(ROOT / "Offline" / name, []).keys() for name in RECIPES}
    full = keys.pop("Qwen3_full_sft.yaml")
    for lora in keys.values():
        assert lora - full == {"lora_rank", "lora_alpha", "lora_target"} and not full - lora


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


def test_a_template_that_asks_otherwise_than_the_evaluation_is_refused(train, world):
    train.import_llamafactory()
    model = models.resolve(str(world / "tiny"))
    train.check_template("smollm2", model, str)  # the one that fits
    for other in ("llama3", "vicuna", "no_such_template"):
        with pytest.raises(train.UserError, match=f"template {other!r} does not write the prompt.*fitting: .*smollm2"):
            train.check_template(other, model, str)


GEMMA = """{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
<start_of_turn>{{ m.role }}
{{ m.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""


def test_a_model_whose_template_knows_no_system_role_can_be_trained(train, world, tmp_path):
    """Its evaluation asks with the system text before the question, as LLaMA-Factory's template for Gemma writes it."""
    train.import_llamafactory()
    shutil.copytree(world / "tiny", tmp_path / "gemma")
    (tmp_path / "gemma" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(world / "tiny")
    tokenizer.chat_template = GEMMA
    tokenizer.save_pretrained(tmp_path / "gemma")
    model = models.resolve(str(tmp_path / "gemma"))
    train.check_template("gemma", model, str)
    with pytest.raises(train.UserError, match="fitting: .*gemma"):
        train.check_template("smollm2", model, str)


@pytest.mark.parametrize("template", ["smollm2", "qwen3_nothink"])
def test_training_and_evaluation_prompts_are_the_same_tokens(train, template):
    """qwen3_nothink writes the same turns as SmolLM2's chat template (both are ChatML)."""
    train.import_llamafactory()
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    tokenizer = AutoTokenizer.from_pretrained(models.resolve("HuggingFaceTB/SmolLM2-135M-Instruct").path)
    for question, a, b, label in PAIRS:
        prompt = prompts.prompt_ids(tokenizer, question, a, b)
        row = prompts.training_row(question, a, b, label)
        turns = [
            {"role": "user", "content": row["instruction"]},
            {"role": "assistant", "content": row["output"]},
        ]
        built = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=template))
        source, target = built.encode_multiturn(tokenizer, turns, row["system"], None)[0]
        assert source == prompt
        assert target[0] == prompts.label_token_ids(tokenizer)[label] and len(target) > 1


def test_a_problem_in_training_and_evaluation_is_refused(refused, tmp_path):
    rows = [prompts.training_row(*pair) | {"problem_id": f"p{i}"} for i, pair in enumerate(PAIRS)]
    write_data(tmp_path / "data", rows[:2])
    write_data(tmp_path / "data", rows[1:], "held_out.jsonl")
    registry = tmp_path / "data" / "dataset_info.json"
    entry = json.loads(registry.read_text())["deepprune_pairs"]
    registry.write_text(json.dumps({"deepprune_pairs": entry | {"file_name": "train.jsonl"}, "held_out": entry}))
    message = refused(f"dataset_dir={tmp_path / 'data'}", "eval_dataset=held_out")
    assert "command line: 1 problems stand in dataset and eval_dataset, p1 for one" in message


def test_rows_with_a_control_token_of_the_model_are_refused(refused, tmp_path):
    """Training would obey it; evaluation breaks it up."""
    row = prompts.training_row("2 + 3?", "a <|im_end|> here", "b", 1)
    assert "<|im_end|>" not in row["instruction"]
    write_data(tmp_path / "data", [row, row | {"instruction": row["instruction"].replace("here", "<|im_end|>")}])
    assert "train.jsonl:2: a control token of the model stands in 'instruction'" in refused(
        f"dataset_dir={tmp_path / 'data'}"
    )


@pytest.mark.parametrize("chat_template", [None, "{{ raise_exception('nothing goes') }}"])
def test_a_model_without_a_chat_template_for_a_judge_is_one_clear_line(refused, world, tmp_path, chat_template):
    tokenizer = AutoTokenizer.from_pretrained(world / "tiny")
    tokenizer.chat_template = chat_template
    shutil.copytree(world / "tiny", tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(tmp_path / "base")
    line = refused(f"model_name_or_path={tmp_path / 'base'}")
    assert "command line: " in line and str(tmp_path / "base") in line and "instruct model" in line
    (tmp_path / "base" / "tokenizer.json").write_text("{")
    assert "its tokenizer cannot be loaded" in refused(f"model_name_or_path={tmp_path / 'base'}")
