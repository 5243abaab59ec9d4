"""LLaMA-Factory's supervised fine-tuning with our loss, our guard and our bar in place of its own parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deepprune.base import console
from deepprune.engines import models
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.training.data import TrainingData
from deepprune.judges.training.focal_loss import Answers, trainer_class
from deepprune.judges.training.recipe import Recipe
from deepprune.judges.training.watch import Watch, refusals


def fine_tune(
    recipe: Recipe,
    data: TrainingData,
    model: models.ResolvedModel,
    prompts: PairPrompts,
    checkpoint: Path | None,
    watch: Watch,
) -> None:
    """Train, from a checkpoint or from the start; weights and log are written to the recipe's output folder."""
    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.train import tuner
    from llamafactory.train.sft import workflow

    answers = Answers(prompts.labels, tuple(prompts.answer))
    # The names through which LLaMA-Factory's SFT workflow finds what we replace.
    workflow.load_model = in_compute_dtype(workflow.load_model)
    workflow.CustomSeq2SeqTrainer = trainer_class(
        without_bar(workflow.CustomSeq2SeqTrainer),
        recipe.loss,
        answers,
        cutoff_len=recipe.cutoff_len,
        row_name=data.row_name,
    )
    # One training sample as text, in a run's log; upstream adds hundreds of token ids.
    SupervisedDatasetProcessor.print_data_example = lambda it, row: console.log(it.tokenizer.decode(row["input_ids"]))
    no_cudnn_attention()
    args = recipe.args | {
        "model_name_or_path": model.path,
        "cutoff_len": recipe.cutoff_len + answers.room,  # upstream counts the answer too
        # We choose the checkpoint; LLaMA-Factory's own search would take a half-written one.
        "resume_from_checkpoint": str(checkpoint) if checkpoint else None,
        "overwrite_output_dir": True,
    }
    with refusals(recipe.file, watch, recipe.output), console.others_hidden():
        tuner.run_exp(args, callbacks=[watch])


def in_compute_dtype(load_model: Callable) -> Callable:
    """LLaMA-Factory's load_model with frozen weights in float32 where that is what it computes in.

    Upstream loads weights in the checkpoint's own type (bfloat16) and, with bf16: false, leaves them so: on a CPU
    every product would be bfloat16's all the same, which a processor without it emulates hundreds of times slower.
    """

    def load(tokenizer, model_args, *args, **kwargs):
        import torch

        model = load_model(tokenizer, model_args, *args, **kwargs)
        return model.float() if model_args.compute_dtype == torch.float32 else model

    return load


def no_cudnn_attention() -> None:
    """Leave cuDNN out of sdpa's choices on a GPU: flash and memory-efficient attention stay.

    On H100 and H200 its backward pass gives NaN for some lengths (those that are 64 above a multiple of 128, with a
    mask) in bfloat16, torch 2.11 to 2.13: pytorch/pytorch issue 196678, found through Qwen2.5-0.5B in huggingface/trl
    issue 7181. Read, not tried by us: the recipes for GPUs take eager attention, which was seen to train well.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def without_bar(base: type) -> type:
    """A subclass of a Trainer that draws no bar and prints no log: Watch does."""
    from transformers import PrinterCallback, ProgressCallback

    class Silent(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            for shown in (PrinterCallback, ProgressCallback):
                self.remove_callback(shown)

    return Silent
