"""Calibration of a judge: known noise is found again, other problems decide, a judge without worth is silent."""

import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import load_script
from hypothesis import given
from hypothesis import strategies as st
from strategies import cluster_rules

from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.engines import models
from deepprune.evaluate import simulation
from deepprune.judges import calibrate, calibration
from deepprune.judges.calibrate import Scored
from deepprune.judges.calibration import SILENT, Calibration, Noise
from deepprune.prune.methods.deepprune import DeepPruneSettings, deepprune
from deepprune.prune.replay import Recorded, replay


def simulated(auroc, shared=0.0, problems=40, n=16, change=lambda p: p, question=0.0):
    """Pairs of traces with two answers each, scored by a simulated judge."""
    rows, rng = [], np.random.default_rng(3)
    for problem in range(problems):
        labels = [int(x) for x in rng.random(n) < 0.5]
        scores = simulation.simulated_scores(labels, auroc, 0, f"q{problem}", shared)
        off = rng.normal() * question
        for a in range(n):
            for b in range(a + 1, n):
                p = 1 / (1 + np.exp(-np.log(scores[a, b] / (1 - scores[a, b])) - off))
                rows.append((int(labels[a] == labels[b]), change(p), problem, f"{problem}/{a}", f"{problem}/{b}"))
    return Scored.of(rows)


@pytest.mark.parametrize(("auroc", "shared"), [(0.75, 0.0), (0.87, 0.5), (0.75, 0.8)])
def test_the_noise_that_scores_were_drawn_with_is_found_again(auroc, shared):
    from scipy.special import ndtri

    found = calibrate.fit(simulated(auroc, shared))
    assert found.noise.gap == pytest.approx(2 * ndtri(auroc) ** 2, rel=0.2)
    assert found.noise.trace == pytest.approx(shared, abs=0.1) and found.noise.question < 0.06
    # p_same is sigmoid of the log-likelihood ratio.
    p = np.asarray([0.2, 0.5, 0.9])
    assert found.ratios(p) == pytest.approx(np.log(p / (1 - p)), abs=0.25)


def test_what_a_question_adds_to_all_its_scores_is_found():
    """Unit-variance noise times d, and an effect of as much variance: half of it is the question's."""
    found = calibrate.fit(simulated(0.75, question=np.sqrt(2) * 0.6745, problems=150, n=10))
    assert found.noise.question == pytest.approx(0.5, abs=0.1) and found.noise.trace < 0.1


def test_the_intervals_hold_the_shares_that_scores_were_drawn_with():
    common = calibrate.in_common(simulated(0.75, 0.5), 200)
    assert common["trace"][1] <= 0.5 <= common["trace"][2] and common["trace"][2] - common["trace"][1] < 0.4
    assert sum(value for value, _, _ in common.values()) == pytest.approx(1.0) and common["question"][0] < 0.1


def test_moments_by_plain_loops():
    rng = np.random.default_rng(0)
    rows = [
        (int(rng.random() < 0.5), 0.5, p, f"{p}{a}", f"{p}{b}") for p in range(4) for a in range(5) for b in range(a)
    ]
    scored = Scored.of(rows[:-3])
    r = rng.normal(size=len(scored.labels))
    sums = {1: [0.0, 0], 2: [0.0, 0], 0: [0.0, 0]}
    for i in range(len(r)):
        for j in range(len(r)):
            if scored.problems[i] == scored.problems[j]:
                common = len({*scored.traces[i]} & {*scored.traces[j]})
                sums[common][0] += r[i] * r[j]
                sums[common][1] += 1
    assert calibrate.moments(r, scored) == pytest.approx([sums[c][0] / sums[c][1] for c in (2, 1, 0)])


def test_scores_that_are_squeezed_together_are_spread_again():
    scored = simulated(0.85, change=lambda p: 0.4 + 0.2 * p)
    table = calibrate.reliability(scored, 50)
    assert table["after"]["ECE"][0] < table["before"]["ECE"][0] / 3
    assert table["after"]["Brier"][1] < table["after"]["Brier"][0] < table["before"]["Brier"][0]


def test_an_isotonic_fit_is_taken_where_a_line_does_not_do():
    scored = simulated(0.85, change=lambda p: 1.0 if p > 0.9 else 0.9 + 0.05 * (p > 0.5))
    found = calibrate.fit(scored)
    assert found.knots and (np.diff(found.log_odds(np.linspace(0.01, 0.99, 50))) >= 0).all()
    assert not calibrate.fit(simulated(0.85)).knots


def test_a_judge_without_worth_is_silent():
    assert calibrate.fit(simulated(0.8, change=lambda p: 0.3)) == SILENT  # constant
    assert calibrate.fit(simulated(0.8, change=lambda p: 1 - p)) == SILENT  # the wrong way round
    rng = np.random.default_rng(1)
    random = calibrate.fit(simulated(0.8, change=lambda p: rng.random()))
    assert random.noise.gap < 0.02
    one = simulated(0.8, problems=1)
    assert calibrate.cross_fitted(one)[0][1] == SILENT


def test_a_judge_that_is_never_wrong_is_sure():
    found = calibrate.fit(simulated(0.99999, change=lambda p: float(p > 0.5)))
    assert found.ratios([1.0])[0] > 20 and found.ratios([0.0])[0] < -20


def test_a_steep_calibration_of_a_sure_judge_is_sure_and_no_number_overflows():
    with np.errstate(all="raise"):
        assert Calibration(100.0).p_same([0.0, 0.5, 1.0]).tolist() == [0.0, 0.5, 1.0]
        assert calibrate.fit(simulated(0.8)).p_same([0.0, 1.0]) == pytest.approx([0.0, 1.0], abs=1e-6)


def test_a_problems_own_labels_do_not_touch_its_calibration():
    scored = simulated(0.8, problems=10)
    parts = calibrate.cross_fitted(scored)
    assert (sum(rows.astype(int) for rows, _ in parts) == 1).all()
    rows, before = parts[0]
    labels = np.where(rows, 1 - scored.labels, scored.labels)
    changed = Scored(labels, scored.p_same, scored.problems, scored.traces)
    assert calibrate.cross_fitted(changed)[0][1] == before and calibrate.cross_fitted(changed)[1][1] != parts[1][1]
    assert all(len(set(scored.problems[r]) & set(scored.problems[~r])) == 0 for r, _ in parts)


def test_it_is_written_and_read(tmp_path):
    one = Calibration(2.0, 0.1, ((-1.0, -2.0), (1.0, 2.0)), 0.5, 0.3, Noise(0.4, 0.2, 0.1))
    path = tmp_path / calibration.FILE
    calibration.save(one, path, {"pairs": 3})
    assert calibration.load(path) == one and json.loads(path.read_text())["about"] == {"pairs": 3}
    numbers = json.dumps(json.loads(path.read_text()))
    odd = [numbers.replace(*change) for change in (("2.0", "NaN"), ("0.5", "-0.5"), ("[1.0, 2.0]", "[1.0, -3.0]"))]
    for wrong in (
        *odd,
        numbers.replace("0.2", "0.95"),
        "{",
        "{}",
        '{"calibration": {"slope": 1}}',
        '{"calibration": {"knots": [], "noise": {}, "x": 1}}',
    ):
        path.write_text(wrong)
        with pytest.raises(UserError, match="judge_calibration.json: no calibration"):
            calibration.load(path)


def test_a_score_of_an_unknown_pair_is_named(tmp_path):
    pair = dict(pair_id="p", problem_id="q", trace_a="a", trace_b="b", prefix_a="x", prefix_b="y", label=1)
    pair |= {"question": "?", "model": "m", "truncation": {"strategy": "words", "k": 2}}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    score = {"pair_id": "p", "judge": "j", "p_same": 0.5, "verdict": False, "prompt_tokens": 1, "cached_tokens": 0}
    (tmp_path / "scores.jsonl").write_text(json.dumps(score) + "\n" + json.dumps(score | {"pair_id": "z"}) + "\n")
    with pytest.raises(UserError, match="the pair z"):
        calibrate.read_scored(str(tmp_path / "pairs.jsonl"), str(tmp_path / "scores.jsonl"))
    with pytest.raises(UserError, match="none"):
        Scored.of([])


def test_a_judge_without_a_calibration_is_silent_and_that_is_said(tmp_path, smol, capsys):
    assert calibration.of("random") == SILENT and calibration.of("oracle") == Calibration()
    assert calibration.of("vllm", smol) == SILENT
    assert f"no {calibration.FILE} beside it" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{}")
    one = Calibration(noise=Noise(0.4, 0.2))
    calibration.save(one, tmp_path / calibration.FILE, {})
    assert calibration.of("vllm", str(tmp_path)) == one and not capsys.readouterr().err


# -- clustering by calibrated scores --

LINE, STEPS = Calibration(3.0, -0.7), Calibration(knots=((-1.0, -2.0), (0.0, -2.0), (0.5, 1.5)))


@given(cluster_rules, st.integers(0, 99), st.sampled_from([LINE, STEPS]))
def test_clustering_reads_p_same_by_the_calibration(rule, seed, worth):
    """As if the judge had said what its scores are worth: in simulation, and pair for pair in the method."""
    scores = np.random.default_rng(seed).random((14, 14))
    by_hand = np.interp(np.log(scores / (1 - scores)), *zip(*STEPS.knots, strict=True)) if worth is STEPS else None
    odds = 3.0 * np.log(scores / (1 - scores)) - 0.7 if by_hand is None else by_hand
    calibrated = dataclasses.replace(rule, calibration=worth)
    expected = simulation.cluster(1 / (1 + np.exp(-odds)), rule, "q")
    assert simulation.cluster(scores, calibrated, "q") == expected
    running = replay(deepprune(14, DeepPruneSettings(calibrated), "q"), Recorded([0] * 14, [9] * 14, [3] * 14))
    asked, reply = [[] for _ in range(14)], None
    with contextlib.suppress(StopIteration):
        while True:
            for member, new in (pairs := running.send(reply)):
                asked[new].append(member)
            reply = [scores[pair] for pair in pairs]
    assert asked == expected.asked


@pytest.fixture
def encoder(tmp_path):
    """A judge's folder to which the calibration is written that is given: Sentence-BERT that always says same."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    for path in Path(models.resolve("all-MiniLM-L6-v2").path).iterdir():
        os.symlink(path.resolve(), folder / path.name)

    def write(one: Calibration) -> str:
        calibration.save(one, folder / calibration.FILE, {})
        return str(folder)

    return write


def test_stage_05_clusters_by_the_calibration_beside_the_judge(encoder, sample, tmp_path, monkeypatch, capsys):
    """Where nothing lies beside it, with --scores raw and for a flat one: p_same as it is, records as before."""
    problems, traces = sample
    judge = encoder(Calibration(1.0, -40.0))  # nothing is the same
    cut = ["--truncation-k", "2", "--tokenizer", "HuggingFaceTB/SmolLM2-135M-Instruct", "--judge", "sbert"]

    def run(name, *options):
        output = tmp_path / f"{name}.jsonl"
        files = ["--problems", problems, "--traces", traces, "--output", output]
        monkeypatch.setattr(sys, "argv", ["prune", *map(str, files), *cut, *options])
        load_script("Online/greedy_cluster_threshold.py").main()
        rows = list(records.read(records.Pruning, output))
        return rows, json.loads((tmp_path / f"{name}.manifest.json").read_text())["settings"], capsys.readouterr().out

    rows, settings, out = run("calibrated", "--model", judge)
    version = Calibration(1.0, -40.0).version
    assert all(len(row.clusters) == 6 and row.settings["calibration"] == version for row in rows)
    assert settings["calibration"] == version and "scores" not in settings
    assert f"by p_same calibrated (judge_calibration.json, {version})" in out
    raw, settings, out = run("raw", "--model", judge, "--scores", "raw")
    assert all(len(row.clusters) < 6 and not {"calibration", "scores"} & row.settings.keys() for row in raw)
    assert not {"calibration", "scores"} & settings.keys() and "by p_same as it is" in out
    bare = run("bare", "--model", "all-MiniLM-L6-v2")
    encoder(SILENT)
    flat = run("flat", "--model", judge)
    for rows, settings_there, _ in (bare, flat):
        assert [row.clusters for row in rows] == [row.clusters for row in raw] and settings_there == settings
    encoder(Calibration(1.0, 0.1))
    with pytest.raises(SystemExit):
        run("raw", "--model", judge)
    assert f"calibration: None there, '{Calibration(1.0, 0.1).version}' now" in capsys.readouterr().err
