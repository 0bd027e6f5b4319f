"""The one feature that is looked at: the URL's `feature`, the same on every page, and only for the SAE it is of."""

from __future__ import annotations

import streamlit as st

from pages.parts.escape import plain
from sts_core.figures.frame import short
from sts_core.figures.numbers import count
from sts_core.store.results import Stored

_FEATURE, _SHOWN = "feature", "shown_feature"
_PAGE, _STAYED = "drawn_page", "stayed_on_page"


def note_page(page: str) -> None:
    """Told by the door before a page is drawn: whether the one before was the same."""
    st.session_state[_STAYED] = st.session_state.get(_PAGE) == page
    st.session_state[_PAGE] = page


def chosen_feature(stored: Stored, features: int) -> int | None:
    """The feature of the URL, else the one this session looked at on another page; None when there is none.

    A page that had one and whose URL has none any more was gone back from.

    A number that the SAE does not have is dropped, and so is one that was chosen of another SAE.
    """
    asked = st.query_params.get(_FEATURE, "")
    before, sae = st.session_state.get(_SHOWN, (None, stored.sae))
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else None
    if asked and (number is None or number >= features):
        choices = f"Choose one from 0 to {count(features - 1)}."
        st.warning(f"There is no feature {plain(short(asked, 20))} in this SAE. {choices}", icon=":material/link_off:")
    feature = number if asked else None if st.session_state.get(_STAYED) else before
    if feature is None or feature >= features or (sae != stored.sae and feature == before):
        choose_feature(stored, None)
        return None
    choose_feature(stored, feature)
    return feature


def choose_feature(stored: Stored, feature: int | None) -> None:
    """Look at this feature from now on, or at none."""
    if feature is None:
        st.session_state.pop(_SHOWN, None)
        st.query_params.pop(_FEATURE, None)
        return
    st.session_state[_SHOWN] = (feature, stored.sae)
    if st.query_params.get(_FEATURE) != str(feature):
        st.query_params[_FEATURE] = str(feature)
