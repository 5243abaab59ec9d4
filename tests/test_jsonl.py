import gzip
import json
import math

import numpy as np
import pytest

from deepprune.base import jsonl
from deepprune.base.errors import UserError


def test_names_the_line_of_broken_json(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": }\n{"a": 3}\n')
    with pytest.raises(UserError, match=r"a\.jsonl:2: not valid JSON"):
        list(jsonl.read(path))


def test_truncated_last_line_is_an_input_error_and_says_so(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": 2')
    with pytest.raises(UserError, match=r"a\.jsonl:2: .*cut off"):
        list(jsonl.read(path))


@pytest.mark.parametrize("content", [b'{"a": 1}\n[1, 2]\n', b'{"a": 1}\n\xff\xfe\n'])
def test_other_broken_lines_are_named(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jsonl:\d"):
        list(jsonl.read(path))


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"p": NaN}', "NaN is not a number"), ('{"p": {"q": [-Infinity]}}', "-Infinity is not a number"),
     ('{"p": 1e999}', "1e999 is not a number"), ('{"p": 1, "q": 2, "p": 3}', "key 'p' stands twice"),
     ('{"p": {"q": 1, "q": 1}}', "key 'q' stands twice"), ('{"p": "cut \\\\ud83d"}', "half a surrogate pair"),
     ('{"p": ' + "7" * 5000 + "}", "more digits than can be read"),
      ('{"p": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deep")],
)  # fmt: skip
def test_what_json_does_not_hold_is_one_line_that_names_the_line(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' + line.replace("\\\\", "\\") + "\n")
    with pytest.raises(UserError, match=rf"a\.jsonl:2: .*{message}") as refused:
        list(jsonl.read(path))
    assert len(str(refused.value)) < 400


def test_files_of_others_are_read_with_their_nan_and_halves(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"p": NaN, "q": 1e999, "r": "cut \\ud83d", "s": "whole \\ud83d\\ude00"}\n')
    ((_, row),) = jsonl.read(path, strict=False)
    assert math.isnan(row["p"]) and row["q"] == math.inf
    assert (jsonl.whole(row["r"]), jsonl.whole(row["s"])) == (
        "cut \N{REPLACEMENT CHARACTER}",
        "whole \N{GRINNING FACE}",
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_byte_order_mark_is_passed_over(tmp_path, name):
    path = tmp_path / name
    data = '{"a": 1}\n{"a": "\ufeff2"}\n'.encode("utf-8-sig") + '{"a": 3}\n'.encode(
        "utf-8-sig"
    )  # two files put together
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert [row["a"] for _, row in jsonl.read(path)] == [1, "\ufeff2", 3]


def test_nan_is_written_as_null_and_infinity_not_at_all(tmp_path):
    """A number that does not exist is null in every JSON file: reports, manifests, rows."""
    data = {"auroc": {"value": math.nan, "low": [np.float64("nan"), 0.5]}, "n": 2, "text": "NaN"}
    wanted = {"auroc": {"value": None, "low": [None, 0.5]}, "n": 2, "text": "NaN"}
    jsonl.write_json(tmp_path / "a.json", data)
    jsonl.write(tmp_path / "b.jsonl", [data])
    with jsonl.Appender(tmp_path / "c.jsonl") as out:
        out.append(data)
    for path in tmp_path.iterdir():
        assert json.loads(path.read_text(), parse_constant=pytest.fail) == wanted
    with pytest.raises(UserError, match="infinite number"):
        jsonl.dumps({"x": [math.inf]})


def test_half_a_surrogate_pair_is_written_as_the_replacement_character(tmp_path):
    with jsonl.Appender(tmp_path / "a.jsonl") as out:
        out.append({"text": "cut \ud83d, whole \N{GRINNING FACE}"})
    jsonl.write_text(tmp_path / "a.md", "cut \ud83d")
    assert [r["text"] for _, r in jsonl.read(tmp_path / "a.jsonl")] == ["cut \ufffd, whole \N{GRINNING FACE}"]
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == "cut \ufffd"


def test_missing_file_and_cut_gzip(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        list(jsonl.read(tmp_path / "none.jsonl"))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        list(jsonl.read(path))


def test_packed_files_are_the_same_bytes_every_time(tmp_path):
    rows = [{"text": "é{}\n", "n": i} for i in range(50)]
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        assert jsonl.write(tmp_path / name, rows) == 50
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert [row for _, row in jsonl.read(tmp_path / "a.jsonl.gz")] == rows


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.jsonl"
    jsonl.write(path, [{"old": True}])

    def rows():
        yield {"new": 1}
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        jsonl.write(path, rows())
    assert path.read_text() == '{"old":true}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_appending_after_a_kill_drops_only_the_half_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n{"n": 2}\n{"n": ')
    with jsonl.Appender(path) as out:
        assert out.repaired
        out.append({"n": 3})
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2, 3]
    with jsonl.Appender(path) as out:
        assert not out.repaired


def test_a_full_disk_keeps_earlier_rows_and_names_the_file(tmp_path):
    """The file size limit stands in for a full disk: the write fails half-way through a row."""
    import resource
    import signal

    path = tmp_path / "a.jsonl"
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with jsonl.Appender(path) as out:
        out.append({"n": 1})
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
            with pytest.raises(UserError, match=r"a\.jsonl: .*rows written before are kept"):
                out.append({"n": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == '{"n":1}\n'
