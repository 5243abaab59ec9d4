"""The recorded sample is what its card says."""

import collections
import json
import re

import pytest
from conftest import ROOT

from deepprune.base import manifest, provenance, records
from deepprune.base.records import Problem, Trace
from deepprune.data import pairs, traces
from deepprune.data.problems import normalised_question

DATA = ROOT / "DeepPrune_data"
SETS = {  # traces -> their problems, how many, traces of each
    "qwen2.5-coder-0.5b-arithmetic": ("arithmetic", 96, 16),
    "qwen2.5-coder-0.5b-words": ("words", 24, 16),
    "qwen2.5-coder-1.5b-unseen": ("unseen", 40, 16),
    "qwen2.5-coder-1.5b-long": ("long", 24, 64),
}


def load(name):
    problems = {p.problem_id: p for p in records.read(Problem, DATA / "problems" / f"{SETS[name][0]}.jsonl")}
    return problems, list(records.read(Trace, DATA / "traces" / f"{name}.jsonl.gz"))


def card_row(name, row) -> str:
    """A row of the data card's table."""
    return (
        f"| {name} | {row['problems']} | {row['traces']} | {row['pass@1']:.3f} | {row['unknown']:.3f} | "
        f"{row['same_answer_pairs']:.3f} | {row['mean_tokens']:.0f} |"
    )


@pytest.mark.parametrize("name", SETS)
def test_counts_hashes_and_card(name):
    problems, recorded = load(name)
    file, count, n = SETS[name]
    path = DATA / "traces" / f"{name}.jsonl.gz"
    written = json.loads(manifest.manifest_path(path).read_text())
    assert written["complete"] and written["rows"] == len(recorded) == n * count
    assert written["inputs"][0]["sha256"] == provenance.file_hash(DATA / "problems" / f"{file}.jsonl")
    assert path.stat().st_size < 5_000_000
    assert {(t.problem_id, t.sample_index) for t in recorded} == {(p, i) for p in problems for i in range(n)}
    card = (DATA / "README.md").read_text()
    table = traces.Tally(problems, recorded).table()
    del table["all"]
    for family, row in table.items():
        assert (shown := card_row(family, row)) in card, shown
        if "unseen" not in name:
            assert 0.15 <= row["pass@1"] <= 0.85


def test_the_deep_set_is_what_its_card_says():
    problems = {p.problem_id: p for p in records.read(Problem, DATA / "problems" / "arithmetic.jsonl")}
    path = DATA / "traces" / "qwen2.5-coder-0.5b-deep.jsonl.gz"
    groups = traces.by_problem(records.read(Trace, path))
    test_side = {p.problem_id for p in records.read(records.Pair, DATA / "study" / "miniature" / "pairs.jsonl.gz")}
    assert len(groups) == 8 and groups.keys() <= test_side and path.stat().st_size < 5_000_000
    for group in groups.values():
        assert {t.sample_index for t in group} == set(range(512)) and len(group) == 512
        assert 0.15 <= sum(t.correct is True for t in group) / 512 <= 0.85
        assert all(t.confidence["n"] == t.n_tokens for t in group)
    written = json.loads(manifest.manifest_path(path).read_text())
    assert written["complete"] and written["rows"] == 4096 and set(written["settings"]["only"]) == set(groups)
    row = traces.summary([t for g in groups.values() for t in g], problems)
    assert card_row("all", row) in (DATA / "README.md").read_text()
    arithmetic = {t.trace_id for t in load("qwen2.5-coder-0.5b-arithmetic")[1]}
    assert not arithmetic & {t.trace_id for g in groups.values() for t in g}


def test_no_question_is_in_two_sets():
    questions = [normalised_question(p.question) for name in SETS for p in load(name)[0].values()]
    assert len(questions) == len(set(questions)) == 184


READ_OTHERWISE = {  # (answer stored, right), (answer read today, right) -> traces; the card explains them
    "arithmetic": {((False, None), (True, False)): 1, ((True, False), (False, None)): 1},
    "words": {((False, None), (True, False)): 2},
    "unseen": {},
    "long": {},
    "deep": {((False, None), (True, False)): 12, ((False, None), (True, True)): 12, ((True, False), (True, False)): 1},
}


@pytest.mark.parametrize("name", READ_OTHERWISE)
def test_stored_grades_are_what_grading_again_gives_but_for_those_on_the_card(name):
    problems = records.read_problems(*sorted((DATA / "problems").glob("*.jsonl")))
    otherwise = collections.Counter()
    for t in records.read(Trace, next((DATA / "traces").glob(f"*-{name}.jsonl.gz"))):
        again = traces.make(
            problems[t.problem_id], t.model, t.sample_index, t.text, t.n_tokens, t.finish_reason, t.sampling
        )
        assert again.trace_id == t.trace_id
        if again.answer != t.answer:
            otherwise[(t.answer is not None, t.correct), (again.answer is not None, again.correct)] += 1
        else:
            assert again.correct == t.correct
    assert otherwise == READ_OTHERWISE[name]


def test_recorded_confidence_covers_the_trace():
    for t in load("qwen2.5-coder-0.5b-words")[1][::20]:
        c = t.confidence
        assert (
            c["n"] == t.n_tokens and len(c["windows"]) == -(-c["n"] // c["stride"]) and c["lowest"] == min(c["windows"])
        )


def test_no_machine_path_is_in_a_manifest():
    for path in DATA.rglob("*.manifest.json"):
        assert not re.search(r'"/(home|root|tmp|work|mnt)', path.read_text()), path


def test_the_split_is_the_one_that_the_recorded_judges_were_trained_with():
    problems = list(records.read_problems(DATA / "problems/arithmetic.jsonl", DATA / "problems/words.jsonl").values())
    unseen = records.read_problems(DATA / "problems/unseen.jsonl")
    _, test = pairs.split(problems, 0.25, 0)
    tested = {p.problem_id for p in records.read(records.Pair, DATA / "study/miniature/pairs.jsonl.gz")}
    assert {p.problem_id for p in test} == tested - set(unseen) and len(test) == 30
