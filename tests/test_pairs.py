import pytest
from conftest import make_problem, make_trace
from hypothesis import given
from hypothesis import strategies as st

from deepprune.base.errors import UserError
from deepprune.base.records import Problem
from deepprune.data import pairs
from deepprune.data.problems import normalised_question
from deepprune.data.truncation import Truncation

WORDS = Truncation("words", 1)


def test_all_pairs_with_labels_unknown_dropped():
    problem = make_problem(2, "4")
    traces = [make_trace(problem, i, a) for i, a in enumerate(["4", "4.0", "5", None])]
    built, dropped = pairs.build(traces, problem, WORDS, None, seed=0)
    assert dropped == 3 and len(built) == 3
    by_traces = {frozenset((p.trace_a, p.trace_b)): p for p in built}
    assert by_traces[frozenset((traces[0].trace_id, traces[1].trace_id))].label == 1
    assert by_traces[frozenset((traces[0].trace_id, traces[2].trace_id))].label == 0
    assert all(p.prefix_a == "First" for p in built)


def test_sampling_is_seeded_and_both_orders_occur():
    problem = make_problem(2, "4")
    traces = [make_trace(problem, i, str(i % 3)) for i in range(16)]
    sampled, _ = pairs.build(traces, problem, WORDS, 30, seed=1)
    again, _ = pairs.build(traces, problem, WORDS, 30, seed=1)
    other, _ = pairs.build(traces, problem, WORDS, 30, seed=2)
    assert len(sampled) == 30 and sampled == again and {p.pair_id for p in sampled} != {p.pair_id for p in other}
    index = {t.trace_id: t.sample_index for t in traces}
    assert {index[p.trace_a] < index[p.trace_b] for p in sampled} == {True, False}


@given(st.lists(st.integers(0, 3), min_size=2, max_size=14), st.integers(1, 40))
def test_balanced_sampling_takes_as_many_of_both_as_there_are(answers, count):
    problem = make_problem(2, "4")
    traces = [make_trace(problem, i, str(a)) for i, a in enumerate(answers)]
    everything, _ = pairs.build(traces, problem, WORDS, None, seed=0)
    built, _ = pairs.build(traces, problem, WORDS, count, seed=0, balanced=True)
    assert len(built) == min(count, len(everything)) == len({p.pair_id for p in built})
    assert {frozenset((p.trace_a, p.trace_b)) for p in built} <= {frozenset((p.trace_a, p.trace_b)) for p in everything}
    if count < len(everything):
        there = [sum(p.label == side for p in everything) for side in (0, 1)]
        taken = [sum(p.label == side for p in built) for side in (0, 1)]
        assert min(taken) == min(count // 2, min(there))


def test_traces_of_different_models_are_not_paired():
    problem = make_problem(2, "4")
    traces = [make_trace(problem, i, "4", model=m) for m in ("a", "b") for i in range(3)]
    built, _ = pairs.build(traces, problem, WORDS, None, seed=0)
    assert len(built) == 6


def test_oversampling_repeats_the_minority_only():
    problem = make_problem(2, "4")
    traces = [make_trace(problem, i, "4" if i else "5") for i in range(5)]
    built, _ = pairs.build(traces, problem, WORDS, None, seed=0)
    assert sorted(p.label for p in built) == [0] * 4 + [1] * 6
    assert sorted(p.label for p in pairs.oversample(built, 2)) == [0] * 8 + [1] * 6
    assert pairs.oversample(built, 1) == built
    with pytest.raises(UserError):
        pairs.oversample(built, 0)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.floats(0, 0.9), st.integers(0, 5))
def test_no_problem_text_is_on_both_sides_of_the_split(numbers, share, seed):
    """Also when one question appears twice, under another gold, family or spelling."""
    problems = [
        Problem.new("d", f"What is {n}?" if i % 2 else f"what IS {n} ", str(i), family=f"f{i % 3}")
        for i, n in enumerate(numbers)
    ]
    train, test = pairs.split(problems, share, seed)
    assert len(train) + len(test) == len(problems)
    assert not {normalised_question(p.question) for p in train} & {normalised_question(p.question) for p in test}


def test_split_takes_the_share_of_each_family():
    problems = [make_problem(i, family=f) for f, start in (("a", 0), ("b", 100)) for i in range(start, start + 20)]
    _, test = pairs.split(problems, 0.25, 0)
    assert sorted(p.family for p in test) == ["a"] * 5 + ["b"] * 5


def test_leak_check_fails_on_a_shared_question():
    with pytest.raises(UserError, match="leak"):
        pairs.check_leak([Problem.new("d", "How many?", "1")], [Problem.new("other", "how  MANY", "2")])
    pairs.check_leak([Problem.new("d", "How many?", "1")], [Problem.new("d", "How much?", "1")])
    pairs.check_leak([Problem.new("d", "Solve x^2 = 4", "2")], [Problem.new("d", "Solve x - 2 = 4", "6")])
    with pytest.raises(UserError, match="leak"):
        pairs.check_leak([Problem.new("d", "Solve $x^2=4$", "2")], [Problem.new("d", "solve  x^{2} = 4.", "2")])
