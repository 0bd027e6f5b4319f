"""Starts the dashboard: `python -m pages.parts.start run app.py …` is `streamlit run app.py …`, but for three things.

Streamlit takes a folder called `pages` for its older kind of multipage app until `app.py` has run once. Whoever opens a
deep link first would find "Page not found" laid over the right page. So it is told beforehand that this is not one.

The database is taken as the server starts, so that jobs in line begin and events are read in also while no browser is
open.

What the pages import is imported meanwhile too: scipy alone would keep a page's first visitor waiting for a second.
"""

from __future__ import annotations

import importlib
import threading

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.cli import main

from pages.parts.owner import open_early

AHEAD = ("sts_core.results.overlap", "sts_core.figures.lines", "sts_core.figures.ranks", "sts_core.figures.changes")
"""The heaviest of what pages import, none of which knows of Streamlit."""


def read_ahead() -> None:
    """Import them while the server comes up and nobody waits."""
    for name in AHEAD:
        importlib.import_module(name)


if __name__ == "__main__":
    PagesManager.uses_pages_directory = False
    open_early()
    threading.Thread(target=read_ahead, name="read ahead", daemon=True).start()
    main(prog_name="streamlit")
