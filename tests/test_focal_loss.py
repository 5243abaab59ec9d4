"""The judge's loss against an independent computation, and against the Trainer's own cross-entropy."""

import copy
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from deepprune.base.errors import UserError
from deepprune.judges.training.focal_loss import (
    ANSWER_TOKENS,
    IGNORE,
    Answers,
    FocalLoss,
    LabelOnly,
    LossSettings,
    check_targets,
    first_targets,
    narrow,
    trainer_class,
)

NO, YES, END, NEWLINE = 5, 9, 2, 3  # token ids of a toy vocabulary
LABELS = Answers(((NO,), (YES,)))
VOCABULARY = 32


def logits_and_labels(seed=0):
    """(3, 7, VOCABULARY) float32 logits and labels whose answers are [label, END, NEWLINE]."""
    torch.manual_seed(seed)
    logits = 3 * torch.randn(3, 7, VOCABULARY)
    labels = torch.full((3, 7), IGNORE)
    for row, (start, label) in enumerate([(4, YES), (2, NO), (3, YES)]):
        labels[row, start : start + 3] = torch.tensor([label, END, NEWLINE])
    return logits, labels


def naive(logits, labels, gamma, alpha_of, items):
    """Focal loss and its gradient, written out term by term in float64.

    d/dz_j of -a (1-p)^g log p is  a (g (1-p)^(g-1) p log p - (1-p)^g) (onehot_j - softmax_j).
    """
    total, gradient = 0.0, torch.zeros_like(logits, dtype=torch.float64)
    for row, position in itertools.product(range(labels.shape[0]), range(1, labels.shape[1])):
        token = int(labels[row, position])
        if token == IGNORE:
            continue
        z = logits[row, position - 1].detach().double()
        softmax = torch.exp(z - torch.logsumexp(z, 0))
        p = softmax[token]
        alpha = alpha_of(token) / items
        total += -alpha * (1 - p) ** gamma * torch.log(p)
        slope = (gamma * (1 - p) ** (gamma - 1) * p * torch.log(p) if gamma else 0.0) - (1 - p) ** gamma
        onehot = torch.zeros(VOCABULARY, dtype=torch.float64)
        onehot[token] = 1
        gradient[row, position - 1] += alpha * slope * (onehot - softmax)
    return total, gradient


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [1.0, [0.75, 0.25]])
@pytest.mark.parametrize("scope", ["label", "all"])
def test_loss_and_gradient_equal_an_independent_computation(gamma, alpha, scope):
    logits, labels = logits_and_labels()
    if scope == "label":
        labels = labels.masked_fill(~first_targets(labels), IGNORE)
    items = int(labels.ne(IGNORE).sum())
    assert items == (3 if scope == "label" else 9)

    def alpha_of(token):
        return {NO: alpha[0], YES: alpha[1]}.get(token, 1.0) if isinstance(alpha, list) else alpha

    expected, gradient = naive(logits, labels, gamma, alpha_of, items)
    logits.requires_grad_()
    loss = FocalLoss(gamma, alpha, LABELS)({"logits": logits}, labels, torch.tensor(items))
    loss.backward()
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(logits.grad.double(), gradient, rtol=1e-4, atol=1e-7)
    mean = FocalLoss(gamma, alpha, LABELS)({"logits": logits}, labels)  # no count: the mean of the batch
    assert mean.item() == pytest.approx(loss.item(), rel=1e-6)


def test_gradient_through_the_modulating_factor_matches_finite_differences():
    logits, labels = logits_and_labels(1)
    logits = logits.double()
    labels = labels.masked_fill(~first_targets(labels), IGNORE)
    focal = FocalLoss(2.0, [0.3, 0.7], LABELS)

    def value(z):  # float32 inside: a step of 1e-2 keeps the rounding far below the tolerance
        return focal({"logits": z}, labels, 3).item()

    logits.requires_grad_()
    focal({"logits": logits}, labels, 3).backward()
    detached = logits.detach()
    for token in (YES, NO, 0):
        step = torch.zeros_like(detached)
        step[0, 3, token] = 1e-2  # row 0: the label is at position 4, predicted at 3
        slope = (value(detached + step) - value(detached - step)) / 2e-2
        assert slope == pytest.approx(logits.grad[0, 3, token].item(), abs=2e-4)
        # Treating the factor as a constant would give another slope at the label.
        p = torch.softmax(detached[0, 3], 0)[YES]
        if token == YES:
            assert abs(-0.7 / 3 * (1 - p) ** 2 * (1 - p) - slope) > 1e-3


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_certain_predictions_have_finite_loss_and_gradient(gamma):
    labels = torch.tensor([[IGNORE, YES], [IGNORE, YES]])
    logits = torch.zeros(2, 2, VOCABULARY)
    logits[0, 0, YES], logits[1, 0, NO] = 200.0, 200.0  # p = 1 and p = 0 in float32
    logits.requires_grad_()
    loss = FocalLoss(gamma, 1.0, LABELS)({"logits": logits}, labels)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert loss.item() == pytest.approx(100.0)  # the wrong one counts fully, the right one not at all
    assert logits.grad[0].abs().max() == 0 or gamma == 0


def test_bfloat16_logits_are_scored_in_float32():
    logits, labels = logits_and_labels(2)
    low = logits.bfloat16()
    focal = FocalLoss(2.0, 1.0, LABELS)
    assert focal({"logits": low}, labels).dtype == torch.float32
    assert focal({"logits": low}, labels).item() == focal({"logits": low.float()}, labels).item()


def test_first_targets_are_the_label_tokens_also_when_samples_are_packed():
    labels = torch.tensor(
        [
            [IGNORE, IGNORE, YES, END, NEWLINE, IGNORE, IGNORE, NO, END, NEWLINE],
            [IGNORE, NO, END, NEWLINE, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE],
        ]
    )
    assert first_targets(labels).nonzero().tolist() == [[0, 2], [0, 7], [1, 1]]
    batch = LabelOnly(lambda features: {"labels": labels, "input_ids": labels}, LABELS)([])
    assert batch["labels"].ne(IGNORE).sum() == 3 and (batch["input_ids"] == labels).all()


def tiny_model(**more):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        **more,
    )
    return LlamaForCausalLM(config)


def samples():
    """8 tokenized samples of different lengths; answers are [label, END, NEWLINE] of different lengths."""
    torch.manual_seed(3)
    rows = []
    for i in range(8):
        prompt = torch.randint(10, VOCABULARY, (4 + i,)).tolist()
        answer = [YES if i % 3 else NO, END, NEWLINE][: 2 + i % 2]
        rows.append({"input_ids": prompt + answer, "labels": [IGNORE] * len(prompt) + answer})
    return rows


def pad(features):
    length = max(len(f["labels"]) for f in features)

    def column(key, fill):
        return torch.tensor([f[key] + [fill] * (length - len(f[key])) for f in features])

    ids = column("input_ids", 0)
    mask = torch.tensor([[1] * len(f["labels"]) + [0] * (length - len(f["labels"])) for f in features])
    return {"input_ids": ids, "attention_mask": mask, "labels": column("labels", IGNORE)}


def one_step(tmp_path, kind, accumulation, collator=pad):
    """Loss and gradient of one optimizer step over the 8 samples, split into `accumulation` micro-batches."""
    seen = {}

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            seen["gradient"] = torch.cat([p.grad.flatten().clone() for p in model.parameters()])

    args = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        per_device_train_batch_size=8 // accumulation,
        max_steps=1,
        gradient_accumulation_steps=accumulation,
        learning_rate=0.0,
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=1,
        label_names=["labels"],
    )
    trainer = kind(
        model=copy.deepcopy(tiny_model()),
        args=args,
        train_dataset=samples(),
        data_collator=collator,
        callbacks=[Keep()],
        processing_class=SimpleNamespace(save_pretrained=None),
    )
    trainer.train()
    return trainer.state.log_history[0]["loss"], seen["gradient"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The Trainer's own cross-entropy in one batch: on all targets, and on data with the label only."""
    folder = tmp_path_factory.mktemp("reference")
    return {
        "all": one_step(folder, Trainer, 1),
        "label": one_step(folder, Trainer, 1, LabelOnly(pad, LABELS)),
    }


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("scope", ["label", "all"])
@pytest.mark.parametrize("focal", [True, False])
def test_gamma_zero_is_the_trainers_cross_entropy(tmp_path, reference, accumulation, scope, focal):
    settings = LossSettings(focal, 0.0, [1.0, 1.0], scope)
    loss, gradient = one_step(tmp_path, trainer_class(Trainer, settings, LABELS), accumulation)
    assert loss == pytest.approx(reference[scope][0], abs=1e-6)
    torch.testing.assert_close(gradient, reference[scope][1], rtol=0, atol=1e-6)
    assert abs(reference["label"][0] - reference["all"][0]) > 1e-3  # the scopes are different losses


@pytest.mark.parametrize("scope", ["label", "all"])
def test_focal_loss_does_not_depend_on_accumulation(tmp_path, scope):
    kind = trainer_class(Trainer, LossSettings(True, 2.0, [0.8, 0.3], scope), LABELS)
    whole, *split = [one_step(tmp_path, kind, n) for n in (1, 2, 4)]
    for loss, gradient in split:
        assert loss == pytest.approx(whole[0], abs=1e-6)
        torch.testing.assert_close(gradient, whole[1], rtol=0, atol=1e-6)
    model, batch = tiny_model(), pad(samples())
    labels = batch["labels"] if scope == "all" else LabelOnly(pad, LABELS)(samples())["labels"]
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    weights = {NO: 0.8, YES: 0.3}
    items = int(labels.ne(IGNORE).sum())
    expected, _ = naive(logits, labels, 2.0, lambda token: weights.get(token, 1.0), items)
    assert whole[0] == pytest.approx(float(expected), abs=1e-6)


def test_narrowed_logits_give_the_same_loss_and_gradient():
    batch = LabelOnly(pad, LABELS)(samples())
    few = narrow(dict(batch))
    focal, results = FocalLoss(2.0, 1.0, LABELS), []
    for inputs in (batch, few):
        model = tiny_model()
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        focal(outputs, labels, 8).backward()
        results.append((outputs.logits.shape[1], torch.cat([p.grad.flatten() for p in model.parameters()])))
    assert results[1][0] < results[0][0] == few["input_ids"].shape[1]
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-7)
    untargeted = {"labels": torch.full((2, 4), IGNORE)}
    assert narrow(untargeted) is untargeted


class Rows(list):
    """As much of a datasets.Dataset as check_targets needs."""

    def select_columns(self, columns):
        return Rows({c: row[c] for c in columns} for row in self)


def test_rows_that_are_cut_off_or_start_with_another_token_are_refused():
    rows = Rows(samples())
    check_targets(rows, LABELS, True, cutoff_len=11)  # the longest prompt
    with pytest.raises(UserError, match=r"2 of 8 training rows have a prompt of more than cutoff_len .9. tokens"):
        check_targets(rows, LABELS, True, cutoff_len=9)
    with pytest.raises(UserError, match="3 of 8 training rows do not start"):
        check_targets(rows, Answers(((YES,), (YES,))), True, cutoff_len=None)
    check_targets(rows, LABELS, False, cutoff_len=11)
    cut = Rows([{"labels": [IGNORE] * 9 + [YES] * (ANSWER_TOKENS + 1)}])  # a long answer, cut where the room ends
    with pytest.raises(UserError, match="1 of 1 training rows"):
        check_targets(cut, LABELS, False, cutoff_len=10)


@pytest.mark.parametrize("scope", ["label", "all"])
@pytest.mark.parametrize("several", [False, True])
def test_evaluation_rows_are_checked_as_training_rows_are(scope, several):
    """They were cut in silence, and the evaluation's loss was of half a prompt."""
    rows, long = Rows(samples()[:4]), Rows(samples())
    kind = trainer_class(Trainer, LossSettings(focal_loss_scope=scope), LABELS, cutoff_len=8)
    with pytest.raises(UserError, match="3 of 8 evaluation rows have a prompt of more than cutoff_len .8. tokens"):
        kind(train_dataset=rows, eval_dataset={"one": rows, "other": long} if several else long, data_collator=pad)


def test_without_a_target_the_loss_is_zero():
    logits = torch.randn(2, 4, VOCABULARY, requires_grad=True)
    for items in (None, 0, torch.tensor(0)):
        loss = FocalLoss(2.0, [0.0, 1.0], LABELS)({"logits": logits}, torch.full((2, 4), IGNORE), items)
        loss.backward()
        assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_tokens_that_cannot_be_said_and_classes_that_do_not_count_keep_the_loss_finite(gamma):
    logits, labels = logits_and_labels()
    logits[..., NEWLINE + 10] = -math.inf  # padding of the vocabulary
    logits.requires_grad_()
    labels = labels.masked_fill(~first_targets(labels), IGNORE)
    FocalLoss(gamma, [1.0, 0.0], LABELS)({"logits": logits}, labels, 3).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad[1].any() and not logits.grad[0].any()


@pytest.mark.parametrize(
    "values, key",
    [
        ({"focal_loss_gamma": -1}, "focal_loss_gamma"),
        ({"focal_loss_gamma": float("nan")}, "focal_loss_gamma"),
        ({"focal_loss_gamma": "2"}, "focal_loss_gamma"),
        ({"focal_loss_alpha": [1.0]}, "focal_loss_alpha"),
        ({"focal_loss_alpha": [1.0, 1.0, 1.0]}, "focal_loss_alpha"),
        ({"focal_loss_alpha": [0, 0.0]}, "focal_loss_alpha"),
        ({"focal_loss_alpha": [1.0, -0.5]}, "focal_loss_alpha"),
        ({"focal_loss_scope": "token"}, "focal_loss_scope"),
        ({"use_focal_loss": "yes"}, "use_focal_loss"),
    ],
)
def test_bad_settings_are_named(values, key):
    assert LossSettings(**values).problem()[0] == key


def test_good_settings_pass():
    assert LossSettings().problem() is None
    assert LossSettings(False, 0, [0.25, 1], "all").problem() is None
