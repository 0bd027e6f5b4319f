"""What stands around the figures of several pages: how many features count, and the tools of a figure."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from sts_core.figures import words

DEFAULT_N = 100


def choose_n(known: Sequence[int]) -> int:
    """How many of the most shifted features count: one choice for all pages, kept in the URL."""
    usual = DEFAULT_N if DEFAULT_N in known else known[-1]
    n = st.segmented_control(
        "N, most shifted features",
        known,
        default=usual,
        required=True,
        key="n",
        bind="query-params",
        help=words.TERMS["n"],
    )
    return n if n in known else usual


def picture(name: str, height: float) -> dict[str, object]:
    """The figure's tools: only the one that saves it as a picture, large enough for a slide."""
    return {
        "displaylogo": False,
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {"format": "png", "filename": name, "width": 1000, "height": int(height), "scale": 2},
    }
