"""Other ways to vote over n traces, replayed on recorded answers, lengths and confidences.

Every method takes one question's traces in one order and returns an Outcome. Labels are answer classes
(deepprune.data.answers.classes); None is an unknown answer, which costs tokens and does not vote.

Sources: self-consistency (arXiv 2203.11171), Adaptive-Consistency (2305.11860), ESC (2401.10480),
DeepConf (2508.15260).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepprune.base.errors import UserError
from deepprune.data.confidence import full_windows, lowest_group
from deepprune.prune.voting import Labels, beta_confidence, leading, vote

# name -> where it is: called with a question's traces in one order (methods.TraceSet: labels, lengths, confidences)
# and the settings of the comparison (methods.Grid), gives an Outcome for each way that it votes.
BASELINES = {
    "adaptive-consistency": "deepprune.evaluate.baselines:of_adaptive_consistency",
    "esc": "deepprune.evaluate.baselines:of_early_stopping",
    "deepconf": "deepprune.evaluate.baselines:of_deepconf",
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a method did for one question.

    answer: class of the vote's winner (None: no votes). tokens: all tokens generated. sequential: the longest
    chain of dependent generation, in tokens (what latency follows: traces that run in parallel count once).
    finished: positions of the traces generated to the end. opened: how many traces were started.
    """

    answer: int | None
    tokens: int
    sequential: int
    finished: tuple[int, ...]
    opened: int


def consensus(labels: Labels, lengths: Sequence[int], n: int | None = None) -> Outcome:
    """cons@n: the first n traces, all in parallel, one vote each."""
    n = len(labels) if n is None else n
    return Outcome(vote(labels[:n]), sum(lengths[:n]), max(lengths[:n], default=0), tuple(range(n)), n)


def settles_at(labels: Labels) -> int:
    """After how many traces the running vote is the final one and stays it (ties as in `vote`).

    0: the vote is empty from first to last (no trace has an answer).
    """
    final, settled = vote(labels), 0
    votes: Counter = Counter()
    for used, label in enumerate(labels, 1):
        if label is not None:
            votes[label] += 1
        if (max(votes, key=votes.__getitem__) if votes else None) != final:
            settled = used
    return 0 if final is None else settled + 1


def adaptive_consistency(
    labels: Labels, lengths: Sequence[int], threshold: float = 0.95, n: int | None = None, batch: int = 1
) -> Outcome:
    """Traces one after the other until the vote is decided (`beta_confidence` >= threshold), at most n.

    batch: so many in parallel before the vote is looked at again (the paper: 1).
    """
    n = len(labels) if n is None else min(n, len(labels))
    votes: Counter = Counter()
    used = sequential = 0
    while used < n:
        end = min(used + batch, n)
        sequential += max(lengths[used:end])
        votes.update(label for label in labels[used:end] if label is not None)
        used = end
        if votes and beta_confidence(*leading(list(votes.values()))) >= threshold:
            break
    return Outcome(vote(labels[:used]), sum(lengths[:used]), sequential, tuple(range(used)), used)


def early_stopping(labels: Labels, lengths: Sequence[int], window: int = 8, n: int | None = None) -> Outcome:
    """ESC: windows of traces in parallel, until one window agrees unanimously; majority of all traces so far.

    An unknown answer agrees with nothing. Raises UserError for a window below 1.
    """
    if window < 1:
        raise UserError(f"ESC's window should be at least 1, found {window}")
    n = len(labels) if n is None else n
    sequential = used = 0
    while used < n:
        end = min(used + window, n)
        sequential += max(lengths[used:end])
        window_answers = set(labels[used:end])
        used = end
        if len(window_answers) == 1 and None not in window_answers:
            break
    return Outcome(vote(labels[:used]), sum(lengths[:used]), sequential, tuple(range(used)), used)


def deepconf(
    labels: Labels,
    lengths: Sequence[int],
    confidences: Sequence[dict],
    keep: float,
    warmup: int = 16,
    n: int | None = None,
) -> Outcome:
    """DeepConf online. keep 0.1: DeepConf-low, 0.9: DeepConf-high.

    `warmup` traces run whole; their lowest group confidences give the threshold that a share `keep` of them
    exceeds. Every later trace is stopped at the first full window below it. Votes, weighted by lowest group
    confidence: warm-up traces at or above the threshold, and later traces that were not stopped. confidences:
    Trace.confidence of each trace; the recorded stride (tokens between windows) is how finely a stop is
    replayed. Raises UserError where a confidence is missing.
    """
    n = len(labels) if n is None else n
    if any(c is None for c in confidences[:n]):
        raise UserError("DeepConf needs traces with recorded token confidence (scripts/01_sample_traces.py records it)")
    lowest = [lowest_group(c) for c in confidences[:n]]
    warmup = min(warmup, n)
    threshold = float(np.percentile(lowest[:warmup], 100.0 * (1.0 - keep)))
    spent = [int(x) for x in lengths[:n]]
    for i in range(warmup, n):
        stopped = next((end for end, mean in full_windows(confidences[i]) if mean < threshold), None)
        if stopped is not None:
            spent[i] = min(stopped, spent[i])
    voters = [i for i in range(n) if lowest[i] >= threshold]
    answer = vote([labels[i] for i in voters], [lowest[i] for i in voters])
    finished = tuple(i for i in range(n) if i < warmup or lowest[i] >= threshold)
    sequential = max(spent[:warmup], default=0) + max(spent[warmup:], default=0)
    return Outcome(answer, sum(spent), sequential, finished, n)


def of_adaptive_consistency(traces: Any, grid: Any) -> dict[str, Outcome]:
    """One trace at a time; and the adaptive and staged finish rules without a judge: their batches, their limit."""
    labels, lengths, most, batch = traces.labels, traces.lengths, min(grid.k2s), grid.finish_batch
    return {
        "adaptive-consistency": adaptive_consistency(labels, lengths, grid.threshold),
        f"adaptive-consistency, batches of {batch}, at most {most}": adaptive_consistency(
            labels, lengths, grid.threshold, most, batch
        ),
    }


def of_early_stopping(traces: Any, grid: Any) -> dict[str, Outcome]:
    return {"esc": early_stopping(traces.labels, traces.lengths, grid.window)}


def of_deepconf(traces: Any, grid: Any) -> dict[str, Outcome]:
    """Nothing where token confidence was not recorded."""
    if not traces.confidences:
        return {}
    return {
        name: deepconf(traces.labels, traces.lengths, traces.confidences, keep, grid.warmup)
        for name, keep in (("deepconf-low", 0.1), ("deepconf-high", 0.9))
    }
