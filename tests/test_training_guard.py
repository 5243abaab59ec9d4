"""A training whose numbers are not finite stops at that step, names the rows, and saves nothing of it."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_focal_loss import pad, samples
from test_focal_loss import tiny_model as plain_model
from transformers import Trainer, TrainerCallback, TrainingArguments

from deepprune.base.errors import UserError
from deepprune.judges.training.guard import MAX_SKIPPED, guarded, weights_problem

POISON = 31  # a token whose embedding is NaN, or whose gradient is


class BadGradient(torch.autograd.Function):
    """The identity, whose gradient is NaN."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.nan


def tiny_model(poison=None):
    """poison: 'loss' or 'gradient' is NaN for rows with POISON."""
    model = plain_model(tie_word_embeddings=False)
    if poison == "loss":
        model.model.embed_tokens.weight.data[POISON] = math.nan
        model.model.embed_tokens.weight.requires_grad_(False)  # a frozen base: what is trained is finite
    if poison == "gradient":

        def hook(module, inputs, output):
            return BadGradient.apply(output) if (inputs[0] == POISON).any() else output

        model.model.embed_tokens.register_forward_hook(hook)
    return model


def rows(poisoned=None):
    """8 tokenized rows without POISON, but for one."""
    data = [{key: [min(t, POISON - 1) for t in value] for key, value in row.items()} for row in samples()]
    if poisoned is not None:
        data[poisoned]["input_ids"][1] = POISON
    return data


def trainer(tmp_path, model, base=Trainer, train=None, callbacks=None, row_name=None, evaluation=None, **settings):
    settings = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 1,
        "learning_rate": 0.1,
        "optim": "sgd",
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "train_sampling_strategy": "sequential",
    } | settings
    args = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=1,
        label_names=["labels"],
        **settings,
    )
    return guarded(base, row_name)(
        model=model,
        args=args,
        train_dataset=train or rows(),
        data_collator=pad,
        callbacks=callbacks,
        eval_dataset=evaluation,
    )


@pytest.mark.parametrize("poison", ["loss", "gradient"])
@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_the_step_and_the_row_are_named_and_nothing_of_the_step_is_kept(tmp_path, poison, clip):
    """Row 5 (from 0) is in the third step's second micro-batch."""
    model = tiny_model(poison)
    watched = {}

    class Keep(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            watched[state.global_step] = model.lm_head.weight.detach().clone()

    it = trainer(
        tmp_path, model, train=rows(poisoned=5), callbacks=[Keep()], row_name=lambda i: f"pair {i}", max_grad_norm=clip
    )
    length = len(rows()[5]["input_ids"])
    with pytest.raises(UserError) as stop:
        it.train()
    message = str(stop.value)
    assert "step 3" in message and f"rows: pair 5 ({length} tokens);" in message and "flash_attn=disabled" in message
    assert ("the loss is not finite" if poison == "loss" else "the gradient's norm is nan") in message
    assert list(watched) == [1, 2] and torch.equal(model.lm_head.weight, watched[2])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["checkpoint-1", "checkpoint-2"]
    assert weights_problem(tmp_path / "out" / "checkpoint-2") is None or poison == "loss"
    assert all(math.isfinite(value) for entry in it.state.log_history for value in entry.values())


RANKS = """
import sys
from pathlib import Path
from test_training_guard import rows, tiny_model, trainer

folder = Path(sys.argv[1])
for poison in ("loss", "gradient"):
    it = trainer(
        folder / poison,
        tiny_model(poison),
        train=rows(poisoned=5),
        gradient_accumulation_steps=1,
        row_name=lambda i: f"pair {i}",
    )
    try:
        it.train()
    except Exception as error:
        (folder / f"{poison}-{it.args.process_index}").write_text(str(error))
"""


def test_all_ranks_stop_together_with_one_message(tmp_path):
    """torchrun, two processes: row 5 is rank 1's, in the third step; a gradient is known after the ranks are summed."""
    (tmp_path / "ranks.py").write_text(RANKS)
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            tmp_path / "ranks.py",
            tmp_path,
        ],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for poison in ("loss", "gradient"):
        message, other = ((tmp_path / f"{poison}-{rank}").read_text() for rank in (0, 1))
        assert message == other and "training stopped at step 3" in message and "pair 5" in message
        assert ("pair 4" in message) == (poison == "gradient")
        assert sorted(p.name for p in (tmp_path / poison / "out").iterdir()) == ["checkpoint-1", "checkpoint-2"]


def test_a_wild_learning_rate_stops(tmp_path):
    """It ended as trained, with a loss of 0.0 in the log."""
    with pytest.raises(UserError, match=r"step \d+.* not finite.*lower learning_rate"):
        trainer(tmp_path, tiny_model(), learning_rate=1e38, max_grad_norm=0).train()
    assert not any((tmp_path / "out").glob("*/model.safetensors"))


def test_weights_that_ran_away_to_where_nothing_changes_stop(tmp_path):
    """All numbers are finite, the gradient is exactly zero: with a learning rate of 1e9 it ended as trained."""
    model = tiny_model()
    model.lm_head.register_forward_hook(lambda module, inputs, output: output * 0.0)
    with pytest.raises(
        UserError,
        match=r"stopped at step 1: the loss is finite, the gradient's norm is exactly 0: .*lower learning_rate",
    ):
        trainer(tmp_path, model).train()
    assert not any((tmp_path / "out").glob("*/model.safetensors"))


@pytest.mark.parametrize("which", ["weights", "loss under"])
def test_weights_that_the_last_step_spoiled_are_not_saved(tmp_path, which):
    """After the last step no further one would notice."""
    model = tiny_model()

    class Spoil(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            model.lm_head.weight.data[0, 0] = math.nan if which == "weights" else 3e38
            model.model.norm.weight.data *= 1 if which == "weights" else 3e38

    it = trainer(tmp_path, model, callbacks=[Spoil()], max_steps=1)
    with pytest.raises(UserError, match=f"after step 1 the .*{which}.* not finite: they are not saved"):
        it.train()
    assert not any((tmp_path / "out").glob("**/*.safetensors"))


@pytest.mark.parametrize("bad_steps", [3, 1000])
def test_a_float16_scaler_may_skip_steps_but_not_for_ever(tmp_path, bad_steps):
    class Overflowing(Trainer):
        steps = 0

        def _get_grad_norm(self, model, grad_norm=None):
            self.steps += 1
            return torch.tensor(math.inf if self.steps <= bad_steps else 1.0)

    it = trainer(tmp_path, tiny_model(), Overflowing, num_train_epochs=8, save_strategy="no", learning_rate=0.0)
    it.args.fp16 = True  # after the start: a CPU has no float16 training
    if bad_steps == 3:
        assert it.train().global_step == 32
    else:
        with pytest.raises(UserError, match=rf"step {MAX_SKIPPED + 1}: .*norm is inf, and {MAX_SKIPPED} steps before"):
            it.train()


def test_a_step_that_deepspeed_left_out_stops_too(tmp_path):
    """Its norm is then the one of an earlier step."""
    it = trainer(tmp_path, tiny_model())
    assert it._engine_skipped() is False
    it._engine_skipped = lambda: True
    with pytest.raises(
        UserError, match="step 1: the loss is finite, the gradient's norm is not finite .DeepSpeed left"
    ):
        it.train()


def test_too_little_memory_is_one_clear_line(tmp_path):
    class Full(Trainer):
        def training_step(self, *args, **kwargs):
            raise torch.OutOfMemoryError("Tried to allocate 20 GiB.")

    with pytest.raises(
        UserError, match=r"step 1: .*batch of \(1, \d+\) .rows, tokens.*per_device_train_batch_size.*20 GiB"
    ):
        trainer(tmp_path, tiny_model(), Full).train()


def test_an_evaluation_loss_that_is_not_finite_stops(tmp_path):
    it = trainer(tmp_path, tiny_model("loss"), evaluation=rows(poisoned=2), eval_strategy="steps", eval_steps=1)
    with pytest.raises(UserError, match="after step 1 the evaluation's eval_loss is nan"):
        it.train()


def test_the_check_before_a_save_changes_nothing(tmp_path):
    """The same losses and weights with and without the guard, dropout and saves included."""
    results = []
    for kind in (guarded(Trainer), Trainer):
        model = tiny_model()
        model.config.attention_dropout = 0.2
        args = TrainingArguments(
            output_dir=str(tmp_path / kind.__name__),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            seed=1,
            per_device_train_batch_size=2,
            max_steps=4,
            logging_steps=1,
            save_steps=1,
            remove_unused_columns=False,
        )
        it = kind(model=model, args=args, train_dataset=rows(), data_collator=pad)
        it.train()
        losses = [entry["loss"] for entry in it.state.log_history if "loss" in entry]
        results.append((losses, {name: value.clone() for name, value in model.state_dict().items()}))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(value, results[1][1][name]) for name, value in results[0][1].items())


def test_saved_weights_are_read_shard_by_shard(tmp_path):
    assert weights_problem(tmp_path) is None  # nothing that could be read
    fine = {"a.weight": torch.ones(2, dtype=torch.bfloat16), "steps": torch.tensor([3])}
    save_file(fine, tmp_path / "model-00001-of-00002.safetensors")
    save_file(fine, tmp_path / "model-00002-of-00002.safetensors")
    assert weights_problem(tmp_path) is None
    save_file(fine | {"b.weight": torch.tensor([1.0, math.inf])}, tmp_path / "model-00002-of-00002.safetensors")
    assert weights_problem(tmp_path) == "b.weight in model-00002-of-00002.safetensors is not finite"
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"half a file")
    assert "model-00001-of-00002.safetensors cannot be read" in weights_problem(tmp_path)
