"""The choices of the transfer page: which score over which features, held against which outcome. All in the URL."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.transfer_data import ACT, DIMS, Choice
from sts_core.errors import UserError
from sts_core.figures import words
from sts_core.figures.transfer import Order
from sts_core.results.actual import Actual
from sts_core.results.agreement import HARM, SIZE

LEAST, MOST, USUAL = 10, 2_000, 100
"""The N of the slider."""
MOST_LISTED = 5_000
SLIDER = 280
"""Pixels it is wide."""
_N = "top"
_OTHERS = ("metric", "measured", "outcome", "dims", "banded", "power", "bars_order")
"""The session's keys of the slider and of all else that bars depend on."""
_DRAWN = "transfer_drawn"
ORDERS: dict[str, Order] = {"by score": "sorted", "as listed": "pinned", "kindred": "grouped"}
_OUTCOMES = {HARM: "harm", SIZE: "size of change"}
_POWERS = {1: "mean", 2: "squares"}


class Drawn(NamedTuple):
    """What the bars show."""

    choice: Choice
    order: Order


def remember(key: str, drawn: Drawn) -> None:
    """What was drawn of this result, for `slid`."""
    st.session_state[_DRAWN] = (key, _others(), drawn)


def forget() -> None:
    """Nothing was drawn before."""
    st.session_state.pop(_DRAWN, None)


def slid(key: str) -> Drawn | None:
    """What the bars are to show where nothing was moved since but the slider of N, known before any choice is drawn."""
    before, others, drawn = st.session_state.get(_DRAWN, ("", (), None))
    if before != key or others != _others() or drawn.choice.dims not in ("icl", "random") or drawn.choice.ranks:
        return None
    n = st.session_state.get(_N)
    return None if n is None else drawn._replace(choice=drawn.choice._replace(n=int(n)))


def _others() -> tuple[Any, ...]:
    return (st.query_params.get("actual"), *(st.session_state.get(key) for key in _OTHERS))


def choose_score() -> str:
    """STS act or STS icl: one choice with the Workbench."""
    metric = st.segmented_control(
        "Score",
        list(words.METRICS),
        format_func=words.METRICS.__getitem__,
        default=ACT,
        required=True,
        key="metric",
        bind="query-params",
        help=f"{words.TERMS['sts_act']}\n\n{words.TERMS['sts_icl']}",
    )
    return metric if metric in words.METRICS else ACT


def choose_metric(actual: Actual) -> str:
    """Which of the outcome's metrics, where it has several."""
    if len(actual.metrics) < 2:
        return actual.metric
    picked = st.selectbox(
        "Measured by", list(actual.metrics), list(actual.metrics).index(actual.metric), key="measured",
        bind="query-params", width=140, help="nll: the gold answer's negative log-likelihood, the primary measure.",
    )  # fmt: skip
    return picked if picked in actual.metrics else actual.metric


def choose_outcome() -> str:
    """Signed harm, or the size of the change as in the paper."""
    picked = st.segmented_control(
        "Outcome", list(_OUTCOMES), format_func=_OUTCOMES.__getitem__, default=HARM, required=True, key="outcome",
        bind="query-params", help="Harm is signed: a domain that got better has negative harm. The paper takes sizes.",
    )  # fmt: skip
    return picked if picked in _OUTCOMES else HARM


def choose_features(features: int) -> tuple[str, int, tuple[int, int] | None, tuple[int, ...]]:
    """Who chooses the features, how many or which ranks, and the list of one's own."""
    dims: Any = st.selectbox(
        "Features chosen by", list(DIMS), format_func=DIMS.__getitem__, key="dims", bind="query-params", width=180,
        help="Demonstrations: the paper's way. The run itself: those that the fine-tune really shifted most. "
        "Chance: as many drawn at random, for contrast.",
    )  # fmt: skip
    dims = dims if dims in DIMS else "icl"
    if dims == "list":
        if listed := _listed(features):
            return dims, USUAL, None, listed
        st.caption("Until then, demonstrations choose.", width="content")
        dims = "icl"
    usual, most = min(USUAL, features), min(MOST, features)
    if dims in ("icl", "sft") and st.toggle(
        "Rank band", key="banded", bind="query-params", help="Features of these ranks in place of the first N."
    ):
        return dims, usual, _band(most), ()
    if most <= LEAST:
        return dims, most, None, ()
    n = st.slider(
        "N, features averaged over", LEAST, most, usual, key=_N, bind="query-params", width=SLIDER,
        help=words.TERMS["n"],
    )  # fmt: skip
    return dims, int(n), None, ()


def choose_power() -> int:
    """Means of absolute values, or of squares as the reference code takes them."""
    power = st.segmented_control(
        "Average of", list(_POWERS), format_func=_POWERS.__getitem__, default=1, required=True, key="power",
        bind="query-params", help="Squares are what the paper's reference code averages (METHOD 8).",
    )  # fmt: skip
    return power if power in _POWERS else 1


def choose_order() -> Order:
    """The order of the bars."""
    order = st.segmented_control(
        "Bars", list(ORDERS), default="by score", required=True, key="bars_order", bind="query-params",
        help="As listed keeps each domain's row where it is while N changes; kindred puts like domains together.",
    )  # fmt: skip
    return ORDERS.get(str(order), "sorted")


def choice_of(score: str, outcome: str, power: int, picked: tuple[str, int, Any, tuple[int, ...]]) -> Choice:
    """All of them together."""
    dims, n, ranks, features = picked
    return Choice(score, dims, n, ranks, features, power, outcome)


def _band(most: int) -> tuple[int, int]:
    usual = (min(101, most), min(200, most))
    first, last = st.slider(
        "Ranks by shift", 1, most, usual, key="band", bind="query-params", width=SLIDER, help="Both ends included."
    )
    return int(first) - 1, int(last)


def _listed(features: int) -> tuple[int, ...]:
    text = st.text_input(
        "Feature numbers", key="listed", bind="query-params", max_chars=100_000, placeholder="12, 40, 77", width=SLIDER
    )
    parts = [part for part in re.split(r"[\s,;]+", text or "") if part]
    wrong = next((part for part in parts if not (part.isascii() and part.isdigit() and len(part) < 10)), None)
    if wrong is not None or len(parts) > MOST_LISTED:
        raise UserError(f"{wrong!r} is no feature number" if wrong else "The list is too long", "Write 12, 40, 77.")
    listed = tuple(dict.fromkeys(int(part) for part in parts))
    if (highest := max(listed, default=0)) >= features:
        raise UserError(f"There is no feature {highest}", f"Choose from 0 to {features - 1}.")
    return listed
