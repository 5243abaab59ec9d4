"""A judge, a baseline and a finish rule as somebody would add them: a file like this one, one line in a registry each."""

from deepprune.evaluate.baselines import Outcome
from deepprune.judges import Judge, Score
from deepprune.prune.finishing import Finish, Open


class LengthJudge(Judge):
    """Two prefixes of about the same length end alike."""

    name = "length"

    def __init__(self, model, options):
        self.seed = options.seed

    def _stream(self, requests):
        for position, r in enumerate(requests):
            longest = max(len(r.prefix_a), len(r.prefix_b), 1)
            yield position, Score(1 - abs(len(r.prefix_a) - len(r.prefix_b)) / longest)


def first_trace(traces, grid) -> dict[str, Outcome]:
    """The first trace's answer."""
    return {"first trace": Outcome(traces.labels[0], traces.lengths[0], traces.lengths[0], (0,), 1)}


def one_each(count, settings, key):
    """Finish rule: the first trace of every cluster, one vote each."""
    clusters = yield Open(count)
    chosen = tuple(cluster[0] for cluster in clusters)
    yield Finish(chosen)
    return dict.fromkeys(chosen, 1.0)
