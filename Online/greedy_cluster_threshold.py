"""Stage 05: prune recorded traces by greedy clustering, finish a few, vote.

    python Online/greedy_cluster_threshold.py --config scripts/recipes/cpu.yaml --model results/demo/judge \
        --problems DeepPrune_data/problems/*.jsonl --output results/demo/pruning.jsonl
    python Online/greedy_cluster_threshold.py --judge oracle --problems ... --output oracle.jsonl

Many problems advance in lockstep, so that each call to the judge is large. A model's scores are kept in a store
(OUTPUT.scores.sqlite, or --store to share one between runs): no pair is scored twice, and a killed run goes on with the
same command. Finished groups of problems are on disk.

A record: {"problem_id": "6c1f...", "judge": "judge@1f3c9a2b", "settings": {"tau": 0.5, ...},
           "clusters": [["b0e1...", ...], ...], "finished": ["b0e1...", ...], "answer": "42", "correct": true,
           "tokens": {"prefix": 820, "rest": 1440, "total": 2260, "consensus": 5210, "sequential": 310},
           "judge_calls": 61, "judge_tokens": 17800, "judge_cached_tokens": 9100}
"""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

from deepprune import (
    answers,
    clustering,
    config,
    costs,
    finishing,
    jsonl,
    judges,
    models,
    prefixes,
    progress,
    prompts,
    records,
    runtime,
)
from deepprune.clustering import ClusterSettings
from deepprune.config import setting
from deepprune.errors import UserError, command
from deepprune.finishing import FinishSettings
from deepprune.manifest import Manifest, manifest_path
from deepprune.prefixes import Prefixed
from deepprune.score_store import ScoreStore
from deepprune.truncation import STRATEGIES, Truncation


@dataclasses.dataclass
class PruneSettings:
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    output: str = setting(config.REQUIRED, "JSONL file of Pruning records; appended to when it exists")
    traces: str = setting("DeepPrune_data/online_test_data/deepprune_pairs.jsonl", "JSONL file of Trace records")
    judge: str = setting("vllm", "kind of judge", choices=judges.KINDS)
    model: str | None = setting(None, "the judge's model: folder, LoRA adapter folder or hub id")
    reasoner: str | None = setting(None, "only traces of this model (default: all must be of one)")
    limit: int | None = setting(None, "only so many problems, spread evenly over the file", free=True)
    n: int | None = setting(None, "only the first n traces of each problem")
    order: str = setting("recorded", "arrival order of a problem's traces", choices=("recorded", "shuffled"))
    tau: float = setting(0.5, "a trace joins a cluster above this similarity")
    k: int = setting(32, "most clusters (the paper's K)")
    k1: int = setting(10, "most members of a cluster that a new trace is compared with (K1)")
    overflow: str = setting(
        "join", "K clusters open and none similar: join the best, or drop", choices=clustering.OVERFLOWS
    )
    similarity: str = setting(
        "p_same", "to a cluster: mean of p_same, or of the verdicts p_same > 0.5", choices=clustering.SIMILARITIES
    )
    assign: str = setting("best", "join the best cluster above tau, or the first", choices=clustering.ASSIGNMENTS)
    comparisons: str = setting(
        "all",
        "ask about all sampled members, or (the same clusters) only as far as needed",
        choices=clustering.COMPARISONS[:3],
    )
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
    truncation: str = setting("words", "how a trace is cut (as for the judge's training)", choices=STRATEGIES)
    truncation_k: int = setting(25, "the truncation's k")
    tokenizer: str = setting("Qwen/Qwen3-4B-Instruct-2507", "model whose tokenizer cuts and counts")
    dtype: str = setting("auto", "the judge's weights' type (auto: float32 on CPU, the model's own on GPU)")
    max_model_len: int | None = setting(None, "the judge's context length in tokens", free=True)
    batch: int = setting(64, "pairs scored at once", free=True)
    lockstep: int = setting(16, "problems that advance together", free=True)
    store: str | None = setting(None, "SQLite file of a model's scores (default: beside the output)", free=True)
    tensor_parallel: int = setting(1, "GPUs that share one copy of the judge", free=True)
    data_parallel: int = setting(1, "copies of the judge", free=True)
    seed: int = setting(0, "seed of order, sampled members, random finish and the random judge")
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(PruneSettings, "prune", __doc__)
    rule = ClusterSettings(settings.tau, settings.k, settings.k1, settings.overflow, settings.similarity, settings.assign,
                           settings.comparisons, settings.seed)  # fmt: skip
    finish = FinishSettings(settings.finish, settings.k2, settings.k3, settings.largest, settings.per_cluster, settings.threshold,
                            settings.trust, settings.finish_batch, settings.start, settings.seed)  # fmt: skip
    truncation = Truncation(settings.truncation, settings.truncation_k)
    by_id = {p.problem_id: p for p in records.read(records.Problem, *settings.problems)}
    if settings.judge == "vllm":
        runtime.ensure()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    groups = select(settings, by_id, truncation, tokenizer)
    name = judges.name_of(settings.judge, settings.model, settings.seed)
    kept = config.resolved(settings) | {"prompt_version": prompts.VERSION}
    kept.pop("problems"), kept.pop("traces"), kept.pop("model")
    manifest = Manifest.open(
        settings.output, "prune", kept, [*settings.problems, settings.traces],
        config.free_settings(PruneSettings), settings.overwrite, {"judge": name},
    )  # fmt: skip

    with jsonl.Appender(settings.output) as out:
        done = {p.problem_id for p in records.read(records.Pruning, settings.output)}
        todo = [i for i in groups if i not in done]
        print(f"{len(groups)} problems: {len(groups) - len(todo)} done before, {len(todo)} to prune with {name}")
        if todo:
            with Scorer(settings, name, by_id, groups) as scorer:
                with progress.bar(total=sum(len(groups[i]) for i in todo), desc="traces placed", unit="trace") as bar:
                    for start in range(0, len(todo), settings.lockstep):
                        some = todo[start : start + settings.lockstep]
                        for record in prune(some, groups, by_id, scorer, rule, finish, bar.update):
                            out.append(records.to_row(record))
                print(f"{scorer.asked:,} pairs asked about, {scorer.scored:,} of them scored now")
                manifest.data["judge_parameters"] = scorer.parameters
    rows = [p for p in records.read(records.Pruning, settings.output) if p.problem_id in groups]
    total = {k: sum(p.tokens[k] for p in rows) for k in ("prefix", "rest", "total", "consensus")}
    print(f"{len(rows)} problems, judge {name}: accuracy {sum(p.correct is True for p in rows) / len(rows):.3f}, "
          f"tokens {total['total']:,} of {total['consensus']:,} for cons@n: reduction "
          f"{costs.reduction(total['total'], total['consensus']):.1%} without the judge's cost; judge: "
          f"{sum(p.judge_calls for p in rows):,} calls, {sum(p.judge_tokens for p in rows):,} prompt tokens, "
          f"{sum(p.judge_cached_tokens for p in rows):,} of them cached")  # fmt: skip
    manifest.finish(len(rows), tokens=total)


def select(settings: PruneSettings, by_id: dict, truncation: Truncation, tokenizer) -> dict[str, list[Prefixed]]:
    """Traces by problem, in arrival order, of one reasoner, problems spread evenly when limited."""
    groups = prefixes.stream([settings.traces], truncation, tokenizer, lambda t: settings.reasoner in (None, t.model))
    reasoners = sorted({t.model for group in groups.values() for t in group})
    if not groups:
        raise UserError(f"{settings.traces}: no traces of {settings.reasoner or 'any model'}")
    if len(reasoners) > 1:
        raise UserError(f"{settings.traces} holds traces of {', '.join(reasoners)}: choose one with --reasoner")
    missing = [i for i in groups if i not in by_id]
    if missing:
        raise UserError(f"{settings.traces}: problem {missing[0]} is in no --problems file")
    keys = list(groups)
    if settings.limit is not None and settings.limit < len(keys):
        keys = [keys[i * len(keys) // settings.limit] for i in range(settings.limit)]
    if settings.n:
        groups = {key: groups[key][: settings.n] for key in keys}
    if settings.order == "shuffled":
        for key in keys:
            random.Random(f"{settings.seed}/order/{key}").shuffle(groups[key])
    return {key: groups[key] for key in keys}


class Scorer:
    """Scores of pairs of traces: from the store where they are known, else from the judge, opened when first needed.

    Judges that are not models (oracle, random) have no store: their scores cost nothing.
    """

    def __init__(self, settings: PruneSettings, name: str, by_id: dict, groups: dict[str, list[Prefixed]]):
        self.settings, self.name, self.by_id, self.groups = settings, name, by_id, groups
        self.judge: judges.Judge | None = None
        self.store: ScoreStore | None = None
        self.asked = self.scored = 0
        self.labels = {
            i: answers.classes([t.answer for t in traces], by_id[i].answer_type) for i, traces in groups.items()
        }
        if settings.model:
            output = Path(settings.output)
            default = manifest_path(output).name.replace(".manifest.json", ".scores.sqlite")
            tokenizer = settings.tokenizer if settings.truncation == "tokens" else None  # words need none
            self.store = ScoreStore(settings.store or output.with_name(default), {
                "judge": name, "kind": settings.judge, "dtype": settings.dtype, "prompt_version": prompts.VERSION,
                "truncation": settings.truncation, "truncation_k": settings.truncation_k, "tokenizer": tokenizer,
            })  # fmt: skip
            self.store.check_prefixes({t.trace_id: t.prefix for traces in groups.values() for t in traces})

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        if self.judge:
            self.judge.close()
        if self.store:
            self.store.__exit__()

    @property
    def parameters(self) -> int:
        """The judge's parameters (0 for judges that are not models)."""
        if self.judge:
            return self.judge.parameters
        return judges.parameters_of(self.settings.judge, self.settings.model)

    def __call__(self, batch: list[tuple[str, int, int]]) -> list[judges.Score]:
        """Scores of (problem, representative, new trace), positions in arrival order."""
        groups = self.groups
        keys = [(groups[i][a].trace_id, groups[i][b].trace_id) for i, a, b in batch]
        self.asked += len(batch)
        if self.store is None:
            return self._judge(batch)
        known = self.store.scores
        missing = [at for at, key in enumerate(keys) if key not in known]
        if missing:
            new = self._judge([batch[at] for at in missing])
            self.store.add([(*keys[at], score) for at, score in zip(missing, new, strict=True)])
        return [known[key] for key in keys]

    def _judge(self, batch: list[tuple[str, int, int]]) -> list[judges.Score]:
        if self.judge is None:
            s = self.settings
            self.judge = judges.open_judge(
                s.judge, s.model, dtype=s.dtype, max_model_len=s.max_model_len, batch=s.batch, seed=s.seed,
                tensor_parallel=s.tensor_parallel, data_parallel=s.data_parallel,
            )  # fmt: skip
        self.scored += len(batch)
        return self.judge.score([self._request(*wanted) for wanted in batch])

    def _request(self, problem: str, a: int, b: int) -> judges.Request:
        first, second = self.groups[problem][a], self.groups[problem][b]
        labels = self.labels[problem]
        return judges.Request(
            self.by_id[problem].question, first.prefix, second.prefix, first.trace_id, second.trace_id,
            int(labels[a] is not None and labels[a] == labels[b]),
        )  # fmt: skip


def prune(
    ids: list[str], groups: dict[str, list[Prefixed]], by_id: dict, scorer: Scorer, rule: ClusterSettings,
    finish: FinishSettings, placed: Callable[[int], None],
) -> list[records.Pruning]:  # fmt: skip
    """Cluster a group of problems in lockstep, finish, vote. One Pruning record a problem."""
    # Judge calls, prompt tokens and cached ones by new trace: a rule that opens fewer traces pays for those only.
    spent = {i: [(0, 0, 0)] * len(groups[i]) for i in ids}

    def score(batch):
        scores = scorer(batch)
        for (i, _, new), s in zip(batch, scores, strict=True):
            calls, tokens, cached = spent[i][new]
            spent[i][new] = calls + 1, tokens + s.prompt_tokens, cached + s.cached_tokens
        return [s.p_same for s in scores]

    runs = {i: clustering.greedy(len(groups[i]), rule, i) for i in ids}
    clusters = clustering.lockstep(runs, score, placed)
    result = []
    for i in ids:
        traces, labels = groups[i], scorer.labels[i]
        where = [-1] * len(traces)
        for number, members in enumerate(clusters[i]):
            for member in members:
                where[member] = number
        done = finishing.play(where, labels, [t.n_tokens for t in traces], [t.prefix_tokens for t in traces], finish, i)
        winner = next(
            (t.answer for t, label in zip(traces, labels, strict=True) if label is not None and label == done.answer),
            None,
        )
        judge = [sum(column) for column in zip(*spent[i][: done.opened], strict=True)]
        result.append(
            records.Pruning(
                i,
                scorer.name,
                dataclasses.asdict(rule)
                | {f"finish_{k}": v for k, v in dataclasses.asdict(finish).items() if k != "seed"},
                [[traces[t].trace_id for t in c] for c in finishing.clusters_of(where[: done.opened])],
                [traces[t].trace_id for t in done.finished],
                winner,
                answers.same(winner, by_id[i].gold, by_id[i].answer_type),
                {
                    "prefix": done.prefix,
                    "rest": done.rest,
                    "total": done.prefix + done.rest,
                    "consensus": sum(t.n_tokens for t in traces),
                    "sequential": done.sequential,
                },
                *judge,
            )  # fmt: skip
        )
    return result


if __name__ == "__main__":
    main()
