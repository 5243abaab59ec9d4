import gzip
import json

import pytest

from deepprune import jsonl
from deepprune.errors import UserError


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
