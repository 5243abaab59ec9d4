"""The benchmark of live pruning against cons@n, on a real engine: its counts and its ratios."""

import json

import pytest
from conftest import make_problem, run_stage

from deepprune import records

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
N = 4


def test_both_ways_are_counted_as_the_engine_does(smol, tmp_path):
    problems, output = tmp_path / "problems.jsonl", tmp_path / "live.json"
    records.write(problems, [make_problem(i, str(2 * i)) for i in (11, 12)])
    done = run_stage("benchmarks/live_vs_consensus.py", "--reasoner", SMOL, "--judge", "random", "--problems", problems, "--n", N,
                     "--max-tokens", "100", "--temperature", "1.0", "--truncation", "tokens", "--truncation-k", "20", "--k2", "1",
                     "--k3", "1", "--max-model-len", "1024", "--output", output)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    found = json.loads(output.read_text())
    for way in ("consensus", "live"):
        row = found[way]
        assert row["tokens"] == sum(q["tokens"] for q in row["questions"])
        assert row["tokens"] == pytest.approx(row["engine_tokens"], rel=0.01)
        assert row["accuracy"] == sum(q["correct"] for q in row["questions"]) / 2
    live = found["live"]["questions"]
    # K2 = K3 = 1: one trace is finished; the others have their 20 tokens and at most a check's worth more.
    assert all(q["finished"] == 1 <= q["clusters"] <= N for q in live)
    assert all(N * 20 <= q["prefix"] <= N * (20 + 16) and q["tokens"] == q["prefix"] + q["rest"] for q in live)
    value, low, high = found["ratios"]["token reduction"]
    assert value == pytest.approx(1 - found["live"]["tokens"] / found["consensus"]["tokens"]) and low <= value <= high
    # A judge without parameters costs nothing.
    assert found["ratios"]["token reduction, judge counted"] == found["ratios"]["token reduction"]
