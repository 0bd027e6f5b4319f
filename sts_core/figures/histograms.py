"""How strongly a feature fires: the histogram of its values, one line an arm, over all tokens that were looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from sts_core.figures.frame import add_words, frame
from sts_core.figures.numbers import count, number, percent
from sts_core.figures.theme import TOKENS, Mode, blend, template

HEIGHT, LEFT = 170, 62
"""Pixels of the plot itself, and of its left axis."""
_DECADES = 4
"""Powers of ten on the axis up to which 2 and 5 times each are written too."""
_DASHES = ("solid", "dash", "dot", "dashdot")


class Arm(NamedTuple):
    """What was counted in one arm."""

    name: str
    counts: Sequence[int]
    """Tokens whose value lies in each bin."""
    seen: int
    """Tokens looked at, the silent ones too."""

    @property
    def density(self) -> float:
        """The share of tokens on which it fires; NaN where none was looked at."""
        return sum(self.counts) / self.seen if self.seen else math.nan


def activation_histogram(
    edges: Sequence[float], arms: Sequence[Arm], title: str, caption: Sequence[str] = (), mode: Mode = "light"
) -> go.Figure:
    """`edges` are the lower edges of the bins; the first arm is filled, the others are lines over it."""
    figure = go.Figure(layout={"template": template(mode)})
    tokens = TOKENS[mode]
    ends = [*edges, edges[-1] * edges[-1] / edges[-2]]
    filled = [at for at in range(len(edges)) if any(arm.counts[at] for arm in arms)]
    first, last = (filled[0], filled[-1]) if filled else (0, len(edges) - 1)
    colors = [tokens.accent, tokens.rise, tokens.fall, tokens.muted]
    for at, arm in enumerate(arms):
        shares = [arm.counts[bin] / arm.seen if arm.seen else 0 for bin in range(first, last + 1)]
        color = colors[at % len(colors)]
        figure.add_scatter(
            x=[ends[first], *ends[first : last + 2]],
            y=[0, *shares, 0],
            mode="lines",
            line={"shape": "hv", "color": color, "width": 1.6, "dash": _DASHES[at % len(_DASHES)]},
            fill="tozeroy" if at == 0 else None,
            fillcolor=blend(color, tokens.paper, 0.22) if at == 0 else None,
            hovertext=["", *(_hover(arm, ends, bin) for bin in range(first, last + 1)), ""],
            hoverinfo="text",
            name=arm.name,
        )
    framed = frame(title, caption)
    figure.update_layout(
        height=framed.top + HEIGHT + framed.bottom,
        margin={"l": LEFT, "r": 8, "t": framed.top, "b": framed.bottom},
        hovermode="closest",
    )
    ticks = _round_values(ends[first], ends[last + 1])
    figure.update_xaxes(
        type="log", fixedrange=True, title={"text": "activation (log)", "standoff": 6}, minor={"ticks": ""},
        tickvals=ticks, ticktext=[f"{value:g}" for value in ticks],
    )  # fmt: skip
    highest = max((max(arm.counts) / arm.seen for arm in arms if arm.seen), default=0)
    figure.update_yaxes(
        fixedrange=True, rangemode="tozero", tickformat=f".{_digits(highest)}~%", nticks=4, automargin=False,
        title={"text": "share of tokens", "standoff": 6},
    )  # fmt: skip
    add_words(figure, framed, LEFT, mode)
    return figure


def _round_values(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten that lie between, both ends included; of many decades the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= _DECADES else (1,)
    values = [step * 10.0**power for power in powers for step in steps]
    return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def _digits(highest: float) -> int:
    """Decimals of a percentage by which a quarter of the highest share still differs from half of it."""
    return max(2, 2 - math.floor(math.log10(100 * highest))) if highest > 0 else 2


def _hover(arm: Arm, ends: Sequence[float], bin: int) -> str:
    share = arm.counts[bin] / arm.seen if arm.seen else math.nan
    span = f"{number(ends[bin])} to {number(ends[bin + 1])}"
    return f"<b>{span}</b><br>{count(arm.counts[bin])} of {count(arm.seen)} tokens ({percent(share)})"
