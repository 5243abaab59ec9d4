"""SIGKILL in the middle, then the same command again: the records of an undisturbed run, each once."""

import json
import os
import signal

from conftest import make_problem, make_trace, run_stage

from deepprune.base import records
from deepprune.base.manifest import manifest_path
from deepprune.base.records import PairScore, Trace
from deepprune.data import pairs
from deepprune.data.truncation import Truncation

# Runs a stage that kills its process group when so many rows are written: in the middle, however busy the machine is.
KILLED = """
import os, runpy, signal, sys
from deepprune.base import jsonl
append, rows = jsonl.Appender.append, 0
def counted(self, row):
    global rows
    append(self, row)
    rows += 1
    if rows == int(os.environ["KILL_AFTER"]):
        os.killpg(0, signal.SIGKILL)
jsonl.Appender.append = counted
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def kill_midway(command, output, total):
    """Run, SIGKILL the whole process group when a part of the rows is written; returns how many were."""
    rows = total // 5
    killed = output.with_name("killed.py")
    killed.write_text(KILLED)
    done = run_stage(killed, *command, env=os.environ | {"KILL_AFTER": str(rows)})
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert output.read_bytes().count(b"\n") == rows
    assert not json.loads(manifest_path(output).read_text())["complete"]
    with open(output, "ab") as file:  # what a kill inside a write leaves
        file.write(b'{"cut off": ')
    return rows


def test_sampling(tmp_path, tiny):
    records.write(tmp_path / "problems.jsonl", [make_problem(i) for i in range(8)])

    def command(output):
        return [
            "scripts/01_sample_traces.py",
            "--problems",
            tmp_path / "problems.jsonl",
            "--model",
            tiny,
            "--output",
            output,
            "--n",
            "8",
            "--temperature",
            "0",
            "--max-tokens",
            "40",
            "--dtype",
            "float32",
            "--max-model-len",
            "256",
            "--max-num-seqs",
            "4",
            "--confidence-top-k",
            "5",
            "--confidence-window",
            "8",
            "--confidence-stride",
            "4",
        ]

    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    before = kill_midway(command(killed), killed, 64)
    again = run_stage(*command(killed))
    assert again.returncode == 0, again.stderr
    assert (
        f"{before} on disk, {64 - before} to sample" in again.stdout and "removed a cut-off last line" in again.stdout
    )
    assert run_stage(*command(whole)).returncode == 0

    def content(path):
        rows = list(records.read(Trace, path))  # refuses broken lines and duplicate ids
        assert len(rows) == 64
        return {(t.trace_id, t.problem_id, t.sample_index, t.text, t.n_tokens, t.finish_reason, t.answer) for t in rows}

    assert content(killed) == content(whole)
    assert {t.confidence["n"] for t in records.read(Trace, whole)} == {t.n_tokens for t in records.read(Trace, whole)}
    manifest = json.loads((tmp_path / "killed.manifest.json").read_text())
    assert manifest["complete"] and manifest["rows"] == 64
    assert [run["rows"] for run in manifest["runs"]] == [before, 64 - before]
    done = run_stage(*command(killed))
    assert done.returncode == 0 and "64 on disk, 0 to sample" in done.stdout


def test_scoring(tmp_path, tiny):
    problem = make_problem(1, "2")
    traces = [make_trace(problem, i, str(i % 2 + 1)) for i in range(24)]
    made, _ = pairs.build(traces, problem, Truncation("words", 9), None, seed=0)
    records.write(tmp_path / "pairs.jsonl", made)

    def command(output):
        return [
            "Offline/test_model_performance_parallel.py",
            "--pairs",
            tmp_path / "pairs.jsonl",
            "--model",
            tiny,
            "--least-label-mass",
            "0",
            "--dtype",
            "float32",
            "--output",
            output,
            "--batch",
            "4",
            "--max-model-len",
            "512",
            "--resamples",
            "20",
        ]

    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    before = kill_midway(command(killed), killed, len(made))
    again = run_stage(*command(killed))
    assert again.returncode == 0, again.stderr
    assert f"{before} scored before, {len(made) - before} to score" in again.stdout
    assert run_stage(*command(whole)).returncode == 0
    first, second = ({s.pair_id: s for s in records.read(PairScore, path)} for path in (killed, whole))
    assert set(first) == set(second) == {p.pair_id for p in made}
    assert all(abs(first[i].p_same - second[i].p_same) < 1e-4 for i in first)
    assert all(first[i].prompt_tokens == second[i].prompt_tokens for i in first)
    assert len({round(s.p_same, 5) for s in second.values()}) > 20  # the tiny model tells pairs apart
