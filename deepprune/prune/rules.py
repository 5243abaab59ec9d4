"""The settings that stages have in common: truncation; and of pruning, recorded or live, clustering and finish rule."""

from __future__ import annotations

import dataclasses

from deepprune.base import config
from deepprune.base.config import like, setting
from deepprune.data.reasoning_words import read_words
from deepprune.data.truncation import STRATEGIES, Truncation
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings


@dataclasses.dataclass
class CutSettings:
    truncation: str = setting(
        "words", "how a trace is cut: first k tokens or up to the k-th reasoning word", choices=STRATEGIES
    )
    truncation_k: int = setting(25, "the truncation's k (as for the judge's training)", at_least=1)

    reasoning_words: str | None = setting(None, "file of the reasoning words, one a line (default: our list)")

    def cut(self) -> Truncation:
        """Raises UserError for values that make no sense."""
        words = None if self.reasoning_words is None else read_words(self.reasoning_words)
        return Truncation(self.truncation, self.truncation_k, words)

    def made_from(self, prompt_version: str) -> dict:
        """The settings for a manifest; the words by their hash, wherever their file lies."""
        return config.resolved(self) | {
            "reasoning_words": self.cut().words_version,
            "prompt_version": prompt_version,
        }


@dataclasses.dataclass
class RuleSettings(CutSettings):
    tau: float = like(ClusterSettings, "tau")
    k: int = like(ClusterSettings, "k")
    k1: int = like(ClusterSettings, "k1")
    overflow: str = like(ClusterSettings, "overflow")
    similarity: str = like(ClusterSettings, "similarity")
    assign: str = like(ClusterSettings, "assign")
    asks: str = like(ClusterSettings, "asks")
    surety: float = like(ClusterSettings, "surety")
    finish: str = like(FinishSettings, "rule")
    k2: int = like(FinishSettings, "k2")
    k3: int = like(FinishSettings, "k3")
    largest: int = like(FinishSettings, "largest")
    per_cluster: int = like(FinishSettings, "per_cluster")
    threshold: float = like(FinishSettings, "threshold")
    trust: float = like(FinishSettings, "trust")
    finish_batch: int = like(FinishSettings, "batch")
    start: int = like(FinishSettings, "start")
    seed: int = config.seed("seed of sampled members and of random finish (and of what else is random here)")

    def cluster_rule(self) -> ClusterSettings:
        """Raises UserError for values that make no sense."""
        return ClusterSettings(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(ClusterSettings)}
        )

    def finish_rule(self) -> FinishSettings:
        """Raises UserError for values that make no sense."""
        named = {
            "rule": "finish",
            "batch": "finish_batch",
        }  # of a finish rule's settings, those with a longer name here
        names = [field.name for field in dataclasses.fields(FinishSettings)]
        return FinishSettings(**{name: getattr(self, named.get(name, name)) for name in names})


def recorded(cluster: ClusterSettings, finish: FinishSettings, cut: Truncation, n: int, order: str) -> dict:
    """The settings as a Pruning record holds them. n: traces that could be opened; order: of arrival."""
    finishes = {f"finish_{k}": v for k, v in dataclasses.asdict(finish).items() if k != "seed"}
    return (
        dataclasses.asdict(cluster)
        | finishes
        | {
            "truncation": cut.strategy,
            "truncation_k": cut.k,
            **({"reasoning_words": cut.words_version} if cut.words else {}),
            "n": n,
            "order": order,
        }
    )
