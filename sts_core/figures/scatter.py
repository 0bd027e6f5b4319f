"""All features in one picture, how often they fire against how far they shift: a cloud, and in it those of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.frame import drawn as whole
from sts_core.figures.frame import frame, short, words
from sts_core.figures.numbers import count, number, percent
from sts_core.figures.theme import TOKENS, Mode, blend

HEIGHT, LEFT = 300, 66
"""Pixels of the plot itself, and of its left axis."""
Polygon = Sequence[tuple[float, float]]


def shift_scatter(
    cells: pd.DataFrame,
    rows: pd.DataFrame,
    title: str,
    caption: Sequence[str] = (),
    mode: Mode = "light",
    drawn: Polygon = (),
) -> go.Figure:
    """`cells`: `x, y, many`, features counted on a grid of logarithms; `rows`: those to be seen one by one.

    `drawn` is a closed line (in logarithms) that the rows were chosen with.
    """
    traces = [_cloud(cells, mode), *_triangles(rows, mode)]
    ink = {"color": TOKENS[mode].ink, "width": 1.2, "dash": "dot"}
    if drawn:
        around = [*drawn, drawn[0]]
        traces.append({
            "type": "scatter", "x": [10**x for x, _ in around], "y": [10**y for _, y in around], "mode": "lines",
            "hoverinfo": "skip", "line": ink, "name": "drawn",
        })  # fmt: skip
    framed = frame(title, caption)
    axis = {"type": "log", "fixedrange": True, "dtick": 1, "zeroline": False, "exponentformat": "power"}
    layout = {
        "height": framed.top + HEIGHT + framed.bottom,
        "margin": {"l": LEFT, "r": 12, "t": framed.top, "b": framed.bottom},
        "dragmode": "lasso",
        "newselection": {"line": ink},
        "xaxis": {
            **axis, "range": _range(cells["x"]), "tickformat": "~%",
            "title": {"text": "share of tokens it fires on (log)", "standoff": 6},
        },
        "yaxis": {
            **axis, "range": _range(cells["y"]), "automargin": False, "title": {"text": "shift (log)", "standoff": 4},
        },
    }  # fmt: skip
    return whole(traces, layout, words(framed, LEFT, mode), mode)


def _cloud(cells: pd.DataFrame, mode: Mode) -> dict[str, Any]:
    """Every cell that holds a feature, the darker the more."""
    tokens = TOKENS[mode]
    many = cells["many"].to_numpy(float)
    return {
        "type": "scatter", "mode": "markers", "name": "all features",
        "x": 10 ** cells["x"].to_numpy(float), "y": 10 ** cells["y"].to_numpy(float),
        "marker": {
            "symbol": "square", "size": 5, "color": np.log1p(many), "cmin": 0,
            "colorscale": [[at, blend(tokens.muted, tokens.paper, 0.18 + 0.6 * at)] for at in (0, 1)],
        },
        "hovertext": [f"{count(n)} {'feature' if n == 1 else 'features'} about here" for n in cells["many"].tolist()],
        "hoverinfo": "text", "unselected": {"marker": {"opacity": 1}},
    }  # fmt: skip


def _triangles(rows: pd.DataFrame, mode: Mode) -> list[dict[str, Any]]:
    """The features of the table: up where demonstrations raise one, down where they lower it."""
    tokens = TOKENS[mode]
    seen = rows[(rows["density"] > 0) & (rows["shift_icl"] > 0)]
    up = seen["signed_icl"] >= 0
    found = []
    for name, way, color, symbol in (
        ("raised", up, tokens.rise, "triangle-up"), ("lowered", ~up, tokens.fall, "triangle-down"),
    ):  # fmt: skip
        part = seen[way]
        found.append({
            "type": "scatter", "mode": "markers", "name": name,
            "x": part["density"].tolist(), "y": part["shift_icl"].tolist(),
            "marker": {"color": color, "symbol": symbol, "size": 9, "line": {"width": 1, "color": tokens.paper}},
            "customdata": part["feature"].tolist(), "hovertext": [_hover(*row) for row in _told(part)],
            "hoverinfo": "text", "unselected": {"marker": {"opacity": 0.9}},
        })  # fmt: skip
    return found


def _told(rows: pd.DataFrame) -> Iterator[tuple[int, object, float, float, str]]:
    labels = rows["label"] if "label" in rows else pd.Series([None] * len(rows))
    columns = (rows["feature"], labels, rows["shift_icl"], rows["density"], rows["strongest"])
    return zip(*(column.tolist() for column in columns), strict=True)


def _hover(feature: int, label: object, shift: float, density: float, strongest: str) -> str:
    named = f" “{escape(short(label, 48), quote=False)}”" if isinstance(label, str) and label else ""
    return (
        f"<b>feature {feature}</b>{named}<br>shift {number(shift)}, fires on {percent(density)} of tokens"
        f"<br>strongest in {escape(str(strongest), quote=False)}"
    )


def _range(values: pd.Series) -> list[float]:
    """The values with some air, and never less than two decades, so that the axis has numbers."""
    if not len(values):
        return [-5.0, 0.0]
    low, high = float(values.min()) - 0.15, float(values.max()) + 0.15
    more = max(0.0, 2 - (high - low)) / 2
    return [low - more, high + more]
