"""The concentration curve: what share of the shift the leading features hold, beside raw residual dimensions.

Both are drawn over the share of all their dimensions, on a logarithmic axis, so that a SAE of a hundred thousand
features and a stream of a few hundred dimensions are read off the same place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from sts_core.figures.frame import Frame, drawn, frame, words
from sts_core.figures.numbers import count, percent
from sts_core.figures.theme import TOKENS, Mode

HEIGHT, LEFT = 300, 52
"""Pixels of the plot itself, and of its left axis."""
MOST_POINTS = 240
"""Points a curve is drawn from."""
GAP = 9
"""Pixels between a curve and its words."""


class Curve(NamedTuple):
    """One side: the share its first 1, 2, … hold, and how many of them are marked."""

    name: str
    """What its dimensions are called, in the plural."""
    shares: NDArray[np.float64]
    marked: int | None
    """None marks none."""


def concentration_curves(
    sae: Curve, raw: Curve | None, title: str, caption: Sequence[str] = (), mode: Mode = "light"
) -> go.Figure:
    """The two curves with their names, and a mark at what was chosen; without raw dimensions, the first alone."""
    tokens = TOKENS[mode]
    curves = [(sae, tokens.accent, "solid")] + ([(raw, tokens.muted, "dash")] if raw and len(raw.shares) else [])
    traces = [_curve(curve, color, dash) for curve, color, dash in curves]
    if len(curves) == 2 and sae.marked and raw and raw.marked:
        traces.append(_level(sae, raw, mode))
    is_left = [len(curves) == 1 or _place(sae, 0.5)[0] <= _place(curves[1][0], 0.5)[0]]
    notes = []
    for (curve, color, _), left in zip(curves, [*is_left, not is_left[0]], strict=False):
        if curve.marked:
            traces.append(_mark(curve, curve.marked, color, mode))
            notes.append(_text(_at(curve), f"<b>{count(curve.marked)}</b>", color, left))
        notes.append(_name(curve, color, left))
    framed = frame(title, caption)
    layout = _layout([curve for curve, _, _ in curves], framed)
    return drawn(traces, layout, [*notes, *words(framed, LEFT, mode)], mode)


def points(shares: NDArray[np.float64], marked: int | None = None, most: int = MOST_POINTS) -> NDArray[np.int64]:
    """The n a curve is drawn at: at most so many, even on a logarithmic axis, with the first, last and marked one."""
    total = len(shares)
    even = np.geomspace(1, total, most - 1) if total > most else np.arange(1, total + 1)
    return np.unique(np.append(np.rint(even).astype(np.int64), [marked] if marked else []).astype(np.int64))


def _curve(curve: Curve, color: str, dash: str) -> dict[str, Any]:
    total = len(curve.shares)
    at = points(curve.shares, curve.marked)
    held = curve.shares[at - 1]
    return {
        "type": "scatter",
        "x": (100 * at / total).tolist(),
        "y": (100 * held).tolist(),
        "mode": "lines",
        "line": {"color": color, "width": 2.4, "dash": dash},
        "hovertext": [_hover(curve, int(n), float(share)) for n, share in zip(at, held, strict=True)],
        "hoverinfo": "text",
        "name": curve.name,
    }


def _level(sae: Curve, raw: Curve, mode: Mode) -> dict[str, Any]:
    """A thin line from the one mark to the other: both hold as much."""
    ends = [_at(curve) for curve in (sae, raw)]
    return {
        "type": "scatter",
        "x": [x for x, _ in ends],
        "y": [ends[0][1]] * 2,
        "mode": "lines",
        "line": {"color": TOKENS[mode].muted, "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
        "name": "as much",
    }


def _mark(curve: Curve, marked: int, color: str, mode: Mode) -> dict[str, Any]:
    """A dot at the number that is marked."""
    x, y = _at(curve)
    return {
        "type": "scatter",
        "x": [x],
        "y": [y],
        "mode": "markers",
        "marker": {"size": 11, "color": color, "line": {"width": 2, "color": TOKENS[mode].paper}},
        "hovertext": [_hover(curve, marked, float(curve.shares[marked - 1]))],
        "hoverinfo": "text",
        "name": f"{curve.name}, chosen",
        "cliponaxis": False,
    }


def _name(curve: Curve, color: str, left: bool) -> dict[str, Any]:
    """The curve's name beside it, at a height where the mark's number is not."""
    marked = _at(curve)[1] / 100 if curve.marked else 0.0
    heights = (0.68, 0.36) if left else (0.22, 0.4)
    height = max(heights, key=lambda h: (abs(h - marked) > 0.12, -heights.index(h)))
    return _text(_place(curve, height), curve.name.replace(" ", "<br>", 1), color, left)


def _text(at: tuple[float, float], text: str, color: str, left: bool) -> dict[str, Any]:
    """Text to the upper left of a place, or to its lower right: away from the other curve."""
    return {
        "x": math.log10(at[0]),
        "y": at[1],
        "text": text,
        "align": "right" if left else "left",
        "xanchor": "right" if left else "left",
        "yanchor": "bottom" if left else "top",
        "xshift": -GAP if left else GAP,
        "yshift": -2 if left else 2,
        "font": {"size": 13, "color": color},
    }


def _layout(curves: Sequence[Curve], framed: Frame) -> dict[str, Any]:
    least = math.floor(math.log10(100 / max(len(curve.shares) for curve in curves)) * 10) / 10
    # A label at the very corner would run into that of the other axis.
    powers = [power for power in range(math.ceil(least), 3) if power - least > 0.06 * (2 - least)]
    return {
        "height": framed.top + HEIGHT + framed.bottom,
        "margin": {"l": LEFT, "r": 40, "t": framed.top, "b": framed.bottom},
        "hovermode": "closest",
        "xaxis": {
            "type": "log",
            "range": [least, 2.02],
            "tickmode": "array",
            "tickvals": [10.0**power for power in powers],
            "ticktext": [f"{10.0**power:g} %" for power in powers],
            "title": {"text": "share of all dimensions, most shifted first (log scale)", "standoff": 8},
            "fixedrange": True,
            "zeroline": False,
        },
        "yaxis": {
            "range": [0, 106],
            "tickmode": "array",
            "tickvals": [0, 25, 50, 75, 100],
            "ticktext": ["0 %", "25 %", "50 %", "75 %", "100 %"],
            "title": {"text": "share of the shift", "standoff": 6},
            "fixedrange": True,
            "automargin": False,
            "zeroline": True,
        },
    }


def _at(curve: Curve) -> tuple[float, float]:
    """Where the mark stands."""
    n = curve.marked or 1
    return 100 * n / len(curve.shares), 100 * float(curve.shares[n - 1])


def _place(curve: Curve, height: float) -> tuple[float, float]:
    """Where the curve first reaches a share."""
    n = min(int(np.searchsorted(curve.shares, height)) + 1, len(curve.shares))
    return 100 * n / len(curve.shares), 100 * float(curve.shares[n - 1])


def _hover(curve: Curve, n: int, share: float) -> str:
    total = len(curve.shares)
    return f"<b>{count(n)} of {count(total)} {curve.name}</b> ({percent(n / total)})<br>hold {100 * share:.4g} %"
