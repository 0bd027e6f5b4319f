"""All features in one picture, how often they fire against how far they shift: a cloud, and in it those of a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.frame import add_words, frame, short
from sts_core.figures.numbers import count, number, percent
from sts_core.figures.theme import TOKENS, Mode, blend, template

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
    figure = go.Figure(layout={"template": template(mode)})
    _add_cloud(figure, cells, mode)
    _add_rows(figure, rows, mode)
    if drawn:
        around = [*drawn, drawn[0]]
        figure.add_scatter(
            x=[10**x for x, _ in around], y=[10**y for _, y in around], mode="lines", hoverinfo="skip",
            line={"color": TOKENS[mode].ink, "width": 1.2, "dash": "dot"}, name="drawn",
        )  # fmt: skip
    framed = frame(title, caption)
    figure.update_layout(
        height=framed.top + HEIGHT + framed.bottom,
        margin={"l": LEFT, "r": 12, "t": framed.top, "b": framed.bottom},
        dragmode="lasso",
        newselection={"line": {"color": TOKENS[mode].ink, "width": 1.2, "dash": "dot"}},
    )
    axis = {"type": "log", "fixedrange": True, "dtick": 1, "zeroline": False}
    figure.update_xaxes(
        **axis, range=_range(cells["x"]), exponentformat="power",
        title={"text": "share of tokens it fires on (log)", "standoff": 6}, tickformat="~%",
    )  # fmt: skip
    figure.update_yaxes(
        **axis, range=_range(cells["y"]), automargin=False, exponentformat="power",
        title={"text": "shift (log)", "standoff": 4},
    )  # fmt: skip
    add_words(figure, framed, LEFT, mode)
    return figure


def _add_cloud(figure: go.Figure, cells: pd.DataFrame, mode: Mode) -> None:
    """Every cell that holds a feature, the darker the more."""
    tokens = TOKENS[mode]
    figure.add_scatter(
        x=10 ** cells["x"].to_numpy(float),
        y=10 ** cells["y"].to_numpy(float),
        mode="markers",
        marker={
            "symbol": "square",
            "size": 5,
            "color": np.log1p(cells["many"].to_numpy(float)),
            "cmin": 0,
            "colorscale": [[at, blend(tokens.muted, tokens.paper, 0.18 + 0.6 * at)] for at in (0, 1)],
        },
        hovertext=[f"{count(n)} {'feature' if n == 1 else 'features'} about here" for n in cells["many"]],
        hoverinfo="text",
        unselected={"marker": {"opacity": 1}},
        name="all features",
    )


def _add_rows(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    tokens = TOKENS[mode]
    seen = rows[(rows["density"] > 0) & (rows["shift_icl"] > 0)]
    up = seen["signed_icl"] >= 0
    for way, color, symbol in ((up, tokens.rise, "triangle-up"), (~up, tokens.fall, "triangle-down")):
        part = seen[way]
        figure.add_scatter(
            x=part["density"].tolist(),
            y=part["shift_icl"].tolist(),
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": 9, "line": {"width": 1, "color": tokens.paper}},
            customdata=part["feature"].tolist(),
            hovertext=[_hover(row) for row in part.to_dict("records")],
            hoverinfo="text",
            unselected={"marker": {"opacity": 0.9}},
            name="raised" if symbol == "triangle-up" else "lowered",
        )


def _hover(row: dict[str, object]) -> str:
    label = row.get("label")
    named = f" “{escape(short(label, 48), quote=False)}”" if isinstance(label, str) and label else ""
    values = [float(str(row[name])) for name in ("shift_icl", "density")]
    return (
        f"<b>feature {row['feature']}</b>{named}<br>shift {number(values[0])}, fires on {percent(values[1])} of tokens"
        f"<br>strongest in {escape(str(row['strongest']), quote=False)}"
    )


def _range(values: pd.Series) -> list[float]:
    """The values with some air, and never less than two decades, so that the axis has numbers."""
    if not len(values):
        return [-5.0, 0.0]
    low, high = float(values.min()) - 0.15, float(values.max()) + 0.15
    more = max(0.0, 2 - (high - low)) / 2
    return [low - more, high + more]
