import json

import pytest
from conftest import make_problem, make_trace

from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.base.records import Pair, Problem, Trace


def test_round_trip_and_stable_ids(tmp_path):
    problem = make_problem(3, "6")
    assert problem.problem_id == make_problem(3, "6").problem_id != make_problem(3, "7").problem_id
    traces = [make_trace(problem, i, "6") for i in range(3)]
    records.write(tmp_path / "t.jsonl", traces)
    assert list(records.read(Trace, tmp_path / "t.jsonl")) == traces


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": None}, "should be str"),
        ({"answer_type": "essay"}, "answer_type must be one of"),
        ({"question": "  "}, "question is empty"),
        ({"gold": ""}, "gold is empty"),
        ({"answer_type": "choice", "gold": "A gas"}, "letter of an option .*'A gas'"),
        ({"answer_type": "choice", "gold": "C", "question": "Which? A) one B) two"}, r"option \(A, B\), found 'C'"),
    ],
)
def test_bad_fields_name_the_line(tmp_path, change, message):
    good = records.to_row(make_problem(1))
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(records.to_row(make_problem(2)) | change) + "\n")
    with pytest.raises(UserError, match=rf"p\.jsonl:2: .*{message}"):
        list(records.read(Problem, path))


def test_missing_field_and_empty_trace(tmp_path):
    row = records.to_row(make_trace(make_problem(), 0, "4"))
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({k: v for k, v in row.items() if k != "n_tokens"}) + "\n")
    with pytest.raises(UserError, match=r"t\.jsonl:1: a Trace needs the field 'n_tokens'"):
        list(records.read(Trace, path))
    path.write_text(json.dumps(row | {"text": " "}) + "\n")
    with pytest.raises(UserError, match=r"t\.jsonl:1: text is empty"):
        list(records.read(Trace, path))


def test_an_empty_trace_has_no_answer(tmp_path):
    trace = make_trace(make_problem(), 0, None, text="", n_tokens=7)
    records.write(tmp_path / "t.jsonl", [trace])
    assert list(records.read(Trace, tmp_path / "t.jsonl")) == [trace]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_record_holds_finite_numbers_only(tmp_path, number):
    """Neither written nor read, wherever in the record the number stands."""
    score = records.PairScore("p", "j", number, True, 1, 0)
    trace = make_trace(make_problem(), 0, "4")
    trace.confidence = {"windows": [1.0, number]}
    for record, field in ((score, "p_same"), (trace, "confidence")):
        with pytest.raises(UserError, match=rf"{field} of the .* not finite"):
            records.write(tmp_path / "out.jsonl", [record])
        assert not (tmp_path / "out.jsonl").exists()
        (tmp_path / "in.jsonl").write_text(json.dumps(vars(record)) + "\n")
        with pytest.raises(UserError, match=r"in\.jsonl:1: -?(NaN|Infinity) is not a number"):
            list(records.read(type(record), tmp_path / "in.jsonl"))


def test_duplicate_ids_are_refused_across_files(tmp_path):
    trace = make_trace(make_problem(), 0, "4")
    records.write(tmp_path / "a.jsonl", [trace])
    records.write(tmp_path / "b.jsonl", [make_trace(make_problem(), 1, "4"), trace])
    with pytest.raises(UserError, match=rf"b\.jsonl:2: duplicate trace_id {trace.trace_id}.*a\.jsonl:1"):
        list(records.read(Trace, tmp_path / "a.jsonl", tmp_path / "b.jsonl"))


def test_labels_and_scores_are_bounded():
    row = dict(
        pair_id="p",
        problem_id="q",
        trace_a="a",
        trace_b="b",
        prefix_a="",
        prefix_b="",
        truncation={},
        label=2,
        question="?",
    )
    with pytest.raises(UserError, match="label must be 0 or 1"):
        records.from_row(Pair, row, "x:1")
    score = dict(pair_id="p", judge="j", p_same=1.2, verdict=True, prompt_tokens=1, cached_tokens=0)
    with pytest.raises(UserError, match="p_same must lie"):
        records.from_row(records.PairScore, score, "x:1")
