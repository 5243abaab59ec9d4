import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepprune import answers


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{1} and then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{{a}_{b}} and \boxed{unfinished", "{a}_{b}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        ("thus <answer> 17 </answer>", "17"),
        (r"<answer>\boxed{3}</answer>", "3"),
        ("The final answer is: 1,234.5.", "1,234.5"),
        ("... 2 + 2 #### 4", "4"),
        ("I would say 12 apples or 13", None),
        ("", None),
        (r"\boxed{}", None),
        (r"\boxed{" + "x" * 900 + "}", None),
    ],
)
def test_extraction(text, found):
    assert answers.extract(text) == found


@pytest.mark.parametrize(
    ("text", "letter"),
    [(r"\boxed{C}", "C"), (r"\boxed{\text{(b) water}}", "B"), ("The answer is (D).", "D"), ("Answer: A because", "A"),
     ("no idea", None), (r"\boxed{about}", None)],
)  # fmt: skip
def test_choice_extraction(text, letter):
    assert answers.extract(text, "choice") == letter


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("1/2", "0.5", True), (r"\frac{1}{2}", r"\dfrac12", True), ("1,000", "1000", True), ("3", "3.0", True),
        (r"\sqrt{2}", "2^{0.5}", True), ("2^{0.5}", r"\sqrt{2}", True), ("x=5", "5", True), (r"\$18", "18", True),
        ("(1,2)", "(2,1)", False), ("12", "13", False), ("-4", "4", False), (r"\frac{1}{3}", "0.34", False),
    ],
)  # fmt: skip
def test_equivalence(a, b, equal):
    assert answers.same(a, b) is equal
    assert answers.same(b, a) is equal


def test_unknown_is_the_same_as_nothing():
    assert answers.same(None, "4") is None
    assert answers.same(None, None) is None
    assert answers.classes(["4", None, "4.0", None, "5"]) == [0, None, 0, None, 1]
    assert answers.majority([None, None]) is None


def test_choice_and_text():
    assert answers.same("(a)", "A", "choice") is True
    assert answers.same("A", "B", "choice") is False
    assert answers.same("New  York", "new york", "text") is True


def test_a_comparison_that_never_ends_is_unknown_and_the_next_one_works(monkeypatch):
    monkeypatch.setattr(answers, "TIMEOUT_SECONDS", 1.0)
    assert answers.same("9^{9^{9^{9}}}", "9^{9^{9^{8}}}+1") in (None, False)
    assert answers.same(r"\frac{3}{4}", "0.75") is True


def test_majority_ties_and_weights():
    assert answers.majority(["1", "2", "2.0", "1"]) == "1"
    assert answers.majority(["1", "2", "2.0"]) == "2"
    assert answers.majority(["1", "2", "3"], weights=[1, 5, 2]) == "2"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["1/2", "0.5", "2", "2.0", "-3", r"\frac{2}{1}", "x", None]), max_size=12))
def test_classes_agree_with_pairwise_comparison(some):
    labels = answers.classes(some)
    for i, a in enumerate(some):
        for j, b in enumerate(some):
            together = labels[i] is not None and labels[i] == labels[j]
            assert together == (answers.same(a, b) is True)
