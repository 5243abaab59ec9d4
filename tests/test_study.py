"""The study's tables and the ablation's, counted again by plain code."""

import dataclasses
import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import load_script, make_problem, make_trace, run_stage
from sklearn.metrics import roc_auc_score

from deepprune.base import metrics, records
from deepprune.base.errors import UserError
from deepprune.data import pairs
from deepprune.data.truncation import Truncation
from deepprune.evaluate import ablation, study

PROBLEMS = [make_problem(i, str(2 * i), family="sums" if i % 2 else "others") for i in range(1, 9)]


def write_scores(path, pair_records, seed, quality, judge="j"):
    rng = np.random.default_rng(seed)
    rows = [
        records.PairScore(p.pair_id, judge, float(np.clip(quality * p.label + rng.random() * 0.6, 0, 1)), True, 5, 0)
        for p in pair_records
    ]
    records.write(path, rows)


def make_pairs(truncation):
    pair_records = []
    for problem in PROBLEMS:
        for model in ("reasoner-1B", "reasoner-2B"):
            group = [make_trace(problem, i, [problem.gold, problem.gold, "7", "8"][i], model=model) for i in range(4)]
            pair_records += pairs.build(group, problem, truncation, None, 0)[0]
    return pair_records


@pytest.fixture
def folder(tmp_path):
    """A study of two judges on 96 pairs of 8 problems and two reasoners."""
    pair_records = make_pairs(Truncation("words", 1))
    records.write(tmp_path / "pairs.jsonl", pair_records)
    write_scores(tmp_path / "scores_good.jsonl", pair_records, 1, 0.4)
    write_scores(tmp_path / "scores_bad.jsonl", pair_records, 2, 0.1)
    return tmp_path


def test_tables_are_the_metrics_of_each_group(folder):
    data = study.scored(folder, {"good": "good", "bad": "bad"})
    assert len(data) == 96 and study.judges_of(data) == ["good", "bad"]
    for by in ("family", "reasoner"):
        table = study.table(data, by=by, resamples=20)
        assert len(table) == 4
        for _, row in table.iterrows():
            rows = data[data[by] == row["group"]]
            assert row["AUROC"] == pytest.approx(roc_auc_score(rows["label"], rows[row["judge"]]), abs=1e-12)
            assert row["pairs"] == len(rows) == 48 and row["AUROC low"] <= row["AUROC"] <= row["AUROC high"]
    shown = study.readable(study.table(data, resamples=20))
    assert "AUROC low" not in shown and shown["AUROC"][0].startswith(
        f"{roc_auc_score(data['label'], data['good']):.3f} ["
    )


def test_missing_files_say_how_to_make_them(tmp_path):
    with pytest.raises(UserError, match="run_study.sh"):
        study.find(tmp_path, "pairs")


def test_difference_is_paired(folder):
    data = study.scored(folder, {"good": "good", "bad": "bad"})
    value, low, high = study.difference(data, "good", "bad", resamples=200)
    areas = [roc_auc_score(data["label"], data[j]) for j in ("good", "bad")]
    assert value == pytest.approx(areas[0] - areas[1], abs=1e-12) and 0 < low <= value <= high
    assert study.difference(data, "good", "good", resamples=50) == (0.0, 0.0, 0.0)  # unpaired, it would have a width


def test_each_half_gets_the_other_halfs_temperature(folder):
    data = study.scored(folder, {"good": "good"})
    mended, fitted = study.cross_fitted_temperature(data, "good")
    first = data["problem_id"].isin(sorted(data["problem_id"].unique())[::2])
    for rows, temperature in ((first, fitted[0]), (~first, fitted[1])):
        assert temperature == pytest.approx(
            metrics.fit_temperature(data[~rows]["label"], data[~rows]["good"]), rel=1e-9
        )
        assert np.allclose(mended[rows], metrics.with_temperature(data[rows]["good"], temperature), atol=1e-12)


def test_worst_errors_are_errors_worst_first_and_spread(folder):
    data = study.scored(folder, {"bad": "bad"})
    worst_pairs = study.worst_errors(folder / "pairs.jsonl", data, "bad", 8)
    sizes = [abs(p - pair.label) for pair, p in worst_pairs]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) > 0.5
    ids = [pair.problem_id for pair, _ in worst_pairs]
    assert max(ids.count(i) for i in ids) <= 2
    worst = (data["bad"] - data["label"]).abs().idxmax()
    assert worst_pairs[0][0].pair_id == data.loc[worst, "pair_id"]


def test_a_leak_is_an_error(folder):
    data = study.scored(folder, {"good": "good"})
    others = [make_problem(i, str(2 * i)) for i in (50, 51)]
    by_id = {p.problem_id: p for p in [*PROBLEMS, *others]}
    assert study.check_leak(by_id, [p.problem_id for p in others], data) == 16
    twin = records.Problem.new("elsewhere", "  What is 3 +  3? ", "6")
    with pytest.raises(UserError, match="leak: problem"):
        study.check_leak(by_id | {twin.problem_id: twin}, [twin.problem_id], data)


def test_agreement_counts_pairs():
    problem = PROBLEMS[0]
    trace_records = [make_trace(problem, i, a) for i, a in enumerate(["2", "2.0", "7", None, "2", "7"])]
    row = study.agreement({problem.problem_id: problem}, trace_records).iloc[0]
    known = ["2", "2", "7", "2", "7"]
    same = sum(a == b for a, b in itertools.combinations(known, 2))
    assert (row["traces"], row["pairs"], row["same"]) == (6, 10, same / 10)
    assert row["unknown"] == pytest.approx(1 / 6) and row["pass@1"] == pytest.approx(
        sum(t.correct is True for t in trace_records) / 6
    )


def test_the_ablations_table_and_effects(tmp_path):
    """Words help by design here, the other factors do not; the mean differences are counted again."""
    areas = {}
    for number, cell in enumerate(ablation.GRID):
        pair_records = make_pairs(
            Truncation(cell.truncation, 1) if cell.truncation == "words" else Truncation("words", 2)
        )
        records.write(ablation.pairs_file(tmp_path, cell), pair_records)
        write_scores(
            tmp_path / f"scores_{cell.name}.jsonl",
            pair_records,
            number,
            0.4 if cell.truncation == "words" else 0.0,
            cell.name,
        )
        scores = [s.p_same for s in records.read(records.PairScore, tmp_path / f"scores_{cell.name}.jsonl")]
        areas[cell] = roc_auc_score([p.label for p in pair_records], scores)
    table = ablation.table(tmp_path, resamples=20).set_index("cell")
    assert len(table) == 8 and table.index.is_unique
    for cell, area in areas.items():
        assert table.loc[cell.name, "AUROC"] == pytest.approx(area, abs=1e-12)
    assert table.loc["words-focal-oversampled", "paper AUROC"] == 0.8701
    effects = ablation.effects(tmp_path, resamples=100).set_index("factor")
    words = effects.loc["reasoning words instead of tokens"]
    by_hand = np.mean([a for c, a in areas.items() if c.truncation == "words"]) - np.mean(
        [a for c, a in areas.items() if c.truncation == "tokens"]
    )
    assert words["AUROC"] == pytest.approx(by_hand, abs=1e-12) and words["low"] > 0
    oversampling = effects.loc["oversampling instead of none"]
    assert oversampling["AUROC"] == pytest.approx(
        np.mean([a for c, a in areas.items() if c.oversampled])
        - np.mean([a for c, a in areas.items() if not c.oversampled])
    )
    pair_records = make_pairs(Truncation("words", 1))
    records.write(ablation.pairs_file(tmp_path, ablation.GRID[-1]), pair_records[1:])
    with pytest.raises(UserError, match="same pairs only"):
        ablation.table(tmp_path, resamples=20)


def test_the_grid_script_runs_each_stage_with_the_cells_choices(tmp_path, monkeypatch):
    """Which commands, with which options; the stages themselves have their own tests."""
    script = load_script("scripts/run_ablation.py")
    ran = []

    def run(command):
        ran.append(command[1:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(script, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(
        script.ablation, "table", lambda *a, **k: study.table(study.frame(pairs_file, {"x": scores}), resamples=5)
    )
    pair_records = make_pairs(Truncation("words", 1))
    pairs_file, scores = tmp_path / "p.jsonl", tmp_path / "s.jsonl"
    records.write(pairs_file, pair_records)
    write_scores(scores, pair_records, 0, 0.3)
    words = "--problems p q --traces t --words-k 3 --tokens-k 70 --oversampling 3 --train-with bf16=true --output"
    arguments = ["run_ablation.py", *words.split(), str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    builds = [options_of(words) for script, *words in ran if script.endswith("build_pair_dataset.py")]
    assert all(b["problems"] == "p q" and b["seed"] == "0" and "test-traces" not in b for b in builds)
    chosen = {(b["truncation"], b["truncation-k"], b["oversampling"]) for b in builds}
    assert chosen == {("words", "3", "1"), ("words", "3", "3"), ("tokens", "70", "1"), ("tokens", "70", "3")}
    trained = [words for script, *words in ran if script.endswith("train.py")]
    assert len(trained) == 8 and len({tuple(words) for words in trained}) == 8
    assert sum("use_focal_loss=true" in a for a in trained) == 4 and all("bf16=true" in a for a in trained)
    truncations = {b["name"]: b["truncation"] for b in builds}
    scored = [options_of(words) for script, *words in ran if script.endswith("test_model_performance_parallel.py")]
    assert len(scored) == 8 and all("max-model-len" not in options for options in scored)
    for options in scored:
        cell = next(c for c in ablation.GRID if options["model"].endswith("/" + c.name))
        assert options["pairs"].endswith(f"/{cell.data}.jsonl") and truncations[cell.data] == cell.truncation
    ran.clear()
    monkeypatch.setattr(sys, "argv", [*arguments, "--only-pairs"])
    script.main()
    assert len(ran) == 4 and all(script.endswith("build_pair_dataset.py") for script, *_ in ran)


def options_of(words):
    """Option -> its words, of a command."""
    return {name: value for name, _, value in (part.partition(" ") for part in " ".join(words)[2:].split(" --"))}


def test_scores_are_tabulated_by_how_much_of_the_traces_was_seen(folder, tmp_path):
    """At one word every prefix is partial but for a trace that ends at it: 'First'."""
    trace_records = [
        make_trace(PROBLEMS[0], i, a, text=t)
        for i, (a, t) in enumerate([("4", "First"), ("4", "First we"), ("7", "First"), ("8", "So it is")])
    ]
    pair_records, _ = pairs.build(trace_records, PROBLEMS[0], Truncation("words", 1), None, 0)
    records.write(tmp_path / "few.jsonl", pair_records)
    records.write(tmp_path / "traces.jsonl", trace_records)
    write_scores(tmp_path / "few_scores.jsonl", pair_records, 3, 0.3)
    args = [
        "--pairs",
        tmp_path / "few.jsonl",
        "--scores",
        f"it={tmp_path / 'few_scores.jsonl'}",
        "--output",
        tmp_path / "out" / "few",
    ]
    done = run_stage("Offline/tabulate_scores.py", *args, "--traces", tmp_path / "traces.jsonl", "--resamples", "20")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out" / "few.csv").set_index("group")
    counts = {
        g: int(table.loc[f"reasoner-1B, {g}", "pairs"])
        for g in ("both traces partial", "one whole trace", "both traces whole")
    }
    assert counts == {"both traces partial": 1, "one whole trace": 4, "both traces whole": 1}
    score = {s.pair_id: s.p_same for s in records.read(records.PairScore, tmp_path / "few_scores.jsonl")}
    assert table.loc["all", "AUROC"] == pytest.approx(
        roc_auc_score([p.label for p in pair_records], [score[p.pair_id] for p in pair_records])
    )
    assert (
        (tmp_path / "out" / "few.manifest.json").is_file()
        and (tmp_path / "out" / "few_roc.png").stat().st_size > 5000
        and "| all | it | 6 |" in (tmp_path / "out" / "few.md").read_text()
    )
    records.write(tmp_path / "traces.jsonl", trace_records[1:])
    done = run_stage("Offline/tabulate_scores.py", *args, "--traces", tmp_path / "traces.jsonl")
    assert done.returncode == 2 and "is in no --traces file" in done.stderr


def test_curves_over_k_are_those_of_all_choices_of_k_traces():
    """Two spellings of one answer are one class; an unknown answer does not vote; 3 ties with 2 + 1 split alike."""
    problem, other = PROBLEMS[0], PROBLEMS[1]  # gold 2 and 4
    trace_records = [make_trace(problem, i, a) for i, a in enumerate(["7", "2", None, "2.0", "7", "9"])]
    trace_records = [t if t.answer != "2.0" else dataclasses.replace(t, correct=True) for t in trace_records]
    trace_records += [make_trace(other, i, a) for i, a in enumerate(["5", "6"])]
    data = study.against_k({p.problem_id: p for p in PROBLEMS}, trace_records).set_index(["problem_id", "k"])
    assert data.loc[problem.problem_id].index.to_list() == [1, 2, 4, 6] and data.loc[
        other.problem_id
    ].index.to_list() == [1, 2]
    classes = ["7", "2", None, "2", "7", "9"]
    for k in (1, 2, 4, 6):
        passes, votes, distinct = [], [], []
        for chosen in itertools.combinations(classes, k):
            counts = {a: chosen.count(a) for a in set(chosen) - {None}}
            best = [a for a, c in counts.items() if c == max(counts.values())]
            passes.append("2" in chosen)
            votes.append(("2" in best) / len(best) if best else 0)
            distinct.append(len(counts))
        row = data.loc[problem.problem_id, k]
        assert [row["pass@k"], row["cons@k"], row["distinct"]] == pytest.approx(
            [np.mean(passes), np.mean(votes), np.mean(distinct)]
        )
    assert (data.loc[other.problem_id][["pass@k", "cons@k"]] == 0).all(axis=None)


def test_where_the_vote_settles_over_random_orders():
    problem, other = PROBLEMS[0], PROBLEMS[1]
    trace_records = [make_trace(problem, i, "2") for i in range(5)] + [
        make_trace(other, i, a) for i, a in enumerate([None, "8", "8"])
    ]
    data = study.settling({p.problem_id: p for p in PROBLEMS}, trace_records, orders=300).set_index("problem_id")
    assert (
        data.loc[problem.problem_id, ["low", "median", "high"]].to_list() == [1, 1, 1]
        and data.loc[problem.problem_id, "right"]
    )
    # One of three is unknown: the vote settles with the first answer, at the second trace in a third of the orders.
    assert (
        data.loc[other.problem_id, ["low", "median", "high"]].to_list() == [1, 1, 2]
        and not data.loc[other.problem_id, "right"]
    )
