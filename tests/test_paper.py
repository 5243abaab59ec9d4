"""The paper's figures stand once in code, and the pages say the same."""

import itertools

from conftest import ROOT

from deepprune.evaluate import ablation, methods_table, paper

PAGE = (ROOT / "docs/paper_numbers.md").read_text()
RESULTS = (ROOT / "docs" / "results.md").read_text()


def test_the_page_shows_every_figure():
    for reasoner, rows in paper.PRUNING.items():
        assert set(rows) == set(paper.BENCHMARKS)
        for benchmark, ((full, before), (pruned, after)) in rows.items():
            line = (
                f"| {reasoner} | {benchmark} ({paper.BENCHMARKS[benchmark]}) | {full}, {before} | {pruned}, {after} "
                f"| {1 - pruned / full:.1%} |"
            )
            assert line.replace("%", " %") in PAGE
    for reasoner, share in paper.SAME_ANSWER.items():
        assert f"| {reasoner} | {share * 100:.1f} % |" in PAGE
    for judge, row in paper.JUDGES.items():
        assert f"| {judge} | {row['auroc']} | {row.get('tnr_at_0.2_fnr', '')}".rstrip() in PAGE
    for (k, words), (m, tokens) in zip(
        paper.AUROC_BY_K["words"].items(), paper.AUROC_BY_K["tokens"].items(), strict=True
    ):
        assert f"| {k} | {words:.3f} | {m} | {tokens:.3f} |" in PAGE
    for truncation, title in (("tokens", "first 500 tokens"), ("words", "up to the 25th reasoning word")):
        cells = []
        for oversampled, loss in itertools.product((False, True), ("ce", "focal")):
            cell = paper.ABLATION[truncation, loss, oversampled]
            cells.append(f"{cell['AUROC']:.4f}" + (f" (TNR@0.2 {cell['TNR@0.2']})" if "TNR@0.2" in cell else ""))
        assert f"| {title} | {' | '.join(cells)} |" in PAGE


def test_the_readmes_ablation_table_has_each_figure_in_its_cell():
    for loss, oversampled in itertools.product(ablation.LOSSES, (False, True)):
        start = f"| {'focal' if loss == 'focal' else 'cross-entropy'} | {'× 2' if oversampled else 'none'} |"
        (line,) = [x for x in RESULTS.splitlines() if x.startswith(start)]
        cells = [c.strip() for c in line.strip("|").split("|")]
        assert cells[3] == f"{paper.ABLATION['tokens', loss, oversampled]['AUROC']:.3f}"
        assert cells[5] == f"{paper.ABLATION['words', loss, oversampled]['AUROC']:.3f}"


def test_oversampling_without_focal_loss_is_lowest_with_tokens():
    plain = {k: v["AUROC"] for k, v in paper.ABLATION.items()}
    assert min(plain, key=plain.get) == ("tokens", "ce", True) and plain["tokens", "ce", True] == 0.7610
    assert len(plain) == len(ablation.GRID) == 8 and max(plain, key=plain.get) == ("words", "focal", True)


def test_our_rows_on_the_page_are_our_results():
    """Tokens in 10^8 over all problems, from Online/results/."""
    for name, rule, problems, line in (
        ("aime", {"judge": "AUROC 0.87", "asks": "all"}, 60, "1.22, 78.3 | 0.21, 78.7 | 83.2 % | 27.7 %"),
        ("r1", {"judge": "AUROC 0.8", "asks": "all"}, 22, "0.037, 86.4 | 0.016, 85.5 | 57.7 % | -269.5 %"),
        (
            "r1-8",
            {"judge": "trained", "asks": "all", "K2": 4},
            22,
            "0.0044, 86.4 | 0.0028, 78.6 | 36.7 % | 27.4 %",
        ),
        ("deep", {"judge": "Sentence-BERT"}, 8, "0.0064, 87.5 | 0.0038, 87.5 | 40.2 % | 37.6 %"),
    ):
        table = methods_table.read(ROOT / f"Online/results/{name}.csv")
        rows = table[(table["method"] == "paper") & (table["tau"] == 0.5) & (table["K"] == table["K"].max())]
        rows = rows[rows["K1"] == rows["K1"].max()]
        for column, value in rule.items():
            rows = rows[rows[column] == value]
        row, full = rows.iloc[0], table[table["m"].notna()].iloc[-1]
        expected, numbers = [], line.replace(" %", "").replace(" |", ",").split(", ")
        for r in (full, row):
            expected += [r["tokens"] * problems / 1e8, 100 * r["accuracy"]]
        expected += [100 * row["reduction_no_judge"], 100 * row["reduction"]]
        assert line in PAGE
        for shown, value in zip(numbers, expected, strict=True):
            digits = len(shown.partition(".")[2])
            assert abs(float(shown) - value) <= 0.51 * 10**-digits, (name, shown, value)
