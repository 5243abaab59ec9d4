"""Pairs that people already have, and rows that LLaMA-Factory trains on: read back by a profile, for both sides."""

import dataclasses
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_runs import run

from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.base.records import Pair
from deepprune.data import sources
from deepprune.data.import_rows import Fields
from deepprune.data.truncation import Truncation
from deepprune.judges import profiles
from deepprune.judges.ready_pairs import AS_GIVEN, ReadyPairs, taken_apart

THEIRS = profiles.Profile(
    system=None,
    user="Question: {question}\n\n[1]\n{prefix_a}\n\n[2]\n{prefix_b}\n\nIdentical or not?",
    different="not identical",
    same="identical",
    answer_prefix="",
    chat_template={},
    truncation=Truncation("words", 5),
)


def ready(count=40):
    """Pairs of a few questions: texts of numbers, the same where they end alike."""
    rng = random.Random(0)
    rows = []
    for number in range(count):
        a, b = rng.randrange(3), rng.randrange(3)
        texts = (f"Wait, {number} and so {{{a}}}.", f"Thus {number * 2} is {b}.")
        rows.append({"question": f"What is {number % 8} + 1?", "a": texts[0], "b": texts[1], "y": int(a == b)})
    return rows


def in_alpaca(row, profile):
    return profile.training_row(row["question"], row["a"], row["b"], row["y"])


def in_sharegpt(row, profile, roles=("human", "gpt"), keys=("from", "value")):
    turn = in_alpaca(row, profile)
    said = zip(roles, (turn["instruction"], turn["output"]), strict=True)
    return {"system": turn["system"], "conversations": [dict(zip(keys, t, strict=True)) for t in said]}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, kind="pairs", profile=THEIRS, labels=None, **names):
    reader = ReadyPairs(kind, profile, Fields(names, {}), labels)
    return list(reader.read(sources.rows(str(path)))), reader


def content(pairs):
    return [(p.question, p.prefix_a, p.prefix_b, p.label) for p in pairs]


OWN = {"prefix_a": "a", "prefix_b": "b", "label": "y"}


@pytest.mark.parametrize("profile", [THEIRS, profiles.DEFAULT])
def test_pairs_and_ready_rows_of_both_formats_are_the_same_pairs(tmp_path, profile):
    rows = ready()
    by_texts, _ = read(write(tmp_path / "p.jsonl", rows), profile=profile, **OWN)
    assert content(by_texts) == [(r["question"], r["a"], r["b"], r["y"]) for r in rows]
    cut = profile.truncation.as_dict() if profile.truncation else AS_GIVEN
    assert all(p.truncation == cut and p.check() is None for p in by_texts)
    assert len({p.problem_id for p in by_texts}) == 8 and len({p.pair_id for p in by_texts}) == len(rows)
    alpaca, _ = read(write(tmp_path / "a.jsonl", [in_alpaca(r, profile) for r in rows]), "alpaca", profile)
    assert alpaca == by_texts
    for more in ({}, {"roles": ("user", "assistant"), "keys": ("role", "content")}):
        turns = [in_sharegpt(r, profile, **more) for r in rows]
        assert read(write(tmp_path / "s.jsonl", turns), "sharegpt", profile)[0] == by_texts


def test_texts_may_hold_anything(tmp_path):
    """Slots, braces and the separators themselves; where a separator occurs twice, it is said."""
    row = {"question": "{prefix_a}?", "a": "{question} $&\\1", "b": "x\n\n[2]\ny", "y": 1}
    pairs, reader = read(write(tmp_path / "a.jsonl", [in_alpaca(row, THEIRS)]), "alpaca")
    assert content(pairs) == [(row["question"], row["a"], row["b"], 1)]
    assert [count for count, _ in reader.counts.doubts.values()] == [1]
    assert taken_apart(THEIRS, "Question: a\n\n[1]\n\n\n[2]\nb\n\nIdentical or not?") is None  # no first text


@pytest.mark.parametrize(
    ("label", "labels", "number"),
    [(1, None, 1), (0.0, None, 0), (True, None, 1), ("Identical", None, 1), ("not identical", None, 0),
     ("1.0", None, 1), ("0.0", None, 0), (" IDENTICAL\n", None, 1), ("FALSE", None, 0), ("dup", ("other", "dup"), 1),
     (1, ("1", "0"), 0), (1.0, ("1", "0"), 0), ("A", ("a", "A"), 1), ("a", ("a", "A"), 0)],
)  # fmt: skip
def test_labels_of_all_forms(tmp_path, label, labels, number):
    path = write(tmp_path / "p.jsonl", [ready(1)[0] | {"y": label}])
    assert [p.label for p in read(path, labels=labels, **OWN)[0]] == [number]


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([{"y": "maybe"}], "pairs", r"p\.jsonl:1: the label is 'maybe', neither 'not identical' or '0'"),
        ([{"y": None}], "pairs", r"p\.jsonl:1: the label is None"),
        ([{}, {"y": "gone"}], "pairs", r"p\.jsonl:2: the same pair stands in line 1 with the other label"),
        ([{"output": "same"}], "alpaca", r"p\.jsonl:1: the label is 'same', neither 'not identical' \(different\)"),
        ([{"instruction": "Are they?"}], "alpaca", r"p\.jsonl:1: its prompt is not as the user template writes it"),
        ([{"system": "Judge."}], "alpaca", r"p\.jsonl:1: its system text is 'Judge\.': not the judge profile's"),
        ([{"conversations": "no"}], "sharegpt", r"p\.jsonl:1: no list of turns in field 'conversations'"),
        ([{"conversations": []}], "sharegpt", r"p\.jsonl:1: 'conversations' should be one question"),
        ([{"prefix_b": None, "b": None}], "pairs", r"p\.jsonl:1: no prefix_b: field 'b' is null"),
        ([{"history": [["Why?", "So."]]}], "alpaca", r"p\.jsonl:1: holds 'history' too"),
        ([{"tools": "[{}]"}], "sharegpt", r"p\.jsonl:1: holds 'tools' too"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, rows, kind, message):
    first = ready(1)[0]
    form = {"pairs": dict, "alpaca": lambda r: in_alpaca(r, THEIRS), "sharegpt": lambda r: in_sharegpt(r, THEIRS)}[kind]
    rows = [form(first) | row for row in rows]
    if len(rows) == 2:
        rows[1]["y"] = 1 - first["y"]
    with pytest.raises(UserError, match=message) as error:
        read(write(tmp_path / "p.jsonl", rows), kind, **(OWN if kind == "pairs" else {}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("roles", [("Human", "GPT"), ("USER", "Assistant"), ("human", "assistant"), ("user", "model")])
def test_roles_are_known_however_they_are_written(tmp_path, roles):
    row = ready(1)[0]
    path = write(tmp_path / "s.jsonl", [in_sharegpt(row, THEIRS, roles)])
    assert content(read(path, "sharegpt")[0]) == [(row["question"], row["a"], row["b"], row["y"])]


def test_turns_of_a_table_have_the_fields_of_all_and_system_texts_come_first(tmp_path):
    """Parquet gives each turn all fields, null where it has none."""
    row, profile = ready(1)[0], dataclasses.replace(THEIRS, system="Judge.")
    user, answer = in_sharegpt(row, profile)["conversations"]
    role = {"from": None, "role": "system", "value": None, "content": "Judge."}
    turns = [role, user | {"role": None, "content": None}, answer | {"role": None, "content": None}]
    path = tmp_path / "s.parquet"
    pq.write_table(pa.Table.from_pylist([{"conversations": turns}]), path)
    assert content(read(path, "sharegpt", profile)[0]) == [(row["question"], row["a"], row["b"], row["y"])]
    wrong = [[user, role, answer], [answer, user], [role, role, user, answer], [user, answer, user], [user, answer] * 2]
    for turns in [
        *wrong,
        [user, {"from": ["gpt"], "value": "identical"}],
        [user, {"from": "bot", "value": "identical"}],
    ]:
        with pytest.raises(UserError, match=r"p\.jsonl:1: 'conversations' should be one question .* its turns are of"):
            read(write(tmp_path / "p.jsonl", [{"conversations": turns}]), "sharegpt", profile)


def test_a_missing_field_is_named_with_its_option(tmp_path):
    with pytest.raises(UserError, match="no prefix_a in field 'left' .*name it with --prefix-a-field"):
        read(write(tmp_path / "p.jsonl", [{"question": "2?", "label": 1}]), prefix_a="left")


def test_a_repeated_pair_counts_once(tmp_path):
    pairs, reader = read(write(tmp_path / "p.jsonl", ready(1) * 3), **OWN)
    assert len(pairs) == 1 and reader.counts.doubts["a pair that repeats an earlier one, left out"][0] == 2


@pytest.mark.parametrize("kind", ["alpaca", "sharegpt"])
def test_a_classifiers_profile_takes_no_prompt_apart(tmp_path, kind):
    with pytest.raises(UserError, match="has a second text, as a classifier's"):
        ReadyPairs(kind, profiles.CLASSIFIER, Fields({}, {}))
    rows = ready(2)
    pairs, _ = read(write(tmp_path / "p.jsonl", rows), profile=profiles.CLASSIFIER, **OWN)
    assert content(pairs) == [(r["question"], r["a"], r["b"], r["y"]) for r in rows]


def test_slots_side_by_side_cannot_be_taken_apart():
    profile = dataclasses.replace(THEIRS, user="{question} {prefix_a}{prefix_b}")
    with pytest.raises(UserError, match="slots side by side"):
        ReadyPairs("alpaca", profile, Fields({}, {}))
    ReadyPairs("pairs", profile, Fields({}, {}))


def test_the_script_writes_what_training_and_evaluation_read(tmp_path, smol, monkeypatch, capsys):
    """Its rows pass the checks of training, split by question; the test pairs are Pair records."""
    from deepprune.judges.training.data import check_rows, problem_ids

    profiles.save(THEIRS, tmp_path / "theirs.yaml")
    rows = write(tmp_path / "a.jsonl", [in_alpaca(row, THEIRS) for row in ready()])
    more = ("--judge-profile", tmp_path / "theirs.yaml", "--data-dir", tmp_path, "--tokenizer", smol)
    run(monkeypatch, "Offline/import_pairs.py", "--input", rows, "--rows", "alpaca", "--name", "theirs", *more)
    assert "40 rows read: 30 training pairs, 10 test pairs" in capsys.readouterr().out
    entry = json.loads((tmp_path / "dataset_info.json").read_text())["theirs"]
    trained = tmp_path / entry["file_name"]
    profile = profiles.of_rows(trained)
    assert profile == THEIRS
    check_rows(trained, entry, profile, labels_only=True)
    test_pairs = list(records.read(Pair, tmp_path / "offline_test_data" / "theirs.jsonl"))
    assert len(test_pairs) == 10 and not problem_ids([trained]) & {p.problem_id for p in test_pairs}
    manifest = json.loads((tmp_path / "offline_test_data" / "theirs.manifest.json").read_text())
    assert manifest["rows_read"] == 40 and manifest["inputs"][0]["file"] == "a.jsonl"
    files = ("--pairs", tmp_path / "offline_test_data" / "theirs.jsonl", "--output", tmp_path / "scores.jsonl")
    run(monkeypatch, "Offline/test_model_performance_parallel.py", "--judge", "random", "--resamples", "20", *files)
    scored = {score.pair_id for score in records.read(records.PairScore, tmp_path / "scores.jsonl")}
    assert scored == {p.pair_id for p in test_pairs}
