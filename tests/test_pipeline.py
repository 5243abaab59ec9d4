"""One real run of stages 02 to 06 on recorded traces, and its numbers counted again by a few plain lines."""

import collections
import gzip
import json

import pytest
from conftest import ROOT, run_process, run_stage
from sklearn.metrics import roc_auc_score

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PROBLEMS = ROOT / "DeepPrune_data/problems/words.jsonl"
TRACES = ROOT / "DeepPrune_data/traces/qwen2.5-coder-0.5b-words.jsonl.gz"
RECIPE = ["--config", "scripts/recipes/cpu.yaml"]
ANY = ["--least-label-mass", "0"]  # one step of training makes no judge


def rows(path):
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        return [json.loads(line) for line in file]


def stage(*args, run=run_stage):
    done = run(*args)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout


def options(**values):
    """Command line options: output="x" is --output x, a list all of its values."""
    words = []
    for name, value in values.items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, list) else [value])]
    return words


def few_pairs(pairs, to):
    """At most 8 test pairs a class: enough for every number, little for the engine."""
    chosen = [pair for label in (0, 1) for pair in [p for p in rows(pairs) if p["label"] == label][:8]]
    to.write_text("".join(json.dumps(pair) + "\n" for pair in chosen))
    return to


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a finished run: judge trained on a dozen pairs, scores and prunings of three judges."""
    root = tmp_path_factory.mktemp("run")
    files = options(problems=PROBLEMS, traces=TRACES)
    stage("Offline/build_pair_dataset.py", *RECIPE, *files, "--data-dir", root)
    pairs = few_pairs(root / "offline_test_data/deepprune_pairs.jsonl", root / "pairs.jsonl")
    folders = (f"dataset_dir={root}", f"output_dir={root}/judge")
    stage("LLaMA-Factory/train.py", "Offline/SmolLM2_lora_cpu.yaml", *folders, "max_samples=8")
    tested = [*RECIPE, *ANY, *options(pairs=pairs, resamples=50)]
    script = "Offline/test_model_performance_parallel.py"
    trained, random = (root / f"scores_{name}.jsonl" for name in ("trained", "random"))
    stage(script, *tested, *options(model=root / "judge", output=trained), run=run_process)
    stage(script, *tested, *options(judge="random", output=random))
    zero_shot = root / "scores_zero_shot.jsonl"
    stage("Preliminaries/zero_shot_exp.py", *tested, *options(model=SMOL, dtype="float32", output=zero_shot))
    pruned = options(problems=PROBLEMS, traces=root / "online_test_data/deepprune_pairs.jsonl", limit=2)
    prunings = {name: root / f"pruning_{name}.jsonl" for name in ("trained", "oracle")}
    for name, judge in (("trained", ["--model", root / "judge"]), ("oracle", ["--judge", "oracle"])):
        stage("Online/greedy_cluster_threshold.py", *RECIPE, *ANY, *pruned, *judge, "--output", prunings[name])
    results = options(scores=[trained, random, zero_shot], pruning=list(prunings.values()), resamples=50)
    stage("scripts/06_report.py", *files, *results, *options(output=root / "report", pairs=pairs))
    return root


def test_auroc_again(run):
    report = json.loads((run / "report/report.json").read_text())
    labels = {p["pair_id"]: p["label"] for p in rows(run / "pairs.jsonl")}
    for name in ("trained", "random", "zero_shot"):
        scores = rows(run / f"scores_{name}.jsonl")
        assert len(scores) == len(labels)
        area = roc_auc_score([labels[s["pair_id"]] for s in scores], [s["p_same"] for s in scores])
        metrics = report["judges"][scores[0]["judge"]]["all"]["metrics"]
        assert metrics["auroc"]["value"] == pytest.approx(area, abs=1e-12)
        # What stage 04 said and wrote is what the report says, with its intervals.
        assert json.loads((run / f"scores_{name}.manifest.json").read_text())["metrics"] == metrics


def test_the_zero_shot_judge_is_the_untrained_model_on_the_same_pairs(run):
    from deepprune.base import records
    from deepprune.judges import Request, name_of, open_judge

    scores = {s["pair_id"]: s for s in rows(run / "scores_zero_shot.jsonl")}
    pairs = list(records.read(records.Pair, run / "pairs.jsonl"))[:6]
    assert {s["judge"] for s in scores.values()} == {name_of("transformers", SMOL)}
    judge = open_judge("transformers", SMOL, dtype="float32")
    for pair, score in zip(pairs, judge.score([Request.of(p) for p in pairs]), strict=True):
        assert scores[pair.pair_id]["p_same"] == pytest.approx(score.p_same, abs=1e-3)


def test_tokens_and_accuracy_again(run):
    report = json.loads((run / "report/report.json").read_text())["pruning"]
    traces = {t["trace_id"]: t for t in rows(TRACES)}
    n_tokens = collections.Counter()
    for t in traces.values():
        n_tokens[t["problem_id"]] += t["n_tokens"]
    for name in ("trained", "oracle"):
        prunings = rows(run / f"pruning_{name}.jsonl")
        row = report["deepprune"][prunings[0]["judge"]]
        assert len(prunings) == 2
        total = sum(p["tokens"]["total"] for p in prunings)
        consensus = sum(n_tokens[p["problem_id"]] for p in prunings)
        assert row["sums"] == {
            "prefix": sum(p["tokens"]["prefix"] for p in prunings),
            "rest": sum(p["tokens"]["rest"] for p in prunings),
            "total": total,
            "consensus": consensus,
        }
        assert row["reduction"]["value"] == pytest.approx(1 - total / consensus, abs=1e-12)
        assert row["accuracy"]["value"] == sum(p["correct"] is True for p in prunings) / 2
        computed = sum(p["judge_tokens"] - p["judge_cached_tokens"] for p in prunings)
        with_judge = 1 - (total + computed * row["judge_parameters"] / 0.5e9) / consensus
        assert row["reduction_with_judge"]["value"] == pytest.approx(with_judge, abs=1e-12)
        for p in prunings:  # every trace once; finished ones cost their whole length, the others their prefix
            placed = [t for c in p["clusters"] for t in c]
            assert sorted(placed) == sorted(
                t["trace_id"] for t in traces.values() if t["problem_id"] == p["problem_id"]
            )
            whole = sum(traces[t]["n_tokens"] for t in p["finished"])
            assert whole <= p["tokens"]["total"] <= p["tokens"]["consensus"]
    assert report["pass@1"]["accuracy"]["value"] == pytest.approx(
        sum(t["correct"] is True for t in traces.values() if t["problem_id"] in {p["problem_id"] for p in prunings})
        / 32
    )


def test_the_oracles_clusters_hold_one_answer(run):
    traces = {t["trace_id"]: t for t in rows(TRACES)}
    for p in rows(run / "pruning_oracle.jsonl"):
        for cluster in p["clusters"]:
            known = {traces[t]["answer"] for t in cluster}
            assert len(known) == 1 or None not in known
            assert len(cluster) == 1 or None not in known


def test_no_training_problem_is_tested(run):
    trained = {r["problem_id"] for r in rows(run / "finetune_data/deepprune_pairs.jsonl")}
    tested = {r["problem_id"] for r in rows(run / "offline_test_data/deepprune_pairs.jsonl")}
    pruned = {r["problem_id"] for r in rows(run / "online_test_data/deepprune_pairs.jsonl")}
    assert trained and tested and not trained & (tested | pruned)


def test_report_page_and_figures(run):
    page = (run / "report/report.md").read_text()
    assert "| oracle |" in page and "judge counted" in page and "0.8701" in page
    for name in ("roc.png", "tokens_accuracy.png"):
        assert (run / "report" / name).read_bytes().startswith(b"\x89PNG")
    manifest = json.loads((run / "scores_trained.manifest.json").read_text())
    assert manifest["complete"] and manifest["models"]["judge"].startswith("judge@")


def test_report_refuses_scores_of_other_pairs(run, tmp_path):
    fewer = tmp_path / "scores.jsonl"
    fewer.write_text("".join((run / "scores_random.jsonl").read_text().splitlines(keepends=True)[:-1]))
    done = run_stage("scripts/06_report.py", "--output", tmp_path, "--pairs", run / "pairs.jsonl", "--scores", fewer)
    assert done.returncode == 2 and "same pairs only" in done.stderr
