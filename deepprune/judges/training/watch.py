"""What is seen of a training while it runs: the progress bar, the log, and errors as one line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from transformers import TrainerCallback

from deepprune.base import console, progress
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.stage import places
from deepprune.base.storage import storage_trouble

REFUSALS = (ValueError, TypeError, ImportError, AssertionError, AttributeError, RuntimeError, OSError)


class Watch(TrainerCallback):
    """Draws the progress bar, keeps the log for the manifest, and notes at each save the time spent so far.

    manifest: of the rank that writes; None on the others, which draw nothing.
    """

    def __init__(self, manifest: Manifest | None, draw: bool = True):
        self.manifest, self.draw = manifest, draw
        self.log: list[dict] = []
        self.rows = self.steps = 0
        self.begun = False
        self.bar = None

    def on_train_begin(self, args, state, control, **kwargs):
        dataset = getattr(kwargs.get("train_dataloader"), "dataset", None)
        self.rows = len(dataset) if hasattr(dataset, "__len__") else 0
        if self.manifest and self.draw:
            self.bar = progress.bar(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

    def on_step_begin(self, args, state, control, **kwargs):
        self.begun = True

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.manifest:
            console.log(str(logs))
        if self.bar and "loss" in (logs or {}):
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}", refresh=False)

    def on_save(self, args, state, control, **kwargs):
        if self.manifest:
            now = time.monotonic()
            self.manifest.data["wall_seconds"] += round(now - self.manifest.started, 1)
            self.manifest.started = now
            self.manifest.data["complete"] = False
            self.manifest.save()

    def on_train_end(self, args, state, control, **kwargs):
        self.log, self.steps = state.log_history, state.global_step
        self.close()

    def close(self):
        if self.bar:
            self.bar.close()
            self.bar = None


@contextlib.contextmanager
def refusals(recipe: Path, watch: Watch, output: Path | None = None) -> Iterator[None]:
    """What is raised before the first step is about the settings or the model: one clear line.

    Later it is a fault: a traceback; save for a full disk, which is one line whenever it comes. However it ends, the
    progress bar's line is closed first.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # SafetensorError is nothing else
        trouble = storage_trouble(error, output or ".", *places())
        if trouble:
            raise UserError(
                f"{trouble}; the last whole checkpoint is kept, the same command goes on from it"
            ) from error
        if watch.begun or not isinstance(error, REFUSALS):
            raise
        kind = type(error).__name__
        raise UserError(f"{recipe}: LLaMA-Factory refuses these settings or this model: {kind}: {error}") from error
    finally:
        watch.close()
