"""Scoring pairs: Sentence-BERT's script and its cache, what zero-shot refuses, files of other pairs."""

import json

import numpy as np
import pytest
from conftest import make_problem, make_trace, run_stage

from deepprune import judges
from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.base.provenance import file_hash
from deepprune.data import pairs
from deepprune.data.truncation import Truncation
from deepprune.engines import models
from deepprune.judges import scoring

SBERT = "Preliminaries/sentence_bert_similarity.py"


@pytest.fixture
def two_pair_files(tmp_path):
    """(all pairs of 5 traces, some of the same pairs in another file)."""
    problem = make_problem()
    texts = [
        "We add. So 4",
        "We add. Thus 4, since 2 and 2 is 4",
        "Multiply, then 5",
        "First 2. Now 2 more: 4",
        "Guess 9",
    ]
    all_pairs, _ = pairs.build(
        [make_trace(problem, i, "4" if "4" in t else "9", text=t) for i, t in enumerate(texts)],
        problem,
        Truncation("words", 1),
        None,
        0,
    )
    records.write(tmp_path / "all.jsonl", all_pairs)
    records.write(tmp_path / "some.jsonl", all_pairs[3:7])
    return tmp_path / "all.jsonl", tmp_path / "some.jsonl"


def test_sentence_bert_is_the_cosine_and_encodes_each_trace_once(two_pair_files, tmp_path):
    everything, few = two_pair_files
    done = run_stage(SBERT, "--pairs", everything, "--output", tmp_path / "a.jsonl", "--resamples", "20")
    assert done.returncode == 0, done.stderr
    scores = {s.pair_id: s for s in records.read(records.PairScore, tmp_path / "a.jsonl")}
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(models.resolve("all-MiniLM-L6-v2").path)
    all_pairs = list(records.read(records.Pair, everything))
    for pair in all_pairs:
        a, b = (encoder.encode(text) for text in (pair.prefix_a, pair.prefix_b))
        cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert scores[pair.pair_id].p_same == pytest.approx((1 + cosine) / 2, abs=1e-5)
    # Ten pairs read twenty prefixes; five of them were new to the encoder.
    read = sum(s.prompt_tokens - s.cached_tokens for s in scores.values())
    prefixes = {p.prefix_a for p in all_pairs} | {p.prefix_b for p in all_pairs}
    assert len(prefixes) == 5 and read == sum(len(encoder.tokenizer(t)["input_ids"]) for t in prefixes)
    # Another file of the same traces goes on from the cache: nothing is encoded again, the scores are the same.
    cache = tmp_path / "a.embeddings.npz"
    before = file_hash(cache)
    done = run_stage(SBERT, "--pairs", few, "--output", tmp_path / "b.jsonl", "--cache", cache, "--resamples", "20")
    assert done.returncode == 0, done.stderr
    for score in records.read(records.PairScore, tmp_path / "b.jsonl"):
        assert score.cached_tokens == score.prompt_tokens and score.p_same == scores[score.pair_id].p_same
    assert file_hash(cache) == before
    # Caches that are broken, or another encoder's, are refused.
    with np.load(cache) as data:
        np.savez(tmp_path / "other.npz", **{**data, "weights": np.asarray("0123")})
    (tmp_path / "broken.npz").write_bytes(cache.read_bytes()[:500])
    for name, message in (("other", "another encoder"), ("broken", "not a readable cache")):
        done = run_stage(
            SBERT, "--pairs", few, "--output", tmp_path / f"{name}.jsonl", "--cache", tmp_path / f"{name}.npz"
        )
        assert done.returncode == 2 and message in done.stderr and "delete it" in done.stderr


@pytest.mark.parametrize(
    "files", [{"adapter_config.json": {}}, {"config.json": {}, "manifest.json": {"stage": "train"}}]
)
def test_a_trained_judge_is_not_zero_shot(two_pair_files, tmp_path, files):
    judge = tmp_path / "judge"
    judge.mkdir()
    for name, content in files.items():
        (judge / name).write_text(json.dumps(content))
    done = run_stage(
        "Preliminaries/zero_shot_exp.py",
        "--pairs",
        two_pair_files[0],
        "--model",
        judge,
        "--output",
        tmp_path / "s.jsonl",
    )
    assert done.returncode == 2 and "is a trained judge, not a zero-shot one" in done.stderr
    assert not (tmp_path / "s.jsonl").exists()


def test_no_pairs_is_an_error(tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    done = run_stage(SBERT, "--pairs", tmp_path / "none.jsonl", "--output", tmp_path / "s.jsonl")
    assert done.returncode == 2 and "none.jsonl: no pairs" in done.stderr


def test_scores_of_other_pairs_or_of_the_same_judge_are_not_compared(two_pair_files, tmp_path):
    all_pairs = list(records.read(records.Pair, two_pair_files[0]))

    def write(name, chosen, judge):
        records.write(tmp_path / name, [records.PairScore(p.pair_id, judge, 0.5, False, 1, 0) for p in chosen])
        return tmp_path / name

    first = write("first.jsonl", all_pairs, "a")
    loaded = scoring.load([first, write("second.jsonl", all_pairs, "b")], all_pairs)
    assert list(loaded) == ["a", "b"] and set(loaded["b"]) == {p.pair_id for p in all_pairs}
    for name, chosen, judge in (("fewer", all_pairs[:-1], "b"), ("same", all_pairs, "a")):
        with pytest.raises(UserError, match=f"{name}.jsonl: .*(same pairs only|one further judge)"):
            scoring.load([first, write(f"{name}.jsonl", chosen, judge)], all_pairs)
    changed = [*all_pairs[:-1], records.Pair(**{**records.to_row(all_pairs[-1]), "pair_id": "other"})]
    with pytest.raises(UserError, match="scores 10 pairs, of which 9 are among the 10 given"):
        scoring.load([write("other.jsonl", changed, "b")], all_pairs)


class Breaks(judges.Judge):
    """Scores two pairs, then ends as its error says."""

    name = "breaks"

    def __init__(self, error):
        self.error = error

    def _stream(self, requests):
        for position, _ in zip(range(2), requests, strict=False):
            yield position, judges.Score(0.75, 10, 0, label_mass=0.9)
        raise self.error


def test_a_killed_run_knows_its_judge_and_a_refused_one_leaves_nothing(two_pair_files, tmp_path, monkeypatch):
    """Name, hash, size and label mass stand in the manifest with the first score; before it there is no manifest."""
    monkeypatch.setattr(judges.Judge, "FIRST", 1)
    described = {"name": "breaks", "sha256": "0" * 64, "source": "folder", "parameters": None}
    output = tmp_path / "scores.jsonl"
    settings = scoring.ScoringSettings(output=str(output), pairs=str(two_pair_files[0]))
    refused = Breaks(RuntimeError("never reached"))
    refused.least_label_mass = 0.95
    with pytest.raises(judges.NotAJudge, match="have 0.900 of the probability"):
        scoring.run(settings, described, lambda: refused, {})
    assert not output.exists() and not (tmp_path / "scores.manifest.json").exists()
    with pytest.raises(KeyboardInterrupt):
        scoring.run(settings, described, lambda: Breaks(KeyboardInterrupt()), {})
    manifest = json.loads((tmp_path / "scores.manifest.json").read_text())
    assert manifest["judge"] == described | {"label_mass": {"mean": 0.9, "least": 0.9, "prompts": 1}}
    assert manifest["judge_parameters"] is None and not manifest["complete"]
    assert len(list(records.read(records.PairScore, output))) == 2


def test_scoring_stops_at_a_judge_that_is_none(two_pair_files, tmp_path, tiny):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    broken = AutoModelForCausalLM.from_pretrained(tiny)
    torch.nn.init.constant_(broken.model.layers[1].mlp.down_proj.weight, float("nan"))
    broken.save_pretrained(tmp_path / "broken")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "broken")
    for model, message in ((tmp_path / "broken", "p_same = nan"), (tiny, "it would rather answer '")):
        done = run_stage(
            "Offline/test_model_performance_parallel.py",
            "--judge",
            "transformers",
            "--model",
            model,
            "--pairs",
            two_pair_files[0],
            "--output",
            tmp_path / "s.jsonl",
            "--resamples",
            "20",
        )
        assert (
            done.returncode == 2 and done.stderr.count("error: judge ") == 1 and message in done.stderr.splitlines()[-1]
        )
        assert not (tmp_path / "s.jsonl").exists()
