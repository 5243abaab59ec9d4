import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from deepprune.errors import UserError
from deepprune.truncation import REASONING_WORDS, Truncation, first_reasoning_words, first_tokens

pieces = st.lists(st.sampled_from([*REASONING_WORDS[:6], "SO", "solve", "é", "x", "\n", "```py\nif so\n```"]), max_size=40)


@given(pieces.map(" ".join), st.integers(1, 12))
def test_words_give_a_prefix_that_grows_with_k(text, k):
    short, long = first_reasoning_words(text, k), first_reasoning_words(text, k + 1)
    assert text.startswith(long) and long.startswith(short)


def test_words_are_whole_in_any_case_and_outside_code():
    text = "We solve it. Although fast, SO we wait; then done"
    assert first_reasoning_words(text, 1) == "We solve it. Although fast, SO"
    assert first_reasoning_words(text, 2) == "We solve it. Although fast, SO we wait"
    assert first_reasoning_words(text, 9) == text
    code = "Plan:\n```python\nif so: then()\n```\nthus 4"
    assert first_reasoning_words(code, 1) == code[: code.index("thus") + 4]
    assert first_reasoning_words("soße thus", 1) == "soße thus"


def test_tokens(smol):
    tokenizer = AutoTokenizer.from_pretrained(smol)
    text = "The naïve sum of 12 and 30 is 42 — really. " * 3
    for k in (1, 5, 17):
        cut = first_tokens(text, k, tokenizer)
        assert text.startswith(cut)
        assert len(tokenizer.encode(first_tokens(text, k, tokenizer), add_special_tokens=False)) <= k + 1
    assert first_tokens(text, 10_000, tokenizer) == text
    ids = tokenizer.encode("The sum of 12", add_special_tokens=False)
    assert first_tokens("The sum of 12", 2, tokenizer) == tokenizer.decode(ids[:2])


def test_settings_are_checked():
    with pytest.raises(UserError, match="truncation should be one of"):
        Truncation("lines", 3)
    with pytest.raises(UserError, match="at least 1"):
        Truncation("words", 0)
