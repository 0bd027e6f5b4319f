"""Scores of domains as bars: longest first, whiskers of one standard error, each bar with its name and number.

Bars lie flat at every width, so that names are read without turning the head; the axis starts at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.frame import NUMBERS, ROW, add_numbers, add_words, frame, name_rows
from sts_core.figures.numbers import column_decimals, count, known, with_error
from sts_core.figures.theme import TOKENS, Mode, blend, domain_mark, template


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
        add_numbers(figure, column(rows), mode)
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


def column(rows: pd.DataFrame) -> list[str | None]:
    decimals = column_decimals(rows["value"], rows["se"])
    return [with_error(value, se, decimals) if known(value) else None for _, value, se, _, _ in _tuples(rows)]


def _frame(
    figure: go.Figure, rows: pd.DataFrame, title: str, axis: str, caption: Sequence[str], mode: Mode, narrow: bool
) -> None:
    framed = frame(title, caption)
    left = name_rows(figure, [str(name) for name in rows["domain"]], mode)
    reach = [v + (se if known(se) else 0) for v, se in zip(rows["value"], rows["se"], strict=True) if known(v)]
    figure.update_layout(
        height=framed.top + ROW * max(len(rows), 2) + framed.bottom,
        margin={"l": left, "r": 8 if narrow else NUMBERS, "t": framed.top, "b": framed.bottom},
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
    add_words(figure, framed, left, mode)


def _tuples(rows: pd.DataFrame) -> list[tuple[str, float, float, float, float]]:
    columns = [rows[name] for name in ("domain", "value", "se", "tokens", "items")]
    return list(zip(*columns, strict=True))


def _hover(name: str, value: float, se: float, tokens: float, items: float) -> str:
    if not known(value):
        return f"<b>{escape(name)}</b><br>not measured: no token was pooled"
    exact = f"{value:.6g} ± {se:.3g}" if known(se) else f"{value:.6g}, error not known (fewer than five questions)"
    return f"<b>{escape(name)}</b><br>{exact}<br>{count(items)} questions, {count(tokens)} tokens"
