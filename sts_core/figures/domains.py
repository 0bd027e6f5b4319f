"""Scores of domains as bars: longest first, whiskers of one standard error, each bar with its name and number.

Bars lie flat at every width, so that names are read without turning the head; the axis starts at zero.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.numbers import DASH, count, error_decimals, known, with_error
from sts_core.figures.theme import LINE, SMALL_SIZE, TOKENS, Mode, blend, domain_mark, template

ROW = 29
"""Pixels a bar and the air around it take."""
TOP, TITLE_LINE, CAPTION_LINE, AXIS = 14, 20, 17, 46
LONGEST_NAME = 22


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
    measured = scores[[known(v) for v in scores["value"]]].sort_values(["value", "domain"], ascending=[False, True])
    rows = pd.concat([measured, scores.drop(measured.index)])
    figure = go.Figure(layout={"template": template(mode)})
    _add_bars(figure, rows, mode)
    _add_whiskers(figure, rows, mode)
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
        marker={"color": [blend(m.color(mode), tokens.paper, 0.3) for m in marks], "line": {"width": 0}, "cornerradius": 2},
        hovertext=hover,
        hoverinfo="text",
        name="score",
    )


def _add_whiskers(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    """The point and its error, on top of the bar: the shape says the domain, the whisker one standard error."""
    tokens = TOKENS[mode]
    shown = [(i, row) for i, row in enumerate(_tuples(rows)) if known(row[1])]
    marks = [domain_mark(row[0]) for _, row in shown]
    figure.add_scatter(
        x=[row[1] for _, row in shown],
        y=[i for i, _ in shown],
        mode="markers",
        marker={
            "symbol": [m.symbol for m in marks], "size": 9, "color": [m.color(mode) for m in marks],
            "line": {"width": 1, "color": tokens.paper}, "opacity": 1,
        },
        error_x={
            "type": "data", "array": [row[2] if known(row[2]) else 0 for _, row in shown],
            "color": tokens.ink, "thickness": 1.2, "width": 4,
        },
        hoverinfo="skip",
        name="± 1 s.e.",
        cliponaxis=False,
    )  # fmt: skip


def _add_numbers(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    """The number of each bar in one column at the right, so that they are read down like a table."""
    decimals = error_decimals(rows["se"])
    for position, (_, value, se, _, _) in enumerate(_tuples(rows)):
        figure.add_annotation(
            x=1, xref="paper", y=position, yref="y", xanchor="left", xshift=12, showarrow=False, align="left",
            text=with_error(value, se, decimals) if known(value) else f"{DASH} not measured",
            font={"size": 12, "color": TOKENS[mode].ink if known(value) else TOKENS[mode].muted},
        )  # fmt: skip


def _frame(
    figure: go.Figure, rows: pd.DataFrame, title: str, axis: str, caption: Sequence[str], mode: Mode, narrow: bool
) -> None:
    tokens = TOKENS[mode]
    heading = broken(title, LINE)
    lines = [part for text in caption for part in broken(text, LINE + 10).split("<br>")]
    top = TOP + TITLE_LINE * (heading.count("<br>") + 1)
    bottom = AXIS + CAPTION_LINE * len(lines) + 6
    reach = [v + (se if known(se) else 0) for v, se in zip(rows["value"], rows["se"], strict=True) if known(v)]
    figure.update_layout(
        title={"text": heading},
        height=top + ROW * max(len(rows), 2) + bottom,
        margin={"l": 0, "r": 8 if narrow else 112, "t": top, "b": bottom},
        bargap=0.4,
    )
    figure.update_xaxes(
        range=[0, 1.04 * max(reach, default=1.0) or 1.0], nticks=6, zeroline=True, fixedrange=True, showgrid=True,
        title={"text": axis, "standoff": 8},
    )  # fmt: skip
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(rows))), ticktext=[_short(str(n)) for n in rows["domain"]],
        range=[max(len(rows), 2) - 0.4, -0.6], showgrid=False, fixedrange=True, ticklabelstandoff=8,
        tickfont={"size": 13, "color": tokens.ink}, zeroline=False,
    )  # fmt: skip
    if lines:
        figure.add_annotation(
            x=0, xref="container", y=0, yref="container", xanchor="left", yanchor="bottom", align="left",
            text="<br>".join(lines), font={"size": SMALL_SIZE, "color": tokens.muted}, showarrow=False,
        )  # fmt: skip


def broken(text: str, letters: int) -> str:
    """Text in lines of at most so many letters, made safe to stand in a figure."""
    return "<br>".join(escape(line, quote=False) for line in textwrap.wrap(text, letters))


def _short(name: str) -> str:
    return escape(name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…", quote=False)


def _tuples(rows: pd.DataFrame) -> list[tuple[str, float, float, float, float]]:
    columns = [rows[name] for name in ("domain", "value", "se", "tokens", "items")]
    return list(zip(*columns, strict=True))


def _hover(name: str, value: float, se: float, tokens: float, items: float) -> str:
    if not known(value):
        return f"<b>{escape(name)}</b><br>not measured: no token was pooled"
    exact = f"{value:.6g} ± {se:.3g}" if known(se) else f"{value:.6g}, error not known (fewer than five questions)"
    return f"<b>{escape(name)}</b><br>{exact}<br>{count(items)} questions, {count(tokens)} tokens"
