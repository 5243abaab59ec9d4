"""The paper's own figures (arXiv 2510.08483), to set ours beside. docs/paper_numbers.md shows all of them.

v1 is the version of October 2025, whose judge was trained on problems that it was tested on; v2 (ACL Findings 2026)
trains on AIME 2022, AIME 2023 and MATH500 alone. Figures are v1's unless marked.
"""

from __future__ import annotations

# Predictors of "the same final answer", on pairs of traces by unseen reasoners.
JUDGES = {
    "Sentence-BERT, first 500 tokens": {"auroc": 0.58},
    "Qwen3-4B-Instruct-2507, zero-shot": {"auroc": 0.66},
    "DeepPrune-Judge-4B, v2 (unseen problems)": {"auroc": 0.7072},
    "DeepPrune-Judge-4B, v1 (problems overlap)": {"auroc": 0.8701, "tnr_at_0.2_fnr": 0.8186},
}

# Ablation of the judge, mean over unseen reasoners: (truncation, loss, oversampled) -> AUROC, and TNR@0.2 where stated.
# tokens: the first 500; words: up to the 25th reasoning word.
ABLATION = {
    ("tokens", "ce", False): {"AUROC": 0.8556},
    ("tokens", "focal", False): {"AUROC": 0.8360},
    ("tokens", "ce", True): {"AUROC": 0.7610},
    ("tokens", "focal", True): {"AUROC": 0.8608},
    ("words", "ce", False): {"AUROC": 0.8326},
    ("words", "focal", False): {"AUROC": 0.8559},
    ("words", "ce", True): {"AUROC": 0.7983, "TNR@0.2": 0.6762},
    ("words", "focal", True): {"AUROC": 0.8701, "TNR@0.2": 0.8186},
}

# AUROC against the truncation's k, read off a chart: about.
AUROC_BY_K = {
    "words": {15: 0.881, 25: 0.870, 35: 0.830},
    "tokens": {300: 0.833, 500: 0.887, 700: 0.854},
}

# Share of the pairs of one question's traces that end in the same answer; the mean is the paper's (over pairs, it
# seems).
SAME_ANSWER = {
    "Qwen3-4B-Thinking-2507": 0.931,
    "DeepSeek-8B": 0.762,
    "QwQ-32B": 0.912,
    "GLM-4.5-Air": 0.945,
    "mean": 0.816,
}

# Problems of each benchmark of the main table.
BENCHMARKS = {"AIME24": 30, "AIME25": 30, "GPQA-diamond": 198}

# Main table, n = 512: reasoner -> benchmark -> (tokens in 1e8, accuracy in %) of cons@512 and of DeepPrune.
PRUNING = {
    "DeepSeek-R1-0528-Qwen3-8B": {
        "AIME24": ((3.62, 86.7), (0.42, 86.7)),
        "AIME25": ((4.19, 83.3), (0.35, 83.3)),
        "GPQA-diamond": ((10.9, 66.2), (2.54, 63.1)),
    },
    "Qwen3-32B": {
        "AIME24": ((1.93, 86.7), (0.26, 90.0)),
        "AIME25": ((2.64, 80.0), (0.23, 90.0)),
        "GPQA-diamond": ((6.94, 70.7), (1.00, 70.2)),
    },
    "gpt-oss-20b": {
        "AIME24": ((2.05, 93.3), (0.42, 90.0)),
        "AIME25": ((2.10, 90.0), (0.38, 93.3)),
        "GPQA-diamond": ((4.60, 70.7), (2.20, 68.7)),
    },
}

# v2: range of the token reduction in %, and the most points of accuracy that it costs.
PRUNING_V2 = {"reduction": (65.73, 88.50), "accuracy": 3.4}
