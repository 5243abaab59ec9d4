"""The two limits: the oracle knows the true label, the random judge knows nothing."""

from __future__ import annotations

import random

from deepprune.base.errors import UserError
from deepprune.judges.interface import Judge, Score
from deepprune.judges.settings import JudgeOptions


class OracleJudge(Judge):
    """p_same = 1 for the same final answer, else 0. An unknown answer is the same as nothing."""

    name = "oracle"

    def __init__(self, model: None, options: JudgeOptions):
        pass

    def _stream(self, requests):
        for position, request in enumerate(requests):
            if request.label is None:
                raise UserError("the oracle judge needs labels")
            yield position, Score(float(request.label))


class RandomJudge(Judge):
    """p_same uniform in [0, 1), the same for a question's pair of traces in either order."""

    def __init__(self, model: None, options: JudgeOptions):
        self.seed = options.seed
        self.name = f"random-{self.seed}"

    def _stream(self, requests):
        for position, request in enumerate(requests):
            low, high = sorted((request.trace_a, request.trace_b))
            yield position, Score(random.Random(f"{self.seed}/{request.question}/{low}/{high}").random())
