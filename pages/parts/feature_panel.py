"""One feature opened beside a ranking: its numbers on the target set and its mean activation in each domain."""

from __future__ import annotations

import streamlit as st

from pages.parts.escape import plain
from pages.parts.feature import choose_feature
from pages.parts.feature_facts import facts, sentence, show_domains
from sts_core.figures.numbers import count
from sts_core.results.spread import Spread
from sts_core.store.results import Stored


def feature_panel(stored: Stored, found: Spread, feature: int) -> None:
    """Draw it, in a card that can be closed, with the way to its whole page."""
    with st.container(border=True, key="feature"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.header(f"Feature {count(feature)}", anchor=False)
            if st.button("Its whole page", key="open_feature", type="tertiary", icon=":material/token:"):
                st.switch_page("pages/views/features.py")
            st.button(
                "Close", key="close_feature", type="tertiary", icon=":material/close:",
                on_click=choose_feature, args=(stored, None),
            )  # fmt: skip
        st.markdown(f":gray[{plain(sentence(stored, feature, len(found.order)))}]")
        left, right = st.columns([0.34, 0.66], gap="large")
        with left:
            st.table(facts(stored, feature), border="horizontal", width="stretch")
        with right:
            show_domains(stored, feature)
