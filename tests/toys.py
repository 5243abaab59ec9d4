"""A judge, a method and a finish rule as somebody would add them; requests to ask a judge.

Each would be a file like this one and one line in a registry.
"""

import dataclasses

from deepprune.judges import Judge, Request, Score
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import DEFAULT
from deepprune.prune.finishing import Finish, Open
from deepprune.prune.protocol import to_end


class LengthJudge(Judge):
    """Two prefixes of about the same length end alike."""

    name = "length"

    def __init__(self, model, options):
        self.seed = options.seed

    def _stream(self, requests):
        for position, r in enumerate(requests):
            longest = max(len(r.prefix_a), len(r.prefix_b), 1)
            yield position, Score(1 - abs(len(r.prefix_a) - len(r.prefix_b)) / longest)


@dataclasses.dataclass(frozen=True)
class FirstSettings:
    traces: int = 1


def first_traces(count, settings: FirstSettings, key=""):
    """The vote of the first traces."""
    ended = yield from to_end(range(min(settings.traces, count)))
    return dict.fromkeys(sorted(ended), 1.0)


def one_each(count, settings, key):
    """Finish rule: the first trace of every cluster, one vote each."""
    clusters = yield Open(count)
    chosen = tuple(cluster[0] for cluster in clusters)
    yield Finish(chosen)
    return dict.fromkeys(chosen, 1.0)


TRACE = "First we add the tens of {a} and {b}. Then we carry, so the sum is near {c}. Therefore we check {d} again."


def requests():
    """24 pairs of 3 problems; each first trace is shared by four pairs."""
    result = []
    for q in range(3):
        question = f"Ann has {17 + q} apples and buys {25 * q} more, then gives away half. How many are left?"
        for a in range(2):
            first = TRACE.format(a=q, b=a, c=q + a, d=7)
            result += [
                Request(question, first, TRACE.format(a=b, b=q, c=3 * b, d=b), f"{q}a{a}", f"{q}b{b}", b % 2)
                for b in range(4)
            ]
    return result


def prompt_ids(tokenizer, question, prefix_a, prefix_b):
    """Token ids of the usual prompt."""
    return PairPrompts(DEFAULT, tokenizer).ids(Request(question, prefix_a, prefix_b, "a", "b"))


def label_ids(tokenizer):
    """Token ids of the usual labels, which are one token each."""
    return [token for (token,) in PairPrompts(DEFAULT, tokenizer).labels]
