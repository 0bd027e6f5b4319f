"""Lines over the steps of a training: a loss, a rate, or an overlap beside its nulls, each named at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import plotly.graph_objects as go

from sts_core.figures.frame import Frame, drawn, frame, short, words
from sts_core.figures.numbers import count, known, number
from sts_core.figures.theme import TOKENS, Mode, blend

HEIGHT, LEFT = 230, 56
"""Pixels of the plot itself, and of its left axis."""
LETTER, LONGEST_NAME = 6.6, 26
"""Pixels a letter of a line's name takes, and how many are shown."""
GAP = 15
"""Pixels between two names at least."""


class Series(NamedTuple):
    """A quantity over steps."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    color: str
    low: Sequence[float] = ()
    """The lower end of a band or of whiskers, a step; empty for none."""
    high: Sequence[float] = ()
    dash: str = "solid"
    points: bool = False
    """Measured at single steps: dots with whiskers, instead of a line with a band."""


def step_lines(
    series: Sequence[Series],
    title: str,
    axis: str,
    caption: Sequence[str] = (),
    mode: Mode = "light",
    *,
    span: tuple[float, float] | None = None,
    steps: int | None = None,
    percent: bool = False,
    over: str = "step",
) -> go.Figure:
    """The series over a common axis of steps, or of what `over` names; `span` fixes the range of values, `steps` the
    axis' end."""
    shown = [one for one in series if len(one.steps)]
    traces = []
    for one in shown:
        traces += _whiskers(one) if one.points else _band(one, mode)
        traces.append(_line(one, mode, percent, over))
    span = span or _span(shown)
    framed = frame(title, caption)
    axes = {"xaxis": _steps_axis(shown, steps, over), "yaxis": _values_axis(axis, span, percent)}
    notes = [*_names(shown, span, mode), *words(framed, LEFT, mode)]
    return drawn(traces, {**_size(shown, framed), **axes}, notes, mode)


def places(values: Sequence[float], span: tuple[float, float], height: float, gap: float) -> list[float]:
    """Where names stand, as near to their values as a gap between them allows; in the order given."""
    scale = (span[1] - span[0]) / height or 1.0
    order = sorted(range(len(values)), key=lambda i: values[i])
    found = [values[i] for i in order]
    for _ in range(60):  # neighbours that are too near push each other apart
        for below, above in zip(range(len(found)), range(1, len(found)), strict=False):
            lacking = gap * scale - (found[above] - found[below])
            if lacking > 0:
                found[below] -= lacking / 2
                found[above] += lacking / 2
        if found and (under := span[0] - found[0]) > 0:
            found[0] += under
    return [found[order.index(i)] for i in range(len(values))]


def _line(one: Series, mode: Mode, percent: bool, over: str) -> dict[str, Any]:
    lone = len(one.steps) == 1
    return {
        "type": "scatter",
        "x": list(one.steps),
        "y": list(one.values),
        "mode": "lines+markers" if one.points or lone else "lines",
        "line": {"color": one.color, "width": 2.2 if one.dash == "solid" else 1.4, "dash": one.dash},
        "marker": {"size": 8, "color": one.color, "line": {"width": 1.5, "color": TOKENS[mode].paper}},
        "hovertext": [_hover(one, i, percent, over) for i in range(len(one.steps))],
        "hoverinfo": "text",
        "name": escape(one.name),
        "cliponaxis": False,
    }


def _band(one: Series, mode: Mode) -> list[dict[str, Any]]:
    """Least to greatest of what a point stands for; nothing where that is not known."""
    if not len(one.low):
        return []
    return [
        {
            "type": "scatter",
            "x": [*one.steps, *reversed(one.steps)],
            "y": [*one.high, *reversed(one.low)],
            "fill": "toself",
            "fillcolor": blend(one.color, TOKENS[mode].paper, 0.18),
            "line": {"width": 0},
            "hoverinfo": "skip",
            "name": f"{escape(one.name)}, least to greatest",
        }
    ]


def _whiskers(one: Series) -> list[dict[str, Any]]:
    """The interval of each point; nothing where that is not known."""
    if not len(one.low):
        return []
    return [
        {
            "type": "scatter",
            "x": list(one.steps),
            "y": list(one.values),
            "mode": "markers",
            "marker": {"size": 0.1, "color": one.color},
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [h - v for h, v in zip(one.high, one.values, strict=True)],
                "arrayminus": [v - w for v, w in zip(one.values, one.low, strict=True)],
                "color": one.color,
                "thickness": 1.4,
                "width": 4,
            },
            "hoverinfo": "skip",
            "name": f"{escape(one.name)}, interval",
            "cliponaxis": False,
        }
    ]


def _names(series: Sequence[Series], span: tuple[float, float], mode: Mode) -> list[dict[str, Any]]:
    """Each name right of its line's end; none for a single line."""
    if len(series) < 2:
        return []
    ends = [min(max(one.values[-1], span[0]), span[1]) for one in series]
    beside = {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 10, "yref": "y", "align": "left"}
    return [
        {
            **beside, "y": y, "text": escape(name, quote=False), "font": {"size": 12, "color": one.color},
        }
        for one, name, y in zip(series, told_apart(series), places(ends, span, HEIGHT, GAP), strict=True)
    ]  # fmt: skip


def told_apart(series: Sequence[Series]) -> list[str]:
    """Names short enough to stand beside a line: without what all end with; where beginnings are alike, their ends."""
    parts = [one.name.split(", ") for one in series]
    while min(map(len, parts), default=0) > 1 and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    names = [", ".join(part) for part in parts]
    cut = {name for name in names if len(name) > LONGEST_NAME}
    if len({name[: LONGEST_NAME // 2] for name in cut}) == len(cut):
        return [short(name, LONGEST_NAME) for name in names]
    return [
        short(name, LONGEST_NAME) if len(name) <= LONGEST_NAME else short(f"…{name[1 - LONGEST_NAME :]}", LONGEST_NAME)
        for name in names
    ]


def _size(series: Sequence[Series], framed: Frame) -> dict[str, Any]:
    """Height and margins, with room for the names at the right."""
    longest = max(map(len, told_apart(series)), default=0)
    right = 20 + LETTER * longest if len(series) > 1 else 16
    return {
        "height": framed.top + HEIGHT + framed.bottom,
        "margin": {"l": LEFT, "r": right, "t": framed.top, "b": framed.bottom},
        "hovermode": "closest",
    }


def _steps_axis(series: Sequence[Series], steps: int | None, over: str) -> dict[str, Any]:
    last = max([steps or 0, *(one.steps[-1] for one in series)], default=1) or 1
    return {
        "range": [-0.02 * last, 1.02 * last], "title": {"text": over, "standoff": 8}, "fixedrange": True,
        "zeroline": False, "nticks": 7,
    }  # fmt: skip


def _values_axis(axis: str, span: tuple[float, float], percent: bool) -> dict[str, Any]:
    return {
        "range": list(span), "title": {"text": axis, "standoff": 6}, "fixedrange": True, "automargin": False,
        "nticks": 6, "tickformat": ".0%" if percent else None, "exponentformat": "power",
    }  # fmt: skip


def _span(series: Sequence[Series]) -> tuple[float, float]:
    """The range of all values with a little air; from zero where that costs little."""
    values = [v for one in series for v in (*one.values, *one.low, *one.high) if known(v)]
    if not values:
        return 0.0, 1.0
    least, most = min(values), max(values)
    if 0 <= least <= 0.4 * most:
        least = 0.0
    air = 0.06 * (most - least) or 0.05 * abs(most) or 1.0
    return (least - (air if least else 0.0), most + air)


def _hover(one: Series, i: int, percent: bool, over: str) -> str:
    def written(value: float) -> str:
        return f"{100 * value:.3g} %" if percent and math.isfinite(value) else number(value)

    interval = f" ({written(one.low[i])} to {written(one.high[i])})" if len(one.low) else ""
    return f"<b>{escape(one.name)}</b><br>{over} {count(one.steps[i])}: {written(one.values[i])}{interval}"
