"""What a fine-tune did to each domain: signed changes around zero, with their errors, the largest first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.frame import NUMBERS, ROW, add_numbers, add_words, frame, name_rows
from sts_core.figures.numbers import column_decimals, known, number, questions, with_error
from sts_core.figures.theme import TOKENS, Mode, domain_mark, template


def domain_changes(
    changes: pd.DataFrame, title: str, axis: str, caption: Sequence[str] = (), mode: Mode = "light"
) -> go.Figure:
    """`domain, value, se, n` as dots with whiskers of one standard error around a line at zero."""
    measured = changes[changes["value"].map(known).astype(bool)].sort_values(
        ["value", "domain"], ascending=[False, True]
    )
    rows = pd.concat([measured, changes.drop(measured.index)]).reset_index(drop=True)
    figure = go.Figure(layout={"template": template(mode)})
    _add_stems(figure, rows, mode)
    _add_dots(figure, rows, mode)
    add_numbers(figure, _numbers(rows), mode)
    _frame(figure, rows, title, axis, caption, mode)
    return figure


def _add_stems(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    """From zero to the value: up in the colour of what rises, down in that of what falls."""
    for position, value in enumerate(rows["value"]):
        if known(value):
            color = TOKENS[mode].rise if value > 0 else TOKENS[mode].fall
            figure.add_shape(
                type="line",
                x0=0,
                x1=value,
                y0=position,
                y1=position,
                line={"color": color, "width": 3},
                layer="between",
            )


def _add_dots(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    shown = [(i, *row) for i, row in enumerate(_tuples(rows)) if known(row[1])]
    marks = [domain_mark(str(name)) for _, name, *_ in shown]
    figure.add_scatter(
        x=[value for _, _, value, _, _ in shown],
        y=[i for i, *_ in shown],
        mode="markers",
        marker={
            "symbol": [m.symbol for m in marks],
            "size": 11,
            "color": [m.color(mode) for m in marks],
            "line": {"width": 1.5, "color": TOKENS[mode].paper},
            "opacity": 1,
        },
        error_x={
            "type": "data",
            "array": [se if known(se) else 0 for *_, se, _ in shown],
            "color": TOKENS[mode].ink,
            "thickness": 1.4,
            "width": 4,
        },
        hovertext=[_hover(str(name), value, se, n) for _, name, value, se, n in shown],
        hoverinfo="text",
        name="change",
        cliponaxis=False,
    )


def _numbers(rows: pd.DataFrame) -> list[str | None]:
    decimals = column_decimals(rows["value"], rows["se"])
    return [
        f"{'+' if value > 0 else ''}{with_error(value, se, decimals)}" if known(value) else None
        for _, value, se, _ in _tuples(rows)
    ]


def _frame(figure: go.Figure, rows: pd.DataFrame, title: str, axis: str, caption: Sequence[str], mode: Mode) -> None:
    framed = frame(title, caption)
    left = name_rows(figure, [str(name) for name in rows["domain"]], mode)
    ends = [v + side * (se if known(se) else 0) for _, v, se, _ in _tuples(rows) if known(v) for side in (-1, 1)]
    least, most = min([0.0, *ends]), max([0.0, *ends])
    air = 0.06 * (most - least) or 1.0
    figure.update_layout(
        height=framed.top + ROW * max(len(rows), 2) + framed.bottom,
        margin={"l": left, "r": NUMBERS + 8, "t": framed.top, "b": framed.bottom},
    )
    figure.update_xaxes(
        range=[least - air, most + air],
        nticks=5,
        tickangle=0,
        zeroline=True,
        fixedrange=True,
        title={"text": axis, "standoff": 8},
    )
    add_words(figure, framed, left, mode)


def _tuples(rows: pd.DataFrame) -> list[tuple[object, float, float, float]]:
    return list(zip(*(rows[name] for name in ("domain", "value", "se", "n")), strict=True))


def _hover(name: str, value: float, se: float, n: float) -> str:
    error = f" ± {number(se)}" if known(se) else ", error not known"
    return f"<b>{escape(name)}</b><br>{value:+.4g}{error}<br>{questions(n)}"
