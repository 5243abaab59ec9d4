"""The settings that stages have in common: truncation; and of pruning, recorded or live, clustering and finish rule."""

from __future__ import annotations

import dataclasses
from typing import Any

from deepprune.base import config
from deepprune.base.config import like, setting
from deepprune.data.reasoning_words import read_words
from deepprune.data.truncation import STRATEGIES, Truncation
from deepprune.judges import calibration
from deepprune.judges.calibration import Calibration
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
    scores: str = setting(
        "calibrated",
        f"clustering goes by p_same calibrated, where a {calibration.FILE} lies beside the judge; or as it is",
        choices=("calibrated", "raw"),
    )
    seed: int = config.seed("seed of sampled members and of random finish (and of what else is random here)")

    def judged_by(self) -> tuple[str, str | None]:
        """The kind of judge, and its model."""
        return "random", None

    def scale(self) -> Calibration | None:
        """What clustering reads p_same by; None: as it is, also where the calibration would make all the same."""
        known = calibration.beside(*self.judged_by()) if self.scores == "calibrated" else None
        return None if known is None or known.flat else known

    def reads(self) -> str:
        """What clustering goes by, in words."""
        scale = self.scale()
        return "p_same as it is" if scale is None else f"p_same calibrated ({calibration.FILE}, {scale.version})"

    def made_from(self, prompt_version: str | None) -> dict[str, Any]:
        """The settings for a manifest; scores by the calibration that is used (none: as before there was one)."""
        named = {name: value for name, value in super().made_from(prompt_version).items() if name != "scores"}
        scale = self.scale()
        return named | ({} if scale is None else {"calibration": scale.version})

    def cluster_rule(self) -> ClusterSettings:
        """Raises UserError for values that make no sense."""
        return ClusterSettings(
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(ClusterSettings) if f.name != "calibration"},
            calibration=self.scale(),
        )

    def finish_rule(self) -> FinishSettings:
        """Raises UserError for values that make no sense."""
        named = {"rule": "finish", "batch": "finish_batch"}  # what is called otherwise here
        names = [field.name for field in dataclasses.fields(FinishSettings)]
        return FinishSettings(**{name: getattr(self, named.get(name, name)) for name in names})


def recorded(cluster: ClusterSettings, finish: FinishSettings, cut: Truncation, n: int, order: str) -> dict:
    """The settings as a Pruning record holds them. n: traces that could be opened; order: of arrival."""
    clusters = dataclasses.asdict(cluster) | {"calibration": cluster.calibration and cluster.calibration.version}
    if cluster.calibration is None:  # as in records of before there was one
        clusters.pop("calibration")
    finishes = {f"finish_{k}": v for k, v in dataclasses.asdict(finish).items() if k != "seed"}
    return (
        clusters
        | finishes
        | {
            "truncation": cut.strategy,
            "truncation_k": cut.k,
            **({"reasoning_words": cut.words_version} if cut.words else {}),
            "n": n,
            "order": order,
        }
    )
