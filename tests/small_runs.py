"""Four problems of sixteen traces, pruned and reported in this process: for tests of what such a run is set against."""

import json
import random
import sys

from conftest import load_script, make_problem, make_trace

from deepprune.base import records
from deepprune.base.records import Pruning

PRUNE, COMPARE, REPORT = "Online/greedy_cluster_threshold.py", "Online/compare_methods.py", "scripts/06_report.py"
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CUT = ["--truncation-k", "2", "--tokenizer", SMOL]


def write_sixteen(folder):
    """(folder, problems, traces): 4 problems x 16 traces of 10, 11, ... tokens, written to files.

    The vote of the first 8 is right, of all 16 wrong.
    """
    problems = [make_problem(i, str(2 * i)) for i in range(1, 5)]
    traces = [
        make_trace(p, i, p.gold if i < 5 else "7", text=f"{'wait ' * i} so {i} then thus it is", n_tokens=10 + i)
        for p in problems
        for i in range(16)
    ]
    random.Random(0).shuffle(traces)
    records.write(folder / "problems.jsonl", problems)
    records.write(folder / "traces.jsonl", traces)
    return folder, problems, traces


def run(monkeypatch, path, *args):
    """A stage in this process."""
    monkeypatch.setattr(sys, "argv", [path, *map(str, args)])
    script = load_script(path)
    script.main()
    return script


def prune(monkeypatch, folder, name, *more, judge="oracle"):
    run(
        monkeypatch,
        PRUNE,
        "--problems",
        folder / "problems.jsonl",
        "--traces",
        folder / "traces.jsonl",
        "--output",
        folder / name,
        "--judge",
        judge,
        "--k2",
        "3",
        *CUT,
        *more,
    )
    return list(records.read(Pruning, folder / name))


def compared(monkeypatch, folder, n, *more):
    """The rows of a comparison of the judge's own rule on the first n traces."""
    output = folder / "compare.jsonl"
    arguments = f"--n {n} --orders 1 --taus 0.5 --k2s 3 --asks all --rules paper --sbert none --resamples 5".split()
    files = ["--problems", folder / "problems.jsonl", "--traces", folder / "traces.jsonl", "--output", output]
    run(monkeypatch, COMPARE, *files, *arguments, *CUT, *more)
    return [json.loads(line) for line in open(output)]


def report(monkeypatch, folder, *more):
    run(
        monkeypatch,
        REPORT,
        "--problems",
        folder / "problems.jsonl",
        "--traces",
        folder / "traces.jsonl",
        "--output",
        folder / "report",
        *more,
    )


def reported(monkeypatch, folder, *names):
    """(pruning's numbers, page) of a report on these Pruning files."""
    report(monkeypatch, folder, "--pruning", *(folder / name for name in names), "--resamples", "20")
    page = (folder / "report/report.md").read_text()
    return json.loads((folder / "report/report.json").read_text())["pruning"], page
