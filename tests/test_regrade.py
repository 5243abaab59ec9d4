"""Stored traces are graded again by today's rules: what changes is said, what cannot change stays."""

import dataclasses
import json
import sys

import pytest
from conftest import load_script, make_problem, make_trace, run_stage

from deepprune.base import records
from deepprune.base.records import Trace

SCRIPT = "scripts/regrade.py"


@pytest.fixture
def stored(tmp_path):
    """Two problems; six traces of which yesterday's rules read four otherwise than they are."""
    sums, others = make_problem(1, "2"), make_problem(3, "6", family="others")
    traces = [
        make_trace(sums, 0, "2", text="So \\boxed{2}"),  # right then and now
        dataclasses.replace(make_trace(sums, 1, None, text="The answer is 2.")),  # found, right
        make_trace(sums, 2, "7", text="I wonder about this and"),  # lost
        make_trace(sums, 3, "9", text="We get 9? No: \\boxed{2}"),  # another value, right
        make_trace(others, 0, "6", text="Thus \\boxed{5}"),  # another value, no longer right
        dataclasses.replace(make_trace(others, 1, None, text="so \\boxed{6} perhaps, but"), finish_reason="abort"),
    ]
    records.write(tmp_path / "problems.jsonl", [sums, others])
    records.write(tmp_path / "traces.jsonl", traces)
    return tmp_path, traces


def regrade(folder, *more):
    return run_stage(SCRIPT, "--problems", folder / "problems.jsonl", "--traces", folder / "traces.jsonl", *more)


def test_what_changed_is_counted_and_shown_and_the_input_stays(stored):
    folder, traces = stored
    before = (folder / "traces.jsonl").read_bytes()
    done = regrade(folder, "--output", folder / "again.jsonl.gz")
    assert done.returncode == 0, done.stderr
    assert (folder / "traces.jsonl").read_bytes() == before
    again = list(records.read(Trace, folder / "again.jsonl.gz"))
    assert [(t.answer, t.correct) for t in again] == [
        ("2", True),
        ("2", True),
        (None, None),
        ("2", True),
        ("5", False),
        (None, None),
    ]
    for old, new in zip(traces, again, strict=True):
        assert dataclasses.replace(old, answer=new.answer, correct=new.correct) == new
    lines = {
        line.split()[0]: line.split() for line in done.stdout.splitlines() if line.startswith(("sums", "others", "all"))
    }
    assert lines["sums"][1:9] == ["4", "1", "1", "1", "0", "2", "0", "1"]
    assert lines["others"][1:9] == ["2", "0", "0", "1", "0", "0", "1", "0"]
    assert " ".join(lines["all"][9:12]) == "0.333 -> 0.500"
    assert "'9' -> '2' (gold '2')" in done.stdout and "\nlost:\n" in done.stdout
    manifest = json.loads((folder / "again.manifest.json").read_text())
    assert manifest["stage"] == "regrade" and manifest["complete"] and manifest["rows"] == 6
    assert manifest["changed"] == {
        "found": 1,
        "lost": 1,
        "another value": 2,
        "another spelling": 0,
        "now right": 2,
        "no longer right": 1,
        "wrong or unknown": 1,
    }
    assert [i["file"] for i in manifest["inputs"]] == ["problems.jsonl", "traces.jsonl"]
    refused = regrade(folder, "--output", folder / "traces.jsonl", "--overwrite")
    assert refused.returncode == 2 and "would overwrite the input" in refused.stderr
    refused = regrade(folder, "--output", folder / "again.jsonl.gz")
    assert refused.returncode == 2 and "--overwrite" in refused.stderr


@pytest.fixture
def quietly(stored, monkeypatch, capsys):
    """Runs the script in this process; returns (exit code, output, error)."""
    folder, _ = stored

    def run(*more):
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "regrade",
                "--problems",
                str(folder / "problems.jsonl"),
                "--traces",
                str(folder / "traces.jsonl"),
                *map(str, more),
            ],
        )
        code = 0
        try:
            load_script(SCRIPT).main()
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


def test_without_an_output_nothing_is_written(stored, quietly):
    folder, _ = stored
    files = sorted(folder.iterdir())
    code, said, _ = quietly("--examples", "0")
    assert code == 0 and "all" in said and "lost:" not in said and sorted(folder.iterdir()) == files


def test_the_imports_own_reading_is_not_read_from_the_text(stored, quietly):
    """Traces of an import with --answer-field: their answers stay, also through a second grading."""
    folder, traces = stored
    (folder / "traces.manifest.json").write_text(
        json.dumps({"stage": "import", "settings": {"answer_field": "answer"}})
    )
    code, said, _ = quietly("--output", folder / "again.jsonl")
    again = list(records.read(Trace, folder / "again.jsonl"))
    assert code == 0 and "field 'answer'" in said and [t.answer for t in again] == [t.answer for t in traces]
    assert (
        again[4].correct is True and json.loads((folder / "again.manifest.json").read_text())["changed"]["found"] == 0
    )
    code, _, error = quietly("--answer-pattern", "x(.)")
    assert code == 2 and "come from the field 'answer'" in error
    (folder / "again.jsonl").rename(folder / "traces.jsonl")
    (folder / "again.manifest.json").rename(folder / "traces.manifest.json")
    code, said, _ = quietly()
    assert code == 0 and "field 'answer'" in said


def test_the_imports_pattern_is_used_again(stored, quietly):
    folder, _ = stored
    (folder / "traces.manifest.json").write_text(json.dumps({"settings": {"answer_pattern": r"boxed\{(\d)\}"}}))
    code, _, _ = quietly("--output", folder / "again.jsonl")
    assert code == 0 and [t.answer for t in records.read(Trace, folder / "again.jsonl")] == [
        "2",
        None,
        None,
        "2",
        "5",
        None,
    ]


def test_missing_problems_and_empty_files_are_one_line(stored, quietly):
    folder, traces = stored
    records.write(folder / "problems.jsonl", [make_problem(1, "2")])
    code, _, error = quietly()
    assert code == 2 and f"problem {traces[4].problem_id} is in no --problems file" in error
    (folder / "traces.jsonl").write_text("")
    code, _, error = quietly()
    assert code == 2 and "traces.jsonl: no traces" in error
