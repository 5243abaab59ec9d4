"""The README is for five minutes, and no page names a file that is not there."""

import re

import pytest
from conftest import ROOT

PAGES = sorted(
    p.relative_to(ROOT) for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]
)


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200 and len(text.encode()) <= 12 * 1024


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_of_a_page_lead_somewhere(page):
    text = (ROOT / page).read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in headings, link
        elif not link.startswith("http"):
            assert (ROOT / page.parent / link.split("#")[0]).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_a_page_names_are_there(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    top = "deepprune|DeepPrune_data|Preliminaries|Offline|Online|LLaMA-Factory|scripts|benchmarks|docs|tests"
    for name in re.findall(rf"`((?:{top})/[\w./@-]+\.(?:py|sh|ipynb|md|csv|json|yaml))`", text):
        assert (ROOT / name).exists(), name
