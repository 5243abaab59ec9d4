"""DeepPrune: parallel scaling without inter-trace redundancy (arXiv 2510.08483), reproduced.

Data flows one way: problems -> traces -> pairs -> judge -> scores -> clusters -> report.
Every arrow is a stage script that reads and writes JSONL; this package holds all the code they share, in floors:
base, data, engines, judges, prune, evaluate. No module imports from a floor above its own (tests/test_house.py).
"""

__version__ = "0.1.0"
