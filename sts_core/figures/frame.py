"""What frames every figure: title and caption in their corners, and the rows of domains with name and number."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import plotly.graph_objects as go

from sts_core.figures.numbers import DASH
from sts_core.figures.theme import LINE, SMALL_SIZE, TOKENS, Mode, template
from sts_core.figures.unseen import boxed

TOP, TITLE_LINE, CAPTION_LINE, AXIS = 14, 20, 17, 44
"""Pixels above the title, of its lines and the caption's, and of an axis with its words."""
ROW = 29
"""Pixels a domain's row and the air around it take."""
NUMBERS = 112
"""Pixels the column of numbers takes."""
LONGEST_NAME, LETTER = 22, 7
"""Letters of a name that are shown, and the pixels one takes."""


class Frame(NamedTuple):
    """Title and caption in lines, and the margins they need."""

    heading: str
    lines: list[str]
    top: int
    bottom: int


def frame(title: str, caption: Sequence[str], axis: int = AXIS + 6) -> Frame:
    """Break title and caption into lines; `axis` is what stands between plot and caption."""
    heading = broken(title, LINE)
    lines = [part for text in caption for part in broken(text, LINE + 10).split("<br>")]
    top = TOP + TITLE_LINE * (heading.count("<br>") + 1)
    return Frame(heading, lines, top, axis + CAPTION_LINE * len(lines))


def drawn(
    traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], notes: Sequence[Mapping[str, Any]], mode: Mode
) -> go.Figure:
    """A figure made in one go of plain tables: put together piece by piece it would take four times as long."""
    whole = {"template": template(mode), **layout, "annotations": [_note(note) for note in notes]}
    return go.Figure({"data": list(traces), "layout": whole})


def add_words(figure: go.Figure, framed: Frame, left: float, mode: Mode) -> None:
    """Put the words of a frame on a figure."""
    add_notes(figure, words(framed, left, mode))


def words(framed: Frame, left: float, mode: Mode) -> list[dict[str, Any]]:
    """Title at the upper left corner, caption at the lower left, `left` being the margin there.

    Plotly's own title of two lines is cut off at the top.
    """
    corner = {"x": 0, "xref": "paper", "xshift": -left, "xanchor": "left", "yref": "paper", "align": "left"}
    title = {
        **corner, "y": 1, "yshift": framed.top, "yanchor": "top", "name": "title", "text": framed.heading,
        "font": {"size": 15, "weight": 600, "color": TOKENS[mode].ink},
    }  # fmt: skip
    below = {
        **corner, "y": 0, "yshift": -framed.bottom, "yanchor": "bottom", "name": "caption",
        "text": "<br>".join(framed.lines), "font": {"size": SMALL_SIZE, "color": TOKENS[mode].muted},
    }  # fmt: skip
    return [title, below] if framed.lines else [title]


def add_notes(figure: go.Figure, notes: Sequence[Mapping[str, Any]]) -> None:
    """Annotations without arrows, all in one go: one by one they would take most of the time of a figure."""
    figure.layout.annotations = [*figure.layout.annotations, *map(_note, notes)]


def name_rows(figure: go.Figure, names: Sequence[str], mode: Mode) -> int:
    """A row for each name, the first on top; returns the margin that the names need."""
    axis, left = named_rows(names, mode)
    figure.update_yaxes(axis)
    return left


def named_rows(names: Sequence[str], mode: Mode) -> tuple[dict[str, Any], int]:
    """An axis with a row for each name, the first on top, and the margin that the names need."""
    shown = [short(name) for name in names]
    axis = {
        "tickmode": "array", "tickvals": list(range(len(shown))),
        "ticktext": [escape(name, quote=False) for name in shown], "range": [max(len(shown), 2) - 0.4, -0.6],
        "showgrid": False, "fixedrange": True, "ticklabelstandoff": 12,
        "tickfont": {"size": 13, "color": TOKENS[mode].ink}, "zeroline": False, "automargin": False,
    }  # fmt: skip
    return axis, 24 + LETTER * max(map(len, shown), default=0)


def add_numbers(figure: go.Figure, texts: Sequence[str | None], mode: Mode, missing: str = "not measured") -> None:
    """Put the number of each row in one column at the right, so that they are read down like a table."""
    tokens = TOKENS[mode]
    column = {"x": 1, "xref": "paper", "yref": "y", "xanchor": "left", "xshift": 12, "align": "left"}
    notes = [
        {
            **column, "y": place, "text": f"{DASH} {missing}" if text is None else text,
            "font": {"size": 12, "color": tokens.muted if text is None else tokens.ink},
        }
        for place, text in enumerate(texts)
    ]  # fmt: skip
    add_notes(figure, notes)


def broken(text: str, letters: int) -> str:
    """Text in lines of at most so many letters, made safe to stand in a figure."""
    return "<br>".join(
        escape(line, quote=False) for line in textwrap.wrap(boxed(text), letters, break_on_hyphens=False)
    )


def short(name: str, longest: int = LONGEST_NAME) -> str:
    """A name's first letters, with an ellipsis where some are left out."""
    return boxed(name if len(name) <= longest else name[: longest - 1] + "…")


def _note(note: Mapping[str, Any]) -> dict[str, Any]:
    return {"showarrow": False, **note}
