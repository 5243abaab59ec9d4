"""The result tables of docs/ show what the CSV files hold."""

import pytest
from conftest import ROOT, load_script

from deepprune.base.errors import UserError

tables = load_script("scripts/fill_doc_tables.py")

HEAD = "method,judge,tau,K1,K2,asks,assign,tokens,accuracy,accuracy low,accuracy high,over_cons"
CSV = (
    f"{HEAD},over_cons low,over_cons high"
    + """
cons@8,,,,,,,1245.4,0.8891,0.8,0.95,0.0,0.0,0.0
paper,trained,0.5,10.0,20.0,all,best,6649,0.9,0.8,1,-0.05,-0.13,0
paper,trained,0.5,1.0,20.0,all,best,6765,0.9,0.8,1,-0.05,-0.13,0
paper,trained,0.5,10.0,20.0,likely,largest,6843,0.9,0.8,1,-0.05,-0.13,0
paper,AUROC 0.87,0.5,10.0,20.0,all,best,1,0.9,0.8,1,-0.05,-0.13,0
paper,trained,0.5,10.0,8.0,all,best,2,0.9,0.8,1,-0.05,-0.13,0
"""
)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_pages_show_the_numbers_of_the_files(page):
    text = page.read_text(encoding="utf-8")
    assert tables.fill(text, page.name) == text, "run python scripts/fill_doc_tables.py"


def filled(tmp_path, *lines: str, head: str = "method | reasoner tokens", options: str = "K2 20") -> list[str]:
    (tmp_path / "a.csv").write_text(CSV)
    table = [f"<!-- filled from a.csv: {options} -->", f"| {head} |", "|---|---|", *lines, "", "| x | 0 |"]
    return tables.fill("\n".join(table) + "\n", root=tmp_path).splitlines()[3:]


def test_a_lines_first_cell_says_which_row_it_shows(tmp_path):
    assert filled(
        tmp_path,
        "| cons@8 | 0 |",
        "| paper rule, trained judge | 0 |",
        "| paper rule, K1 = 1, trained judge | 0 |",
        "| paper rule, K1 = 10, largest first until likely, trained judge | 0 |",
        "| paper rule, K2 = 8, trained judge | |",
        "| paper rule, simulated judge of AUROC 0.87 | 0 |",
    ) == [
        "| cons@8 | 1,245 |",
        "| paper rule, trained judge | 6,649 |",
        "| paper rule, K1 = 1, trained judge | 6,765 |",
        "| paper rule, K1 = 10, largest first until likely, trained judge | 6,843 |",
        "| paper rule, K2 = 8, trained judge | 2 |",
        "| paper rule, simulated judge of AUROC 0.87 | 1 |",
        "",
        "| x | 0 |",
    ]


def test_lines_of_the_posterior(tmp_path):
    csv = "method,judge,finished\n" + "".join(
        f'"posterior, m0 16, b {b}, {threshold}",{judge},{b}.{digit}4\n'
        for b in (1, 2)
        for threshold, digit in ((0.7, 3), (0.75, 5))
        for judge in ("random", "AUROC 0.87")
    )
    (tmp_path / "a.csv").write_text(csv)
    lines = ["posterior, b = 2, threshold 0.7, random judge", "posterior, b = 1, threshold 0.75, judge of AUROC 0.87"]
    page = "\n".join(
        ["<!-- filled from a.csv -->", "| x | finished |", "|---|---|", *(f"| {line} | |" for line in lines)]
    )
    assert tables.fill(page, root=tmp_path).splitlines()[3:] == [f"| {lines[0]} | 2.3 |", f"| {lines[1]} | 1.5 |"]


def test_cells_have_intervals_signs_and_thousands(tmp_path):
    head = "method | accuracy | over cons@m with the same total tokens | reasoner tokens | the paper"
    line = "| paper rule, trained judge | ? | ? | ? | 0.71 |"
    rows = filled(tmp_path, line, "| cons@8 | ? | ? | ? | |", head=head, options="K2 20, thousands, tenths of tokens")
    assert rows[:2] == [
        "| paper rule, trained judge | 0.900 [0.800, 1.000] | -0.050 [-0.130, +0.000] | 6.6 | 0.71 |",
        "| cons@8 | 0.889 [0.800, 0.950] | 0 | 1.2 |  |",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("| paper rule, oracle | 0 |", "page:4: 'paper rule, oracle': 0 rows have"),
        ("| paper rule, in a good mood, trained judge | 0 |", "what is 'in a good mood'"),
        ("| cons@9 | 0 |", "0 rows have"),
    ],
)
def test_a_line_that_no_row_answers_is_named(tmp_path, line, said):
    with pytest.raises(UserError, match=said):
        filled(tmp_path, line)


def test_several_rows_are_refused(tmp_path):
    with pytest.raises(UserError, match="2 rows have"):
        filled(tmp_path, "| paper rule, trained judge | 0 |", options="thousands")


def test_a_column_that_is_not_known_is_refused(tmp_path):
    with pytest.raises(UserError, match="page:2: no such column: 'tokens'"):
        filled(tmp_path, "| cons@8 | 0 |", head="method | tokens")


WITHIN = "AUROC within problems"
PREFIXES = f"""source,cut,seen,judge,AUROC,AUROC low,AUROC high,{WITHIN},{WITHIN} low,{WITHIN} high
all,words:5,partial,one,0.5004,0.4,0.6,0.51,0.4,0.6
all,words:5,all,one,0.6,0.5,0.7,0.61,0.5,0.7
all,all,partial,one,0.7,0.6,0.8,0.71,0.6,0.8
"A-8B, MATH",words:5,partial,one,0.1,0,0.2,0.1,0,0.2
"A-8B, MATH",all,partial,one,,,,0.8,0.7,0.9
"A-8B, MATH",all,all,one,0.9,0.8,1,0.9,0.8,1
"""


@pytest.mark.parametrize(
    "options, line",
    [
        ("partial", "| one | 0.500 [0.400, 0.600] | 0.700 [0.600, 0.800] | n/a |"),
        ("partial, within problems", "| one | 0.510 [0.400, 0.600] | 0.710 [0.600, 0.800] | 0.800 [0.700, 0.900] |"),
    ],
)
def test_a_table_of_prefixes_has_cuts_of_all_sources_and_sources_at_all_cuts(tmp_path, options, line):
    (tmp_path / "a.csv").write_text(PREFIXES)
    head = "| judge | words:5 | all | A-8B, MATH |"
    text = f"<!-- filled from a.csv: {options} -->\n{head}\n|---|---|---|---|\n| one | | | |\n"
    assert tables.fill(text, root=tmp_path).splitlines()[3] == line
    with pytest.raises(UserError, match="no such column: 'words:9'"):
        tables.fill(text.replace("words:5", "words:9"), root=tmp_path)
