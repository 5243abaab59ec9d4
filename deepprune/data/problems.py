"""Problem sets: seeded ones from reasoning-gym, the paper's benchmarks through `datasets`.

reasoning-gym makes endless problems with checkable answers (Apache-2.0), so a sample can be recorded on a
machine without a data hub and problem texts never overlap with a public benchmark's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepprune.base.errors import UserError
from deepprune.base.questions import normalised_question, question_words
from deepprune.base.records import Problem, content_hash
from deepprune.data import answers

# level -> family -> settings of reasoning-gym; min_steps, max_steps are ours: equations in the worked solution.
LEVELS: dict[str, dict[str, dict[str, Any]]] = {
    # Qwen2.5-Coder-0.5B-Instruct is right 15 % to 85 % of the time in each family.
    "short": {
        "gsm_symbolic": {"max_steps": 2},
        "chain_sum": {"min_terms": 3, "max_terms": 5, "min_digits": 1, "max_digits": 2},
        "basic_arithmetic": {"min_terms": 2, "max_terms": 4, "min_digits": 1, "max_digits": 2},
        "products": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
        "gcd": {"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 30},
    },
    # Several steps each: for a reasoner that writes hundreds of tokens.
    "long": {
        "gsm_symbolic": {"min_steps": 4},
        "chain_sum": {"min_terms": 8, "max_terms": 10, "min_digits": 2, "max_digits": 3},
        "basic_arithmetic": {"min_terms": 5, "max_terms": 7, "min_digits": 1, "max_digits": 2},
        "products": {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 3},
        "gcd": {"min_numbers": 3, "max_numbers": 3, "min_value": 20, "max_value": 200},
        "lcm": {"min_numbers": 2, "max_numbers": 3, "min_value": 5, "max_value": 60},
        "leg_counting": {"min_animals": 4, "max_animals": 6, "max_instances": 9},
        "decimal_chain_sum": {"min_terms": 5, "max_terms": 7, "min_digits": 1, "max_digits": 2},
        "simple_equations": {},
        "count_primes": {"min_n": 1, "max_n": 100},
    },
}

ALL_FAMILIES = tuple(dict.fromkeys(family for families in LEVELS.values() for family in families))

# name -> (hub id, config, split, question field, gold field). AIME years are picked out of one data set.
BENCHMARKS: dict[str, tuple[str, str | None, str, str, str]] = {
    "AIME22": ("AI-MO/aimo-validation-aime", None, "train", "problem", "answer"),
    "AIME23": ("AI-MO/aimo-validation-aime", None, "train", "problem", "answer"),
    "AIME24": ("HuggingFaceH4/aime_2024", None, "train", "problem", "answer"),
    "AIME25": ("yentinglin/aime_2025", None, "train", "problem", "answer"),
    "MATH500": ("HuggingFaceH4/MATH-500", None, "test", "problem", "answer"),
    "GPQA-diamond": ("Idavidrein/gpqa", "gpqa_diamond", "train", "Question", "Correct Answer"),
}


def generate(family: str, count: int, seed: int, skip: set[str] = frozenset(), level: str = "short") -> list[Problem]:
    """`count` distinct seeded problems of a reasoning-gym family at a level, none with a normalised question in `skip`.

    Questions that differ in their operators alone count as one here: more variety, and a seed's set stays what it was.
    Raises UserError for an unknown family or one that runs out of distinct problems.
    """
    import reasoning_gym

    families = LEVELS[level]
    if family not in families:
        raise UserError(f"unknown problem family {family!r}; families of level {level} are {', '.join(families)}")
    seen, problems = {question_words(question) for question in skip}, []
    # Neighbouring seeds share most problems, so what is skipped must not use up the search.
    size = 20 * (count + len(skip)) + 100
    settings = dict(families[family])
    min_steps, max_steps = settings.pop("min_steps", 0), settings.pop("max_steps", math.inf)
    for entry in reasoning_gym.create_dataset(family, size=size, seed=seed, **settings):
        if not min_steps <= entry["metadata"].get("answer_cot", "").count("=") <= max_steps:
            continue
        question = _plain_question(entry["question"])
        key = question_words(normalised_question(question))
        if key not in seen:
            seen.add(key)
            problems.append(Problem.new("reasoning-gym", question, str(entry["answer"]), "math", family))
            if len(problems) == count:
                return problems
    raise UserError(f"family {family!r} has only {len(problems)} distinct problems of {count} in its first {size}")


def _plain_question(text: str) -> str:
    """The question without the generator's format rules ("Give only ..."): ours come from the prompt."""
    return re.sub(r"\s*(Give only|Give the|Respond with) [^.]*as your final answer\.", "", text).strip()


def load_benchmark(name: str, path: str | None = None) -> list[Problem]:
    """One of the paper's benchmarks, from the hub or from local files of the same columns.

    path: a local .jsonl, .json, .csv or .parquet file. GPQA's four options are put in a fixed order that
    depends on the question alone, so that ids are stable. Raises UserError when it cannot be loaded.
    """
    import datasets

    if name not in BENCHMARKS:
        raise UserError(f"unknown benchmark {name!r}; benchmarks are {', '.join(BENCHMARKS)}")
    hub_id, config, split, question_field, gold_field = BENCHMARKS[name]
    try:
        if path is not None:
            if not Path(path).is_file():
                raise UserError(f"{path}: no such file")
            kind = {"jsonl": "json"}.get(Path(path).suffix[1:], Path(path).suffix[1:])
            rows = datasets.load_dataset(kind, data_files=path, split="train")
        else:
            rows = datasets.load_dataset(hub_id, config, split=split)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - the hub client raises many kinds
        raise UserError(
            f"benchmark {name}: {path or hub_id} cannot be loaded ({type(error).__name__}: {error}); "
            "without a hub give a local file with --path"
        ) from error
    fields = [question_field, gold_field]
    if name == "GPQA-diamond":
        fields += [f"Incorrect Answer {i}" for i in (1, 2, 3)]
    asked: dict[str, tuple[int, Problem]] = {}
    for number, row in enumerate(rows, 1):
        where = f"{path or hub_id}:{number}"
        values = [_text(row.get(f)) for f in fields]
        missing = [f for f, value in zip(fields, values, strict=True) if value is None]
        if missing:
            raise UserError(f"{where}: benchmark {name} needs text or a number in the field(s) {', '.join(missing)}")
        if name in ("AIME22", "AIME23") and f"20{name[-2:]}" not in str(row.get("url", "")):
            continue
        if name == "GPQA-diamond":
            if len({option.strip() for option in values[1:]}) < 4:
                raise UserError(
                    f"{where}: two of the four options are the same, so none is the right one; mend the row"
                )
            problem = _gpqa(values[0], values[1:], _text(row.get("High-level domain")) or name)
        else:
            question, gold = values
            if "####" in gold:  # a worked solution, as GSM8K has them
                gold = answers.extract(gold, "math") or gold
            problem = Problem.new(name, question, gold, "math", _text(row.get("subject")) or name)
        line, first = asked.setdefault(normalised_question(problem.question), (number, problem))
        if answers.same(problem.gold, first.gold, problem.answer_type) is not True:
            raise UserError(
                f"{where}: the question {problem.question[:60]!r} has the gold {problem.gold!r} here and "
                f"{first.gold!r} in row {line}; mend one of them"
            )
    if not asked:
        raise UserError(f"{path or hub_id}: no problem of {name} in it (AIME22 and AIME23 are told by the 'url' field)")
    return [problem for _, problem in asked.values()]


def _text(value: Any) -> str | None:
    """A column's value as text, 204.0 as 204; None for what is missing (null, NaN, blank) or no text or number."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value) if str(value).strip() else None


def _gpqa(question: str, options: list[str], domain: str) -> Problem:
    """options: the right one first; they are listed in an order that depends on the question alone."""
    order = sorted(range(4), key=lambda i: content_hash("gpqa", question, options[i]))
    listed = "\n".join(f"{letter}) {options[i].strip()}" for letter, i in zip("ABCD", order, strict=True))
    return Problem.new("GPQA-diamond", f"{question.strip()}\n\n{listed}", "ABCD"[order.index(0)], "choice", domain)


def spread(items: Sequence[Any], count: int | None) -> list[Any]:
    """`count` of the items, spread evenly over them (files hold one family after the other); None: all."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
