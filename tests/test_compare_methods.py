"""The comparison script on a small file: what it writes, that it resumes, and that each pair is scored once."""

import csv
import json
import sqlite3
import sys

import numpy as np
import pytest
from conftest import load_script, run_stage
from sklearn.metrics import roc_auc_score

from deepprune import judges
from deepprune.evaluate import methods

SCRIPT = "Online/compare_methods.py"
OPTIONS = [
    "--truncation-k",
    "2",
    "--tokenizer",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "--k3",
    "2",
    "--orders",
    "2",
    "--resamples",
    "20",
]


def compare(sample, output, *more):
    return run_stage(SCRIPT, "--problems", sample[0], "--traces", sample[1], "--output", output, *OPTIONS, *more)


def test_it_writes_a_table_and_goes_on_where_it_stopped(sample, tmp_path):
    output = tmp_path / "c.jsonl"
    done = compare(sample, output, "--taus", "0.5", "--k1s", "2", "--k2s", "2", "--aurocs", "0.8")
    assert done.returncode == 0, done.stderr
    table = list(csv.DictReader(open(tmp_path / "c.csv")))
    assert {r["judge"] for r in table} == {"", "Sentence-BERT", "oracle", "random", "AUROC 0.8"}
    assert {r["method"] for r in table} >= {
        "cons@6",
        "adaptive-consistency",
        "esc",
        "paper",
        "weighted",
        "adaptive",
        "staged",
    }
    assert "deepconf-low" not in {r["method"] for r in table}  # these traces have no recorded confidence
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG") and "| paper | oracle |" in (
        tmp_path / "c.md"
    ).read_text()
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:3]) + lines[3][:40])  # as a kill leaves it
    again = compare(sample, output, "--taus", "0.5", "--k1s", "2", "--k2s", "2", "--aurocs", "0.8")
    assert again.returncode == 0 and output.read_text() == "".join(lines)
    other = compare(sample, output, "--taus", "0.6", "--k1s", "2", "--k2s", "2", "--aurocs", "0.8")
    assert other.returncode == 2 and "taus: [0.5] there, [0.6] now" in other.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--judges", "trained"], "NAME=FOLDER-OR-HUB-ID"),
        (["--n", "9"], "a problem has 6 traces only"),
        (["--reasoner", "x"], "no traces of x"),
    ],
)
def test_wrong_arguments_are_named(sample, tmp_path, more, message):
    done = compare(sample, tmp_path / "c.jsonl", *more)
    assert done.returncode == 2 and message in done.stderr


class CountingJudge(judges.Judge):
    """Says how far the traces' numbers lie apart; counts what it is asked."""

    parameters = 1000
    name = "counting"
    asked: list = []

    def _stream(self, requests):
        for position, r in enumerate(requests):
            self.asked.append((r.trace_a, r.trace_b))
            yield position, judges.Score(1.0 / (1 + len(r.prefix_a) % 3), 50, 20)


def test_a_sweep_over_tau_asks_no_more_than_its_first_value(sample, tmp_path, monkeypatch, smol):
    """Five values of tau, three of K1: each unordered pair is asked about once, and a later sweep asks nothing."""
    script = load_script(SCRIPT)
    asked: list = []
    monkeypatch.setattr(CountingJudge, "asked", asked)
    monkeypatch.setattr(script.judges, "open_judge", lambda *a, **k: CountingJudge())
    monkeypatch.setattr(script.runtime, "ensure", lambda: None)

    def run(output, *taus):
        arguments = [
            "compare",
            "--problems",
            sample[0],
            "--traces",
            sample[1],
            "--output",
            tmp_path / output,
            *OPTIONS,
            "--sbert",
            "none",
            "--judges",
            f"mine={smol}",
            "--k1s",
            "1",
            "2",
            "6",
            "--taus",
            *taus,
        ]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        script.main()
        return [json.loads(line) for line in open(tmp_path / output)]

    first = run("one.jsonl", "0.5")
    pairs = 6 * 15  # 6 problems, 6 traces each
    assert len(asked) == len({frozenset(p) for p in asked}) == pairs
    asked.clear()
    (tmp_path / "one.mine.sqlite").rename(tmp_path / "five.mine.sqlite")
    five = run("five.jsonl", "0.1", "0.3", "0.5", "0.7", "0.9")
    assert asked == []
    for a, b in zip(first, five, strict=True):
        same = [m for m in b["methods"] if m["tau"] in (0.5, None)]
        assert [m for m in a["methods"] if m["judge"] in ("mine", None)] == [
            m for m in same if m["judge"] in ("mine", None)
        ]
    # What the sweep charges is what each setting would have asked: fewer members compared, fewer calls.
    calls = [
        np.mean([m["judge_calls"] for r in five for m in r["methods"] if m["judge"] == "mine" and m["K1"] == k1])
        for k1 in (1, 2, 6)
    ]
    assert calls[0] < calls[1] <= calls[2]


def test_the_manifest_says_how_well_each_judge_tells_pairs_apart(sample, tmp_path, monkeypatch, smol, capsys):
    """Of pairs with two known answers; against scikit-learn on the store's scores."""
    script = load_script(SCRIPT)
    monkeypatch.setattr(script.judges, "open_judge", lambda *a, **k: CountingJudge())
    monkeypatch.setattr(script.runtime, "ensure", lambda: None)
    output = tmp_path / "c.jsonl"
    arguments = ["--problems", sample[0], "--traces", sample[1], "--output", output, *OPTIONS, "--sbert", "none"]
    arguments += ["--judges", f"mine={smol}", "--k1s", "1", "--taus", "0.5"]
    monkeypatch.setattr(sys, "argv", list(map(str, ["compare", *arguments])))
    script.main()

    traces = [json.loads(line) for line in open(sample[1])]
    answer = {row["trace_id"]: row["answer"] for row in traces}
    with sqlite3.connect(tmp_path / "c.mine.sqlite") as store:
        rows = [(answer[a], answer[b], p) for a, b, p in store.execute("SELECT a, b, p_same FROM score")]
    labels, scores = zip(*((a == b, p) for a, b, p in rows if a and b), strict=True)
    told = json.loads((tmp_path / "c.manifest.json").read_text())["judges"]["mine"]
    assert told["pairs"] == len(labels) == 6 * 10 and told["same"] == np.mean(labels)
    assert told["says_same"] == np.mean(np.asarray(scores) >= 0.5)
    assert told["metrics"]["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert f"AUROC {told['metrics']['auroc']['value']:.3f}" in capsys.readouterr().out


def test_scores_are_calibrated_on_other_problems_where_that_is_wanted():
    """Clustering reads the tables; the likelihood ratios of the method posterior stay what they were."""
    script, rng = load_script(SCRIPT), np.random.default_rng(0)
    tables = {f"q{i}": methods.Judged(np.clip(rng.normal(0.5, 0.05, (6, 6)), 0.3, 0.7)) for i in range(8)}
    pairs = [
        (int(table.scores[a, b] + rng.normal(0, 0.02) > 0.52), table.scores[a, b], i, f"{i}/{a}", f"{i}/{b}")
        for i, table in tables.items()
        for a in range(6)
        for b in range(a)
    ]
    raw, read = (script.calibrated(tables, pairs, how) for how in ("raw", "calibrated"))
    for i, table in tables.items():
        assert (raw[i].scores == table.scores).all()
        assert read[i].scores == pytest.approx(raw[i].calibration.p_same(table.scores))
        assert np.ptp(read[i].scores) > 2 * np.ptp(table.scores)
        assert read[i].calibration.ratios(read[i].scores) == pytest.approx(raw[i].calibration.ratios(table.scores))
        assert read[i].calibration.noise == raw[i].calibration.noise
    flipped = [(1 - y if rest[1] == "q3" else y, *rest) for y, *rest in pairs]
    other = script.calibrated(tables, flipped, "calibrated")
    assert (other["q3"].scores == read["q3"].scores).all()
    unknown = script.calibrated(tables, [], "calibrated")
    assert unknown == tables
