"""Reasoning and answer of a trace are told apart, whatever wrote them."""

import pytest
from conftest import make_problem

from deepprune.data import reasoning, traces

# As gpt-oss's chat template writes an assistant's turn with its thinking, and what the model generates after
# `<|start|>assistant`.
HARMONY = (
    "<|channel|>analysis<|message|>12 + 30 is 42. So <b>42</b>.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>The answer is \\boxed{42}.<|return|>"
)
TOOL = (
    "<|channel|>analysis<|message|>Look it up.<|end|><|start|>assistant<|channel|>commentary to=functions.add "
    '<|constrain|>json<|message|>{"a": 12}<|call|><|start|>assistant<|channel|>final<|message|>42'
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (HARMONY, ("12 + 30 is 42. So <b>42</b>.", "The answer is \\boxed{42}.")),
        (TOOL, ('Look it up.\n\n{"a": 12}', "42")),
        ("<|channel|>analysis<|message|>12 + 30 is", ("12 + 30 is", "")),
        ("<think>\n12 + 30\n</think>\n\n42", ("12 + 30", "42")),
        ("12 + 30\n</think>\n\n42", ("12 + 30", "42")),  # the template opened the block
        ("<think>\n12 + 3", ("12 + 3", "")),
        ("<think>\n\n</think>\n\n42", ("", "42")),
        ("12 + 30 = 42", ("", "12 + 30 = 42")),
        ("It is 42 < 43, as <think> says", ("", "It is 42 < 43, as <think> says")),
        ("", ("", "")),
    ],
)
def test_reasoning_and_answer(text, parts):
    assert reasoning.split(text) == parts
    assert reasoning.split(reasoning.join(*parts)) == parts


def test_channels_become_a_think_block_and_other_text_stays():
    text = reasoning.plain(HARMONY)
    assert text == "<think>\n12 + 30 is 42. So <b>42</b>.\n</think>\n\nThe answer is \\boxed{42}."
    assert reasoning.plain(text) == text and reasoning.plain(" a\n</think> b") == " a\n</think> b"
    trace = traces.make(make_problem(21, "42"), "gpt-oss-20b", 0, text, 9, "stop", {})
    assert trace.answer == "42" and trace.correct
