import json

import pytest
from conftest import make_problem, make_trace

from deepprune import traces
from deepprune.errors import UserError

FIELDS = {n: n for n in ("question", "gold", "text", "model", "dataset", "sample_id", "family", "answer_type",
                         "n_tokens", "finish_reason")}  # fmt: skip
DEFAULTS = {"model": "m", "dataset": "d", "answer_type": "math"}


def write(tmp_path, *rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_import_finds_answers_of_all_kinds_and_grades_them(tmp_path):
    path = write(
        tmp_path,
        {"question": "2*3?", "gold": 6, "text": r"so \boxed{6}", "n_tokens": 5},
        {"question": "2*3?", "gold": 6, "text": "<answer>12/2</answer>", "n_tokens": 5},
        {"question": "2*3?", "gold": 6, "text": "The answer is 7.", "n_tokens": 5, "model": "other"},
        {"question": "2*3?", "gold": 6, "text": "I give up", "n_tokens": 5},
    )
    found = list(traces.import_file(path, FIELDS, DEFAULTS))
    assert len({p.problem_id for p, _ in found}) == 1
    assert [t.correct for _, t in found] == [True, True, False, None]
    assert [t.sample_index for _, t in found] == [0, 1, 0, 2]
    assert [t.finish_reason for _, t in found] == ["stop", "stop", "stop", "unknown"]
    assert len({t.trace_id for _, t in found}) == 4


def test_import_needs_token_counts_or_a_tokenizer(tmp_path):
    path = write(tmp_path, {"question": "2*3?", "gold": "6", "text": "6"})
    with pytest.raises(UserError, match=r"mine\.jsonl:1: no token count"):
        list(traces.import_file(path, FIELDS, DEFAULTS))


def test_summary_by_hand():
    problem, other = make_problem(2, "4"), make_problem(3, "6")
    some = [make_trace(problem, i, a) for i, a in enumerate(["4", "4", "5", None])] + [make_trace(other, 0, "6", n_tokens=50)]
    row = traces.summary(some, {p.problem_id: p for p in (problem, other)})
    assert row == {"problems": 2, "traces": 5, "pass@1": 0.6, "unknown": 0.2, "same_answer_pairs": 1 / 3, "mean_tokens": 18}


def test_ids_do_not_depend_on_the_engines_seed():
    problem = make_problem()
    ids = {traces.make(problem, "m", 0, "x", 1, "stop", {"temperature": t, "engine_seed": s}).trace_id
           for t, s in ((0.6, 1), (0.6, 2), (0.8, 1))}  # fmt: skip
    assert len(ids) == 2
