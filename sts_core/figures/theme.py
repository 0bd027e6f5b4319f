"""One look for every figure: a Plotly template, light and dark from the same tokens, and a mark for every domain.

The colours here are those of `.streamlit/config.toml`; a test holds the two together.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Literal, NamedTuple

import plotly.graph_objects as go

Mode = Literal["light", "dark"]

FONT = "Inter, -apple-system, BlinkMacSystemFont, 'Segoe UI', Roboto, 'Source Sans', sans-serif"
"""The page's own type: whichever of these the reader's machine has; the last but one is served with the page."""
TEXT_SIZE = 13
SMALL_SIZE = 11.5
LINE = 46
"""Letters a line of a title: fits a phone, and reads well on a wall."""


class Tokens(NamedTuple):
    """The colours of one appearance."""

    paper: str
    panel: str
    ink: str
    muted: str
    """Second voice: captions and axes; 4.5 : 1 and more on both paper and panel."""
    line: str
    accent: str
    rise: str
    fall: str


TOKENS: dict[Mode, Tokens] = {
    "light": Tokens("#FFFFFF", "#F6F7F9", "#16191D", "#5A6270", "#E1E4E9", "#2F57C8", "#B8532B", "#1F6FB2"),
    "dark": Tokens("#0E1013", "#16191E", "#E7E9EC", "#9DA5B1", "#2A2F37", "#7FA0FF", "#F0986F", "#6FB5EE"),
}


class Mark(NamedTuple):
    """How a domain is drawn, everywhere: a colour per appearance and a shape that says the same."""

    light: str
    dark: str
    symbol: str

    def color(self, mode: Mode) -> str:
        """The colour in this appearance."""
        return self.light if mode == "light" else self.dark


HUES: tuple[tuple[str, str], ...] = (
    ("#124D12", "#A3E597"),  # green
    ("#554190", "#6D82EC"),  # indigo
    ("#0092B5", "#45C6EC"),  # cyan
    ("#B24646", "#DF5C77"),  # brick
    ("#AA8206", "#F3C95F"),  # ochre
    ("#6D2E42", "#B867A3"),  # wine
    ("#84878C", "#D6D8DD"),  # grey
)
"""Colours that stay apart for red-, green- and blue-blind readers, as (light, dark); 3 : 1 and more on their paper."""
SYMBOLS = (
    "circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "triangle-left", "triangle-right",
    "pentagon", "hexagon", "star", "hourglass", "bowtie",
)  # fmt: skip

_FOURTEEN: dict[str, tuple[int, str]] = {
    "biology": (0, "circle"), "health": (0, "cross"),
    "physics": (1, "diamond"), "engineering": (1, "square"),
    "chemistry": (2, "hexagon"), "computer science": (2, "triangle-right"),
    "math": (3, "triangle-up"), "psychology": (3, "pentagon"),
    "economics": (4, "star"), "business": (4, "triangle-down"),
    "law": (5, "hourglass"), "history": (5, "triangle-left"),
    "philosophy": (6, "bowtie"), "other": (6, "x"),
}  # fmt: skip
"""Kindred domains share a hue; no two share a shape."""


def domain_mark(name: str) -> Mark:
    """The mark of a domain, by its name alone: the same on every page, in every run, whatever stands beside it."""
    known = _FOURTEEN.get(name.casefold())
    if known is None:
        digest = int.from_bytes(hashlib.sha256(name.casefold().encode()).digest()[:4])
        known = (digest % len(HUES), SYMBOLS[digest // len(HUES) % len(SYMBOLS)])
    (light, dark), symbol = HUES[known[0]], known[1]
    return Mark(light, dark, symbol)


def blend(color: str, paper: str, share: float) -> str:
    """`share` of a colour over a paper, as an opaque colour (so that what lies beneath never shines through)."""
    over, under = _channels(color), _channels(paper)
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02X}" for a, b in zip(over, under, strict=True))


@cache
def template(mode: Mode) -> go.layout.Template:
    """The layout every figure starts from: no frame, quiet grid, one type, direct labels instead of a legend."""
    tokens = TOKENS[mode]
    axis = {
        "gridcolor": tokens.line, "linecolor": tokens.line, "zerolinecolor": tokens.muted, "zerolinewidth": 1,
        "tickfont": {"color": tokens.muted, "size": SMALL_SIZE},
        "title": {"font": {"color": tokens.muted, "size": SMALL_SIZE}},
        "ticks": "", "automargin": True,
    }  # fmt: skip
    layout = go.Layout(
        font={"family": FONT, "size": TEXT_SIZE, "color": tokens.ink},
        paper_bgcolor=tokens.paper,
        plot_bgcolor=tokens.paper,
        colorway=[light if mode == "light" else dark for light, dark in HUES],
        xaxis=axis,
        yaxis=axis,
        hoverlabel={"bgcolor": tokens.panel, "bordercolor": tokens.line,
                    "font": {"family": FONT, "size": TEXT_SIZE, "color": tokens.ink}},
        showlegend=False,
        dragmode=False,
        margin={"l": 0, "r": 0, "t": 48, "b": 48},
    )  # fmt: skip
    return go.layout.Template(layout=layout)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG counts it, from 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _channels(color))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
