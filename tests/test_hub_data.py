"""Data sets that `datasets` loads: splits, configurations, saved ones, and the commit of one of the hub."""

import json

import numpy
import pyarrow as pa
import pyarrow.parquet
import pytest
from small_runs import run
from test_sources import ROWS, content, imported

from deepprune.base.errors import UserError
from deepprune.data import hub_data


def test_a_data_set_of_local_files(tmp_path):
    (tmp_path / "data").mkdir()
    for split, rows in (("train", ROWS[:1]), ("test", ROWS[1:])):
        (tmp_path / "data" / f"{split}.jsonl").write_bytes(content(".jsonl", rows))
    assert [t.answer for t in imported(f"hf:{tmp_path / 'data'}:test")[0]] == ["7"]
    with pytest.raises(UserError, match="has the splits train, test; name one: hf:NAME:SPLIT"):
        imported(f"hf:{tmp_path / 'data'}")
    with pytest.raises(UserError, match="no such split; there are train, test"):
        imported(f"hf:{tmp_path / 'data'}:other")
    with pytest.raises(UserError, match="given as hf:NAME"):
        imported("hf:a:b:c:d")


def test_a_saved_data_set(tmp_path):
    import datasets

    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"dev": saved}).save_to_disk(tmp_path / "several")
    for source in (f"hf:{tmp_path / 'one'}", f"hf:{tmp_path / 'several'}:dev"):
        assert [t.answer for t in imported(source)[0]] == ["6", "7"]
    with pytest.raises(UserError, match="a data set that `datasets` saved is given as hf:"):
        imported(tmp_path / "one")


def test_a_data_set_that_cannot_be_loaded_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be loaded") as error:
        imported(f"hf:{tmp_path / 'empty'}")
    assert "\n" not in str(error.value)
    assert hub_data.folder(f"hf:{tmp_path}") == tmp_path and hub_data.folder("hf:no/such") is None


def test_a_data_set_with_configurations(tmp_path):
    splits = {"easy": ["train"], "hard": ["train", "test"]}
    lines = ["---", "configs:"]
    for number, (config, names) in enumerate(splits.items()):
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in names:
            lines += [f"  - split: {split}", f"    path: {config}/{split}.parquet"]
            (tmp_path / config).mkdir(exist_ok=True)
            row = ROWS[0] | {"text": f"\\boxed{{{number}{names.index(split)}}}"}
            (tmp_path / config / f"{split}.parquet").write_bytes(content(".parquet", [row]))
    (tmp_path / "README.md").write_text("\n".join([*lines, "---", ""]))
    for source, answer in (("easy:train", "00"), ("hard:train", "10"), ("hard:test", "11")):
        assert [t.answer for t in imported(f"hf:{tmp_path}:{source}")[0]] == [answer]
    for source in ("", ":easy"):
        with pytest.raises(UserError, match=r"has the configurations easy, hard; name one: hf:NAME:CONFIG:SPLIT"):
            imported(f"hf:{tmp_path}{source}")
    with pytest.raises(UserError, match="has the splits train, test|no such split; there are train, test"):
        imported(f"hf:{tmp_path}:hard:dev")


def test_a_float_of_32_bits_is_as_it_was_written(tmp_path):
    row = {"question": "a?", "gold": numpy.float32(0.1), "text": "\\boxed{0.1}", "n_tokens": 3}
    pyarrow.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    for source in (f"hf:{tmp_path}", tmp_path / "a.parquet"):
        assert [t.correct for t in imported(source)[0]] == [True]


def test_a_data_set_of_the_hub_is_pinned_and_its_commit_recorded(tmp_path, monkeypatch):
    import datasets
    import huggingface_hub

    info = type("Info", (), {"sha": "abc123"})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name: info if name == "org/data" else None)
    asked = []

    def load(name, config, streaming, revision):
        asked.append((name, config, streaming, revision))
        return {"train": iter(ROWS)}

    monkeypatch.setattr(datasets, "load_dataset", load)
    outputs = ("--output-problems", tmp_path / "p.jsonl", "--output-traces", tmp_path / "t.jsonl")
    run(monkeypatch, "scripts/01_import_traces.py", "--input", "hf:org/data:train", *outputs)
    assert asked == [("org/data", None, True, "abc123")]
    for name in ("p", "t"):
        manifest = json.loads((tmp_path / f"{name}.manifest.json").read_text())
        assert manifest["dataset_revision"] == "abc123" and manifest["inputs"] == []
