"""The settings that stages have in common: truncation; and of pruning, on recorded and on live traces, clustering and finish rule."""

from __future__ import annotations

import dataclasses

from deepprune import clustering, finishing
from deepprune.clustering import ClusterSettings
from deepprune.config import setting
from deepprune.errors import UserError
from deepprune.finishing import FinishSettings
from deepprune.truncation import STRATEGIES, Truncation


@dataclasses.dataclass
class CutSettings:
    truncation: str = setting(
        "words", "how a trace is cut: first k tokens or up to the k-th reasoning word", choices=STRATEGIES
    )
    truncation_k: int = setting(25, "the truncation's k (as for the judge's training)")

    def cut(self) -> Truncation:
        """Raises UserError for values that make no sense."""
        return Truncation(self.truncation, self.truncation_k)


@dataclasses.dataclass
class RuleSettings(CutSettings):
    tau: float = setting(0.5, "a trace joins a cluster above this similarity")
    k: int = setting(32, "most clusters (the paper's K)")
    k1: int = setting(10, "most members of a cluster that a new trace is compared with (K1)")
    overflow: str = setting(
        "join", "K clusters open and none similar: join the best, or drop", choices=clustering.OVERFLOWS
    )
    similarity: str = setting(
        "p_same", "to a cluster: mean of p_same, or of the verdicts p_same > 0.5", choices=clustering.SIMILARITIES
    )
    assign: str = setting(
        "best", "of the clusters above tau join the best, the first or the largest", choices=clustering.ASSIGNMENTS
    )
    comparisons: str = setting(
        "all",
        "all: the paper's rule; needed: the same clusters, asking only as far as decides; likely, representative: approximate; "
        "listwise: for a list-wise judge",
        choices=clustering.WITHOUT_SKETCH,
    )
    surety: float = setting(2.0, "comparisons likely: standard errors that a cluster's mean may be off")
    margin: float = setting(0.1, "comparisons representative: how near tau or the best more members are asked about")
    finish: str = setting("paper", "which traces are generated to the end, and how they vote", choices=finishing.RULES)
    k2: int = setting(20, "most traces finished (K2)")
    k3: int = setting(20, "traces finished when every cluster is a singleton (K3; not stated by the paper)")
    largest: int = setting(4, "finish rule weighted: clusters that are finished")
    per_cluster: int = setting(3, "finish rule weighted: traces finished of each")
    threshold: float = setting(
        0.95, "finish rules adaptive, staged: probability that the leading answer is the majority"
    )
    trust: float = setting(
        0.25, "finish rules adaptive, staged: share of a vote an unfinished member lends its cluster"
    )
    finish_batch: int = setting(4, "finish rules adaptive, staged: traces finished at once")
    start: int = setting(16, "finish rule staged: prefixes opened first; doubled while undecided")
    seed: int = setting(0, "seed of sampled members and of random finish (and of what else is random here)")

    def cluster_rule(self) -> ClusterSettings:
        """Raises UserError for values that make no sense."""
        return ClusterSettings(
            self.tau, self.k, self.k1, self.overflow, self.similarity, self.assign, self.comparisons, self.surety, self.margin,
            seed=self.seed,
        )  # fmt: skip

    def finish_rule(self) -> FinishSettings:
        """Raises UserError for values that make no sense."""
        return FinishSettings(
            self.finish, self.k2, self.k3, self.largest, self.per_cluster, self.threshold, self.trust, self.finish_batch, self.start,
            self.seed,
        )  # fmt: skip


def recorded(cluster: ClusterSettings, finish: FinishSettings, cut: Truncation, n: int, order: str) -> dict:
    """The settings as a Pruning record holds them. n: traces that the problem's run could open; order: of their arrival."""
    finishes = {f"finish_{k}": v for k, v in dataclasses.asdict(finish).items() if k != "seed"}
    return dataclasses.asdict(cluster) | finishes | {
        "truncation": cut.strategy, "truncation_k": cut.k, "n": n, "order": order,
    }  # fmt: skip


def check_listwise(judge: str, comparisons: str) -> None:
    """Raise UserError unless a list-wise judge is asked list-wise, and no other is."""
    if (judge == "listwise") != (comparisons == "listwise"):
        raise UserError("--judge listwise and --comparisons listwise go together")
