"""Ledger: how good predictions have been here. Each was written down before its run, and is scored by what came."""

from __future__ import annotations

import streamlit as st

from pages.parts.context import context_bar
from pages.parts.escape import plain
from pages.parts.ledger_data import Due, due, read
from pages.parts.ledger_figures import draw_hits, draw_ranks
from pages.parts.ledger_table import ledger_table
from pages.parts.messages import show_empty, told
from sts_core.figures import ledger_words as words

EVERY, SOON = 5.0, 0.5
"""Seconds between two looks while a run is under way, and while the job folders are read in for the first time."""


def page() -> None:
    context_bar()
    now = due()
    st.fragment(body, run_every=SOON if now.filling else EVERY if now.going else None)(now)


def body(before: Due) -> None:
    """All of it, drawn again by itself as long as a run may still change it."""
    with told():
        if due() != before:
            st.rerun()
        now = read()
        if before.filling and not now.entries:
            st.title("The job folders are being read in …", anchor=False)
            return
        with st.container(key="answer", gap="small"):
            st.title(plain(words.headline(now.whole, now.entries)), anchor=False)
            st.markdown(f":gray[{plain(words.explanation(now.whole) if now.entries else words.HOW)}]")
        if not now.entries:
            nothing_written()
        else:
            if now.scored:
                left, right = st.columns([0.56, 0.44], gap="medium")
                with left:
                    draw_ranks(now)
                with right:
                    draw_hits(now)
            st.header("Every prediction", anchor=False)
            ledger_table(now)
        if without := words.without_words(now.without):
            st.caption(plain(without))


def nothing_written() -> None:
    """Why it is empty, and the one way to fill it."""
    show_empty(
        "No prediction yet",
        "Start a run with a prediction: its scores are written down before the first step, and scored here by "
        "themselves when the run has been evaluated.",
        ":material/lock:",
    )
    if st.button("Start a fine-tuning run", type="primary", icon=":material/model_training:"):
        st.switch_page("pages/views/runs.py")


with told():
    page()
