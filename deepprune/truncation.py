"""The paper's two ways to cut a trace short: the first k tokens, or up to the k-th reasoning word.

Both return a prefix of the trace, and the whole trace when it is shorter; with a larger k the prefix never
gets shorter.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from deepprune.errors import UserError

# The paper names "wait", "thus" and "since" as examples and does not list the rest; this list is ours.
# Matched as whole words, in any case, outside fenced code blocks.
REASONING_WORDS = (
    "wait", "thus", "since", "so", "therefore", "hence", "because", "but", "however", "alternatively",
    "actually", "hmm", "now", "then", "next", "first", "second", "finally", "let", "if", "suppose", "assume",
    "maybe", "perhaps", "check", "verify", "recall", "note", "consider", "instead", "again", "also",
)  # fmt: skip

_WORD = re.compile(r"(?<!\w)(?:" + "|".join(REASONING_WORDS) + r")(?!\w)", re.IGNORECASE)
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)

STRATEGIES = ("tokens", "words")


@dataclasses.dataclass(frozen=True)
class Truncation:
    """strategy 'tokens': the first k tokens; 'words': up to and including the k-th reasoning word."""

    strategy: str = "words"
    k: int = 25

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise UserError(f"truncation should be one of {', '.join(STRATEGIES)}, found {self.strategy!r}")
        if self.k < 1:
            raise UserError(f"the truncation's k should be at least 1, found {self.k}")

    def cut(self, text: str, tokenizer: Any = None) -> str:
        """The prefix of `text`. Strategy 'tokens' needs a fast Hugging Face tokenizer (for its offsets)."""
        if self.strategy == "tokens":
            return first_tokens(text, self.k, tokenizer)
        return first_reasoning_words(text, self.k)


def first_tokens(text: str, k: int, tokenizer: Any) -> str:
    """The characters that the first k tokens cover."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text if len(offsets) <= k else text[: max(end for _, end in offsets[:k])]


def first_reasoning_words(text: str, k: int) -> str:
    """Up to the end of the k-th reasoning word; the whole text if it has fewer."""
    fences = [m.span() for m in _FENCE.finditer(text)]
    count = 0
    for match in _WORD.finditer(text):
        if any(start <= match.start() < end for start, end in fences):
            continue
        count += 1
        if count == k:
            return text[: match.end()]
    return text
