"""What a judge costs: one definition, the same from any store, known after a kill, unknown where it is not known."""

import json
import random

import pytest
import toys
from small_runs import compared, prune, reported, run, write_sixteen

from deepprune import judges
from deepprune.base import manifest
from deepprune.engines import models
from deepprune.evaluate import methods_figures, methods_table
from deepprune.judges.pair_prompts import Frame
from deepprune.prune import costs


@pytest.fixture
def sixteen(tmp_path):
    return write_sixteen(tmp_path)


class TelltaleJudge(judges.Judge):
    """Prompts are as long as they are; how many tokens were cached is another number each time."""

    name, parameters, cached = "telltale", 1000, 0

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def _stream(self, requests):
        for position, r in enumerate(requests):
            length = len(toys.prompt_ids(self.tokenizer, r.question, r.prefix_a, r.prefix_b))
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
    """Two stores, one filled by a run with other settings and another cache: records and comparison are the same."""
    folder, problems, traces = sixteen
    model = ["--model", smol, "--n", "8"]
    first = prune(monkeypatch, folder, "first.jsonl", *model, judge="vllm")
    telltale.cached = 90
    prune(monkeypatch, folder, "other.jsonl", *model, "--tau", "0.9", "--store", folder / "shared.sqlite", judge="vllm")
    telltale.cached = 3
    second = prune(monkeypatch, folder, "second.jsonl", *model, "--store", folder / "shared.sqlite", judge="vllm")
    assert [p.judge_cached_tokens for p in first] == [p.judge_cached_tokens for p in second]
    rows = compared(monkeypatch, folder, 8, "--judges", f"mine={smol}", "--ks", "32", "--k1s", "10")
    of_problem = {}
    for row in rows:
        (of_problem[row["problem_id"]],) = [m for m in row["methods"] if m["judge"] == "mine" and m["tau"]]
    for p in first:
        row = of_problem[p.problem_id]
        # Members are sampled by another key there, but of 8 traces K1 = 10 takes all.
        assert (p.judge_calls, p.judge_tokens, p.judge_cached_tokens, p.tokens["total"]) == (
            row["judge_calls"],
            row["judge_prompt"],
            row["judge_cached"],
            row["tokens"],
        )
        assert 0 < p.judge_cached_tokens < p.judge_tokens
    numbers, _ = reported(monkeypatch, folder, "first.jsonl")
    (row,) = numbers["deepprune"].values()
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
    monkeypatch.setattr(judges.opening, "parameters_of", lambda kind, model=None: None)
    rows = compared(monkeypatch, folder, 6, "--judges", f"mine={smol}", "--k1s", "1")
    (mine,) = [m for m in rows[0]["methods"] if m["judge"] == "mine" and m["tau"]]
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
    asked, prefixes, frame = [[], [0], [0, 1]], [5, 7, 9], Frame(2, 1, 4)
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
