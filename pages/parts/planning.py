"""A button that asks what an order would do, the wait for the child that finds it out, and what it found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.messages import show_error
from pages.parts.plan import Asked
from sts_core.errors import UserError

EVERY = 0.5
"""Seconds between two looks at a plan that is being made."""


class Planning(NamedTuple):
    """How a page plans its kind of order."""

    name: str
    """What its keys begin with."""
    button: str
    waits: str
    """What is said while the child works."""
    command: tuple[str, ...]
    help: str | None = None
    """What pressing the button does."""
    said: Callable[[UserError], UserError] = lambda error: error
    """Why there is no plan, in the words of the page."""


def planned(values: dict[str, Any], how: Planning) -> dict[str, Any] | None:
    """The plan of these values, once it is there; before, what asks for it is drawn, or why there is none."""
    asked: Asked | None = st.session_state.get(f"{how.name}_asked")
    if asked is None or st.session_state.get(f"{how.name}_planned") != values:
        st.button(how.button, type="primary", icon=":material/checklist:", on_click=_ask, args=(values, how),
                  help=how.help)  # fmt: skip
        return None
    answer = asked.answer()
    if answer is None:
        st.fragment(_wait, run_every=EVERY)(asked, how.waits)
        return None
    if answer.error or answer.plan is None:
        show_error(how.said(answer.error or UserError("The plan gave no answer", "Try again.")))
        st.button("Plan again", key=f"{how.name}_plan_again", icon=":material/refresh:", on_click=_ask,
                  args=(values, how))  # fmt: skip
        return None
    return answer.plan


def _ask(values: dict[str, Any], how: Planning) -> None:
    before = st.session_state.get(f"{how.name}_asked")
    if before is not None:
        before.drop()
    st.session_state[f"{how.name}_planned"] = values
    st.session_state[f"{how.name}_asked"] = Asked(values, command=how.command)


def _wait(asked: Asked, words: str) -> None:
    """Looks until the plan is there; then the page is drawn once more, and nothing is polled any longer."""
    if asked.answer() is not None:
        st.rerun()
    st.caption(words)
    st.skeleton(height=90)
