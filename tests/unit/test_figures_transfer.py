"""Bars keep all that belongs to a row together in every order; the scatter draws errors, band and ring truly."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from scipy import stats

from sts_core.figures.theme import domain_mark
from sts_core.figures.transfer import ASSUMED_WIDTHS, HEIGHT, Dot, score_bars, transfer_scatter
from sts_core.stats.correlation import correlate

AXES = ("STS act", "harm, nats a token")


def scores() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "domain": ["law", "biology", "math", "health", "physics"],
            "value": [0.2, 0.5, math.nan, 0.3, 0.4],
            "se": [0.02, 0.03, math.nan, math.nan, 0.01],
            "tokens": 900,
            "items": 30,
        }
    )


def rows(figure: go.Figure) -> dict[str, tuple[float, str]]:
    """Name -> its bar's length and its number, read off the figure row by row."""
    names = list(figure.layout.yaxis.ticktext)
    bar = dict(zip(figure.data[0].y, figure.data[0].x, strict=True))
    numbers = {y: text.strip() for y, text in zip(figure.data[3].y, figure.data[3].text, strict=True)}
    return {name: (bar[i], numbers[i]) for i, name in enumerate(names)}


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("sorted", ["biology", "physics", "health", "law", "math"]),
        ("pinned", ["law", "biology", "math", "health", "physics"]),
        ("grouped", ["biology", "health", "physics", "law", "math"]),
    ],
)
def test_every_order_keeps_a_row_together(order: str, names: list[str]) -> None:
    figure = score_bars(scores(), "Which?", "STS act", order=order)  # type: ignore[arg-type]
    assert list(figure.layout.yaxis.ticktext) == names
    found = rows(figure)
    assert found["biology"] == (0.5, "0.50 ± 0.03")
    assert found["health"] == (0.3, "0.30 ± —")
    assert found["math"][1] == "— not measured"
    for name, y, symbol in zip(figure.data[0].customdata, figure.data[2].y, figure.data[2].marker.symbol, strict=True):
        assert names[y] == name
        assert domain_mark(name).symbol == symbol
    whiskers = dict(zip(figure.data[1].y, figure.data[1].error_x.array, strict=True))
    assert whiskers == {names.index("biology"): 0.03, names.index("law"): 0.02, names.index("physics"): 0.01}


def test_what_is_missing_can_be_named_otherwise() -> None:
    figure = score_bars(scores(), "Which?", "STS act", missing="not published")
    assert rows(figure)["math"][1] == "— not published"


def dots(n: int = 9) -> list[Dot]:
    random = np.random.default_rng(1)
    x = random.normal(size=n)
    y = x + random.normal(size=n)
    return [
        Dot(f"d<{i}>", float(a), 0.1, float(b), None if i else 0.2) for i, (a, b) in enumerate(zip(x, y, strict=True))
    ]


def drawn(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


def test_line_and_band_are_those_of_least_squares() -> None:
    points = dots()
    x, y = [d.x for d in points], [d.y for d in points]
    found = correlate([d.name for d in points], x, y)
    figure = transfer_scatter(points, found.line, found.most_influential, "Title", AXES)
    line, band = drawn(figure, "regression"), drawn(figure, "95 % band")
    fit = stats.linregress(x, y)
    assert np.allclose(line.y, fit.intercept + fit.slope * np.array(line.x))
    half = stats.t.ppf(0.975, len(x) - 2) * np.sqrt(
        np.sum((np.array(y) - fit.intercept - fit.slope * np.array(x)) ** 2)
        / (len(x) - 2)
        * (1 / len(x) + (np.array(line.x) - np.mean(x)) ** 2 / np.sum((np.array(x) - np.mean(x)) ** 2))
    )
    assert np.allclose(np.array(band.y)[: len(half)], np.array(line.y) + half)


def test_points_have_names_both_errors_and_a_ring() -> None:
    points = dots()
    figure = transfer_scatter(points, None, "d<3>", "Title", AXES, ["n = 9"])
    shown = drawn(figure, "domains")
    assert list(shown.error_x.array) == [0.1] * 9
    assert list(shown.error_y.array) == [0.2] + [0] * 8
    assert list(shown.customdata) == [d.name for d in points]
    ring = drawn(figure, "ring")
    assert (list(ring.x), list(ring.y)) == ([points[3].x], [points[3].y])
    assert [text.strip() for text in shown.text] == [f"d&lt;{i}&gt;" for i in range(9)]
    assert "<b>d&lt;0&gt;</b>" in shown.hovertext[0]
    assert figure.layout.yaxis.range[0] < 0 < figure.layout.yaxis.range[1]
    assert figure.layout.yaxis.zeroline


def test_without_a_point_or_with_one_it_is_still_a_figure() -> None:
    for points in ([], dots(1), [Dot("x", math.nan, None, 1.0, None)]):
        figure = transfer_scatter(points, None, None, "Title", AXES, small=True)
        low, high = figure.layout.xaxis.range
        assert low < high
        assert list(drawn(figure, "ring").x) == []


@pytest.mark.parametrize("width", ASSUMED_WIDTHS)
def test_names_do_not_cover_each_other_where_there_is_room(width: float) -> None:
    points = [Dot(f"domain {i}", i % 3 + 0.1 * (i // 3 % 2), 0.05, i // 3, 0.3) for i in range(12)]
    figure = transfer_scatter(points, None, "domain 4", "Title", AXES)
    x_scale = width / np.ptp(figure.layout.xaxis.range)
    y_scale = HEIGHT / np.ptp(figure.layout.yaxis.range)
    shown, boxes = drawn(figure, "domains"), []
    for x, y, text, place in zip(shown.x, shown.y, shown.text, shown.textposition, strict=True):
        up, across = place.split()
        wide = 6.4 * len(text.strip())
        left = x * x_scale + {"right": 13.0, "center": -wide / 2, "left": -wide - 13.0}[across]
        low = y * y_scale + {"top": 7.0, "middle": -7.0, "bottom": -21.0}[up]
        boxes.append((left, low, left + wide, low + 14))
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert shown.textposition[4] != "top center", "a name would be struck by the ring"
