"""The benchmark of float32 against bfloat16: what it counts."""

import types

import pytest
from conftest import load_script

from deepprune.judges import Score


@pytest.fixture(scope="module")
def bench():
    return load_script("benchmarks/judge_dtype.py")


def test_clusters_follow_the_scores_and_are_compared_by_problem(bench):
    groups = {"p": ("?", ["a", "b", "c"]), "q": ("?", ["a", "b", "c"])}
    settings = types.SimpleNamespace(tau=0.5)
    alike = [Score(p) for p in (0.9, 0.1, 0.2)]  # a and b; a and c; b and c
    apart = [Score(p) for p in (0.1, 0.1, 0.2)]
    clusters = bench.clustered(alike + apart, groups, settings)
    assert clusters == {"p": [0, 0, 1], "q": [0, 1, 2]}
    other = bench.clustered(apart + apart, groups, settings)
    assert bench.agreement(clusters, clusters) == {"same": 1.0, "adjusted Rand index": 1.0}
    agreed = bench.agreement(clusters, other)
    assert agreed["same"] == 0.5 and agreed["adjusted Rand index"] == pytest.approx(0.5)  # 0 of p, 1 of q


def test_the_published_page_is_that_of_its_rows(bench):
    import json

    from conftest import ROOT

    rows = [json.loads(line) for line in (ROOT / "Offline/results/dtype.jsonl").read_text().splitlines()]
    assert bench.table(rows, "pairs a second of CPU time") == (ROOT / "Offline/results/dtype.md").read_text()
