"""Scores of domains, and the same scores against what happened: bars in a chosen order, and named points with a line.

The scatter shows what a correlation hides: both errors of every point, the band of the line, and with a ring the one
point whose absence changes Pearson's r most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.beside import Lettering, Plot, ways_beside
from sts_core.figures.domains import domain_bars, longest_first
from sts_core.figures.frame import add_words, frame, short
from sts_core.figures.numbers import known, number
from sts_core.figures.theme import SMALL_SIZE, TOKENS, Mode, blend, domain_mark, template
from sts_core.stats.correlation import Line

Order = Literal["sorted", "pinned", "grouped"]
Span = tuple[float, float]
HEIGHT, SMALL_HEIGHT, LEFT = 380, 170, 58
"""Pixels of the plot itself, of one of many small ones, and of the left axis."""
ASSUMED_WIDTHS = 300, 480
"""Pixels a plot is taken to be wide where names are laid beside points: a phone's, and half a screen's."""
_LETTER, _LINE, _GAP = 6.4, 14, (13, 7)
"""Pixels a letter of a name is wide, a name is high, and a name stands off its point, beside and above it."""
_AIR = "\u2002"
"""Stands between a name and its point, or the ring around it."""
_ACROSS, _UP = {-1: "left", 0: "center", 1: "right"}, {-1: "bottom", 0: "middle", 1: "top"}


class Dot(NamedTuple):
    """A domain on both sides."""

    name: str
    x: float
    x_se: float | None
    y: float
    y_se: float | None
    note: str = ""
    """What the hover says more, such as the number of questions."""


def score_bars(
    scores: pd.DataFrame,
    title: str,
    axis: str,
    caption: Sequence[str] = (),
    mode: Mode = "light",
    order: Order = "sorted",
    missing: str = "not measured",
) -> go.Figure:
    """`domain, value, se, tokens, items` as bars, each of which says its domain when it is picked.

    Sorted: longest first. Pinned: as the rows come. Grouped: kindred domains (those of one hue) together, the group
    with the longest bar first.
    """
    names = longest_first(scores)
    if order == "pinned":
        names = [str(name) for name in scores["domain"]]
    elif order == "grouped":
        groups = list(dict.fromkeys(domain_mark(name).light for name in names))
        names = sorted(names, key=lambda name: groups.index(domain_mark(name).light))
    return domain_bars(scores, title, axis, caption, mode, missing, names)


def transfer_scatter(
    dots: Sequence[Dot],
    line: Line | None,
    ring: str | None,
    title: str,
    axes: tuple[str, str],
    caption: Sequence[str] = (),
    mode: Mode = "light",
    small: bool = False,
) -> go.Figure:
    """Points with whiskers of one standard error both ways, their regression line with the 95 % band of its mean.

    `ring` names the point to be ringed; `small` leaves the names to the hover.
    """
    figure = go.Figure(layout={"template": template(mode)})
    shown = [dot for dot in dots if known(dot.x) and known(dot.y)]
    spans = span([(d.x, d.x_se) for d in shown]), span([(d.y, d.y_se) for d in shown], zero=True)
    if line is not None:
        _add_line(figure, line, spans[0], mode)
    _add_ring(figure, [dot for dot in shown if dot.name == ring], mode, small)
    _add_dots(figure, shown, [] if small else _name_places(shown, spans, ring), mode)
    _frame(figure, spans, title, axes, caption, mode, small)
    return figure


def span(values: Sequence[tuple[float, float | None]], zero: bool = False) -> Span:
    """The values with their whiskers and some air; with `zero` also that line."""
    ends = [v + side * reach(se) for v, se in values for side in (-1, 1)]
    ends += [0.0] if zero or not ends else []
    low, high = min(ends), max(ends)
    air = 0.09 * (high - low) or 0.1 * abs(high) or 1.0
    return low - air, high + air


def reach(se: float | None) -> float:
    """How far a whisker reaches from its value; not at all where no error is known."""
    return se if se is not None and math.isfinite(se) else 0.0


def _add_line(figure: go.Figure, line: Line, span: tuple[float, float], mode: Mode) -> None:
    tokens = TOKENS[mode]
    x = np.linspace(*span, 41)
    fit, low, high = line.band(x)
    figure.add_scatter(
        x=[*x, *x[::-1]], y=[*high, *low[::-1]], mode="lines", line={"width": 0}, fill="toself",
        fillcolor=blend(tokens.accent, tokens.paper, 0.12), hoverinfo="skip", name="95 % band",
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=fit, mode="lines", line={"color": tokens.accent, "width": 1.6}, hoverinfo="skip", name="regression"
    )


def _add_ring(figure: go.Figure, dots: Sequence[Dot], mode: Mode, small: bool) -> None:
    figure.add_scatter(
        x=[dot.x for dot in dots], y=[dot.y for dot in dots], mode="markers", hoverinfo="skip", name="ring",
        marker={"symbol": "circle-open", "size": 15 if small else 23, "color": TOKENS[mode].ink,
                "line": {"width": 1.6, "color": TOKENS[mode].ink}},
        unselected={"marker": {"opacity": 1}},
    )  # fmt: skip


def _add_dots(figure: go.Figure, dots: Sequence[Dot], places: Sequence[str], mode: Mode) -> None:
    """The points with their whiskers, each with its name in its place; without places, smaller and without names."""
    small = not places
    tokens, marks = TOKENS[mode], [domain_mark(dot.name) for dot in dots]
    whisker = {"type": "data", "color": tokens.muted, "thickness": 1, "width": 0 if small else 3}
    figure.add_scatter(
        x=[dot.x for dot in dots],
        y=[dot.y for dot in dots],
        mode="markers" if small else "markers+text",
        text=[] if small else [f"{_AIR}{escape(short(dot.name), quote=False)}{_AIR}" for dot in dots],
        textposition=list(places) or None,
        textfont={"size": SMALL_SIZE, "color": tokens.ink},
        marker={
            "symbol": [m.symbol for m in marks], "size": 7 if small else 11, "color": [m.color(mode) for m in marks],
            "line": {"width": 1, "color": tokens.paper}, "opacity": 1,
        },
        error_x={**whisker, "array": [reach(dot.x_se) for dot in dots]},
        error_y={**whisker, "array": [reach(dot.y_se) for dot in dots]},
        customdata=[dot.name for dot in dots],
        hovertext=[_hover(dot) for dot in dots],
        hoverinfo="text",
        unselected={"marker": {"opacity": 0.7}, "textfont": {"color": tokens.ink}},
        name="domains",
        cliponaxis=False,
    )  # fmt: skip


def _name_places(dots: Sequence[Dot], spans: tuple[Span, Span], ring: str | None) -> list[str]:
    """Where each name stands about its point, as the figure has words for it."""
    names = Lettering([_LETTER * len(short(dot.name)) for dot in dots], _LINE, _GAP)
    ringed = next((i for i, dot in enumerate(dots) if dot.name == ring), None)
    ways = ways_beside([_in_pixels(dots, spans, width) for width in ASSUMED_WIDTHS], names, ringed)
    return [f"{_UP[up]} {_ACROSS[across]}" for across, up in ways]


def _in_pixels(dots: Sequence[Dot], spans: tuple[Span, Span], width: float) -> Plot:
    (left, right), (low, high) = spans
    across, up = width / (right - left), HEIGHT / (high - low)
    return Plot(
        [(dot.x - left) * across for dot in dots], [(dot.y - low) * up for dot in dots],
        [reach(dot.x_se) * across for dot in dots], [reach(dot.y_se) * up for dot in dots], 0, width, -low * up,
    )  # fmt: skip


def _frame(
    figure: go.Figure, spans: tuple[Span, Span], title: str, axes: tuple[str, str],
    caption: Sequence[str], mode: Mode, small: bool,
) -> None:  # fmt: skip
    framed = frame(title, caption)
    left = LEFT - 12 if small else LEFT
    figure.update_layout(
        height=framed.top + (SMALL_HEIGHT if small else HEIGHT) + framed.bottom,
        margin={"l": left, "r": 12, "t": framed.top, "b": framed.bottom},
    )
    common = {"fixedrange": True, "nticks": 4 if small else 6, "tickangle": 0}
    figure.update_xaxes(**common, range=list(spans[0]), zeroline=False, title={"text": axes[0], "standoff": 6})
    figure.update_yaxes(
        **common,
        range=list(spans[1]),
        zeroline=True,
        zerolinelayer="above traces",
        automargin=False,
        title={"text": axes[1], "standoff": 4},
    )
    add_words(figure, framed, left, mode)


def _hover(dot: Dot) -> str:
    parts = [f"{number(value)} ± {number(se)}" if known(se) else number(value) for value, se in
             ((dot.x, dot.x_se), (dot.y, dot.y_se))]  # fmt: skip
    more = f"<br>{escape(dot.note, quote=False)}" if dot.note else ""
    return f"<b>{escape(dot.name, quote=False)}</b><br>score {parts[0]}<br>harm {parts[1]}{more}"
