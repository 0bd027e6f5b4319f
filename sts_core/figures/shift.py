"""The most shifted features as a strip of bars: up where demonstrations raise a feature, down where they lower it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.frame import add_words, frame
from sts_core.figures.numbers import number, percent, signed
from sts_core.figures.theme import TOKENS, Mode, template

HEIGHT, LEFT = 150, 56
"""Pixels of the strip itself without title and caption, and of its axis."""


def shift_strip(features: pd.DataFrame, title: str, caption: Sequence[str] = (), mode: Mode = "light") -> go.Figure:
    """Rows of `feature, shift_icl, signed_icl, rate_base, rate_icl`, the most shifted first, as signed bars.

    The full height of a bar's faint part is the shift E|Δ|, its solid part the signed mean E Δ: the two are equal where
    every token moves the same way.
    """
    figure = go.Figure(layout={"template": template(mode)})
    tokens = TOKENS[mode]
    up = features["signed_icl"] >= 0
    colors = [tokens.rise if u else tokens.fall for u in up]
    sign = up.map({True: 1, False: -1})
    position = list(range(len(features)))
    hover = [_hover(row) for row in features.to_dict("records")]
    figure.add_bar(
        x=position,
        y=features["shift_icl"] * sign,
        marker={"color": colors, "opacity": 0.28},
        hovertext=hover,
        hoverinfo="text",
        name="shift",
    )
    figure.add_bar(x=position, y=features["signed_icl"], marker={"color": colors}, hoverinfo="skip", name="signed mean")
    _frame(figure, title, caption, mode)
    return figure


def _frame(figure: go.Figure, title: str, caption: Sequence[str], mode: Mode) -> None:
    framed = frame(title, caption, axis=22)
    figure.update_layout(
        barmode="overlay",
        bargap=0.35,
        height=framed.top + HEIGHT + framed.bottom,
        margin={"l": LEFT, "r": 8, "t": framed.top, "b": framed.bottom},
    )
    figure.update_xaxes(visible=False, fixedrange=True)
    figure.update_yaxes(
        zeroline=True,
        nticks=5,
        fixedrange=True,
        automargin=False,
        title={"text": "change of activation", "standoff": 6},
    )
    add_words(figure, framed, LEFT, mode)


def _hover(row: dict[str, float]) -> str:
    return (
        f"<b>feature {int(row['feature'])}</b><br>shift {number(row['shift_icl'])}, signed {signed(row['signed_icl'])}"
        f"<br>fires on {percent(row['rate_base'])} of tokens, with demonstrations {percent(row['rate_icl'])}"
    )
