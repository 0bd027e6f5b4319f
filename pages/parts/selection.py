"""One selection for all pages: what is chosen to be measured, and which finished result is looked at.

The URL's `result` is the head of the key of the result looked at. The choices are widgets bound to the URL whose
defaults are what that result was measured with: so a link is a result and what differs from it. Nonsense is dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.choices import DEFAULTS, choices_from, same_choice, spec_from
from pages.parts.escape import plain
from sts_core.errors import UserError
from sts_core.figures.frame import short
from sts_core.results import Result
from sts_core.store.results import Stored, listing

LINK_TOLD = "link_told"
"""The session's word on a link that leads nowhere, for whoever draws the page."""
_RESULT, _SHOWN, _NEXT = "result", "shown_result", "show_next"
KEY_HEAD = 12
"""How much of a key stands in the URL."""
FEWEST_LETTERS = 6


class Selection(NamedTuple):
    """What a page works with."""

    chosen: dict[str, Any]
    spec: dict[str, Any] | None
    """The checked spec of the choices; None when they cannot be, then `error` says why."""
    error: UserError | None
    stored: Stored | None
    """The result looked at, as the store lists it; None when there is none at all."""
    result: Result | None

    @property
    def stale(self) -> bool:
        """The choices ask for something else than the result shown."""
        if self.result is None:
            return False
        return self.spec is None or not same_choice(self.spec, self.result.manifest["spec"])


def settle() -> tuple[list[Stored], Stored | None]:
    """The stored results and the one to look at. Called once a run, before any field of the choices."""
    stored = _one_a_key(listing())
    picked = _matching(stored, st.session_state.pop(_NEXT, ""))
    if picked is not None:
        st.session_state.update(measured_with(picked))
    shown = picked or _remembered(stored)
    _tell_link(shown)
    return stored, shown


def measured_with(shown: Stored | None) -> dict[str, Any]:
    """The choices a result was measured with; the usual ones where the page has none that make its spec."""
    if shown is None:
        return DEFAULTS
    try:
        return choices_from(open_stored(str(shown.folder), shown.key).manifest["spec"]) or DEFAULTS
    except UserError:
        return DEFAULTS


def select(chosen: dict[str, Any], shown: Stored | None) -> Selection:
    """The choices checked, beside the result."""
    result = open_stored(str(shown.folder), shown.key) if shown else None
    try:
        return Selection(chosen, spec_from(chosen), None, shown, result)
    except UserError as error:
        return Selection(chosen, None, error, shown, result)


def show_next(key: str) -> None:
    """Look at this result from the next run on."""
    st.session_state[_NEXT] = key


@st.cache_resource(max_entries=4, show_spinner=False)
def open_stored(folder: str, key: str) -> Result:
    """A finished result never changes: opened once. The key is part of the cache's key, for the demo may be renewed."""
    return Result(Path(folder))


def _remembered(stored: list[Stored]) -> Stored | None:
    """The URL's result, else the one this session looked at on another page, else the newest."""
    asked = st.query_params.get(_RESULT, "")
    before = st.session_state.get(_SHOWN, "")
    found = _matching(stored, asked) or _matching(stored, before) or (stored[0] if stored else None)
    if asked and found is not None and not found.key.startswith(asked):
        words = f"The result {plain(short(asked, 20))} of this link is not here; another one is shown."
        st.session_state[LINK_TOLD] = words
    return found


def _tell_link(shown: Stored | None) -> None:
    """Write the result into the URL, also when it is just the newest: a link shows what it showed."""
    told = st.query_params.get(_RESULT)
    if shown is None:
        if told is not None:
            del st.query_params[_RESULT]
        return
    st.session_state[_SHOWN] = shown.key
    if told != shown.key[:KEY_HEAD]:
        st.query_params[_RESULT] = shown.key[:KEY_HEAD]


def _matching(stored: list[Stored], asked: str) -> Stored | None:
    return next((s for s in stored if s.key.startswith(asked)), None) if len(asked) >= FEWEST_LETTERS else None


def _one_a_key(stored: list[Stored]) -> list[Stored]:
    """Of two with the same key what was measured here stands before what was shipped, also where that was imported."""
    first: dict[str, Stored] = {}
    for one in sorted(stored, key=lambda one: one.demo):
        first.setdefault(one.key, one)
    return [one for one in stored if first[one.key] is one]
