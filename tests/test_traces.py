import math

from conftest import make_problem, make_trace

from deepprune.data import traces


def test_summary_by_hand():
    problem, other = make_problem(2, "4"), make_problem(3, "6")
    answered = [make_trace(problem, i, a) for i, a in enumerate(["4", "4", "5", None])] + [
        make_trace(other, 0, "6", n_tokens=50)
    ]
    row = traces.summary(answered, {p.problem_id: p for p in (problem, other)})
    assert row == {
        "problems": 2,
        "traces": 5,
        "pass@1": 0.6,
        "unknown": 0.2,
        "same_answer_pairs": 1 / 3,
        "mean_tokens": 18,
    }


def test_a_number_that_does_not_exist_is_shown_as_such(capsys):
    problem = make_problem(2, "4")
    single = [make_trace(problem, 0, "4")]
    assert math.isnan(traces.summary(single, {problem.problem_id: problem})["same_answer_pairs"])
    traces.Tally({problem.problem_id: problem}, single).show()
    assert "n/a" in (printed := capsys.readouterr().out) and "nan" not in printed


def test_ids_do_not_depend_on_the_engines_seed():
    problem = make_problem()
    ids = {
        traces.make(problem, "m", 0, "x", 1, "stop", {"temperature": t, "engine_seed": s}).trace_id
        for t, s in ((0.6, 1), (0.6, 2), (0.8, 1))
    }
    assert len(ids) == 2
