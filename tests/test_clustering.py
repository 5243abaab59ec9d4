import dataclasses
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cluster_rules

from deepprune.base import config, records
from deepprune.base.errors import UserError
from deepprune.base.records import Pruning
from deepprune.prune import clustering
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.deepprune import KnownClusters
from deepprune.prune.replay import Recorded, play
from deepprune.prune.rules import RuleSettings


def run(count, rule, p_same, key=""):
    return clustering.lockstep(
        {key: clustering.greedy(count, rule, key)}, lambda batch: [p_same(a, b) for _, a, b in batch]
    )[key]


def paper_text(count, rule, p_same, key=""):
    """The paper's text, sentence by sentence, slow and without generators."""
    rng = random.Random(f"{rule.seed}/{key}")
    clusters = []
    for new in range(count):
        similarities = []
        for cluster in clusters:
            chosen = cluster if len(cluster) <= rule.k1 else rng.sample(cluster, rule.k1)
            judged = [p_same(member, new) for member in chosen]
            if rule.similarity == "verdict":
                judged = [1.0 if p > 0.5 else 0.0 for p in judged]
            similarities.append(statistics.fmean(judged))
        above = [index for index, s in enumerate(similarities) if s > rule.tau]
        if above and rule.assign == "first":
            clusters[above[0]].append(new)
        elif above and rule.assign == "largest":
            clusters[max(above, key=lambda index: (len(clusters[index]), -index))].append(new)
        elif above:
            clusters[similarities.index(max(similarities))].append(new)
        elif len(clusters) < rule.k:
            clusters.append([new])
        elif rule.overflow == "join":
            clusters[similarities.index(max(similarities))].append(new)
    return clusters


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 25), cluster_rules, st.integers(0, 1000))
def test_noisy_judge_gives_the_same_clusters_as_the_papers_text(count, rule, noise):
    def p_same(a, b):
        return random.Random(f"{noise}/{a}/{b}").choice([0.1, 0.4, 0.5, 0.6, 0.9])

    clusters = run(count, rule, p_same, key="q")
    assert clusters == paper_text(count, rule, p_same, key="q")
    placed = [t for c in clusters for t in c]
    assert len(placed) == len(set(placed)) and len(clusters) <= rule.k
    if rule.overflow == "join":
        assert sorted(placed) == list(range(count))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_oracle_clusters_hold_one_answer_each(labels):
    rule = ClusterSettings()
    clusters = run(len(labels), rule, lambda a, b: float(labels[a] == labels[b]))
    assert all(len({labels[t] for t in cluster}) == 1 for cluster in clusters)
    assert len(clusters) == len(set(labels))
    # The paper's finish rule: all votes are one answer, that of the largest cluster.
    placed = [next(i for i, c in enumerate(clusters) if t in c) for t in range(len(labels))]
    method = METHODS["deepprune"].start(len(labels), clusters=KnownClusters(placed))
    done = play(method, Recorded(labels, [9] * len(labels), [3] * len(labels)))
    largest = max(labels.count(x) for x in labels)
    if largest > 1:
        assert len(done.finished) == min(largest, 20) and {labels[t] for t in done.finished} == {done.answer}
        assert labels.count(done.answer) == largest


def counted(count, rule, p_same, key=""):
    """(clusters, pairs asked about)."""
    asked = []
    clusters = run(count, rule, lambda a, b: asked.append((a, b)) or p_same(a, b), key)
    assert len(set(asked)) == len(asked)
    return clusters, asked


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 30), cluster_rules, st.integers(0, 1000), st.sampled_from(["coarse", "fine", "binary", "clear"]))
def test_only_needed_comparisons_give_the_same_clusters(count, rule, noise, kind):
    def p_same(a, b):
        rng = random.Random(f"{noise}/{a}/{b}")
        if kind == "clear":
            return rng.uniform(0.9, 1.0) if a % 4 == b % 4 else rng.uniform(0.0, 0.1)
        return {
            "coarse": rng.choice([0.1, 0.4, 0.5, 0.6, 0.9]),
            "fine": rng.random(),
            "binary": float(rng.random() < 0.5),
        }[kind]

    clusters, asked = counted(count, rule, p_same, "q")
    fewer, needed = counted(count, dataclasses.replace(rule, asks="needed"), p_same, "q")
    assert fewer == clusters
    assert set(needed) <= set(asked)


def test_needed_comparisons_by_hand():
    """Ten members of each of three clusters, then one more of the first: ten settle it, one each rules two out."""
    rule = ClusterSettings(asks="needed")
    labels = [0] * 10 + [1] * 10 + [2] * 10 + [0]
    _, asked = counted(31, rule, lambda a, b: 0.95 if labels[a] == labels[b] else 0.05)
    last = [a for a, b in asked if b == 30]
    assert sorted(a // 10 for a in last) == [0] * 10 + [1, 2]
    # A trace like none: each cluster of ten is out once its mean can reach 0.5 at most:
    # (10 - 0.95 j) / 10 <= 0.5, j = 6.
    _, asked = counted(31, rule, lambda a, b: 0.95 if labels[a] == labels[b] and b < 30 else 0.05)
    assert sorted(a // 10 for a in (a for a, b in asked if b == 30)) == [0] * 6 + [1] * 6 + [2] * 6


def test_needed_comparisons_of_a_sure_judge_by_hand():
    """Scores of exactly 0 and 1 reach tau and one another exactly: none is asked to tell 0.5 from a little more."""
    labels = [0] * 10 + [1] * 10 + [2] * 10

    def last(kin, **rule):
        _, asked = counted(
            31,
            ClusterSettings(asks="needed", **rule),
            lambda a, b: float(labels[a] == (kin if b == 30 else labels[b])),
        )
        clusters = [a // 10 for a, b in asked if b == 30]
        return [clusters.count(cluster) for cluster in range(3)]

    # Like none: a mean of ten is at tau with five answers of 0.
    assert last(None) == [5, 5, 5] == last(None, similarity="verdict") == last(None, assign="first")
    # Of the second cluster: all its answers (nothing is above 1); the others are asked along once.
    assert last(1) == [1, 10, 1]
    # Of the first, asked about first: the mean of ten verdicts is 1, and nobody can be above.
    assert last(0, similarity="verdict") == [10, 0, 0]
    # The first above tau: six answers of 1, after five of 0 from the one before it.
    assert last(1, assign="first") == [5, 6, 0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=40),
    st.integers(1, 6),
    st.sampled_from(["join", "drop"]),
    st.sampled_from(["best", "first", "largest"]),
)
def test_likely_comparisons_are_exact_with_a_clear_judge(labels, k1, overflow, assign):
    rule = ClusterSettings(k=5, k1=k1, overflow=overflow, assign=assign)

    def p_same(a, b):
        return 0.95 if labels[a] == labels[b] else 0.05

    clusters, asked = counted(len(labels), rule, p_same)
    likely, fewer = counted(len(labels), dataclasses.replace(rule, asks="likely"), p_same)
    assert likely == clusters and len(set(fewer)) == len(fewer) <= len(asked)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 30), cluster_rules, st.integers(0, 1000))
def test_likely_comparisons_are_the_needed_ones_for_who_must_be_sure(count, rule, noise):
    def p_same(a, b):
        return random.Random(f"{noise}/{a}/{b}").random()

    needed = counted(count, dataclasses.replace(rule, asks="needed"), p_same, "q")
    assert counted(count, dataclasses.replace(rule, asks="likely", surety=1e9), p_same, "q") == needed


def test_likely_comparisons_by_hand():
    """Two clusters of ten, then one more of the first, whose answers differ by 0.1 at most."""
    labels = [0] * 10 + [1] * 10 + [0]

    def p_same(a, b):
        return (0.7 if labels[a] == labels[b] else 0.3) + (0.05 if a % 2 else -0.05)

    last = {}
    for asks, surety in (("needed", 2.0), ("likely", 2.0), ("likely", 0.5)):
        rule = ClusterSettings(asks=asks, surety=surety)
        clusters, asked = counted(21, rule, p_same)
        assert [len(c) for c in clusters] == [11, 10]
        clusters = [a // 10 for a, b in asked if b == 20]
        last[asks, surety] = clusters.count(0), clusters.count(1)
    # Exact: ten answers of 0.7 are a mean of 0.7, and five of 0.3 leave one of 0.65 at most.
    assert last["needed", 2.0] == (10, 5)
    # One answer each, 0.65 and 0.25: sd 0.06 by now, so a mean may be off by 0.03 (half a standard error) or by 0.12
    # (two), and what is asked about next is the better one, down from 0.77 to where it beats 0.37 and tau.
    assert last["likely", 0.5] == (1, 1) and last["likely", 2.0] == (2, 1)


def test_verdicts_and_first_above_tau_by_hand():
    scores = {(0, 2): 0.55, (1, 2): 0.9, (0, 1): 0.1}

    def p_same(a, b):
        return scores[a, b]

    assert run(3, ClusterSettings(), p_same) == [[0], [1, 2]]
    assert run(3, ClusterSettings(assign="first"), p_same) == [[0, 2], [1]]
    assert run(3, ClusterSettings(similarity="verdict"), p_same) == [[0, 2], [1]]  # two verdicts "same": a tie
    assert run(3, ClusterSettings(tau=0.6, assign="first"), p_same) == [[0], [1, 2]]


def test_the_largest_cluster_above_tau_is_asked_first_and_joined():
    """Trace 4 is like both clusters, more like the small one; trace 5 is like the small one alone."""
    scores = {
        (0, 4): 0.95,
        (1, 4): 0.6,
        (2, 4): 0.6,
        (3, 4): 0.6,
        (0, 5): 0.9,
        **dict.fromkeys([(x, 5) for x in (1, 2, 3, 4)], 0.1),
    }

    def p_same(a, b):
        return scores.get((a, b), float(a > 0))

    for asks in ("all", "needed", "likely"):
        clusters, asked = counted(6, ClusterSettings(assign="largest", asks=asks), p_same)
        assert clusters == [[0, 5], [1, 2, 3, 4]]
    # The last was 'likely': trace 4 asks the largest cluster alone.
    assert {a for a, b in asked if b == 4} <= {1, 2, 3}
    assert run(6, ClusterSettings(), p_same)[0][:2] == [0, 4]


def test_at_tau_exactly_a_trace_does_not_join():
    assert run(2, ClusterSettings(tau=0.5), lambda a, b: 0.5) == [[0], [1]]
    assert run(2, ClusterSettings(tau=0.5), lambda a, b: 0.500001) == [[0, 1]]


def test_lockstep_asks_once_a_round_for_all_questions():
    rule, calls = ClusterSettings(), []

    def score(batch):
        calls.append({key for key, _, _ in batch})
        return [1.0] * len(batch)

    result = clustering.lockstep({k: clustering.greedy(5, rule, k) for k in ("a", "b", "c")}, score)
    assert len(calls) == 4 and calls[0] == {"a", "b", "c"}
    assert result == {k: [[0, 1, 2, 3, 4]] for k in ("a", "b", "c")}


@pytest.mark.parametrize("asks", ["all", "needed"])
def test_lockstep_tells_every_trace_once(asks):
    rule, told = ClusterSettings(k=3, asks=asks), []
    runs = {k: clustering.greedy(n, rule, k) for k, n in (("a", 9), ("b", 4), ("c", 1))}
    clustering.lockstep(runs, lambda batch: [float(a % 3 == b % 3) for _, a, b in batch], told.append)
    assert sum(told) == 14


def test_k1_bounds_the_calls():
    asked = []
    run(30, ClusterSettings(k1=3), lambda a, b: asked.append((a, b)) or 1.0)
    assert len(asked) == 1 + 2 + 3 * 27


def test_settings_are_checked():
    with pytest.raises(UserError, match="surety should be above 0"):
        ClusterSettings(surety=0.0)
    for wrong in ({"tau": 1.5}, {"k": 0}, {"overflow": "ask"}):
        with pytest.raises(UserError):
            ClusterSettings(**wrong)


def test_an_old_name_of_a_setting_gets_one_clear_line(tmp_path):
    """`asks` was called `comparisons`: in recipes, on the command line, and in Pruning records."""
    recipe, pruned = tmp_path / "recipe.yaml", tmp_path / "pruned.jsonl"
    recipe.write_text("prune:\n  comparisons: needed\n")
    with pytest.raises(UserError, match=r"recipe\.yaml:2: the key 'comparisons' is called 'asks' now"):
        config.load_section(RuleSettings, "prune", recipe)
    with pytest.raises(UserError, match="--comparisons is called --asks now"):
        config.parse(RuleSettings, "prune", "", ["--comparisons", "needed"])
    records.write(pruned, [Pruning("q", "oracle", {"comparisons": "all"}, [["t"]], ["t"], "4", True, {}, 0, 0)])
    with pytest.raises(UserError, match=r"pruned\.jsonl:1: its setting 'comparisons' is called 'asks' now"):
        list(records.read(Pruning, pruned))
