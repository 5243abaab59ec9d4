"""The benchmark of live pruning against cons@n, on a real engine: its counts and its ratios."""

import json

import pytest
from conftest import make_problem, run_stage

from deepprune.base import jsonl, records

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
N = 4


def test_both_ways_are_counted_as_the_engine_does_and_go_on_after_a_kill(smol, tmp_path):
    problems, output = tmp_path / "problems.jsonl", tmp_path / "live.jsonl"
    records.write(problems, [make_problem(i, str(2 * i)) for i in (11, 12)])
    command = [
        "benchmarks/live_vs_consensus.py",
        "--reasoner",
        SMOL,
        "--judge",
        "random",
        "--problems",
        problems,
        "--n",
        N,
        "--max-tokens",
        "100",
        "--temperature",
        "1.0",
        "--truncation",
        "tokens",
        "--truncation-k",
        "20",
        "--k2",
        "1",
        "--k3",
        "1",
        "--questions",
        "1",
        "--max-model-len",
        "1024",
        "--output",
        output,
    ]
    done = run_stage(*command)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    runs = [row for _, row in jsonl.read(output)]
    assert [(run["group"], run["way"]) for run in runs] == [(g, way) for g in (0, 1) for way in ("consensus", "live")]
    for run in runs:
        (row,) = run["questions"]
        assert row["tokens"] == pytest.approx(run["engine_tokens"], rel=0.01)
        if run["way"] == "consensus":  # everything is generated in one piece, without prefixes, by no judge
            assert row["prefix_tokens"] == 0 and row["finished"] == N and row["judge_calls"] == 0
            assert row["tokens"] / N <= row["sequential_tokens"] <= 100
        else:  # K2 = K3 = 1: one trace is finished; the others have their 20 tokens and what came until they were held
            assert row["finished"] == 1 <= row["clusters"] <= N
            assert N * 20 <= row["prefix_tokens"] <= row["tokens"] <= N * 100
    result = json.loads((tmp_path / "live.manifest.json").read_text())["result"]
    for way in ("consensus", "live"):
        mine = [run["questions"][0] for run in runs if run["way"] == way]
        assert result[way]["tokens"] == sum(row["tokens"] for row in mine)
        assert result[way]["accuracy"][0] == sum(row["correct"] for row in mine) / 2
    value, low, high = result["ratios"]["token reduction"]
    assert value == pytest.approx(1 - result["live"]["tokens"] / result["consensus"]["tokens"]) and low <= value <= high
    # A judge without parameters costs nothing.
    assert result["ratios"]["token reduction, judge counted"] == result["ratios"]["token reduction"]
    # A killed run: the last group's second half is missing, and a line was cut off. Only that half is run again.
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:3]) + lines[3][:40])
    again = run_stage(*command)
    assert again.returncode == 0 and "3 of 4 runs done before" in again.stdout, again.stderr[-3000:]
    assert output.read_text().splitlines(keepends=True)[:3] == lines[:3] and len(output.read_text().splitlines()) == 4
