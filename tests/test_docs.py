"""The README is for five minutes, and no page names a file that is not there."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

PAGES = sorted(
    p.relative_to(ROOT) for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]
)


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200 and len(text.encode()) <= 12 * 1024


def headings(page):
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if not link.startswith("http"):
            name, _, anchor = link.partition("#")
            target = ROOT / page.parent / name if name else ROOT / page
            assert target.exists(), link
            assert not anchor or anchor in headings(target), link


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_a_page_names_are_there(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    top = "deepprune|DeepPrune_data|Preliminaries|Offline|Online|LLaMA-Factory|scripts|benchmarks|docs|tests"
    for name in re.findall(rf"`((?:{top})/[\w./@-]+\.(?:py|sh|ipynb|md|csv|json|yaml))`", text):
        assert (ROOT / name).exists(), name


def commands():
    """Script -> the options that the pages give it."""
    options = {}
    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", (ROOT / page).read_text())
        for script, rest in re.findall(r"([\w/.-]+\.py)((?: +[^\s`|;&#]+)*)", text):
            options.setdefault(script, set()).update(re.findall(r"(?<!\S)--[a-z][\w-]*", rest))
    return {script: names for script, names in sorted(options.items()) if names and (ROOT / script).is_file()}


def test_commands_are_found_in_the_pages():
    assert {"Offline/build_pair_dataset.py", "scripts/01_sample_traces.py", "Online/live_pruning.py"} <= set(commands())


@pytest.mark.parametrize("script", commands())
def test_options_that_a_page_gives_a_script_are_there(script):
    shown = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert commands()[script] <= set(re.findall(r"(?<!\S)--[a-z][\w-]*", shown.stdout))
