"""Rows of every kind of file that people have: read alike, streamed, and what is broken is named."""

import csv
import decimal
import gzip
import io
import itertools
import json
import math

import pyarrow as pa
import pyarrow.parquet
import pytest
from small_runs import run

from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.data import imports, sources
from deepprune.data.import_rows import Fields

ROWS = [
    {"question": "2*3?", "gold": "6", "text": 'so "\\boxed{6}",\nyes', "n_tokens": 5, "sample_id": "a"},
    {"question": "2*3?", "gold": "6", "text": "7 — ответ: \\boxed{7}", "n_tokens": 8, "sample_id": "b"},
]
DEFAULTS = {"model": "m", "dataset": "d", "answer_type": "math"}


def packed(data: bytes, ending: str) -> bytes:
    if ending == ".gz":
        return gzip.compress(data, mtime=0)
    return pa.Codec("zstd").compress(data, asbytes=True) if ending == ".zst" else data


def content(kind: str, rows) -> bytes:
    """A file of that kind with the rows."""
    if kind == ".parquet":
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue().to_pybytes()
    if kind in (".csv", ".tsv"):
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), delimiter="\t" if kind == ".tsv" else ",")
        table.writeheader()
        table.writerows(rows)
        return text.getvalue().encode()
    if kind == ".json":
        return json.dumps(rows, indent=1).encode()
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def imported(source, names=None, traces_field=None, defaults=DEFAULTS):
    importer = imports.Importer(Fields(names or {}, defaults))
    rows = sources.rows(str(source))
    if traces_field:
        rows = imports.unnested(rows, traces_field, importer.fields, importer.counts)
    return [trace for _, trace in importer.read(rows)], importer


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"])
def test_every_kind_of_file_gives_the_same_traces(tmp_path, kind, packing):
    path = tmp_path / f"mine{kind}{packing}"
    path.write_bytes(packed(content(kind, ROWS), packing))
    traces, _ = imported(path)
    assert [(t.text, t.answer, t.n_tokens, t.sampling["sample_id"]) for t in traces] == [
        (ROWS[0]["text"], "6", 5, "a"),
        (ROWS[1]["text"], "7", 8, "b"),
    ]
    assert {t.sampling["imported_from"] for t in traces} == {path.name}


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + json.dumps(ROWS),
        json.dumps(ROWS[0], indent=2) + "\n" + json.dumps(ROWS[1], indent=2),
        json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1]),
        "[" + json.dumps(ROWS[0])[:-1] + ', "unused": NaN},' + json.dumps(ROWS[1]) + "]",
        "[" + json.dumps(ROWS[0]) + "]\n[" + json.dumps(ROWS[1]) + "]\n",  # a batch a line
        "[[" + json.dumps(ROWS[0]) + "], [], [" + json.dumps(ROWS[1]) + "]]",
    ],
)
def test_json_documents_of_all_forms(tmp_path, text, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 7)  # values and signs go over the pieces that are read at once
    (tmp_path / "mine.json").write_text(text)
    assert [t.answer for t in imported(tmp_path / "mine.json")[0]] == ["6", "7"]


def test_a_document_is_streamed(tmp_path):
    """A thousand rows are read before the file's end, which is broken, is met."""
    (tmp_path / "mine.json").write_text("[" + ",\n".join([json.dumps(ROWS[0])] * 30_000) + ",\n{]")
    rows = sources.rows(str(tmp_path / "mine.json"))
    for number in range(1, 30_001):
        assert next(rows).number == number
    with pytest.raises(UserError, match=r"mine\.json, row 30001 \(line 30001\): not valid JSON"):
        next(rows)


def test_cells_of_a_table_are_taken_as_they_are(tmp_path):
    """No cell becomes a number, a date or NaN by its looks."""
    row = {"question": "NA?", "gold": "0.50", "text": "\\boxed{.5}", "n_tokens": "5.0", "sample_id": "007"}
    (tmp_path / "mine.csv").write_bytes(content(".csv", [row]))
    traces, importer = imported(tmp_path / "mine.csv")
    (problem,) = importer.problems.exactly.values()
    assert (problem.question, problem.gold, traces[0].n_tokens) == ("NA?", "0.50", 5)
    assert traces[0].sampling["sample_id"] == "007" and traces[0].correct is True


def test_a_spreadsheets_semicolons_and_its_byte_order_mark(tmp_path):
    (tmp_path / "mine.csv").write_text("\ufeffquestion;gold;text;n_tokens\r\n2*3?;6;so 6, \\boxed{6};5\r\n")
    assert [t.answer for t in imported(tmp_path / "mine.csv")[0]] == ["6"]


def test_blanks_around_the_names_of_columns_are_no_part_of_them(tmp_path):
    (tmp_path / "mine.csv").write_text("question, gold , text, n_tokens\n2*3?,6,\\boxed{6},5\n")
    assert [(t.answer, t.correct) for t in imported(tmp_path / "mine.csv")[0]] == [("6", True)]


def test_numbers_of_a_parquet_file_are_as_they_were_written(tmp_path):
    """A float of 32 bits is 0.1 and not 0.10000000149; a decimal keeps its digits; a map is an object."""
    columns = {
        "question": ["a?", "b?"],
        "gold": pa.array([0.1, None], pa.float32()),
        "text": ["\\boxed{0.1}", "\\boxed{2.50}"],
        "n_tokens": [decimal.Decimal("5"), decimal.Decimal("6")],
        "price": [None, decimal.Decimal("2.50")],
        "meta": pa.array([[("length", 7)], [("length", 8)]], pa.map_(pa.string(), pa.int32())),
    }
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "mine.parquet")
    first, second = (row.data for row in sources.rows(str(tmp_path / "mine.parquet")))
    assert (first["gold"], second["gold"], str(second["price"])) == (0.1, None, "2.50")
    names = {"gold": "text", "n_tokens": "n_tokens"}
    assert [t.n_tokens for t in imported(tmp_path / "mine.parquet", names)[0]] == [5, 6]
    assert [t.n_tokens for t in imported(tmp_path / "mine.parquet", names | {"n_tokens": "meta.length"})[0]] == [7, 8]


def test_a_number_of_the_problem_that_stands_for_each_of_its_traces_is_said(tmp_path):
    row = {"question": "2*3?", "gold": "6", "n_tokens": 900, "traces": ["\\boxed{6}", "\\boxed{7}"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    traces, importer = imported(tmp_path / "mine.jsonl", None, "traces")
    assert [t.n_tokens for t in traces] == [900, 900]
    ((what, (count, _)),) = importer.counts.doubts.items()
    assert "a problem's own n_tokens in field 'n_tokens', taken for that of each" in what and count == 1
    row = row | {"traces": [{"text": "a", "n_tokens": 3}, {"text": "b", "n_tokens": 4}]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    traces, importer = imported(tmp_path / "mine.jsonl", None, "traces")
    assert [t.n_tokens for t in traces] == [3, 4] and not importer.counts.doubts


def test_missing_values_of_a_parquet_file(tmp_path):
    table = pa.table({k: [row[k] for row in ROWS] for k in ROWS[0]} | {"model": [None, "x"], "family": [math.nan, 1.0]})
    pyarrow.parquet.write_table(table, tmp_path / "mine.parquet")
    traces, _ = imported(tmp_path / "mine.parquet")
    assert [t.model for t in traces] == ["m", "x"]
    pyarrow.parquet.write_table(pa.table({"question": [b"2*3?"], "gold": ["6"]}), tmp_path / "bytes.parquet")
    with pytest.raises(UserError, match=r"bytes\.parquet, row 1: field 'question' .* found a column of bytes"):
        imported(tmp_path / "bytes.parquet")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"question,gold\n1,2\n1,2,3\n", r"a\.csv, row 2: 3 cells, and the header has 2"),
        ("a.csv", b'question,gold\n1,2\n"1,2\n', r"a\.csv, row 2: cannot be read"),
        ("a.csv", b"question,gold\n1,\xff\n", r"a\.csv, row 1: cannot be read"),
        ("a.csv", b"gold,gold\n1,2\n", r"a\.csv: two columns of the header have one name"),
        ("a.jsonl", b'{"question": "x"}\n{"question"\n', r"a\.jsonl:2: not valid JSON"),
        ("a.jsonl.zst", pa.Codec("zstd").compress(b"x" * 99, asbytes=True)[:-3], r"a\.jsonl\.zst:1: cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"question": "x"}\n' * 9, mtime=0)[:-9], r"a\.jsonl\.gz:\d+: cannot be read"),
        ("a.json", b'[{"question": "x"}, {"question" 2}]', r"a\.json, row 2 \(line 1\): not valid JSON"),
        ("a.json", b'[{"question": "x"}, 3]', r"a\.json, row 2: expected a JSON object, found int"),
        ("a.json", b'[{"question": "x"}, {"question":', r"a\.json, row 2 \(line 1\): not valid JSON"),
        ("a.json", b'[{"a": 1, "a": 2}]', r"a\.json, row 1: the key 'a' stands twice"),
        ("a.json", b'[{"question": "x"},\n', r"a\.json, row 2: the array is cut off"),
        ("a.jsonl", b"[", r"a\.jsonl, row 1: the array is cut off"),
        ("a.json", b'[{"question": "x"}]]', r"a\.json, row 2: the array is closed, and was never opened"),
        ("a.json", b'[{"question": "x"}] and more', r"a\.json, row 2 \(line 1\): not valid JSON"),
        ("a.csv", "question,gold\n1,é\n".encode("utf-16"), r"a\.csv, row 1: cannot be read .*; save the file as UTF-8"),
        ("a.jsonl", '{"question": "é"}'.encode("latin-1"), r"a\.jsonl:1: cannot be read .*; save the file as UTF-8"),
        ("a.parquet", b"PAR1 no", r"a\.parquet, row 1: cannot be read"),
        ("a.txt", b"", r"a\.txt: of no kind that can be read \(\.jsonl, "),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        list(sources.rows(str(tmp_path / name)))
    assert "\n" not in str(error.value)


def test_a_folder_of_files_of_several_kinds(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.jsonl").write_bytes(content(".jsonl", ROWS[:1]))
    (tmp_path / "b" / "c.csv.gz").write_bytes(gzip.compress(content(".csv", ROWS[1:]), mtime=0))
    for other in ("README.md", ".hidden.jsonl", "a.manifest.json", "dataset_info.json", "dataset_infos.json"):
        (tmp_path / other).write_text("no rows")
    traces, _ = imported(tmp_path)
    assert [(t.answer, t.sampling["imported_from"]) for t in traces] == [("6", "a.jsonl"), ("7", "c.csv.gz")]
    (tmp_path / "b" / "c.csv.gz").write_bytes(gzip.compress(content(".csv", [ROWS[1] | {"gold": "8"}]), mtime=0))
    with pytest.raises(UserError, match=r"c\.csv\.gz, row 1: .* has the gold '8' here and '6' in line 1 of a\.jsonl"):
        imported(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no file in it that can be read"):
        imported(tmp_path / "empty")


# ---------------------------------------------------------------- nested rows, dotted fields


def test_dots_lead_into_objects_and_lists(tmp_path):
    row = {"meta": {"q": "2*3?", "answers": ["5", "6"]}, "a.b": "\\boxed{6}", "n": {"t": 4}}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    names = {"question": "meta.q", "gold": "meta.answers.1", "text": "a.b", "n_tokens": "n.t"}
    (trace,), _ = imported(tmp_path / "mine.jsonl", names)
    assert trace.correct is True and trace.n_tokens == 4
    with pytest.raises(
        UserError, match=r"mine\.jsonl:1: no gold in field 'meta\.answers\.2' \(fields here: meta, a\.b"
    ):
        imported(tmp_path / "mine.jsonl", names | {"gold": "meta.answers.2"})


def test_a_problem_with_a_list_of_traces(tmp_path):
    row = {"question": "2*3?", "gold": "6", "id": 9, "samples": [{"out": "\\boxed{6}", "n": 3}, {"out": "", "n": 1}]}
    (tmp_path / "mine.json").write_text(json.dumps([row, {"question": "1?", "gold": "1", "samples": []}]))
    names = {"text": "out", "n_tokens": "n", "sample_id": "id"}
    traces, importer = imported(tmp_path / "mine.json", names, "samples")
    assert [(t.answer, t.n_tokens, t.sampling["sample_id"]) for t in traces] == [("6", 3, "9/1"), (None, 1, "9/2")]
    assert importer.counts.doubts["a problem without traces, left out"][0] == 1
    with pytest.raises(UserError, match=r"no text in field 'out' .*with --traces-field \(lists here: samples\)"):
        imported(tmp_path / "mine.json", names)
    with pytest.raises(UserError, match=r"mine\.json, row 1: no field 'traces' \(fields here: question, gold, id"):
        imported(tmp_path / "mine.json", names, "traces")
    row["samples"][1]["n"] = 0.5
    (tmp_path / "mine.json").write_text(json.dumps([row]))
    with pytest.raises(UserError, match=r"mine\.json, row 1, trace 2: the token count"):
        imported(tmp_path / "mine.json", names, "samples")


def test_lists_side_by_side_are_taken_element_by_element(tmp_path):
    row = {"q": "2*3?", "gold": "6", "texts": ["\\boxed{6}", "five"], "ends": ["stop", "length"], "lengths": [3, 4]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    names = {"question": "q", "n_tokens": "lengths", "finish_reason": "ends"}
    traces, _ = imported(tmp_path / "mine.jsonl", names, "texts")
    assert [(t.text, t.n_tokens, t.finish_reason) for t in traces] == [("\\boxed{6}", 3, "stop"), ("five", 4, "length")]


def test_two_golds_are_not_taken_for_those_of_two_traces(tmp_path):
    row = {"question": "2*3?", "gold": ["6", "six"], "texts": ["6", "six"], "n_tokens": 3}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=r"mine\.jsonl:1, trace 1: field 'gold' \(gold\) should be text or a number"):
        imported(tmp_path / "mine.jsonl", {}, "texts")


def test_a_list_of_answers_without_texts(tmp_path):
    row = {"question": "2*3?", "gold": "6", "answers": ["6", None, 7], "lengths": [3, 4, 5]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    traces, _ = imported(tmp_path / "mine.jsonl", {"answer": "answers", "n_tokens": "lengths"}, "answers")
    assert [(t.answer, t.correct, t.n_tokens, t.answer_only) for t in traces] == [
        ("6", True, 3, True),
        (None, None, 4, True),
        ("7", False, 5, True),
    ]


# ---------------------------------------------------------------- the script


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """Runs the script in this process: (exit status, output, errors)."""

    def call(source, *more, **other):
        outputs = {"--output-problems": tmp_path / "p.jsonl", "--output-traces": tmp_path / "t.jsonl"} | other
        more = [*more, *(() if "--show" in more else itertools.chain(*outputs.items()))]
        try:
            run(monkeypatch, "scripts/01_import_traces.py", "--input", source, *more)
            status = 0
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return call


def test_the_script_shows_rows_and_then_imports_them(tmp_path, script):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine.csv").write_bytes(content(".csv", ROWS))
    status, said, _ = script(tmp_path / "in", "--show", "2")
    assert status == 0 and said.count("is read as") == 2 and "mine.csv, row 2 is read as" in said
    lines = [line.split() for line in said.splitlines()]
    assert ["answer", "from", "the", "text", "7,", "not", "right"] in lines
    assert ["n_tokens", "field", "n_tokens", "5"] in lines and ["model", "by", "--model", "unknown"] in lines
    assert not (tmp_path / "p.jsonl").exists()
    (tmp_path / "doubt.csv").write_bytes(content(".csv", [ROWS[0] | {"gold": "Paris"}]))
    assert "1 x a gold answer that is no readable mathematics" in script(tmp_path / "doubt.csv", "--show", "1")[1]
    status, said, _ = script(tmp_path / "in")
    assert status == 0 and said.count("is read as") == 1 and "2 rows read: 1 problems, 2 traces, 0 of them" in said
    assert len(list(records.read(records.Trace, tmp_path / "t.jsonl"))) == 2
    manifest = json.loads((tmp_path / "t.manifest.json").read_text())
    assert manifest["rows_read"] == manifest["rows"] == 2 and manifest["inputs"][0]["file"] == "in"
    status, _, errors = script(tmp_path / "in", **{"--output-problems": tmp_path / "in" / "p.jsonl"})
    assert status == 2 and "would be written into the input" in errors
    status, _, errors = script(tmp_path / "in", **{"--output-problems": tmp_path / "t.jsonl"})
    assert status == 2 and errors.count("\n") == 1


def test_a_file_that_breaks_in_the_middle_leaves_no_output(tmp_path, script):
    (tmp_path / "mine.jsonl").write_bytes(content(".jsonl", ROWS) + b"{")
    status, _, errors = script(tmp_path / "mine.jsonl")
    assert status == 2 and "mine.jsonl:3: not valid JSON" in errors
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"mine.jsonl"}
