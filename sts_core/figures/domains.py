"""Scores of domains as bars: longest first, whiskers of one standard error, each bar with its name and number.

Bars lie flat at every width, so that names are read without turning the head; the axis starts at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from sts_core.figures.frame import NUMBERS, ROW, drawn, frame, named_rows, words
from sts_core.figures.numbers import DASH, column_decimals, count, known, questions, with_error
from sts_core.figures.theme import TOKENS, Mode, blend, domain_mark

_AIR = "\u2002"
"""Stands between the plot's end and a number."""


class _Row(NamedTuple):
    """A domain's numbers, out of the table: a hundred small looks into a table are slow."""

    name: str
    value: float
    se: float
    tokens: float
    items: float


def domain_bars(
    scores: pd.DataFrame,
    title: str,
    axis: str,
    caption: Sequence[str] = (),
    mode: Mode = "light",
    missing: str = "not measured",
    order: Sequence[str] | None = None,
) -> go.Figure:
    """`domain, value, se, tokens, items` of one metric as a figure that stands alone, also as a picture.

    `caption` is lines under the axis: what the whiskers are, and where the numbers come from. `missing` stands for a
    number there is none of; `order` names the domains from above. Each bar says its domain when it is picked.
    """
    found = {row.name: row for row in _rows(scores)}
    rows = [found[name] for name in (order if order is not None else longest_first(scores))]
    names = [row.name for row in rows]
    framed, (upright, left) = frame(title, caption), named_rows(names, mode)
    reach = [row.value + (row.se if known(row.se) else 0) for row in rows if known(row.value)]
    end = 1.04 * max(reach, default=1.0) or 1.0
    layout = {
        "height": framed.top + ROW * max(len(rows), 2) + framed.bottom,
        "margin": {"l": left, "r": NUMBERS, "t": framed.top, "b": framed.bottom},
        "bargap": 0.4,
        "xaxis": {
            "range": [0, end], "nticks": 6, "zeroline": True, "fixedrange": True,
            "showgrid": True, "title": {"text": axis, "standoff": 8},
        },
        "yaxis": upright,
    }  # fmt: skip
    column = _numbers(_column(rows), end, missing, mode)
    traces = [_bars(rows, names, mode), _whiskers(rows, mode), _marks(names, mode), column]
    return drawn(traces, layout, words(framed, left, mode), mode)


def longest_first(scores: pd.DataFrame) -> list[str]:
    """Domains by their value, the highest first; those without one last, as they come."""
    rows = _rows(scores)
    measured = sorted((row for row in rows if known(row.value)), key=lambda row: (-row.value, row.name))
    return [row.name for row in (*measured, *(row for row in rows if not known(row.value)))]


def _bars(rows: Sequence[_Row], names: Sequence[str], mode: Mode) -> dict[str, Any]:
    paper = TOKENS[mode].paper
    return {
        "type": "bar", "name": "score", "orientation": "h", "width": 0.58,
        "x": [row.value if known(row.value) else 0 for row in rows], "y": list(range(len(rows))),
        "customdata": list(names),
        "marker": {
            "color": [blend(domain_mark(name).color(mode), paper, 0.32) for name in names],
            "line": {"width": 0}, "cornerradius": 2,
        },
        "hovertext": [_hover(*row) for row in rows], "hoverinfo": "text",
    }  # fmt: skip


def _whiskers(rows: Sequence[_Row], mode: Mode) -> dict[str, Any]:
    """One standard error to each side of a bar's end, where it is known."""
    ink = TOKENS[mode].ink
    shown = [(i, row.value, row.se) for i, row in enumerate(rows) if known(row.value) and known(row.se)]
    return {
        "type": "scatter", "name": "± 1 s.e.", "mode": "markers", "x": [value for _, value, _ in shown],
        "y": [i for i, _, _ in shown], "marker": {"size": 0.1, "color": ink},
        "error_x": {"type": "data", "array": [se for _, _, se in shown], "color": ink, "thickness": 1.4, "width": 4},
        "hoverinfo": "skip", "cliponaxis": False,
    }  # fmt: skip


def _marks(names: Sequence[str], mode: Mode) -> dict[str, Any]:
    """Each domain's own mark at the foot of its bar: the shape repeats what the colour says."""
    marks = [domain_mark(name) for name in names]
    return {
        "type": "scatter", "name": "domain", "mode": "markers", "x": [0] * len(marks), "y": list(range(len(marks))),
        "marker": {
            "symbol": [m.symbol for m in marks], "size": 11, "color": [m.color(mode) for m in marks],
            "line": {"width": 1.5, "color": TOKENS[mode].paper}, "opacity": 1,
        },
        "hoverinfo": "skip", "cliponaxis": False,
    }  # fmt: skip


def _numbers(texts: Sequence[str | None], end: float, missing: str, mode: Mode) -> dict[str, Any]:
    """The number of each row in one column at the right, read down like a table.

    One trace of text: as many annotations took a third of the time in which a slider is answered.
    """
    inks = [TOKENS[mode].muted if text is None else TOKENS[mode].ink for text in texts]
    return {
        "type": "scatter", "name": "numbers", "mode": "text", "x": [end] * len(texts), "y": list(range(len(texts))),
        "text": [_AIR + (f"{DASH} {missing}" if text is None else text) for text in texts],
        "textposition": "middle right", "textfont": {"size": 12, "color": inks}, "hoverinfo": "skip",
        "cliponaxis": False, "unselected": {"textfont": {"color": TOKENS[mode].ink}},
    }  # fmt: skip


def _column(rows: Sequence[_Row]) -> list[str | None]:
    decimals = column_decimals([row.value for row in rows], [row.se for row in rows])
    return [with_error(row.value, row.se, decimals) if known(row.value) else None for row in rows]


def _rows(scores: pd.DataFrame) -> list[_Row]:
    columns = [scores[name].tolist() for name in ("domain", "value", "se", "tokens", "items")]
    return [_Row(str(name), *numbers) for name, *numbers in zip(*columns, strict=True)]


def _hover(name: str, value: float, se: float, tokens: float, items: float) -> str:
    if not known(value):
        return f"<b>{escape(name)}</b><br>not measured: no token was pooled"
    exact = f"{value:.6g} ± {se:.3g}" if known(se) else f"{value:.6g}, error not known (fewer than five questions)"
    return f"<b>{escape(name)}</b><br>{exact}<br>{questions(items)}, {count(tokens)} tokens"
