"""The benchmark of the judge's cost on made-up scores: its counts against plain loops."""

import itertools
import json
import random

import judge_cost_data
import judge_cost_timed
import pandas as pd
import pytest
from conftest import run_stage

from deepprune import judges
from deepprune.base import records
from deepprune.data.truncation import Truncation
from deepprune.judges import Judge, Score, score_store

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def run(sample, output, options, model=None):
    """The benchmark on the sample, prefixes cut at the first reasoning word. options: the rest of its command line."""
    problems, traces = sample
    words = ["--problems", problems, "--traces", traces, "--truncation-k", "1", "--tokenizer", SMOL, *options.split()]
    words += ["--model", model] if model else []
    return run_stage("benchmarks/judge_cost.py", *words, "--output", output)


def by_problem(traces):
    groups = {}
    for trace in records.read(records.Trace, traces):
        groups.setdefault(trace.problem_id, []).append(trace)
    return groups


@pytest.fixture
def stored(sample, tmp_path, tiny):
    """Random scores of every pair, as cost.sqlite; returns the judge's name."""
    cut, rng = Truncation("words", 1), random.Random(1)
    described = judges.describe("vllm", tiny)
    identity = score_store.identity(described, "vllm", "auto", cut, SMOL)
    with score_store.ScoreStore(tmp_path / "cost.sqlite", identity) as store:
        for group in by_problem(sample[1]).values():
            store.check_prefixes({t.trace_id: cut.cut(t.text) for t in group})
            pairs = itertools.combinations(group, 2)
            store.add([(a.trace_id, b.trace_id, Score(rng.random(), 100, 50)) for a, b in pairs])
    return described["name"]


def test_modes_are_counted_on_stored_scores(sample, tmp_path, tiny, stored):
    options = "--n 4 6 --k 2 6 --k1 10 --similarities p_same verdict --assigns best first"
    done = run(sample, tmp_path / "cost", options, tiny)
    assert done.returncode == 0, done.stderr[-2000:]
    table = pd.read_csv(tmp_path / "cost.csv").set_index(["similarity", "assign", "mode", "n", "K"])
    first = table.loc[("verdict", "first")]
    assert first.loc[("exact savings", 6, 6), "same clusters"] == 1
    assert first.loc[("full rule", 6, 6), "clusters"] != table.loc[("p_same", "best", "full rule", 6, 6), "clusters"]
    table = table.loc[("p_same", "best")]
    for n in (4, 6):
        # K1 and K above n: every new trace is compared with every earlier one.
        assert table.loc[("full rule", n, 6), "calls"] == n * (n - 1) / 2
        exact = table.loc[("exact savings", n, 6)]
        assert exact["same clusters"] == 1 and exact["adjusted Rand index"] == 1
        assert table.loc[("least possible, exact", n, 6), "calls"] <= exact["calls"] <= n * (n - 1) / 2
        assert exact["calls / full rule"] == pytest.approx(exact["calls"] / (n * (n - 1) / 2))
    about = json.loads((tmp_path / "cost.json").read_text())
    assert about["judges"] == [stored] and len(about["questions"]) == 6
    assert set(about["inputs"]) == {"problems.jsonl", "traces.jsonl"}
    assert (tmp_path / "cost.png").stat().st_size > 5000


def test_more_traces_than_there_are_is_refused(sample, tmp_path, tiny):
    done = run(sample, tmp_path / "cost", "--n 7", tiny)
    assert done.returncode == 2 and "--n 7: a problem has 6 traces only" in done.stderr


def test_a_simulated_oracle_asks_for_one_trace_of_each_answer(sample, tmp_path):
    """AUROC 1: clusters are answers (unknown ones alone), so the full rule's calls follow from the answers."""
    done = run(sample, tmp_path / "cost", "--n 6 --k 32 --k1 1 --judge simulated --auroc 1.0 0.7")
    assert done.returncode == 0, done.stderr[-2000:]
    calls = []
    for group in by_problem(sample[1]).values():
        answers, asked = set(), 0
        for trace in group:
            asked += len(answers)
            answers.add(trace.answer if trace.answer is not None else trace.trace_id)
        calls.append(asked)
    table = pd.read_csv(tmp_path / "cost.csv").set_index(["judge", "mode"])
    assert table.loc[("simulated, AUROC 1", "full rule"), "calls"] == pytest.approx(sum(calls) / len(calls))
    assert json.loads((tmp_path / "cost.json").read_text())["judges"] == ["simulated, AUROC 1", "simulated, AUROC 0.7"]


def test_a_sentence_encoder_that_is_never_sure_is_asked_about_every_pair(sample, tmp_path):
    """Nothing is more than alike: every trace opens a cluster, all earlier ones asked."""
    encoder = "--n 6 --k 32 --k1 1 --judge sbert --sbert all-MiniLM-L6-v2 --tau 1.0"
    done = run(sample, tmp_path / "sbert", encoder)
    assert done.returncode == 0, done.stderr[-2000:]
    assert pd.read_csv(tmp_path / "sbert.csv").set_index("mode").loc["full rule", "calls"] == 15
    refused = run(sample, tmp_path / "x", f"{encoder} --timed 1")
    assert refused.returncode == 2 and "--timed runs a judge on vLLM" in refused.stderr


class CountingJudge(Judge):
    """Every pair is as likely as not; a prompt has 100 tokens, of which 40 are cached from the second batch on."""

    def __init__(self, kind, model, **options):
        self.kind, self.batches = kind, 0

    def _stream(self, requests):
        self.batches += 1
        for position, _ in enumerate(requests):
            yield position, Score(0.4, 100, 40 if self.batches > 1 else 0)


def test_the_timed_part_counts_every_mode(sample, tmp_path, tiny, monkeypatch):
    """Nothing is above tau: every mode but the likely ones asks about every two traces, K and K1 being above n."""
    monkeypatch.setattr(judge_cost_timed.judges, "open_judge", CountingJudge)
    problems, traces = map(str, sample)
    files = {
        "problems": [problems],
        "traces": [traces],
        "output": str(tmp_path / "x"),
        "model": tiny,
        "tokenizer": SMOL,
    }
    sizes = {"truncation_k": 1, "n": [4], "k": [8], "timed": 2, "timed_n": 5, "slow_pairs": 3}
    settings = judge_cost_data.CostSettings(**files, **sizes)
    saved = []
    rows = judge_cost_timed.timed(judge_cost_data.Data(settings), lambda rows: saved.append(len(rows)))
    slow, full, cached, alone, *others = rows
    assert saved == [1, 2, 3, 4, 5, 6] and len(rows) == 7
    assert "(3 pairs timed, scaled)" in slow["mode"] and slow["seconds / full rule on vLLM"] > 0
    for row in (full, cached, alone):
        assert row["calls"] == 2 * 10 and row["prompt tokens"] == 2000
        assert row["computed tokens"] == row["prompt tokens"] - row["cached tokens"]
        assert row["same clusters"] == 1 and row["clusters"] == 5
    assert full["batches"] == 4 and alone["batches"] == 8  # new traces one after the other, of both questions at once
    assert all(row["calls"] <= 20 for row in others)
