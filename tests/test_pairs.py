import pytest
from conftest import make_problem, make_trace, run_stage
from hypothesis import given
from hypothesis import strategies as st

from deepprune.base import jsonl, records
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


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=2, max_size=12), st.integers(1, 30))
def test_partial_pairs_are_all_pairs_that_were_cut_on_both_sides(traces, count):
    """traces: (answer, reasoning words); cut at the second word, a trace of one or two words is whole."""
    problem = make_problem(2, "4")
    traces = [
        make_trace(problem, i, str(answer), text="So it is. " * words + f"It is {answer}")
        for i, (answer, words) in enumerate(traces)
    ]
    cut = Truncation("words", 3)
    everything, dropped = pairs.build(traces, problem, cut, None, seed=0)
    partial, as_dropped = pairs.build(traces, problem, cut, None, seed=0, partial=True)
    text = {t.trace_id: t.text for t in traces}
    both = {p.pair_id for p in everything if p.prefix_a != text[p.trace_a] and p.prefix_b != text[p.trace_b]}
    either = {frozenset((p.trace_a, p.trace_b)) for p in everything if p.pair_id in both}
    assert {frozenset((p.trace_a, p.trace_b)) for p in partial} >= either and dropped == as_dropped
    assert all(p.prefix_a != text[p.trace_a] and p.prefix_b != text[p.trace_b] for p in partial)
    sampled, _ = pairs.build(traces, problem, cut, count, seed=0, partial=True)
    assert len(sampled) == min(count, len(partial))


def test_what_the_test_side_asks_too_is_tested():
    problems = [Problem.new("d", f"What is {n} + 1?", str(n + 1)) for n in range(20)]
    elsewhere = [Problem.new("other", "what is 3+1", "four"), Problem.new("other", "What is 77 + 1?", "78")]
    for seed in range(5):
        train, test = pairs.split(problems, 0.25, seed, tested=elsewhere)
        assert problems[3] in test and len(test) == 5 and len(train) == 15
        pairs.check_leak(train, elsewhere)
    everything = [Problem.new("other", p.question, "0") for p in problems[:8]]
    assert {p.problem_id for p in pairs.split(problems, 0.25, 0, tested=everything)[1]} == {
        p.problem_id for p in problems[:8]
    }


def test_variants_of_a_problem_stay_together():
    questions = [
        f"Let $a={n}$. {text}?" for text in ("Find a^2", "Find a + 1", "Is 3.5 < a", "Half of a") for n in range(6)
    ]
    problems = [Problem.new("d", q, "1") for q in questions]
    train, test = pairs.split(problems, 0.5, 0, variants_together=True)
    sides = [{q.split(". ")[1] for q in (p.question for p in side)} for side in (train, test)]
    assert not sides[0] & sides[1] and [len(side) for side in sides] == [2, 2] and len(train) + len(test) == 24
    apart = [{p.question.split(". ")[1] for p in side} for side in pairs.split(problems, 0.5, 0)]
    assert apart[0] & apart[1]


@pytest.fixture
def sources(tmp_path):
    """Files of problems, traces, and of another reasoner's traces, which ask one of the problems in other words."""
    problems = [make_problem(i, str(2 * i)) for i in range(1, 9)]
    asked = pairs.split(problems, 0.25, 0)[0][0]  # of the training side
    twin = Problem.new("elsewhere", f"{asked.question.upper()}  ", asked.gold)
    text = "First we add. So it goes on. But wait, we check. Then it is {}. Thus \\boxed{{{}}}"
    made = {
        "problems": [*problems, twin],
        "seen": [make_trace(p, i, a, text=text.format(i, a)) for p in problems for i, a in enumerate("44556")],
        "other": [make_trace(twin, i, a, text=text.format(i, a), model="other") for i, a in enumerate("4455")],
    }
    for name, rows in made.items():
        records.write(tmp_path / f"{name}.jsonl", rows)
    return tmp_path


def build_dataset(folder, *more):
    files = ["--problems", folder / "problems.jsonl", "--traces", folder / "seen.jsonl"]
    files += ["--test-traces", folder / "other.jsonl", "--data-dir", folder / "data", "--name", "p"]
    cuts = ["--cuts", "words:1", "words:2", "--test-cuts", "words:1", "tokens:9", "words:50"]
    tokenizer = ["--tokenizer", "SmolLM2-135M-Instruct"]
    return run_stage("Offline/build_pair_dataset.py", *files, *cuts, *tokenizer, *more)


def test_several_cuts_in_one_set_and_no_problem_on_both_sides(sources):
    refused = build_dataset(sources)
    assert refused.returncode == 2 and "leak" in refused.stderr
    said = ["--shared-to-test", "--train-partial", "--fitting-pairs", "--test-traces-per-problem", "3"]
    done = build_dataset(sources, *said, "--train-pairs-per-problem", "4", "--oversampling", "1")
    assert done.returncode == 0, done.stderr
    by_id = records.read_problems(sources / "problems.jsonl")
    tested = list(records.read(records.Pair, sources / "data/offline_test_data/p.jsonl"))
    rows = [row for _, row in jsonl.read(sources / "data/finetune_data/p.jsonl")]
    sides = [
        {normalised_question(by_id[i].question) for i in ids}
        for ids in ({row["problem_id"] for row in rows}, {p.problem_id for p in tested})
    ]
    assert not sides[0] & sides[1] and len(sides[0]) == 6 and len(sides[1]) == 2
    # The same pairs of traces at each cut of the test side, in the same order; all three of three traces.
    of_cut = {}
    for p in tested:
        of_cut.setdefault(tuple(p.truncation.values()), []).append((p.trace_a, p.trace_b))
    first, *others = of_cut.values()
    assert set(of_cut) == {("words", 1), ("tokens", 9), ("words", 50)} and all(pairs == first for pairs in others)
    assert len(first) == 3 * 3  # of two problems by one reasoner, of one by the other
    assert len(rows) == 6 * 2 * 4 and not any("boxed" in row["instruction"] for row in rows)
    fitted = list(records.read(records.Pair, sources / "data/offline_train_data/p.jsonl"))
    assert {p.problem_id for p in fitted} == {row["problem_id"] for row in rows} and len(fitted) == 6 * 3 * 3
    assert "truncation" not in (sources / "data/finetune_data/p.judge_profile.yaml").read_text()
