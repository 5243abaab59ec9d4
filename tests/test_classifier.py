"""Classifiers as judges: two labels or one logit, one text or two, on transformers and on vLLM's pooling runner."""

import dataclasses
import json

import pytest
import torch
import toys
from conftest import engine_scores
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from deepprune import judges
from deepprune.base.errors import UserError
from deepprune.judges import profiles
from deepprune.judges.profiles import CLASSIFIER

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [
    *SPECIAL,
    *map(str, range(60)),
    *"Ann has apples and buys more then gives away half How many are left First we add the tens of so".split(),
]


def make_bert(folder, labels, longest=512, kind=BertConfig, limit=None):
    """A tiny random BERT or RoBERTa with these labels, and a tokenizer that knows a few words.

    longest: positions; limit: the tokenizer's (default: the same).
    """
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=limit or longest,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = kind(
        pad_token_id=0,
        type_vocab_size=2,
        vocab_size=len(WORDS),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=longest,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return str(folder)


def reference(folder, request):
    """Logits of the question with the first prefix, and the second prefix."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    texts = f"{request.question}\n\n{request.prefix_a}", request.prefix_b
    with torch.no_grad():
        return model(**tokenizer(*texts, return_tensors="pt")).logits[0]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["LABEL_0", "LABEL_1"], lambda logits: logits.softmax(0)[1]),
        (["same", "different"], lambda logits: logits.softmax(0)[0]),
        (["score"], lambda logits: logits.sigmoid()[0]),
    ],
)
def test_p_same_is_the_classifiers_own(tmp_path, labels, expected):
    folder = make_bert(tmp_path / "bert", labels)
    judge = judges.open_judge("classifier", folder, dtype="float32", batch=3)
    asked = toys.requests()[:8]
    scores = judge.score(asked)
    assert [s.p_same for s in scores] == pytest.approx([expected(reference(folder, r)).item() for r in asked], abs=1e-5)
    assert len({round(s.p_same, 4) for s in scores}) > 2 and judge.label_mass is None
    described = judges.describe("classifier", folder)
    assert described["name"] == judge.name and judge.name.startswith("classifier:bert@")
    assert described["prompt_version"] == CLASSIFIER.version and described["parameters"] == judge.parameters > 0


def test_labels_that_no_profile_names_are_refused(tmp_path):
    for labels in (["entailment", "contradiction"], ["a", "b", "c"]):
        folder = make_bert(tmp_path / labels[0], labels)
        with pytest.raises(UserError, match=f"its labels are {', '.join(labels)};.*--judge-profile"):
            judges.open_judge("classifier", folder)
    profile = dataclasses.replace(CLASSIFIER, different="contradiction", same="entailment")
    profiles.save(profile, tmp_path / "entailment" / profiles.FILE)
    assert profiles.load(tmp_path / "entailment" / profiles.FILE) == profile
    (score,) = judges.open_judge("classifier", str(tmp_path / "entailment"), dtype="float32").score(toys.requests()[:1])
    logits = reference(str(tmp_path / "entailment"), toys.requests()[0])
    assert score.p_same == pytest.approx(logits.softmax(0)[0].item(), abs=1e-5)


def test_texts_that_are_too_long_are_cut_and_said(tmp_path, capsys):
    judge = judges.open_judge("classifier", make_bert(tmp_path / "bert", ["score"], longest=32))
    (score,) = judge.score(toys.requests()[:1])
    assert score.prompt_tokens == 32
    assert "1 of 1 pairs are longer than the 32 tokens" in capsys.readouterr().out


def test_positions_that_begin_after_the_padding_are_fewer(tmp_path):
    """RoBERTa's 40 positions are 39 tokens where the padding is token 0; no tokenizer need say so."""
    folder = make_bert(tmp_path, ["different", "same"], 40, RobertaConfig, limit=10**30)
    judge = judges.open_judge("classifier", folder, dtype="float32")
    long = dataclasses.replace(toys.requests()[0], prefix_a="so " * 50, prefix_b="Ann " * 50)
    assert judge.limit == 39 and judge.score([long])[0].prompt_tokens == 39
    judge.close()


def test_a_profile_of_two_texts_is_not_a_language_models(tiny, tmp_path):
    profiles.save(CLASSIFIER, tmp_path / "pair.yaml")
    with pytest.raises(UserError, match="it is a classifier's"):
        judges.open_judge("transformers", tiny, judge_profile=str(tmp_path / "pair.yaml"))


@pytest.mark.parametrize("labels", [["different", "same"], ["score"]])
def test_vllm_gives_the_scores_of_transformers(tmp_path, labels):
    folder, asked = make_bert(tmp_path / "bert", labels), toys.requests()
    fast = engine_scores(tmp_path, "vllm-classifier", folder, asked)
    slow = judges.open_judge("classifier", folder, dtype="float32").score(asked)
    assert [p for p, *_ in fast] == pytest.approx([s.p_same for s in slow], abs=0.02)
    assert [tokens for _, tokens, *_ in fast] == [s.prompt_tokens for s in slow]
    assert json.loads((tmp_path / "scores.json").read_text())
