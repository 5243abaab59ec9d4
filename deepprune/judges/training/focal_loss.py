"""The judge's loss: focal loss on the label token, for any transformers Trainer.

    L = -alpha_t (1 - p_t)^gamma log p_t      (Lin et al., arXiv 1708.02002; in DeepPrune, arXiv 2510.08483)

p_t is the softmax probability of the target token over the whole vocabulary. The gradient also flows through
the modulating factor (1 - p_t)^gamma. gamma = 0 and alpha = 1 is plain cross-entropy.

    from deepprune.judges.training.focal_loss import Answers, LossSettings, trainer_class
    Trainer = trainer_class(transformers.Trainer, LossSettings(focal_loss_gamma=2.0), Answers(((4607,), (10407,))))

How accumulation and several processes come out right: in scope 'label' the data collator hides every target
but the label, so the number of items that Trainer counts over an accumulation window (and over all
ranks) is the number of labels' tokens, and each micro-batch's sum is divided by that number.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from deepprune.base import config
from deepprune.base.errors import UserError
from deepprune.judges.training.guard import guarded

IGNORE = -100  # transformers' and LLaMA-Factory's mark for "no target here"
SCOPES = ("label", "all")
ANSWER_TOKENS = 16  # room after a prompt of cutoff_len tokens for the label and the end of the turn


@dataclasses.dataclass
class LossSettings:
    """The YAML keys that are ours (LLaMA-Factory's parser never sees them)."""

    use_focal_loss: bool = True  # false: cross-entropy, on the same tokens
    focal_loss_gamma: float = 2.0  # >= 0; 0 switches the modulating factor off
    # [different, same]: weight of the tokens of each class's label (1 for other tokens); one number: of every target
    focal_loss_alpha: float | list[float] = 1.0
    # label: only the label's tokens count; all: also what stands before it and the end-of-turn tokens after it
    focal_loss_scope: str = "label"

    def problem(self) -> tuple[str, str] | None:
        """(key, what is wrong with its value), or None."""

        def number(value):
            return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= config.LARGEST

        alpha = self.focal_loss_alpha
        if not isinstance(self.use_focal_loss, bool):
            return "use_focal_loss", f"should be true or false, found {self.use_focal_loss!r}"
        if not number(self.focal_loss_gamma):
            return "focal_loss_gamma", f"should be a number >= 0, found {self.focal_loss_gamma!r}"
        if isinstance(alpha, list) and len(alpha) != 2:
            return "focal_loss_alpha", f"should be a number or [different, same], found {len(alpha)} values"
        if not all(number(a) for a in (alpha if isinstance(alpha, list) else [alpha])):
            return "focal_loss_alpha", f"should be a number >= 0 or [different, same], found {alpha!r}"
        if not (any(alpha) if isinstance(alpha, list) else alpha):
            return "focal_loss_alpha", f"is zero for every class ({alpha!r}): nothing would be learned"
        scope = self.focal_loss_scope
        if scope not in SCOPES:
            return "focal_loss_scope", f"should be one of {', '.join(SCOPES)}, found {scope!r}"
        return None


def first_targets(labels: torch.Tensor) -> torch.Tensor:
    """Mask of the first target of each sample: a target whose predecessor is none.

    labels: (batch, length) token ids, IGNORE where there is no target. Several samples packed into one row
    each count, because a prompt (no targets) lies between their answers.
    """
    target = labels.ne(IGNORE)
    first = target.clone()
    first[..., 1:] &= ~target[..., :-1]
    return first


Label = tuple[int, ...]  # its token ids


@dataclasses.dataclass(frozen=True)
class Answers:
    """Token ids of what a judge answers: prefix, the answer prefix of its profile; labels, of (different, same)."""

    labels: tuple[Label, Label]
    prefix: Label = ()

    def places(self, targets: torch.Tensor, hidden_prefix: bool = False) -> list[torch.Tensor]:
        """Masks of the tokens of the label `different`, and of the label `same`.

        targets: (batch, length) token ids, IGNORE where there is no target. hidden_prefix: the prefix is no target.
        """
        prefix, masks = () if hidden_prefix else self.prefix, []
        for label in self.labels:
            starts, answer = first_targets(targets), (*prefix, *label)
            for offset, token in enumerate(answer):
                starts = starts & F.pad(targets, (0, offset), value=IGNORE)[..., offset:].eq(token)
            mask = torch.zeros_like(starts)
            for offset in range(len(prefix), len(answer)):
                mask |= F.pad(starts, (offset, 0))[..., : starts.shape[-1]]
            masks.append(mask)
        return masks

    def begin(self, answer: list[int]) -> bool:
        """Whether an answer's token ids begin with the prefix and a label."""
        whole = [[*self.prefix, *label] for label in self.labels]
        return any(answer[: len(ids)] == ids for ids in whole)

    @property
    def room(self) -> int:
        """Tokens after a prompt that an answer and the end of its turn may take."""
        return ANSWER_TOKENS + len(self.prefix) + max(map(len, self.labels)) - 1


class LabelOnly:
    """A data collator around another one: hides every target but the tokens of the label."""

    def __init__(self, collator: Any, answers: Answers):
        self.collator, self.answers = collator, answers

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.collator(features)
        different, same = self.answers.places(batch["labels"])
        batch["labels"] = batch["labels"].masked_fill(~(different | same), IGNORE)
        return batch


class FocalLoss:
    """`compute_loss_func` of a transformers Trainer. labels_only: LabelOnly has hidden the answer's prefix."""

    def __init__(self, gamma: float, alpha: float | list[float], answers: Answers, labels_only: bool = True):
        self.gamma, self.alpha, self.answers, self.labels_only = gamma, alpha, answers, labels_only

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss of one micro-batch, a scalar; 0 where no target is left.

        outputs.logits: (batch, length, vocabulary), labels: (batch, length), not shifted. num_items_in_batch:
        targets in the whole accumulation window over all ranks; None: the mean over this micro-batch.
        """
        logits, labels = outputs["logits"][:, :-1], labels.to(outputs["logits"].device)
        targets = labels[:, 1:]
        there = targets.ne(IGNORE)
        # Only the rows with a target are made float32: the (length, vocabulary) table is the big tensor here.
        targets = targets[there]
        ce = F.cross_entropy(logits[there].float(), targets, reduction="none")
        loss = ce
        if self.gamma:
            # 1 - exp(-ce) without cancellation near p = 1. The floor keeps the slope finite at p = 1.
            miss = -torch.expm1(-ce)
            loss = miss.clamp_min(torch.finfo(ce.dtype).tiny).pow(self.gamma) * ce
        if isinstance(self.alpha, list):
            weights = torch.ones_like(ce)
            for place, alpha in zip(self.answers.places(labels, self.labels_only), self.alpha, strict=True):
                weights = weights.masked_fill(place[:, 1:][there], alpha)
            loss = weights * loss
        elif self.alpha != 1:
            loss = self.alpha * loss
        items = targets.numel() if num_items_in_batch is None else num_items_in_batch
        return loss.sum() / (items.clamp(min=1) if torch.is_tensor(items) else max(items, 1))


def narrow(inputs: dict[str, Any]) -> dict[str, Any]:
    """Ask the model for the logits before a target only, and give it labels to match.

    The output head over a large vocabulary is a good part of a small model's work, and needed once a sample.
    Loss and gradient stay what they were: a leading column without target is kept for the usual shift by one.
    """
    labels = inputs["labels"]
    before = labels[:, 1:].ne(IGNORE).any(0).nonzero().squeeze(1)  # positions whose next token is a target
    if not len(before):
        return inputs
    lead = torch.full_like(labels[:, :1], IGNORE)
    targets = torch.cat([lead, labels[:, 1:][:, before]], dim=1)
    return {**inputs, "labels": targets, "logits_to_keep": torch.cat([before, before[-1:]])}


def check_targets(
    dataset: Any, answers: Answers, labels_only: bool, cutoff_len: int | None, what: str = "training"
) -> None:
    """Raise UserError if a tokenized row was cut off, or does not start its answer with a label.

    dataset: rows with 'labels' (list of token ids). labels_only: False where any answer will do.
    cutoff_len: longest prompt in tokens (None: any); rows were cut where the answer's room ends. what: the rows'
    name in the message.
    """
    wrong = cut = 0
    for labels in (row["labels"] for row in dataset.select_columns(["labels"])):
        prompt = next((i for i, t in enumerate(labels) if t != IGNORE), len(labels))
        cut += cutoff_len is not None and (prompt > cutoff_len or len(labels) >= cutoff_len + answers.room)
        wrong += labels_only and not answers.begin(labels[prompt:])
    if cut:
        raise UserError(
            f"{cut} of {len(dataset)} {what} rows have a prompt of more than cutoff_len ({cutoff_len}) tokens, whose "
            "end would be cut off: raise cutoff_len, or make the pairs with a lower --cutoff (stage 02) or shorter "
            "prefixes"
        )
    if wrong:
        raise UserError(
            f"{wrong} of {len(dataset)} {what} rows do not start their answer with one of the judge's "
            "labels: use a template without thinking (qwen3_nothink, not qwen3) and rows of stage 02"
        )


def trainer_class(
    base: type,
    settings: LossSettings,
    answers: Answers,
    cutoff_len: int | None = None,
    row_name: Callable[[int], str] | None = None,
) -> type:
    """A subclass of a Trainer with the judge's loss, which stops at the first step that is not finite.

    base: transformers.Trainer or a subclass; answers: what the judge is to answer, in its tokens; cutoff_len: training
    and evaluation rows with a longer prompt are refused (None: no check); row_name: see guard.guarded.
    """
    label_scope = settings.focal_loss_scope == "label"

    class JudgeTrainer(guarded(base, row_name)):
        def __init__(self, *args, **kwargs):
            if label_scope:
                kwargs["data_collator"] = LabelOnly(kwargs["data_collator"], answers)
            evaluation = kwargs.get("eval_dataset")
            evaluations = evaluation.values() if isinstance(evaluation, dict) else [evaluation]
            for what, rows in [("training", kwargs.get("train_dataset")), *(("evaluation", e) for e in evaluations)]:
                if hasattr(rows, "select_columns") and hasattr(rows, "__len__"):
                    check_targets(rows, answers, label_scope, cutoff_len, what)
            super().__init__(*args, **kwargs)
            model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
            self._narrow = label_scope and "logits_to_keep" in inspect.signature(model.forward).parameters
            if settings.use_focal_loss:
                gamma, alpha = settings.focal_loss_gamma, settings.focal_loss_alpha
                self.compute_loss_func = FocalLoss(gamma, alpha, answers, label_scope)

        def compute_loss(self, model, inputs, *args, **kwargs):
            # Not in evaluation, where metrics expect logits and labels of full length.
            if self._narrow and (model.training or self._checking):
                inputs = narrow(inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)

    return JudgeTrainer
