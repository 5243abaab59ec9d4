"""The comparison of methods: against direct calls, by hand, and where two methods must coincide."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepprune.base import metrics
from deepprune.base.errors import UserError
from deepprune.data import confidence
from deepprune.evaluate import methods, methods_figures, methods_table, simulation
from deepprune.evaluate.methods import Grid, Judged, TraceSet
from deepprune.judges.pair_prompts import Frame
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.deepconf import DeepConfSettings
from deepprune.prune.methods.esc import EscSettings
from deepprune.prune.replay import Recorded, play

RNG = np.random.default_rng(5)


def grid(**chosen):
    return Grid(**{"k1s": [10], "asks": ["all"], **chosen})


def trace_set(number=0, n=24, confident=False):
    labels = [int(x) if x < 4 else None for x in RNG.integers(0, 5, n)]
    lengths = [int(x) for x in RNG.integers(20, 90, n)]
    confidences = [confidence.summarise(list(RNG.uniform(1, 9, x)), 2, 8, 4) for x in lengths] if confident else []
    return TraceSet(f"q{number}", "D", labels, 1, lengths, [min(15, x) for x in lengths], confidences)


def everything_same(q, ratio=0.0):
    n = len(q.labels)
    return Judged(np.ones((n, n)), ratio, [5] * n, Frame(1, 1, 1))


def method(row, name, **key):
    (figures,) = [m for m in row["methods"] if m["method"] == name and all(m[k] == v for k, v in key.items())]
    return figures


def test_methods_without_a_judge_are_played_in_the_recorded_order():
    q = trace_set(confident=True)
    row = methods.compare(q, grid(orders=1, warmup=6), lambda number: {})
    recorded = Recorded(q.labels, q.lengths, q.prefixes, q.confidences)
    for name, settings in (
        ("adaptive", AdaptiveSettings()),
        ("esc", EscSettings()),
        ("deepconf", DeepConfSettings(0.1, 6)),
        ("deepconf", DeepConfSettings(0.9, 6)),
    ):
        done = play(METHODS[name].start(24, settings), recorded)
        title = {"adaptive": "adaptive-consistency", "deepconf": "deepconf-low"}.get(name, name)
        figures = method(row, "deepconf-high" if settings == DeepConfSettings(0.9, 6) else title)
        assert (figures["accuracy"], figures["tokens"], figures["total"], figures["sequential"]) == (
            done.answer == 1,
            done.tokens,
            done.tokens,
            done.sequential,
        )
        assert figures["finished"] == len(done.finished)
        assert figures["diversity"] == len({q.labels[i] for i in done.finished} - {None}) / len(set(q.labels) - {None})
    counts = [q.labels.count(i) for i in range(4)]
    assert row["cons"][8] == metrics.cons_at_k(counts, 1, q.labels.count(None), 9)
    assert row["longest"][-1] == pytest.approx(max(q.lengths)) and row["longest"][0] == pytest.approx(
        np.mean(q.lengths)
    )


def test_the_expected_longest_of_m_is_that_of_all_subsets():
    import itertools

    q = TraceSet("q", "D", [0] * 6, 0, [3, 9, 4, 1, 9, 7], [1] * 6)
    row = methods.compare(q, grid(orders=1), lambda number: {})
    for m in range(1, 7):
        assert row["longest"][m - 1] == pytest.approx(np.mean([max(s) for s in itertools.combinations(q.lengths, m)]))


def test_one_cluster_finished_whole_is_cons_at_n():
    """A judge that says yes to all and K2 = n: every trace is finished, the vote is cons@n, nothing is saved."""
    rows = []
    for number in range(5):
        q = trace_set(number)
        rows.append(
            methods.compare(q, grid(k2s=(24,), rules=("paper",), orders=3), lambda i, q=q: {"yes": everything_same(q)})
        )
    numbers = methods_table.table(rows, resamples=50).set_index("method")
    paper = numbers.loc["paper"]
    assert paper["total"] == pytest.approx(numbers.loc["cons@24", "total"]) and paper["reduction"] == pytest.approx(0)
    assert paper["sequential"] >= numbers.loc["cons@24", "sequential"]  # a prefix and a rest, each with its longest
    assert paper["coverage"] == numbers.loc["cons@24", "coverage"] and paper["diversity"] == 1.0


def test_the_judges_cost_by_hand():
    q = TraceSet("q", "D", [0, 0, 0], 0, [50, 60, 70], [10, 10, 10])
    one = grid(taus=(0.5,), k1s=(10,), k2s=(1,), rules=("paper",), orders=1)
    n = 3
    judges = {
        "pairs": Judged(np.ones((n, n)), 0.5, [5, 7, 9], Frame(1, 1, 2)),
        "traces": Judged(np.ones((n, n)), 0.1, [5, 7, 9], per_trace=True),
        "free": Judged(np.ones((n, n))),
    }
    row = methods.compare(q, one, lambda number: judges)
    pairs, traces, free = (method(row, "paper", judge=j) for j in ("pairs", "traces", "free"))
    tokens = 30 + 40  # prefixes, and the rest of the first trace
    prompt, cached = (4 + 5 + 7) + (4 + 5 + 9) + (4 + 7 + 9), (2 + 5) + 1
    assert (pairs["tokens"], pairs["judge_calls"], pairs["judge_prompt"], pairs["judge_cached"]) == (
        tokens,
        3,
        prompt,
        cached,
    )
    assert pairs["total"] == tokens + 0.5 * (prompt - cached) and pairs["total_uncached"] == tokens + 0.5 * prompt
    assert traces["total"] == pytest.approx(tokens + 0.1 * 21) and free["total"] == tokens
    assert pairs["sequential"] == 10 + 40 and pairs["clusters"] == 1 and pairs["accuracy"] == 1


def test_orders_permute_traces_and_scores_together():
    """The oracle's table in recorded order gives pure clusters in every order."""
    q = trace_set(3)
    oracle = Judged(simulation.simulated_scores(q.labels, 1.0, 0, "q"))
    row = methods.compare(q, grid(rules=("weighted",), k2s=(24,), orders=6), lambda number: {"oracle": oracle})
    figures = method(row, "weighted")
    classes = len(set(q.labels) - {None}) + q.labels.count(None)  # an unknown answer is a cluster of its own
    assert figures["clusters"] == classes
    # K2 = n and every cluster among the largest four or not: what is finished of the largest is right as a whole.
    assert figures["finished"] == min(24, sum(min(3, q.labels.count(c)) for c in range(4)))


def test_the_table_counts_differences_in_pairs():
    rows = []
    for number in range(8):
        q = trace_set(number)
        oracle = Judged(simulation.simulated_scores(q.labels, 1.0, 0, f"q{number}"))
        rows.append(
            methods.compare(
                q, grid(taus=(0.25, 0.5), rules=("paper", "adaptive"), orders=2), lambda i, o=oracle: {"oracle": o}
            )
        )
    numbers = methods_table.table(rows, resamples=100)
    one = numbers[(numbers["method"] == "adaptive") & (numbers["tau"] == 0.5)].iloc[0]
    mine = [method(r, "adaptive", tau=0.5) for r in rows]
    assert one["accuracy"] == pytest.approx(np.mean([m["accuracy"] for m in mine]))
    assert one["over_cons_n"] == pytest.approx(
        np.mean([m["accuracy"] - r["cons"][-1] for m, r in zip(mine, rows, strict=True)])
    )
    m = one["total"] / np.mean([r["length"] for r in rows])
    low = int(m)
    at_equal = [r["cons"][low - 1] + (m - low) * (r["cons"][low] - r["cons"][low - 1]) for r in rows]
    assert one["over_cons"] == pytest.approx(np.mean([x["accuracy"] - c for x, c in zip(mine, at_equal, strict=True)]))
    assert one["over_cons low"] <= one["over_cons"] <= one["over_cons high"]
    figure = methods_figures.fronts(numbers, "title")
    (panel,) = figure.axes
    names = [text.get_text() for text in panel.get_legend().get_texts()]
    assert panel.get_title() == "judge: oracle" and len(names) == 4
    assert names[2].startswith("paper: τ ") and names[3].startswith("adaptive: τ ")  # the best setting of each line


def numbers_of(rows):
    """A comparison's table from (method, judge, total, accuracy) rows; cons@1 and cons@4 have m."""
    m = {"cons@1": 1.0, "cons@4": 4.0}
    return pd.DataFrame(
        [
            {
                "method": a,
                "judge": j,
                "m": m.get(a),
                "total": t,
                "sequential": t,
                "accuracy": y,
                "accuracy low": y - 0.1,
                "accuracy high": y + 0.1,
                "over_cons": 0.0,
                "over_cons_n": 0.0,
                "over_cons_n low": 0.0,
                "over_cons_n high": 0.0,
                **dict.fromkeys(("tau", "K", "K1", "K2"), 1.0 if j else None),
                **dict.fromkeys(("asks", "assign"), "all" if j else None),
            }
            for a, j, t, y in rows
        ]
    )


@given(st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0, math.nan]), st.sampled_from([0.1, 0.2, 0.3])), min_size=1))
def test_a_front_holds_what_no_other_setting_beats(points):
    numbers = numbers_of([("paper", "oracle", cost, accuracy) for cost, accuracy in points])
    line = methods_table.front(numbers, "total")
    known = [(t, a) for t, a in points if not math.isnan(t)]
    best = {(t, a) for t, a in known if not any((u <= t and b > a) or (u < t and b >= a) for u, b in known)}
    assert set(zip(line["total"], line["accuracy"], strict=True)) == best and len(line) == len(best)


def test_simulated_judges_are_drawn_by_their_quality():
    rows = [
        ("cons@1", None, 10.0, 0.5),
        ("cons@4", None, 40.0, 0.8),
        ("adaptive-consistency, batches of 2, at most 4", None, 20.0, 0.7),
    ]
    rows += [(rule, f"AUROC {a:g}", 30.0 - 10 * a, 0.7) for rule in ("paper", "staged") for a in (0.9, 0.6, 1.0)]
    figures = methods_figures.of_table(numbers_of(rows), "title")
    assert list(figures) == ["_quality"]  # no judge that is not simulated
    tokens = figures["_quality"].axes[0]
    (line,) = [x for x in tokens.lines if x.get_label() == "staged, K1 1, all, all"]
    assert list(line.get_xdata()) == [0.6, 0.9, 1.0] and list(line.get_ydata()) == pytest.approx([0.024, 0.021, 0.02])
    figures = methods_figures.of_table(numbers_of([*rows, ("paper", "trained", 35.0, 0.75)]), "title")
    assert list(figures) == list(methods_figures.ENDS)
    assert [axis.get_title() for axis in figures[""].axes if axis.get_title()] == ["judge: trained"]
    figures = methods_figures.of_table(numbers_of(rows[:3]), "title")
    assert list(figures) == ["", "_latency"] and figures[""].axes[0].get_title() == "no judge"


def test_figures_drawn_again_are_named_as_the_page_names_the_study(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(methods_figures, "save_all", lambda numbers, title, base: titles.append(title) or [])
    for page in Path("Online/results").glob("*.md"):
        if (table := page.with_suffix(".csv")).is_file() and " orders. " in page.read_text():
            methods_figures.redraw(table)
            assert page.read_text().startswith(titles[-1] + ", ") and "orders" not in titles[-1]
    assert "8 problems, n = 64 traces of Qwen/Qwen2.5-Coder-0.5B-Instruct" in titles
    (tmp_path / "alone.csv").write_text("")
    with pytest.raises(UserError, match="alone.md: no such file"):
        methods_figures.redraw(tmp_path / "alone.csv")


def test_each_way_to_ask_has_its_way_to_assign():
    """'likely' is with the largest cluster, the others with the best, unless --assigns says otherwise."""
    q = trace_set(4)
    scores = simulation.simulated_scores(q.labels, 0.8, 0, "q4")
    judged = Judged(scores, 0.5, [5] * len(q.labels), Frame(1, 1, 1))
    calls = {}
    for assigns in ([], ["first", "best"]):
        asked = grid(taus=(0.5,), ks=(32,), asks=["all", "likely"], assigns=assigns, rules=("paper",), orders=1)
        row = methods.compare(q, asked, lambda number: {"judge": judged})
        for asks, assign in zip(asked.asks, assigns or ["best", "largest"], strict=True):
            settings = ClusterSettings(k1=10, assign=assign, asks=asks)
            done = simulation.cluster(scores, settings, f"{q.dataset}/{q.problem_id}/0")
            calls[asks, assign] = sum(map(len, done.asked))
            figures = method(row, "paper", judge="judge", asks=asks, assign=assign)
            assert figures["judge_calls"] == calls[asks, assign] and figures["clusters"] == len(set(done.placed))
    assert calls["likely", "largest"] < calls["all", "best"]
    with pytest.raises(UserError, match="--assigns takes one value for each of --asks: 2, not 1"):
        grid(asks=["all", "likely"], assigns=["best"])


def test_the_digest_is_the_baselines_and_each_judges_main_settings():
    q = trace_set(3)
    judges = {"oracle": Judged(simulation.simulated_scores(q.labels, 1.0, 0, "q3"))}
    everything = grid(
        taus=(0.25, 0.5, 0.75),
        ks=(4, 8),
        k1s=(1, 3),
        asks=("all", "needed"),
        rules=("paper", "staged"),
        orders=1,
    )
    numbers = methods_table.table([methods.compare(q, everything, lambda i: judges)], resamples=10)
    short = methods_table.digest(numbers)
    page = methods_table.to_markdown(short, "one problem")
    assert "[n/a]" in page and "nan" not in page  # one problem has no interval
    assert (short["judge"].isna()).sum() == (numbers["judge"].isna()).sum()
    shown = short[short["judge"].notna()]
    assert (shown["tau"] == 0.5).all() and (shown["K"] == 8).all()
    assert set(zip(shown["method"], shown["K1"], shown["asks"], strict=True)) == {
        ("paper", 3, "all"),
        *((rule, k1, "needed") for rule in ("paper", "staged") for k1 in (1, 3)),
    }
