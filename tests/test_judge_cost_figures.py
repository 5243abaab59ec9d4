"""A panel a question that a table of judge's cost answers, none with a single point."""

import pandas as pd

from deepprune.evaluate import judge_cost_figures

MODES = (*judge_cost_figures.MODES, "representative", judge_cost_figures.LEAST)


def cost(n=(16,), k=(32,), judges=("mine",), similarities=("p_same",)):
    """A table of benchmarks/judge_cost.py; 'representative' was a mode once."""
    rows = [
        {
            "mode": mode,
            "judge": judge,
            "similarity": similarity,
            "assign": "best",
            "n": traces,
            "K": clusters,
            "questions": 4,
        }
        | {"calls": 10.0 * traces, "adjusted Rand index to the answers": 0.5, "calls / full rule": 0.5}
        for judge in judges
        for similarity in similarities
        for traces in n
        for clusters in k
        for mode in MODES
    ]
    return pd.DataFrame(rows)


def panels(figure):
    return [axis for axis in figure.axes if axis.axison]


def test_calls_are_drawn_against_what_was_varied():
    by_n, by_k = panels(judge_cost_figures.draw(cost(n=(16, 32), k=(4, 8))))
    assert by_n.get_xlabel() == "traces a question, n" and by_k.get_xlabel() == "most clusters, K"
    assert [line.get_label() for line in by_n.lines] == [*judge_cost_figures.MODES, judge_cost_figures.LEAST]
    (by_n,) = panels(judge_cost_figures.draw(cost(n=(16, 32))))
    assert list(by_n.lines[0].get_xdata()) == [16, 32]


def test_several_judges_and_readings_have_panels_of_their_own():
    judges = ("simulated, AUROC 0.7", "simulated, AUROC 0.9")
    trade_off, shares = panels(judge_cost_figures.draw(cost(judges=judges, similarities=("p_same", "verdict"))))
    assert {text.get_text() for text in trade_off.texts} == {"0.7", "0.9"}
    assert shares.get_xlabel() == "AUROC of the simulated judge" and len(shares.patches) == 2 * 2 * 2


def test_a_single_case_shows_its_calls_by_mode():
    (axis,) = panels(judge_cost_figures.draw(cost()))
    assert [bar.get_width() for bar in axis.patches] == [160.0] * 5 and axis.get_xlabel() == "calls"


def test_a_timed_run_shows_its_seconds_and_no_single_point():
    modes = ("full rule", "full rule, prefix cache", "sketched, prefix cache")
    timed = [{"mode": mode, "seconds": 10.0 * (at + 1), "calls": 5} for at, mode in enumerate(modes)]
    (axis,) = panels(judge_cost_figures.draw(cost(), timed))
    assert [bar.get_width() for bar in axis.patches] == [10.0, 20.0] and not axis.lines
    assert [text.get_text() for text in axis.texts] == [" 10 s, 5 calls", " 20 s, 5 calls"]
