"""Starts the dashboard: `python -m pages.parts.start run app.py …` is `streamlit run app.py …`, but for two things.

Streamlit takes a folder called `pages` for its older kind of multipage app until `app.py` has run once. Whoever opens a
deep link first would find "Page not found" laid over the right page. So it is told beforehand that this is not one.

The database is taken as the server starts, so that jobs in line begin and events are read in also while no browser is
open.
"""

from __future__ import annotations

from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.cli import main

from pages.parts.owner import open_early

if __name__ == "__main__":
    PagesManager.uses_pages_directory = False
    open_early()
    main(prog_name="streamlit")
