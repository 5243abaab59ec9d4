"""The benchmark of the judge's cost on made-up scores: its counts against plain loops."""

import itertools
import json
import random

import pandas as pd
import pytest
from conftest import run_stage

from deepprune import judges
from deepprune.base import records
from deepprune.data.truncation import Truncation
from deepprune.judges import Score, score_store

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_modes_are_counted_on_stored_scores(sample, tmp_path, tiny):
    problems, traces = sample
    cut = Truncation("words", 1)
    groups = {}
    for t in records.read(records.Trace, traces):
        groups.setdefault(t.problem_id, []).append(t)
    described = judges.describe("vllm", tiny)
    rng = random.Random(1)
    p_same = {}
    with score_store.ScoreStore(
        tmp_path / "cost.sqlite", score_store.identity(described, "vllm", "auto", cut, SMOL)
    ) as store:
        store.check_prefixes({t.trace_id: cut.cut(t.text) for g in groups.values() for t in g})
        for i, g in groups.items():
            for a, b in itertools.combinations(range(len(g)), 2):
                p_same[i, a, b] = rng.random()
                store.add([(g[a].trace_id, g[b].trace_id, Score(p_same[i, a, b], 100, 50))])
    done = run_stage(
        "benchmarks/judge_cost.py",
        "--problems",
        problems,
        "--traces",
        traces,
        "--model",
        tiny,
        "--truncation-k",
        "1",
        "--tokenizer",
        SMOL,
        "--n",
        "4",
        "6",
        "--k",
        "2",
        "6",
        "--k1",
        "10",
        "--readings",
        "p_same/best",
        "verdict/first",
        "--output",
        tmp_path / "cost",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    table = pd.read_csv(tmp_path / "cost.csv").set_index(["reading", "mode", "n", "K"])
    first = table.loc["verdict/first"]
    assert first.loc[("exact savings", 6, 6), "same clusters"] == 1
    assert first.loc[("full rule", 6, 6), "clusters"] != table.loc[("p_same/best", "full rule", 6, 6), "clusters"]
    table = table.loc["p_same/best"]
    for n in (4, 6):
        # K1 and K above n: every new trace is compared with every earlier one.
        assert table.loc[("full rule", n, 6), "calls"] == n * (n - 1) / 2
        exact = table.loc[("exact savings", n, 6)]
        assert exact["same clusters"] == 1 and exact["adjusted Rand index"] == 1
        assert table.loc[("least possible, exact", n, 6), "calls"] <= exact["calls"] <= n * (n - 1) / 2
        assert exact["calls / full rule"] == pytest.approx(exact["calls"] / (n * (n - 1) / 2))
    about = json.loads((tmp_path / "cost.json").read_text())
    assert (
        about["judges"] == [described["name"]]
        and len(about["questions"]) == 6
        and set(about["inputs"]) == {"problems.jsonl", "traces.jsonl"}
    )
    assert (tmp_path / "cost.png").stat().st_size > 5000
    done = run_stage(
        "benchmarks/judge_cost.py",
        "--problems",
        problems,
        "--traces",
        traces,
        "--model",
        tiny,
        "--truncation-k",
        "1",
        "--tokenizer",
        SMOL,
        "--n",
        "7",
        "--output",
        tmp_path / "cost",
    )
    assert done.returncode == 2 and "--n 7: a problem has 6 traces only" in done.stderr


def test_a_simulated_oracle_asks_for_one_trace_of_each_answer(sample, tmp_path):
    """AUROC 1: clusters are answers (unknown ones alone), so the full rule's calls follow from the answers."""
    problems, traces = sample
    common = (
        "benchmarks/judge_cost.py",
        "--problems",
        problems,
        "--traces",
        traces,
        "--truncation-k",
        "1",
        "--tokenizer",
        SMOL,
        "--n",
        "6",
        "--k",
        "32",
        "--k1",
        "1",
    )
    done = run_stage(*common, "--judge", "simulated", "--auroc", "1.0", "0.7", "--output", tmp_path / "cost")
    assert done.returncode == 0, done.stderr[-2000:]
    calls, groups = [], {}
    for t in records.read(records.Trace, traces):
        groups.setdefault(t.problem_id, []).append(t)
    for group in groups.values():
        seen, asked = set(), 0
        for t in group:
            asked += len(seen)
            seen.add(t.answer if t.answer is not None else t.trace_id)
        calls.append(asked)
    table = pd.read_csv(tmp_path / "cost.csv").set_index(["judge", "mode"])
    assert table.loc[("simulated, AUROC 1", "full rule"), "calls"] == pytest.approx(sum(calls) / len(calls))
    assert json.loads((tmp_path / "cost.json").read_text())["judges"] == ["simulated, AUROC 1", "simulated, AUROC 0.7"]
    alike = run_stage(
        *common, "--judge", "sbert", "--sbert", "all-MiniLM-L6-v2", "--tau", "1.0", "--output", tmp_path / "sbert"
    )
    assert alike.returncode == 0, alike.stderr[-2000:]
    # Nothing is more than alike: every trace opens a cluster, all earlier ones asked.
    assert pd.read_csv(tmp_path / "sbert.csv").set_index("mode").loc["full rule", "calls"] == 15
    refused = run_stage(*common, "--judge", "sbert", "--timed", "1", "--output", tmp_path / "x")
    assert refused.returncode == 2 and "--timed runs a judge on vLLM" in refused.stderr
