r"""The answer that a careful reader finds in a trace."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepprune.data import answers
from deepprune.data.answers import cues, extraction, latex, letters, readers
from deepprune.data.answers.extraction import extract

# ---------------------------------------------------------------- mathematics


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        # an empty or placeholder box hides nothing
        (r"\boxed{42} (it goes into \boxed{})", "42"),
        (r"\boxed{3}, written as \boxed{...}", "3"),
        (r"Use \boxed{your answer}. \boxed{3}", "3"),
        (r"\boxed{8}, not \boxed{\phantom{0}}", "8"),
        (r"\boxed{\ldots} \boxed{?} \boxed{ }", None),
        # boxes of all forms
        (r"\boxed5", "5"), (r"\boxed -3", "-3"), (r"\boxed\frac12", r"\frac12"), (r"so \boxed 1,250.", "1,250"),
        (r"\fbox{12}", "12"), (r"\framebox{\(12\)}", "12"), (r"\boxed {7}", "7"), (r"\boxed{\boxed{5}}", "5"),
        ("\x08oxed{12}", "12"), ("$\x08oxed{\x0crac{3}{7}}$", r"\frac{3}{7}"),
        (r"\\boxed{\\frac{1}{3}}", r"\frac{1}{3}"),
        (r"\boxed{\begin{pmatrix}1\\{3}\end{pmatrix}}", r"\begin{pmatrix}1\\{3}\end{pmatrix}"),
        (r"\boxed{\left\{1\right\}}", r"\left\{1\right\}"),
        (r"\boxed{4} and then \boxed{1", "4"), (r"so \boxed{1", None), (r"\boxed{" + "x" * 900 + "}", None),
        # several boxes
        (r"$\boxed{2}$, $\boxed{3}$, and $\boxed{5}$", "2, 3, 5"), (r"m = \boxed{2} and n = \boxed{5}", "2, 5"),
        (r"First \boxed{3}. Then, mended, \boxed{4}", "4"), (r"\boxed{4}, the result is \boxed{4}", "4"),
        # the word in the box
        (r"\boxed{\text{ANSWER: }12}", "12"), (r"\boxed{\mathbf{ANSWER: 12}}", "12"), (r"\boxed{Answer = 12}", "12"),
        (r"\boxed{\text{ANSWER:}\ 12}", "12"), (r"\boxed{\text{The answer is } 12}", "12"),
        # the last explicit statement counts, a remark does not
        ("\\boxed{x+1} is no number.\n\n**ANSWER: 12**", "12"), ("ANSWER: 5\n\n\\boxed{6}", "6"),
        ("The answer is 8. Squared, the result is 64.", "8"), ("#### 10\nIf doubled, the answer = 20.", "10"),
        (r"\boxed{10}. For x = 2, if asked, the answer is 4.", "10"),
        # headings, fonts, LaTeX around the value
        ("**Final Answer:** 7", "7"), ("## Final Answer\n\n**7**", "7"), ("**Final Answer**\n\n\\[ 7 \\]", "7"),
        ("Final answer - 7", "7"), (r"\[\textbf{ANSWER: }7\]", "7"), (r"\(\text{Answer} = 7\)", "7"),
        (r"The answer is \(2\sqrt{3}\), as shown.", r"2\sqrt{3}"), ("The answer is `42`.", "42"),
        # read whole
        ("The answer is 42, because", "42"), ("The answer is 42!", "42"), ("The answer is 10!.", "10!"),
        ("The answer is 1,234,567.", "1,234,567"), ("The answer is 12 345.", "12345"),
        ("The answer is 5 3/4.", r"5\frac{3}{4}"), ("The answer is 9:45.", "9:45"), ("The answer is 3x - 1.", "3x - 1"),
        ("The answer is [0, 1).", "[0, 1)"), ("The answer is (3, 4).", "(3, 4)"), ("The answer is 25%.", "25%"),
        ("The answer is 50 percent", "50%"), ("The answer is 7 cm, since", "7"), ("The answer is $18 a week.", "$18"),
        ("The answer is 5, 10 and 15.", "5, 10, 15"), ("The answer is seven.", "7"), ("The answer is −12.", "-12"),
        ("The answer is 3 + 5, which is 8.", "8"), ("The answer is $m+n = 3+4 = 7$.", "7"), ("The answer is .5", ".5"),
        ("The answer is as follows:\n1. Start with x", None), ("#### 1. Start with x\nThen stop.", None),
        ("#### n = 63, k = 19\n\nNo.", None),
        ("**Final Answer:** The value of x is 5.", "5"), ("Answer: The remainder of $2^{10}$ by 7 is 2.", "2"),
        ("Answer: Let me compute 5 + 7 first.", None), ("The answer is 3 x 10^8 m/s.", r"3 \times 10^8"),
        ("The answer is $4 \\times 1 = 4$.", "4"), ("The answer is 5 out of 12.", None),
        # numbers in words, signs, quantities in several units
        ("The answer is twenty-one.", "21"), ("The answer is one hundred and seven.", "107"),
        ("Answer: two thousand, three hundred and five", "2305"), ("The answer is 3 and a half.", r"3\frac{1}{2}"),
        ("The answer is negative 5.", "-5"), (r"The answer is minus $\frac12$.", r"-\frac12"),
        ("Answer: 3.5 × 10⁻⁴ m", "3.5 × 10⁻⁴"), ("Answer: 2 hours and 30 minutes", "2 h 30 min"),
        ("Answer: 5 ft 3 in", "5 ft 3 in"), ("Answer: 2 apples and 3 pears", "2"), ("Answer: 1 : 2", "1 : 2"),
        ("Answer: x = 3, y = 4", "x = 3, y = 4"), ('{"answer": -3.5e2}', "-3.5e2"),
        # short forms
        ("Answer 42", "42"), ("Ans. 5", "5"), ("Answer\n------\n\n42", "42"), ("The answer is, of course, 42.", "42"),
        ("The solution is x = 5.", "x = 5"), ("Solution: x = 5, so that y = 1", None), ("**5**", "5"),
        # doubted and cut off
        ("Okay. If the answer is 5 then we need", None), ("So the answer might be 5", "5"),
        # other languages
        ("Svaret är 42.", "42"), ("Відповідь: 42", "42"), ("Odpověď: 42", "42"), ("Απάντηση: 42", "42"),
        ("תשובה: 42", "42"), ("คำตอบ: 42", "42"), ("Jawaban: 42", "42"), ("Válasz: 42", "42"), ("Răspuns: 42", "42"),
        ("La réponse que nous cherchons est 42.", "42"), ("【答案】42", "42"), ("Sein Ansvar ist 5", None),
        ("Die Antwort ist 42.", "42"), ("Réponse : 42", "42"), ("La respuesta es 42.", "42"), ("答案：42", "42"),
        ("Ответ: 42", "42"), ("答えは42です", "42"), ("Answer：42", "42"),
        # fields, tags, arrows
        ('{"answer": 42}', "42"), ("<answer>$5$</answer> Good luck", "5"), ("<answer>12", "12"), ("QED ==> 5", "5"),
        ("</answer>5</answer>", "5"),
        # nothing stated
        ("The answer is not 5.", None), ("Is the answer 5? No.", None), ("Answer: I don't know", None),
        ("The answer is in the table.", None), ("Final answer:\n\n", None), ("There are 3 cases.", None), ("", None),
    ],
)  # fmt: skip
def test_mathematics(text, stated):
    assert extract(text) == stated


# ---------------------------------------------------------------- letters


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        # the last line
        ("Thus.\n\nC", "C"), ("Thus.\r\n\r\nC\r\n", "C"), ("c", "C"), ("Thus.\n\n**(C)**", "C"), (r"\(C\)", "C"),
        ("Thus.\n\nC. Water", "C"),
        ("Is it D?\n\nOption D fails.\n\nC.", "C"), ("A\nB\nC\nD\n\nThe answer is B.", "B"),
        # the statement, then the reasons
        ("C\n\nOption D is tempting, but choice D ignores friction.", "C"),
        ("The correct answer is B.\n\nA is wrong.\n\nOption C is the best of the others.", "B"),
        ("The answer is D, not A.", "D"), ("Answer: D (not B)", "D"), ("The answer is D; A and B fail.", "D"),
        # articles and pronouns
        ("To answer a question well, think.", None), ("The answer is a mystery.", None), ("The answer is A", "A"),
        ("Answer: I am unsure", None), ("The answer is I.", "I"), ("The answer is I think B", "B"), ("Answer: a", "A"),
        ("Answer: A cat sat. The correct option is B.", "B"), ("The answer is a", None), ("the answer is (a)", "A"),
        # formulas
        (r"\boxed{F = ma}. Answer: B", "B"), (r"\boxed{C_2}", None), (r"\boxed{D2h}", None),
        ("The answer is E = 5.", None),
        # marks, fonts, words
        ("Answer: <D>", "D"), ("Answer: 'D'", "D"), (r"$\textbf{Answer: } D$", "D"), (r"\boxed{\textbf{(B)}}", "B"),
        (r"\boxed{{\bf B}}", "B"), (r"\boxed{\text{Option B}}", "B"), (r"\boxed{\text{B. water}}", "B"),
        ("### Answer\n\nD", "D"),
        (r"\boxed{b}", "B"), (r"\boxed{about}", None), ("正解：C", "C"), ("La bonne réponse est C.", "C"),
        # verbs, elimination
        ("The answer has to be D", "D"), ("The only correct option is D.", "D"), ("I'll go with D.", "D"),
        ("A is wrong, B is wrong. That leaves D.", "D"), ("Only D remains.", "D"),
        ("Option A is not correct. Option D is correct.", "D"),
        ("Conclusion: Option C", "C"), ("So.\n\n=> C", "C"), ("Hence, C.", "C"),
        ("5, which is option C.", "C"), ("Hence option (C).", "C"), ("I think it's C.", "C"), ("It is a liquid.", None),
        ("The correct answer is **C. Ice**.\n\n- **A**: wrong\n- **C**: right\n- **D**: wrong", "C"),
        ("A. True\nB. False", None),
        ("ANSWER (C)", "C"), ("x\n\nA\nB", None), ("A. B. C. D.", None), ("A) 3\nB) 4\n\nIt is 4, so B.", "B"),
        # two letters or none
        (r"\boxed{A \text{ and } C}", None), (r"\boxed{A} and \boxed{C}", None), ("Answer: A, C", None),
        ("Answer: B/C", None),
        ("The answer is either A or B.", None), (r"\boxed{AC}", None), ("Answer: None of the above", None),
        # one item of a list, another of several
        ("- C", "C"), ("So.\n\n* **C**", "C"), ("1. C", "C"), ("> C", "C"), ("- A\n- B", None),
        ("1. A\n2. B\n3. C", None),
        # the option named beside its value, and other words for choosing
        (r"\boxed{12} (option C)", "C"), ("The answer is option c.", "C"), ("My choice is E.", "E"), ("Letter: B", "B"),
        ("We eliminate A, C, and D, leaving B.", "B"), ("I'm not sure, but I'd say D.", "D"), ("Clearly B.", "B"),
        # other languages
        ("A resposta correta é a letra B.", "B"), ("A alternativa correta é B.", "B"), ("Richtig ist B.", "B"),
        ("الإجابة الصحيحة هي B", "B"), ("Đáp án đúng là B.", "B"), ("Správná odpověď je B", "B"), ("Jawaban: B", "B"),
        ("Ｂ", "B"), ("（Ｂ）", "B"), ("【答案】B", "B"), ("选项B是正确的。", "B"), ("La réponse est donc B.", "B"),
        ("Правильный вариант: B", "B"), ("La respuesta correcta es la (b).", "B"),
        # doubted and cut off
        ("So the answer might be B, but let me check whether", None), ("So the answer might be B", "B"),
        # fields
        ('{"choice": "c"}', "C"), ('```json\n{"why": "A is out", "answer": "C. water"}\n```', "C"),
        ('{"answer": null}', None),
    ],
)  # fmt: skip
def test_letters(text, letter):
    assert extract(text, "choice") == letter


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"decision": false}', "false"), ("{'answer': 'yes'}", "yes"),
        ('<think>{"decision": true}</think>{"decision": false}', "false"),
        ("So the answer is **yes**.", "yes"), ("Answer: Yes, because it fits", "Yes"),
        ("**Final Answer:** Paris", "Paris"),
        ("Final answer:\nParis.", "Paris"), ("The answer is New York, because", "New York"),
        (r"\boxed{\text{Yes}}", "Yes"),
        ("<answer> no. </answer>", "no"), ("<think>hm</think>\n\nParis", "Paris"), ("No.", "No"),
        ("So the answer should be false.", "false"),
        ("It fits.\n\nNo.", "No"), ("One more line.\n**true**\n", "true"), ("no\nis what I thought first", None),
        ("The final answer is: the Nile.", "the Nile"), ("I don't know", None), ("The answer is in the text.", None),
        ("The answer is Marie Curie, who won twice.", "Marie Curie"), ("In conclusion, yes.", "yes"),
        ("Thus: False", "False"),
        ("Answer: Dr. Smith", "Dr. Smith"), ("Answer: F. Scott Fitzgerald. It is", "F. Scott Fitzgerald"),
        ("Answer: George W. Bush", "George W. Bush"), ("Answer: vitamin C. It is in fruit.", "vitamin C"),
        ('Answer: "To be, or not to be"', "To be, or not to be"), ("Answer: True/False", None),
        ("The answer is no one.", None), ("Answer: unknown", None),
    ],
)  # fmt: skip
def test_words(text, words):
    assert extract(text, "text") == words


# ---------------------------------------------------------------- thinking


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (r"<think>\boxed{5}</think> The answer is 6.", "6"),
        (r"maybe \boxed{5}</think> #### 6", "6"),
        ("<think>Final answer: 5</think>\n\n**6**", "6"),
        (
            r"<|channel|>analysis<|message|>\boxed{3}<|end|><|start|>assistant<|channel|>final<|message|>"
            r"It is \boxed{4}.<|return|>",
            "4",
        ),
        ("<|channel>thought\n\\boxed{3}<channel|>Answer: 4<turn|>", "4"),
        (r"[THINK]\boxed{1}[/THINK] Answer: 2", "2"),
        ("<think>So 5.</think>\n\nThe value of $x$ is **5**.", "5"),
        ("<think>12</think>\n\nTherefore, there are 12 ways.", "12"),
        ("<think>12</think>\n\nTherefore, there are 12 ways for the first and", None),
        ("<think>The answer is 5.</think>", "5"),
        (r"<think>so \boxed{5}", "5"),
        (r"<think>so \boxed{5}? Hmm, let me", None),
        ("<think>the answer is 5. Let me check the", None),
        (
            "So the answer is 5. But wait, I have not looked at the case of even numbers, where the sum is different, "
            "so that",
            None,
        ),
    ],
)
def test_thinking(text, stated):
    assert extract(text) == stated


@pytest.mark.parametrize(("pattern", "answer"), [(r"=> (\w+)", "7"), (r"=> \w+", "=> 7"), (r"x(\d)", None)])
def test_a_pattern_of_the_user(pattern, answer):
    assert extract(r"=> 5 \boxed{6} => 7", pattern=pattern) == answer


def test_a_pattern_that_finds_a_letter():
    assert extract("I pick (b) water!", "choice", pattern=r"pick (.*)!") == "B"
    with pytest.raises(re.error):
        extract("x", pattern="(")


# ---------------------------------------------------------------- any answer in any form

VALUES = st.one_of(
    st.integers(-10_000, 10_000).map(str),
    st.tuples(st.integers(1, 99), st.integers(2, 99)).map(lambda f: rf"\frac{{{f[0]}}}{{{f[1]}}}"),
    st.sampled_from([r"2\sqrt{3}", r"\pi", "(1, 2)", "[0, 1)", "x^2 + 1", "0.25", r"\left\{1, 2\right\}"]),
)
MATH_FORMS = [
    r"So \boxed{%s}.", r"$$\boxed{%s}$$", r"\fbox{%s}", "<answer>%s</answer>", r"The answer is $%s$.",
    r"The final answer is \(%s\).",
    "**Final Answer**\n\n\\[\n%s\n\\]", "ANSWER: $%s$", r"Answer：$%s$", r"\[\text{ANSWER: } %s\]",
    r"\boxed{\text{Answer: } %s}", "Therefore, the answer must be $%s$",
    r"#### $%s$", r"Die Antwort ist $%s$.", r"答案是 $%s$。", r"\boxed{%s} I hope that \boxed{} is right.",
]  # fmt: skip
LETTER_FORMS = [
    "%s", "%s.", "(%s)", "**%s**", r"\boxed{%s}", r"\boxed{\text{%s}}", r"$\boxed{\mathbf{(%s)}}$",
    "<answer>%s</answer>", "The answer is %s.",
    "The correct option is (%s), because it fits.", "Answer: %s", "Answer：%s", "**Answer:** (%s)",
    "Final answer: $%s$", "QED ==> %s", "Conclusion: %s",
    '{"answer": "%s"}', "%s. Water", "The answer should be %s.", "Antwort: %s", r"\boxed{\rm %s}", "So we choose %s.",
    "#### %s",
]  # fmt: skip
THOUGHTS = [
    "Option D refers to water. Choice A is a gas. I think so.", r"Perhaps \boxed{99}? No.", "The answer is 98? No.",
    "If so, the answer would be B.",
    "A\n", "Let me see: {", "<answer>", "#### Step 2", "The result is 97.", "x = 3, so y = $4$", "I am not sure",
    "\\boxed{", '{"answer": "E"}',
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(VALUES, st.sampled_from(MATH_FORMS), st.lists(st.sampled_from(THOUGHTS), max_size=4))
def test_a_stated_value_is_found_whatever_was_thought_before(value, form, thoughts):
    assert extract(f"<think>{' '.join(thoughts)}</think>\n\n" + form % value) == value
    assert extract(form % value) == value


@settings(max_examples=150, deadline=None)
@given(st.sampled_from("ABCDEFGHIJ"), st.sampled_from(LETTER_FORMS), st.lists(st.sampled_from(THOUGHTS), max_size=4))
def test_a_stated_letter_is_found_whatever_was_thought_before(letter, form, thoughts):
    assert extract(f"<think>{' '.join(thoughts)}</think>\n\n" + form % letter, "choice") == letter
    assert extract(form % letter, "choice") == letter


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=string.printable + "\\{}$→答案：", max_size=300), st.sampled_from(["math", "choice", "text"]))
def test_any_text_is_read_without_an_error(text, answer_type):
    stated = extract(text, answer_type)
    assert stated is None or 0 < len(stated) <= latex.MAX_ANSWER_CHARS
    if answer_type == "choice":
        assert stated is None or stated in tuple("ABCDEFGHIJ")


# ---------------------------------------------------------------- time

LOOPS = [
    "\\boxed{", "\\boxed{1}, ", "<answer>", "<answer></answer>", "<think>", "</think>", "{", "}", '{"answer": ',
    '{"answer": "', "answer ",
    "the answer is ", "The answer is $x$ and ", "\n", " ", "#### ", "=> ", "A\n", "choose ", "A is correct ", "$", "*",
    "1,", "1+", "答案是", "\\text{",
]  # fmt: skip


class Counting:
    """Counts the places that are read in full."""

    def __init__(self, monkeypatch):
        self.calls = 0
        for module, names in (
            (extraction, ("cue_value", "whole")),
            (cues, ("heading", "sentence_before")),
            (letters, ("_letter_after", "sentence_before")),
            (readers, ("value_start",)),
            (latex, ("_box_at", "closing", "unwrap_box")),
        ):
            for name in names:
                monkeypatch.setattr(module, name, self.counted(getattr(module, name)))

    def counted(self, function):
        def call(*args, **kwargs):
            self.calls += 1
            return function(*args, **kwargs)

        return call


@pytest.mark.parametrize("loop", LOOPS)
def test_places_read_do_not_grow_with_the_trace(loop, monkeypatch):
    counting = Counting(monkeypatch)
    for answer_type in ("math", "choice", "text"):
        counting.calls = 0
        extract("The answer is" + loop * (200_000 // len(loop)), answer_type)
        assert counting.calls <= 20 * latex.CANDIDATES


def test_what_is_read_of_one_place_is_bounded():
    for filler in (" ", "\n", "1 ", "1+", "{", "(", "therefore ", "A ", "\\,", "*"):
        for cue in ("The answer is", "Answer:", "#### ", "\\boxed{", "\\boxed"):
            for answer_type in ("math", "choice", "text"):
                near = extract(cue + filler * 2_000, answer_type)
                assert near == extract(cue + filler * 20_000, answer_type)


def test_answers_offers_extraction_too():
    assert answers.extract is extract and answers.last_boxed(r"\boxed{1} \boxed{2}") == "2"


def test_an_arrow_that_begins_a_line_of_a_derivation_states_no_answer():
    """Thousands of characters of "=> x = ...": only the last line of a text may be the answer."""
    steps = "3x = 6\n\n=> x = 2\n\nSo the point is (2, 1).\n\n"
    assert extract(steps + "Now let me look at the other side, where we") is None
    assert extract(steps + "So the answer is 7.") == "7" and extract("3x = 6\n=> 2") == "2"
    assert extract("It fits.\n==> C\nWell, then.", "choice") == "C"
