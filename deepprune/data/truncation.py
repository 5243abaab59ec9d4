"""The paper's two ways to cut a trace short: the first k tokens, or up to the k-th reasoning word.

Both return a prefix of the trace, and the whole trace when it is shorter; with a larger k the prefix never
gets shorter.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections import deque
from typing import Any

from deepprune.base.errors import UserError
from deepprune.base.records import content_hash
from deepprune.data.reasoning_words import RUN, lexicon

_BREAK = re.compile(r"[^\w\u0900-\u0e7f]")

# A code block begins with a line of ``` and at most a short note, and ends with a line of ```. One that nobody ends
# within LONGEST_FENCE characters, or before the trace ends, is no code block: its words count.
LONGEST_FENCE = 12_000
_OPENS = re.compile(r"[ \t]{0,99}`{3,99}[^`\n]{0,99}\n?")
_MAY_OPEN = re.compile(r"[ \t]{0,99}(?:`{0,2}|`{3,99}[^`\n]{0,99})")
_CLOSES = re.compile(r"[ \t]{0,99}`{3,99}[ \t\r]{0,99}\n?")
_MAY_CLOSE = re.compile(r"[ \t]{0,99}`{0,99}[ \t\r]{0,99}")

STRATEGIES = ("tokens", "words")


@dataclasses.dataclass(frozen=True)
class Truncation:
    """strategy 'tokens': the first k tokens; 'words': up to and including the k-th reasoning word.

    words: another list than ours, as `read_words` gives it.
    """

    strategy: str = "words"
    k: int = 25
    words: tuple[str, ...] | None = None

    @property
    def words_version(self) -> str | None:
        """Hash of another list of words; None for ours."""
        return None if self.words is None else content_hash("reasoning words", self.words)

    def as_dict(self) -> dict[str, Any]:
        """As pairs hold it: strategy, k, and the hash of another list of words."""
        return {"strategy": self.strategy, "k": self.k} | ({"words": self.words_version} if self.words else {})

    def __post_init__(self) -> None:
        if self.words is not None and self.strategy != "words":
            raise UserError("a list of reasoning words goes with truncation by words")
        if self.strategy not in STRATEGIES:
            raise UserError(f"truncation should be one of {', '.join(STRATEGIES)}, found {self.strategy!r}")
        if type(self.k) is not int or self.k < 1:
            raise UserError(f"the truncation's k should be a whole number of at least 1, found {self.k!r}")

    @classmethod
    def read(cls, text: str, words: tuple[str, ...] | None = None) -> Truncation:
        """Of 'words:25' or 'tokens:500'. words: the list where it goes by words. Raises UserError."""
        strategy, _, k = text.partition(":")
        if strategy not in STRATEGIES or not k.isdecimal():
            raise UserError(f"a cut is written words:25 or tokens:500, found {text!r}")
        return cls(strategy, int(k), words if strategy == "words" else None)

    def cut(self, text: str, tokenizer: Any = None) -> str:
        """The prefix of `text`. Strategy 'tokens' needs a fast Hugging Face tokenizer (for its offsets)."""
        if self.strategy == "tokens":
            return first_tokens(text, self.k, tokenizer)
        return first_reasoning_words(text, self.k, self.words)

    def watch(self, tokenizer: Any = None) -> WordWatch | TokenWatch:
        """For a trace that is being generated: its `add` says when `cut` would cut it."""
        return TokenWatch(self.k, tokenizer) if self.strategy == "tokens" else WordWatch(self.k, self.words)


def first_tokens(text: str, k: int, tokenizer: Any) -> str:
    """The characters that the first k tokens cover (a character that tokens share, whole).

    Raises UserError for a tokenizer that does not tell where its tokens stand.
    """
    if not getattr(tokenizer, "is_fast", True):
        name = getattr(tokenizer, "name_or_path", "this tokenizer")
        raise UserError(
            f"{name}: does not tell where its tokens stand: to cut by tokens give a model with a fast tokenizer"
        )
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text if len(offsets) <= k else text[: max(end for _, end in offsets[:k])]


def first_reasoning_words(text: str, k: int, words: tuple[str, ...] | None = None) -> str:
    """Up to the end of the k-th reasoning word; the whole text if it has fewer. words: another list than ours."""
    watch = WordWatch(k, words)
    if not watch.add(text):
        watch.finish()
    return text if watch.end is None else text[: watch.end]


class WordWatch:
    """Counts reasoning words in a text that arrives in pieces; each piece is looked at once.

    end: where the k-th word ends, in characters; None until it is known.
    """

    def __init__(self, k: int, words: tuple[str, ...] | None = None):
        self.k, self.count, self.lexicon = k, 0, lexicon(words)
        self.end: int | None = None
        self.at = 0  # where the pieces begin
        self.pieces: list[str] = []  # the line that has not ended, or what of it is not counted yet
        self.prose = False  # that line is known to begin or end no code block
        self.fenced: deque[str] = deque()  # lines of a code block that nobody has ended yet, its beginning first
        self.fenced_at = self.fenced_size = 0

    def add(self, piece: str) -> bool:
        """Whether the text so far holds k whole words: the next character would not change the k-th."""
        if self.end is not None:
            return True
        self.pieces.append(piece)
        if "\n" not in piece and self.prose and not _BREAK.search(piece):
            return False  # a word goes on
        text = piece if len(self.pieces) == 1 else "".join(self.pieces)
        start = 0
        while self.end is None and (newline := text.find("\n", start)) >= 0:
            if not self.fenced:  # all lines before the next that may begin a code block, at once
                tick = text.find("```", start)
                newline = max(newline, text.rfind("\n", start, tick if tick >= 0 else len(text)))
            self._line(text[start : newline + 1])
            start = newline + 1
        self.pieces = [text[start:]]
        self._unfinished(text[start:])
        return self.end is not None

    def finish(self) -> None:
        """The text is over: a code block that was not ended is none."""
        last = "".join(self.pieces)
        if self.fenced and _CLOSES.fullmatch(last):
            return
        self._release(0)
        self._count(last, self.at)

    def _line(self, line: str) -> None:
        """A whole line, or the rest of one; or lines without any ```."""
        if self.fenced and _CLOSES.fullmatch(line):
            self.fenced.clear()
            self.fenced_size = 0
        elif self.fenced:
            self.fenced.append(line)
            self.fenced_size += len(line)
            self._release(LONGEST_FENCE)
        elif not self.prose and _OPENS.fullmatch(line):
            self.fenced.append(line)
            self.fenced_at, self.fenced_size = self.at, len(line)
        else:
            self._count(line, self.at)
        self.at, self.prose = self.at + len(line), False

    def _release(self, most: int) -> None:
        """Count the lines of code blocks that are longer than `most` characters: they are none."""
        while self.fenced and (self.fenced_size > most or not _OPENS.fullmatch(self.fenced[0])):
            line = self.fenced.popleft()
            self._count(line, self.fenced_at)
            self.fenced_at, self.fenced_size = self.fenced_at + len(line), self.fenced_size - len(line)

    def _unfinished(self, text: str) -> None:
        """What there is of the last line."""
        if self.fenced and not _MAY_CLOSE.fullmatch(text):
            self._release(LONGEST_FENCE - len(text))
        if self.fenced or self.end is not None or (not self.prose and _MAY_OPEN.fullmatch(text)):
            return
        self.prose = True
        counted = self._count(text, self.at, goes_on=True)
        self.pieces, self.at = [text[counted:]], self.at + counted

    def _count(self, text: str, at: int, goes_on: bool = False) -> int:
        """Count the words of `text`, which begins at character `at`; goes_on: its last word may.

        Returns the characters read.
        """
        if self.end is not None:
            return len(text)
        for run in RUN.finditer(text):
            if goes_on and run.end() == len(text):
                return run.start()
            for end in self.lexicon.ends(run):
                self.count += 1
                if self.count == self.k:
                    self.end = at + end
                    return len(text)
        return len(text)


class TokenWatch:
    """Says when a text that arrives in pieces has more than k tokens.

    The tokens of new text are counted, those of the whole only to be sure.
    """

    EVERY = 64, 16  # characters, or pieces, between two looks near the end

    def __init__(self, k: int, tokenizer: Any):
        self.k, self.tokenizer = k, tokenizer
        self.pieces: list[str] = []
        self.length = self.counted = 0  # characters, tokens
        self.look_at, self.most_pieces = self.EVERY
        self.fresh: list[str] = []

    def add(self, piece: str) -> bool:
        """Whether the text so far has more than k tokens."""
        self.fresh.append(piece)
        self.length += len(piece)
        return (self.length >= self.look_at or len(self.fresh) >= self.most_pieces) and self._look()

    def _look(self) -> bool:
        new = "".join(self.fresh)
        self.pieces.append(new)
        self.fresh = []
        self.counted += len(self.tokenizer.encode(new, add_special_tokens=False))
        if self.counted > self.k and self._whole_is_longer():
            return True
        # Most of the way to the k-th token is gone without looking: a text's tokens are about equally long.
        left = max(self.k - self.counted, 0) * self.length / max(self.counted, 1)
        skipped = int(0.9 * left)
        characters, pieces = self.EVERY
        self.look_at = self.length + max(characters, skipped)
        self.most_pieces = sys.maxsize if skipped > characters else pieces
        return False

    def _whole_is_longer(self) -> bool:
        text = "".join(self.pieces)
        self.pieces = [text]
        return len(first_tokens(text, self.k, self.tokenizer)) < len(text)
