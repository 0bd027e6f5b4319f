"""The database behind the pages: owned by this server from its start, or told who has it. One line on every page."""

from __future__ import annotations

import logging
import threading

import streamlit as st

from pages.parts.escape import plain
from sts_core.errors import UserError
from sts_core.store import keeper

_LOG = logging.getLogger(__name__)


def open_early() -> None:
    """Take the database while the server comes up, before anyone looks, or as soon as whoever has it lets go."""
    threading.Thread(target=_keep, name="keep database", daemon=True).start()


def _keep() -> None:
    told = ""
    while True:
        try:
            trouble: Exception | None = keeper.keep().trouble
        except (UserError, OSError) as error:  # the pages try as well, and tell it
            trouble = error
        if trouble is not None and str(trouble) != told:
            _LOG.warning("the database is not ours: %s", trouble)
        told = str(trouble or "")
        threading.Event().wait(keeper.ASK_EVERY)


def owner_line() -> None:
    """Keep the database; a line where it is another's, or where something about it should be known."""
    try:
        standing = keeper.keep()
    except UserError as error:
        standing = keeper.Standing(False, error, "", None)
    if standing.trouble is not None:
        words = (
            f"{plain(standing.trouble.message)}. {plain(standing.trouble.hint)} What is shown may be some seconds old."
        )
        st.warning(words, icon=":material/lock:")
    elif standing.notice:
        st.info(plain(standing.notice), icon=":material/info:")
