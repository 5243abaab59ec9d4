"""Stage 06 on the records of a live run: what was never generated is not counted as wrong."""

import dataclasses
import json

import pytest
from conftest import make_problem, make_trace, run_stage

from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.base.records import Pruning
from deepprune.data import pairs
from deepprune.data.truncation import Truncation
from deepprune.evaluate import report, report_page, study

REPORT = "scripts/06_report.py"


@pytest.fixture
def live(tmp_path):
    """Two problems x 4 traces: two finished (10 tokens each), two stopped after 3 tokens; the first vote is right."""
    problems = [make_problem(i, str(2 * i)) for i in (1, 2)]
    traces, prunings = [], []
    for problem, answer in zip(problems, (problems[0].gold, "77"), strict=True):
        group = [make_trace(problem, i, answer) for i in range(4)]
        for i in (2, 3):
            group[i] = dataclasses.replace(group[i], n_tokens=3, finish_reason="abort", answer=None, correct=None)
        ids = [t.trace_id for t in group]
        prunings.append(
            Pruning(
                problem.problem_id,
                "judge",
                {"live": True},
                [ids],
                ids[:2],
                answer,
                answer == problem.gold,
                {"prefix": 12, "rest": 14, "total": 26, "consensus": 40, "sequential": 10},
                6,
                600,
                100,
            )
        )
        traces += group
    records.write(tmp_path / "problems.jsonl", problems)
    records.write(tmp_path / "live.traces.jsonl", traces)
    records.write(tmp_path / "live.jsonl", prunings)
    (tmp_path / "live.manifest.json").write_text(json.dumps({"judge_parameters": 100_000_000}))
    return tmp_path


def options(live):
    return [
        REPORT,
        "--output",
        live / "report",
        "--problems",
        live / "problems.jsonl",
        "--traces",
        live / "live.traces.jsonl",
        "--pruning",
        live / "live.jsonl",
        "--resamples",
        "50",
    ]


def test_a_live_run_is_reported_without_what_it_does_not_know(live):
    done = run_stage(*options(live))
    assert done.returncode == 0, done.stderr
    numbers = json.loads((live / "report/report.json").read_text())["pruning"]
    row = numbers["deepprune"]["judge"]
    assert numbers["live"] and numbers["pass@1"] is None and numbers["cons@n"]["accuracy"] is None
    assert row["accuracy_minus_cons@n"] is None and row["accuracy"]["value"] == 0.5
    assert numbers["cons@n"]["tokens"]["value"] == 40 and row["reduction"]["value"] == pytest.approx(1 - 52 / 80)
    # 500 computed prompt tokens of a judge a tenth of the reasoner's size are 50 reasoner tokens a problem.
    assert row["reduction_with_judge"]["value"] == pytest.approx(1 - (52 + 100) / 80)
    assert numbers["oracle_coverage"]["value"] == 0.5
    page = (live / "report/report.md").read_text()
    assert "| cons@n | not known |" in page and "| pass@1 |" not in page and "ROC" not in page
    assert (live / "report/tokens_accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert not (live / "report/roc.png").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--pruning", "again.jsonl", "live.jsonl"], "report them one at a time"),
        (["--pairs", "live.jsonl"], "--pairs and --scores go together"),
    ],
)
def test_reports_that_make_no_sense_are_refused(live, more, message):
    (live / "again.jsonl").write_text((live / "live.jsonl").read_text().replace('"judge":"judge"', '"judge":"other"'))
    done = run_stage(*options(live), *[live / x if x.endswith(".jsonl") else x for x in more])
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr


def test_runs_of_one_judge_are_told_apart_by_their_settings(live):
    """Every mode stands in the table and the figure; the same run twice is refused."""
    plain = list(records.read(Pruning, live / "live.jsonl"))
    whole = [
        dataclasses.replace(t, finish_reason="stop") for t in records.read(records.Trace, live / "live.traces.jsonl")
    ]
    records.write(live / "live.traces.jsonl", whole)
    files = []
    for name, settings in (
        ("all", {"asks": "all", "tau": 0.5}),
        ("needed", {"asks": "needed", "tau": 0.5}),
        ("lower", {"asks": "needed", "tau": 0.25}),
    ):
        files.append(live / f"{name}.jsonl")
        records.write(files[-1], [dataclasses.replace(p, settings=settings) for p in plain])
    common = options(live)[:-3]
    done = run_stage(*common, *files, "--resamples", "50")
    assert done.returncode == 0, done.stderr
    numbers = json.loads((live / "report/report.json").read_text())["pruning"]["deepprune"]
    needed = "judge, needed comparisons, the paper's finish"
    assert list(numbers) == ["judge, the paper's rule, tau 0.5", f"{needed}, tau 0.5", f"{needed}, tau 0.25"]
    assert f"| DeepPrune, {needed}, tau 0.25 |" in (live / "report/report.md").read_text()
    refused = run_stage(*common, live / "live.jsonl", live / "live.jsonl")
    assert refused.returncode == 2 and "judge with the same settings was given before" in refused.stderr


def test_a_report_of_nothing_is_refused(tmp_path):
    done = run_stage(REPORT, "--output", tmp_path)
    assert done.returncode != 0 and "nothing to report" in done.stderr


def test_pruned_traces_are_refused_where_answers_are_counted(live):
    problems = {p.problem_id: p for p in records.read(records.Problem, live / "problems.jsonl")}
    traces = list(records.read(records.Trace, live / "live.traces.jsonl"))
    for count in (study.agreement, study.against_k, study.settling):
        with pytest.raises(UserError, match="4 traces were stopped by live pruning"):
            count(problems, traces)
    done = run_stage(
        "Online/compare_methods.py",
        "--problems",
        live / "problems.jsonl",
        "--traces",
        live / "live.traces.jsonl",
        "--sbert",
        "none",
        "--tokenizer",
        "SmolLM2-135M-Instruct",
        "--output",
        live / "compare.jsonl",
    )
    assert done.returncode != 0 and "4 traces were stopped by live pruning" in done.stderr


def test_pairs_of_one_class_and_one_problem_are_reported_as_what_they_are(tmp_path):
    """No AUROC and no interval: null in report.json, n/a on the page."""
    rows, _ = pairs.build(
        [make_trace(make_problem(), i, "4") for i in range(3)], make_problem(), Truncation("words", 1), None, 0
    )
    records.write(tmp_path / "pairs.jsonl", rows)
    scores = [records.PairScore(p.pair_id, "judge", 0.3 + 0.3 * i, i > 0, 10, 0) for i, p in enumerate(rows)]
    records.write(tmp_path / "scores.jsonl", scores)
    done = run_stage(
        REPORT,
        "--output",
        tmp_path / "report",
        "--pairs",
        tmp_path / "pairs.jsonl",
        "--scores",
        tmp_path / "scores.jsonl",
        "--resamples",
        "50",
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report/report.json").read_text()
    metrics = json.loads(text, parse_constant=pytest.fail)["judges"]["judge"]["all"]["metrics"]
    assert metrics["auroc"] == {"value": None, "low": None, "high": None}
    assert metrics["accuracy"] == {"value": pytest.approx(2 / 3), "low": None, "high": None}
    page = (tmp_path / "report/report.md").read_text()
    assert "| judge | n/a (one class) | n/a (one class) | n/a (one class) | 0.667 [n/a] |" in page and "nan" not in page


@pytest.fixture
def replayed(tmp_path):
    """Two problems x 8 traces of 10 tokens, all agreeing in the first, none in the second; 3 of each are finished."""
    problems = {p.problem_id: p for p in (make_problem(i, str(2 * i)) for i in (1, 2))}
    one, two = problems.values()
    traces = [make_trace(one, i, one.gold, model="reasoner-1B") for i in range(8)]
    traces += [make_trace(two, i, str(100 + i), model="reasoner-1B") for i in range(8)]
    runs = {}
    for name, settings in (
        ("paper", {"asks": "all", "assign": "best", "finish_rule": "paper", "k1": 10, "n": 8}),
        ("cheaper", {"asks": "likely", "assign": "largest", "finish_rule": "staged", "k1": 10, "n": 8}),
    ):
        runs[f"judge, {name}"] = []
        for problem in problems.values():
            ids = [t.trace_id for t in traces if t.problem_id == problem.problem_id]
            runs[f"judge, {name}"].append(
                Pruning(
                    problem.problem_id,
                    "judge",
                    settings,
                    [ids],
                    ids[:3],
                    None,
                    problem is one,
                    {"prefix": 24, "rest": 16, "total": 40, "consensus": 80, "sequential": 10},
                    9,
                    300,
                    100,
                )
            )
    runs["oracle"] = [
        dataclasses.replace(p, judge="oracle", judge_calls=0, judge_tokens=0, judge_cached_tokens=0)
        for p in runs["judge, paper"]
    ]
    sizes = {"judge, paper": 100_000_000, "judge, cheaper": 100_000_000, "oracle": 0}
    return report.pruning_numbers(problems, traces, runs, sizes, None, 50, 0)


def test_what_needs_no_judge_stands_beside_pruning(replayed):
    others = replayed["others"]
    assert list(others) == [
        "cons@2",
        "cons@4",
        "Adaptive-Consistency",
        "Adaptive-Consistency, batches of 4, at most 20",
        "ESC, windows of 2",
    ]
    assert others["cons@2"]["tokens"]["value"] == 20 and others["cons@2"]["reduction"]["value"] == 0.75
    assert others["cons@4"]["accuracy"]["value"] == 0.5 and others["cons@4"]["traces"] == 4
    # Four equal answers decide (1 - 0.5^5 > 0.95); eight different ones never do.
    assert others["Adaptive-Consistency"]["tokens"]["value"] == (40 + 80) / 2
    assert others["Adaptive-Consistency"]["traces"] == 6
    assert (
        others["ESC, windows of 2"]["traces"] == (2 + 8) / 2
    )  # the first two agree; of eight different ones no two do
    assert others["Adaptive-Consistency"]["reduction"]["value"] == pytest.approx(1 - 120 / 160)
    numbers = {
        "run": "test",
        "scale": "",
        "resamples": 50,
        "seed": 0,
        "commit": "c",
        "judges": {},
        "inputs": [],
        "pruning": replayed,
    }
    page = report_page.to_markdown(numbers)
    assert "| cons@4 | 0.500 " in page and "| Adaptive-Consistency | 0.500 " in page and "nan" not in page


def test_the_summary_names_rules_savings_and_the_cost_of_the_judge(replayed):
    trained = {
        "settings": {"use_focal_loss": True, "finetuning_type": "lora"},
        "wall_seconds": 90,
        "rows": 227,
        "models": {"judge": "small-model (folder)"},
    }
    lines = report_page.summary({"judges": {}, "pruning": replayed}, trained)
    assert len(lines) <= 9 and lines[0] == "trained   small-model (lora, focal loss) on 227 pairs in 1.5 min"
    # 200 computed prompt tokens of a judge a tenth of the reasoner's size: 20 reasoner tokens on top of 40, of 80.
    saved = "accuracy 0.500 [0.000, 1.000], 50.0% of the tokens saved, 25.0% with the judge counted"
    assert f"pruning   the paper's rule, K1 = 10: {saved}" in lines
    assert f"pruning   likely comparisons, largest cluster first, staged finish: {saved}" in lines
    (cheap,) = (line for line in lines if line.startswith("no judge"))
    assert "Adaptive-Consistency accuracy 0.500" in cheap and "25.0% of the tokens saved" in cheap
    assert "cons@4" in cheap and "cons@2" not in cheap  # the most traces that cost no more than pruning
    (limit,) = (line for line in lines if line.startswith("limits"))
    assert "oracle: accuracy 0.500" in limit and "judge counted" not in limit
