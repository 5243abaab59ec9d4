"""What tells two questions apart, what is spelling, and the options that a question lists."""

import pytest

from deepprune.base.questions import (
    checked_gold,
    choice_letter,
    listed_options,
    normalised_question,
    question_without_numbers,
)

TWO_QUESTIONS = [
    ("Compute 2 + 2.", "Compute 2 * 2."), ("Solve x^2 = 4", "Solve x - 2 = 4"), ("-3 + 2", "3 + 2"),
    ("Compute $2^{n+1}$", "Compute $2^n+1$"), ("$x^{2y}$", "$x^2y$"), ("$\\frac{1}{23}$", "$\\frac{12}{3}$"),
    ("2 * (3 + 4)", "2 * 3 + 4"), ("(1 + 2) * 3 - 4", "(1 + 2) * (3 - 4)"), ("1.5 + 2", "15 + 2"),
    ("Find 5!", "Find 5."), ("x < 3", "x > 3"), ("x < 3", "x <= 3"), ("$x \\le 3$", "$x \\ge 3$"), ("f'(2)", "f(2)"),
    ("2 - sin(x)", "2 sin(x)"), ("5% of 20", "5 of 20"), ("|x - 2|", "x - 2"), ("2**3", "2*3"), ("10/2", "10-2"),
    ("2 ÷ 4", "2 × 4"), ("1 + 2 - 3", "1 - 2 + 3"), ("$A \\cup B$", "$A \\cap B$"), ("length - 3", "length 3"),
]  # fmt: skip

ONE_QUESTION = [
    ("Compute 2+2.", " compute  2 +\n2 ?"), ("Solve $x^2=4$", "Solve x^{2} = 4."), ("How many?", "how  MANY"),
    ("$2\\,x + 3$", "2x+3"), ("\\(x-2\\)", "$x - 2$"), ("\\[x = 1\\]", "$$x=1$$"),
    ("a well-known fact", "a well known fact"), ("the x-axis", "the x axis"), ("a 3-digit number", "a 3 digit number"),
    ("\\dfrac{1}{2}", "\\frac{1}{2}"), ("\\left(x+1\\right)", "(x+1)"), ("2 \\times 3", "2 * 3"), ("2×3", "2\\cdot 3"),
    ("2 − 3", "2-3"), ("2 + 2 = ?", "2+2"), ("**Question:** what is *not* 2?", "Question: what is not 2"),
    ("A farmer - who owns sheep - is", "A farmer, who owns sheep, is"), ("5 \\text{ cm long}", "5 cm long"),
    ("1{,}000", "1,000"), ("x \\leq 3", "x ≤ 3"), ("90^\\circ", "90°"), (".5 + 1", "0.5 + 1"),
    ("Take ((2+3))*4", "Take (2+3)*4"), ("How many are there!", "How many are there?"),
    ("It’s “here”", "it's \"here\""),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), TWO_QUESTIONS)
def test_operators_tell_questions_apart(first, second):
    assert normalised_question(first) != normalised_question(second)


@pytest.mark.parametrize(("first", "second"), ONE_QUESTION)
def test_spelling_does_not(first, second):
    assert normalised_question(first) == normalised_question(second)


def test_odd_text_is_normalised_too():
    for text in (
        "(" * 50_000,
        "(" * 20_000 + "2+3" + ")" * 20_000,
        "{" * 50_000,
        "- " * 50_000,
        " " * 50_000 + "?",
        "\\" * 50_000,
    ):
        assert normalised_question(text) == normalised_question(text + " ")
    assert normalised_question("((((2+3))))") == normalised_question("(2+3)")
    assert normalised_question("???") != normalised_question("!!!")


def test_options_in_lines_in_one_line_and_in_latex():
    assert listed_options("Which?\nA) a\nB) B. Smith\n(C) A. Jones\nD. d\n") == {
        "A": "a",
        "B": "B. Smith",
        "C": "A. Jones",
        "D": "d",
    }
    assert listed_options("What? (A) 3 (B) 4.5 (C) a, b") == {"A": "3", "B": "4.5", "C": "a, b"}
    assert listed_options("**A.** x\n**B.** y") == {"A": "x", "B": "y"}
    assert listed_options("A train leaves A. It arrives at B.") == {}
    latex = "$\\textbf{(A) } 5 \\qquad \\textbf{(B) } 6\\qquad\\textbf{(C) }7$"
    assert list(listed_options(latex)) == ["A", "B", "C"] and choice_letter("6", latex) == "B"


def test_the_options_come_after_what_the_question_tells():
    text = "Two cities, A: small, B: large.\nA) 1\nB) 2\nC) 3"
    assert listed_options(text) == {"A": "1", "B": "2", "C": "3"}


def test_an_option_that_stands_twice_is_no_answer():
    text = "A) one\nB) two\nC) one"
    assert (choice_letter("two", text), choice_letter("one", text), choice_letter("D", text)) == ("B", None, None)
    assert choice_letter("MV", "A) mV\nB) MV") == "B"
    assert checked_gold("1/2", text, "math") == "1/2"


def test_the_gold_of_a_solution_is_what_follows_its_hashes():
    assert checked_gold("2 * 3 = <<2*3=6>>6\n#### 6", "2*3?", "math") == "6"
    assert checked_gold("#### B", "A) one\nB) two", "choice") == "B"
    assert checked_gold("#### Step 1\nso 6", "2*3?", "math") == "#### Step 1\nso 6"


def test_variants_differ_in_their_numbers_alone():
    same = ["Sum to $1{,}000$ by 2.5?", "sum to 7 by 10?"]
    assert question_without_numbers(same[0]) == question_without_numbers(same[1]) == "sum to 0 by 0"
    assert question_without_numbers("What is 3 - 1?") != question_without_numbers("What is 3 + 1?")
