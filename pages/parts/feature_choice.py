"""Which features are looked at, in which order: one ranking, that of the list and of a feature's previous and next."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.feature_data import features_with
from sts_core.figures.numbers import percent
from sts_core.store.browse import SILENT, Features, Polygon, Question
from sts_core.store.results import Stored

ORDERS = {
    "shift": "Shift", "up": "Most raised", "down": "Most lowered", "gain": "Gain in firing", "density": "Density",
    "rare": "Rarest", "active": "Activity",
}  # fmt: skip
"""An order's name in the store -> its name on the page."""
_KEEPS = {
    "up": "raised by demonstrations", "down": "lowered by demonstrations", "gain": "firing more often behind them",
    "rare": "firing at all", "active": "active in a domain",
}  # fmt: skip
"""What an order keeps alone: where features are counted, it is part of what they have in common."""
RATES = {0.0: "Any", 0.00001: "0.001 %", 0.0001: "0.01 %", 0.001: "0.1 %", 0.01: "1 %", 0.1: "10 %"}
MOST_LABELS = 200
"""Labels to choose from; there may be as many as features."""
_DRAWN = "drawn"
_MOST_CORNERS = 40
_ANY = ""


def choose(stored: Stored, features: Features, labels: pd.DataFrame) -> Question:
    """Draw the choices; all of them stand in the URL."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="question"):
        order = st.selectbox(
            "Rank by", list(ORDERS), format_func=ORDERS.__getitem__, key="by", bind="query-params", width=150,
            help="Gain in firing: share of tokens with demonstrations minus share without. Density: share of all "
            "tokens it fires on, without demonstrations. Activity: mean activation in its strongest domain.",
        )  # fmt: skip
        domain = st.selectbox(
            "Strongest in", [_ANY, *features.domains, SILENT], key="in", bind="query-params", width=180,
            format_func=lambda name: name or "any domain", help="The domain in which its mean activation is highest.",
        )  # fmt: skip
        least = st.selectbox(
            "Fires on at least", list(RATES), format_func=lambda rate: RATES.get(rate, percent(rate)), key="least",
            bind="query-params", width=130, help="Share of all tokens looked at, without demonstrations.",
        )  # fmt: skip
        label = _label(features.names(labels)[:MOST_LABELS])
        text = st.text_input(
            "Search", key="find", bind="query-params", max_chars=200, placeholder="a word or a number", width=200,
            help="In labels, explanations, notes and, where a gallery was made, examples; or a number: that feature.",
        )  # fmt: skip
        starred = st.toggle("Starred", key="starred", bind="query-params")
    return Question(
        order=order if order in ORDERS else "shift",
        domain=domain or "",
        label=label,
        starred=starred,
        least=least if least in RATES else 0.0,
        text=text or "",
        among=features_with(stored, text or ""),
        drawn=drawn(),
    )


def conditions(question: Question) -> list[str]:
    """The filters of a question in words."""
    told = []
    if question.domain:
        told.append(question.domain if question.domain == SILENT else f"strongest in {question.domain}")
    if question.label:
        told.append(f"labelled “{question.label}”")
    if question.least:
        told.append(f"firing on at least {RATES[question.least]} of tokens")
    if question.starred:
        told.append("starred")
    if question.text.strip():
        told.append(f"with “{question.text.strip()}”")
    if question.drawn:
        told.append("inside the line drawn")
    return [*told, _KEEPS[question.order]] if told and question.order in _KEEPS else told


def drawn() -> Polygon:
    """The line that was drawn around features, from the URL; none where it holds anything else."""
    corners = st.query_params.get(_DRAWN, "").split("_")
    try:
        found = tuple((float(x), float(y)) for x, y in (corner.split(",") for corner in corners))
    except ValueError:
        return ()
    whole = 3 <= len(found) <= _MOST_CORNERS and all(abs(value) < 100 for corner in found for value in corner)
    return found if whole else ()


def draw_line(polygon: Polygon) -> None:
    """Keep a line in the URL, with at most so many corners; an empty one takes it away."""
    step = max(1, -(-len(polygon) // _MOST_CORNERS))
    corners = [f"{x:.2f},{y:.2f}" for x, y in polygon[::step]]
    if len(corners) < 3:
        st.query_params.pop(_DRAWN, None)
    else:
        st.query_params[_DRAWN] = "_".join(dict.fromkeys(corners))


def _label(known: list[str]) -> str:
    """One of the labels there are."""
    if not known:
        return ""
    chosen: Any = st.selectbox(
        "Label",
        [_ANY, *known],
        key="label",
        bind="query-params",
        width=180,
        format_func=lambda name: name or "any label",
    )
    return chosen or ""
