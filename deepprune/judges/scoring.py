"""Scoring pairs with a judge: what stage 04 and the two scripts of Preliminaries/ share.

Each score is on disk when it is known; a killed run goes on with the same command.

A record: {"pair_id": "77ab...", "judge": "judge@1f3c9a2b", "p_same": 0.81, "verdict": true,
           "prompt_tokens": 312, "cached_tokens": 160}
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deepprune import judges
from deepprune.base import config, console, metrics, progress, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.data import pairs
from deepprune.judges import Judge, JudgeServerSettings, JudgeSettings, Request
from deepprune.judges.profiles import DEFAULT, Profile
from deepprune.judges.score_store import ScoreStore


@dataclasses.dataclass
class ScoringSettings:
    """What every script that scores pairs can be told."""

    output: str = setting(
        config.REQUIRED, "JSONL file of PairScore records; appended to when it exists", ends=config.JSONL
    )
    pairs: str = setting("DeepPrune_data/offline_test_data/deepprune_pairs.jsonl", "JSONL file of Pair records")
    resamples: int = config.resamples(free=True)
    seed: int = config.seed("seed of the bootstrap (and of the random judge)")
    overwrite: bool = setting(False, "replace an existing output")


@dataclasses.dataclass
class ModelSettings(ScoringSettings, JudgeSettings, JudgeServerSettings):
    """What scripts that score with a language model can be told."""


def run(
    settings: ScoringSettings,
    described: dict[str, Any],
    open_judge: Callable[[], Judge],
    made_from: dict[str, Any],
    profile: Profile = DEFAULT,
) -> None:
    """Score the pairs that are not scored yet, print AUROC, TNR@0.2 and accuracy, finish the manifest.

    described: judges.describe of the judge, in the manifest before the first score; open_judge: called only when a pair
    is left to score; made_from: the settings that make a score what it is (an output made with others is refused);
    profile: the judge's, whose truncation the pairs should have.
    """
    name = described["name"]
    in_file = list(records.read(records.Pair, settings.pairs))
    to_judge = pairs.scoring_order(in_file)
    if not to_judge:
        raise UserError(f"{settings.pairs}: no pairs; make them with Offline/build_pair_dataset.py")
    cuts = [dict(cut) for cut in dict.fromkeys(tuple(p.truncation.items()) for p in to_judge)]
    profile.check_truncation(cuts, getattr(settings, "other_truncation", False))
    free = config.free_settings(type(settings))
    manifest = Manifest.open(
        settings.output, "evaluate", made_from, [settings.pairs], free, settings.overwrite, {"judge": name}
    )
    judges.note(manifest, described)
    with manifest.appender() as out:
        if out.repaired:
            print(f"{settings.output}: removed a cut-off last line left by a killed run")
        scores = {s.pair_id: s for s in records.read(records.PairScore, settings.output)}
        todo = [p for p in to_judge if p.pair_id not in scores]
        print(f"{len(to_judge)} pairs: {len(to_judge) - len(todo)} scored before, {len(todo)} to score with {name}")
        if todo:
            for record in scored(todo, open_judge(), name, manifest):
                out.append(records.to_row(record))
                scores[record.pair_id] = record
    table = metrics.judge_table(  # in the file's order, as in the report: intervals are drawn in it
        [p.label for p in in_file],
        [scores[p.pair_id].p_same for p in in_file],
        [p.problem_id for p in in_file],
        settings.resamples,
        settings.seed,
    )
    problems = len({p.problem_id for p in to_judge})
    console.detail(f"{len(to_judge)} pairs of {problems} problems, judge {name}; 95 % intervals over problems")
    tokens = sum(scores[p.pair_id].prompt_tokens for p in to_judge)
    cached = sum(scores[p.pair_id].cached_tokens for p in to_judge)
    show(table, tokens, cached)
    manifest.finish(len(scores), metrics=table, prompt_tokens=tokens, cached_tokens=cached)


def scored(todo: Sequence[records.Pair], judge: Judge, name: str, manifest: Manifest) -> Iterator[records.PairScore]:
    """The judge's score of each pair as it becomes known; notes its label mass in the manifest; closes the judge."""
    started = time.monotonic()
    requests = (Request.of(p) for p in todo)
    for position, score in progress.bar(judge.stream(requests), total=len(todo), desc="pairs", unit="pair"):
        verdict = score.p_same > 0.5
        tokens = score.prompt_tokens, score.cached_tokens
        yield records.PairScore(todo[position].pair_id, name, score.p_same, verdict, *tokens)
        judges.note_mass(manifest, judge.label_mass)
    console.detail(f"{len(todo) / (time.monotonic() - started):.1f} pairs/s")
    judge.close()
    if judge.label_mass:
        text = "its labels' probability among all tokens: mean {mean}, least {least} on the first {prompts} prompts"
        console.detail(text.format(**judge.label_mass))


def show(table: dict[str, dict[str, float]], tokens: int, cached: int) -> None:
    """Print a judge's metrics (metrics.judge_table) and the prompt tokens that it read."""
    shown = {}
    for metric, row in table.items():
        value = "n/a (one class)" if math.isnan(row["value"]) else f"{row['value']:.4f}"
        shown[metric] = f"{value}  {metrics.in_brackets(row['low'], row['high'], '.4f')}"
        console.detail(f"  {metric:<22} {shown[metric]}")
    share = cached / max(tokens, 1)
    console.detail(f"prompt tokens {tokens:,}, of which {cached:,} ({share:.1%}) from the prefix cache")
    console.brief(f"AUROC {shown['auroc']}, TNR@0.2 {shown['tnr_at_0.2_fnr']}".replace("  [", " ["))


def fill(
    store: ScoreStore,
    requests: Sequence[Request],
    open_judge: Callable[[], Judge],
    batch: int,
    what: str,
    most: int | None = None,
) -> None:
    """Score what the store does not hold yet. open_judge: called only then; what: for the bar.

    Raises UserError for more than `most` pairs to score.
    """
    todo = [r for r in requests if (r.trace_a, r.trace_b) not in store.scores]
    print(f"{what}: {len(requests):,} pairs, {len(todo):,} to score")
    if most is not None and len(todo) > most:
        raise UserError(
            f"{what}: {len(todo):,} pairs are more than --max-pairs {most:,}: take fewer traces (--n) or raise it"
        )
    if not todo:
        return
    judge = open_judge()
    with progress.bar(total=len(todo), desc=what, unit="pair") as bar:
        for start in range(0, len(todo), 4 * batch):
            chunk = todo[start : start + 4 * batch]
            scores = judge.score(chunk)
            store.add([(r.trace_a, r.trace_b, s) for r, s in zip(chunk, scores, strict=True)])
            store.note_label_mass(judge.label_mass)
            bar.update(len(chunk))
    judge.close()


def load(paths: Sequence[str | Path], to_judge: Sequence[records.Pair]) -> dict[str, dict[str, records.PairScore]]:
    """judge -> pair id -> score. Raises UserError unless every file holds one judge's scores of exactly these pairs."""
    wanted: set[str] = {p.pair_id for p in to_judge}
    result: dict[str, dict[str, records.PairScore]] = {}
    for path in paths:
        scores = {s.pair_id: s for s in records.read(records.PairScore, path)}
        if set(scores) != wanted:
            raise UserError(
                f"{path}: scores {len(scores)} pairs, of which {len(set(scores) & wanted)} are among the "
                f"{len(wanted)} given; judges are compared on the same pairs only: score these pairs again"
            )
        names = {s.judge for s in scores.values()}
        if len(names) != 1 or names & set(result):
            raise UserError(f"{path}: expected the scores of one further judge, found {', '.join(sorted(names))}")
        result[names.pop()] = scores
    return result
