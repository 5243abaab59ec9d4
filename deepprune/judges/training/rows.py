"""Training rows as LLaMA-Factory reads them: written from pairs, measured in the judge's tokens, registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from deepprune.base import console, jsonl, locks
from deepprune.base.errors import UserError
from deepprune.base.records import Pair
from deepprune.judges.interface import Request
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import Profile


def within_cutoff(train_pairs: list[Pair], test_pairs: list[Pair], cutoff: int, prompts: PairPrompts) -> list[Pair]:
    """The training pairs whose prompt is not longer than the cutoff. Raises UserError if there are none."""
    if not train_pairs:
        raise UserError(
            "no training pair: every trace of the training problems is without an answer, or there are none"
        )
    lengths = prompt_lengths(train_pairs, prompts)
    report_lengths("training", lengths, cutoff)
    report_lengths("test", prompt_lengths(test_pairs, prompts), cutoff)
    fitting = [p for p, n in zip(train_pairs, lengths, strict=True) if n <= cutoff]
    if len(fitting) < len(train_pairs):
        print(f"left out {len(train_pairs) - len(fitting)} training pairs longer than the cutoff")
    if not fitting:
        raise UserError(f"no training pair is left: all {len(train_pairs)} are longer than --cutoff {cutoff}")
    return fitting


def training_row(pair: Pair, profile: Profile, tokenizer: Any) -> dict:
    """A pair as LLaMA-Factory reads it, with where it comes from."""
    row = profile.training_row(pair.question, pair.prefix_a, pair.prefix_b, pair.label, tokenizer)
    return row | {"pair_id": pair.pair_id, "problem_id": pair.problem_id, "label": pair.label}


def prompt_lengths(pairs: list[Pair], prompts: PairPrompts) -> list[int]:
    """Judge prompt tokens of each pair."""
    return [len(prompts.ids(Request.of(p))) for p in pairs]


def report_lengths(what: str, lengths: list[int], cutoff: int) -> None:
    """Print the distribution of prompt lengths."""
    if lengths:
        n = np.asarray(lengths)
        console.detail(
            f"{what} prompts, tokens: median {np.median(n):.0f}, 95th percentile {np.percentile(n, 95):.0f}, "
            f"maximum {n.max()}, over the cutoff of {cutoff}: {np.mean(n > cutoff):.1%}"
        )


def balance(when: str, pairs: list[Pair]) -> None:
    """Print the class balance."""
    same = sum(p.label for p in pairs)
    console.detail(f"class balance {when}: {same} same, {len(pairs) - same} different ({same / len(pairs):.1%} same)")


def register(root: Path, name: str) -> None:
    """Add the training file to LLaMA-Factory's dataset_info.json, leaving other entries as they are."""
    path = root / "dataset_info.json"
    locks.hold(path, wait=True)  # data sets of other names may be registered at the same time
    try:
        info = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); mend or delete it") from error
    info[name] = {
        "file_name": f"finetune_data/{name}.jsonl",
        "formatting": "alpaca",
        "columns": {"system": "system", "prompt": "instruction", "query": "input", "response": "output"},
    }
    jsonl.write_json(path, dict(sorted(info.items())), indent=2)
    locks.release(path)
