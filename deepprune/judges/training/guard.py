"""Training stops at the step whose numbers are no longer finite: what a Trainer logs, saves and resumes from is finite.

transformers' Trainer goes on after a NaN: it leaves the loss out of its log, takes the step, and saves weights that
are NaN. `guarded` makes a Trainer class that stops instead, on all ranks at the same step:

    Trainer = guarded(transformers.Trainer)

- Before each optimizer step the losses of its micro-batches and the norm of the gradient are read. One that is not
  finite raises UserError with the step, the rows and settings to try. (DeepSpeed steps inside the backward pass:
  there the weights may be lost already, and are not saved.)
- A gradient of exactly zero under a loss that is not is as bad: the weights have run away so far that no number changes
  any more (a learning rate of 1e9 did so), and what would be saved is no judge.
- In float16 a gradient that overflows is no fault: the loss scaler skips the step and lowers its scale. MAX_SKIPPED
  skips in a row are one.
- Before each save the trained weights are read, and the last micro-batch's loss with them.
- An evaluation loss that is not finite raises UserError.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from deepprune.base.errors import UserError

ADVICE = "try flash_attn=disabled (eager attention), a lower learning_rate, or bf16=false fp16=false (float32)"
MAX_SKIPPED = 20  # steps in a row: the scaler starts at 2^16 and halves its scale at each
MAX_NAMED = 16  # rows in a message
LOST = 1e-3  # nats a target: a loss above it that has no gradient at all


@dataclasses.dataclass
class MicroBatch:
    """What one backward pass was about."""

    input_ids: torch.Tensor  # (rows, length)
    attention_mask: torch.Tensor | None  # the same shape; 0: padding
    loss: torch.Tensor  # scalar
    finite: torch.Tensor | bool  # whether the gradients summed up so far are finite (True where they cannot be read)

    def rows(self) -> list[list[int]]:
        """Token ids of each row, without padding."""
        mask = self.attention_mask
        if mask is None or mask.shape != self.input_ids.shape:
            return self.input_ids.tolist()
        return [ids[there.bool()].tolist() for ids, there in zip(self.input_ids, mask, strict=True)]


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a parameter or gradient that may be split over ranks (DeepSpeed ZeRO-3, FSDP)."""
    tensor = getattr(tensor, "ds_tensor", tensor)
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def all_finite(tensors: list[torch.Tensor]) -> torch.Tensor | bool:
    """Whether every value is finite, as a scalar tensor (True for no tensors)."""
    flags = [local(t).detach().isfinite().all() for t in tensors]
    return torch.stack([flag.to(flags[0].device) for flag in flags]).all() if flags else True


class Guard:
    """Goes before a Trainer in a class's bases (see `guarded`)."""

    @staticmethod
    def row_name(index: int) -> str:
        """What the user knows a row of train_dataset by (called only for a message)."""
        return f"row {index + 1} of the training data"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.args.logging_nan_inf_filter = False  # it logs the mean of the other losses for a NaN
        self._window: list[MicroBatch] = []  # since the last optimizer step
        self._skipped = 0  # float16 steps, in a row
        self._last_inputs: dict[str, Any] | None = None
        self._checking = False  # the weights that are about to be saved

    def training_step(self, model, inputs, *args, **kwargs):
        if len(self._window) >= self.args.gradient_accumulation_steps:
            raise RuntimeError("the Trainer took an optimizer step without _get_grad_norm: a new transformers version?")
        self._last_inputs = dict(inputs)
        try:
            loss = super().training_step(model, inputs, *args, **kwargs)
        except torch.OutOfMemoryError as error:
            shape = tuple(inputs["input_ids"].shape)
            raise UserError(
                f"step {self.state.global_step + 1}: the GPU's memory does not hold a batch of {shape} (rows, tokens): "
                "lower per_device_train_batch_size (and raise gradient_accumulation_steps), lower cutoff_len, or try "
                f"flash_attn=sdpa, which needs less than eager attention ({error})"
            ) from error
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        ids = inputs["input_ids"]
        self._window.append(MicroBatch(ids, inputs.get("attention_mask"), loss.detach(), all_finite(gradients)))
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        # The last thing that the Trainer does before an optimizer step.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        window, self._window = self._window, []
        value = None if norm is None else float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        losses = torch.stack([m.loss.float().sum() for m in window]).tolist()
        losses_fine = all(map(math.isfinite, losses))
        skipped = self._engine_skipped()
        norm_fine = not skipped and (value is None or math.isfinite(value))
        # DeepSpeed may tell an older norm, float16 may round a small one to zero.
        lost = value == 0.0 and sum(losses) > LOST and not (self.is_deepspeed_enabled or self.args.fp16)
        losses_fine, norm_fine, alive = self._everywhere(losses_fine, norm_fine, not lost)
        if losses_fine and norm_fine and alive:
            self._skipped = 0
        elif losses_fine and norm_fine:
            self._stop(window, True, "exactly 0: the weights have run away, nothing can be learned any more")
        elif losses_fine and self.args.fp16 and self._skipped < MAX_SKIPPED:
            self._skipped += 1
        else:
            self._stop(window, losses_fine, "not finite (DeepSpeed left the step out)" if skipped else value)
        return norm

    def _engine_skipped(self) -> bool:
        """Whether DeepSpeed, which has stepped by now, left the step out; the norm that it tells is then an older."""
        return self.is_deepspeed_enabled and self.accelerator.optimizer_step_was_skipped

    def _everywhere(self, *flags: bool) -> list[bool]:
        """Each flag: whether it holds on every rank. Called by all ranks together."""
        mine = torch.tensor([flags], dtype=torch.int64, device=self.args.device)
        return self.accelerator.gather(mine).bool().all(0).tolist()

    def _stop(self, window: list[MicroBatch], losses_fine: bool, norm: float | str | None) -> None:
        """Raise UserError naming the rows, on every rank with the same message. Called by all ranks together."""
        from accelerate.utils import gather_object

        unread = [m for m in window if not m.loss.isfinite().all()]
        first = next((i for i, m in enumerate(window) if not m.finite), None)
        # What is known best comes first: a loss is this rank's own, a gradient is so until the ranks are summed.
        alone = self.accelerator.num_processes == 1
        if unread:
            certain, guilty = 0, unread
        elif first is not None:
            certain, guilty = (1 if alone or first + 1 < len(window) else 2), [window[first]]
        else:
            certain, guilty = 3, window
        named = gather_object([(certain, self._names(guilty))])
        best = min(certain for certain, _ in named)
        names = [name for certain, rows in named if certain == best for name in rows]
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        if not losses_fine:
            what = "the loss is not finite"
        elif self.args.fp16:
            what = f"the gradient's norm is {norm}, and {MAX_SKIPPED} steps before it were skipped for the same reason"
        else:
            what = f"the loss is finite, the gradient's norm is {norm}"
        rows = "rows" if best < 2 else "among the rows"
        raise UserError(
            f"training stopped at step {self.state.global_step + 1}: {what}; {rows}: {', '.join(names[:MAX_NAMED])}"
            f"{more}; nothing of this step is saved; {ADVICE}"
        )

    def _names(self, batches: list[MicroBatch]) -> list[str]:
        """The rows of micro-batches by name and length; a row that is there several times has its first name."""
        wanted = [ids for batch in batches for ids in batch.rows()]
        places: dict[int, int] = {}
        try:
            for index, row in enumerate(self.train_dataset):
                for i, ids in enumerate(wanted):
                    if i not in places and list(row["input_ids"]) == ids:
                        places[i] = index
                if len(places) == len(wanted):
                    break
        except (TypeError, KeyError):  # a data set of another kind: the lengths must do
            pass
        return [
            f"{self.row_name(places[i]) if i in places else 'a row'} ({len(ids):,} tokens)"
            for i, ids in enumerate(wanted)
        ]

    def save_model(self, output_dir=None, _internal_call=False):
        self._check_weights()
        super().save_model(output_dir, _internal_call)

    def _check_weights(self) -> None:
        """Raise UserError if the trained weights are not finite, or give a loss that is not. Called by all ranks."""
        weights = [p for p in self.model.parameters() if p.requires_grad]
        weights_fine, loss_fine = self._everywhere(bool(all_finite(weights)), self._last_loss_is_finite())
        if not (weights_fine and loss_fine):
            what = "the last batch's loss under the new weights is" if weights_fine else "the weights are"
            raise UserError(f"after step {self.state.global_step} {what} not finite: they are not saved; {ADVICE}")

    @torch.no_grad()
    def _last_loss_is_finite(self) -> bool:
        if self._last_inputs is None:
            return True
        model = self.model_wrapped
        training, self._checking = model.training, True
        model.eval()  # no dropout: a save draws no random number
        loss = self.compute_loss(model, self._prepare_inputs(dict(self._last_inputs)))
        model.train(training)
        self._checking = False
        return bool(loss.isfinite().all())

    def evaluate(self, *args, **kwargs):
        metrics = super().evaluate(*args, **kwargs)
        for name, value in metrics.items():
            if name.endswith("loss") and not math.isfinite(value):
                raise UserError(f"after step {self.state.global_step} the evaluation's {name} is {value}; {ADVICE}")
        return metrics


def guarded(base: type, row_name: Callable[[int], str] | None = None) -> type:
    """A subclass of a Trainer that stops at the first step that is not finite. row_name: see Guard."""
    return type("GuardedTrainer", (Guard, base), {"row_name": staticmethod(row_name)} if row_name else {})


def weights_problem(folder: Path) -> str | None:
    """What is wrong with the weights saved in a folder (an adapter's or a model's, all shards), or None.

    Only safetensors files are read: not .bin files, not the shards of DeepSpeed or FSDP.
    """
    from safetensors import SafetensorError, safe_open

    files = sorted([*folder.glob("adapter_model*.safetensors"), *folder.glob("model*.safetensors")])
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():
                    if not tensors.get_tensor(name).isfinite().all():
                        return f"{name} in {file.name} is not finite"
        except (SafetensorError, OSError) as error:
            return f"{file.name} cannot be read ({error})"
    return None
