"""How early can one tell? The tables over cuts, counted again by plain code."""

import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import make_problem, make_trace, run_stage
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from deepprune.base import metrics, records
from deepprune.data import pairs
from deepprune.data.truncation import Truncation
from deepprune.evaluate import plotting, references, study

CUTS = (1, 3)
ANSWERS = ("2", "2", "7", "7", "8")


@pytest.fixture
def folder(tmp_path):
    """Traces of two reasoning words in one source, of four in the other, but one in each problem's first; two cuts."""
    problems = [make_problem(i, str(2 * i)) for i in range(1, 7)]
    all_pairs = []
    for source, words in (("short", 2), ("long", 4)):
        traces = {
            p.problem_id: [
                make_trace(p, i, a, text="So it is. " * (words if i else 1) + f"It is {a}", model=source)
                for i, a in enumerate(ANSWERS)
            ]
            for p in problems
        }
        records.write(tmp_path / f"{source}.jsonl", [t for group in traces.values() for t in group])
        for k, p in itertools.product(CUTS, problems):
            all_pairs += pairs.build(traces[p.problem_id], p, Truncation("words", k), None, 0)[0]
    records.write(tmp_path / "pairs.jsonl", all_pairs)
    rng = np.random.default_rng(0)
    for judge, quality in (("weak", 0.1), ("good", 0.5)):
        scores = [
            records.PairScore(p.pair_id, judge, float(quality * p.label + (1 - quality) * rng.random()), True, 1, 0)
            for p in all_pairs
        ]
        records.write(tmp_path / f"{judge}.jsonl", scores)
    return tmp_path


def tabulate(folder, *sources):
    return run_stage(
        "Offline/tabulate_prefixes.py",
        *("--pairs", folder / "pairs.jsonl", "--output", folder / "out" / "table", "--resamples", 20),
        *("--scores", f"weak, 5 rows={folder / 'weak.jsonl'}", f"weak, 10 rows={folder / 'good.jsonl'}"),
        *("--traces", *(f"{name}={folder / name}.jsonl" for name in sources)),
    )


def test_numbers_at_each_cut_are_those_of_its_pairs(folder):
    done = tabulate(folder, "short", "long")
    assert done.returncode == 0, done.stderr
    numbers = pd.read_csv(folder / "out" / "table.csv").set_index(["source", "cut", "seen", "judge"]).sort_index()
    text = {
        t.trace_id: t.text for t in records.read(records.Trace, *(folder / f"{s}.jsonl" for s in ("short", "long")))
    }
    score = {s.pair_id: s.p_same for s in records.read(records.PairScore, folder / "good.jsonl")}
    pair_records = list(records.read(records.Pair, folder / "pairs.jsonl"))
    for source, k in itertools.product(("short", "long", "all"), (*CUTS, "all")):
        cut = k if k == "all" else f"words:{k}"
        chosen = [p for p in pair_records if source in (p.model, "all") and k in (p.truncation["k"], "all")]
        partial = [p for p in chosen if p.prefix_a != text[p.trace_a] and p.prefix_b != text[p.trace_b]]
        for seen, group in (("partial", partial), ("all", chosen)):
            if not group:
                assert ("short", cut, seen, "weak, 10 rows") not in numbers.index and (source, k) == ("short", 3)
                continue
            row = numbers.loc[(source, cut, seen, "weak, 10 rows")]
            assert row["pairs"] == len(group) and row["problems"] == 6
            labels, values = [p.label for p in group], [score[p.pair_id] for p in group]
            assert row["AUROC"] == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
            lengths = [(len(p.prefix_a) + len(p.prefix_b)) / 2 for p in group]
            assert row["characters"] == np.median(lengths) and row["AUROC low"] <= row["AUROC"] <= row["AUROC high"]
    # Of five traces four are longer.
    assert numbers.loc[("long", "words:3", "partial", "weak, 10 rows"), "pairs"].item() == 6 * 6
    page = (folder / "out" / "table.md").read_text()
    assert "- words:1: +" in page and "over weak, 5 rows" in page and "| long | words:3 | partial |" in page
    for figure in ("length", "length_within", "curve"):
        assert (folder / "out" / f"table_{figure}.png").stat().st_size > 5000


def test_traces_that_no_file_has_are_an_error(folder):
    done = tabulate(folder, "short")
    assert done.returncode == 2 and "is in no --traces file" in done.stderr


def test_shorter_prefixes_come_first(folder):
    data = study.frame(folder / "pairs.jsonl", {"good": folder / "good.jsonl"}).join(
        study.how_much_is_seen(folder / "pairs.jsonl", {s: folder / f"{s}.jsonl" for s in ("short", "long")})
    )
    assert data["share"].between(0, 1).all() and (data.loc[data["whole"] == 2, "share"] == 1).all()
    numbers = study.by_prefix(data, resamples=2)
    assert list(dict.fromkeys(numbers["cut"])) == ["words:1", "words:3", "all"]
    assert list(dict.fromkeys(numbers["source"])) == ["all", "short", "long"]
    at_cuts = numbers[(numbers["seen"] == "partial") & (numbers["cut"] != "all")]
    panels = [plotting.against_length(at_cuts, "AUROC", "title", least=n) for n in (1, 100, 1000)]
    shown = [sum(axis.axison for axis in panel.axes) for panel in panels]
    assert shown == [3, 1, 0]  # 120 pairs at one cut of all, 60 of each source
    assert "no point has 1000 pairs" in panels[2].axes[0].get_title()


QUESTION = "Which of 12 and 30 is larger?\nA) one\nB) two\nC) none"


@given(st.text("AB =12.yesno wait", max_size=60), st.text("AB =12.yesno wait", max_size=60))
def test_references_do_not_know_which_prefix_comes_first(a, b):
    for name in references.REFERENCES:
        assert references.features(pair_of(a, b), name) == references.features(pair_of(b, a), name)


def pair_of(a, b, label=1, question=QUESTION, number=0):
    cut = {"strategy": "words", "k": 5}
    return records.Pair(f"{number}-{a}-{b}", question, "a", "b", a, b, cut, label, question)


def test_what_two_prefixes_share():
    """12 and 30 stand in the question: only 7 and 9 are the traces' own."""
    own = references.surface(pair_of("So 12 + 7 = 19, or B. Wait, 9 of 30 = 7", "Here 7 = 9. No, yes: B"))
    assert own["numbers"] == 2 / 3 and own["last number"] == -1.0  # 7, 19, 9 and 7, 9; 7 and 9 come last
    assert own["results"] == 0 and own["last result"] == -1.0  # 19, 7 and 9
    assert own["last letter"] == own["last letters"] == 1.0
    assert own["hedging"] == own["hedging apart"] == 1000 / len("So 12 + 7 = 19, or B. Wait, 9 of 30 = 7")
    assert references.surface(pair_of("yes " * 8, "yes " * 8))["leaning"] == pytest.approx(0.64)
    assert references.surface(pair_of("yes " * 8, "no " * 8))["leaning"] == pytest.approx(-0.64)
    assert references.surface(pair_of("", ""))["words"] == 0.0


def worlds(tmp_path, shift=0):
    """Pairs that are the same where the prefixes are as long, and mostly so for questions that ask how many."""
    rng, made = np.random.default_rng(shift), []
    for problem in range(30):
        asks_how_many = problem % 2
        question = f"{'How many' if asks_how_many else 'What'} is {problem + shift}?"
        for number in range(20):
            label = int(rng.random() < (0.8 if asks_how_many else 0.3))
            other = "x" * (50 if label else 90)
            made.append(pair_of("x" * 50, other, label, question, f"{shift}-{problem}-{number}"))
    path = tmp_path / f"{shift}.jsonl"
    records.write(path, made)
    return path, made


def test_references_tell_what_they_know_and_no_more(tmp_path):
    fit, _ = worlds(tmp_path)
    tested, pair_records = worlds(tmp_path, 100)
    aurocs = {}
    for name in references.REFERENCES:
        done = refer(tmp_path, name, fit, tested)
        assert done.returncode == 0, done.stderr
        scores = {s.pair_id: s.p_same for s in records.read(records.PairScore, tmp_path / f"{name}.scores.jsonl")}
        values = [scores[p.pair_id] for p in pair_records]
        labels, problems = [p.label for p in pair_records], [p.problem_id for p in pair_records]
        table = metrics.judge_table(labels, values, problems, 5)
        aurocs[name] = tuple(table[metric]["value"] for metric in ("auroc", "within_problem_auroc"))
    assert aurocs["lengths"] == (1.0, 1.0) and aurocs["features"] == (1.0, 1.0)
    assert 0.65 < aurocs["question"][0] < 0.85 and aurocs["question"][1] == 0.5
    fewer = refer(tmp_path, "question", fit, tested, "--fit-problems", 7)
    assert fewer.returncode == 0 and "question, 7 problems: fitted on 140 pairs of 7 problems" in fewer.stdout


def test_a_reference_is_not_fitted_on_tested_questions(tmp_path):
    fit, _ = worlds(tmp_path)
    done = refer(tmp_path, "lengths", fit, fit)
    assert done.returncode == 2 and "error: leak" in done.stderr


def refer(folder, name, fit, tested, *more):
    files = ["--fit", fit, "--pairs", tested, "--output", folder / f"{name}.scores.jsonl"]
    return run_stage("Preliminaries/fitted_references.py", "--reference", name, *files, "--resamples", 10, *more)
