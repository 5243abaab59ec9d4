"""Judges: everything that can say how likely two truncated traces end in the same answer.

One interface, one file a kind: vllm, transformers, listwise (all clusters in one prompt), sbert, and the two limits oracle
and random.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence

from deepprune.errors import UserError
from deepprune.records import Pair

KINDS = ("vllm", "transformers", "listwise", "sbert", "oracle", "random")


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


@dataclasses.dataclass(frozen=True)
class Score:
    """p_same in [0, 1]; prompt tokens read, how many of them came from the prefix cache; prompts (0: another score's)."""

    p_same: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    calls: int = 1


def better(this: float, other: float) -> float:
    """The probability of one of two labels, from their log-probabilities."""
    gap = this - other
    return 1.0 / (1.0 + math.exp(-gap)) if gap > -700 else 0.0


class Judge(abc.ABC):
    """name identifies model and weights in records; parameters is 0 for judges that are not models."""

    name: str
    parameters: int = 0

    @abc.abstractmethod
    def stream(self, requests: Iterable[Request]) -> Iterator[tuple[int, Score]]:
        """Yield (position of the request, score) as scores become known, in any order."""

    def score(self, requests: Sequence[Request]) -> list[Score]:
        """Scores in the order of the requests."""
        result: list[Score | None] = [None] * len(requests)
        for position, score in self.stream(requests):
            result[position] = score
        return result

    def close(self) -> None:  # noqa: B027 - most judges hold nothing
        """Free what the judge holds."""


def _check(kind: str, model: str | None) -> None:
    if kind not in KINDS:
        raise UserError(f"unknown judge {kind!r}; judges are {', '.join(KINDS)}")
    if kind in ("vllm", "transformers", "listwise", "sbert") and not model:
        raise UserError(f"judge {kind!r} needs a model: give --model (a folder, a LoRA adapter folder or a hub id)")


def name_of(kind: str, model: str | None = None, seed: int = 0) -> str:
    """The name that a judge will have in records, known before it is opened (no weights are loaded)."""
    _check(kind, model)
    if kind in ("vllm", "transformers", "listwise"):
        from deepprune.judges.weights import prepare

        return prepare(model)[0]
    if kind == "sbert":
        from deepprune import models

        return f"sbert:{models.resolve(model).name}"
    return kind if kind == "oracle" else f"{kind}-{seed}"


def folder_of(model: str) -> str:
    """Folder of a judge model's full weights (an adapter is merged) and tokenizer."""
    from deepprune.judges.weights import prepare

    return prepare(model)[1]


def parameters_of(kind: str, model: str | None = None) -> int:
    """A judge's parameters, known without opening it; 0 for judges that are not models."""
    _check(kind, model)
    if kind in ("oracle", "random"):
        return 0
    from deepprune import models
    from deepprune.judges.weights import prepare

    return models.parameter_count(models.resolve(model).path if kind == "sbert" else prepare(model)[1])


def open_judge(
    kind: str, model: str | None = None, *, dtype: str = "auto", max_model_len: int | None = None, batch: int = 64,
    prefix_caching: bool = True, seed: int = 0, tensor_parallel: int = 1, data_parallel: int = 1, cache=None,
    gpu_memory_utilization: float = 0.9,
) -> Judge:  # fmt: skip
    """Open a judge by kind; kinds that need a model take `model` (folder, LoRA adapter folder, hub id).

    cache: file that keeps Sentence-BERT's embeddings; gpu_memory_utilization: a vLLM judge's share of a GPU.

    Raises UserError for an unknown kind or model.
    """
    _check(kind, model)
    if kind == "vllm":
        from deepprune.judges.vllm import VLLMJudge

        return VLLMJudge(model, dtype, max_model_len, batch, prefix_caching, tensor_parallel, data_parallel,
                         gpu_memory_utilization)  # fmt: skip
    if kind == "listwise":
        from deepprune.judges.listwise import ListwiseJudge

        return ListwiseJudge(model, dtype, max_model_len, batch, prefix_caching, tensor_parallel, data_parallel,
                             gpu_memory_utilization)  # fmt: skip
    if kind == "transformers":
        from deepprune.judges.transformers import TransformersJudge

        return TransformersJudge(model, dtype, max_model_len, batch)
    if kind == "sbert":
        from deepprune.judges.sbert import SentenceBertJudge

        return SentenceBertJudge(model, batch, cache)
    from deepprune.judges.limits import OracleJudge, RandomJudge

    return OracleJudge() if kind == "oracle" else RandomJudge(seed)
