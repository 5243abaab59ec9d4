"""A full or unwritable disk is one line that names file and disk; nothing is lost, and the same command goes on.

No disk is filled: /dev/full gives ENOSPC, a limit of file size EFBIG, SQLite's own limit of pages "database or disk is
full".
"""

import contextlib
import errno
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys

import pytest
from conftest import load_script, run_stage

from deepprune.base import jsonl, locks, records, storage
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.storage import storage_trouble, writing
from deepprune.engines import models
from deepprune.judges import Score, weights
from deepprune.judges.score_store import ScoreStore


@contextlib.contextmanager
def largest_file(size):
    """No file of this process grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def caused_by(cause):
    error = RuntimeError("saving failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "out.jsonl: no space left: .* free; make room"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "/x/y: no space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "out.jsonl: the disk quota is used up"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "/x: a read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: permission denied; choose another place"),
        (OSError(errno.EMFILE, "Too many open files", "/x"), "/x: too many open files; raise the limit .ulimit -n."),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x"), "/x: the name is too long"),
        # As safetensors, torch and SQLite say it.
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), "no space left"),
        (RuntimeError("[enforce fail at a.cc:668] . unexpected pos 64 vs 0: file write failed"), "no space left"),
        (sqlite3.OperationalError("database or disk is full"), "out.jsonl: no space left"),
        (caused_by(OSError(errno.ENOSPC, "No space left on device")), "out.jsonl: no space left"),
        (caused_by(PermissionError(errno.EACCES, "Permission denied", "/x")), None),  # handled, and not what went wrong
        (ValueError("a full disk of text"), None),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), None),
    ],
)  # fmt: skip
def test_what_a_disk_did_in_words(tmp_path, error, words):
    said = storage_trouble(error, tmp_path / "out.jsonl")
    if words is None:
        assert said is None
    else:
        assert re.search(words, said), said


def test_of_several_disks_the_full_one_is_named(tmp_path, monkeypatch):
    full = os.statvfs_result((4096, 4096, 500, 0, 0, 100, 50, 50, 0, 255))
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda place: full if str(place).startswith(str(tmp_path)) else real(place))
    said = storage_trouble(OSError(errno.ENOSPC, ""), "/etc/hosts", tmp_path / "a" / "b.jsonl")
    assert said.startswith(f"{tmp_path}/a/b.jsonl: no space left: ") and "0.0 of 2.0 MB free" in said
    no_inodes = os.statvfs_result((4096, 4096, 500, 400, 400, 100, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda place: no_inodes)
    assert "no room for another file (its 100 inodes are used)" in storage.disk_of(tmp_path)


STAGE = """
import sys
from deepprune.base.stage import command
@command
def main():
    CODE
main()
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("open('/dev/full', 'w').write('x' * 100000)", "no space left"),
        ("open('no/such/file')", "No such file or directory (no/such/file)"),
        ("raise RuntimeError('file write failed')", "no space left"),
        ("print('x' * 100)", "no space left"),  # the log's disk is full: seen when Python flushes it
    ],
)
def test_a_stage_on_a_full_disk_ends_with_one_line(code, words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", STAGE.replace("CODE", code)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=600,
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr
    assert "run the same command again" in done.stderr
    with open("/dev/full", "w") as full:  # where its message cannot be written either, the exit code says it
        done = subprocess.run(
            [sys.executable, "-c", STAGE.replace("CODE", code)], stdout=full, stderr=full, timeout=600
        )
    assert done.returncode == 2


def test_half_a_file_never_takes_the_place_of_a_whole_one(tmp_path):
    jsonl.write(tmp_path / "a.jsonl", [{"n": 1}])
    with (
        largest_file(2000),
        pytest.raises(UserError, match=r"a\.jsonl: larger than a file may be .* what was there is untouched"),
    ):
        jsonl.write(tmp_path / "a.jsonl", ({"n": n} for n in range(1000)))
    with pytest.raises(ZeroDivisionError), jsonl.atomic(tmp_path / "a.jsonl"):
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]
    assert (tmp_path / "a.jsonl").read_text() == '{"n":1}\n'


def test_rows_go_on_after_room_is_made(tmp_path):
    """The row, then the manifest, cannot be written: the first says so. The next run counts what the first wrote."""

    def run(rows):
        manifest = Manifest.open(tmp_path / "out.jsonl", "stage", {}, [])
        try:
            with manifest.appender() as out:
                for row in rows:
                    out.append(row)
            manifest.finish(len(rows))
        finally:
            counted.append(manifest.run["rows"])
            locks.release(tmp_path / "out.jsonl")

    counted = []
    with (
        largest_file(2000),
        pytest.raises(UserError, match=r"out\.jsonl: larger than .*; rows written before are kept"),
    ):
        run([{"n": "x" * 100} for _ in range(100)])
    written = len((tmp_path / "out.jsonl").read_text().splitlines())
    assert 10 < written < 20 and counted == [written]
    run([{"n": 1}])
    data = json.loads((tmp_path / "out.manifest.json").read_text())
    assert data["complete"] and [r["rows"] for r in data["runs"]] == [written, 1]


def test_a_file_and_its_manifest_are_written_both_or_not(tmp_path):
    manifest = Manifest.open(tmp_path / "out.jsonl", "stage", {}, [])
    with largest_file(600), pytest.raises(UserError, match=r"out\.manifest\.json: larger than a file may be"):
        manifest.write([{"n": 1}], note="x" * 600)
    assert not [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")]
    assert manifest.write(({"n": n} for n in range(2)), lambda: {"late": 3}) == 2
    assert json.loads((tmp_path / "out.manifest.json").read_text())["late"] == 3


def test_an_import_goes_on_after_room_is_made(tmp_path, monkeypatch, capsys):
    """A stage on a full disk leaves no half of its two outputs."""
    rows = [
        {"question": "What is 1 + 1?", "gold": "2", "text": "So \\boxed{2}" + " " * 300, "n_tokens": 5, "i": i}
        for i in range(30)
    ]
    jsonl.write(tmp_path / "mine.jsonl", rows)
    args = [
        "scripts/01_import_traces.py",
        "--input",
        tmp_path / "mine.jsonl",
        "--output-problems",
        tmp_path / "p.jsonl",
        "--output-traces",
        tmp_path / "t.jsonl",
    ]

    importing = load_script(args[0])
    monkeypatch.setattr(sys, "argv", [str(arg) for arg in args])
    with largest_file(9000), pytest.raises(SystemExit) as stop:
        importing.main()
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "t.jsonl: larger than a file may be" in said.splitlines()[-1], said
    locks._release_all()  # that process would have ended
    assert not (tmp_path / "p.jsonl").exists() and not (tmp_path / "t.jsonl").exists()
    assert run_stage(*args).returncode == 0
    assert len(list(records.read(records.Trace, tmp_path / "t.jsonl"))) == 30
    assert "exists; delete it" in run_stage(*args).stderr


def test_a_score_store_keeps_what_it_has(tmp_path):
    path = tmp_path / "s.sqlite"
    with ScoreStore(path, {"judge": "j@1"}) as store:
        store.add([("a", "b", Score(0.5))])
        store.db.execute(f"PRAGMA max_page_count = {store.db.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(
            UserError, match=r"s\.sqlite: no space left: .*; scores written before are kept, run the same"
        ):
            store.add([(f"{i}" * 50, f"{i}" * 50, Score(0.5)) for i in range(1000)])
    with ScoreStore(path, {"judge": "j@1"}) as store:
        assert len(store) == 1
    with largest_file(100), pytest.raises(UserError, match="see to the disk and run the same command again") as refused:
        ScoreStore(tmp_path / "new.sqlite", {"judge": "j@1"})  # it must not be told to delete a store that is well
    assert "delete" not in str(refused.value)
    with ScoreStore(tmp_path / "new.sqlite", {"judge": "j@1"}) as store:
        assert len(store) == 0


@pytest.fixture
def adapter(tmp_path, tiny, monkeypatch):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("DEEPPRUNE_CACHE", str(tmp_path / "cache"))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_half_merged_adapter_is_none(tmp_path, adapter):
    with (
        largest_file(1_000_000),
        pytest.raises(UserError, match=r"cache/merged/\w+: larger than .*; nothing half-made is left"),
    ):
        weights.prepare(str(adapter))
    assert not list((tmp_path / "cache/merged").iterdir())
    _, folder = weights.prepare(str(adapter))
    assert models.parameters(folder) > 0


def test_hashes_that_cannot_be_kept_cost_time_only(tmp_path, adapter):
    with largest_file(10):
        assert len(models.weights_hash(adapter)) == 64
    assert not (tmp_path / "cache/hashes.json").exists()


def test_a_training_that_did_not_end_is_no_judge(adapter):
    """Weights and all may be there: its last checkpoint's, or an earlier run's."""
    manifest = {"stage": "train", "complete": False}
    (adapter / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="adapter: its training is not complete; run the command that trains it again"):
        weights.identify(str(adapter))
    (adapter / "manifest.json").write_text(json.dumps(manifest | {"complete": True}))
    assert weights.identify(str(adapter)).name.startswith("adapter@")


def test_training_on_a_full_disk_is_one_line(tmp_path, capsys):
    from deepprune.judges.training.watch import Watch, refusals

    watch = Watch(None)
    watch.on_step_begin(None, None, None)
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("unexpected pos 64 vs 0: file write failed"),
    ):
        with pytest.raises(
            UserError,
            match="judge( or .*)?: no space left.*; the last whole checkpoint is kept, the same command goes on",
        ):
            with refusals(tmp_path / "r.yaml", watch, tmp_path / "judge"):
                raise error


def test_a_download_that_was_cut_off_is_gone_on_with(tmp_path, monkeypatch):
    """The hub's cache gives a folder for it, of which only the config and half of the shards are there."""
    import huggingface_hub

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')

    def download(name, allow_patterns, local_files_only=False, tqdm_class=None):
        if not local_files_only:
            fails and fails.pop()()
            (tmp_path / "model-1.safetensors").write_text("")
        return str(tmp_path)

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(models, "hub_answers", lambda: False)
    assert models._from_hub("org/name")[0] == str(
        tmp_path
    )  # without a hub: what is there (a tokenizer may be all that is wanted)
    monkeypatch.setattr(models, "hub_answers", lambda: True)
    fails = [full]
    with pytest.raises(UserError, match="model org/name: .*no space left.*goes on with the download"):
        models._from_hub("org/name")
    assert models._from_hub("org/name") == (str(tmp_path), "")
    assert (tmp_path / "model-1.safetensors").exists()


def test_writing_leaves_other_errors_alone():
    with pytest.raises(ZeroDivisionError), writing("x"):
        raise ZeroDivisionError
    with pytest.raises(UserError, match="^as it was$"), writing("x"):
        raise UserError("as it was")
