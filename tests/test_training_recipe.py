"""A training recipe: which keys and values are refused, and in which words. Nothing is trained."""

import json
import types
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from training_world import RECIPES

from deepprune.base import runtime
from deepprune.base.errors import UserError
from deepprune.engines.upstream import import_llamafactory
from deepprune.judges.training import keys, recipe
from deepprune.judges.training.recipe import Recipe
from deepprune.judges.training.watch import Watch, refusals


@pytest.mark.parametrize(("bfloat16", "gpu"), [(True, False), (False, True), (False, False)])
def test_bf16_auto_is_what_the_machine_has(world, monkeypatch, bfloat16, gpu):
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(runtime, "has_gpu", lambda: gpu)
    file = world / "recipe.yaml"
    assert Recipe.read(file, ["bf16=auto", "use_cpu=true"]).args["bf16"] is bfloat16
    assert Recipe.read(file, ["bf16=auto", "use_cpu=false"]).args["bf16"] is gpu
    assert Recipe.read(file, ["bf16=true"]).args["bf16"] is True


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
    bad = tmp_path / "bad.yaml"
    bad.write_text(text + added + "\n")
    assert refused(recipe=bad).startswith(f"error: {bad}:{len(text.splitlines()) + 1}: {message}")


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
        ("cutoff_len=[512]", "command line: cutoff_len should be int, found [512]"),
        (f"max_samples=1{'0' * 400}", "command line: max_samples should be at most 2,147,483,647, found 1000"),
        (f"learning_rate=1{'0' * 400}", "command line: learning_rate should be at most 2,147,483,647, found 1000"),
        (f"focal_loss_gamma=1{'0' * 400}", "command line: focal_loss_gamma should be at most 2,147,483,647"),
        ("seed=4294967296", "command line: seed should be at most 4,294,967,295"),
        ("optim=galore_adamw_layerwise", "optim 'galore_adamw_layerwise' updates weights before"),
        ("dataset_dir=nowhere", "nowhere/dataset_info.json: no such file"),
        ("deepspeed=nowhere.json", "no such file: nowhere.json"),
        (f"deepspeed={ROOT / 'LLaMA-Factory' / 'ds_z3.json'}", "DeepSpeed needs a launcher: torchrun"),
    ],
)
def test_bad_values_exit_with_2_and_say_what(refused, override, message):
    assert message in refused(override)


def test_every_setting_of_the_installed_packages_was_looked_at(refused, monkeypatch):
    """Which of them could change the loss in silence? One that a newer version adds is refused, not passed on."""
    import_llamafactory()
    fields = set(recipe.upstream_fields()[0])
    assert fields == keys.ACCEPTED | set(keys.REASONS) and not keys.ACCEPTED & set(keys.REASONS)
    monkeypatch.setattr(recipe, "ACCEPTED", keys.ACCEPTED - {"adam_beta1"})
    assert "command line: adam_beta1 is new in this version" in refused("adam_beta1=0.8")


def test_a_refused_setting_may_stand_at_what_it_is_anyway(world):
    import_llamafactory()
    given = [
        "packing=false",
        "label_smoothing_factor=0",
        "val_size=0.0",
        "tokenized_path=null",
        "resume_from_checkpoint=null",
        "average_tokens_across_devices=true",
        "infer_backend=huggingface",
    ]
    Recipe.read(world / "recipe.yaml", given).check_keys()


def test_an_error_in_the_recipes_file_is_named(refused, tmp_path):
    assert f"{tmp_path / 'none.yaml'}: no such file" in refused(recipe=tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("stage: sft\n  do_train: [\n")
    assert f"{tmp_path / 'broken.yaml'}:2: not valid YAML" in refused(recipe=tmp_path / "broken.yaml")


def test_what_upstream_refuses_before_the_first_step_is_one_clear_line():
    watch = Watch(object())
    with pytest.raises(UserError, match="r.yaml: LLaMA-Factory refuses .*: ValueError: Please specify"):
        with refusals(Path("r.yaml"), watch):
            raise ValueError("Please specify dataset for training.")
    watch.on_step_begin(None, None, None)
    with (
        pytest.raises(ValueError),
        refusals(Path("r.yaml"), watch),
    ):  # a fault of ours or theirs: the traceback stays
        raise ValueError


def test_a_message_stands_on_a_line_of_its_own_below_the_progress_bar(capsys):
    watch = Watch(object())
    state = types.SimpleNamespace(max_steps=8, global_step=0)
    with pytest.raises(UserError, match="step 3"), refusals(Path("r.yaml"), watch):
        watch.on_train_begin(None, state, None)
        watch.on_step_begin(None, state, None)
        state.global_step = 2
        watch.on_step_end(None, state, None)
        raise UserError("stopped at step 3")
    assert capsys.readouterr().err == "training: 2 of 8 in 00:00\n"


@pytest.mark.parametrize("name", RECIPES)
def test_our_recipes_hold_only_known_keys_and_good_values(name):
    import_llamafactory()
    ours = Recipe.read(ROOT / "Offline" / name, [])
    ours.check_keys()
    ours.take_ours()
    assert ours.loss.use_focal_loss and not [key for key in ours.args if "focal" in key]
    assert isinstance(ours.args["learning_rate"], float)
    if ours.args["deepspeed"]:
        assert json.loads((ROOT / ours.args["deepspeed"]).read_text())["zero_optimization"]["stage"] == 3


def test_what_stage_02_keeps_the_recipes_train_on():
    """paper.yaml kept pairs that both 4B recipes refused; the same holds for the small ones."""
    for stage, names in (("paper.yaml", RECIPES[:2]), ("cpu.yaml", RECIPES[2:])):
        cutoff = yaml.safe_load((ROOT / "scripts" / "recipes" / stage).read_text())["pairs"]["cutoff"]
        for name in names:
            longest = yaml.safe_load((ROOT / "Offline" / name).read_text())["cutoff_len"]
            assert longest == cutoff


def test_our_recipes_differ_in_values_only_but_for_lora():
    keys_of = {name: Recipe.read(ROOT / "Offline" / name, []).args.keys() for name in RECIPES}
    full = keys_of.pop("Qwen3_full_sft.yaml")
    for lora in keys_of.values():
        assert lora - full == {"lora_rank", "lora_alpha", "lora_target"} and not full - lora
