"""The one feature that is looked at: the URL's `feature`, the same on every page, and only for the SAE it is of."""

from __future__ import annotations

import streamlit as st

from sts_core.store.results import Stored

_FEATURE, _SHOWN = "feature", "shown_feature"


def chosen_feature(stored: Stored, features: int) -> int | None:
    """The feature of the URL, else the one this session looked at on another page; None when there is none.

    A number that the SAE does not have is dropped, and so is one that was chosen of another SAE.
    """
    asked = st.query_params.get(_FEATURE, "")
    before, sae = st.session_state.get(_SHOWN, (None, stored.sae))
    feature = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else before
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
