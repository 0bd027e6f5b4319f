"""Figures show what the frame holds: longest first, from zero, with errors, and nothing for what was not measured."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sts_core.figures.domains import domain_bars
from sts_core.figures.shift import shift_strip
from sts_core.figures.theme import TOKENS


def scores(**changes: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "domain": ["law", "math", "a <b> & c"],
            "value": [0.2, 0.5, 0.3],
            "se": [0.02, 0.03, math.nan],
            "tokens": [900, 1000, 1100],
            "items": [30, 40, 4],
        }
    )
    return frame.assign(**changes)


def texts(figure: object) -> list[str]:
    numbers = [text.strip() for text in figure.data[3].text]  # type: ignore[attr-defined]
    return [a.text for a in figure.layout.annotations] + numbers  # type: ignore[attr-defined]


def test_a_number_stands_in_its_own_row_behind_the_end_of_the_axis() -> None:
    figure = domain_bars(scores(), "Which?", "STS act")
    assert [text.strip() for text in figure.data[3].text] == ["0.50 ± 0.03", "0.30 ± —", "0.20 ± 0.02"]
    assert list(figure.data[3].y) == list(figure.data[0].y)
    assert set(figure.data[3].x) == {figure.layout.xaxis.range[1]}


def test_bars_are_sorted_from_zero_with_their_numbers() -> None:
    figure = domain_bars(scores(), "Which?", "STS act", ["± 1 s.e.", "from here"])
    assert list(figure.data[0].x) == [0.5, 0.3, 0.2]
    assert figure.layout.yaxis.ticktext[0] == "math"
    assert figure.layout.xaxis.range[0] == 0
    assert figure.layout.xaxis.range[1] > 0.53
    assert "0.50 ± 0.03" in texts(figure)
    assert "Which?" in texts(figure)
    assert "± 1 s.e.<br>from here" in texts(figure)


def test_an_unknown_error_has_no_whisker_but_a_dash() -> None:
    figure = domain_bars(scores(), "Which?", "STS act")
    assert list(figure.data[1].x) == [0.5, 0.2]
    assert list(figure.data[1].error_x.array) == [0.03, 0.02]
    assert "0.30 ± —" in texts(figure)
    assert "fewer than five questions" in figure.data[0].hovertext[1]


def test_what_was_not_measured_stands_last_and_is_never_zero() -> None:
    figure = domain_bars(scores(value=[math.nan, 0.5, 0.3]), "Which?", "STS act")
    assert figure.layout.yaxis.ticktext[2] == "law"
    assert "— not measured" in texts(figure)
    assert "not measured" in figure.data[0].hovertext[2]


def test_names_are_escaped_everywhere() -> None:
    figure = domain_bars(scores(), "a <i> & b", "STS act")
    drawn = [*figure.layout.yaxis.ticktext, *figure.data[0].hovertext, *texts(figure)]
    assert "a &lt;b&gt; &amp; c" in figure.layout.yaxis.ticktext
    assert not any("<i>" in text or "<b> &" in text for text in drawn)


@pytest.mark.parametrize("rows", [0, 1, 40])
def test_any_number_of_domains_has_room(rows: int) -> None:
    frame = pd.DataFrame({"domain": [f"d{i}" for i in range(rows)], "value": 1.0, "se": 0.1, "tokens": 1, "items": 9})
    figure = domain_bars(frame, "Which?", "STS act", mode="dark")
    assert figure.layout.height >= 29 * rows
    assert figure.layout.template.layout.paper_bgcolor == TOKENS["dark"].paper


def test_all_zero_still_has_an_axis() -> None:
    figure = domain_bars(scores(value=[0.0, 0.0, 0.0], se=[0.0, 0.0, 0.0]), "Which?", "STS act")
    assert figure.layout.xaxis.range[1] > 0


def test_the_strip_points_where_the_feature_went() -> None:
    features = pd.DataFrame(
        {
            "feature": [7, 3],
            "shift_icl": [2.0, 1.0],
            "signed_icl": [-1.5, 1.0],
            "rate_base": [0.5, 0.1],
            "rate_icl": 0.2,
        }
    )
    figure = shift_strip(features, "Title", ["caption"])
    assert list(figure.data[0].y) == [-2.0, 1.0]
    assert list(figure.data[1].y) == [-1.5, 1.0]
    colors = figure.data[0].marker.color
    assert colors[0] == TOKENS["light"].fall
    assert colors[1] == TOKENS["light"].rise
    assert "feature 7" in figure.data[0].hovertext[0]
