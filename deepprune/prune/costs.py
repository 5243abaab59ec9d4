"""What pruning costs and saves, in tokens, the judge included.

All reasoner tokens are counted in the reasoner's own tokens (Trace.n_tokens). The judge's prompt tokens are
weighted by judge parameters / reasoner parameters to give *equivalent reasoner tokens*; tokens that a prefix cache
saves are counted apart and cost nothing here.

What a cache saves is derived and not measured (`judge_tokens`): what an engine measured depends on what else it was
asked before, and a stored score may come from another run. A stored score says how long its prompt was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from deepprune.base.records import Pruning, Trace
from deepprune.judges.pair_prompts import Frame, PairPrompts


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


def total_tokens(prunings: Iterable[Pruning]) -> dict[str, int]:
    """Reasoner tokens of these questions together, by kind; cons@n's among them."""
    totals = dict.fromkeys(("prefix", "rest", "total", "consensus"), 0)
    for pruned in prunings:
        for kind in totals:
            totals[kind] += pruned.tokens[kind]
    return totals


def parameters_from_name(name: str) -> float | None:
    """Parameters that a model's name states ('Qwen2.5-Coder-0.5B' -> 0.5e9), else None: not known.

    Billions before millions: the 1M of 'Qwen2.5-7B-Instruct-1M' is its context.
    """
    stated = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![a-zA-Z])", name.replace("-", " ").replace("_", " "))
    for unit, size in (("B", 1e9), ("M", 1e6)):
        numbers = [float(number) for number, of in stated if of == unit]
        if numbers:
            return numbers[-1] * size
    return None


def prompt_parts(prompts: PairPrompts, question: str, prefixes: Sequence[str]) -> tuple[Frame, list[int]]:
    """(tokens of a pair's prompt beside the two prefixes, tokens of each prefix) of one question's judge prompts."""
    lengths = [len(prompts.tokenizer.encode(prefix, add_special_tokens=False)) for prefix in prefixes]
    return prompts.frame(question), lengths


def judge_tokens(
    asked: Sequence[Sequence[int]],
    prefixes: Sequence[int],
    opened: int,
    frame: Frame,
    stored: Callable[[int, int], int] | None = None,
    block: int = 1,
) -> tuple[int, int]:
    """(judge prompt tokens, of which a prefix cache saves) for one question's comparisons of its first `opened` traces.

    asked[new]: the members that trace `new` was compared with, in the order of asking; prefixes: judge tokens of each
    trace's prefix. A prompt is the frame's head, the member's prefix, the frame's middle, the new trace's prefix, the
    frame's tail; stored(member, new) is its length where a score on disk says it.

    The cache holds, of what this question asked before: the head from the second prompt on, all before the new trace
    from the second prompt that starts with this member on. It forgets nothing. block: an engine that keeps whole blocks
    of so many tokens saves whole ones only (vLLM: 16); 1 is a perfect cache, which is what reports count.
    """
    total = cached = 0
    seen: set[int] = set()
    for new in range(opened):
        end = prefixes[new] + frame.tail
        for member in asked[new]:
            length = stored(member, new) if stored else frame.head + prefixes[member] + frame.middle + end
            total += length
            known = max(0, length - end) if member in seen else frame.head if seen else 0
            cached += known // block * block
            seen.add(member)
    return total, cached


def equivalent_tokens(
    judge_tokens: int, judge_cached: int, judge_parameters: float | None, reasoner_parameters: float | None
) -> float | None:
    """Judge prompt tokens that have to be computed, in reasoner tokens of equal arithmetic.

    None (not known) where a size is not known. A judge of 0 parameters is no model and costs nothing.
    """
    if judge_parameters == 0:
        return 0.0
    if judge_parameters is None or not reasoner_parameters:
        return None
    return (judge_tokens - judge_cached) * judge_parameters / reasoner_parameters
