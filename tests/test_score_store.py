"""The score store: nothing twice, nothing stale; and pruning that goes on from it."""

import json
import sqlite3

import pytest
from conftest import run_stage

from deepprune.base import records, runtime
from deepprune.base.errors import UserError
from deepprune.data.truncation import Truncation
from deepprune.judges import Score
from deepprune.judges.score_store import ScoreStore, identity

IDENTITY = {"judge": "j@1", "prompt_version": "p", "truncation": "words", "truncation_k": 3}


def test_scores_are_there_again_exactly(tmp_path):
    path = tmp_path / "s.sqlite"
    rows = [(f"a{i}", f"b{i}", Score(i / 50, i, i // 2)) for i in range(50)]
    with ScoreStore(path, IDENTITY) as store:
        store.add(rows[:20])
        store.add(rows[20:])
    with ScoreStore(path, IDENTITY) as store:
        assert len(store) == 50
        assert store.get([(a, b) for a, b, _ in rows] + [("b1", "a1")]) == {(a, b): s for a, b, s in rows}


@pytest.mark.parametrize(
    "changed", [{"judge": "j@2"}, {"prompt_version": "q"}, {"truncation_k": 4}, {"dtype": "bfloat16"}]
)
def test_a_store_made_otherwise_is_refused_and_untouched(tmp_path, changed):
    path = tmp_path / "s.sqlite"
    with ScoreStore(path, IDENTITY) as store:
        store.add([("a", "b", Score(0.5))])
    with pytest.raises(UserError, match=f"s.sqlite: holds scores made otherwise .*{next(iter(changed))}.*delete it"):
        ScoreStore(path, IDENTITY | changed)
    with ScoreStore(path, IDENTITY) as store:
        assert len(store) == 1


def test_a_store_names_the_type_that_auto_is_here(tmp_path, monkeypatch):
    """The same command on a machine with another type is refused, with the way to go on."""
    judge = {"name": "j@1", "sha256": "0", "prompt_version": "p"}

    def made(dtype, here):
        monkeypatch.setattr(runtime, "has_gpu", lambda: False)
        monkeypatch.setattr(runtime, "has_bfloat16", lambda: here == "bfloat16")
        return identity(judge, "vllm", dtype, Truncation("words", 3), "t")

    with ScoreStore(tmp_path / "s.sqlite", made("auto", "bfloat16")) as store:
        store.add([("a", "b", Score(0.5))])
    with pytest.raises(
        UserError, match="dtype: 'bfloat16' there, 'float32' now.*; go on with --dtype bfloat16, choose"
    ):
        ScoreStore(tmp_path / "s.sqlite", made("auto", "float32"))
    with ScoreStore(tmp_path / "s.sqlite", made("bfloat16", "float32")) as store:
        assert len(store) == 1


def test_scores_of_a_model_that_is_no_judge_are_not_used(tmp_path):
    path = tmp_path / "s.sqlite"
    with ScoreStore(path, IDENTITY) as store:
        store.note_label_mass({"mean": 0.3, "least": 0.1, "prompts": 3})
        store.note_label_mass({"mean": 0.2, "least": 0.1, "prompts": 32})
        store.note_label_mass({"mean": 0.9, "least": 0.9, "prompts": 5})
    with pytest.raises(UserError, match="s.sqlite: .* gave the judge's labels 0.2 of the probability, less than 0.5"):
        ScoreStore(path, IDENTITY, least_label_mass=0.5)
    with ScoreStore(path, IDENTITY, least_label_mass=0.0) as store:
        assert store.label_mass["prompts"] == 32


def test_a_stored_score_that_is_no_probability_is_refused(tmp_path):
    path = tmp_path / "s.sqlite"
    with ScoreStore(path, IDENTITY) as store:
        store.add([("a", "b", Score(0.5))])
        store.db.execute("UPDATE score SET p_same = 1e999 - 0.0")
        store.db.commit()
    with pytest.raises(UserError, match="s.sqlite: cannot be used as a score store .*p_same = inf"):
        ScoreStore(path, IDENTITY)


def test_a_trace_with_another_prefix_is_refused(tmp_path):
    with ScoreStore(tmp_path / "s.sqlite", IDENTITY) as store:
        store.check_prefixes({"t1": "We add", "t2": "So"})
        store.check_prefixes({"t2": "So", "t3": "new"})
        with pytest.raises(UserError, match="1 traces .*t2.* have another prefix"):
            store.check_prefixes({"t1": "We add", "t2": "Sooner"})


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "s.sqlite").write_text("not a database, not a database, not a database" * 30)
    with pytest.raises(UserError, match="cannot be used as a score store"):
        ScoreStore(tmp_path / "s.sqlite", IDENTITY)


def test_a_store_that_another_process_holds_is_one_clear_line(tmp_path, monkeypatch):
    path = tmp_path / "s.sqlite"
    with ScoreStore(path, IDENTITY) as store:
        store.db.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(path)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="locked; scores written before are kept"):
            store.add([("a", "b", Score(0.5))])
        other.close()


def prune(sample, output, *more):
    problems, traces = sample
    return run_stage(
        "Online/greedy_cluster_threshold.py",
        "--problems",
        problems,
        "--traces",
        traces,
        "--judge",
        "sbert",
        "--model",
        "all-MiniLM-L6-v2",
        "--truncation-k",
        "2",
        "--tokenizer",
        "all-MiniLM-L6-v2",
        "--k2",
        "3",
        "--k3",
        "2",
        "--tau",
        "0.9",
        "--output",
        output,
        *more,
    )


def test_runs_that_follow_each_other_in_one_process_are_those_of_one_process_each(sample, tmp_path):
    both = prune(
        sample,
        tmp_path / "a.jsonl",
        "--then",
        "--finish",
        "staged",
        "--start",
        "2",
        "--output",
        tmp_path / "b.jsonl",
        "--then",
        "--judge",
        "oracle",
        "--tau",
        "0.5",
        "--output",
        tmp_path / "c.jsonl",
    )
    assert both.returncode == 0, both.stderr
    for name, more in (
        ("a", []),
        ("b", ["--finish", "staged", "--start", "2"]),
        ("c", ["--judge", "oracle", "--tau", "0.5"]),
    ):
        alone = prune(sample, tmp_path / "alone" / f"{name}.jsonl", *more)
        assert alone.returncode == 0, alone.stderr
        assert (tmp_path / f"{name}.jsonl").read_text() == (tmp_path / "alone" / f"{name}.jsonl").read_text()
    refused = prune(sample, tmp_path / "d.jsonl", "--then", "--assign", "nearest")
    assert refused.returncode == 2 and not (tmp_path / "d.jsonl").exists()  # before anything starts


def test_pruning_scores_no_pair_twice_and_refuses_a_stale_store(sample, tmp_path):
    store = tmp_path / "shared.sqlite"
    first = prune(sample, tmp_path / "a.jsonl", "--store", store)
    assert first.returncode == 0, first.stderr
    asked = sum(p.judge_calls for p in records.read(records.Pruning, tmp_path / "a.jsonl"))
    assert f"{asked:,} pairs asked about, {asked:,} of them scored now" in first.stdout
    again = prune(sample, tmp_path / "b.jsonl", "--store", store)
    assert f"{asked:,} pairs asked about, 0 of them scored now" in again.stdout
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    # Other finish rules cost no judge call; the votes may differ, the clusters may not.
    for rule in ("weighted", "adaptive", "staged"):
        other = prune(sample, tmp_path / f"{rule}.jsonl", "--store", store, "--finish", rule, "--start", "2")
        assert "0 of them scored now" in other.stdout, other.stderr
        for p, q in zip(
            records.read(records.Pruning, tmp_path / "a.jsonl"),
            records.read(records.Pruning, tmp_path / f"{rule}.jsonl"),
            strict=True,
        ):
            opened = {t for c in q.clusters for t in c}
            assert q.clusters == [c for c in ([t for t in c if t in opened] for c in p.clusters) if c]
            assert q.judge_calls <= p.judge_calls and q.tokens["prefix"] <= p.tokens["prefix"]
    # The same trace ids with other texts: refused.
    lines = [json.loads(line) for line in sample[1].read_text().splitlines()]
    lines[0]["text"] = "Nothing " + lines[0]["text"]
    sample[1].write_text("".join(json.dumps(row) + "\n" for row in lines))
    stale = prune(sample, tmp_path / "c.jsonl", "--store", store)
    assert stale.returncode == 2 and "another prefix" in stale.stderr


def test_a_shuffled_order_is_seeded_and_n_takes_the_first(sample, tmp_path):
    store = tmp_path / "shared.sqlite"
    runs = {}
    for name, more in {"r": [], "s": ["--order", "shuffled"], "t": ["--order", "shuffled"], "n": ["--n", "3"]}.items():
        done = prune(sample, tmp_path / f"{name}.jsonl", "--store", store, *more)
        assert done.returncode == 0, done.stderr
        runs[name] = [p.clusters for p in records.read(records.Pruning, tmp_path / f"{name}.jsonl")]
    assert runs["s"] == runs["t"] != runs["r"]
    assert all(sum(map(len, clusters)) == 3 for clusters in runs["n"])
