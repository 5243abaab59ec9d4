import dataclasses
import json
import math

import pytest
from conftest import run_stage

from deepprune.base import jsonl, records
from deepprune.base.errors import UserError
from deepprune.data import imports, pairs, sources
from deepprune.data.import_rows import Fields
from deepprune.data.truncation import Truncation
from deepprune.prune import prefixes

DEFAULTS = {"model": "m", "dataset": "d", "answer_type": "math"}


GOOD = {"question": "2*3?", "gold": "6", "text": r"so \boxed{6}", "n_tokens": 5}
CHOICE = {
    "question": "Which?\nA) a solid\nB) A gas\nC. Dr. A. Smith\nD) plasma",
    "answer_type": "choice",
    "text": r"So \boxed{B}",
    "n_tokens": 4,
}


def write(tmp_path, *rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def read(tmp_path, *rows, answer=None, **options):
    """(problems and traces, counts of doubts) of the rows."""
    importer = imports.Importer(Fields({"answer": answer} if answer else {}, DEFAULTS), **options)
    read_rows = list(importer.read(sources.rows(str(write(tmp_path, *rows)))))
    assert importer.counts.rows == len(rows)
    return read_rows, {what: count for what, (count, _) in importer.counts.doubts.items()}


def imported(path):
    return list(imports.Importer(Fields({}, DEFAULTS)).read(sources.rows(str(path))))


def test_import_finds_answers_of_all_kinds_and_grades_them(tmp_path):
    path = write(
        tmp_path,
        {"question": "2*3?", "gold": 6, "text": r"so \boxed{6}", "n_tokens": 5},
        {"question": "2*3?", "gold": 6, "text": "<answer>12/2</answer>", "n_tokens": 5},
        {"question": "2*3?", "gold": 6, "text": "The answer is 7.", "n_tokens": 5, "model": "other"},
        {"question": "2*3?", "gold": 6, "text": "I give up", "n_tokens": 5},
    )
    read_rows = imported(path)
    assert len({p.problem_id for p, _ in read_rows}) == 1
    assert [t.correct for _, t in read_rows] == [True, True, False, None]
    assert [t.sample_index for _, t in read_rows] == [0, 1, 0, 2]
    assert [t.finish_reason for _, t in read_rows] == ["stop", "stop", "stop", "unknown"]
    assert len({t.trace_id for _, t in read_rows}) == 4


def test_import_needs_token_counts_or_a_tokenizer(tmp_path):
    path = write(tmp_path, {"question": "2*3?", "gold": "6", "text": "6"})
    with pytest.raises(UserError, match=r"mine\.jsonl:1: no token count"):
        imported(path)


@pytest.mark.parametrize(("count", "read_as"), [(5.0, 5), ("5", 5), (7, 7)])
def test_token_counts_are_whole_numbers(tmp_path, count, read_as):
    """pandas writes 5.0 in a column with gaps."""
    ((_, trace),), _ = read(tmp_path, GOOD | {"n_tokens": count})
    assert trace.n_tokens == read_as and type(trace.n_tokens) is int


@pytest.mark.parametrize("count", [True, False, 0, -3, 5.5, "five"])
def test_other_token_counts_are_refused(tmp_path, count):
    with pytest.raises(UserError, match=r"mine\.jsonl:2: the token count in field 'n_tokens' should be a whole number"):
        read(tmp_path, GOOD, GOOD | {"n_tokens": count})


@pytest.mark.parametrize("field", ["question", "gold", "text"])
@pytest.mark.parametrize(("value", "name"), [(math.nan, "NaN"), (math.inf, "infinite"), (None, "null")])
def test_what_is_missing_is_not_read_as_a_word(tmp_path, field, value, name):
    with pytest.raises(UserError, match=rf"mine\.jsonl:2: no {field}: field '{field}' is {name}"):
        read(tmp_path, GOOD, GOOD | {field: value})


def test_nan_in_other_fields_is_a_missing_value(tmp_path):
    nan = dict.fromkeys(("model", "dataset", "sample_id", "family", "answer_type", "finish_reason", "unused"), math.nan)
    ((problem, trace),), _ = read(tmp_path, GOOD | nan)
    assert (trace.model, problem.dataset, problem.family, problem.answer_type) == ("m", "d", "", "math")
    assert "sample_id" not in trace.sampling and trace.finish_reason == "stop"
    with pytest.raises(UserError, match=r"mine\.jsonl:1: no token count"):
        read(tmp_path, GOOD | {"n_tokens": math.nan})


def test_lists_and_booleans_are_no_texts(tmp_path):
    with pytest.raises(UserError, match=r"mine\.jsonl:1: field 'gold' .* found a list"):
        read(tmp_path, GOOD | {"gold": ["6"]})
    with pytest.raises(UserError, match=r"mine\.jsonl:1: the question in field 'question' is true"):
        read(tmp_path, GOOD | {"question": True})
    for kind in ("math", "choice"):
        with pytest.raises(UserError, match=rf"mine\.jsonl:1: the gold answer is true, which is no {kind} answer"):
            read(tmp_path, GOOD | {"gold": True, "answer_type": kind})
    ((problem, trace),), _ = read(
        tmp_path, GOOD | {"gold": True, "answer_type": "text", "text": "<answer>True</answer>"}
    )
    assert problem.gold == "true" and trace.correct is True


@pytest.mark.parametrize(
    ("row", "answer_type", "answer"),
    [
        (CHOICE | {"gold": "B"}, "choice", "B"),
        (CHOICE | {"gold": "(B)"}, "choice", "B"),
        (CHOICE | {"gold": "Z", "text": r"\boxed{Z}"}, "math", "Z"),  # no option of that name
        (GOOD | {"gold": "B", "text": r"\boxed{B}"}, "math", "B"),  # no options
        (GOOD | {"gold": True, "text": '{"decision": true}'}, "text", "true"),
        (GOOD | {"gold": "No", "text": "Final answer: no"}, "text", "no"),
        (GOOD, "math", "6"),
    ],
)
def test_a_type_that_nobody_states_is_the_golds_and_that_is_said(tmp_path, row, answer_type, answer):
    path = write(tmp_path, {name: value for name, value in row.items() if name != "answer_type"})
    importer = imports.Importer(Fields({}, {"model": "m", "dataset": "d", "answer_type": None}))
    ((problem, trace),) = importer.read(sources.rows(str(path)))
    assert (problem.answer_type, trace.answer.lower(), trace.correct) == (answer_type, answer.lower(), True)
    told = [what for what in importer.counts.doubts if f"read as {answer_type} for its gold" in what]
    assert len(told) == (answer_type != "math")


def test_an_empty_trace_is_imported_without_an_answer(tmp_path):
    read_rows, doubts = read(tmp_path, GOOD, GOOD | {"text": ""}, GOOD | {"text": " \n", "n_tokens": 0})
    assert [(t.answer, t.correct, t.n_tokens) for _, t in read_rows] == [
        ("6", True, 5),
        (None, None, 5),
        (None, None, 1),
    ]
    assert doubts == {"an empty trace, its answer unknown": 2}
    assert all(t.check() is None for _, t in read_rows)


def test_half_an_emoji_becomes_the_replacement_character(tmp_path):
    ((_, trace),), doubts = read(tmp_path, GOOD | {"text": "so \\boxed{6} \ud83d"})
    assert trace.text.endswith("\N{REPLACEMENT CHARACTER}") and trace.answer == "6"
    assert list(doubts.values()) == [1]


def test_questions_that_differ_in_operators_are_two_problems(tmp_path):
    read_rows, _ = read(tmp_path, *(GOOD | {"question": q, "gold": "4"} for q in ("Compute 2 + 2.", "Compute 2 * 2.")))
    assert len({p.problem_id for p, _ in read_rows}) == 2


def test_one_question_written_in_two_ways_is_one_problem(tmp_path):
    read_rows, _ = read(tmp_path, *(GOOD | {"question": q} for q in ("What is $2 \\times 3$?", "what is 2*3")))
    assert len({p.problem_id for p, _ in read_rows}) == 1 and [t.sample_index for _, t in read_rows] == [0, 1]
    assert {t.problem_id for _, t in read_rows} == {read_rows[0][0].problem_id}


@pytest.mark.parametrize("golds", [("0.5", "1/2"), (6, 6.0), ("6", "6.0")])
def test_one_gold_written_in_two_ways_is_one_problem(tmp_path, golds):
    read_rows, _ = read(tmp_path, *(GOOD | {"gold": g} for g in golds))
    assert len({p.problem_id for p, _ in read_rows}) == 1 and read_rows[0][0].gold == str(golds[0])


def test_two_golds_of_a_question_are_refused_with_both_lines(tmp_path):
    with pytest.raises(UserError, match=r"mine\.jsonl:3: .* has the gold '7' here and '6' in line 1"):
        read(tmp_path, GOOD, GOOD, GOOD | {"gold": "7"})
    with pytest.raises(UserError, match=r"mine\.jsonl:2: .* answer type text here and math in line 1"):
        read(tmp_path, GOOD, GOOD | {"answer_type": "text"})


def test_math_golds_that_cannot_be_read_are_told(tmp_path):
    golds = ["6", "\\frac{1}{2}", "(1, 2]", "x = 5", "1,000", "\\frac{1}{2", "see the solution", "???"]
    read_rows, doubts = read(tmp_path, *(GOOD | {"question": f"{i}?", "gold": g} for i, g in enumerate(golds)))
    assert len(read_rows) == 8
    assert doubts == {"a gold answer that is no readable mathematics (only the same spelling is right)": 3}


@pytest.mark.parametrize(
    ("gold", "letter"),
    [("B", "B"), ("(b)", "B"), ("B.", "B"), ("A gas", "B"), ("a GAS.", "B"), ("B) A gas", "B"), ("b. a gas", "B"),
    ("A solid", "A"),
     ("Dr. A. Smith", "C"), ("\\boxed{D}", "D")],
)  # fmt: skip
def test_a_choice_gold_is_a_letter_or_the_text_of_one_option(tmp_path, gold, letter):
    ((problem, trace),), _ = read(tmp_path, CHOICE | {"gold": gold})
    assert problem.gold == letter and trace.correct is (letter == "B")


@pytest.mark.parametrize("gold", ["Paris", "E", "2", "B) a solid", "A liquid"])
def test_a_choice_gold_that_is_no_option_is_refused(tmp_path, gold):
    with pytest.raises(UserError, match=r"mine\.jsonl:1: the gold answer .* \(options listed: A, B, C, D\)"):
        read(tmp_path, CHOICE | {"gold": gold})
    with pytest.raises(UserError, match="none that can be read"):
        read(tmp_path, CHOICE | {"gold": "A gas", "question": "Which of the four?"})


def test_a_row_that_was_written_twice_counts_once(tmp_path):
    rows = [GOOD | {"sample_id": i} for i in (1, 2, 1.0, "1")]
    read_rows, doubts = read(tmp_path, *rows)
    assert [t.sampling["sample_id"] for _, t in read_rows] == ["1", "2"]
    assert doubts == {"a row that repeats an earlier one, left out": 2}
    with pytest.raises(UserError, match=r"mine\.jsonl:2: sample '1' of this question stands in line 1 too"):
        read(tmp_path, GOOD | {"sample_id": 1}, GOOD | {"sample_id": 1, "text": "another"})
    read_rows, doubts = read(tmp_path, *[GOOD | {"text": "word " * 50 + r"\boxed{6}"}] * 2)  # no id: told, not left out
    assert len(read_rows) == 2 and list(doubts.values()) == [1]
    assert read(tmp_path, GOOD, GOOD)[1] == {}


def test_the_files_own_reading_counts_and_disagreements_are_told(tmp_path):
    texts = [r"\boxed{6}", r"\boxed{6}", r"\boxed{6}", "I give up", "I give up", r"\boxed{6}", ""]
    stated = [6, 6.0, "7", "6", None, math.nan, "6"]
    rows = [GOOD | {"text": t, "reading": s} for t, s in zip(texts, stated, strict=True)]
    read_rows, doubts = read(tmp_path, *rows, answer="reading")
    assert [t.answer for _, t in read_rows] == ["6", "6.0", "7", "6", None, None, None]
    assert [t.correct for _, t in read_rows] == [True, True, False, True, None, None, None]
    assert doubts == {
        "an answer in field 'reading' that disagrees with the text's; the field's counts": 1,
        "an answer in field 'reading' that the text does not state; the field's counts": 1,
        "no answer in field 'reading' although the text states one; unknown": 1,
        "an empty trace, its answer unknown": 1,
    }
    with pytest.raises(UserError, match="no row has the field 'other'"):
        read(tmp_path, *rows, answer="other")


def test_readings_may_be_booleans_and_options(tmp_path):
    row = GOOD | {"answer_type": "text", "gold": "true"}
    read_rows, _ = read(tmp_path, row | {"a": True}, row | {"a": False}, answer="a")
    assert [(t.answer, t.correct) for _, t in read_rows] == [("true", True), ("false", False)]
    read_rows, doubts = read(
        tmp_path, CHOICE | {"gold": "B", "a": "a gas"}, CHOICE | {"gold": "B", "a": "none"}, answer="a"
    )
    assert [(t.answer, t.correct) for _, t in read_rows] == [("B", True), ("none", False)]
    assert doubts["an answer in field 'a' that is none of the question's options"] == 1


def test_a_pattern_finds_the_answer(tmp_path):
    """Its last match, and group 1 of it where it has one."""
    row = GOOD | {"text": "value=5; value=6; the answer is 7"}
    assert [t.answer for _, t in read(tmp_path, row, pattern=r"value=(\d)")[0]] == ["6"]
    assert [t.answer for _, t in read(tmp_path, row, pattern=r"\d")[0]] == ["7"]
    assert [t.answer for _, t in read(tmp_path, row, pattern=r"=\d\d")[0]] == [None]


def test_rows_without_text_are_imported_by_their_answers_and_shown_to_no_judge(tmp_path):
    row = {k: v for k, v in GOOD.items() if k != "text"} | {"answer": "6.0", "n_tokens": 900}
    with pytest.raises(
        UserError, match=r"mine\.jsonl:1: no text in field 'text' .*imported with --answer-field answer"
    ):
        read(tmp_path, row)
    read_rows, doubts = read(tmp_path, row, row | {"answer": "7"}, row | {"answer": None}, answer="answer")
    assert [(t.text, t.answer, t.correct, t.n_tokens) for _, t in read_rows] == [
        ("", "6.0", True, 900),
        ("", "7", False, 900),
        ("", None, None, 900),
    ]
    assert list(doubts.values()) == [3]
    with pytest.raises(UserError, match=r"mine\.jsonl:1: no token count in field 'n_tokens'; name it with"):
        read(tmp_path, {k: v for k, v in row.items() if k != "n_tokens"}, answer="answer")

    problem, rows = read_rows[0][0], [t for _, t in read_rows]
    path = tmp_path / "traces.jsonl"
    records.write(path, rows)
    assert list(records.read(records.Trace, path)) == rows
    with pytest.raises(UserError, match=rf"traces\.jsonl: trace {rows[0].trace_id} was imported without its text"):
        prefixes.stream([path], Truncation("words", 2), None)
    with pytest.raises(UserError, match="imported without its text"):
        pairs.build(rows, problem, Truncation("words", 2), None, seed=0)
    broken = dataclasses.replace(rows[0], sampling={})  # an answer without text and without this reason is a mistake
    assert "text is empty" in broken.check() and rows[0].check() is None


def test_numbers_of_thousands_of_digits(tmp_path):
    with pytest.raises(UserError, match=r"mine\.jsonl:1: an integer of more digits"):
        path = write(tmp_path)
        path.write_text(json.dumps(GOOD).replace('"6"', "7" * 5000))
        imported(path)
    ((problem, trace),), doubts = read(tmp_path, GOOD | {"gold": "7" * 5000})
    assert problem.gold == "7" * 5000 and trace.correct is not True and not doubts


def script(tmp_path, rows, *more, output="t.jsonl"):
    return run_stage(
        "scripts/01_import_traces.py",
        "--input",
        rows,
        "--output-problems",
        tmp_path / "p.jsonl",
        "--output-traces",
        tmp_path / output,
        *more,
    )


def test_the_script_says_what_it_read(tmp_path):
    rows = write(tmp_path, *[GOOD | {"a": a} for a in ("6", "7", "8", "9", "10")], GOOD | {"text": "", "a": None})
    done = script(tmp_path, rows, "--answer-field", "a")
    assert done.returncode == 0, done.stderr
    assert "6 rows read: 1 problems, 6 traces, 1 of them without an answer" in done.stdout
    assert (
        "4 x an answer in field 'a' that disagrees with the text's; the field's counts: line 2: '7' in the field, "
        "'6' in the text; line 3" in done.stdout
    )
    assert "; ..." in done.stdout and "'10'" not in done.stdout  # the first three
    manifest = json.loads((tmp_path / "t.manifest.json").read_text(), parse_constant=pytest.fail)
    assert manifest["settings"]["answer_field"] == "a" and manifest["rows_read"] == 6 and manifest["rows"] == 6
    assert sorted(manifest["doubts"].values()) == [1, 4]


def test_the_script_refuses_what_would_lose_data(tmp_path):
    rows = write(tmp_path, GOOD)
    before = rows.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(rows)
    for output in ("mine.jsonl", "link.jsonl", "../" + tmp_path.name + "/mine.jsonl", "p.jsonl"):
        done = script(tmp_path, rows, "--overwrite", output=output)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    done = script(tmp_path, rows, "--answer-pattern", "(")
    assert done.returncode == 2 and "--answer-pattern '(' is no regular expression: missing )" in done.stderr
    assert rows.read_bytes() == before and not (tmp_path / "p.jsonl").exists()


def test_a_packed_file_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "mine.jsonl.gz"
    jsonl.write(path, [GOOD])
    import gzip

    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + gzip.decompress(path.read_bytes())))
    ((_, trace),) = imported(path)
    assert trace.answer == "6"
