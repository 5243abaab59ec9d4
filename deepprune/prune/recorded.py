"""Pruning of recorded traces: scores from a store or the judge; many problems are replayed in lockstep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepprune import judges
from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.manifest import manifest_path
from deepprune.base.records import Problem, Pruning
from deepprune.data import answers
from deepprune.judges import score_store
from deepprune.judges.score_store import ScoreStore
from deepprune.prune import clustering, costs, finishing, rules
from deepprune.prune.methods.deepprune import Clustering, DeepPruneSettings, deepprune
from deepprune.prune.prefixes import Prefixed
from deepprune.prune.replay import Played, Recorded, replay
from deepprune.prune.rules import RuleSettings

Asked = tuple[int, judges.Score]  # a comparison of a new trace: with which member, and what the judge said


@dataclasses.dataclass
class PruneSettings(RuleSettings, judges.JudgeSettings, judges.JudgeServerSettings):
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    output: str = setting(
        config.REQUIRED, "JSONL file of Pruning records; appended to when it exists", ends=config.JSONL
    )
    traces: str = setting("DeepPrune_data/online_test_data/deepprune_pairs.jsonl", "JSONL file of Trace records")
    judge: str = setting("vllm", "kind of judge", choices=judges.kinds())
    model: str | None = setting(None, "the judge's model: folder, LoRA adapter folder or hub id")
    reasoner: str | None = setting(None, "only traces of this model (default: all must be of one)")
    limit: int | None = setting(None, "only so many problems, spread evenly over the file", free=True, at_least=1)
    n: int | None = setting(None, "only the first n traces of each problem", at_least=1)
    order: str = setting("recorded", "arrival order of a problem's traces", choices=("recorded", "shuffled"))
    tokenizer: str = setting("Qwen/Qwen3-4B-Instruct-2507", "model whose tokenizer cuts and counts")
    lockstep: int = setting(16, "problems that advance together", free=True, at_least=1)
    store: str | None = setting(None, "SQLite file of a model's scores (default: beside the output)", free=True)
    overwrite: bool = setting(False, "replace an existing output")

    def judged_by(self) -> tuple[str, str | None]:
        return self.judge, self.model

    def store_path(self) -> Path:
        """The file of a model's scores."""
        default = manifest_path(self.output).name.replace(".manifest.json", ".scores.sqlite")
        return Path(self.store or Path(self.output).with_name(default))


class Judges:
    """Judges by kind, model and options: runs that follow each other in one process share the engine of one judge."""

    def __init__(self) -> None:
        self.opened: dict[tuple, judges.Judge] = {}

    def open(self, settings: PruneSettings) -> judges.Judge:
        key = (settings.judge, settings.model, str(judges.JudgeOptions.of(settings)))
        if key not in self.opened:
            self.opened[key] = judges.open_judge(settings.judge, settings.model, settings)
        return self.opened[key]

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_) -> None:
        for judge in self.opened.values():
            judge.close()


class TraceScorer:
    """Scores of pairs of recorded traces: from the store where they are known, else from the judge.

    The judge is opened when it is first needed. Judges that are not models (oracle, random) have no store: their scores
    cost nothing. described: judges.describe of the judge; groups: traces by problem, in arrival order.
    """

    def __init__(
        self,
        settings: PruneSettings,
        described: Mapping[str, Any],
        problems: Mapping[str, Problem],
        groups: Mapping[str, list[Prefixed]],
        opened: Judges,
    ):
        self.settings, self.problems, self.groups, self.judges = settings, problems, groups, opened
        self.name, self.kind = described["name"], judges.KINDS[settings.judge]
        self.judge: judges.Judge | None = None
        self.prompts: Any = None  # the judge's own
        self.store: ScoreStore | None = None
        self.asked = self.scored = 0
        self.labels = {
            i: answers.classes([t.answer for t in traces], problems[i].answer_type) for i, traces in groups.items()
        }
        if self.kind.stored:
            identity = score_store.identity(
                described,
                settings.judge,
                settings.dtype,
                settings.cut(),
                settings.tokenizer,
                settings.engine_args,
            )
            self.store = ScoreStore(settings.store_path(), identity, settings.least_label_mass)
            self.store.check_prefixes({t.trace_id: t.prefix for traces in groups.values() for t in traces})

    def __enter__(self) -> TraceScorer:
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
        """(judge calls, prompt tokens, of which a prefix cache saves) of a problem's first `opened` traces."""
        scores = [s for given in asked[:opened] for _, s in given]
        calls = sum(s.calls for s in scores)
        if self.kind.classifies or not self.kind.stored:
            return calls, sum(s.prompt_tokens for s in scores), sum(s.cached_tokens for s in scores)
        traces = [t.prefix for t in self.groups[problem]]
        if self.kind.per_trace:  # reads each trace once
            return calls, sum(self._opened().encode(traces[:opened])[1]), 0
        if self.prompts is None:
            self.prompts = judges.prompts_of(self.settings.model, self.settings.judge_profile)
        frame, lengths = costs.prompt_parts(self.prompts, self.problems[problem].question, traces)
        stored = {(member, new): s.prompt_tokens for new, given in enumerate(asked) for member, s in given}
        members = [[member for member, _ in given] for given in asked]
        return calls, *costs.judge_tokens(members, lengths, opened, frame, lambda a, b: stored[a, b])

    def recorded(self, problem: str) -> Recorded:
        """A problem's traces as methods are played on them."""
        traces = self.groups[problem]
        return Recorded(self.labels[problem], [t.n_tokens for t in traces], [t.prefix_tokens for t in traces])

    def _opened(self) -> judges.Judge:
        if self.judge is None:
            self.judge = self.judges.open(self.settings)
        return self.judge

    def _judge(self, batch: list[tuple[str, int, int]]) -> list[judges.Score]:
        self.scored += len(batch)
        return self._opened().score([self._request(*pair) for pair in batch])

    def _request(self, problem: str, a: int, b: int) -> judges.Request:
        first, second = self.groups[problem][a], self.groups[problem][b]
        labels = self.labels[problem]
        return judges.Request(
            self.problems[problem].question,
            first.prefix,
            second.prefix,
            first.trace_id,
            second.trace_id,
            int(labels[a] is not None and labels[a] == labels[b]),
        )


def prune(ids: Sequence[str], scorer: TraceScorer, placed: Callable[[int], None]) -> list[Pruning]:
    """Prune a group of problems in lockstep. placed: told how many traces were placed, or will not be opened."""
    groups, settings = scorer.groups, scorer.settings
    method = DeepPruneSettings(settings.cluster_rule(), settings.finish_rule())
    # What the judge was asked, by new trace.
    asked: dict[str, list[list[Asked]]] = {i: [[] for _ in groups[i]] for i in ids}
    left = sum(len(groups[i]) for i in ids)

    def score(batch):
        scores = scorer(batch)
        for (i, member, new), s in zip(batch, scores, strict=True):
            asked[i][new].append((member, s))
        return [s.p_same for s in scores]

    def progress(count: int) -> None:
        nonlocal left
        left -= count
        placed(count)

    clusters = {i: Clustering(len(groups[i]), method.cluster, i) for i in ids}
    runs = {i: replay(deepprune(len(groups[i]), method, i, clusters[i]), scorer.recorded(i)) for i in ids}
    played = clustering.lockstep(runs, score, progress)
    placed(left)
    return [_pruning(scorer, i, played[i], clusters[i], asked[i]) for i in ids]


def _pruning(scorer: TraceScorer, key: str, played: Played, clusters: Clustering, asked: list[list[Asked]]) -> Pruning:
    """The Pruning record. asked: what the judge was asked about each trace."""
    settings, problem, traces, labels = scorer.settings, scorer.problems[key], scorer.groups[key], scorer.labels[key]
    rule, finish = settings.cluster_rule(), settings.finish_rule()
    won = (t.answer for t, label in zip(traces, labels, strict=True) if label is not None and label == played.answer)
    winner = next(won, None)
    return Pruning(
        key,
        scorer.name,
        rules.recorded(rule, finish, settings.cut(), len(traces), settings.order),
        [[traces[t].trace_id for t in c] for c in finishing.first(clusters.clusters, played.opened)],
        [traces[t].trace_id for t in played.finished],
        winner,
        answers.same(winner, problem.gold, problem.answer_type),
        {
            "prefix": played.prefix,
            "rest": played.rest,
            "total": played.tokens,
            "consensus": sum(t.n_tokens for t in traces),
            "sequential": played.sequential,
        },
        *scorer.cost(key, asked, played.opened),
    )
