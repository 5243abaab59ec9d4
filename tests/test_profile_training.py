"""A judge with a profile of its own: trained through LLaMA-Factory, asked alike on vLLM and transformers."""

import dataclasses
import json
import math
import sys

import pytest
import torch
import toys
from conftest import SMOL, engine_scores, load_script
from training_world import launch, make_world, write_data
from transformers import AutoModelForCausalLM, AutoTokenizer

from deepprune import judges
from deepprune.base.errors import UserError
from deepprune.data.truncation import Truncation
from deepprune.judges import Request, profiles, scoring
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import Profile

OTHER = Profile(
    system="Compare two beginnings.",
    user="One: {prefix_a}\nTwo: {prefix_b}\nBoth answer this: {question}",
    different=" not equal",
    same=" all equal",
    answer_prefix="Verdict:",
    chat_template={},
    truncation=Truncation("words", 2, ("so", "then")),
)
WHAT = [(f"What is {i} + {i % 7}?", f"We add {i}. So", f"First {i}, then {i % 5}.", i % 3 % 2) for i in range(40)]


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny):
    """The world of training with 40 rows for OTHER, its profile beside them, and a longer model."""
    folder = make_world(tmp_path_factory.mktemp("world"))
    write_data(folder / "data", [OTHER.training_row(*pair) for pair in WHAT])
    profiles.save(OTHER, profiles.rows_profile(folder / "data" / "train.jsonl"))
    return folder


def first_loss(folder):
    """The mean loss of the labels' tokens under the untrained model, focal with gamma 2, of all rows in one batch."""
    tokenizer, losses = AutoTokenizer.from_pretrained(folder), []
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = PairPrompts(OTHER, tokenizer)
    for question, a, b, label in WHAT:
        ids = [*prompts.ids(Request(question, a, b, "a", "b")), *prompts.labels[label]]
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        for at in range(len(ids) - len(prompts.labels[label]), len(ids)):
            logprob = logprobs[at - 1, ids[at]].item()
            losses.append(-((1 - math.exp(logprob)) ** 2) * logprob)
    return sum(losses) / len(losses)


def test_a_judge_of_other_labels_is_trained_and_asked_alike(world, tiny, tmp_path):
    output = tmp_path / "judge"
    launch(
        world,
        f"model_name_or_path={tiny}",
        f"output_dir={output}",
        "max_samples=40",
        "num_train_epochs=1",
        "per_device_train_batch_size=40",
        "focal_loss_alpha=1.0",
        "learning_rate=0.001",
    )
    losses = [
        row["loss"] for row in json.loads((output / "trainer_state.json").read_text())["log_history"] if "loss" in row
    ]
    assert losses[0] == pytest.approx(first_loss(tiny), rel=1e-3)
    assert profiles.load(output / profiles.FILE) == OTHER  # as evaluation finds it
    assert json.loads((output / "manifest.json").read_text())["settings"]["prompt_version"] == OTHER.version

    asked = toys.requests()
    slow = judges.open_judge("transformers", str(output), dtype="float32").score(asked)
    fast = engine_scores(tmp_path, "vllm", str(output), asked)
    assert [p for p, *_ in fast] == pytest.approx([s.p_same for s in slow], abs=0.02)
    assert [tokens for _, tokens, *_ in fast] == [s.prompt_tokens for s in slow]
    assert len({round(s.p_same, 3) for s in slow}) > 3

    profiles.save(dataclasses.replace(OTHER, same=" alike"), tmp_path / "wrong.yaml")
    with pytest.raises(UserError, match="wrong.yaml: is not the profile that .*judge was trained with"):
        judges.open_judge("transformers", str(output), judge_profile=str(tmp_path / "wrong.yaml"))
    judge = judges.open_judge("transformers", str(output), least_label_mass=0.5)
    with pytest.raises(judges.NotAJudge, match="labels .* not equal,  all equal. have 0.0"):
        judge.score(asked)


def test_rows_for_another_profile_are_refused(world, refused, tmp_path):
    profiles.save(profiles.DEFAULT, tmp_path / "ours.yaml")
    line = refused(f"judge_profile={tmp_path / 'ours.yaml'}")
    assert "command line: " in line and "ours.yaml is not the profile that" in line and "was written for" in line
    # Rows of others, with no profile beside them.
    write_data(tmp_path / "data", [OTHER.training_row(*pair) for pair in WHAT])
    here = f"dataset_dir={tmp_path / 'data'}"
    assert "train.jsonl:1: 'output' should be no or yes, found 'Verdict: not equal'" in refused(here)
    own = dataclasses.replace(profiles.DEFAULT, different="Verdict: not equal", same="Verdict: all equal")
    profiles.save(own, tmp_path / "own.yaml")
    line = refused(here, f"judge_profile={tmp_path / 'own.yaml'}")
    assert "train.jsonl:1: its system text is another than the judge profile's" in line


def test_pairs_that_are_cut_otherwise_are_refused(tmp_path):
    """Before a model is opened."""
    from conftest import make_problem, make_trace

    from deepprune.base import records
    from deepprune.data import pairs

    problem = make_problem()
    traces = [make_trace(problem, i, answer) for i, answer in enumerate("4474")]
    test_pairs, _ = pairs.build(traces, problem, Truncation("words", 1), None, 0)
    records.write(tmp_path / "pairs.jsonl", test_pairs)
    settings = scoring.ModelSettings(output=str(tmp_path / "scores.jsonl"), pairs=str(tmp_path / "pairs.jsonl"))
    described = judges.describe("oracle")
    with pytest.raises(
        UserError, match="trained on traces cut by words, k = 2, word list .*, these are cut by words, k = 1"
    ):
        scoring.run(settings, described, lambda: judges.open_judge("oracle"), {}, OTHER)
    settings.other_truncation = True
    scoring.run(settings, described, lambda: judges.open_judge("oracle"), {}, OTHER)
    assert len(list(records.read(records.PairScore, settings.output))) == len(test_pairs)


def test_stage_02_writes_rows_for_a_profile_and_the_profile_with_their_truncation(
    sample, tmp_path, monkeypatch, capsys
):
    problems, traces = map(str, sample)
    profiles.save(dataclasses.replace(OTHER, truncation=None), tmp_path / "own.yaml")
    profiles.save(OTHER, tmp_path / "cut.yaml")

    def build(profile):
        given = ["--problems", problems, "--traces", traces, "--tokenizer", SMOL, "--data-dir", str(tmp_path / "data")]
        cut = ["--truncation-k", "2", "--judge-profile", str(tmp_path / profile)]
        monkeypatch.setattr(sys, "argv", ["pairs", *given, *cut])
        load_script("Offline/build_pair_dataset.py").main()

    build("own.yaml")
    file = tmp_path / "data" / "finetune_data" / "deepprune_pairs.jsonl"
    rows = [json.loads(line) for line in open(file)]
    assert {row["output"] for row in rows} == set(OTHER.answers)
    assert all(OTHER.row_problem(row["system"], row["instruction"]) is None for row in rows)
    assert profiles.of_rows(file) == dataclasses.replace(OTHER, truncation=Truncation("words", 2))
    assert json.loads(file.with_suffix(".manifest.json").read_text())["settings"]["prompt_version"] == OTHER.version
    with pytest.raises(SystemExit):
        build("cut.yaml")
    assert "trained on traces cut by words, k = 2, word list" in capsys.readouterr().err
