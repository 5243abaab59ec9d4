"""Wrong input, as a user meets it: exit code 2, one line that names file and line, nothing lost."""

import json
import os
import shutil

import pytest
from conftest import make_problem, make_trace, run_stage

from deepprune.base import locks, records

BUILD = "Offline/build_pair_dataset.py"
PRUNE = "Online/greedy_cluster_threshold.py"
SAMPLE = "scripts/01_sample_traces.py"


def refuses(*args, names):
    done = run_stage(*args)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.strip().endswith(line)
    for name in names:
        assert name in line, line


def build(problems, traces, tmp_path, *more):
    return [
        BUILD,
        "--problems",
        problems,
        "--traces",
        traces,
        "--data-dir",
        tmp_path / "data",
        "--tokenizer",
        "SmolLM2-135M-Instruct",
        *more,
    ]


@pytest.mark.parametrize("script", [SAMPLE, BUILD, PRUNE, "Online/compare_methods.py", "Online/live_pruning.py"])
def test_a_file_without_problems(sample, tmp_path, script):
    empty, traces = tmp_path / "empty.jsonl", ["--traces", sample[1]]
    empty.write_text("\n")
    options = {
        SAMPLE: ["--model", "SmolLM2-135M-Instruct", "--output", tmp_path / "out.jsonl"],
        BUILD: [*traces, "--data-dir", tmp_path / "data"],
        PRUNE: [*traces, "--judge", "oracle", "--output", tmp_path / "out.jsonl"],
        "Online/compare_methods.py": [
            *traces,
            "--tokenizer",
            "SmolLM2-135M-Instruct",
            "--output",
            tmp_path / "out.jsonl",
        ],
        "Online/live_pruning.py": [
            "--judge",
            "random",
            "--output",
            tmp_path / "out.jsonl",
            "--reasoner",
            "SmolLM2-135M-Instruct",
        ],
    }
    refuses(script, "--problems", empty, *options[script], names=["empty.jsonl", "no problems"])
    assert not (tmp_path / "out.jsonl").exists()


def test_missing_file(sample, tmp_path):
    refuses(*build(sample[0], tmp_path / "none.jsonl", tmp_path), names=["none.jsonl", "no such file"])


@pytest.mark.parametrize("damage", ["truncated", "field", "duplicate", "empty"])
def test_damaged_traces(sample, tmp_path, damage):
    problems, traces = sample
    lines = traces.read_text().splitlines()
    if damage == "truncated":
        traces.write_text("\n".join(lines)[:-30])
        names = [f"traces.jsonl:{len(lines)}:", "not valid JSON", "cut off"]
    elif damage == "field":
        row = json.loads(lines[3])
        del row["answer"]
        traces.write_text("\n".join([*lines[:3], json.dumps(row), *lines[4:]]) + "\n")
        names = ["traces.jsonl:4:", "'answer'"]
    elif damage == "duplicate":
        traces.write_text("\n".join([*lines, lines[5]]) + "\n")
        names = [f"traces.jsonl:{len(lines) + 1}:", "duplicate trace_id", "traces.jsonl:6"]
    else:
        row = json.loads(lines[2]) | {"text": ""}
        traces.write_text("\n".join([*lines[:2], json.dumps(row)]) + "\n")
        names = ["traces.jsonl:3:", "text is empty"]
    refuses(*build(problems, traces, tmp_path), names=names)


def test_unknown_key_in_the_recipe(sample, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("pairs:\n  seed: 1\n  truncation_kk: 3\n")
    refuses(*build(*sample, tmp_path, "--config", recipe), names=["r.yaml:3", "truncation_kk"])


def test_unknown_model_keeps_what_was_written(sample, tmp_path):
    problems, traces = sample
    out = tmp_path / "out.jsonl"
    shutil.copy(traces, out)
    refuses(
        SAMPLE,
        "--problems",
        problems,
        "--model",
        "nobody/nothing",
        "--output",
        out,
        names=["nobody/nothing", "no such local folder"],
    )
    assert out.read_text() == traces.read_text()


def test_a_trace_of_an_unknown_problem(sample, tmp_path):
    problems, traces = sample
    with open(traces, "a") as file:
        file.write(json.dumps(records.to_row(make_trace(make_problem(99), 0, "1"))) + "\n")
    refuses(*build(problems, traces, tmp_path), names=["traces.jsonl", make_problem(99).problem_id])


def test_pruning_with_other_settings_does_not_mix(sample, tmp_path):
    problems, traces = sample
    args = [
        PRUNE,
        "--problems",
        problems,
        "--traces",
        traces,
        "--judge",
        "oracle",
        "--output",
        tmp_path / "p.jsonl",
        "--tokenizer",
        "SmolLM2-135M-Instruct",
    ]
    assert run_stage(*args).returncode == 0
    before = (tmp_path / "p.jsonl").read_text()
    refuses(*args, "--tau", "0.7", names=["p.jsonl was made differently", "tau: 0.5 there, 0.7 now"])
    assert (tmp_path / "p.jsonl").read_text() == before


def test_import_names_the_line(tmp_path):
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"q": "1+1?", "gold": "2", "text": "2"}\n{"q": "1+2?", "gold": "3"}\n')
    args = [
        "scripts/01_import_traces.py",
        "--input",
        rows,
        "--question-field",
        "q",
        "--tokenizer",
        "SmolLM2-135M-Instruct",
        "--output-problems",
        tmp_path / "p.jsonl",
        "--output-traces",
        tmp_path / "t.jsonl",
    ]
    refuses(*args, names=["mine.jsonl:2", "no text in field 'text'"])
    assert not (tmp_path / "t.jsonl").exists()


def test_an_output_that_another_process_writes(tmp_path):
    rows, output = tmp_path / "mine.jsonl", tmp_path / "p.jsonl"
    rows.write_text('{"question": "1+1?", "gold": "2", "text": "2", "n_tokens": 3}\n')
    args = [
        "scripts/01_import_traces.py",
        "--input",
        rows,
        "--output-problems",
        output,
        "--output-traces",
        tmp_path / "t.jsonl",
    ]
    locks.hold(output)
    try:
        refuses(*args, names=["p.jsonl is being written by process", str(os.getpid())])
    finally:
        locks.release(output)
    assert {p.name for p in tmp_path.iterdir()} == {"mine.jsonl"}


@pytest.mark.parametrize(
    "script",
    [SAMPLE, BUILD, PRUNE, "scripts/00_make_problems.py", "scripts/01_import_traces.py", "scripts/06_report.py",
     "Offline/test_model_performance_parallel.py", "LLaMA-Factory/train.py"],
)  # fmt: skip
def test_help_shows_the_command_to_run(script):
    done = run_stage(script, "--help")
    assert done.returncode == 0 and f"python {script}" in done.stdout
