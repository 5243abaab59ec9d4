"""Cells and Markdown tables."""

import math

import pandas as pd

from deepprune.evaluate import tables


def test_a_table_has_its_cells_as_they_are_given():
    rows = [{"method": "a|b", "tokens": "1,000", "share": 0.5}, {"method": "cons@1", "share": None}]
    assert tables.markdown(rows).splitlines() == [
        "| method | tokens | share |",
        "|---|---|---|",
        "| a\\|b | 1,000 | 0.5 |",
        "| cons@1 | | |",
    ]
    assert tables.markdown(pd.DataFrame(rows)) == tables.markdown(rows)


def test_a_row_of_a_table_does_not_change_with_the_others():
    short, long = tables.markdown([{"a": "x"}]), tables.markdown([{"a": "x"}, {"a": "much longer"}])
    assert long.startswith(short)


def test_cells():
    row = {"accuracy": 0.5, "accuracy low": 0.25, "accuracy high": 0.75}
    assert tables.interval(row, "accuracy") == "0.500 [0.250, 0.750]"
    assert tables.interval(row, "accuracy", ".0%") == "50% [25%, 75%]"
    assert tables.interval(row | {"accuracy low": math.nan}, "accuracy") == "0.500 [n/a]"
    assert tables.interval(row | {"accuracy": math.nan}, "accuracy", missing="unknown") == "unknown"
    assert (
        tables.number(1234.5, ",.0f") == "1,234"
        and tables.number(None) == ""
        and tables.number(math.nan, "g", "?") == "?"
    )
