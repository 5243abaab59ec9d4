import json
from pathlib import Path

import pytest

from deepprune.base import manifest, provenance
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest


def start(tmp_path, settings, *, free=(), **options):
    return Manifest.open(tmp_path / "out.jsonl", "stage", settings, [tmp_path / "in.jsonl"], free, **options)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.jsonl").write_text("{}\n")
    first = start(tmp_path, {"tau": 0.5, "batch": 8})
    with first.appender() as out:
        out.append({})
    first.finish(1)
    return tmp_path


def on_disk(folder):
    return json.loads((folder / "out.manifest.json").read_text())


def test_same_settings_and_inputs_resume(folder):
    again = start(folder, {"tau": 0.5, "batch": 8})
    assert again.resumed and again.complete
    again.finish(1)  # it wrote no row
    data = on_disk(folder)
    assert data["rows"] == 1 and len(data["inputs"][0]["sha256"]) == 64 and "torch" in data["packages"]
    assert [run["rows"] for run in data["runs"]] == [1] and data["complete"]


def test_complete_is_false_from_a_resumed_runs_first_row_to_its_end(folder, monkeypatch):
    monkeypatch.setattr(provenance, "code_commit", lambda: "later")
    again = start(folder, {"tau": 0.5, "batch": 8})
    with again.appender() as out:
        assert on_disk(folder)["complete"]
        out.append({})
        assert not on_disk(folder)["complete"]
        out.append({})
    assert not on_disk(folder)["complete"]
    again.finish(3)
    data = on_disk(folder)
    assert data["complete"] and data["rows"] == 3 and data["commit"] == "later"
    assert [run["rows"] for run in data["runs"]] == [1, 2]
    assert manifest.commits(data) == [data["runs"][0]["commit"], "later"] and "torch" in data["runs"][1]["packages"]


def test_git_is_asked_without_a_lock(tmp_path, monkeypatch):
    """A git that was killed together with a stage left index.lock behind."""
    (tmp_path / "git").write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\ncase "$*" in *rev-parse*) echo 1f3c;; esac\n'
    )
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert provenance.code_commit() == "1f3c"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 2 and all(line.startswith("--no-optional-locks ") for line in asked)


def test_a_killed_runs_rows_are_counted_by_the_next(folder):
    killed = start(folder, {"tau": 0.5, "batch": 8}).appender()  # and never closed
    killed.append({})
    killed.append({})
    assert on_disk(folder)["runs"][1]["rows"] is None and not on_disk(folder)["complete"]
    again = start(folder, {"tau": 0.5, "batch": 8})
    with again.appender() as out:
        out.append({})
    again.finish(4)
    assert [run["rows"] for run in on_disk(folder)["runs"]] == [1, 2, 1]


def test_an_older_manifest_that_counts_its_runs_is_read(folder):
    data = on_disk(folder)
    old = data | {"runs": 3, "commit": "before"}
    (folder / "out.manifest.json").write_text(json.dumps(old))
    assert manifest.commits(old) == ["before"]
    again = start(folder, {"tau": 0.5, "batch": 8})
    assert again.resumed and again.complete
    with again.appender() as out:
        out.append({})
    again.finish(2)
    assert [(run["rows"], run["commit"]) for run in on_disk(folder)["runs"]] == [(1, "before"), (1, data["commit"])]


def test_the_recorded_manifests_are_readable():
    recorded = [p for p in Path(__file__).parent.parent.glob("*/**/*manifest.json") if ".venv" not in p.parts]
    assert len(recorded) > 10
    for path in recorded:
        data = json.loads(path.read_text())
        assert manifest._runs(data) and all(len(commit) >= 7 for commit in manifest.commits(data)), path


def test_a_run_that_fails_before_its_first_row_refuses_nothing(tmp_path):
    (tmp_path / "in.jsonl").write_text("{}\n")
    with pytest.raises(ZeroDivisionError):
        with start(tmp_path, {"temperature": -1.0}).appender():
            raise ZeroDivisionError
    assert {p.name for p in tmp_path.iterdir()} == {"in.jsonl", ".out.jsonl.lock"}
    start(tmp_path, {"temperature": -2.0}).appender()  # killed: an empty file stays
    assert (tmp_path / "out.jsonl").read_text() == "" and not (tmp_path / "out.manifest.json").exists()
    mended = start(tmp_path, {"temperature": 0.8})
    with mended.appender() as out:
        out.append({})
    mended.finish(1)
    assert on_disk(tmp_path)["settings"] == {"temperature": 0.8}


def test_a_folder_without_a_checkpoint_refuses_nothing(tmp_path):
    def open_folder(rate, **options):
        return Manifest.open(tmp_path / "judge", "train", {"rate": rate}, [], **options)

    open_folder(-1.0)
    (tmp_path / "judge" / "log").write_text("failed")
    first = open_folder(0.1)
    assert not first.resumed and not open_folder(0.1, read_only=True).resumed
    (tmp_path / "judge" / "checkpoint-2").mkdir()  # its manifest was not saved any more
    with pytest.raises(UserError, match="rate: 0.1 there, 0.2 now"):
        open_folder(0.2)
    first.save()
    with pytest.raises(UserError, match="rate: 0.1 there, 0.2 now"):
        open_folder(0.2)
    assert open_folder(0.1).resumed


def test_overwrite_replaces_all_files_of_a_stage(folder):
    (folder / "out.traces.jsonl").write_text("{}\n")
    anew = start(folder, {"tau": 0.9}, overwrite=True)
    assert (folder / "out.jsonl").exists()  # until the first appender is there
    with anew.appender() as out, anew.appender(folder / "out.traces.jsonl") as traces:
        assert not (folder / "out.manifest.json").exists()
        traces.append({"new": 1})
        assert on_disk(folder)["settings"] == {"tau": 0.9}
        out.append({"new": 1})
    assert {p.read_text() for p in folder.glob("out*.jsonl")} == {'{"new":1}\n'}


def test_no_credentials_in_a_manifest(tmp_path):
    (tmp_path / "in.jsonl").write_text("")
    for _ in range(2):  # and the second is not taken for another
        opened = start(tmp_path, {"url": "http://me:secret@host:1/v1"}, models={"judge": "https://me:secret@hub/x"})
        with opened.appender() as out:
            out.append({})
    text = (tmp_path / "out.manifest.json").read_text()
    assert "secret" not in text and "http://host:1/v1" in text and "https://hub/x" in text


def test_other_settings_are_refused_free_ones_not(folder):
    with pytest.raises(UserError, match="tau: 0.5 there, 0.6 now"):
        start(folder, {"tau": 0.6, "batch": 8})
    assert start(folder, {"tau": 0.5, "batch": 99}, free=("batch",)).resumed


def test_a_run_goes_on_in_its_own_type_on_another_machine(folder):
    """dtype auto is another type there: refused, and the message says how to go on."""
    first = start(folder, {"dtype": "bfloat16"}, overwrite=True)
    with first.appender() as out:
        out.append({})
    with pytest.raises(
        UserError, match="'bfloat16' there, 'float32' now.*; go on with --dtype bfloat16, choose another"
    ):
        start(folder, {"dtype": "float32"})
    assert start(folder, {"dtype": "bfloat16"}).resumed


def test_changed_input_or_model_is_refused(folder):
    with pytest.raises(UserError, match="models"):
        start(folder, {"tau": 0.5, "batch": 8}, models={"judge": "other"})
    (folder / "in.jsonl").write_text('{"changed": 1}\n')
    with pytest.raises(UserError, match="hold other data now"):
        start(folder, {"tau": 0.5, "batch": 8})
    assert (folder / "out.jsonl").read_text() == "{}\n"


def test_output_without_manifest_is_refused_and_overwrite_starts_anew(folder):
    assert not start(folder, {"tau": 0.9}, overwrite=True).resumed
    (folder / "out.manifest.json").unlink()
    with pytest.raises(UserError, match="what made it is unknown"):
        start(folder, {"tau": 0.5})


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_manifest_path(name):
    assert manifest.manifest_path(name).name == "x.manifest.json"
    assert manifest.manifest_path("results/judge").name == "manifest.json"


@pytest.mark.parametrize("way", ["same", "relative", "symlink", "hardlink", "through a linked folder", "the manifest"])
def test_an_output_that_is_an_input_is_refused(tmp_path, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    given = tmp_path / "in.jsonl"
    given.write_text("{}\n")
    output = tmp_path / "out.jsonl"
    if way == "same":
        output = given
    elif way == "relative":
        (tmp_path / "folder").mkdir()
        output = Path("folder/../in.jsonl")
    elif way == "symlink":
        output.symlink_to(given)
    elif way == "hardlink":
        output.hardlink_to(given)
    elif way == "the manifest":
        given = given.rename(tmp_path / "out.manifest.json")
    else:
        (tmp_path / "link").symlink_to(tmp_path)
        output = tmp_path / "link" / "in.jsonl"
    with pytest.raises(UserError, match="would overwrite the input"):
        Manifest.open(output, "stage", {}, [given], overwrite=True)
    assert given.read_text() == "{}\n"


def test_two_outputs_of_one_path_are_refused(tmp_path):
    manifest.check_paths([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], [tmp_path / "c.jsonl"])
    for other in ("a.jsonl", "x/../a.jsonl"):
        with pytest.raises(UserError, match="are one file"):
            manifest.check_paths([tmp_path / "a.jsonl", tmp_path / other])
    with pytest.raises(UserError, match="would have one manifest, a.manifest.json"):
        manifest.check_paths([tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"])
