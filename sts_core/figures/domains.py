"""Scores of domains as bars: longest first, whiskers of one standard error, each bar with its name and number.

Bars lie flat at every width, so that names are read without turning the head; the axis starts at zero.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.numbers import DASH, column_decimals, count, known, with_error
from sts_core.figures.theme import LINE, SMALL_SIZE, TOKENS, Mode, blend, domain_mark, template

ROW = 29
"""Pixels a bar and the air around it take."""
TOP, TITLE_LINE, CAPTION_LINE, AXIS = 14, 20, 17, 44
LONGEST_NAME, LETTER = 22, 7
"""Letters of a name that are shown, and the pixels one takes."""
NUMBERS = 112
"""Pixels the column of numbers takes."""


def domain_bars(
    scores: pd.DataFrame,
    title: str,
    axis: str,
    caption: Sequence[str] = (),
    mode: Mode = "light",
    narrow: bool = False,
) -> go.Figure:
    """`domain, value, se, tokens, items` of one metric as a figure that stands alone, also as a picture.

    `caption` is lines under the axis: what the whiskers are, and where the numbers come from. `narrow` leaves the
    numbers at the right out, for a strip beside something else; they stay in the hover.
    """
    measured = scores[scores["value"].map(known).astype(bool)].sort_values(["value", "domain"], ascending=[False, True])
    rows = pd.concat([measured, scores.drop(measured.index)])
    figure = go.Figure(layout={"template": template(mode)})
    _add_bars(figure, rows, mode)
    _add_whiskers(figure, rows, mode)
    _add_marks(figure, rows, mode)
    if not narrow:
        _add_numbers(figure, rows, mode)
    _frame(figure, rows, title, axis, caption, mode, narrow)
    return figure


def _add_bars(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    tokens, marks = TOKENS[mode], [domain_mark(name) for name in rows["domain"]]
    hover = [_hover(*row) for row in _tuples(rows)]
    figure.add_bar(
        x=[v if known(v) else 0 for v in rows["value"]],
        y=list(range(len(rows))),
        orientation="h",
        width=0.58,
        marker={
            "color": [blend(m.color(mode), tokens.paper, 0.32) for m in marks],
            "line": {"width": 0},
            "cornerradius": 2,
        },
        hovertext=hover,
        hoverinfo="text",
        name="score",
    )


def _add_whiskers(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    """One standard error to each side of a bar's end, where it is known."""
    shown = [(i, value, se) for i, (_, value, se, _, _) in enumerate(_tuples(rows)) if known(value) and known(se)]
    figure.add_scatter(
        x=[value for _, value, _ in shown],
        y=[i for i, _, _ in shown],
        mode="markers",
        marker={"size": 0.1, "color": TOKENS[mode].ink},
        error_x={
            "type": "data",
            "array": [se for _, _, se in shown],
            "color": TOKENS[mode].ink,
            "thickness": 1.4,
            "width": 4,
        },
        hoverinfo="skip",
        name="± 1 s.e.",
        cliponaxis=False,
    )


def _add_marks(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    """Each domain's own mark at the foot of its bar: the shape repeats what the colour says."""
    marks = [domain_mark(name) for name in rows["domain"]]
    figure.add_scatter(
        x=[0] * len(marks),
        y=list(range(len(marks))),
        mode="markers",
        marker={
            "symbol": [m.symbol for m in marks],
            "size": 11,
            "color": [m.color(mode) for m in marks],
            "line": {"width": 1.5, "color": TOKENS[mode].paper},
            "opacity": 1,
        },
        hoverinfo="skip",
        name="domain",
        cliponaxis=False,
    )


def _add_numbers(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    """The number of each bar in one column at the right, so that they are read down like a table."""
    decimals = column_decimals(rows["value"], rows["se"])
    for position, (_, value, se, _, _) in enumerate(_tuples(rows)):
        figure.add_annotation(
            x=1,
            xref="paper",
            y=position,
            yref="y",
            xanchor="left",
            xshift=12,
            showarrow=False,
            align="left",
            text=with_error(value, se, decimals) if known(value) else f"{DASH} not measured",
            font={"size": 12, "color": TOKENS[mode].ink if known(value) else TOKENS[mode].muted},
        )


def _frame(
    figure: go.Figure, rows: pd.DataFrame, title: str, axis: str, caption: Sequence[str], mode: Mode, narrow: bool
) -> None:
    tokens = TOKENS[mode]
    heading = broken(title, LINE)
    lines = [part for text in caption for part in broken(text, LINE + 10).split("<br>")]
    top = TOP + TITLE_LINE * (heading.count("<br>") + 1)
    bottom = AXIS + CAPTION_LINE * len(lines) + 6
    names = [_short(str(name)) for name in rows["domain"]]
    left = 24 + LETTER * max(map(len, names), default=0)
    reach = [v + (se if known(se) else 0) for v, se in zip(rows["value"], rows["se"], strict=True) if known(v)]
    figure.update_layout(
        height=top + ROW * max(len(rows), 2) + bottom,
        margin={"l": left, "r": 8 if narrow else NUMBERS, "t": top, "b": bottom},
        bargap=0.4,
    )
    figure.update_xaxes(
        range=[0, 1.04 * max(reach, default=1.0) or 1.0],
        nticks=6,
        zeroline=True,
        fixedrange=True,
        showgrid=True,
        title={"text": axis, "standoff": 8},
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(rows))),
        ticktext=[escape(n, quote=False) for n in names],
        range=[max(len(rows), 2) - 0.4, -0.6],
        showgrid=False,
        fixedrange=True,
        ticklabelstandoff=12,
        tickfont={"size": 13, "color": tokens.ink},
        zeroline=False,
        automargin=False,
    )
    add_title(figure, heading, left, top, mode)
    add_caption(figure, lines, left, bottom, mode)


def add_title(figure: go.Figure, heading: str, left: float, top: float, mode: Mode) -> None:
    """The title at the upper left corner; Plotly's own cuts a title of two lines off at the top."""
    figure.add_annotation(
        x=0,
        xref="paper",
        xshift=-left,
        xanchor="left",
        y=1,
        yref="paper",
        yshift=top,
        yanchor="top",
        name="title",
        text=heading,
        align="left",
        font={"size": 15, "weight": 600, "color": TOKENS[mode].ink},
        showarrow=False,
    )


def add_caption(figure: go.Figure, lines: Sequence[str], left: float, bottom: float, mode: Mode) -> None:
    """Lines at the figure's lower left corner, `left` and `bottom` being its margins there."""
    if lines:
        figure.add_annotation(
            x=0,
            xref="paper",
            xshift=-left,
            xanchor="left",
            y=0,
            yref="paper",
            yshift=-bottom,
            yanchor="bottom",
            name="caption",
            text="<br>".join(lines),
            align="left",
            font={"size": SMALL_SIZE, "color": TOKENS[mode].muted},
            showarrow=False,
        )


def broken(text: str, letters: int) -> str:
    """Text in lines of at most so many letters, made safe to stand in a figure."""
    return "<br>".join(escape(line, quote=False) for line in textwrap.wrap(text, letters, break_on_hyphens=False))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _tuples(rows: pd.DataFrame) -> list[tuple[str, float, float, float, float]]:
    columns = [rows[name] for name in ("domain", "value", "se", "tokens", "items")]
    return list(zip(*columns, strict=True))


def _hover(name: str, value: float, se: float, tokens: float, items: float) -> str:
    if not known(value):
        return f"<b>{escape(name)}</b><br>not measured: no token was pooled"
    exact = f"{value:.6g} ± {se:.3g}" if known(se) else f"{value:.6g}, error not known (fewer than five questions)"
    return f"<b>{escape(name)}</b><br>{exact}<br>{count(items)} questions, {count(tokens)} tokens"
