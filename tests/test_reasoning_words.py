"""Reasoning words of one's own: read from a file, matched as the usual ones are, part of what a truncation is."""

import unicodedata

import pytest

from deepprune.base import config
from deepprune.base.errors import UserError
from deepprune.data.reasoning_words import read_words
from deepprune.data.truncation import Truncation
from deepprune.judges import score_store
from deepprune.prune.rules import CutSettings

TEXT = "So we wait. Then, WAIT: 因此 so be it. ``` wait"


def words_of(tmp_path, text):
    file = tmp_path / "words.txt"
    file.write_text(text, encoding="utf-8")
    return read_words(file)


def test_a_list_is_read_in_any_order_and_case(tmp_path):
    words = words_of(tmp_path, "# those that the paper names\nWait\n\nthus\n  wait \n")
    assert words == ("thus", "wait") == words_of(tmp_path, "thus\nwait") == words_of(tmp_path, "\ufeffTHUS\r\nwait\r\n")
    apart = words_of(tmp_path, unicodedata.normalize("NFD", "zunächst"))  # as macOS writes it
    assert (
        apart == ("zunächst",) and Truncation("words", 1, apart).cut("Wir lesen zunächst alles") == "Wir lesen zunächst"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wait\nlet us\n", "words.txt:2: expected one word"),
        ("wait,thus\n", ":1: expected one word"),
        ("# no\n", "no reasoning words"),
    ],
)
def test_a_list_that_is_none_is_named_with_its_line(tmp_path, text, says):
    with pytest.raises(UserError, match=says):
        words_of(tmp_path, text)
    with pytest.raises(UserError, match="no such file"):
        read_words(tmp_path / "none.txt")


def test_a_trace_is_cut_at_the_words_of_the_list():
    def cut(k, *words):
        return Truncation("words", k, words).cut(TEXT)

    assert cut(1, "wait") == "So we wait"
    assert cut(2, "wait") == "So we wait. Then, WAIT"
    assert cut(2, "wait", "因此") == "So we wait. Then, WAIT" and cut(3, "wait", "因此").endswith("因此")
    assert cut(1, "because") == TEXT
    assert Truncation("words", 3).cut(TEXT) == "So we wait. Then"  # ours: so, wait, then


@pytest.mark.parametrize("words", [None, ("so", "wait")])
def test_a_trace_that_is_generated_is_cut_at_the_same_place(words):
    truncation = Truncation("words", 2, words)
    watch = truncation.watch()
    at = next(i for i, piece in enumerate(TEXT) if watch.add(piece))
    assert TEXT[: watch.end] == truncation.cut(TEXT) and at >= watch.end


def test_the_list_is_part_of_the_truncation(tmp_path):
    usual, own = Truncation(), Truncation("words", 25, ("wait",))
    assert usual.as_dict() == {"strategy": "words", "k": 25}  # as stored pairs have it
    assert own.as_dict() == usual.as_dict() | {"words": own.words_version}
    assert own.words_version != Truncation("words", 25, ("thus",)).words_version
    judge = {"name": "j@1", "sha256": "0", "prompt_version": "p"}
    stores = [score_store.identity(judge, "vllm", "float32", cut, "t") for cut in (usual, own)]
    assert stores[1] == stores[0] | {"reasoning_words": own.words_version}
    with pytest.raises(UserError, match="goes with truncation by words"):
        Truncation("tokens", 25, ("wait",))


def test_a_manifest_holds_the_lists_hash_wherever_its_file_lies(tmp_path):
    (tmp_path / "a.txt").write_text("wait\nthus\n")
    (tmp_path / "b.txt").write_text("thus\nwait\n")
    settings = [CutSettings(reasoning_words=str(tmp_path / name)).made_from("p") for name in ("a.txt", "b.txt")]
    assert settings[0] == settings[1] and settings[0]["prompt_version"] == "p"
    assert CutSettings().made_from("p") == config.resolved(CutSettings()) | {"prompt_version": "p"}
