import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from deepprune.base.errors import UserError
from deepprune.data import truncation
from deepprune.data.reasoning_words import OTHER_WORDS, REASONING_WORDS, UNSPACED_WORDS
from deepprune.data.truncation import (
    Truncation,
    first_reasoning_words,
    first_tokens,
)

pieces = st.lists(
    st.sampled_from(
        [*REASONING_WORDS[:6], "SO", "solve", "é", "x", "\n", "\n```py\nif so\n```\n", "```", "所以", "\n```"]
    ),
    max_size=40,
)


def words_of(text):
    """Ends of the reasoning words, found otherwise: strike out the code blocks that end, then look for each word."""
    block = re.compile(
        r"^[ \t]*`{3,}[^`\n]{0,100}\n(?:(?![ \t]*`{3,}[ \t\r]*$).*\n)*?[ \t]*`{3,}[ \t\r]*$", re.MULTILINE
    )
    text = block.sub(lambda found: "#" * len(found[0]), text)
    words = r"(?<!\w)(?:" + "|".join(REASONING_WORDS) + r")(?!\w)|所以"
    return [match.end() for match in re.finditer(words, text, re.IGNORECASE)]


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
def test_the_prefix_ends_at_the_kth_word_counted_another_way(text, k):
    ends = words_of(text)
    assert first_reasoning_words(text, k) == (text if len(ends) < k else text[: ends[k - 1]])


@given(pieces.map(" ".join), st.integers(1, 6), st.lists(st.integers(1, 9), max_size=60), st.integers(5, 40))
def test_a_text_that_arrives_in_pieces_is_cut_where_the_whole_text_is(text, k, sizes, longest):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truncation, "LONGEST_FENCE", longest)
        watch, at, held = Truncation("words", k).watch(), 0, False
        for size in [*sizes, len(text)]:
            held = watch.add(text[at : at + size])
            at += size
            if held:
                break
        cut = first_reasoning_words(text, k)
        if held:  # with what came so far, the same prefix is known, and nothing that follows changes it
            assert cut == first_reasoning_words(text[:at], k) == text[: watch.end] and len(cut) < len(text[:at])
        else:  # the last word may go on, or an unended code block may end
            assert len(cut) == len(text) or cut[-1].isalnum()
            watch.finish()
            assert cut == (text if watch.end is None else text[: watch.end])


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


@pytest.mark.parametrize(
    "text",
    [
        "Plan\n```python\nx = 1\nWait, so then but since thus. \\boxed{5}",
        "The mark ``` opens code. Wait, so then but since thus. \\boxed{5}",
        "Run ```x``` and ```y. Wait, so then but since thus.``` \\boxed{5}",
        "```\n" * 3 + "Wait, so then but since thus. \\boxed{5}",
        "Plan:\n```python\nx = 1``` Wait, so then but since thus. \\boxed{5}",
        "```python\n" + "x = 1\n" * 3000 + "```\nWait, so. \\boxed{5}",
    ],
)
def test_a_code_block_that_nobody_ends_and_inline_code_do_not_switch_cutting_off(text):
    assert "boxed" not in first_reasoning_words(text, 2)


@pytest.mark.parametrize(
    "text",
    [
        "等等，因此答案是 5。但是再检查。所以 \\boxed{5}",
        "首先计算，然后相加。所以答案是 \\boxed{5}",
        "まず計算する。しかし、もう一度確認。したがって答えは \\boxed{5}",
        "먼저 계산하면 5이다. 하지만 다시 확인하자. 따라서 답은 \\boxed{5}",
        "Zuerst rechnen wir. Dann prüfen wir, also ist die Antwort \\boxed{5}",
        "Warte, das ist falsch. Deshalb \\boxed{5}",
        "Donc on calcule. Mais vérifions, alors la réponse est \\boxed{5}",
        "Primero sumamos. Pero comprobemos, entonces la respuesta es \\boxed{5}",
        "Сначала сложим. Но проверим, значит ответ \\boxed{5}",
        "Prima sommiamo. Quindi controlliamo, però la risposta è \\boxed{5}",
        "पहले जोड़ते हैं। लेकिन जाँच करें, इसलिए उत्तर \\boxed{5}",
        "ก่อนอื่นเราบวก จากนั้นตรวจสอบ ดังนั้นคำตอบคือ \\boxed{5}",
        "Najpierw dodajmy. Potem sprawdźmy, więc odpowiedź to \\boxed{5}",
        "Primeiro somamos. Então verificamos, portanto a resposta é \\boxed{5}",
    ],
)
def test_traces_in_other_languages_are_cut(text):
    assert "5" not in first_reasoning_words(text, 1) and "boxed" not in first_reasoning_words(text, 2)


def test_other_languages_words_are_no_english_ones():
    """English traces are cut as the English list alone cuts them."""
    english = set((files("reasoning_gym.data") / "words3to10.txt").read_text().split())
    assert {"wait", "moment", "embargo", "attend"} <= english
    listed = {w.lower() for words in [*OTHER_WORDS.values(), *UNSPACED_WORDS.values()] for w in words.split()}
    listed |= {word.removesuffix("s") for word in listed}
    assert not listed & (english | set(REASONING_WORDS) | {"or", "la", "con", "ora", "poi", "el"})


def test_time_is_linear_in_the_trace():
    """A megabyte of what looks like the start of something: no result matters but that there is one at once."""
    for piece in ("```\n", "```a\n", " ```", "`", "``` ", "aaaa", "所", "\n", " \t", "so_"):
        text = piece * (1_000_000 // len(piece))
        assert first_reasoning_words(text, 5) == text
        watch = Truncation("words", 5).watch()
        assert not any(watch.add(text[i : i + 4096]) for i in range(0, len(text), 4096))


def test_tokens_that_arrive_in_pieces(smol):
    tokenizer = AutoTokenizer.from_pretrained(smol)
    cut = Truncation("tokens", 50)
    text = "The naïve sum of 12 and 30 is 42 — really 所以. " * 40
    watch = cut.watch(tokenizer)
    for end in range(3, len(text), 3):
        if watch.add(text[end - 3 : end]):
            break
    whole = cut.cut(text, tokenizer)
    assert cut.cut(text[:end], tokenizer) == whole and len(whole) < end <= len(whole) + 2 * watch.EVERY[0]
    short = cut.watch(tokenizer)
    assert not any(short.add(c) for c in whole)  # as many tokens as are wanted: not cut


def test_a_tokenizer_without_offsets_is_one_clear_line():
    class Slow:
        is_fast, name_or_path = False, "some/model"

    with pytest.raises(UserError, match="some/model.*fast tokenizer"):
        Truncation("tokens", 3).cut("text", Slow())


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


def test_a_cut_is_read_as_it_is_written():
    assert Truncation.read("words:25") == Truncation("words", 25)
    assert Truncation.read("tokens:500", ("so",)) == Truncation("tokens", 500)
    assert Truncation.read("words:3", ("so",)) == Truncation("words", 3, ("so",))
    for wrong in ("25", "words", "words:", "words:-1", "lines:3", "tokens:1.5"):
        with pytest.raises(UserError, match="words:25 or tokens:500"):
            Truncation.read(wrong)
