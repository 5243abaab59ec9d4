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

    answer: token ids that the answer begins with, whatever the label; labels: those of (different, same) after them.
    Both are cut from whole answers, as these are trained: before a word, a blank or a line's end is for many tokenizers
    another token than at a text's end.
    steps: the tokens of a label so far -> the tokens that labels go on with. A judge's answer is known when the
    log-probabilities of these are, after the prompt and each step; labels of one token each have the one step ().

    Raises UserError if the tokenizer's chat template cannot write the prompt, or if a label is the other's beginning.
    """

    def __init__(self, profile: Profile, tokenizer: Any):
        self.profile, self.tokenizer = profile, tokenizer
        if profile.second is not None:
            raise UserError("the judge profile has a second text: it is a classifier's (--judge classifier)")
        self._text(profile.user)
        answers = [self._encode(text) for text in profile.answers]
        shared = self._shared(answers)
        self.answer = answers[0][:shared]
        self.labels: tuple[Step, Step] = tuple(tuple(answer[shared:]) for answer in answers)
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

    def _shared(self, answers: list[list[int]]) -> int:
        """How many tokens both answers begin with, of those that are of the profile's prefix alone."""
        count = 0
        for first, second in zip(*answers, strict=False):
            text = self.tokenizer.decode(answers[0][: count + 1], clean_up_tokenization_spaces=False)
            if first != second or len(text) > len(self.profile.answer_prefix):
                break
            count += 1
        return count

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
