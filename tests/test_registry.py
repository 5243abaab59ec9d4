"""A judge, a method and a finish rule are added with one file (tests/toys.py) and one line in a registry each."""

import json
import sys

import pytest
from conftest import load_script

from deepprune import judges
from deepprune.base import registry
from deepprune.base.errors import UserError
from deepprune.evaluate.methods import Grid, TraceSet, compare
from deepprune.prune import finishing, methods
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.deepprune import DeepPruneSettings, KnownClusters
from deepprune.prune.replay import Recorded, play


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setitem(judges.KINDS, "length", judges.Kind("toys:LengthJudge", named="length"))
    monkeypatch.setitem(METHODS, "first trace", methods.Kind("toys:first_traces"))
    monkeypatch.setitem(finishing.RULES, "one-each", "toys:one_each")


def test_every_name_of_the_registries_is_there():
    for where in [kind.where for kind in judges.KINDS.values()] + [
        *(kind.where for kind in METHODS.values()),
        *finishing.RULES.values(),
    ]:
        assert callable(registry.load(where))


def test_a_judge_gets_the_options(toys):
    judge = judges.open_judge("length", seed=5, batch=3)
    assert judge.seed == 5 and judges.name_of("length") == "length" and judges.parameters_of("length") == 0
    (score,) = judge.score([judges.Request("?", "abcd", "ab", "t1", "t2")])
    assert score.p_same == 0.5
    assert "length" in judges.kinds(needs_model=False) and "length" not in judges.kinds(stored=True)
    with pytest.raises(UserError, match="judge 'server' needs the URL"):
        judges.open_judge("server", "folder")


def test_stage_05_takes_a_new_judge_and_a_new_rule(toys, sample, tmp_path, monkeypatch):
    problems, traces = sample
    output = tmp_path / "pruned.jsonl"
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "prune",
            "--problems",
            str(problems),
            "--traces",
            str(traces),
            "--judge",
            "length",
            "--finish",
            "paper",
            "--tau",
            "0.8",
            "--tokenizer",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "--truncation-k",
            "1",
            "--output",
            str(output),
        ],
    )
    # The choices of --judge are read when this is imported: here, after the line was added.
    monkeypatch.delitem(sys.modules, "deepprune.prune.recorded", raising=False)
    load_script("Online/greedy_cluster_threshold.py").main()
    rows = [json.loads(line) for line in open(output)]
    assert len(rows) == 6 and {row["judge"] for row in rows} == {"length"}
    rule = DeepPruneSettings(finish=finishing.FinishSettings("one-each"))
    method = METHODS["deepprune"].start(3, rule, clusters=KnownClusters([0, 0, 1]))
    played = play(method, Recorded([7, 7, 8], [10, 10, 10], [4, 4, 4]))
    assert played.finished == (0, 2) and played.answer == 7 and played.rest == 12


def test_a_comparison_holds_a_new_method(toys):
    traces = TraceSet("p", "d", [1, 2, 2], 1, [10, 20, 30], [5, 5, 5])
    grid = Grid(rules=["one-each"], orders=1, k1s=[1], asks=["all"])
    row = compare(traces, grid, lambda number: {})
    (first,) = [m for m in row["methods"] if m["method"] == "first trace"]
    assert first["accuracy"] == 1 and first["tokens"] == 10
