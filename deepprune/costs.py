"""What pruning costs and saves, in tokens, the judge included.

All reasoner tokens are counted in the reasoner's own tokens (Trace.n_tokens). The judge's prompt tokens are
weighted by judge parameters / reasoner parameters to give *equivalent reasoner tokens*; tokens that came from
the prefix cache are counted apart and cost nothing here.
"""

from __future__ import annotations

import re

from deepprune.records import Trace


def prefix_tokens(trace: Trace, prefix: str, count, sample: int = 4000) -> int:
    """Reasoner tokens of a trace's prefix.

    count(text) may be another model's tokenizer: its share of the whole text is applied to the recorded
    n_tokens, so that a whole trace costs exactly n_tokens. Of a long rest only the first `sample` characters are
    counted and extrapolated, so that the time follows the prefix and not the trace.
    """
    if prefix == trace.text:
        return trace.n_tokens
    start, rest = count(prefix), trace.text[len(prefix) :]
    counted = rest[:sample]
    whole = max(start + count(counted) * len(rest) / len(counted), 1)
    return min(trace.n_tokens, round(trace.n_tokens * start / whole))


def reduction(spent: float, consensus: float) -> float:
    """Token reduction against cons@n: 1 - spent / consensus (negative when pruning costs more)."""
    return 1.0 - spent / consensus if consensus else float("nan")


def parameters_from_name(name: str) -> float | None:
    """Parameters that a model's name states ('Qwen2.5-Coder-0.5B' -> 0.5e9), else None."""
    found = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![a-zA-Z])", name.replace("-", " ").replace("_", " "))
    return float(found[-1][0]) * {"B": 1e9, "M": 1e6}[found[-1][1]] if found else None


def equivalent_tokens(
    judge_tokens: int, judge_cached: int, judge_parameters: float, reasoner_parameters: float
) -> float:
    """Judge prompt tokens that were really computed, in reasoner tokens of equal arithmetic."""
    return (judge_tokens - judge_cached) * judge_parameters / reasoner_parameters
