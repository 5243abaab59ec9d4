import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from deepprune.errors import UserError
from deepprune.truncation import REASONING_WORDS, Truncation, first_reasoning_words, first_tokens

pieces = st.lists(
    st.sampled_from([*REASONING_WORDS[:6], "SO", "solve", "é", "x", "\n", "```py\nif so\n```"]), max_size=40
)


@given(pieces.map(" ".join), st.integers(1, 12))
def test_words_give_a_prefix_that_grows_with_k(text, k):
    short, long = first_reasoning_words(text, k), first_reasoning_words(text, k + 1)
    assert text.startswith(long) and long.startswith(short)


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("sowaitthus `\n")), max_size=80), st.integers(1, 4))
def test_any_text_gives_a_prefix_never_longer_than_itself(text, k):
    cut = first_reasoning_words(text, k)
    assert text.startswith(cut) and len(cut) <= len(text)
    assert first_reasoning_words(cut, k) == cut  # cutting again changes nothing


@given(pieces.map(" ".join), st.integers(1, 12))
def test_the_prefix_holds_k_reasoning_words_counted_another_way(text, k):
    """Split at what is no letter, skip fenced code, count: k words if the text was cut, and the last one ends it."""
    cut = first_reasoning_words(text, k)
    count, fenced = 0, False
    for line in cut.split("\n"):
        for word in line.split(" "):
            if "```" in word:
                fenced = not fenced
            elif not fenced and word.lower() in REASONING_WORDS:
                count += 1
    assert count <= k
    if cut != text:
        assert count == k and cut.rsplit(maxsplit=1)[-1].lower() in REASONING_WORDS


@pytest.mark.parametrize("word", REASONING_WORDS)
def test_every_word_of_the_list_counts_whole_and_in_any_case_only(word):
    for form in (word, word.upper(), word.capitalize()):
        for text in (form, f"({form})", f"x, {form}: y", f"é {form}.", f"\u2014{form}\u2014"):
            assert first_reasoning_words(text + " tail", 1) == text[: text.index(form) + len(form)]
    for longer in (word + "x", "x" + word, word + "_", "é" + word, word + "ß", word + "1"):
        assert first_reasoning_words(longer + " tail", 1) == longer + " tail"


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
