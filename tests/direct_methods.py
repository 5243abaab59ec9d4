"""Methods computed directly, question by question, without commands and events: what the replay is set against.

Each returns (answer, tokens, sequential tokens, finished traces, opened traces).
"""

from collections import Counter

import numpy as np

from deepprune.data import confidence
from deepprune.prune import finishing
from deepprune.prune.voting import beta_confidence, leading, vote


def consensus(r):
    n = len(r.labels)
    return vote(r.labels), sum(r.lengths), max(r.lengths), tuple(range(n)), n


def adaptive_consistency(r, threshold=0.95, batch=1):
    votes, used, sequential = Counter(), 0, 0
    while used < len(r.labels):
        wave = slice(used, used + batch)
        sequential += max(r.lengths[wave])
        votes.update(label for label in r.labels[wave] if label is not None)
        used = min(used + batch, len(r.labels))
        if votes and beta_confidence(*leading(list(votes.values()))) >= threshold:
            break
    return vote(r.labels[:used]), sum(r.lengths[:used]), sequential, tuple(range(used)), used


def early_stopping(r, window):
    used = sequential = 0
    while used < len(r.labels):
        answers = set(r.labels[used : used + window])
        sequential += max(r.lengths[used : used + window])
        used = min(used + window, len(r.labels))
        if len(answers) == 1 and None not in answers:
            break
    return vote(r.labels[:used]), sum(r.lengths[:used]), sequential, tuple(range(used)), used


def deepconf(r, keep, warmup):
    n, lowest, spent = len(r.labels), [confidence.lowest_group(c) for c in r.confidences], list(r.lengths)
    warmup = min(warmup, n)
    threshold = float(np.percentile(lowest[:warmup], 100.0 * (1.0 - keep)))
    for i in range(warmup, n):
        windows = confidence.full_windows(r.confidences[i])
        spent[i] = min([spent[i], *(end for end, mean in windows if mean < threshold)])
    voters = [i for i in range(n) if lowest[i] >= threshold]
    answer = vote([r.labels[i] for i in voters], [lowest[i] for i in voters])
    finished = tuple(i for i in range(n) if i < warmup or lowest[i] >= threshold)
    return answer, sum(spent), max(spent[:warmup]) + max(spent[warmup:], default=0), finished, n


def pruned(placed, r, settings, key):
    """A finish rule on clusters that are known from the beginning. Also the weights and the prefixes' tokens."""
    opened, finished, prefix, rest, sequential = 0, [], 0, 0, 0
    running = finishing.rule(len(placed), settings, key)
    request = next(running)
    while True:
        if isinstance(request, finishing.Open):
            new = r.prefixes[opened : request.count]
            prefix, sequential = prefix + sum(new), sequential + max(new, default=0)
            opened = max(opened, request.count)
            reply = finishing.clusters_of(placed[:opened])
        else:
            left = [r.lengths[t] - r.prefixes[t] for t in request.traces]
            rest, sequential = rest + sum(left), sequential + max(left, default=0)
            finished += request.traces
            reply = [r.labels[t] for t in request.traces]
        try:
            request = running.send(reply)
        except StopIteration as stop:
            votes = {t: stop.value[t] for t in sorted(stop.value)}
            answer = vote([r.labels[t] for t in votes], list(votes.values()))
            return (answer, prefix + rest, sequential, tuple(finished), opened), votes, prefix
