"""Every prediction as a row, the newest on top: did it rank what happened, did it name the hardest hit?"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from sts_core.figures.frame import NUMBERS, ROW, add_numbers, add_words, frame, name_rows, short
from sts_core.figures.ledger_words import shared
from sts_core.figures.numbers import MINUS, count, fixed, known, number, p_value
from sts_core.figures.theme import TOKENS, Mode, template
from sts_core.results.ledger import Entry

MOST_ROWS = 40
LONGEST_NAME = 17
"""Letters of a row's name, so that on a phone something is left for the plot."""
AIR = 8
"""Pixels more than names of middling letters take."""
FEW_NUMBERS = 60
"""Pixels that `2 of 3` takes."""
RANKS_TITLE = "Did the scores rank what happened?"
HITS_TITLE = "Were the three hit hardest foretold?"


class Row(NamedTuple):
    """A scored prediction."""

    name: str
    entry: Entry


def spearman_dots(
    rows: Sequence[Row], median: float | None, caption: Sequence[str] = (), mode: Mode = "light"
) -> go.Figure:
    """Spearman of each with its interval around a line at 0; dotted the median of all."""
    figure, tokens = _figure(mode), TOKENS[mode]
    if median is not None and len(rows) > 1:
        line = {"color": tokens.accent, "width": 1.4, "dash": "dot"}
        figure.add_shape(type="line", x0=median, x1=median, y0=0, y1=1, yref="paper", line=line, layer="below")
    found = [row.entry.found for row in rows]
    shown = [(place, one) for place, one in enumerate(found) if one is not None and known(one.spearman)]
    intervals = [one.ci_spearman or (one.spearman, one.spearman) for _, one in shown]
    figure.add_scatter(
        x=[one.spearman for _, one in shown],
        y=[place for place, _ in shown],
        mode="markers",
        marker={"size": 11, "color": tokens.accent, "line": {"width": 1.5, "color": tokens.paper}, "opacity": 1},
        error_x={
            "type": "data", "symmetric": False, "color": tokens.ink, "thickness": 1.4, "width": 4,
            "array": [max(0.0, high - one.spearman) for (_, one), (_, high) in zip(shown, intervals, strict=True)],
            "arrayminus": [max(0.0, one.spearman - low) for (_, one), (low, _) in zip(shown, intervals, strict=True)],
        },
        hovertext=[_hover(rows[place].entry) for place, _ in shown],
        hoverinfo="text",
        name="Spearman",
        cliponaxis=False,
    )  # fmt: skip
    texts = [None if one is None else f"{fixed(one.spearman, 2)}, {p_value(one.p_spearman)}" for one in found]
    _finish(figure, rows, texts, RANKS_TITLE, "Spearman of written scores and harm", caption, mode)
    halves = {"tickvals": [-1, -0.5, 0, 0.5, 1], "ticktext": [f"{MINUS}1", "", "0", "", "1"]}
    figure.update_xaxes(range=[-1.06, 1.06], **halves, zeroline=True)
    return figure


def hit_bars(rows: Sequence[Row], caption: Sequence[str] = (), mode: Mode = "light") -> go.Figure:
    """How many of the first three each named, as bars, each with a mark where guessing would end."""
    figure, tokens = _figure(mode), TOKENS[mode]
    found = [row.entry.found.hits if row.entry.found else None for row in rows]
    shown = [(place, one) for place, one in enumerate(found) if one is not None]
    hover = [
        f"<b>{escape(rows[place].entry.foretold.title, quote=False)}</b><br>{shared(one.shared)} of {one.k}; by "
        f"chance {number(one.chance * one.k, 2)}"
        for place, one in shown
    ]
    figure.add_bar(
        x=[one.shared for _, one in shown], y=[place for place, _ in shown], orientation="h", width=0.5,
        marker={"color": tokens.accent}, hovertext=hover, hoverinfo="text", name="named",
    )  # fmt: skip
    figure.add_scatter(
        x=[one.chance * one.k for _, one in shown], y=[place for place, _ in shown], mode="markers",
        marker={"symbol": "line-ns", "size": 20, "line": {"width": 2.4, "color": tokens.ink}}, hoverinfo="skip",
        name="by chance", cliponaxis=False,
    )  # fmt: skip
    texts = [None if one is None else f"{shared(one.shared)} of {one.k}" for one in found]
    most = max((one.k for _, one in shown), default=3)
    _finish(figure, rows, texts, HITS_TITLE, "of three domains", caption, mode, FEW_NUMBERS)
    figure.update_xaxes(range=[0, most * 1.03], tickvals=list(range(most + 1)), zeroline=True)
    return figure


def _figure(mode: Mode) -> go.Figure:
    return go.Figure(layout={"template": template(mode)})


def _finish(
    figure: go.Figure, rows: Sequence[Row], texts: Sequence[str | None], title: str, axis: str,
    caption: Sequence[str], mode: Mode, numbers: int = NUMBERS,
) -> None:  # fmt: skip
    """Names at the left, numbers at the right, title and caption in their corners."""
    framed = frame(title, caption)
    left = name_rows(figure, [short(row.name, LONGEST_NAME) for row in rows], mode) + AIR
    add_numbers(figure, texts, mode, "cannot be told")
    figure.update_layout(
        height=framed.top + ROW * max(len(rows), 2) + framed.bottom,
        margin={"l": left, "r": numbers + 8, "t": framed.top, "b": framed.bottom},
    )
    figure.update_xaxes(tickangle=0, fixedrange=True, title={"text": axis, "standoff": 8})
    add_words(figure, framed, left, mode)


def _hover(entry: Entry) -> str:
    found = entry.found
    if found is None:
        return ""
    interval = found.ci_spearman
    told = f" ({fixed(interval[0], 2)} to {fixed(interval[1], 2)})" if interval else ", no interval"
    head = f"<b>{escape(entry.foretold.title, quote=False)}</b>"
    return (
        f"{head}<br>Spearman {fixed(found.spearman, 2)}{told}<br>{count(found.n)} domains, {p_value(found.p_spearman)}"
    )
