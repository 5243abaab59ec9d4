"""Settings and questions of judge_cost.py, and how near clusters come to the full rule's and to the answers."""

import dataclasses

import numpy as np

from deepprune import judges
from deepprune.base import config, metrics, records
from deepprune.base.config import like, setting
from deepprune.base.errors import UserError
from deepprune.data import answers, problems
from deepprune.engines import models
from deepprune.evaluate import methods
from deepprune.evaluate.judge_cost_figures import EXACT, FULL, LARGEST, LIKELY
from deepprune.judges import Request
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import DEFAULT
from deepprune.prune import costs, prefixes
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.deepprune import DeepPruneSettings, KnownClusters
from deepprune.prune.replay import Recorded, play
from deepprune.prune.rules import CutSettings

COUNTED = {  # mode: asks, and assign where it is not the case's own
    FULL: ("all", None),
    EXACT: ("needed", None),
    LIKELY: ("likely", None),
    LARGEST: ("likely", "largest"),
}
JUDGES = ("vllm", "sbert", "simulated")
CASE = ["judge", "similarity", "assign", "n", "K"]


@dataclasses.dataclass
class CostSettings(CutSettings):
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    traces: list[str] = setting(config.REQUIRED, "JSONL files of Trace records")
    output: str = setting(config.REQUIRED, "path without ending of the CSV, JSON and PNG")
    reasoner: str | None = setting(None, "only traces of this model")
    only: str | None = setting(None, "JSONL file of Pair records: only its problems (the judge's test side)")
    judge: str = setting(
        "vllm",
        "vllm: --model; sbert: the sentence encoder of --sbert; simulated: scores drawn to have --auroc",
        choices=JUDGES,
    )
    model: str | None = setting(None, "the judge: folder, LoRA adapter folder or hub id")
    auroc: list[float] = setting([0.87], "of simulated judges", at_least=0.5, at_most=1)
    sbert: str = setting("sentence-transformers/all-MiniLM-L6-v2", "sentence encoder of --judge sbert")
    store: str | None = setting(
        None, "SQLite store of the judge's scores (Online/compare_methods.py writes such; default: OUTPUT.sqlite)"
    )
    limit: int | None = setting(None, "only so many problems, spread evenly over the file", at_least=1)
    n: list[int] = setting([16, 32, 64], "traces a question", at_least=1)
    k: list[int] = like(ClusterSettings, "k", [8, 16, 32], "values of K")
    k1: int = like(ClusterSettings, "k1")
    tau: float = like(ClusterSettings, "tau")
    similarities: list[str] = like(ClusterSettings, "similarity", ["p_same"])
    assigns: list[str] = like(
        ClusterSettings,
        "assign",
        ["best"],
        "of the clusters above tau a trace joins the best, the first (readings of the paper) or the largest (ours); "
        "the first of these and of --similarities are timed",
    )
    surety: float = like(ClusterSettings, "surety")
    tokenizer: str = setting("Qwen/Qwen3-4B-Instruct-2507", "model whose tokenizer cuts and counts")
    dtype: str = config.dtype("the judge's weights' type")
    max_model_len: int | None = setting(
        None, "the judges' context length (list-wise: up to K traces a prompt)", at_least=2
    )
    batch: int = setting(64, "pairs at once", at_least=1)
    timed: int = setting(0, "questions of the timed part (0: none)", at_least=0)
    timed_n: int = setting(64, "traces a question of the timed part", at_least=1)
    slow_pairs: int = setting(20, "pairs timed with transformers, one at a time", at_least=1)
    seed: int = config.seed("seed of sampled members and simulated scores")


class Data:
    """The questions' traces, answer classes and prefixes in the judge's tokens."""

    def __init__(self, args: CostSettings):
        from transformers import AutoTokenizer

        self.args, self.cut = args, args.cut()
        self.by_id = records.read_problems(*args.problems)
        only = {p.problem_id for p in records.read(records.Pair, args.only)} if args.only else None
        cutter = AutoTokenizer.from_pretrained(models.resolve(args.tokenizer).path)
        groups = prefixes.select(args.traces, self.cut, cutter, self.by_id, args.reasoner, only)
        self.groups = {i: groups[i] for i in problems.spread(list(groups), args.limit)}
        fewest = min(map(len, self.groups.values()))
        if max(args.n) > fewest:
            raise UserError(f"--n {max(args.n)}: a problem has {fewest} traces only")
        self.labels = {
            i: answers.classes([t.answer for t in g], self.by_id[i].answer_type) for i, g in self.groups.items()
        }
        # Without a judge of its own, prompts are counted in the tokens of the model that cuts.
        own = judges.prompts_of(args.model) if args.judge == "vllm" else PairPrompts(DEFAULT, cutter)
        self.frame, self.tokens = {}, {}
        for i, g in self.groups.items():
            self.frame[i], self.tokens[i] = costs.prompt_parts(own, self.by_id[i].question, [t.prefix for t in g])

    def request(self, problem: str, a: int, b: int) -> Request:
        first, second = self.groups[problem][a], self.groups[problem][b]
        return Request(self.by_id[problem].question, first.prefix, second.prefix, first.trace_id, second.trace_id)

    def rule(self, asks: str, k: int, similarity: str, assign: str) -> ClusterSettings:
        a = self.args
        more = {"similarity": similarity, "assign": assign, "asks": asks, "surety": a.surety, "seed": a.seed}
        return ClusterSettings(a.tau, k, a.k1, **more)


def outcome(data: Data, problem: str, placed: list[int], full: list[int]) -> dict:
    """How near a question's clusters (of its first len(placed) traces) are to the full rule's and to the answers.

    And what the paper's finish rule makes of them: accuracy, and the share of distinct answers that are finished.
    """
    from sklearn.metrics import adjusted_rand_score

    n, group, labels = len(placed), data.groups[problem], data.labels[problem]
    rule = DeepPruneSettings(finish=FinishSettings(seed=data.args.seed))
    method = METHODS["deepprune"].start(n, rule, problem, clusters=KnownClusters(placed))
    lengths, cuts = [t.n_tokens for t in group[:n]], [t.prefix_tokens for t in group[:n]]
    played = play(method, Recorded(labels[:n], lengths, cuts))
    right = answers.right_class(labels, [t.correct for t in group])
    # An unknown answer is like nothing.
    alone = [-1 - i if label is None else label for i, label in enumerate(labels[:n])]
    return {
        "clusters": len(set(placed) - {-1}),
        "adjusted Rand index": adjusted_rand_score(full, placed),
        "same clusters": full == placed,
        "adjusted Rand index to the answers": adjusted_rand_score(alone, placed),
        "accuracy": played.answer is not None and played.answer == right,
        "diversity": methods.survivors(labels[:n], right, played.finished)[1],
    }


def summary(outcomes: list[dict]) -> dict:
    """Means over questions; of the accuracy and the Rand index also an interval."""
    row = {"questions": len(outcomes)}
    for name in outcomes[0]:
        values = np.asarray([f[name] for f in outcomes], dtype=np.float64)
        row[name] = float(values.mean())
        if name in ("accuracy", "adjusted Rand index"):
            _, row[f"{name} low"], row[f"{name} high"] = metrics.bootstrap(
                range(len(values)), lambda r, v=values: float(v[r].mean())
            )
    return row
