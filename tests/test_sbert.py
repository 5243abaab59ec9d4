"""Sentence-BERT as a judge."""

import math

import pytest
from toys import requests

from deepprune import judges
from deepprune.judges import Request, sbert


def test_sentence_bert_encodes_each_prefix_once():
    judge = judges.open_judge("sbert", "all-MiniLM-L6-v2")
    asked = requests()
    twice = [*asked, Request("q", asked[0].prefix_a, asked[0].prefix_a, "x", "y")]
    scores = judge.score(twice)
    assert scores[-1].p_same == pytest.approx(1.0, abs=1e-5)
    assert len(judge.vectors) == len({p for r in twice for p in (r.prefix_a, r.prefix_b)})
    assert sum(s.prompt_tokens - s.cached_tokens for s in scores) == sum(judge.tokens.values())


def test_prefixes_that_are_read_alike_are_encoded_once(monkeypatch):
    """Two prefixes of one trace, both longer than the encoder reads; and one that is shorter."""
    judge = judges.open_judge("sbert", "all-MiniLM-L6-v2")
    trace = " ".join(f"then {i}" for i in range(300))
    texts = [trace[:1200], trace, trace[:300]]
    encode, encoded = judge.model.encode, []
    expected = encode(texts, normalize_embeddings=True)
    monkeypatch.setattr(judge.model, "encode", lambda new, **more: encoded.extend(new) or encode(new, **more))
    vectors, read = judge.encode(texts)
    assert len(encoded) == 2 and texts[2] in encoded and read[:2] == [256, 256] and read[2] < 256
    assert vectors == pytest.approx(expected, abs=1e-5)
    judge.encode([trace[:1300]])
    assert len(encoded) == 2


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """Folder of a sentence encoder without layers or a limit of length: the mean of its words' vectors."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *"first we add multiply the tens apples of and so sum is".split()]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("static")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu").save(str(folder))
    return folder


def test_a_static_embedding_model_gives_scores(static):
    judge = judges.open_judge("sbert", str(static))
    texts = ["we add the tens", "we multiply the apples", "first we add " * 400, ""]
    asked = [Request("q", a, b, f"{i}", f"{j}") for i, a in enumerate(texts) for j, b in enumerate(texts)]
    scores = judge.score(asked)
    vectors = judge.model.encode(texts, normalize_embeddings=True)
    assert [s.p_same for s in scores] == pytest.approx(
        ((1 + vectors @ vectors.T) / 2).clip(0, 1).ravel().tolist(), abs=1e-5
    )
    assert scores[0].p_same == pytest.approx(1.0) and scores[0].prompt_tokens == 8
    assert scores[2].prompt_tokens == 4 + 1200  # no limit: all of it is read
    assert judge.parameters == judges.parameters_of("sbert", str(static)) == 13 * 16


def test_without_a_cache_file_not_all_embeddings_are_kept_for_ever(static, monkeypatch):
    monkeypatch.setattr(sbert, "MOST_KEPT", 3)
    judge = judges.open_judge("sbert", str(static))
    pairs = [Request("q", f"one {word}", f"two {word}", "a", "b") for word in ("three", "two", "one")]
    once = [judge.score([pair])[0].p_same for pair in pairs]
    assert [judge.score([pair])[0].p_same for pair in pairs] == once and len(judge.vectors) <= 5


def test_embeddings_that_are_not_finite_are_an_error_and_not_kept(static, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(static, tmp_path / "broken")
    (weights,) = (tmp_path / "broken").rglob("*.safetensors")
    tensors = load_file(weights)
    next(iter(tensors.values()))[2] = math.nan
    save_file(tensors, weights)
    judge = judges.open_judge("sbert", str(tmp_path / "broken"), cache=tmp_path / "cache.npz")
    with pytest.raises(judges.NotAJudge, match="embeddings are not finite"):
        judge.score([Request("q", "we add", "the sum", "a", "b")])
    assert not (tmp_path / "cache.npz").exists()
