"""A mixture in figures: how a budget falls on the domains, and what each domain became without it and with it.

The allocation that is chosen is drawn as bars; the others stand in the same rows as marks of their own shape, so that
all are read on one axis. Changes of several runs are drawn as panels of one order and one span, to be read across.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.changes import domain_changes
from sts_core.figures.frame import NUMBERS, ROW, add_notes, add_numbers, add_words, frame, name_rows, short
from sts_core.figures.mixture_words import SHARED
from sts_core.figures.numbers import count, known, with_error
from sts_core.figures.theme import SMALL_SIZE, TOKENS, Mode, blend, domain_mark, template

BESIDE = {"sts": "circle-open", "uniform": "line-ns-open", "inverse": "diamond-open"}
"""The mark of each allocation where it is not the one drawn as bars."""
_KEY = 24
"""Pixels above the rows for what the marks mean."""


class Panel(NamedTuple):
    """What one run did to every domain."""

    title: str
    changes: pd.DataFrame
    """`domain, value, se, n`."""
    mixed: Mapping[str, int]
    """Rows of a domain it trained on."""
    caption: Sequence[str] = ()


def allocation_bars(
    table: pd.DataFrame, how: str, title: str, caption: Sequence[str] = (), mode: Mode = "light"
) -> go.Figure:
    """`domain, quota, sts, uniform, inverse, available, score, se` as bars of the quota, the most rows first.

    `how` names the column that the bars stand for, or nothing that is a column; an allocation that cannot be made is
    missing (NaN) in all its rows and has no marks.
    """
    rows = table.sort_values(["quota", "score", "domain"], ascending=[False, False, True]).reset_index(drop=True)
    figure = go.Figure(layout={"template": template(mode)})
    _add_bars(figure, rows, mode)
    others = [name for name in BESIDE if name != how and rows[name].map(known).all()]
    for name in others:
        _add_marks(figure, rows[name], name, mode)
    add_numbers(figure, [f"{count(row.quota)} of {count(row.available)}" for row in rows.itertuples()], mode)
    framed = frame(title, caption)
    left = name_rows(figure, [str(name) for name in rows["domain"]], mode)
    reach = max([1.0, float(rows["quota"].max()), *(float(rows[name].max()) for name in others)])
    top = framed.top + _KEY
    figure.update_layout(
        height=top + ROW * max(len(rows), 2) + framed.bottom,
        margin={"l": left, "r": NUMBERS, "t": top, "b": framed.bottom},
    )
    figure.update_xaxes(
        range=[0, 1.05 * reach], nticks=6, dtick=1 if reach <= 6 else None, tickangle=0, zeroline=True, fixedrange=True,
        title={"text": "rows of a domain", "standoff": 8},
    )  # fmt: skip
    add_words(figure, framed._replace(top=top), left, mode)
    _add_key(figure, how, others, left, mode)
    return figure


def change_panels(panels: Sequence[Panel], axis: str, mode: Mode = "light") -> list[go.Figure]:
    """Changes of each run, all in the order of the first one's and over one span."""
    order = _order(panels)
    ends = [
        end
        for panel in panels
        for value, se in zip(panel.changes["value"], panel.changes["se"], strict=True)
        if known(value)
        for end in (value - (se if known(se) else 0), value + (se if known(se) else 0))
    ]
    least, most = min([0.0, *ends]), max([0.0, *ends])
    air = 0.06 * (most - least) or 1.0
    figures = []
    for panel in panels:
        figure = domain_changes(_in_order(panel.changes, order), panel.title, axis, panel.caption, mode)
        _move_rows(figure, _drawn_order(panel.changes, order), order)
        figure.update_xaxes(range=[least - air, most + air], nticks=4)
        figure.update_layout(margin_r=12)
        _name_mixed(figure, order, panel.mixed)
        figures.append(figure)
    return figures


def _add_bars(figure: go.Figure, rows: pd.DataFrame, mode: Mode) -> None:
    tokens, marks = TOKENS[mode], [domain_mark(str(name)) for name in rows["domain"]]
    figure.add_bar(
        x=rows["quota"], y=list(range(len(rows))), orientation="h", width=0.58, name="quota",
        marker={"color": [blend(m.color(mode), tokens.paper, 0.32) for m in marks], "line": {"width": 0},
                "cornerradius": 2},
        hovertext=[_hover(row) for row in rows.to_dict("records")], hoverinfo="text", customdata=list(rows["domain"]),
    )  # fmt: skip
    figure.add_scatter(
        x=[0] * len(rows), y=list(range(len(rows))), mode="markers", hoverinfo="skip", name="domain", cliponaxis=False,
        marker={"symbol": [m.symbol for m in marks], "size": 11, "color": [m.color(mode) for m in marks],
                "line": {"width": 1.5, "color": tokens.paper}, "opacity": 1},
    )  # fmt: skip


def _add_marks(figure: go.Figure, values: pd.Series, name: str, mode: Mode) -> None:
    """Another allocation: open marks, so that the bar is seen through them."""
    ink = TOKENS[mode].ink
    figure.add_scatter(
        x=list(values), y=list(range(len(values))), mode="markers", hoverinfo="skip", name=SHARED[name],
        marker={"symbol": BESIDE[name], "size": 16 if name == "uniform" else 9, "color": ink,
                "line": {"width": 1.8, "color": ink}, "opacity": 1},
        cliponaxis=False,
    )  # fmt: skip


_SIGNS = {"sts": "○", "uniform": "|", "inverse": "◇"}


def _add_key(figure: go.Figure, how: str, others: Sequence[str], left: float, mode: Mode) -> None:
    """What bars and marks mean, in one line above the rows."""
    parts = [f"■ {SHARED.get(how, 'as you share it')}", *(f"{_SIGNS[name]} {SHARED[name]}" for name in others)]
    add_notes(figure, [{
        "x": 0, "xref": "paper", "xshift": -left, "xanchor": "left", "y": 1, "yref": "paper", "yanchor": "bottom",
        "yshift": 4, "align": "left", "name": "key", "text": escape(" \u2003 ".join(parts), quote=False),
        "font": {"size": SMALL_SIZE, "color": TOKENS[mode].muted},
    }])  # fmt: skip


def _hover(row: dict[Any, Any]) -> str:
    lines = [
        f"<b>{escape(str(row['domain']), quote=False)}</b>: {count(row['quota'])} rows of {count(row['available'])}"
    ]
    lines += [f"{name} {count(row[how])}" for how, name in SHARED.items() if known(row[how])]
    return "<br>".join([*lines, f"score {with_error(row['score'], row['se'])}"])


def _order(panels: Sequence[Panel]) -> list[str]:
    """The names as the first panel has them, the largest change first; then what only others have."""
    names = [name for panel in panels for name in _drawn_order(panel.changes, [])]
    return list(dict.fromkeys(names))


def _in_order(changes: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """A row for each name, also where this run has none."""
    return changes.set_index("domain").reindex(list(order)).rename_axis("domain").reset_index()


def _drawn_order(changes: pd.DataFrame, order: Sequence[str]) -> list[str]:
    """The rows of `domain_changes` from above."""
    rows = _in_order(changes, order) if order else changes
    measured = rows[rows["value"].map(known).astype(bool)].sort_values(["value", "domain"], ascending=[False, True])
    return [str(name) for name in (*measured["domain"], *rows.drop(measured.index)["domain"])]


def _move_rows(figure: go.Figure, now: Sequence[str], wanted: Sequence[str]) -> None:
    """Put the rows, each with all that is drawn in it, into another order; numbers stay in the hover and the table."""
    place = [list(wanted).index(name) for name in now]
    for trace in figure.data:
        trace.y = [place[int(y)] for y in trace.y]
    shapes = [shape.to_plotly_json() for shape in figure.layout.shapes]
    figure.layout.shapes = [{**s, "y0": place[int(s["y0"])], "y1": place[int(s["y1"])]} for s in shapes]
    figure.layout.annotations = [note for note in figure.layout.annotations if note.yref != "y"]  # no column of numbers


def _name_mixed(figure: go.Figure, order: Sequence[str], mixed: Mapping[str, int]) -> None:
    """Behind a domain's name how many of its rows were trained on."""
    names = [
        f"{escape(short(name), quote=False)}{f' <b>+{count(mixed[name])}</b>' if mixed.get(name) else ''}"
        for name in order
    ]
    figure.update_yaxes(ticktext=names)
    if any(mixed.get(name) for name in order):
        figure.update_layout(margin_l=figure.layout.margin.l + 34)
        for note in figure.layout.annotations:
            if note.name in ("title", "caption"):
                note.xshift -= 34
