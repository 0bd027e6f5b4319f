"""The table of shifted features: chosen and ordered in SQL, a row of it opens the feature it stands for."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.escape import plain
from pages.parts.feature import choose_feature
from pages.parts.measured import ranked
from pages.parts.style import mode
from sts_core.figures import words
from sts_core.figures.bars import signed_bars
from sts_core.figures.numbers import DASH, count
from sts_core.store.results import Stored

MOST_ROWS = 300
ORDERS = {"shift": "Shift", "up": "Most raised", "down": "Most lowered", "gain": "Gain in firing"}
"""An order's name in the store -> its name on the page."""
RATES = {0.0: "Any", 0.001: "0.1 %", 0.01: "1 %", 0.1: "10 %"}
"""The least firing rate -> its name on the page."""


def ranking(stored: Stored, features: int, chosen: int | None) -> None:
    """Draw the choice of order and filter, and the table; a row that is picked becomes the feature looked at."""
    order, least = _choose()
    table = ranked(str(stored.folder), stored.key, order, least, MOST_ROWS)
    st.caption(_told(table, order, least, features))
    if table.empty:
        return
    ids = [int(f) for f in table["feature"]]
    key = f"features-{stored.key[:12]}-{order}-{least}"
    at: Any = {"selection": {"rows": [ids.index(chosen)]}} if chosen in ids else None
    st.dataframe(
        _shown(table),
        hide_index=True,
        height=388,
        column_order=list(_columns(table)),
        column_config=_columns(table),
        placeholder=DASH,
        key=key,
        on_select=partial(_pick, stored, key, ids),
        selection_mode=["single-row", "single-cell"],
        selection_default=at,
        alt="Features with their shift, activation and firing rate",
    )


def _choose() -> tuple[str, float]:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        order = st.segmented_control(
            "Order by",
            list(ORDERS),
            format_func=ORDERS.__getitem__,
            default="shift",
            required=True,
            key="order",
            bind="query-params",
            help="Gain in firing: share of tokens with demonstrations minus share without.",
        )
        least = st.segmented_control(
            "Fires on at least",
            list(RATES),
            format_func=RATES.__getitem__,
            default=0.0,
            required=True,
            key="fires",
            bind="query-params",
            help="Share of the target's tokens, in whichever of the two arms it is higher.",
        )
    return (order if order in ORDERS else "shift"), (least if least in RATES else 0.0)


def _told(table: pd.DataFrame, order: str, least: float, features: int) -> str:
    """What the rows are, and how many there would be."""
    matching = int(table["matching"].iloc[0]) if len(table) else 0
    way = {"up": " that demonstrations raise", "down": " that demonstrations lower", "gain": " that fire more often"}
    fires = f", firing on at least {RATES[least]} of tokens" if least else ""
    if not matching:
        return f"No feature of {count(features)}{way.get(order, '')}{fires}."
    first = f"The first {count(len(table))} of " if matching > len(table) else ""
    what = f"{count(matching)} features{way.get(order, '')}{fires}"
    return plain(f"{first}{what}. Pick a row to see where the feature is active.")


def _pick(stored: Stored, key: str, ids: list[int]) -> None:
    """The picked row's feature; none when the pick was taken back. A cell that is clicked picks its row."""
    picked = st.session_state[key]["selection"]
    row = next((row for row, _ in picked["cells"]), next(iter(picked["rows"]), None))
    if picked["cells"]:
        st.session_state[key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    choose_feature(stored, ids[row] if row is not None and row < len(ids) else None)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """The rows as the table shows them: rates in per cent, and the signed shift once more as a bar around zero."""
    bars = signed_bars(table["signed_icl"], mode())
    return table.assign(way=bars, **{name: 100 * table[name] for name in ("rate_base", "rate_icl")})


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    most = float(table["shift_icl"].max()) or 1.0
    column = st.column_config
    return {
        "rank": column.NumberColumn("Rank", format="%d", help="By shift, among all features.", pinned=True),
        "feature": column.NumberColumn("Feature", format="%d", help=words.TERMS["feature"], pinned=True),
        "shift_icl": column.ProgressColumn(
            "Shift", format="%.3f", min_value=0, max_value=most, help=words.TERMS["shift"]
        ),
        "signed_icl": column.NumberColumn("Signed", format="%+.3f", help="Above zero: demonstrations raise it."),
        "way": column.ImageColumn("Lower | higher", width=116, help="The signed shift as a bar around zero."),
        "mean_base": column.NumberColumn(
            "Mean, without", format="%.3f", help="Mean activation without demonstrations."
        ),
        "mean_icl": column.NumberColumn("Mean, with", format="%.3f", help="Mean activation with demonstrations."),
        "rate_base": column.NumberColumn(
            "Fires, without", format="%.1f %%", help="Share of tokens, without demonstrations."
        ),
        "rate_icl": column.NumberColumn("Fires, with", format="%.1f %%", help="Share of tokens, with demonstrations."),
        "shift_noise": column.NumberColumn(
            "Rounding", format="%.3f", help="How far rounding alone moves it; a dash where that was not measured."
        ),
        "most_active_in": column.TextColumn("Most active in", help="The domain with the highest mean activation."),
    }
