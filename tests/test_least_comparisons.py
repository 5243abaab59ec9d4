"""The fewest comparisons that justify the full rule's clusters: against brute force, and below every exact rule."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from least_comparisons import certificate, least_comparisons

from deepprune.evaluate import simulation
from deepprune.prune.clustering import ClusterSettings


def settled(known, values, tau, forced, assign):
    """Whether every completion of the unknown values by 0 or 1 gives the choice of the true ones (by brute force)."""

    def choice(full):
        means = [sum(scores) / len(scores) for scores in full]
        best = max(range(len(means)), key=means.__getitem__)
        above = [i for i, mean in enumerate(means) if mean > tau]
        if assign != "best" and above:
            return above[0 if assign == "first" else -1]
        return best if means[best] > tau or forced else None

    flat = [(c, m) for c, scores in enumerate(values) for m in range(len(scores))]
    missing = [at for at in flat if at not in known]
    for bits in itertools.product((0.0, 1.0), repeat=len(missing)):
        full = [list(scores) for scores in values]
        for (c, m), bit in zip(missing, bits, strict=True):
            full[c][m] = bit
        if choice(full) != choice(values):
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 0.875, 1.0]), min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([0.25, 0.5, 0.8]),
    st.booleans(),
    st.sampled_from(["best", "first", "last"]),
)
def test_the_least_comparisons_are_the_smallest_set_that_settles_a_placement(values, tau, forced, assign):
    flat = [(c, m) for c, scores in enumerate(values) for m in range(len(scores))]
    least = next(
        size
        for size in range(len(flat) + 1)
        if any(settled(known, values, tau, forced, assign) for known in itertools.combinations(flat, size))
    )
    order = {"best": None, "first": range(len(values)), "last": range(len(values))[::-1]}[assign]
    assert certificate(values, tau, forced, order) == least


@pytest.mark.parametrize("assign", ["best", "first", "largest"])
@pytest.mark.parametrize("similarity", ["p_same", "verdict"])
@pytest.mark.parametrize("auroc", [0.7, 0.95, 1.0])
def test_no_exact_rule_asks_less_than_the_least(auroc, similarity, assign):
    labels = [i % 3 if i % 11 else None for i in range(160)]
    scores = simulation.simulated_scores(labels, auroc, 0, "q")
    rule = ClusterSettings(k=8, k1=6, similarity=similarity, assign=assign)
    asked = {
        c: sum(map(len, simulation.cluster(scores, dataclasses.replace(rule, asks=c), "q").asked))
        for c in ("all", "needed")
    }
    least = least_comparisons(scores.tolist(), rule, "q")
    assert 0 < least <= asked["needed"] <= asked["all"]
