"""Does a judge pay: what is played, what a size makes of it, and when an accuracy is reached; calibrations that are
used are those of other problems."""

import csv
import json
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import load_script

from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.base.records import Problem
from deepprune.data.traces import graded
from deepprune.evaluate import judge_pays, methods, posteriors, question_sets, simulation
from deepprune.evaluate.judge_pays import Posteriors
from deepprune.judges import calibration
from deepprune.judges.pair_prompts import Frame
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.posterior import PosteriorSettings
from deepprune.prune.replay import play

FEW = Posteriors((6,), (1,))


def question(number, n=20):
    rng = np.random.default_rng(number)
    labels = [int(x) for x in rng.choice(3, n, p=[0.6, 0.3, 0.1])]
    return methods.TraceSet(f"q{number}", "D", labels, 0, [int(x) for x in rng.integers(50, 90, n)], [10] * n)


def row(number, auroc=0.9):
    q = question(number)
    scores = simulation.simulated_scores(q.labels, auroc, 0, f"{number}")
    judged = methods.Judged(scores, 1.0, [10] * 20, Frame(1, 1, 1)), simulation.simulated_calibration(auroc)
    return judge_pays.played(q, [range(20), range(19, -1, -1)], lambda number: {"j": judged}, FEW)


def test_each_setting_is_played_as_alone_and_remembering_changes_nothing():
    q, got = question(3), row(3)
    values = {tuple(m[:3]): m[3:] for m in got["methods"]}
    plain = [play(METHODS["adaptive"].start(6, AdaptiveSettings(0.9, 2)), t.recorded()) for t in
             (q, q.ordered(range(19, -1, -1)))]  # fmt: skip
    found = values["adaptive-consistency", "", "b 2, at most 6, 0.9"]
    assert found[0] == np.mean([p.answer == 0 for p in plain]) and found[1] == np.mean([p.tokens for p in plain])
    scores = simulation.simulated_scores(q.labels, 0.9, 0, "3").tolist()
    worth = simulation.simulated_calibration(0.9)
    tried = list(FEW.all(worth))
    together = list(posteriors.played(q.recorded(), scores, tried))
    for settings, (title, done, asked) in zip(tried, together, strict=True):
        assert next(posteriors.played(q.recorded(), scores, [settings])) == (title, done, asked)
        assert sum(map(len, asked)) == done.compared and f"{settings.threshold:g}" in title
    # Prompts of 1 + 10 + 1 + 10 + 1 tokens; of a trace's second and later ones 11 are computed, of its first 22 or 23.
    total, cached = methods.Judged(np.zeros((20, 20)), 1.0, [10] * 20, Frame(1, 1, 1)).prompt_tokens(asked, 20)
    assert total == 23 * done.compared and cached < total


def test_questions_without_an_answer_yet_are_not_taken_for_each_other():
    """Ten traces without an answer come first: nothing tells what is known then but how many are left."""
    q = methods.TraceSet("q", "D", [None] * 10 + [0] * 10, 0, [50] * 20, [10] * 20)
    scores = simulation.simulated_scores(q.labels, 1.0, 0, "q").tolist()
    tried = [PosteriorSettings(12, 2, 1, t, 12, 0.0) for t in (0.6, 0.9)]
    alone = [next(posteriors.played(q.recorded(), scores, [settings])) for settings in tried]
    assert list(posteriors.played(q.recorded(), scores, tried)) == alone and alone[0][1].answer == 0


def test_a_size_weighs_the_judges_tokens_and_the_front_gains_nothing_over_itself():
    rows = [row(i) for i in range(4)]
    numbers = judge_pays.table(rows, [0.0, 0.5], 50)
    posterior = numbers[numbers["method"] == "posterior"]
    assert (posterior["total"] == posterior["tokens"] + posterior["ratio"] * posterior["judge_tokens"]).all()
    assert posterior["ratio"].nunique() == 2 and (posterior["judge_tokens"] > 0).all()
    plain = numbers[numbers["method"] == "adaptive-consistency"]
    assert plain["over_adaptive"].max() == pytest.approx(0.0, abs=1e-9)
    assert {"cons@m", "paper", "staged"} <= set(numbers["method"])
    summary = judge_pays.summary(numbers)
    assert len(summary) == 3 * 2 and (summary["target"] == summary["target"].iloc[0]).all()


def test_what_an_accuracy_costs_by_hand():
    rows = pd.DataFrame({"accuracy": [0.5, 0.7, 0.6, 0.65], "total": [10.0, 50.0, 20.0, 90.0]})
    assert judge_pays.needed(rows, 0.5) == 10 and judge_pays.needed(rows, 0.65) == pytest.approx(35)
    assert judge_pays.needed(rows, 0.45) == 10 and np.isnan(judge_pays.needed(rows, 0.71))


def test_the_script_writes_its_tables_and_its_figure_and_goes_on(tmp_path, monkeypatch):
    script = load_script("Online/does_a_judge_pay.py")
    rng = np.random.default_rng(0)
    with open(tmp_path / "answers.jsonl", "w") as out:
        for problem in range(3):
            for _ in range(10):
                answer = str(rng.choice([7, 8, 9], p=[0.6, 0.3, 0.1]))
                fields = {"dataset": "D", "problem_id": f"p{problem}", "gold": "7", "answer": answer}
                out.write(json.dumps(fields | {"n_tokens": int(rng.integers(500, 900))}) + "\n")

    def run():
        arguments = [
            "--answers",
            tmp_path / "answers.jsonl",
            "--output",
            tmp_path / "pays.jsonl",
            "--aurocs",
            0.5,
            0.8,
            1,
        ]
        arguments += ["--shared", 0, 0.5, "--orders", 2, "--resamples", 20, "--prefix-tokens", 50]
        monkeypatch.setattr(sys, "argv", ["pays", *map(str, arguments)])
        script.main()
        return (tmp_path / "pays.jsonl").read_text()

    first = run()
    table = list(csv.DictReader(open(tmp_path / "pays.csv")))
    assert {r["judge"] for r in table} == {"", *(f"AUROC {a}" for a in
            ("0.5, shared 0", "0.8, shared 0", "0.8, shared 0.5", "1, shared 0"))}  # fmt: skip
    assert (tmp_path / "pays.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "pays.jsonl").write_text("".join(first.splitlines(keepends=True)[:2]))
    assert run() == first


def test_trace_records_are_played_apart_at_the_length_asked_for(tmp_path, monkeypatch, capsys):
    """Two files, one of two reasoners; one problem has a trace more, and an answer of letters is no formula."""
    script = load_script("Online/does_a_judge_pay.py")
    one, two = Problem.new("D", "1 + 1?", "2"), Problem.new("D", "A or B?", "B", "choice")

    def by(problem, model, answers, tokens):
        return [
            graded(problem, answer, model, i, f"It is {answer}.", tokens + i, "stop", {})
            for i, answer in enumerate(answers)
        ]

    records.write(tmp_path / "problems.jsonl", [one, two])
    records.write(tmp_path / "x.jsonl", [*by(one, "m", "222332222", 100), *by(two, "m", "BBABBBBB", 300)])
    records.write(tmp_path / "y.v2.jsonl.gz", [*by(one, "m", "33333333", 10), *by(one, "k", "22222222", 50)])
    files = [str(tmp_path / name) for name in ("x.jsonl", "y.v2.jsonl.gz")]
    sets = question_sets.read(files, [str(tmp_path / "problems.jsonl")], apart=True)
    assert [[q.dataset for q in group] for group in sets] == [["x, m"] * 2, ["y.v2, m"], ["y.v2, k"]]
    first = question_sets.cut(sets[0], 30, scaled_to=50)
    assert [q.labels for q in first] == [[0, 0, 0, 1, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]] and [
        q.right for q in first
    ] == [0, 0]
    # a mean of 203.5 is now 50
    assert [q.lengths for q in first] == [[25, 25, 25, 25, 26, 26, 26, 26], [74, 74, 74, 74, 75, 75, 75, 75]]
    assert [q.prefixes for q in first] == [[25, 25, 25, 25, 26, 26, 26, 26], [30] * 8]
    assert question_sets.cut(sets[1], 30)[0].lengths == list(range(10, 18))
    late = methods.TraceSet("late", "D", [0, 0, 1], 1, [5, 5, 5], [0, 0, 0])
    early = methods.TraceSet("early", "D", [0, 1], 1, [5, 5], [0, 0])
    assert [q.right for q in question_sets.cut([late, early], 30)] == [None, 1]
    assert "x, m: the first 8 traces" in capsys.readouterr().out
    options = ["--orders", "2", "--resamples", "20", "--aurocs", "0.8", "--apart", "--output", tmp_path / "p.jsonl"]
    everything = ["--problems", tmp_path / "problems.jsonl", "--answers", *files]
    monkeypatch.setattr(sys, "argv", ["pays", *map(str, [*everything, *options])])
    script.main()
    summary = pd.read_csv(tmp_path / "p_summary.csv")
    assert summary.groupby("dataset", sort=False)["problems"].first().to_dict() == {
        "x, m": 2,
        "y.v2, m": 1,
        "y.v2, k": 1,
    }
    assert not (tmp_path / "p.png").exists()
    records.write(tmp_path / "few.jsonl", by(one, "m", "222", 100))
    monkeypatch.setattr(sys, "argv", [*sys.argv[:4], str(tmp_path / "few.jsonl"), *map(str, options)])
    with pytest.raises(SystemExit):
        script.main()
    assert "few, m: 3 traces a problem; cons@8 needs as many" in capsys.readouterr().err
    with pytest.raises(UserError, match="x.jsonl: problem .* is in no --problems file"):
        records.write(tmp_path / "problems.jsonl", [two])
        question_sets.read(files, [str(tmp_path / "problems.jsonl")])


def test_the_comparison_calibrates_on_other_problems():
    script = load_script("Online/compare_methods.py")
    rng = np.random.default_rng(2)

    class Known:
        def __init__(self, answer):
            self.answer = answer

    class Asked:
        answer_type = "math"

    groups = {f"p{i}": [Known(str(rng.integers(2))) for _ in range(8)] + [Known(None)] for i in range(10)}
    tables = {}
    for i, traces in groups.items():
        labels = [None if t.answer is None else int(t.answer) for t in traces]
        tables[i] = methods.Judged(simulation.simulated_scores(labels, 0.85, 0, i))
    by_id = dict.fromkeys(groups, Asked)
    before = script.calibrated(tables, script.known_pairs(tables, by_id, groups), "raw")
    assert all(before[i].calibration.noise.gap > 0.3 for i in groups)
    for t in groups["p0"]:
        t.answer = None if t.answer is None else str(1 - int(t.answer)) if t is groups["p0"][0] else t.answer
    after = script.calibrated(tables, script.known_pairs(tables, by_id, groups), "raw")
    assert after["p0"].calibration == before["p0"].calibration
    assert any(after[i].calibration != before[i].calibration for i in groups)
    assert posteriors.usual([0.7], None) == [] and len(posteriors.usual([0.7, 0.9], calibration.SILENT)) == 4
    assert isinstance(posteriors.usual([0.7], calibration.SILENT)[0], PosteriorSettings)
