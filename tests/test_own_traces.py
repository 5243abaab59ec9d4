"""What a run of pruning is set against in the report: its own traces, one definition, nothing unknown for free."""

import dataclasses
import json

import pytest
from small_runs import prune, report, reported, write_sixteen

from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.base.records import Pruning
from deepprune.evaluate import report_page, report_runs


@pytest.fixture
def sixteen(tmp_path):
    return write_sixteen(tmp_path)


def test_a_run_of_fewer_traces_is_set_against_their_vote_and_their_tokens(sixteen, monkeypatch):
    folder, _, traces = sixteen
    rows = prune(monkeypatch, folder, "eight.jsonl", "--n", "8", "--order", "shuffled", "--seed", "3")
    assert {
        (p.settings["n"], p.settings["order"], p.settings["truncation"], p.settings["truncation_k"], p.settings["seed"])
        for p in rows
    } == {(8, "shuffled", "words", 2, 3)}
    numbers, page = reported(monkeypatch, folder, "eight.jsonl")
    consensus = sum(range(10, 18))
    assert numbers["n"] == 8 and numbers["cons@n"]["tokens"]["value"] == consensus
    assert numbers["cons@n"]["accuracy"]["value"] == 1.0 and numbers["pass@1"]["accuracy"]["value"] == 5 / 8
    assert numbers["pass@1"]["tokens"]["value"] == consensus / 8
    row = numbers["deepprune"]["oracle"]
    assert row["reduction"]["value"] == pytest.approx(1 - sum(p.tokens["total"] for p in rows) / (4 * consensus))
    assert row["accuracy_minus_cons@n"]["value"] == 0 and row["against"] == "cons@8"
    assert "cons@8: 4 problems, n = 8 traces each" in page


def test_runs_of_other_traces_stand_beside_each_other_each_with_its_own(sixteen, monkeypatch):
    folder, problems, _ = sixteen
    prune(monkeypatch, folder, "eight.jsonl", "--n", "8")
    prune(monkeypatch, folder, "all.jsonl")
    prune(monkeypatch, folder, "two.jsonl", "--n", "8", "--limit", "2", judge="random")
    numbers, page = reported(monkeypatch, folder, "eight.jsonl", "all.jsonl", "two.jsonl")
    assert list(numbers["baselines"]) == ["cons@8, 4 problems", "cons@16", "cons@8, 2 problems"]
    right = {name: b["cons@n"]["accuracy"]["value"] for name, b in numbers["baselines"].items()}
    assert right == {"cons@8, 4 problems": 1.0, "cons@16": 0.0, "cons@8, 2 problems": 1.0}
    assert numbers["baselines"]["cons@16"]["pass@1"]["accuracy"]["value"] == 5 / 16
    against = {name: (row["against"], row["problems"]) for name, row in numbers["deepprune"].items()}
    assert against == {
        "oracle, n 8": ("cons@8, 4 problems", 4),
        "oracle, n 16": ("cons@16", 4),
        "random-0": ("cons@8, 2 problems", 2),
    }
    assert (
        numbers["deepprune"]["oracle, n 16"]["accuracy_minus_cons@n"]["value"]
        == numbers["deepprune"]["oracle, n 16"]["accuracy"]["value"]
    )
    assert "did not prune the same traces" in page and "| cons@16 | | 0.000" in page
    shown = [line for line in report_page.summary({"judges": {}, "pruning": numbers}) if line.startswith("pruning")]
    assert shown[0].startswith("pruning             oracle, n 8: ") and not shown[0].endswith("problems")
    assert shown[1].startswith("pruning             oracle, n 16: ") and shown[1].endswith(", against cons@16")
    assert "| pass@1 of 8, 2 problems | |" in page and "| DeepPrune, oracle, n 8 | cons@8, 4 problems |" in page


def test_records_of_before_n_was_written_down_tell_it_by_their_tokens(sixteen, monkeypatch):
    folder, _, traces = sixteen
    rows = prune(monkeypatch, folder, "eight.jsonl", "--n", "8")
    for row in rows:
        for key in ("n", "order", "truncation", "truncation_k"):
            del row.settings[key]
    records.write(folder / "old.jsonl", rows)
    prune(monkeypatch, folder, "all.jsonl")
    numbers, _ = reported(monkeypatch, folder, "old.jsonl")
    assert numbers["n"] == 8 and numbers["cons@n"]["accuracy"]["value"] == 1.0
    numbers, _ = reported(monkeypatch, folder, "old.jsonl", "all.jsonl")
    assert list(numbers["baselines"]) == ["cons@8", "cons@16"]
    assert list(numbers["deepprune"]) == ["oracle", "oracle, truncation words, truncation_k 2, n 16, order recorded"]


def test_a_run_whose_traces_are_not_all_given_is_refused(sixteen, monkeypatch):
    folder, problems, traces = sixteen
    rows = prune(monkeypatch, folder, "all.jsonl")
    with pytest.raises(UserError, match="pruned 16 traces of problem .*, of which 15 are in the --traces"):
        report_runs.own_traces("oracle", rows, [t for t in traces if t.sample_index != 15])


def test_names_tell_truncations_orders_and_numbers_of_problems_apart():
    def pruning(number, **settings):
        return Pruning(
            f"p{number}",
            "judge",
            {"tau": 0.5, "truncation": "words", "truncation_k": 25, "n": 8, "order": "recorded"} | settings,
            [["a"]],
            ["a"],
            None,
            None,
            {},
            0,
            0,
        )

    runs = [[pruning(1)], [pruning(1, truncation_k=15)], [pruning(1, order="shuffled")], [pruning(1), pruning(2)]]
    assert report_runs.names(runs) == [
        "judge, truncation_k 25, order recorded, 1 problems",
        "judge, truncation_k 15, order recorded",
        "judge, truncation_k 25, order shuffled",
        "judge, truncation_k 25, order recorded, 2 problems",
    ]
    assert report_runs.names([[pruning(1, n=6), pruning(2, n=8)]]) == ["judge"]
    assert report_runs.names([[pruning(1, n=6), pruning(2, n=8)], [pruning(1), pruning(2)]]) == [
        "judge, n 6 to 8",
        "judge, n 8",
    ]
    cheaper = {"asks": "likely", "assign": "largest", "finish_rule": "staged"}
    rules = [{"finish_rule": "paper", "finish_start": 16}, cheaper | {"finish_start": 8}, cheaper | {"finish_start": 4}]
    assert report_runs.names([[pruning(1, **rule)] for rule in rules]) == [
        "judge, the paper's rule",
        "judge, likely comparisons, largest cluster first, staged finish, finish_start 8",
        "judge, likely comparisons, largest cluster first, staged finish, finish_start 4",
    ]
    assert report_runs.names([[pruning(1, **cheaper)]]) == [
        "judge, likely comparisons, largest cluster first, staged finish"
    ]


def test_an_unknown_judge_is_unknown_and_not_free(sixteen, monkeypatch):
    folder, problems, traces = sixteen
    rows = prune(monkeypatch, folder, "known.jsonl")
    for name, judge in (("known", "judge"), ("unknown", "other"), ("none", "third")):
        records.write(folder / f"{name}.jsonl", [dataclasses.replace(p, judge=judge, judge_tokens=500) for p in rows])
    (folder / "known.manifest.json").write_text(json.dumps({"judge_parameters": 500_000_000}))
    (folder / "unknown.manifest.json").write_text(json.dumps({"complete": False}))
    numbers, page = reported(monkeypatch, folder, "known.jsonl", "unknown.jsonl", "none.jsonl")
    known, unknown, none = numbers["deepprune"].values()
    assert known["reduction_with_judge"]["value"] == pytest.approx(
        known["reduction"]["value"] - 4 * 250 / (4 * sum(range(10, 26)))
    )
    for row in (unknown, none):
        assert row["judge_parameters"] is row["reduction_with_judge"] is row["tokens_with_judge"] is None
        assert row["reduction"]["value"] == known["reduction"]["value"]
    assert "| unknown |" in [line for line in page.splitlines() if "| DeepPrune, other |" in line][0]
    assert "The size of the judge of other; third is not known" in page and "not complete" in page
    drawn = report_page.figure(numbers)
    shown = drawn.axes[0].get_legend_handles_labels()[1]
    assert "DeepPrune, judge; hollow: judge counted" in shown and "DeepPrune, other" in shown
    assert "not drawn, because a size is not known: other; third" in drawn.axes[0].get_title()


def test_a_reasoner_of_unknown_size_is_said_and_the_oracle_is_free_all_the_same(sixteen, monkeypatch):
    folder, problems, traces = sixteen
    records.write(folder / "traces.jsonl", [dataclasses.replace(t, model="GLM-4.5-Air") for t in traces])
    rows = prune(monkeypatch, folder, "oracle.jsonl")
    records.write(folder / "judge.jsonl", [dataclasses.replace(p, judge="judge", judge_tokens=500) for p in rows])
    (folder / "judge.manifest.json").write_text(json.dumps({"judge_parameters": 500_000_000}))
    numbers, page = reported(monkeypatch, folder, "oracle.jsonl", "judge.jsonl")
    assert numbers["deepprune"]["judge"]["reduction_with_judge"] is None
    assert numbers["deepprune"]["oracle"]["reduction_with_judge"] == numbers["deepprune"]["oracle"]["reduction"]
    assert "The size of the reasoner (GLM-4.5-Air) is not known" in page


def test_a_live_run_in_which_every_opened_trace_finished_is_live_still(sixteen, monkeypatch):
    """Its rule opened 4 of 16 traces and finished them all: cons@16 is its own estimate."""
    folder, problems, traces = sixteen
    opened = [t for t in traces if t.sample_index < 4]
    rows = []
    for problem in problems:
        ids = [t.trace_id for t in opened if t.problem_id == problem.problem_id]
        rows.append(
            Pruning(
                problem.problem_id,
                "random-0",
                {"live": True, "n": 16, "order": "held"},
                [ids],
                ids,
                problem.gold,
                True,
                {"prefix": 20, "rest": 26, "total": 46, "consensus": 184, "sequential": 12},
                6,
                0,
                0,
            )
        )
    records.write(folder / "live.jsonl", rows)
    records.write(folder / "traces.jsonl", opened)
    numbers, page = reported(monkeypatch, folder, "live.jsonl")
    assert (
        numbers["live"] and numbers["n"] == 16 and numbers["pass@1"] is None and numbers["cons@n"]["accuracy"] is None
    )
    assert (
        numbers["cons@n"]["tokens"]["value"] == 184 and numbers["deepprune"]["random-0"]["reduction"]["value"] == 0.75
    )
    assert "A live run" in page and "estimated from the lengths of the finished traces" in page
    for row in rows:  # no trace ended: nothing to estimate from
        row.tokens["consensus"] = 0
    records.write(folder / "live.jsonl", rows)
    numbers, page = reported(monkeypatch, folder, "live.jsonl")
    assert numbers["cons@n"]["tokens"] is None and numbers["deepprune"]["random-0"]["reduction"] is None
    assert "tokens of cons@n are not known" in page


def test_one_problem_and_pairs_of_one_class_have_no_nan_in_their_report(sixteen, monkeypatch):
    folder, problems, traces = sixteen
    prune(monkeypatch, folder, "one.jsonl", "--limit", "1")
    pair = records.Pair("pair", problems[0].problem_id, "a", "b", "x", "y", {"strategy": "words", "k": 2}, 1, "q")
    records.write(folder / "pairs.jsonl", [pair])
    records.write(folder / "scores.jsonl", [records.PairScore("pair", "judge", 0.7, True, 10, 0)])
    files = ["--pruning", folder / "one.jsonl", "--pairs", folder / "pairs.jsonl", "--scores", folder / "scores.jsonl"]
    report(monkeypatch, folder, *files, "--resamples", "20")

    def refuse(constant):
        raise AssertionError(constant)

    numbers = json.loads((folder / "report/report.json").read_text(), parse_constant=refuse)
    assert numbers["judges"]["judge"]["all"]["metrics"]["auroc"]["value"] is None
    page = (folder / "report/report.md").read_text()
    assert "n/a (one class)" in page and "nan" not in page.replace("finance", "")
    for name in ("roc.png", "tokens_accuracy.png"):
        assert (folder / "report" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("what", ["pruning", "pairs"])
def test_a_report_of_an_empty_file_is_one_line(sixteen, monkeypatch, capsys, what):
    folder, _, _ = sixteen
    (folder / "empty.jsonl").write_text("")
    given = ["--pruning", "empty.jsonl"] if what == "pruning" else ["--pairs", "empty.jsonl", "--scores", "empty.jsonl"]
    with pytest.raises(SystemExit) as ended:
        report(monkeypatch, folder, *(folder / x if x.endswith(".jsonl") else x for x in given))
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "empty.jsonl: no" in said and said.count("\n") == 1
