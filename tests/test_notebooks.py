"""Every notebook runs top to bottom on what the repository holds, and is committed as it ran."""

import base64

import nbclient
import nbformat
import pytest
from conftest import ROOT

NOTEBOOKS = {  # -> figures at least
    "Preliminaries/Preliminary experiment.ipynb": 4,
    "Offline/Ablation_Study.ipynb": 3,
    "Offline/check_model_output.ipynb": 7,
    "Online/check_pass_k.ipynb": 4,
    "Online/pruning_results.ipynb": 4,
}


def figures(notebook):
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    return [base64.b64decode(o["data"]["image/png"]) for o in outputs if "image/png" in o.get("data", {})]


def test_no_notebook_is_forgotten():
    notebooks = {
        str(p.relative_to(ROOT))
        for folder in ("Preliminaries", "Offline", "Online")
        for p in (ROOT / folder).glob("*.ipynb")
    }
    assert notebooks == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_top_to_bottom(name):
    path = ROOT / name
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbclient.NotebookClient(
        notebook, timeout=1800, startup_timeout=1800, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    pictures = figures(notebook)
    assert len(pictures) >= NOTEBOOKS[name]
    for png in pictures:
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        assert png.startswith(b"\x89PNG") and width >= 500 and height >= 200


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_with_the_outputs_of_one_run(name):
    notebook = nbformat.read(ROOT / name, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    assert len(figures(notebook)) >= NOTEBOOKS[name]
    text = nbformat.writes(notebook)
    assert "/root" not in text and "/home/" not in text and str(ROOT) not in text
