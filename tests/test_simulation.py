"""Simulated judges have the quality asked for; costs are counted again by plain loops."""

import itertools
import json

import numpy as np
import pytest
import toys
from transformers import AutoTokenizer

from deepprune.base import metrics
from deepprune.base.errors import UserError
from deepprune.evaluate import simulation
from deepprune.judges.pair_prompts import Frame, PairPrompts
from deepprune.judges.profiles import DEFAULT
from deepprune.prune import clustering, costs
from deepprune.prune.clustering import ClusterSettings

LABELS = [i % 3 if i % 11 else None for i in range(160)]


def pairs_of(labels, scores):
    upper = np.triu_indices(len(labels), 1)
    same = np.asarray([labels[i] is not None and labels[i] == labels[j] for i, j in zip(*upper, strict=True)])
    return same.astype(int), scores[upper]


@pytest.mark.parametrize("auroc", [0.5, 0.6, 0.75, 0.9, 0.99])
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_a_simulated_judge_has_its_auroc_and_is_symmetric(auroc, shared):
    measured = []
    for seed in range(4):
        scores = simulation.simulated_scores(LABELS, auroc, seed, "q", shared)
        assert np.array_equal(scores, scores.T) and scores.min() >= 0 and scores.max() <= 1
        measured.append(metrics.auroc(*pairs_of(LABELS, scores)))
    assert np.mean(measured) == pytest.approx(auroc, abs=0.012 if not shared else 0.04)
    again = simulation.simulated_scores(LABELS, auroc, 0, "q", shared)
    assert np.array_equal(again, simulation.simulated_scores(LABELS, auroc, 0, "q", shared))
    if auroc > 0.5:
        assert not np.array_equal(again, simulation.simulated_scores(LABELS, auroc, 0, "other", shared))


def test_what_a_question_has_in_common_moves_all_its_scores():
    logits = [np.log(s / (1 - s)) for s in (simulation.simulated_scores([0] * 30, 0.8, 0, f"q{i}", 0.1, 0.6)
                                            for i in range(400))]  # fmt: skip
    means = [x[np.triu_indices(30, 1)].mean() for x in logits]
    gap = 2 * 0.8416**2
    assert np.mean(means) == pytest.approx(gap / 2, abs=0.2)
    # The question's share, and a thirtieth of twice the traces'.
    assert np.var(means) == pytest.approx(gap * (0.6 + 2 * 0.1 / 30), rel=0.25)
    with pytest.raises(UserError, match="together"):
        simulation.simulated_scores([0, 1], 0.8, 0, "q", 0.5, 0.5)


def test_p_same_is_calibrated_for_equally_many_of_both():
    labels = [0] * 200 + [1] * 200  # nearly as many same as different pairs
    same, p = pairs_of(labels, simulation.simulated_scores(labels, 0.8, 1, "q"))
    assert metrics.expected_calibration_error(same, p) < 0.01


def test_the_oracle_is_exact_and_an_unknown_answer_is_alone():
    scores = simulation.simulated_scores([0, None, 0, None, 1], 1.0, 0, "q")
    assert scores[0, 2] == 1 and scores[0, 4] == 0 and scores[1, 3] == 0 and scores[1, 0] == 0
    placed = simulation.cluster(scores, ClusterSettings(), "q").placed
    assert placed == [0, 1, 0, 2, 3]
    with pytest.raises(UserError, match="auroc"):
        simulation.simulated_scores([0, 1], 0.4, 0, "q")


@pytest.mark.parametrize("asks", ["all", "needed"])
def test_clusters_are_the_pure_clusterings_and_every_question_is_recorded(asks):
    scores = simulation.simulated_scores(LABELS, 0.7, 3, "q")
    settings = ClusterSettings(k=5, k1=3, asks=asks)
    done = simulation.cluster(scores, settings, "q")
    asked = []

    def score(batch):
        asked.extend((a, b) for _, a, b in batch)
        return [float(scores[a, b]) for _, a, b in batch]

    clusters = clustering.lockstep({"q": clustering.greedy(len(LABELS), settings, "q")}, score)["q"]
    assert [[i for i, c in enumerate(done.placed) if c == n] for n in range(len(clusters))] == clusters
    assert [(a, b) for b, members in enumerate(done.asked) for a in members] == asked
    assert done.placed == simulation.cluster(scores, ClusterSettings(k=5, k1=3), "q").placed


def test_judge_tokens_by_hand():
    # Prefixes 5, 7, 9 in a frame of 2, 1 and 4. Trace 1 asks about 0; trace 2 about 0 and 1.
    asked, prefixes, frame = [[], [0], [0, 1]], [5, 7, 9], Frame(2, 1, 4)
    total = [2 + 5 + 1 + 7 + 4, 2 + 5 + 1 + 9 + 4, 2 + 7 + 1 + 9 + 4]
    # The second prompt starts as the first up to the new trace, the third has its head alone in common.
    assert costs.judge_tokens(asked, prefixes, 3, frame) == (sum(total), 2 + 5 + 1 + 2)
    assert costs.judge_tokens(asked, prefixes, 2, frame) == (total[0], 0)


@pytest.mark.parametrize("model", ["smol", "byte_bpe"])
def test_a_perfect_cache_is_what_real_prompts_have_in_common(model, request):
    """Counted on the prompts' own token ids: what a prompt shares with the longest start of an earlier one."""
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(model))
    question = "How many {prefix_a} are there?"
    texts = ["First, 3 plus 4", "We see that 12 is", "So let us multiply the two", "Then"]
    asked = [[], [0], [1, 0], [2, 0, 1]]
    lengths = [len(tokenizer.encode(t, add_special_tokens=False)) for t in texts]
    total = shared = 0
    earlier: list[list[int]] = []
    for new, members in enumerate(asked):
        for member in members:
            ids = toys.prompt_ids(tokenizer, question, texts[member], texts[new])
            total += len(ids)
            common = [
                sum(1 for _ in itertools.takewhile(lambda two: two[0] == two[1], zip(ids, e, strict=False)))
                for e in earlier
            ]
            shared += max(common, default=0)
            earlier.append(ids)
    counted, cached = costs.judge_tokens(asked, lengths, 4, PairPrompts(DEFAULT, tokenizer).frame(question))
    assert counted == total
    assert cached == pytest.approx(shared, abs=5)  # two traces may start with the same token


def test_questions_are_read_and_bad_rows_are_named(tmp_path):
    row = {"dataset": "D", "problem_id": "p", "gold": "1/2", "answer": "0.5", "n_tokens": 10}
    rows = [
        row,
        row | {"answer": "7"},
        row | {"answer": None},
        row | {"answer": "\\frac{1}{2}", "n_tokens": 20},
        row | {"problem_id": "q"},
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    first, second = simulation.read_answers(path)
    assert first.labels == [0, 1, None, 0] and first.right == 0 and first.lengths == [10, 10, 10, 20]
    assert second.labels == [0]
    for wrong, message in (
        ({"n_tokens": "9"}, "n_tokens"),
        ({"n_tokens": 0}, "at least 1"),
        ({"answer": 5}, "text or null"),
        ({"gold": None}, "gold"),
        ({"gold": " "}, "gold"),
        ({"gold": "3"}, "'3' here and '1/2' before"),
        ({"n_tokens": True}, "n_tokens"),
    ):
        path.write_text(json.dumps(row) + "\n" + json.dumps(row | wrong) + "\n")
        with pytest.raises(UserError, match=f"answers.jsonl:2: .*{message}"):
            simulation.read_answers(path)


def test_a_sample_that_stands_twice_would_vote_twice(tmp_path):
    row = {"dataset": "D", "problem_id": "p", "gold": "2", "answer": "2", "n_tokens": 10, "sample_id": 3}
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (row, row | {"sample_id": 4}, row)))
    with pytest.raises(UserError, match=r"answers\.jsonl:3: the sample 3 stands at .*answers\.jsonl:1 too"):
        simulation.read_answers(path)
