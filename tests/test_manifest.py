import json
from pathlib import Path

import pytest

from deepprune import manifest
from deepprune.errors import UserError
from deepprune.manifest import Manifest


def start(tmp_path, settings, *, free=(), **options):
    return Manifest.open(tmp_path / "out.jsonl", "stage", settings, [tmp_path / "in.jsonl"], free, **options)


@pytest.fixture
def made(tmp_path):
    (tmp_path / "in.jsonl").write_text("{}\n")
    first = start(tmp_path, {"tau": 0.5, "batch": 8})
    (tmp_path / "out.jsonl").write_text("{}\n")
    first.finish(1)
    return tmp_path


def test_same_settings_and_inputs_resume(made):
    again = start(made, {"tau": 0.5, "batch": 8})
    assert again.resumed and again.complete and again.data["runs"] == 2
    data = json.loads((made / "out.manifest.json").read_text())
    assert data["rows"] == 1 and len(data["inputs"][0]["sha256"]) == 64 and "torch" in data["packages"]


def test_other_settings_are_refused_free_ones_not(made):
    with pytest.raises(UserError, match="tau: 0.5 there, 0.6 now"):
        start(made, {"tau": 0.6, "batch": 8})
    assert start(made, {"tau": 0.5, "batch": 99}, free=("batch",)).resumed


def test_changed_input_or_model_is_refused(made):
    with pytest.raises(UserError, match="models"):
        start(made, {"tau": 0.5, "batch": 8}, models={"judge": "other"})
    (made / "in.jsonl").write_text('{"changed": 1}\n')
    with pytest.raises(UserError, match="hold other data now"):
        start(made, {"tau": 0.5, "batch": 8})
    assert (made / "out.jsonl").read_text() == "{}\n"


def test_output_without_manifest_is_refused_and_overwrite_starts_anew(made):
    assert not start(made, {"tau": 0.9}, overwrite=True).resumed
    assert not (made / "out.jsonl").exists()
    (made / "out.jsonl").write_text("{}\n")
    (made / "out.manifest.json").unlink()
    with pytest.raises(UserError, match="what made it is unknown"):
        start(made, {"tau": 0.5})


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
