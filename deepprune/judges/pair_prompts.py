"""A judge's prompts in its own tokens: the profile's texts, the labels' tokens, and p_same from their probabilities."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from deepprune.base.errors import UserError
from deepprune.judges.interface import Request
from deepprune.judges.profiles import Profile
from deepprune.judges.prompts import templated

Step = tuple[int, ...]  # the tokens of a label so far: () before its first


@dataclasses.dataclass(frozen=True)
class Frame:
    """Tokens of a pair's prompt beside the two prefixes: before the first, between them, after the second."""

    head: int = 0
    middle: int = 0
    tail: int = 0


class PairPrompts:
    """Prompts of one profile for one tokenizer.

    labels: token ids of (different, same); steps: the tokens of a label so far -> the tokens that labels go on with. A
    judge's answer is known when the log-probabilities of these are, after the prompt and each step; labels of one token
    each have the one step ().

    Raises UserError if the tokenizer's chat template cannot write the prompt, or if a label is the other's beginning.
    """

    def __init__(self, profile: Profile, tokenizer: Any):
        self.profile, self.tokenizer = profile, tokenizer
        self.answer = self._encode(profile.answer_prefix)
        self.labels: tuple[Step, Step] = tuple(tuple(self._encode(label)) for label in profile.labels)
        if profile.second is not None:
            raise UserError("the judge profile has a second text: it is a classifier's (--judge classifier)")
        self._text(profile.user)
        for text, label in zip(profile.answers, self.labels, strict=True):
            if self._encode(text) != [*self.answer, *label]:
                raise UserError(
                    f"the judge's answer {text!r} is other tokens for this tokenizer than its prefix and its label: "
                    "move the blank between them from the prefix's end to the label's beginning"
                )
        different, same = self.labels
        if not different or not same or different[: len(same)] == same or same[: len(different)] == different:
            raise UserError(
                f"the judge's labels {' and '.join(map(repr, profile.labels))} cannot be told apart: for this "
                f"tokenizer one is nothing or begins the other ({different} and {same})"
            )
        self.steps: dict[Step, list[int]] = {}
        for label in self.labels:
            for i, token in enumerate(label):
                after = self.steps.setdefault(label[:i], [])
                if token not in after:
                    after.append(token)

    def ids(self, request: Request) -> list[int]:
        """Token ids of a request's prompt, up to where the label begins. Raises UserError as `templated`."""
        user = self.profile.user_message(request.question, request.prefix_a, request.prefix_b, self.tokenizer)
        return self._encode(self._text(user)) + self.answer

    def read(self, ids: list[int]) -> int:
        """Tokens that are read for a prompt's score: the prompt, and once each label token before a label's last."""
        return len(ids) + len(self.steps) - 1

    def frame(self, question: str) -> Frame:
        """A question's Frame: what is read for a score beside the two prefixes."""
        first, second = "<<first prefix>>", "<<second prefix>>"
        text = self._text(self.profile.user_message(question, first, second, self.tokenizer))
        head, rest = text.rsplit(first, 1)
        middle, tail = rest.split(second, 1)
        head, middle, tail = (len(self._encode(part)) for part in (head, middle, tail))
        return Frame(head, middle, tail + len(self.answer) + len(self.steps) - 1)

    def judged(self, at: Mapping[Step, Mapping[int, float]]) -> tuple[float, float]:
        """(p_same, probability of the labels among all answers) from log-probabilities over the whole vocabulary.

        at: by step, then by token. p_same is NaN if one of them is.
        """
        different, same = (sum(at[label[:i]][token] for i, token in enumerate(label)) for label in self.labels)
        return better(same, different), math.exp(different) + math.exp(same)

    def _text(self, user: str) -> str:
        return templated(self.tokenizer, self.profile.system, user, **self.profile.chat_template)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def better(label: float, other: float) -> float:
    """The probability of one of two labels, from the log-probabilities of both. NaN if one is NaN."""
    gap = label - other
    return 0.0 if gap <= -700 else 1.0 / (1.0 + math.exp(-gap))
