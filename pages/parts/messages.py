"""How a page says that something is wrong or not there: what it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from pages.parts.escape import plain
from sts_core.errors import UserError


def show_error(error: UserError, log: list[str] | None = None) -> None:
    """The message, the hint and, where there is one, the end of a log."""
    st.error(plain(error.hint) if error.hint else " ", title=plain(error.message), icon=":material/error:")
    if log:
        with st.expander("Last lines of the log"):
            st.code("\n".join(log), language=None, wrap_lines=True)


@contextmanager
def told() -> Iterator[None]:
    """Show a UserError of the block in its place instead of ending the page with a traceback."""
    try:
        yield
    except UserError as error:
        show_error(error)


def show_empty(title: str, reason: str, icon: str = ":material/inbox:") -> None:
    """Why there is nothing here; the one button that fills it is drawn by the caller, below."""
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(f"{icon} **{title}**", text_alignment="center")
        st.caption(reason, text_alignment="center")


def nothing_measured(then: str) -> None:
    """The empty state of a page that shows a result: why it is empty, and the way to fill it."""
    show_empty("Nothing is measured yet", f"Measure on the Workbench: {then}.")
    if st.button("Go to the Workbench", type="primary", icon=":material/align_horizontal_left:"):
        st.switch_page("pages/views/workbench.py")
