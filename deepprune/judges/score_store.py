"""A judge's scores on disk, so that no pair is scored twice: across runs, settings and stages.

One SQLite file holds the scores of one judge (its name ends in a hash of its weights), one prompt, one truncation,
one type of weights. A store made with others is refused, never mixed; so is one whose traces have other prefixes now.
Scores are ordered: (a, b) has a as the representative. A killed run loses at most its last batch.

    with ScoreStore("results/scores.sqlite", identity) as store:
        store.check_prefixes({"b0e1...": "So we add ...", ...})
        known = store.get([("b0e1...", "77ab..."), ...])
        store.add([("b0e1...", "77ab...", 0.81, 312, 160), ...])
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepprune.base import config, locks, runtime
from deepprune.base.errors import UserError
from deepprune.base.records import content_hash
from deepprune.base.storage import disk_of, storage_trouble, writing
from deepprune.data.truncation import Truncation
from deepprune.judges.interface import NotAJudge, Score

_TABLES = """
CREATE TABLE IF NOT EXISTS identity (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trace (trace_id TEXT PRIMARY KEY, prefix TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS score (a TEXT, b TEXT, p_same REAL NOT NULL, prompt_tokens INTEGER NOT NULL,
                                  cached_tokens INTEGER NOT NULL, PRIMARY KEY (a, b)) WITHOUT ROWID;
"""


def identity(
    judge: Mapping[str, Any],
    kind: str,
    dtype: str,
    truncation: Truncation,
    tokenizer: str,
    engine_args: Sequence[str] = (),
) -> dict[str, Any]:
    """What makes a model's score of two trace ids what it is.

    judge: judges.describe of it; tokenizer: cuts, in truncation by tokens (words need none); engine_args: further ones
    of its engine, which may quantise it.
    """
    more = {"engine_args": sorted(engine_args)} if engine_args else {}
    return (
        more
        | {
            "judge": judge["name"],
            "judge_sha256": judge["sha256"],
            "kind": kind,
            "dtype": config.AS_SERVED if kind == "server" else runtime.compute_dtype(dtype),
            "logits": "float32",
            "prompt_version": judge["prompt_version"],
            "truncation": truncation.strategy,
            "truncation_k": truncation.k,
            "tokenizer": tokenizer if truncation.strategy == "tokens" else None,
        }
        | ({"reasoning_words": truncation.words_version} if truncation.words else {})
    )


def score_tables(scores: Mapping[tuple[str, str], Score], traces: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(p_same, prompt tokens) of every pair of these trace ids, each (n, n) and symmetric; with itself: 1 and 0.

    Each pair was scored in this order: (earlier, later). Raises KeyError for one that was not.
    """
    n = len(traces)
    p_same, tokens = np.ones((n, n)), np.zeros((n, n), dtype=np.int64)
    for a, b in itertools.combinations(range(n), 2):
        score = scores[traces[a], traces[b]]
        p_same[a, b] = p_same[b, a] = score.p_same
        tokens[a, b] = tokens[b, a] = score.prompt_tokens
    return p_same, tokens


class ScoreStore:
    """Scores by (representative's trace id, new trace's id)."""

    def __init__(self, path: str | Path, identity: Mapping[str, Any], least_label_mass: float = 0.0):
        """Open or create. identity: what makes a score what it is (judge, prompt version, truncation, dtype ...).

        Raises UserError if the file is no store, was made with another identity, is in use by another process, or holds
        the scores of a model whose labels had less than least_label_mass of the probability (judges.Judge).
        """
        self.path = Path(path)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        locks.hold(self.path)
        self.scores: dict[tuple[str, str], Score] = {}
        try:
            self.db = sqlite3.connect(self.path)
            self.db.executescript(_TABLES)
            old = {k: json.loads(v) for k, v in self.db.execute("SELECT key, value FROM identity")}
            now = json.loads(json.dumps(dict(identity)))
            if old and old != now:
                different = [
                    f"{k}: {old.get(k)!r} there, {now.get(k)!r} now"
                    for k in sorted(set(old) | set(now))
                    if old.get(k) != now.get(k)
                ]
                same_type = (
                    f"go on with --dtype {old['dtype']}, "
                    if old.get("dtype", now.get("dtype")) != now.get("dtype")
                    else ""
                )
                raise UserError(
                    f"{self.path}: holds scores made otherwise ({'; '.join(different)}); {same_type}choose "
                    "another store or delete it"
                )
            with self.db:
                self.db.executemany(
                    "INSERT OR IGNORE INTO identity VALUES (?, ?)", [(k, json.dumps(v)) for k, v in now.items()]
                )
            for a, b, *score in self.db.execute("SELECT a, b, p_same, prompt_tokens, cached_tokens FROM score"):
                self.scores[a, b] = Score(*score)
            notes = dict(self.db.execute("SELECT key, value FROM note"))
            self.label_mass: dict[str, float] | None = json.loads(notes.get("label_mass", "null"))
        except (sqlite3.DatabaseError, NotAJudge) as error:
            trouble = _trouble(self.path, error)
            raise UserError(
                trouble or f"{self.path}: cannot be used as a score store ({error}); choose another or delete it"
            ) from error

        if self.label_mass and self.label_mass["mean"] < least_label_mass:
            raise NotAJudge(
                f"{self.path}: holds scores of a model that gave the judge's labels {self.label_mass['mean']} of the "
                f"probability, less than {least_label_mass}; --least-label-mass 0 uses them all the same"
            )

    def __enter__(self) -> ScoreStore:
        return self

    def __exit__(self, *_) -> None:
        self.db.close()
        locks.release(self.path)

    def __len__(self) -> int:
        return len(self.scores)

    def check_prefixes(self, prefixes: Mapping[str, str]) -> None:
        """Note the prefix (by hash) of each trace id. Raises UserError if a trace had another one before."""
        hashes = {trace: content_hash(prefix) for trace, prefix in prefixes.items()}
        known = dict(self.db.execute("SELECT trace_id, prefix FROM trace"))
        changed = [t for t, h in hashes.items() if known.get(t, h) != h]
        if changed:
            raise UserError(
                f"{self.path}: {len(changed)} traces (the first: {changed[0]}) have another prefix than when they were "
                "scored: the traces or their truncation changed; choose another store or delete it"
            )
        self._write("INSERT OR IGNORE INTO trace VALUES (?, ?)", hashes.items())

    def get(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Score]:
        """The scores that are there, by pair."""
        return {pair: self.scores[pair] for pair in pairs if pair in self.scores}

    def tables(self, traces: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """`score_tables` of these trace ids."""
        return score_tables(self.scores, traces)

    def add(self, rows: Sequence[tuple[str, str, Score]]) -> None:
        """Keep scores: (representative, new trace, score). On disk when this returns."""
        self._write(
            "INSERT OR REPLACE INTO score VALUES (?, ?, ?, ?, ?)",
            [(a, b, s.p_same, s.prompt_tokens, s.cached_tokens) for a, b, s in rows],
        )
        self.scores.update({(a, b): s for a, b, s in rows})

    def note_label_mass(self, label_mass: Mapping[str, float] | None) -> None:
        """Keep what was read of the judge's label mass (judges.Judge), of as many prompts as were read so far."""
        if label_mass is not None and label_mass["prompts"] > (self.label_mass or {"prompts": 0})["prompts"]:
            self.label_mass = dict(label_mass)
            self._write("INSERT OR REPLACE INTO note VALUES ('label_mass', ?)", [(json.dumps(self.label_mass),)])

    def _write(self, statement: str, rows: Iterable) -> None:
        try:
            with self.db:
                self.db.executemany(statement, rows)
        except sqlite3.OperationalError as error:  # a full disk, a file in use
            raise UserError(
                _trouble(self.path, error)
                or f"{self.path}: {error}; scores written before are kept, run the same command again"
            ) from error


def _trouble(path: Path, error: Exception) -> str | None:
    """What is to be done about an error that is the disk's and not the store's; None for others."""
    if "unable to open database file" in str(error) or "disk i/o error" in str(error).lower():
        advice = "scores written before are kept, see to the disk and run the same command again"
        return f"{path}: {error} ({disk_of(path)}); {advice}"
    trouble = storage_trouble(error, path)
    return trouble and f"{trouble}; scores written before are kept, run the same command again"
