"""DeepPrune: parallel scaling without inter-trace redundancy (arXiv 2510.08483), reproduced.

Data flows one way: problems -> traces -> pairs -> judge -> scores -> clusters -> report.
Every arrow is a stage script that reads and writes JSONL; this package holds all the code they share, in floors:
base, data, engines, judges, prune, evaluate. No module imports from a floor above its own (tests/test_house.py).
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`from deepprune import Answerer`, without importing what it stands on for everybody else."""
    if name == "Answerer":
        from deepprune.prune.answerer import Answerer

        return Answerer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
