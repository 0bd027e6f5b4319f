"""Two rankings of the same features against each other: a dot a feature, in the corner what both hold to be first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.frame import add_words, frame
from sts_core.figures.numbers import count
from sts_core.figures.theme import TOKENS, Mode, template

BOTH, FIRST, SECOND, NEITHER = "both", "first", "second", "neither"
HEIGHT, LEFT = 320, 60
"""Pixels of the plot itself, and of its left axis."""
_CORNERS = {BOTH: (0.0, 1.0), FIRST: (0.0, 0.0), SECOND: (1.0, 1.0), NEITHER: (1.0, 0.0)}
"""Where in the plot each side lies, and is named."""


def sides(table: pd.DataFrame, k: int) -> pd.Series:
    """For every row of `rank_first, rank_second` in whose first k it is."""
    first, second = table["rank_first"] <= k, table["rank_second"] <= k
    named = pd.Series(NEITHER, index=table.index)
    named[first & second] = BOTH
    named[first & ~second] = FIRST
    named[~first & second] = SECOND
    return named


def rank_scatter(
    table: pd.DataFrame,
    k: int,
    names: tuple[str, str],
    title: str,
    caption: Sequence[str] = (),
    mode: Mode = "light",
) -> go.Figure:
    """`feature, rank_first, rank_second` as dots over logarithmic ranks, the first k of each set off by lines."""
    tokens = TOKENS[mode]
    figure = go.Figure(layout={"template": template(mode)})
    looks = {
        NEITHER: (tokens.line, "circle", 5, "in neither"),
        SECOND: (tokens.fall, "triangle-down", 9, f"{names[1]} alone"),
        FIRST: (tokens.rise, "triangle-up", 9, f"{names[0]} alone"),
        BOTH: (tokens.accent, "circle", 9, "both"),
    }
    side = sides(table, k)
    for name, (color, symbol, size, label) in looks.items():
        rows = table[side == name]
        figure.add_scatter(
            x=rows["rank_first"].tolist(),
            y=rows["rank_second"].tolist(),
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": size, "line": {"width": 1, "color": tokens.paper}},
            customdata=rows["feature"].tolist(),
            hovertext=[
                f"<b>feature {int(f)}</b><br>{names[0]}: rank {count(a)}<br>{names[1]}: rank {count(b)}"
                for f, a, b in zip(rows["feature"], rows["rank_first"], rows["rank_second"], strict=True)
            ],
            hoverinfo="text",
            name=f"{label} ({count(len(rows))})",
        )
        _name(figure, name, f"{label} ({count(len(rows))})", tokens.muted if name == NEITHER else color, mode)
    _frame(figure, table, k, names, title, caption, mode)
    return figure


def _name(figure: go.Figure, side: str, text: str, color: str, mode: Mode) -> None:
    """Name a side in its corner."""
    x, y = _CORNERS[side]
    figure.add_annotation(
        x=x, y=y, xref="paper", yref="paper", xanchor="right" if x else "left", yanchor="top" if y else "bottom",
        xshift=-4 if x else 4, yshift=-4 if y else 4, text=text, showarrow=False, bgcolor=TOKENS[mode].paper,
        font={"size": 12, "color": color},
    )  # fmt: skip


def _frame(
    figure: go.Figure,
    table: pd.DataFrame,
    k: int,
    names: tuple[str, str],
    title: str,
    caption: Sequence[str],
    mode: Mode,
) -> None:
    tokens = TOKENS[mode]
    framed = frame(title, caption)
    most = float(max(table["rank_first"].max(), table["rank_second"].max(), 2)) if len(table) else 10.0
    for way in ({"x": k}, {"y": k}):
        add = figure.add_vline if "x" in way else figure.add_hline
        add(**way, line={"color": tokens.muted, "width": 1, "dash": "dot"}, layer="between")
    figure.update_layout(
        height=framed.top + HEIGHT + framed.bottom,
        margin={"l": LEFT, "r": 16, "t": framed.top, "b": framed.bottom},
        dragmode="lasso",
    )
    axis = {"type": "log", "fixedrange": True, "dtick": 1}
    figure.update_xaxes(**axis, range=[-0.06, math.log10(most) + 0.06], title={"text": f"rank by {names[0]} (log)"})
    figure.update_yaxes(
        **axis, range=[math.log10(most) + 0.06, -0.06], title={"text": f"rank by {names[1]} (log)"}, automargin=False
    )
    add_words(figure, framed, LEFT, mode)
