import itertools
import math

import numpy as np
import pytest
import sklearn.metrics
from conftest import make_problem, make_trace
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deepprune.base import metrics
from deepprune.base.errors import UserError
from deepprune.data import answers, confidence
from deepprune.prune import costs

rows = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5001, 0.9])), min_size=2, max_size=40
)


@settings(deadline=None)
@given(rows)
def test_auroc_is_the_mann_whitney_statistic(data):
    labels, scores = map(list, zip(*data, strict=True))
    positive = [s for y, s in data if y]
    negative = [s for y, s in data if not y]
    if not positive or not negative:
        assert math.isnan(metrics.auroc(labels, scores))
        return
    expected = stats.mannwhitneyu(positive, negative).statistic / len(positive) / len(negative)
    assert metrics.auroc(labels, scores) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(rows, st.sampled_from([0.0, 0.2, 0.5]))
def test_tnr_at_fnr_is_the_best_over_all_thresholds(data, fnr):
    labels, scores = map(np.asarray, zip(*data, strict=True))
    if labels.min() == labels.max():
        return
    best = 0.0
    for threshold in [*scores, np.inf]:
        called_same = scores >= threshold
        missed = np.mean(~called_same[labels == 1])
        if missed <= fnr + 1e-12:
            best = max(best, np.mean(~called_same[labels == 0]))
    assert metrics.tnr_at_fnr(labels, scores, fnr) == pytest.approx(best, abs=1e-12)


def test_pooled_auroc_can_come_from_the_problems_alone():
    labels = [1, 1, 1, 0, 1, 0, 0, 0]
    scores = [0.9] * 4 + [0.1] * 4
    problems = ["easy"] * 4 + ["hard"] * 4
    assert metrics.auroc(labels, scores) == 0.75
    assert metrics.judge_table(labels, scores, problems, 5)["within_problem_auroc"]["value"] == 0.5


def test_judge_table_values_and_intervals():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = np.clip(0.3 * labels + rng.random(200) * 0.7, 0, 1)
    problems = np.repeat(np.arange(20), 10)
    table = metrics.judge_table(labels, scores, problems, resamples=200)
    assert table["auroc"]["value"] == metrics.auroc(labels, scores)
    own = [metrics.auroc(labels[problems == p], scores[problems == p]) for p in range(20)]
    assert table["within_problem_auroc"]["value"] == pytest.approx(np.nanmean(own), abs=1e-12)
    for row in table.values():
        assert row["low"] <= row["value"] <= row["high"] and row["low"] < row["high"]


def test_bootstrap_resamples_whole_problems():
    """With identical rows inside a problem the interval is that of two problems, not of 200 rows."""
    values = np.asarray([0.0] * 100 + [1.0] * 100)
    value, low, high = metrics.bootstrap([0] * 100 + [1] * 100, lambda r: float(values[r].mean()), 500)
    assert (value, low, high) == (0.5, 0.0, 1.0)


def test_one_problem_has_no_interval():
    table = metrics.judge_table([1, 0, 1, 0], [0.9, 0.2, 0.3, 0.4], ["only"] * 4, resamples=20)
    for row in table.values():
        assert math.isfinite(row["value"]) and math.isnan(row["low"]) and math.isnan(row["high"])
    assert table["accuracy"]["value"] == 0.75
    value, low, high = metrics.bootstrap(["one"], lambda r: 0.75, 20)
    assert value == 0.75 and math.isnan(low) and math.isnan(high)


def test_one_mixed_problem_has_no_interval_within_problems():
    """The other problem has one class: every resample with a value has the same one."""
    labels, scores, problems = [1, 0, 1, 1], [0.9, 0.2, 0.3, 0.4], ["a", "a", "b", "b"]
    row = metrics.judge_table(labels, scores, problems, resamples=50)["within_problem_auroc"]
    assert row["value"] == 1.0 and math.isnan(row["low"]) and math.isnan(row["high"])


def test_one_class_and_no_mixed_problem_are_nan_not_a_number():
    for labels, problems in (([1, 1, 1, 1], "aabb"), ([1, 1, 0, 0], "aabb")):
        table = metrics.judge_table(labels, [0.9, 0.2, 0.3, 0.4], list(problems), resamples=20)
        assert all(math.isnan(v) for v in table["within_problem_auroc"].values())
        assert math.isnan(table["auroc"]["value"]) == (0 not in labels)
        assert math.isfinite(table["accuracy"]["value"])


def test_nothing_to_average_is_said():
    with pytest.raises(UserError, match="nothing to average"):
        metrics.bootstrap([], lambda r: 0.0)
    with pytest.raises(UserError, match="nothing to average"):
        metrics.judge_table([], [], [])
    assert math.isnan(metrics.accuracy([], [])) and math.isnan(metrics.expected_calibration_error([], []))
    assert math.isnan(metrics.auroc([], [])) and math.isnan(metrics.tnr_at_fnr([], []))
    with pytest.raises(UserError, match="both classes"):
        metrics.fit_temperature([1, 1], [0.2, 0.9])


@pytest.mark.parametrize("number", [math.nan, math.inf, None])
def test_a_score_that_is_not_finite_is_refused_by_every_metric(number):
    labels, scores = [1, 0, 1], [0.5, number, 0.2]
    for metric in (
        metrics.auroc,
        metrics.tnr_at_fnr,
        metrics.accuracy,
        metrics.reliability,
        metrics.fit_temperature,
        metrics.expected_calibration_error,
    ):
        with pytest.raises(UserError, match="1 of 3 scores are not finite"):
            metric(labels, scores)
    with pytest.raises(UserError, match="not finite"):
        metrics.judge_table(labels, scores, ["a", "a", "b"])
    with pytest.raises(UserError, match="not finite"):
        metrics.with_temperature(scores, 2.0)


def test_an_interval_that_is_not_there_is_shown_as_such():
    assert metrics.in_brackets(0.5, 0.75) == "[0.500, 0.750]"
    assert metrics.in_brackets(-0.015, 0.5, "+.1%") == "[-1.5%, +50.0%]"
    assert metrics.in_brackets(math.nan, math.nan) == metrics.in_brackets(None, None) == "[n/a]"


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(case):
    n, correct, k = case
    right = [i < correct for i in range(n)]
    share = np.mean([any(subset) for subset in itertools.combinations(right, k)])
    assert metrics.pass_at_k(n, correct, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_by_hand():
    assert metrics.pass_at_k(4, 1, 2) == 0.5
    assert metrics.pass_at_k(5, 2, 2) == 0.7  # 1 - C(3,2) / C(5,2)
    assert metrics.pass_at_k(512, 256, 1) == 0.5
    assert metrics.pass_at_k(512, 1, 512) == 1.0
    assert metrics.pass_at_k(512, 0, 512) == 0.0
    with pytest.raises(ValueError, match="1..4"):
        metrics.pass_at_k(4, 1, 5)


def voted_right(sequence, right):
    """The share of the vote that the right answer wins: a tie is shared."""
    counts = {a: sequence.count(a) for a in sequence if a is not None}
    best = [a for a, c in counts.items() if c == max(counts.values())]
    return (right in best) / len(best) if best else 0.0


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=9), st.data())
def test_cons_at_k_is_the_share_of_subsets_that_vote_right(sequence, data):
    k = data.draw(st.integers(1, len(sequence)))
    share = np.mean([voted_right(subset, "a") for subset in itertools.combinations(sequence, k)])
    counts = [sequence.count(a) for a in "abcd"]
    right = 0 if counts[0] else None
    assert metrics.cons_at_k(counts, right, sequence.count(None), k) == pytest.approx(share, abs=1e-12)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=6))
def test_the_shared_tie_is_the_first_to_arrive_in_a_random_order(sequence):
    """deepprune.data.answers.majority gives a tie to the class seen first; over all orders that is cons@n's sharing."""
    wins = [answers.majority(order, "text") == "a" for order in itertools.permutations(sequence)]
    counts = [sequence.count(a) for a in "abc"]
    exact = metrics.cons_at_k(counts, 0, sequence.count(None), len(sequence))
    assert np.mean(wins) == pytest.approx(exact, abs=1e-12)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=8), st.data())
def test_distinct_at_k_is_the_mean_over_all_subsets(sequence, data):
    k = data.draw(st.integers(1, len(sequence)))
    mean = np.mean([len(set(s) - {None}) for s in itertools.combinations(sequence, k)])
    counts = [sequence.count(a) for a in "abc"]
    assert metrics.distinct_at_k(counts, sequence.count(None), k) == pytest.approx(mean, abs=1e-12)


def test_cons_at_k_at_scale_and_its_limits():
    assert metrics.cons_at_k([200, 150, 100, 30], 0, 32, 512) == 1.0
    assert metrics.cons_at_k([200, 150, 100, 30], 0, 32, 1) == pytest.approx(200 / 512, abs=1e-12)
    rng = np.random.default_rng(0)
    pool = np.repeat([0, 1, 2, 3, -1], [200, 150, 100, 30, 32])
    drawn = [[int(x) if x >= 0 else None for x in rng.choice(pool, 41, replace=False)] for _ in range(4000)]
    sampled = np.mean([voted_right(row, 0) for row in drawn])
    assert metrics.cons_at_k([200, 150, 100, 30], 0, 32, 41) == pytest.approx(sampled, abs=4 * 0.5 / 4000**0.5)
    with pytest.raises(ValueError, match="at most 1000"):
        metrics.cons_at_k([1001], 0, 0, 3)


@settings(deadline=None)
@given(rows)
def test_auroc_and_tnr_agree_with_sklearn_to_1e_12(data):
    labels, scores = map(np.asarray, zip(*data, strict=True))
    if labels.min() == labels.max():
        return
    assert metrics.auroc(labels, scores) == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores), abs=1e-12)
    fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    allowed = [1 - f for f, t in zip(fpr, tpr, strict=True) if 1 - t <= 0.2 + 1e-12]
    assert metrics.tnr_at_fnr(labels, scores, 0.2) == pytest.approx(max(allowed), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_intervals_agree_with_scipys_percentile_bootstrap(seed):
    """One row a problem: then resampling problems is scipy's paired bootstrap over rows, from the same random bits."""
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 2, 60), rng.integers(0, 6, 60) / 5  # ties
    expected = stats.bootstrap(
        (labels, scores),
        lambda y, p: metrics.auroc(y, p),
        paired=True,
        vectorized=False,
        n_resamples=300,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    value, low, high = metrics.bootstrap(range(60), lambda r: metrics.auroc(labels[r], scores[r]), 300, seed)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert value == metrics.auroc(labels, scores)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_calibration_error_by_a_plain_loop(data):
    bins = {}
    for label, p in data:
        bins.setdefault(min(int(p * 10), 9), []).append((label, p))
    error = sum(abs(sum(y for y, _ in b) - sum(p for _, p in b)) for b in bins.values()) / len(data)
    labels, scores = zip(*data, strict=True)
    assert metrics.expected_calibration_error(labels, scores) == pytest.approx(error, abs=1e-9)
    assert sum(r["count"] for r in metrics.reliability(labels, scores)) == len(data)


def test_temperature_is_found_again_and_keeps_the_order():
    rng = np.random.default_rng(0)
    truth = rng.random(20_000)
    labels = (rng.random(20_000) < truth).astype(int)
    squeezed = metrics.with_temperature(truth, 2.5)  # an under-confident judge
    found = metrics.fit_temperature(labels, squeezed)
    assert found == pytest.approx(1 / 2.5, rel=0.03)
    mended = metrics.with_temperature(squeezed, found)
    assert metrics.expected_calibration_error(labels, mended) < metrics.expected_calibration_error(labels, squeezed) / 5
    assert metrics.auroc(labels, mended) == metrics.auroc(labels, squeezed)
    assert np.isfinite(metrics.with_temperature([0.0, 1.0], 0.5)).all()


def test_confidence_by_hand():
    assert confidence.token_confidence([-1.0, -2.0, -3.0]) == 2.0
    assert confidence.token_confidence([0.0, -math.inf]) == 50.0
    summary = confidence.summarise([1.0, 2.0, 3.0, 4.0, 5.0], top_k=3, window=2, stride=2)
    assert summary["windows"] == [1.5, 3.5, 4.5]
    assert (summary["mean"], summary["tail"], summary["lowest"], summary["bottom10"]) == (3.0, 4.5, 1.5, 1.5)
    assert confidence.summarise([], 3, 2, 2) is None


def test_token_reduction():
    assert costs.reduction(140, 160) == 0.125 and costs.reduction(320, 160) == -1.0
    assert math.isnan(costs.reduction(1, 0))


def test_prefix_tokens_scale_to_the_reasoners_count():
    trace = make_trace(make_problem(), 0, "4", text="a b c d e f g h", n_tokens=40)

    def count(text):
        return len(text.split())

    assert costs.prefix_tokens(trace, "a b", count) == 10
    assert costs.prefix_tokens(trace, trace.text, count) == 40
    # Of a long rest only a sample is counted: 10 words of prefix, 1,000 after it.
    long = make_trace(make_problem(), 0, "4", text="ab " * 10 + "abcd " * 1000, n_tokens=2020)
    assert costs.prefix_tokens(long, "ab " * 10, count, sample=50) == 20


@pytest.mark.parametrize(
    ("name", "size"),
    [("Qwen/Qwen2.5-Coder-0.5B-Instruct", 0.5e9), ("SmolLM2-135M", 135e6), ("DeepSeek-R1-Distill-Llama-8B", 8e9),
     ("Qwen/Qwen3-4B-Instruct-2507", 4e9), ("gpt-oss-20b", None), ("GLM-4.5-Air", None)],
)  # fmt: skip
def test_parameters_from_names(name, size):
    assert costs.parameters_from_name(name) == size


def test_equivalent_tokens_leave_out_cached_ones():
    assert costs.equivalent_tokens(1000, 400, 0.135e9, 0.5e9) == pytest.approx(162.0)
