"""Which answers are the same: every kind of spelling, units, percent, bases, equations, words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepprune.data import answers
from deepprune.data.answers import equality


@pytest.mark.parametrize(
    ("text", "answer"),
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
def test_extraction(text, answer):
    assert answers.extract(text) == answer


@pytest.mark.parametrize(
    ("text", "letter"),
    [(r"\boxed{C}", "C"), (r"\boxed{\text{(b) water}}", "B"), ("The answer is (D).", "D"), ("Answer: A because", "A"),
     ("no idea", None), (r"\boxed{about}", None)],
)  # fmt: skip
def test_choice_extraction(text, letter):
    assert answers.extract(text, "choice") == letter


EQUAL = {
    "spelling": [
        ("5=x", "5"), ("≈ 3.16", "3.16"), (r"\varnothing", r"\emptyset"), (r"\langle 1,2\rangle", "(1,2)"),
        ("ln e", "1"), (r"3+4\mathrm{i}", "3 + 4i"), ("1{.}5", "1.5"),
        ("1/2", "0.5"), (r"\frac{1}{2}", r"\dfrac12"), ("1,000", "1000"), ("3", "3.0"), ("x=5", "5"), ("005", "5"),
        (r"\sqrt{2}", "2^{0.5}"), (r"\frac34", "3/4"), ("-0", "0"), ("1,234,567", "1234567"), ("8{,}500", "8500"),
        (r"10,\!080", "10080"), (r"12\,345", "12345"), ("1 234", "1234"), (r"0.\overline{3}", "1/3"), ("(-3)", "-3"),
        ("1e-7", r"1\times 10^{-7}"), ("5 million", "5000000"), (r"\text{5 million dollars}", "5000000"),
        ("(x+1)^2", "x^2+2x+1"),
        ("1,2,3", "3,2,1"), (r"x=1\text{ or }x=2", "1,2"), ("x<3", r"(-\infty,3)"), ("1<x<3", "(1,3)"),
        (r"\binom{5}{2}", "10"),
        (r"1 \pm \sqrt{19}", r"1+\sqrt{19},1-\sqrt{19}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
        (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix}"),
        (r"\sin 30^\circ", "1/2"),
        (r"\pi r", r"r\pi"), ("2024!", r"2024\cdot 2023!"), (r"\mathbb{R}", r"(-\infty,\infty)"),
    ],
    "numbers in words": [
        ("two", "2"), (r"\text{twenty-one}", "21"), ("One hundred and seven", "107"), ("4 choose 2", "6"),
        ("C(4,2)", "6"),
    ],
    "numbers that go on": [
        ("0.(3)", "1/3"), (r"0.\dot{3}", "1/3"), ("0.333...", "1/3"), ("0.1666…", "1/6"), ("2.1(6)", "13/6"),
    ],
    "times": [
        ("12:30 pm", "12:30 PM"), ("12:30 p.m.", "12:30 PM"), ("3:00 PM", "3 pm"), ("15 minutes", "15 min"),
        ("2 hours and 30 minutes", "2 h 30 min"), ("1 h, 2 min, 3 s", "1 hour 2 minutes 3 seconds"),
    ],
    "mixed numbers": [
        ("1 1/2, 2", "3/2, 2"), ("4 2/3", r"4\frac{2}{3}"),
        ("2 1/2", "5/2"), ("3 4/5", "3.8"), ("-1 1/2", "-1.5"), (r"2\frac{1}{2}", "2.5"), ("10 1/3", r"\frac{31}{3}"),
        ("1½", "1.5"), (r"-1\frac12", "-3/2"), ("1 1/2 cups", "1.5"),
    ],
    "lists without commas": [
        ("1/2 1/3", "1/2, 1/3"), ("1.5 2.5", "2.5, 1.5"),("1 2", "1, 2"), ("1 2 3", "1,2,3")],
    "tiny numbers": [(r"\frac{1}{2^{99}}", "2^{-99}"), ("1e-9", "0.000000001")],
    "bases": [
        ("(110)_2", "110_2"), ("110₂", "110_2"), ("A5_{16}", "a5_{16}"), ("110 in base 2", "110_2"),
        ("1010_2", "1010_{2}"), (r"12_{\text{eight}}", "12_8"), ("110_{(2)}", "$110_2$"), ("110_2", "6_{10}"),
              ("FF_{16}", "255_{10}"), ("2516_8", "2516"), ("110 (base 2)", "110_2")],
    "units": [
        ("5 N", "5 newtons"), ("25 degrees Celsius", "25°C"), ("3/4 cup", "0.75"), ("2/3 of the cake", "2/3"),
        ("about 5", "5"), ("5 sq. m", "5 m^2"), ("90^o", "90"), (r"90^{\text{o}}", r"90^\circ"), ("7'", "7 feet"),
        ('7"', "7 inches"),
        (r"15\text{ sq ft}", r"15\text{ square feet}"), (r"20^\circ\text{C}", "20"), ("5 in.", "5 inches"),
        ("1 m, 2 m", "1, 2"),
        (r"5\text{ m}", "5"), (r"5\text{ cm}", "5"), ("5 m", r"5\text{ meters}"), ("5 square meters", r"5\text{ m}^2"),
        (r"5\,\mathrm{km/h}", "5 kilometers per hour"), ("30°", r"30^{\circ}"), ("45 degrees", r"45^\circ"),
        ("12 students", "12"),
        (r"864 \mbox{ inches}^2", "864"), (r"2\pi \text{ cm}", r"2\pi"), ("$18 USD", r"\$18"), ("18 dollars", r"\$18"),
        (r"$\frac{\pi}{4}$ radians", r"\pi/4"),
    ],
    "percent": [("28\\%", "28"), ("50%", "0.5"), ("50%", r"\frac{1}{2}"), ("50 percent", "50%"), ("12.5%", "1/8")],
    "plain text": [
        ("frac{1}{2}", "1/2"), (r"\\frac{1}{2}", "1/2"), ("2Pi", r"2\pi"), ("e^(i*pi)", "-1"), ("Infinity", r"\infty"),
        ("pi/3", r"\frac{\pi}{3}"), ("exp(4)+2", "e^{4}+2"), ("0.1+0.2", "0.3"), ("sqrt(2)", r"\sqrt{2}"),
        ("2*pi", r"2\pi"),
        ("2**3", "8"), ("(1+sqrt(5))/2", r"\frac{1+\sqrt{5}}{2}"), ("2^10", "1024"), ("x^(1/2)", r"\sqrt{x}"),
        ("inf", r"\infty"),
        ("pi r^2", r"\pi r^2"), ("ln(2)", r"\ln 2"), ("1/2x", r"\frac{x}{2}"), ("n(n+1)/2", r"\frac{n(n+1)}{2}"),
        ("x>=3", r"x\ge 3"),
        ("cos(pi/3)", "1/2"), ("sqrt(2)*sqrt(3)", "sqrt(6)"), (r"3\sqrt(2)", r"3\sqrt{2}"),
    ],
    "unicode and currency": [
        ("18€", "18"), ("USD 18", r"\$18"), ("₩100", "100"), ("Rs. 50", "50"), ("x ∈ [1, 2]", "[1,2]"), ("2⁻¹", "1/2"),
        ("x₁", "x_1"),
        ("2√3", r"2\sqrt{3}"), ("∞", r"\infty"), ("£18", "18"), ("€18", "18"), ("√(2)", r"\sqrt{2}"),
        ("(−∞, 3)", r"(-\infty,3)"),
        ("π/4", r"\frac{\pi}{4}"), ("x²+1", "x^2+1"), ("½", "0.5"), ("3×4", "12"), ("x ≤ 3", r"x\leq 3"),
        ("±3", "3,-3"), ("∛8", "2"),
        ("−12", "-12"), ("１２", "12"), ("10⁵", "100000"), (r"\$18.90", "18.9"), ("₹500", "500"),
    ],
    "decoration": [
        (r"5 \checkmark", "5"), (r"\large 5", "5"), (r"\textcolor{red}{5}", "5"), ("5</s>", "5"), (r"{\bf 5}", "5"),
        (r"\text{Answer: }5", "5"),
        (r"\boxed{5", "5"), ("5&", "5"), ("**Answer**: 7", "7"),
        (r"\boxed{\begin{pmatrix}1\\{2}\end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"12^{\rm th}", "12"), (r"\text{ }5", "5"), ("_5_", "5"), ("[5]", "5"),
        ("5~", "5"), (r"\boldsymbol{5}", "5"), ("5\\\\", "5"), (r"12^{\text{th}}", "12"), ("12th", "12"),
        (r"12^{\mathrm{th}} \text{ grade}", "12"), ("**5**", "5"), ("`5`", "5"),
        (r"\text{13}", "13"), (r"\textbf{(B)}", "B"), (r"\(5\)", "5"), ("$$5$$", "5"), ("5,", "5"), (r"5\ ", "5"),
        (r"\boxed{5}", "5"),
        ("= 5", "5"), (r"$\boldsymbol{\frac{1}{2}}$", "0.5"), (r"\displaystyle\frac{1}{2}.", "0.5"), (r"3^{rd}", "3"),
        (r"\bm{\pi}", r"\pi"),
    ],
    "decimals of many digits": [
        ("1.0986122886681098", r"\ln 3"), ("0.8333333333333334", "5/6"), (r"8.3333333333\%", "1/12"),
        ("0.0833333333333", r"\frac{1}{12}"), ("1.41421356237", r"\sqrt{2}"), ("3.14159265359", r"\pi"),
        ("0.666667", "2/3"),
        ("0.666666", "2/3"), ("0.142857142857", r"\frac{1}{7}"), ("(0.333333333,1)", r"(\frac13,1)"),
    ],
    "equations": [
        ("2x<4", "x<2"), ("x>3", "3<x"), ("4x-2y+6=0", "y = 2x + 3"), ("y-2=3(x-1)", "y=3x-1"),
        ("3x+6y-9=0", "y=-1/2x+3/2"), ("x-y=1", "y=x-1"), ("2x+4y=6", "x+2y=3"), ("y=2x+3", "2x+3"), ("x=2", "2x=4"),
        ("9 - 5 = 4", "4"),
        (r"\frac{x^2}{4}+\frac{y^2}{3}=1", "3x^2+4y^2=12"),
    ],
    "words": [(r"\text{east}", r"\text{East}"), (r"\text{Yes}", "yes"), ("Monday", "monday"),
        ("no solution", r"\text{No solution}")],
}  # fmt: skip
DIFFERENT = {
    "spelling": [("12", "13"), ("-4", "4"), ("(1,2)", "(2,1)"), ("1,23", "123"), ("12,34", "1234"), ("(1,2)", "[1,2]"),
        ("@@@", "5"),
                 (r"\pm 2021", "2021"), ("12:00", "1:00"), ("5 million", "5"), ("x<3", "x>3"), ("n=2,3,4", "n=1,2,3"),
                 ("-i", "i")],
    "mixed numbers": [("2 1/2", r"\frac{21}{2}"), ("1 1/2", "11/2"), ("1 1/2", "1/2")],
    "lists without commas": [("1 2", "12"), ("5 10", "510"), ("1 2 3", "123"), ("2 -3", "2-3")],
    "tiny numbers": [
        ("1-10^{-20}", "1"), ("1.0000001", "1"), (r"\{10^{-8}\}", r"\{10^{-9}\}"),
        (r"\frac{\pi}{10^{10}}", r"\frac{\pi}{10^{11}}"),
        (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"), (r"\frac{1}{1999!}", r"\frac{1}{2001!}"), ("1e-9", "2e-9"),
        ("0", "10^{-30}"),
        ("0.0000001", "0.0000002"), (r"(\frac{1}{2^{99}},1)", r"(\frac{1}{2^{98}},1)"), ("e^{-50}", "e^{-51}"),
        (r"\frac{x}{2^{99}}", r"\frac{x}{2^{98}}"),
    ],
    "large numbers": [("2^{2024}", "2^{2024}-1"), ("10^{50}+1", "10^{50}"), ("2024!", "2023!"),
        ("9" * 5000, "9" * 4999 + "8")],
    "bases": [
        ("110_2, 101_2", "110_8, 101_8"), ("0.1_2", "0.1_3"), ("x_2", "x_3"), ("110_2", "111_2"),("110_2", "110_8"),
        ("101_2", "101_3"), ("FF_{16}", "254_{10}")],
    "numbers in words": [("twenty-one", "20"), ("one hundred", "1"), ("0.333...", "0.333"), ("2.71828...", "2.718")],
    "units": [
        ("5'", '5"'), ("2 hours 30 minutes", "2 hours 20 minutes"), ("2 h 30 min", "2"), ("5 min", "5 m"),
        ("5 N", "5 J"), ("5 m/s", "5 m/s^2"), (r"20^\circ\text{C}", r"20^\circ\text{F}"), ("1 m, 2 m", "1 cm, 2 cm"),
        ("5 mph", "5 km/h"),
        (r"5\text{ m}", r"5\text{ cm}"), (r"30^\circ", r"30 \text{ radians}"), ("5 kg", "5 g"),
        (r"5\text{ cm}^2", r"5\text{ cm}^3"),
        (r"2\pi\text{ cm}", r"2\pi\text{ m}"), (r"\$5", "5 cents"), ("£18", "€18"), ("3 hours", "3 minutes"),
        ("3:00 pm", "3:00 am"),
        ("2t", "2"), ("x+2s", "x+2"), ("5 xy", "5"),
    ],
    "percent": [("50%", "5"), ("25%", "0.2"), ("5%", "5 m")],
    "decimals of many digits": [(r"\frac{1}{3}", "0.34"), ("0.3333", "1/3"), ("3.14", r"\pi"),
        ("1.41421356237", "1.41421356238")],
    "equations": [
        ("2x<4", "x>2"), ("x^2+y^2=25", "y=x"),("y=2x+1", "y=2x-1"), ("x=5", "y=5"), ("4+3=7", "504+3=507"),
        ("x^2/4+y^2/3=1", "x^2/16+y^2/12=1"), ("3x-y+13=0", "3x+4y+14=0")],
    "capital and small letters": [
        (r"\Delta", r"\delta"), (r"\frac{A}{B}", r"\frac{a}{b}"),("A", "a"), ("2A", "2a"), ("AB", "ab"),
        ("n^2", "N^2")],
    "words": [(r"\text{even}", r"\text{odd}"), ("west", "stew"), (r"\text{five}", "6")],
}  # fmt: skip


@pytest.mark.parametrize("kind", EQUAL)
def test_equal_answers(kind):
    assert [(a, b) for a, b in EQUAL[kind] if answers.same(a, b) is not True or answers.same(b, a) is not True] == []


@pytest.mark.parametrize("kind", DIFFERENT)
def test_different_answers(kind):
    assert [
        (a, b) for a, b in DIFFERENT[kind] if answers.same(a, b) is not False or answers.same(b, a) is not False
    ] == []


@pytest.mark.parametrize("answer_type", ["math", "choice", "text"])
def test_every_answer_is_the_same_as_itself_and_what_is_spelled_alike(answer_type):
    pairs = [pair for kinds in (EQUAL, DIFFERENT) for kind in kinds.values() for pair in kind]
    assert all(answers.same(answer, answer, answer_type) is True for pair in pairs for answer in pair)
    spelled = [tuple(answers.normalise(answer, answer_type) for answer in pair) for pair in pairs]
    alike = [pair for pair, spellings in zip(pairs, spelled, strict=True) if len(set(spellings)) == 1]
    assert [pair for pair in alike if answers.same(*pair, answer_type) is not True] == []


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789.,+-/ ex%$\\{}()^_°√½ mc\n", max_size=20))
def test_odd_spellings_are_read_without_an_error(text):
    for answer_type in ("math", "choice", "text"):
        assert isinstance(answers.normalise(text, answer_type), str)
        assert answers.same(text, text, answer_type) is True


@pytest.mark.parametrize(
    "piece",
    [
        "9",
        " ",
        "1 ",
        "1,",
        "{",
        "$",
        "*",
        "(",
        "cm ",
        "/s",
        r"\\text{ a}",
        r"\\boxed{",
        r"\\text{",
        "answer: ",
        "'\"",
        ".",
        "\\\\",
    ],
)
def test_long_answers_are_read_in_no_time(piece):
    text = "5" + piece * 100_000
    for answer_type in ("math", "choice", "text"):
        assert isinstance(answers.normalise(text, answer_type), str)


def test_unknown_is_the_same_as_nothing():
    assert answers.same(None, "4") is None
    assert answers.same(None, None) is None
    assert answers.classes(["4", None, "4.0", None, "5"]) == [0, None, 0, None, 1]
    assert answers.majority([None, None]) is None


def test_choice_and_text():
    assert answers.same("(a)", "A", "choice") is True
    assert answers.same("A", "B", "choice") is False
    assert answers.same("New  York", "new york", "text") is True


@pytest.mark.parametrize(
    "spelling",
    [
        "yes",
        "Yes.",
        r"\text{Yes}",
        "**Yes**",
        "**Yes.**",
        "$\\text{yes}$",
        '"Yes"',
        r"\textbf{YES}",
        "Yes!",
        "`yes`",
        r"\boxed{Yes}",
    ],
)
def test_wrappers_and_full_stop_change_no_word(spelling):
    assert answers.same(spelling, "yes", "text") is True
    assert answers.same(spelling, "no", "text") is False


@pytest.mark.parametrize(
    "spelling",
    [
        "B",
        "b",
        "(b)",
        "B.",
        "**B**",
        r"\textbf{(B)}",
        r"$\boxed{\text{B}}$",
        "Option B",
        "Answer: B",
        "B) Paris",
        r"\mathbf{B}",
    ],
)
def test_wrappers_change_no_letter(spelling):
    assert answers.same(spelling, "B", "choice") is True
    assert answers.same(spelling, "C", "choice") is False


@pytest.mark.parametrize("spelling", ["A and C", "A, C", "(A), (C)", "A or B", r"A \text{ and } C", "about"])
def test_several_letters_are_none(spelling):
    assert answers.same(spelling, "A", "choice") is False


def test_a_comparison_that_never_ends_is_unknown_and_the_next_one_works(monkeypatch):
    monkeypatch.setattr(equality, "TIMEOUT_SECONDS", 1.0)
    assert answers.same("9^{9^{9^{9}}}", "9^{9^{9^{8}}}+1") in (None, False)
    assert answers.same(r"\frac{3}{4}", "0.75") is True
