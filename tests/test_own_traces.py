"""What a run of pruning is set against, and what its judge costs: its own traces, one definition, nothing unknown for free."""

import dataclasses
import json
import random
import sys

import pytest
from conftest import load_script, make_problem, make_trace

from deepprune import judges
from deepprune.base import manifest, records
from deepprune.base.errors import UserError
from deepprune.base.records import Pruning
from deepprune.engines import models
from deepprune.evaluate import methods_figures, methods_table, report_runs
from deepprune.judges import prompts
from deepprune.prune import costs

PRUNE, COMPARE, REPORT = "Online/greedy_cluster_threshold.py", "Online/compare_methods.py", "scripts/06_report.py"
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CUT = ["--truncation-k", "2", "--tokenizer", SMOL]


@pytest.fixture
def sixteen(tmp_path):
    """(folder, problems, traces): 4 problems x 16 traces of 10, 11, ... tokens; the vote of the first 8 is right, of all 16 wrong."""
    problems = [make_problem(i, str(2 * i)) for i in range(1, 5)]
    traces = [
        make_trace(p, i, p.gold if i < 5 else "7", text=f"{'wait ' * i} so {i} then thus it is", n_tokens=10 + i)
        for p in problems
        for i in range(16)
    ]
    random.Random(0).shuffle(traces)
    records.write(tmp_path / "problems.jsonl", problems)
    records.write(tmp_path / "traces.jsonl", traces)
    return tmp_path, problems, traces


def run(monkeypatch, path, *args):
    """A stage in this process."""
    monkeypatch.setattr(sys, "argv", [path, *map(str, args)])
    script = load_script(path)
    script.main()
    return script


def prune(monkeypatch, folder, name, *more, judge="oracle"):
    run(
        monkeypatch,
        PRUNE,
        "--problems",
        folder / "problems.jsonl",
        "--traces",
        folder / "traces.jsonl",
        "--output",
        folder / name,
        "--judge",
        judge,
        "--k2",
        "3",
        *CUT,
        *more,
    )
    return list(records.read(Pruning, folder / name))


def reported(monkeypatch, folder, *names):
    run(
        monkeypatch,
        REPORT,
        "--problems",
        folder / "problems.jsonl",
        "--traces",
        folder / "traces.jsonl",
        "--pruning",
        *(folder / name for name in names),
        "--resamples",
        "20",
        "--output",
        folder / "report",
    )
    page = (folder / "report/report.md").read_text()
    return json.loads((folder / "report/report.json").read_text())["pruning"], page


def test_a_run_of_fewer_traces_is_set_against_their_vote_and_their_tokens(sixteen, monkeypatch):
    folder, _, traces = sixteen
    rows = prune(monkeypatch, folder, "eight.jsonl", "--n", "8", "--order", "shuffled", "--seed", "3")
    assert {
        (p.settings["n"], p.settings["order"], p.settings["truncation"], p.settings["truncation_k"], p.settings["seed"])
        for p in rows
    } == {(8, "shuffled", "words", 2, 3)}
    found, page = reported(monkeypatch, folder, "eight.jsonl")
    consensus = sum(range(10, 18))
    assert found["n"] == 8 and found["cons@n"]["tokens"]["value"] == consensus
    assert found["cons@n"]["accuracy"]["value"] == 1.0 and found["pass@1"]["accuracy"]["value"] == 5 / 8
    assert found["pass@1"]["tokens"]["value"] == consensus / 8
    row = found["deepprune"]["oracle"]
    assert row["reduction"]["value"] == pytest.approx(1 - sum(p.tokens["total"] for p in rows) / (4 * consensus))
    assert row["accuracy_minus_cons@n"]["value"] == 0 and row["against"] == "cons@8"
    assert "cons@8: 4 problems, n = 8 traces each" in page


def test_runs_of_other_traces_stand_beside_each_other_each_with_its_own(sixteen, monkeypatch):
    folder, problems, _ = sixteen
    prune(monkeypatch, folder, "eight.jsonl", "--n", "8")
    prune(monkeypatch, folder, "all.jsonl")
    prune(monkeypatch, folder, "two.jsonl", "--n", "8", "--limit", "2", judge="random")
    found, page = reported(monkeypatch, folder, "eight.jsonl", "all.jsonl", "two.jsonl")
    assert list(found["baselines"]) == ["cons@8, 4 problems", "cons@16", "cons@8, 2 problems"]
    right = {name: b["cons@n"]["accuracy"]["value"] for name, b in found["baselines"].items()}
    assert right == {"cons@8, 4 problems": 1.0, "cons@16": 0.0, "cons@8, 2 problems": 1.0}
    assert found["baselines"]["cons@16"]["pass@1"]["accuracy"]["value"] == 5 / 16
    against = {name: (row["against"], row["problems"]) for name, row in found["deepprune"].items()}
    assert against == {
        "oracle, n 8": ("cons@8, 4 problems", 4),
        "oracle, n 16": ("cons@16", 4),
        "random-0": ("cons@8, 2 problems", 2),
    }
    assert (
        found["deepprune"]["oracle, n 16"]["accuracy_minus_cons@n"]["value"]
        == found["deepprune"]["oracle, n 16"]["accuracy"]["value"]
    )
    assert "did not prune the same traces" in page and "| cons@16 | | 0.000" in page
    assert "| pass@1 of 8, 2 problems | |" in page and "| DeepPrune, oracle, n 8 | cons@8, 4 problems |" in page


def test_records_of_before_n_was_written_down_tell_it_by_their_tokens(sixteen, monkeypatch):
    folder, _, traces = sixteen
    rows = prune(monkeypatch, folder, "eight.jsonl", "--n", "8")
    for row in rows:
        for key in ("n", "order", "truncation", "truncation_k"):
            del row.settings[key]
    records.write(folder / "old.jsonl", rows)
    prune(monkeypatch, folder, "all.jsonl")
    found, _ = reported(monkeypatch, folder, "old.jsonl")
    assert found["n"] == 8 and found["cons@n"]["accuracy"]["value"] == 1.0
    found, _ = reported(monkeypatch, folder, "old.jsonl", "all.jsonl")
    assert list(found["baselines"]) == ["cons@8", "cons@16"]
    assert list(found["deepprune"]) == ["oracle", "oracle, truncation words, truncation_k 2, n 16, order recorded"]


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


def test_an_unknown_judge_is_unknown_and_not_free(sixteen, monkeypatch):
    folder, problems, traces = sixteen
    rows = prune(monkeypatch, folder, "known.jsonl")
    for name, judge in (("known", "judge"), ("unknown", "other"), ("none", "third")):
        records.write(folder / f"{name}.jsonl", [dataclasses.replace(p, judge=judge, judge_tokens=500) for p in rows])
    (folder / "known.manifest.json").write_text(json.dumps({"judge_parameters": 500_000_000}))
    (folder / "unknown.manifest.json").write_text(json.dumps({"complete": False}))
    found, page = reported(monkeypatch, folder, "known.jsonl", "unknown.jsonl", "none.jsonl")
    known, unknown, none = found["deepprune"].values()
    assert known["reduction_with_judge"]["value"] == pytest.approx(
        known["reduction"]["value"] - 4 * 250 / (4 * sum(range(10, 26)))
    )
    for row in (unknown, none):
        assert row["judge_parameters"] is row["reduction_with_judge"] is row["tokens_with_judge"] is None
        assert row["reduction"]["value"] == known["reduction"]["value"]
    assert "| unknown |" in [line for line in page.splitlines() if "| DeepPrune, other |" in line][0]
    assert "The size of the judge of other; third is not known" in page and "not complete" in page
    drawn = load_script(REPORT).figure(found)
    shown = drawn.axes[0].get_legend_handles_labels()[1]
    assert "DeepPrune, judge, judge counted" in shown and not any("other, judge counted" in name for name in shown)
    assert "not drawn, because a size is not known: other; third" in drawn.axes[0].get_title()


def test_a_reasoner_of_unknown_size_is_said_and_the_oracle_is_free_all_the_same(sixteen, monkeypatch):
    folder, problems, traces = sixteen
    records.write(folder / "traces.jsonl", [dataclasses.replace(t, model="GLM-4.5-Air") for t in traces])
    rows = prune(monkeypatch, folder, "oracle.jsonl")
    records.write(folder / "judge.jsonl", [dataclasses.replace(p, judge="judge", judge_tokens=500) for p in rows])
    (folder / "judge.manifest.json").write_text(json.dumps({"judge_parameters": 500_000_000}))
    found, page = reported(monkeypatch, folder, "oracle.jsonl", "judge.jsonl")
    assert found["deepprune"]["judge"]["reduction_with_judge"] is None
    assert found["deepprune"]["oracle"]["reduction_with_judge"] == found["deepprune"]["oracle"]["reduction"]
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
    found, page = reported(monkeypatch, folder, "live.jsonl")
    assert found["live"] and found["n"] == 16 and found["pass@1"] is None and found["cons@n"]["accuracy"] is None
    assert found["cons@n"]["tokens"]["value"] == 184 and found["deepprune"]["random-0"]["reduction"]["value"] == 0.75
    assert "A live run" in page and "estimated from the lengths of the finished traces" in page
    for row in rows:  # no trace ended: nothing to estimate from
        row.tokens["consensus"] = 0
    records.write(folder / "live.jsonl", rows)
    found, page = reported(monkeypatch, folder, "live.jsonl")
    assert found["cons@n"]["tokens"] is None and found["deepprune"]["random-0"]["reduction"] is None
    assert "tokens of cons@n are not known" in page


def test_one_problem_and_pairs_of_one_class_have_no_nan_in_their_report(sixteen, monkeypatch):
    folder, problems, traces = sixteen
    prune(monkeypatch, folder, "one.jsonl", "--limit", "1")
    pair = records.Pair("pair", problems[0].problem_id, "a", "b", "x", "y", {"strategy": "words", "k": 2}, 1, "q")
    records.write(folder / "pairs.jsonl", [pair])
    records.write(folder / "scores.jsonl", [records.PairScore("pair", "judge", 0.7, True, 10, 0)])
    run(
        monkeypatch,
        REPORT,
        "--problems",
        folder / "problems.jsonl",
        "--traces",
        folder / "traces.jsonl",
        "--pruning",
        folder / "one.jsonl",
        "--pairs",
        folder / "pairs.jsonl",
        "--scores",
        folder / "scores.jsonl",
        "--resamples",
        "20",
        "--output",
        folder / "report",
    )

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads((folder / "report/report.json").read_text(), parse_constant=refuse)
    assert found["judges"]["judge"]["all"]["metrics"]["auroc"]["value"] is None
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
        run(
            monkeypatch,
            REPORT,
            "--problems",
            folder / "problems.jsonl",
            "--traces",
            folder / "traces.jsonl",
            "--output",
            folder / "report",
            *(folder / x if x.endswith(".jsonl") else x for x in given),
        )
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "empty.jsonl: no" in said and said.count("\n") == 1


class TelltaleJudge(judges.Judge):
    """Prompts are as long as they are; how many tokens were cached is another number each time."""

    name, parameters, cached = "telltale", 1000, 0

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def _stream(self, requests):
        for position, r in enumerate(requests):
            length = len(prompts.prompt_ids(self.tokenizer, r.question, r.prefix_a, r.prefix_b))
            low, high = sorted((r.trace_a, r.trace_b))
            yield position, judges.Score(random.Random(low + high).random(), length, self.cached)


@pytest.fixture
def telltale(monkeypatch, smol):
    from transformers import AutoTokenizer

    from deepprune.base import runtime

    judge = TelltaleJudge(AutoTokenizer.from_pretrained(smol))
    monkeypatch.setattr(judges, "open_judge", lambda *a, **k: judge)
    monkeypatch.setattr(runtime, "ensure", lambda: None)
    return judge


def test_what_a_cache_saves_is_one_number_whatever_was_measured(sixteen, monkeypatch, telltale, smol):
    """Two stores, one filled by a run with other settings and another cache: the records are the same, and the comparison's too."""
    folder, problems, traces = sixteen
    model = ["--model", smol, "--n", "8"]
    first = prune(monkeypatch, folder, "first.jsonl", *model, judge="vllm")
    telltale.cached = 90
    prune(monkeypatch, folder, "other.jsonl", *model, "--tau", "0.9", "--store", folder / "shared.sqlite", judge="vllm")
    telltale.cached = 3
    second = prune(monkeypatch, folder, "second.jsonl", *model, "--store", folder / "shared.sqlite", judge="vllm")
    assert [p.judge_cached_tokens for p in first] == [p.judge_cached_tokens for p in second]
    run(
        monkeypatch,
        COMPARE,
        "--problems",
        folder / "problems.jsonl",
        "--traces",
        folder / "traces.jsonl",
        "--output",
        folder / "compare.jsonl",
        "--judges",
        f"mine={smol}",
        "--n",
        "8",
        "--orders",
        "1",
        "--taus",
        "0.5",
        "--ks",
        "32",
        "--k1s",
        "10",
        "--k2s",
        "3",
        "--asks",
        "all",
        "--rules",
        "paper",
        "--sbert",
        "none",
        "--resamples",
        "5",
        *CUT,
    )
    compared = {}
    for line in open(folder / "compare.jsonl"):
        row = json.loads(line)
        (compared[row["problem_id"]],) = [m for m in row["methods"] if m["judge"] == "mine"]
    for p in first:
        row = compared[p.problem_id]
        # Members are sampled by another key there, but of 8 traces K1 = 10 takes all.
        assert (p.judge_calls, p.judge_tokens, p.judge_cached_tokens, p.tokens["total"]) == (
            row["judge_calls"],
            row["judge_prompt"],
            row["judge_cached"],
            row["tokens"],
        )
        assert 0 < p.judge_cached_tokens < p.judge_tokens
    found, _ = reported(monkeypatch, folder, "first.jsonl")
    (row,) = found["deepprune"].values()
    assert row["judge_cached_tokens"] == sum(p.judge_cached_tokens for p in first)


def test_a_run_that_was_killed_knows_its_judge(sixteen, monkeypatch, telltale, smol):
    folder, _, _ = sixteen
    size = models.parameter_count(smol)
    path = manifest.manifest_path(folder / "p.jsonl")

    stream, asked = telltale.stream, []

    def killed(requests):
        asked.append(len(asked))
        if len(asked) == 5:  # the first problem has three rounds
            raise KeyboardInterrupt
        return stream(requests)

    with monkeypatch.context() as patched:
        patched.setattr(telltale, "stream", killed)
        with pytest.raises(SystemExit) as ended:
            prune(monkeypatch, folder, "p.jsonl", "--model", smol, "--n", "4", "--lockstep", "1", judge="vllm")
    assert ended.value.code == 130 and len((folder / "p.jsonl").read_text().splitlines()) == 1
    data = json.loads(path.read_text())
    assert data["judge_parameters"] == size and not data["complete"]
    for _ in range(2):  # resumed, and with nothing left to do
        prune(monkeypatch, folder, "p.jsonl", "--model", smol, "--n", "4", judge="vllm")
        assert json.loads(path.read_text())["judge_parameters"] == size
    # A manifest of before, without it: nothing is left to do, and yet it is known afterwards.
    data = json.loads(path.read_text())
    del data["judge_parameters"]
    path.write_text(json.dumps(data))
    prune(monkeypatch, folder, "p.jsonl", "--model", smol, "--n", "4", judge="vllm")
    assert json.loads(path.read_text())["judge_parameters"] == size


def test_a_judge_of_unknown_size_is_unknown_in_the_comparison(sixteen, monkeypatch, telltale, smol):
    folder, _, _ = sixteen
    monkeypatch.setattr(judges, "parameters_of", lambda kind, model=None: None)
    run(
        monkeypatch,
        COMPARE,
        "--problems",
        folder / "problems.jsonl",
        "--traces",
        folder / "traces.jsonl",
        "--output",
        folder / "compare.jsonl",
        "--judges",
        f"mine={smol}",
        "--n",
        "6",
        "--orders",
        "1",
        "--taus",
        "0.5",
        "--k1s",
        "1",
        "--k2s",
        "3",
        "--asks",
        "all",
        "--rules",
        "paper",
        "--sbert",
        "none",
        "--resamples",
        "5",
        *CUT,
    )
    rows = [json.loads(line) for line in open(folder / "compare.jsonl")]
    (mine,) = [m for m in rows[0]["methods"] if m["judge"] == "mine"]
    assert mine["total"] is None and mine["total_uncached"] is None and mine["judge_prompt"] > 0 and mine["tokens"] > 0
    page = (folder / "compare.md").read_text()
    (line,) = [x for x in page.splitlines() if x.startswith("| paper | mine |")]
    assert line.count("| unknown ") == 3 and "the size of mine is not known" in page
    numbers = methods_table.table(rows, 5)
    assert methods_table.unknown_cost(numbers) == ["mine"]
    assert (
        "not drawn, because its size is not known: mine"
        in methods_figures.fronts(numbers, "title")._suptitle.get_text()
    )


def test_simulated_questions_have_equally_many_traces(tmp_path, monkeypatch, capsys):
    rows = [
        {"dataset": "D", "problem_id": p, "gold": "1", "answer": "1", "n_tokens": 10} for p in "ab" for _ in range(4)
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*rows, rows[0]]))
    run(
        monkeypatch,
        "Online/simulate_paper_scale.py",
        "--answers",
        tmp_path / "answers.jsonl",
        "--output",
        tmp_path / "s.jsonl",
        "--aurocs",
        "0.8",
        "--k1s",
        "1",
        "--orders",
        "1",
        "--resamples",
        "5",
    )
    assert "the first 4 traces of each problem are used" in capsys.readouterr().out
    assert [json.loads(line)["n"] for line in open(tmp_path / "s.jsonl")] == [4, 4]


def test_a_block_wise_cache_saves_whole_blocks():
    asked, prefixes, frame = [[], [0], [0, 1]], [5, 7, 9], prompts.Frame(2, 1, 4)
    assert costs.judge_tokens(asked, prefixes, 3, frame) == (19 + 21 + 23, 8 + 2)
    assert costs.judge_tokens(asked, prefixes, 3, frame, block=4) == (19 + 21 + 23, 8 + 0)
    # A stored score says how long its prompt was: 2 more than the parts.
    assert costs.judge_tokens(asked, prefixes, 3, frame, lambda a, b: 23) == (69, 23 - 9 - 4 + 2)


@pytest.mark.parametrize(
    ("name", "size"),
    [("Qwen2.5-7B-Instruct-1M", 7e9), ("SmolLM2-135M", 135e6), ("Qwen3-30B-A3B", 30e9), ("model", None)],
)
def test_a_context_of_a_million_is_no_size(name, size):
    assert costs.parameters_from_name(name) == size


def test_no_size_is_no_cost_of_nothing():
    assert costs.equivalent_tokens(100, 0, 0, None) == 0 and costs.equivalent_tokens(100, 20, 1.0, 2.0) == 40
    assert costs.equivalent_tokens(100, 0, None, 1e9) is None and costs.equivalent_tokens(100, 0, 1e9, None) is None


def test_live_against_consensus_with_a_judge_of_unknown_size_is_unknown():
    script = load_script("benchmarks/live_vs_consensus.py")
    question = {
        "problem_id": "p",
        "correct": True,
        "judge_tokens": 100,
        "judge_cached_tokens": 20,
        "sequential_tokens": 5,
    }
    runs = [
        {
            "way": way,
            "seconds": 1.0,
            "engine_tokens": 9,
            "questions": [question | {"tokens": tokens, "problem_id": f"p{i}"} for i in range(2)],
        }
        for way, tokens in zip(script.WAYS, (200, 100), strict=True)
    ]
    counted = "token reduction, judge counted"
    assert script.summary(runs, 5e8, 1e9)["ratios"][counted][0] == pytest.approx(1 - (100 + 40) / 200)
    assert script.summary(runs, 0, None)["ratios"][counted][0] == 0.5
    for sizes in ((None, 1e9), (5e8, None)):
        assert script.summary(runs, *sizes)["ratios"][counted] is None
