"""Stage 05: prune recorded traces by greedy clustering, finish a few, vote.

    python Online/greedy_cluster_threshold.py --config scripts/recipes/cpu.yaml --model results/demo/judge \
        --problems DeepPrune_data/problems/*.jsonl --output results/demo/pruning.jsonl
    python Online/greedy_cluster_threshold.py --judge oracle --problems ... --output oracle.jsonl
    python Online/greedy_cluster_threshold.py ... --output paper.jsonl --then --asks likely --output likely.jsonl

After --then come the options in which a further run differs: the runs follow each other in one process, and share the engine
of one judge.

Many problems advance in lockstep, so that each call to the judge is large. A model's scores are kept in a store
(OUTPUT.scores.sqlite, or --store to share one between runs): no pair is scored twice, and a killed run goes on with the
same command. Finished groups of problems are on disk.

A record: {"problem_id": "6c1f...", "judge": "judge@1f3c9a2b", "settings": {"tau": 0.5, ...},
           "clusters": [["b0e1...", ...], ...], "finished": ["b0e1...", ...], "answer": "42", "correct": true,
           "tokens": {"prefix": 820, "rest": 1440, "total": 2260, "consensus": 5210, "sequential": 310},
           "judge_calls": 61, "judge_tokens": 17800, "judge_cached_tokens": 9100}
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deepprune import judges
from deepprune.base import config, console, progress, records, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest, manifest_path
from deepprune.base.stage import command
from deepprune.data import answers, problems
from deepprune.engines import models
from deepprune.judges import score_store
from deepprune.judges.score_store import ScoreStore
from deepprune.prune import clustering, costs, finishing, prefixes, rules
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.prefixes import Prefixed
from deepprune.prune.rules import RuleSettings

Asked = tuple[int, judges.Score]  # a comparison of a new trace: with which member, and what the judge said


@dataclasses.dataclass
class PruneSettings(RuleSettings, judges.JudgeSettings):
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    output: str = setting(
        config.REQUIRED, "JSONL file of Pruning records; appended to when it exists", ends=config.JSONL
    )
    traces: str = setting("DeepPrune_data/online_test_data/deepprune_pairs.jsonl", "JSONL file of Trace records")
    judge: str = setting("vllm", "kind of judge", choices=judges.kinds(needs_url=False))
    model: str | None = setting(None, "the judge's model: folder, LoRA adapter folder or hub id")
    reasoner: str | None = setting(None, "only traces of this model (default: all must be of one)")
    limit: int | None = setting(None, "only so many problems, spread evenly over the file", free=True, at_least=1)
    n: int | None = setting(None, "only the first n traces of each problem", at_least=1)
    order: str = setting("recorded", "arrival order of a problem's traces", choices=("recorded", "shuffled"))
    tokenizer: str = setting("Qwen/Qwen3-4B-Instruct-2507", "model whose tokenizer cuts and counts")
    lockstep: int = setting(16, "problems that advance together", free=True, at_least=1)
    store: str | None = setting(None, "SQLite file of a model's scores (default: beside the output)", free=True)
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    runs = config.parse_runs(PruneSettings, "prune", __doc__)
    for settings in runs:
        settings.cluster_rule(), settings.finish_rule()
        records.read_problems(*settings.problems)
    if any(judges.KINDS[settings.judge].needs_vllm for settings in runs):
        runtime.ensure()
    opened: dict[tuple, judges.Judge] = {}
    try:
        for settings in runs:
            prune_all(settings, opened)
    finally:
        for judge in opened.values():
            judge.close()


def prune_all(settings: PruneSettings, opened: dict[tuple, judges.Judge]) -> None:
    """One run. opened: judges of the runs before, which are used again; a new one is added."""
    rule, finish = settings.cluster_rule(), settings.finish_rule()
    by_id = records.read_problems(*settings.problems)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    groups = select(settings, by_id, tokenizer)
    console.detail(prefixes.whole_line((t.whole, t.answer) for group in groups.values() for t in group))
    described = judges.describe(settings.judge, settings.model, settings.seed, settings.judge_profile)
    profile = judges.profile_of(settings.judge, settings.model, settings.judge_profile)
    profile.check_truncation([settings.cut().as_dict()], settings.other_truncation)
    name = described["name"]
    kept = settings.made_from(described["prompt_version"])
    kept.pop("problems"), kept.pop("traces"), kept.pop("model")
    manifest = Manifest.open(
        settings.output,
        "prune",
        kept,
        [*settings.problems, settings.traces],
        config.free_settings(PruneSettings),
        settings.overwrite,
        {"judge": name},
        also=[store_of(settings)],
    )
    judges.note(manifest, described)

    with manifest.appender() as out:
        done = {p.problem_id for p in records.read(records.Pruning, settings.output)}
        todo = [i for i in groups if i not in done]
        print(f"{len(groups)} problems: {len(groups) - len(todo)} done before, {len(todo)} to prune with {name}")
        if described["parameters"] is None:
            print(f"the size of the judge {name} is not known: neither is its cost, in reasoner tokens")
        if todo:
            with Scorer(settings, described, by_id, groups, opened) as scorer:
                with progress.bar(total=sum(len(groups[i]) for i in todo), desc="traces placed", unit="trace") as bar:
                    for start in range(0, len(todo), settings.lockstep):
                        some = todo[start : start + settings.lockstep]
                        for record in prune(some, groups, by_id, scorer, rule, finish, bar.update):
                            out.append(records.to_row(record))
                            judges.note_mass(manifest, scorer.label_mass)
                console.detail(f"{scorer.asked:,} pairs asked about, {scorer.scored:,} of them scored now")
    rows = [p for p in records.read(records.Pruning, settings.output) if p.problem_id in groups]
    if not rows:
        raise UserError(f"{settings.traces}: no problem to prune; give other traces or a larger --limit")
    total = {k: sum(p.tokens[k] for p in rows) for k in ("prefix", "rest", "total", "consensus")}
    print(
        f"{len(rows)} problems, judge {name}: accuracy {sum(p.correct is True for p in rows) / len(rows):.3f}, "
        f"tokens {total['total']:,} of {total['consensus']:,} for cons@n: reduction "
        f"{costs.reduction(total['total'], total['consensus']):.1%} without the judge's cost; judge: "
        f"{sum(p.judge_calls for p in rows):,} calls, {sum(p.judge_tokens for p in rows):,} prompt tokens, "
        f"{sum(p.judge_cached_tokens for p in rows):,} of them in a perfect prefix cache"
    )
    manifest.finish(len(rows), tokens=total)


def store_of(settings: PruneSettings) -> Path:
    """The file of a model's scores."""
    default = manifest_path(settings.output).name.replace(".manifest.json", ".scores.sqlite")
    return Path(settings.store or Path(settings.output).with_name(default))


def select(settings: PruneSettings, by_id: dict, tokenizer) -> dict[str, list[Prefixed]]:
    """Traces by problem, in arrival order, of one reasoner, problems spread evenly when limited."""
    groups = prefixes.select([settings.traces], settings.cut(), tokenizer, by_id, settings.reasoner, pruned=True)
    stopped = sum(t.pruned for group in groups.values() for t in group)
    if stopped:
        print(
            f"{settings.traces}: {stopped} traces were stopped by live pruning: the clusters are those of whole traces, but votes "
            "and tokens know only what was generated"
        )
    keys = problems.spread(list(groups), settings.limit)
    return {key: prefixes.arrival(groups[key], settings.n, settings.order, settings.seed, key) for key in keys}


class Scorer:
    """Scores of pairs of traces: from the store where they are known, else from the judge, opened when first needed.

    Judges that are not models (oracle, random) have no store: their scores cost nothing. opened: see `prune_all`.
    """

    def __init__(
        self, settings: PruneSettings, described: dict, by_id: dict, groups: dict[str, list[Prefixed]], opened: dict
    ):
        self.opened = opened
        self.settings, self.by_id, self.groups = settings, by_id, groups
        self.name, self.parameters = described["name"], described["parameters"]
        self.judge: judges.Judge | None = None
        self.prompts: Any = None  # the judge's own
        self.store: ScoreStore | None = None
        self.asked = self.scored = 0
        self.labels = {
            i: answers.classes([t.answer for t in traces], by_id[i].answer_type) for i, traces in groups.items()
        }
        if judges.KINDS[settings.judge].stored:
            made = score_store.identity(described, settings.judge, settings.dtype, settings.cut(), settings.tokenizer)
            self.store = ScoreStore(store_of(settings), made, settings.least_label_mass)
            self.store.check_prefixes({t.trace_id: t.prefix for traces in groups.values() for t in traces})

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        if self.store:
            self.store.__exit__()

    @property
    def label_mass(self) -> dict[str, float] | None:
        """See judges.Judge; of the stored scores where the judge was not asked."""
        return (self.judge.label_mass if self.judge else None) or (self.store.label_mass if self.store else None)

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
            self.store.note_label_mass(self.judge.label_mass)
        return [known[key] for key in keys]

    def cost(self, problem: str, asked: Sequence[Sequence[Asked]], opened: int) -> tuple[int, int, int]:
        """(judge calls, prompt tokens, of which a prefix cache saves) of a problem's first `opened` traces (see costs.py)."""
        scores = [s for given in asked[:opened] for _, s in given]
        calls = sum(s.calls for s in scores)
        kind = judges.KINDS[self.settings.judge]
        if kind.classifies or not kind.stored:
            return calls, sum(s.prompt_tokens for s in scores), sum(s.cached_tokens for s in scores)
        traces = [t.prefix for t in self.groups[problem]]
        if kind.per_trace:  # reads each trace once
            return calls, sum(self._opened().encode(traces[:opened])[1]), 0
        if self.prompts is None:
            self.prompts = judges.prompts_of(self.settings.model, self.settings.judge_profile)
        frame, lengths = costs.prompt_parts(self.prompts, self.by_id[problem].question, traces)
        stored = {(member, new): s.prompt_tokens for new, given in enumerate(asked) for member, s in given}
        members = [[member for member, _ in given] for given in asked]
        return calls, *costs.judge_tokens(members, lengths, opened, frame, lambda a, b: stored[a, b])

    def _opened(self) -> judges.Judge:
        if self.judge is None:
            s = self.settings
            key = (s.judge, s.model, *dataclasses.astuple(judges.JudgeOptions.of(s)))
            if key not in self.opened:
                self.opened[key] = judges.open_judge(s.judge, s.model, s)
            self.judge = self.opened[key]
        return self.judge

    def _judge(self, batch: list[tuple[str, int, int]]) -> list[judges.Score]:
        self.scored += len(batch)
        return self._opened().score([self._request(*wanted) for wanted in batch])

    def _request(self, problem: str, a: int, b: int) -> judges.Request:
        first, second = self.groups[problem][a], self.groups[problem][b]
        labels = self.labels[problem]
        return judges.Request(
            self.by_id[problem].question,
            first.prefix,
            second.prefix,
            first.trace_id,
            second.trace_id,
            int(labels[a] is not None and labels[a] == labels[b]),
        )


def prune(
    ids: list[str],
    groups: dict[str, list[Prefixed]],
    by_id: dict,
    scorer: Scorer,
    rule: ClusterSettings,
    finish: FinishSettings,
    placed: Callable[[int], None],
) -> list[records.Pruning]:
    """Cluster a group of problems in lockstep, finish, vote. One Pruning record a problem."""
    # What the judge was asked, by new trace: a rule that opens fewer traces pays for those only.
    asked: dict[str, list[list[Asked]]] = {i: [[] for _ in groups[i]] for i in ids}

    def score(batch):
        scores = scorer(batch)
        for (i, member, new), s in zip(batch, scores, strict=True):
            asked[i][new].append((member, s))
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
        calls, tokens, cached = scorer.cost(i, asked[i], done.opened)
        result.append(
            records.Pruning(
                i,
                scorer.name,
                rules.recorded(rule, finish, scorer.settings.cut(), len(traces), scorer.settings.order),
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
                calls,
                tokens,
                cached,
            )
        )
    return result


if __name__ == "__main__":
    main()
