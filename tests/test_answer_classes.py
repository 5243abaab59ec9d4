"""A problem's answers in classes, and the vote: in any order the same, and bounded where comparisons never end."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepprune.data import answers
from deepprune.data.answers import equality
from deepprune.data.answers.math_worker import Outcome, Values


def test_majority_ties_and_weights():
    assert answers.majority(["1", "2", "2.0", "1"]) == "1"
    assert answers.majority(["1", "2", "2.0"]) == "2"
    assert answers.majority(["1", "2", "3"], weights=[1, 5, 2]) == "2"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["1/2", "0.5", "2", "2.0", "-3", r"\frac{2}{1}", "x", None]), max_size=12))
def test_classes_agree_with_pairwise_comparison(stated):
    labels = answers.classes(stated)
    for i, a in enumerate(stated):
        for j, b in enumerate(stated):
            together = labels[i] is not None and labels[i] == labels[j]
            assert together == (answers.same(a, b) is True)


class SlowWorker:
    """Stands in for the process: an evaluation of a monster never ends, nor does a comparison with a beast."""

    def __init__(self):
        self.asked = []

    def values(self, a, seconds):
        self.asked.append((a, "", seconds))
        return Values(None, "monster" in a)

    def same(self, a, b, seconds):
        self.asked.append((a, b, seconds))
        hung = "beast" in a + b
        return Outcome(None, True) if hung else Outcome(sorted(a) == sorted(b))


@pytest.fixture
def slow(monkeypatch):
    worker = SlowWorker()
    monkeypatch.setattr(equality, "_worker", worker)
    for name in ("_cache", "_hung", "_values", "_ended", "_budgets"):
        monkeypatch.setattr(equality, name, getattr(equality, name).copy())
        getattr(equality, name).clear()
    return worker


def hung(worker):
    return [asked for asked in worker.asked if "monster" in asked[0] or "beast" in asked[0] + asked[1] and asked[1]]


def test_an_answer_that_hung_is_not_compared_with_every_class(slow):
    stated = [f"x+{i}y" for i in range(20)] + ["monster+x", "1y+x"]
    assert answers.classes(stated) == [*range(20), 20, 1]
    assert len(hung(slow)) == 1
    assert answers.classes(stated) == [*range(20), 20, 1]
    assert answers.same("monster+x", "x+99y") is None
    assert len(hung(slow)) == 1


def test_a_comparison_that_hung_is_not_tried_again(slow):
    stated = ["x+y", "beast+x", "y+x", "x+z"]
    assert answers.classes(stated) == answers.classes(stated) == [0, 1, 0, 2]
    assert len(hung(slow)) == 2 and len({asked[:2] for asked in hung(slow)}) == 2


def test_four_answers_that_hang_leave_the_others_right(slow):
    monsters = [f"monster^{{{i}x}}" for i in range(4)]
    assert answers.classes(["x+y", "x+z", *monsters, "y+x", "z+x"]) == [0, 1, 2, 3, 4, 5, 0, 1]
    assert [answers.same(m, "y+x") for m in monsters] == [None] * 4
    assert len(hung(slow)) == 4


def test_what_is_remembered_does_not_grow_for_ever(slow, monkeypatch):
    monkeypatch.setattr(equality, "MOST_REMEMBERED", 50)
    for number in range(100):
        assert answers.same(f"x+{number}y", f"{number}y+x") is True
        assert answers.same(f"x+{number}y", f"x+{number}z") is False
        assert len(equality._cache) + len(equality._values) <= 54


def test_comparisons_that_never_end_are_bounded_in_a_problem(slow):
    monsters = [f"monster^{{{i}x}}" for i in range(100)]
    stated = ["x+y", "y+x", *monsters] * 3
    assert answers.classes(stated)[: len(monsters) + 2] == [0, 0, *range(1, 101)]
    assert len(hung(slow)) == equality.HUNG_COMPARISONS
    seconds = sum(asked[2] for asked in hung(slow))
    assert seconds <= equality.TIMEOUT_SECONDS + (equality.HUNG_COMPARISONS - 1) * equality.SHORT_SECONDS
    beasts = [f"beast^{{{i}x}}" for i in range(100)]
    assert [answers.same(beast, beast + "+0") for beast in beasts] == [None] * 100  # so all have been evaluated
    asked = len(hung(slow))
    answers.classes(["x+y", "y+x", *beasts])
    assert len(hung(slow)) - asked <= 2 * equality.HUNG_COMPARISONS


def test_grading_against_one_gold_answer_is_bounded(slow):
    monsters = [f"monster^{{{i}x}}" for i in range(100)]
    assert [answers.same(monster, "x+y") for monster in [*monsters, *monsters]] == [None] * 200
    assert answers.same("y+x", "x+y") is True  # other problems have the same gold answer
    assert len(hung(slow)) == 100
    assert sum(asked[2] for asked in hung(slow)) <= 15 + 100 * equality.LAST_SECONDS


def partition(labels, stated):
    groups = {}
    for label, answer in zip(labels, stated, strict=True):
        groups.setdefault(label, []).append(answer)
    return sorted(sorted(group) for label, group in groups.items() if label is not None)


NOT_TRANSITIVE = [
    ["25", "25", "25", "0.25", "0.25", "25%", "25%"], ["5", "5 m", "5 cm", "5 cm", "x=5", "y=5", "5"],
    ["1,2", "(1,2)", "(2,1)", "2,1"], ["0.333333", "1/3", "0.3333335", "0.33333349"], ["110_2", "110_8", "110",
    "6_{10}"],
    ["£18", "€18", "18", "$18"],
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NOT_TRANSITIVE).flatmap(lambda stated: st.tuples(st.just(stated), st.permutations(stated))))
def test_classes_do_not_depend_on_the_order(case):
    stated, shuffled = case
    assert partition(answers.classes(shuffled), shuffled) == partition(answers.classes(stated), stated)


def test_the_vote_does_not_depend_on_the_order():
    stated = ["25", "25", "25", "0.25", "0.25", "25%", "25%"]
    for seed in range(30):
        random.Random(seed).shuffle(stated)
        assert answers.majority(stated) in ("25", "25%") and answers.same(answers.majority(stated), "25")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["1/2", "0.5", "2", "2.0", "-3", r"\frac{2}{1}", "x", None]), max_size=12))
def test_one_after_the_other_they_are_in_the_same_classes(stated):
    grouped = answers.Classes()
    assert [grouped.add(answer) for answer in stated] == answers.classes(stated)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NOT_TRANSITIVE).flatmap(st.permutations))
def test_one_after_the_other_no_class_holds_answers_that_differ(stated):
    """5 m and 5 cm, though a bare 5 came first, which is both; and what was told of an answer stays."""
    grouped = answers.Classes()
    told = [grouped.add(answer) for answer in stated]
    assert [grouped.add(answer) for answer in stated] == told
    for label in set(told):
        names = [a for a, of in zip(stated, told, strict=True) if of == label and re.search(r"[a-z_£€$]", a)]
        numbers = {a for a, of in zip(stated, told, strict=True) if of == label} & {"25", "0.25"}
        values = [a.split("=")[-1] for a in names]
        assert len(numbers) < 2 and all(answers.same(a, b) is not False for a in values for b in values)


def test_each_spelling_is_compared_with_each_class_once(slow, monkeypatch):
    compared, really = [], equality._same_math
    monkeypatch.setattr(equality, "_same_math", lambda a, b, *more: compared.append((a, b)) or really(a, b, *more))
    stated = [f"{x}+{y}z" for y in range(3) for x in "ab"] + [f"z{y}+{x}" for y in range(3) for x in "ab"]
    grouped = answers.Classes()
    for answer in stated * 10:
        grouped.add(answer)
    assert len(compared) == len(set(compared)) <= len(set(stated)) * len(grouped.firsts)
    before = len(compared)
    for answer in stated:
        grouped.add(answer)
    assert len(compared) == before


def test_comparisons_that_never_end_are_bounded_one_after_the_other(slow):
    grouped = answers.Classes()
    told = [grouped.add(a) for a in ["x+y", "y+x", *(f"monster^{{{i}x}}" for i in range(100))] * 3]
    assert told[:102] == [0, 0, *range(1, 101)] and len(hung(slow)) == equality.HUNG_COMPARISONS


def test_units_and_bases_that_differ_are_in_different_classes():
    assert answers.classes(["5 m", "5", "5 cm", "5 m"]) == [0, 0, 1, 0]
    assert answers.classes(["110_2", "110_8", "110_2"]) == [0, 1, 0]


@pytest.mark.parametrize("weights", [[float("nan"), 1.0], [1.0, float("inf")], [-1.0, 1.0], [1.0]])
def test_a_weight_that_is_no_weight_decides_no_vote(weights):
    with pytest.raises(ValueError, match="weight"):
        answers.majority(["1", "2"], weights=weights)


def test_right_class_is_that_of_most_right_traces():
    assert answers.right_class([0, 1, 1, 2, None], [True, True, True, False, None]) == 1
    assert answers.right_class([0, None], [False, None]) is None
