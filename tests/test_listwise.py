"""The list-wise judge: its data, its prompt, its scores against plain transformers, and the sketch beside it."""

import json
import re

import pytest
from conftest import engine_scores, make_problem, make_trace, run_stage
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from deepprune import clustering, jsonl, pairs, prompts, records, rules
from deepprune.errors import UserError
from deepprune.judges import Request
from deepprune.truncation import Truncation

WHOLE = Truncation("words", 1000)


@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=0, max_size=12), st.integers(1, 3))
def test_lists_are_states_of_perfect_clustering(answers, most):
    problem = make_problem(2, "4")
    traces = [make_trace(problem, i, a) for i, a in enumerate(answers)]
    answer = {t.text: t.answer for t in traces}
    made = pairs.build_lists(traces, problem, WHOLE, 20, 0, most=most)
    for item in made:
        listed = [answer[r] for r in item.representatives]
        assert 1 <= len(listed) <= most and len(set(listed)) == len(listed) and None not in listed
        assert item.new not in item.representatives and answer[item.new] is not None
        assert item.label == (listed.index(answer[item.new]) if answer[item.new] in listed else None)
    known = [a for a in answers if a is not None]
    if len(set(known)) > 1:
        assert sum(item.label is None for item in made) >= 10 - (most < len(set(known))) * 10
    elif len(known) > 1:
        assert len(made) == 10 and all(item.label == 0 for item in made)
    else:
        assert not made
    assert made == pairs.build_lists(traces, problem, WHOLE, 20, 0, most=most)


def test_the_prompt_starts_alike_when_a_cluster_is_opened(smol):
    tokenizer = AutoTokenizer.from_pretrained(smol)
    a = prompts.list_prompt_ids(tokenizer, "How {many}?", ["one {new}", "two"], "three")
    b = prompts.list_prompt_ids(tokenizer, "How {many}?", ["one {new}", "two", "{representatives}"], "four")
    common = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    text = tokenizer.decode(a[:common])
    assert "How {many}?" in text and "Solution A (beginning):\none {new}" in text and text.rstrip().endswith("two")
    assert "Solution C (beginning):\n{representatives}\n\nNew solution (beginning):\nfour" in tokenizer.decode(b)
    with pytest.raises(UserError, match="at most 52 clusters apart, found 53: lower K"):
        prompts.list_user_message("?", ["x"] * 53, "y")


@pytest.mark.parametrize("model", ["smol", "byte_bpe"])
def test_labels_are_single_different_tokens(model, request):
    ids = prompts.label_token_ids(AutoTokenizer.from_pretrained(request.getfixturevalue(model)), prompts.LIST_LABELS)
    assert len(set(ids)) == len(prompts.LIST_LABELS) == 53


def test_scores_are_those_of_one_forward_pass_a_new_trace(tmp_path, smol):
    import torch
    from transformers import AutoModelForCausalLM

    question = "Ann has 17 apples and buys 25 more. How many has she?"
    first = ["First we add the tens of 17 and 25, so 30.", "She gives away 25, so we subtract", "17 * 25 is"]
    news = [(2, "Adding the tens gives 30"), (3, "We multiply both"), (1, "30 and then 12 more")]
    asked = [
        Request(question, r, new, f"r{i}", f"n{j}") for j, (m, new) in enumerate(news) for i, r in enumerate(first[:m])
    ]
    found = engine_scores(tmp_path, "listwise", smol, asked)
    tokenizer, model = (
        AutoTokenizer.from_pretrained(smol),
        AutoModelForCausalLM.from_pretrained(smol, dtype=torch.float32),
    )
    labels = [tokenizer.convert_tokens_to_ids(label) for label in "0ABC"]
    expected, tokens, calls = [], [], []
    for m, new in news:
        ids = prompts.list_prompt_ids(tokenizer, question, first[:m], new)
        with torch.no_grad():
            p = model(torch.tensor([ids])).logits[0, -1, labels].double().softmax(-1).tolist()
        expected += [(1 - p[0]) * p[i + 1] / max(p[1:]) for i in range(m)]  # the likeliest: 1 - p(none)
        tokens += [len(ids)] + [0] * (m - 1)
        calls += [1] + [0] * (m - 1)
    assert len({round(p, 3) for p in expected}) > 3
    assert [p for p, *_ in found] == pytest.approx(expected, abs=0.02)
    assert [n for _, n, _, _ in found] == tokens and [c for *_, c in found] == calls


def test_clustering_asks_once_about_each_cluster():
    """Traces 0 and 2 are alike, 1 is not; the judge is asked about first members only."""
    rule = clustering.ClusterSettings(comparisons="listwise", k1=5)
    running = clustering.greedy(4, rule)
    assert next(running) == [(0, 1)]
    assert running.send([0.5]) == [(0, 2), (1, 2)]  # exactly tau: not above it
    assert running.send([0.7, 0.6]) == [(0, 3), (1, 3)]
    with pytest.raises(StopIteration) as stop:
        running.send([0.6, 0.8])
    assert stop.value.value == [[0, 2], [1, 3]]


def test_judge_and_comparisons_go_together():
    rules.check_listwise("listwise", "listwise")
    rules.check_listwise("vllm", "needed")
    for judge, comparisons in (("listwise", "all"), ("vllm", "listwise")):
        with pytest.raises(UserError, match="go together"):
            rules.check_listwise(judge, comparisons)


def test_stage_02_writes_its_rows_and_they_are_checked(sample, tmp_path):
    problems, traces = sample
    done = run_stage(
        "Offline/build_pair_dataset.py", "--problems", problems, "--traces", traces, "--data-dir", tmp_path / "data", "--name", "few",
        "--tokenizer", "HuggingFaceTB/SmolLM2-135M-Instruct", "--lists-per-problem", "6", "--test-share", "0.3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # 4 problems x 5 known answers, all shorter than 25 reasoning words: the judge is shown the answers, and that is said.
    assert (
        "training, traces that end before the cut: 20 of 20 (100.0%); the judge reads them whole, 20 of them with their answer"
        in done.stdout
    )
    rows = [row for _, row in jsonl.read(tmp_path / "data" / "finetune_data" / "few_lists.jsonl")]
    assert {row["output"] for row in rows} == {"0", "A", "B", "C"} or {row["output"] for row in rows} == {"0", "A", "B"}
    pair_rows = [row for _, row in jsonl.read(tmp_path / "data" / "finetune_data" / "few.jsonl")]
    tested = {p.problem_id for p in records.read(records.Pair, tmp_path / "data" / "offline_test_data" / "few.jsonl")}
    assert {r["problem_id"] for r in rows} == {r["problem_id"] for r in pair_rows} and not {
        r["problem_id"] for r in rows
    } & tested
    items = list(records.read(records.ListItem, tmp_path / "data" / "offline_test_data" / "few_lists.jsonl"))
    assert items and {i.problem_id for i in items} <= tested
    assert {i.label is None for i in items} == {True, False}
    info = json.loads((tmp_path / "data" / "dataset_info.json").read_text())
    assert info["few_lists"]["file_name"] == "finetune_data/few_lists.jsonl" and "few" in info


def test_a_judge_is_measured_on_its_test_items(tmp_path, smol):
    """The printed shares against plain loops over the scores that were written."""
    texts = ["12 plus 30 is 42", "Ten apples are left", "Multiply 7 by 6", "We cannot know"]
    items = [
        records.ListItem(f"i{n}", f"p{n % 5}", "How many are left?", texts[: 1 + n % 3], f"{texts[n % 4]} and so {n}",
                         [None, 0, n % 3][n % 3])
        for n in range(30)
    ]  # fmt: skip
    records.write(tmp_path / "lists.jsonl", items)
    command = ("Offline/test_listwise_judge.py", "--model", smol, "--lists", tmp_path / "lists.jsonl", "--max-model-len", "1024",
               "--output", tmp_path / "scores.jsonl", "--resamples", "20", "--least-label-mass", "0")  # fmt: skip
    done = run_stage(*command)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["item_id"]: row["p_same"] for _, row in jsonl.read(tmp_path / "scores.jsonl")}
    assert [len(rows[i.item_id]) for i in items] == [len(i.representatives) for i in items]
    several = [i for i in items if i.label is not None and len(i.representatives) > 1]
    right = sum(rows[i.item_id].index(max(rows[i.item_id])) == i.label for i in several) / len(several)
    fits, not_fits = ([max(rows[i.item_id]) for i in items if (i.label is None) == none] for none in (False, True))
    auroc = sum((a > b) + (a == b) / 2 for a in fits for b in not_fits) / len(fits) / len(not_fits)
    shown = {
        name: float(value) for name, value in re.findall(r"^  (\S.*?) {2,}(\d\.\d+) \[", done.stdout, re.MULTILINE)
    }
    assert shown["fits one at all, AUROC, list-wise judge"] == pytest.approx(auroc, abs=6e-4)
    assert shown["the right one, list-wise judge"] == pytest.approx(right, abs=6e-4)
    assert shown["the right one, chance"] == pytest.approx(
        sum(1 / len(i.representatives) for i in several) / len(several), abs=6e-4
    )
    (tmp_path / "lists.jsonl").write_text(json.dumps(records.to_row(items[1]) | {"label": 7}) + "\n")
    refused = run_stage(*command)
    assert refused.returncode == 2 and "lists.jsonl:1: label must be null or the position" in refused.stderr


def test_approximate_modes_save_calls_and_leave_the_oracles_clusters(sample, tmp_path):
    problems, traces = sample
    found = {}
    for comparisons, assign in (("needed", "best"), ("sketched", "best"), ("likely", "largest")):
        done = run_stage(
            "Online/greedy_cluster_threshold.py", "--problems", problems, "--traces", traces, "--judge", "oracle", "--comparisons",
            comparisons, "--assign", assign, "--tries", "1", "--sketch", "all-MiniLM-L6-v2", "--tokenizer", "HuggingFaceTB/SmolLM2-135M-Instruct",
            "--output", tmp_path / f"{comparisons}.jsonl",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[comparisons] = list(records.read(records.Pruning, tmp_path / f"{comparisons}.jsonl"))
    for mode in ("sketched", "likely"):
        assert [p.clusters for p in found[mode]] == [p.clusters for p in found["needed"]]
        assert all(p.settings["comparisons"] == mode for p in found[mode])
    calls = {name: sum(p.judge_calls for p in some) for name, some in found.items()}
    assert 0 < calls["sketched"] <= calls["needed"] and 0 < calls["likely"] <= calls["needed"]
