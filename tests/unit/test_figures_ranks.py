"""Two rankings against each other: every feature in the corner it belongs to, and said so by colour and by shape."""

from __future__ import annotations

import pandas as pd

from sts_core.figures.ranks import BOTH, FIRST, NEITHER, SECOND, rank_scatter, sides

TABLE = pd.DataFrame({"feature": [10, 11, 12, 13], "rank_first": [1, 2, 3, 4], "rank_second": [1, 4, 2, 3]})


def test_each_feature_is_on_the_side_it_leads() -> None:
    assert list(sides(TABLE, 2)) == [BOTH, FIRST, SECOND, NEITHER]


def test_sides_differ_in_shape_as_well_and_carry_their_counts() -> None:
    figure = rank_scatter(TABLE, 2, ("ICL", "SFT"), "Which?")
    drawn = {trace.name: trace for trace in figure.data}
    assert set(drawn) == {"in neither (1)", "SFT alone (1)", "ICL alone (1)", "both (1)"}
    assert (
        len({trace.marker.symbol for trace in (drawn["both (1)"], drawn["ICL alone (1)"], drawn["SFT alone (1)"])}) == 3
    )
    assert list(drawn["ICL alone (1)"].customdata) == [11]
    assert "rank 2" in drawn["ICL alone (1)"].hovertext[0]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1], "the first stand on top"


def test_an_empty_table_is_drawn_as_empty() -> None:
    figure = rank_scatter(TABLE.iloc[:0], 2, ("ICL", "SFT"), "Which?")
    assert sum(len(trace.x) for trace in figure.data) == 0
