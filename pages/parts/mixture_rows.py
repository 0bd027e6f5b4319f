"""Some rows of a mixture to read: one set at a time, a page of rows, long texts folded. All of it is text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from pages.parts.escape import plain
from pages.parts.mixture_data import Text
from sts_core.figures.numbers import count

PAGE = 5
LONGEST = 400
"""Letters that stand there at once; a longer text is behind a fold."""
WHOLE = 20_000
"""Letters of one text at most, opened too."""
Read = Callable[[str, int, int], Sequence[Text]]
"""Set, first, last -> these rows of it."""


def show_rows(counts: Mapping[str, int], read: Read, key: str, target: str) -> None:
    """Draw a page of the rows of one set; only these are read. `target` is what the training set is called."""
    names = [name for name, rows in counts.items() if rows]
    if not names:
        st.caption("There is no row to show.")
        return
    chosen_key, page_key = f"{key}_set", f"{key}_page"
    if st.session_state.get(chosen_key) not in (None, *names):
        del st.session_state[chosen_key]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        usual = next((i for i, name in enumerate(names) if name != "target"), 0)
        name = st.selectbox(
            "Rows of", names, usual, key=chosen_key, width=260,
            format_func=lambda one: f"{target if one == 'target' else one} ({count(counts.get(one, 0))})",
        )  # fmt: skip
        name = name if name in names else names[usual]
        pages = max(1, math.ceil(counts[name] / PAGE))
        st.session_state[page_key] = min(max(1, int(st.session_state.get(page_key, 1))), pages)
        page = int(st.number_input(f"Page of {count(pages)}", 1, pages, key=page_key, width=140))
    first = (page - 1) * PAGE
    for text in read(name, first, min(first + PAGE, counts[name])):
        _row(text)


def _row(text: Text) -> None:
    with st.container(border=True, gap="small"):
        st.caption(f"Row {count(text.number)}")
        _text("Question", text.question)
        if text.answer is None:
            st.markdown(":gray[The model has still to answer: its own words are asked for in the job.]")
        else:
            _text("Answer", text.answer)


def _text(what: str, text: str) -> None:
    short = " ".join(text.split())
    if len(short) <= LONGEST:
        st.markdown(f"**{what}** {plain(short)}")
        return
    st.markdown(f"**{what}** {plain(short[:LONGEST])} …")
    with st.expander(f"The whole {what.lower()} ({count(len(text))} letters)", type="compact"):
        st.code(text[:WHOLE], language=None, wrap_lines=True)
