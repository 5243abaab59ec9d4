"""The comparison of live methods: whose turn it is, where the seconds go, its numbers, figures and resuming."""

import asyncio
import json
import random
import sys

import pytest
from conftest import ROOT, SMOL, load_script, make_problem
from test_live import MadeUp, texts

from deepprune.base import config, jsonl, records, runtime
from deepprune.base.errors import UserError
from deepprune.prune import live_setup


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield load_script("benchmarks/live_methods.py")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def page(benchmark):
    return benchmark.live_methods_page


def row(method, problem, tokens, seconds, correct, **more):
    return {
        "problem_id": problem,
        "method": method,
        "seconds": seconds,
        "engine_tokens": tokens,
        "correct": correct,
        "tokens": {"total": tokens, "sequential": tokens // 4},
        "started": 8,
        "finished": 4,
        "judge_calls": 0,
        "judge_tokens": 0,
        "judge_cached_tokens": 0,
        "judge_batches": 0,
        "profile": {"generating": seconds, "judging": 0.0, "both": 0.0, "neither": 0.0},
    } | more


def test_every_method_is_first_in_its_turn(benchmark):
    problems = [make_problem(i, "4") for i in range(6)]
    order = [(p.problem_id, title, place) for p, title, place in benchmark.runs(problems, ["a", "b", "c"])]
    assert len(set(order)) == 18 and [o[1] for o in order[:9]] == [*"abc", *"bca", *"cab"]
    for title in "abc":  # as often in each place
        assert sorted(place for _, of, place in order if of == title) == [0, 0, 1, 1, 2, 2]


def test_where_the_seconds_go(benchmark):
    events = [
        {"time": 1.0, "event": "started", "trace": 0},
        {"time": 1.0, "event": "started", "trace": 1},
        {"time": 3.0, "event": "held", "trace": 0},
        {"time": 3.5, "event": "judged", "trace": 1},
        {"time": 4.0, "event": "held", "trace": 1},
        {"time": 7.0, "event": "resumed", "trace": 0},
        {"time": 9.0, "event": "finished", "trace": 0},
        {"time": 9.0, "event": "pruned", "trace": 1},
    ]
    parts = benchmark.profile(events, [(2.0, 2.5), (3.5, 6.0)], 0.0, 10.0)
    # 1-2, 2.5-3.5, 7-9; 4-6; 2-2.5 and 3.5-4; 0-1, 6-7 and 9-10
    assert parts == {"generating": 4.0, "judging": 2.0, "both": 1.0, "neither": 3.0}


def test_ratios_are_of_sums_and_accuracy_is_compared_in_pairs(page):
    rows = [
        *(row("cons@8", f"q{i}", 100 * (i + 1), 10.0, i < 2) for i in range(4)),
        *(row("adaptive", f"q{i}", 50 * (i + 1), 4.0, i < 3) for i in range(4)),
        *(
            row(
                "deepprune",
                f"q{i}",
                60,
                20.0,
                i < 2,
                judge_calls=3,
                judge_tokens=400,
                judge_cached_tokens=100,
                judge_batches=1,
            )
            for i in range(4)
        ),
        row("cons@8", "q9", 10**6, 1.0, True),  # not answered by the others yet
    ]
    by_method = page.together(rows, ["cons@8", "adaptive", "deepprune"])
    numbers = page.table(by_method, (0.5e9, 1e9))
    assert numbers.loc["adaptive", "tokens ratio"] == numbers.loc["adaptive", "tokens ratio high"] == 0.5
    assert numbers.loc["adaptive", "seconds ratio"] == 0.4 and numbers.loc["adaptive", "gain"] == 0.25
    assert numbers.loc["cons@8", "gain low"] == numbers.loc["cons@8", "gain high"] == 0
    assert numbers.loc["deepprune", "total"] == 60 + 300 / 2 and numbers.loc["adaptive", "total"] == 125
    assert page.table(by_method, (None, 1e9))["total"].isna().tolist() == [False, False, True]
    numbers["judged"] = [False, False, True]
    assert [list(rows.index) for _, rows in page.panels(numbers)] == [
        ["cons@8", "adaptive"],
        ["cons@8", "adaptive", "deepprune"],
    ]


def test_cons_at_m_is_exact(page):
    whole = [
        row("cons@3", "a", 60, 1.0, True, labels=[0, 0, 1], lengths=[10, 20, 30], right=0),
        row("cons@3", "b", 60, 1.0, False, labels=[None, 0, 0], lengths=[20, 20, 20], right=None),
    ]
    assert page.consensus_line(whole) == [
        (20.0, pytest.approx(1 / 3)),
        (40.0, pytest.approx((1 / 3 + 1 / 3) / 2)),
        (60.0, 0.5),
    ]


def test_tables_and_figures_are_written(page, tmp_path):
    rng = random.Random(0)
    titles = [
        "cons@32",
        "cons@32, early",
        "adaptive",
        "esc",
        "deepconf-low",
        "deepconf-high",
        "deepprune, paper",
        "deepprune, ours",
    ]
    rows = []
    for i in range(24):
        for position, title in enumerate(titles):
            tokens = int(rng.uniform(0.8, 1.2) * (9000 - 900 * position))
            judged = {"judge_calls": 90, "judge_tokens": 24000, "judge_cached_tokens": 9000, "judge_batches": 12}
            whole = {"labels": [0] * 20 + [1] * 12, "lengths": [280] * 32, "right": i % 2} if position == 0 else {}
            rows.append(
                row(
                    title,
                    f"q{i}",
                    tokens,
                    tokens / 100 * (2 if position > 5 else 1),
                    rng.random() < 0.5,
                    **(judged if position > 5 else {}),
                    **whole,
                )
            )
    result = page.write(
        rows,
        {t: "prune" in t for t in titles},
        (0.13e9, 0.5e9),
        "a reasoner, judge mini, n = 32",
        tmp_path / "live.jsonl",
    )
    assert [x["method"] for x in result] == titles and json.dumps(result, allow_nan=False)
    text = (tmp_path / "live.md").read_text()
    assert "24 questions" in text and text.count("| deepprune, ours |") == 3
    assert all((tmp_path / f"live.{name}.png").stat().st_size > 20_000 for name in ("tokens", "seconds"))


def test_titles_and_settings(benchmark):
    words = "--reasoner x --n 9 --adaptive-batch 3 --finish weighted --tau 0.4 --methods adaptive".split()
    settings = config.parse(benchmark.MethodsSettings, "live", "", [*words, "deepprune, ours"])
    variants = settings.variants
    assert list(variants) == ["adaptive", "deepprune, ours"] and settings.judged
    assert (variants["adaptive"][1].batch, variants["adaptive"][1].rolling) == (3, True)
    staged = variants["deepprune, ours"][1]
    assert (staged.finish.rule, staged.early, staged.cluster.tau) == ("staged", True, 0.4)
    assert (staged.cluster.asks, staged.cluster.assign) == ("likely", "largest")
    unknown = config.parse(benchmark.MethodsSettings, "live", "", "--reasoner x --n 9 --methods best".split())
    with pytest.raises(UserError, match="no 'best'; there are 'cons@9', 'cons@9, early', 'adaptive'"):
        unknown.judged  # noqa: B018


def test_a_run_that_was_killed_goes_on_and_counts_as_the_reasoner_does(benchmark, tmp_path, monkeypatch, capsys):
    problems, output = tmp_path / "problems.jsonl", tmp_path / "live.jsonl"
    records.write(problems, [make_problem(i, "4") for i in range(2)])
    monkeypatch.setattr(runtime, "ensure", lambda: None)

    async def idle(reasoner):
        assert not await reasoner.running()
        await asyncio.sleep(0.01)
        return 0

    monkeypatch.setattr(benchmark, "until_idle", idle)

    def run():
        monkeypatch.setattr(live_setup, "open_reasoner", lambda settings: MadeUp(texts(400)))
        words = (
            f"--reasoner {SMOL} --judge random --n 8 --truncation-k 2 --k2 3 --problems {problems} --output {output}"
        )
        monkeypatch.setattr(sys, "argv", ["live_methods.py", *words.split()])
        benchmark.main()
        return [r for _, r in jsonl.read(output)], capsys.readouterr().out

    rows, printed = run()
    titles = list(dict.fromkeys(r["method"] for r in rows))
    assert f"2 questions x {len(titles)} methods, n = 8: {2 * len(titles)} runs to do" in printed
    assert len(rows) == 2 * len(titles) and all(r["engine_tokens"] == r["tokens"]["total"] for r in rows)
    assert all(r["left_running"] == 0 for r in rows)
    assert all(sum(r["profile"].values()) == pytest.approx(r["seconds"], abs=0.01) for r in rows)
    assert {r["method"] for r in rows if r["judge_calls"]} >= {"deepprune, paper", "deepprune, ours"}
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:5]) + lines[5][:30])
    again, printed = run()
    assert again[:5] == rows[:5] and len(again) == len(rows) and f"{len(rows) - 5} runs to do" in printed
    assert [(r["problem_id"], r["method"]) for r in again] == [(r["problem_id"], r["method"]) for r in rows]
    manifest = json.loads((tmp_path / "live.manifest.json").read_text())
    assert (
        manifest["complete"] and len(manifest["result"]) == len(titles) and manifest["settings"]["adaptive_batch"] == 8
    )
