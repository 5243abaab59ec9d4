"""Judges: everything that can say how likely two truncated traces end in the same answer.

One interface, one file a kind; registry.py lists them. Stands on base, data and engines.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from deepprune.base import config
from deepprune.base.errors import UserError
from deepprune.base.records import Pair
from deepprune.judges.registry import KINDS, Kind, kinds

__all__ = ["KINDS", "Judge", "Kind", "NotAJudge", "Request", "Score", "kinds", "open_judge"]


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


@dataclasses.dataclass(frozen=True)
class Score:
    """p_same in [0, 1]; prompt tokens read, how many of them came from the prefix cache; prompts (0: another score's).

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
                f"answered with p_same = {self.p_same} and label mass {self.label_mass}, which are no probabilities: are its weights "
                "finite (did the training diverge)? If they are, its numbers overflow: try --dtype float32"
            )


def better(this: float, other: float) -> float:
    """The probability of one of two labels, from their log-probabilities. NaN if one is NaN."""
    gap = this - other
    return 0.0 if gap <= -700 else 1.0 / (1.0 + math.exp(-gap))


def mass(logprobs: Iterable[float]) -> float:
    """The probability of some tokens together, from their log-probabilities over the whole vocabulary."""
    return sum(math.exp(value) for value in logprobs)


class Judge(abc.ABC):
    """name identifies model and weights in records; parameters is 0 for judges that are not models, None if unknown.

    A judge that does not answer with its labels is no judge: on the first `FIRST` prompts the probability of its labels among
    all tokens is read, and where its mean is below least_label_mass, NotAJudge is raised before a score is given.
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
        """The labels' probability among all tokens: mean and least over the first prompts; None where it is not read."""
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
            f"its labels ({', '.join(self.labels_shown)}) have {mean:.3f} of the probability on the first {len(self._masses)} prompts, "
            f"less than {self.least_label_mass}{f'; it would rather answer {rather}' if rather else ''}. Is it trained for this prompt, "
            "with this chat template? --least-label-mass 0 scores with it all the same"
        )

    def close(self) -> None:  # noqa: B027 - most judges hold nothing
        """Free what the judge holds."""


def _kind(kind: str, model: str | None) -> Kind:
    if kind not in KINDS:
        raise UserError(f"unknown judge {kind!r}; judges are {', '.join(KINDS)}")
    if KINDS[kind].needs_model and not model:
        raise UserError(f"judge {kind!r} needs a model: give --model (a folder, a LoRA adapter folder or a hub id)")
    return KINDS[kind]


def name_of(kind: str, model: str | None = None, seed: int = 0) -> str:
    """The name that a judge will have in records, known before it is opened (no weights are loaded)."""
    known = _kind(kind, model)
    if not known.needs_model:
        return f"{known.named}-{seed}" if known.seeded else known.named
    from deepprune.judges.weights import identify

    return known.named + identify(model).name


def folder_of(model: str) -> str:
    """Folder of a judge model's full weights (an adapter is merged) and tokenizer."""
    from deepprune.judges.weights import prepare

    return prepare(model)[1]


def parameters_of(kind: str, model: str | None = None) -> int | None:
    """A judge's parameters, known without opening it; 0 for judges that are not models, None if unknown."""
    known = _kind(kind, model)
    if not known.needs_model:
        return 0
    from deepprune.engines import models

    return models.parameters(models.resolve(model).path if known.per_trace else folder_of(model))


def describe(kind: str, model: str | None = None, seed: int = 0) -> dict[str, Any]:
    """What a manifest says of a judge before its first score: name, sha256 of all its weights, source, parameters.

    sha256 and source are None for judges that are not models; parameters are None if unknown, 0 for those alone.
    """
    name = name_of(kind, model, seed)
    if not KINDS[kind].needs_model:
        return {"name": name, "sha256": None, "source": None, "parameters": 0}
    from deepprune.judges.weights import identify

    known = identify(model)
    return {"name": name, "sha256": known.sha256, "source": known.source, "parameters": parameters_of(kind, model)}


def least_label_mass() -> Any:
    """The setting of every stage that asks a judge (a dataclass field)."""
    text = "stop if the judge gives its labels less of the probability than this on the first pairs (0: never, as for zero-shot models)"
    return config.setting(0.5, text, free=True, at_least=0, at_most=1)


def note(manifest: Any, described: Mapping[str, Any]) -> None:
    """Put what `describe` says of the judge into a Manifest, which is written with the first row: a killed run knows its judge."""
    mass_before = (manifest.data.get("judge") or {}).get("label_mass")
    manifest.data["judge"] = {**described, "label_mass": mass_before}
    manifest.data["judge_parameters"] = described["parameters"]


def note_mass(manifest: Any, label_mass: Mapping[str, float] | None) -> None:
    """Write a judge's label_mass into a Manifest that `note` has seen, if it is new there."""
    if label_mass is not None and manifest.data["judge"]["label_mass"] != label_mass:
        manifest.data["judge"]["label_mass"] = dict(label_mass)
        manifest.save()


def open_judge(
    kind: str,
    model: str | None = None,
    *,
    dtype: str = "auto",
    max_model_len: int | None = None,
    batch: int = 64,
    prefix_caching: bool = True,
    seed: int = 0,
    tensor_parallel: int = 1,
    data_parallel: int = 1,
    cache: str | None = None,
    gpu_memory_utilization: float = 0.9,
    url: str | None = None,
    timeout_seconds: float = 120.0,
    retries: int = 4,
    least_label_mass: float = 0.0,
) -> Judge:
    """Open a judge by kind (registry.KINDS); kinds that need a model take `model` (folder, LoRA adapter folder, hub id).

    cache: file that keeps Sentence-BERT's embeddings; gpu_memory_utilization: a vLLM judge's share of a GPU; url,
    timeout_seconds, retries: of a server; least_label_mass: see Judge (0: score with a model that does not answer with its
    labels).

    Raises UserError for an unknown kind, or for one whose model or URL is not given.
    """
    options = dict(locals())
    known = _kind(kind, model)
    if known.needs_url and not url:
        raise UserError(f"judge {kind!r} needs the URL of a running server: give --judge-url")
    judge = known.open(options)
    judge.least_label_mass = least_label_mass
    return judge
