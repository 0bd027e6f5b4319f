"""The ledger's two figures: how well predictions ranked what happened, and how many of the first three they named."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.charts import picture
from pages.parts.ledger_data import Ledger, rows
from pages.parts.style import mode
from sts_core.figures.ledger import HITS_TITLE, MOST_ROWS, RANKS_TITLE, hit_bars, spearman_dots
from sts_core.figures.numbers import count


def draw_ranks(now: Ledger) -> None:
    """Spearman of each, with its interval."""
    scored = now.scored
    median = " Dotted: the median." if len(scored) > 1 else ""
    caption = [
        f"95 % from drawing domains again, where there are at least five.{median} p: two-sided permutation test.",
        _which(len(scored)),
    ]
    figure = spearman_dots(rows(scored[:MOST_ROWS]), now.whole.median, caption, mode())
    _draw(figure, "ledger_ranks", RANKS_TITLE)


def draw_hits(now: Ledger) -> None:
    """The hardest hit three, beside chance."""
    scored = now.scored
    caption = ["Upright mark: what guessing would name on average.", _which(len(scored))]
    figure = hit_bars(rows(scored[:MOST_ROWS]), caption, mode())
    _draw(figure, "ledger_hits", HITS_TITLE)


def _draw(figure: Any, key: str, title: str) -> None:
    st.plotly_chart(figure, theme=None, key=key, alt=title, config=picture(key, figure.layout.height))


def _which(scored: int) -> str:
    if scored > MOST_ROWS:
        return f"The newest {count(MOST_ROWS)} of {count(scored)} scored predictions, the newest on top."
    return "n = 1 scored prediction." if scored == 1 else f"n = {count(scored)} scored predictions, the newest on top."
