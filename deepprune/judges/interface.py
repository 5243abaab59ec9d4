"""What a judge is: it takes requests (two truncated traces of a question) and streams scores."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence

from deepprune.base.errors import UserError
from deepprune.base.records import Pair


@dataclasses.dataclass(frozen=True)
class Request:
    """One question to a judge: a is the representative, b the new trace. label is for the oracle alone."""

    question: str
    prefix_a: str
    prefix_b: str
    trace_a: str
    trace_b: str
    label: int | None = None

    @classmethod
    def of(cls, pair: Pair) -> Request:
        """The request for a recorded pair."""
        return cls(pair.question, pair.prefix_a, pair.prefix_b, pair.trace_a, pair.trace_b, pair.label)


class NotAJudge(UserError):
    """The model gives no numbers, or does not answer with the judge's labels."""


class PromptTooLong(UserError):
    """One request's prompt is longer than the judge reads; it can judge others."""


@dataclasses.dataclass(frozen=True)
class Score:
    """What a judge says of a request.

    p_same: in [0, 1]; prompt_tokens: read, of which cached_tokens from the prefix cache; calls: prompts (0: another
    score's).
    label_mass: the probability of the labels among all tokens (None: not read). Raises NotAJudge for NaN.
    """

    p_same: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    calls: int = 1
    label_mass: float | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        if not 0.0 <= self.p_same <= 1.0 or not 0.0 <= (self.label_mass or 0.0) < float("inf"):
            raise NotAJudge(
                f"answered with p_same = {self.p_same} and label mass {self.label_mass}, which are no probabilities: "
                "are its weights finite (did the training diverge)? If they are, its numbers overflow: try --dtype "
                "float32"
            )


class Judge(abc.ABC):
    """name identifies model and weights in records; parameters is 0 for judges that are not models, None if unknown.

    A judge that does not answer with its labels is no judge: on the first `FIRST` prompts the probability of its labels
    among all tokens is read, and where its mean is below least_label_mass, NotAJudge is raised before a score is given.
    """

    FIRST = 32

    name: str
    parameters: int | None = 0
    labels_shown: Sequence[str] = ()  # the labels, for messages
    least_label_mass: float = 0.0  # 0: do not stop
    calls_beside: int = 0  # prompts that gave no score: those that looked at a server's answers

    @abc.abstractmethod
    def _stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Score]]:
        """Yield (position of the request, score) as scores become known, in any order."""

    def _rather(self, request: Request) -> list[tuple[str, float]]:
        """The likeliest answers to a request, of all tokens, with their probabilities."""
        return []

    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Score]]:
        """Yield (position of the request, score) as scores become known, in any order. Raises NotAJudge."""
        asked: dict[int, Request] = {}
        held: list[tuple[int, Score]] = []

        def noted():
            for position, request in enumerate(requests):
                if len(self._masses) < self.FIRST:
                    asked[position] = request
                yield request

        scores = self._stream(noted())
        try:
            for position, score in scores:
                if score.label_mass is None or len(self._masses) >= self.FIRST:
                    yield position, score
                    continue
                self._masses.append(score.label_mass)
                held.append((position, score))
                if len(self._masses) == self.FIRST:
                    self._check_mass(held, asked, scores)
                    yield from held
                    held, asked = [], {}
            if held:
                self._check_mass(held, asked, scores)
                yield from held
        except NotAJudge as error:
            raise NotAJudge(f"judge {self.name}: {error}") from error
        finally:
            scores.close()

    def score(self, requests: Sequence[Request]) -> list[Score]:
        """Scores in the order of the requests. Raises NotAJudge."""
        result: list[Score | None] = [None] * len(requests)
        for position, score in self.stream(requests):
            result[position] = score
        return result

    @functools.cached_property
    def _masses(self) -> list[float]:
        return []

    @property
    def label_mass(self) -> dict[str, float] | None:
        """The labels' probability among all tokens: mean and least over the first prompts; None: not read."""
        if not self._masses:
            return None
        return {
            "mean": round(sum(self._masses) / len(self._masses), 4),
            "least": round(min(self._masses), 4),
            "prompts": len(self._masses),
        }

    def _check_mass(self, held: list[tuple[int, Score]], asked: dict[int, Request], scores: Iterator) -> None:
        mean = sum(self._masses) / len(self._masses)
        if mean >= self.least_label_mass:
            return
        scores.close()
        worst = min(held, key=lambda item: item[1].label_mass)[0]
        rather = ", ".join(f"{text!r} {p:.2f}" for text, p in self._rather(asked[worst]))
        raise NotAJudge(
            f"its labels ({', '.join(self.labels_shown)}) have {mean:.3f} of the probability on the first "
            f"{len(self._masses)} prompts, less than {self.least_label_mass}"
            f"{f'; it would rather answer {rather}' if rather else ''}. Is it trained for this prompt, "
            "with this chat template? --least-label-mass 0 scores with it all the same"
        )

    def close(self) -> None:  # noqa: B027 - most judges hold nothing
        """Free what the judge holds."""
