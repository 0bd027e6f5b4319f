"""Starts the dashboard: `python -m pages.parts.start run app.py …` is `streamlit run app.py …`, but for four things.

Streamlit takes a folder called `pages` for its older kind of multipage app until `app.py` has run once. Whoever opens a
deep link first would find "Page not found" laid over the right page. So it is told beforehand that this is not one.

The database is taken as the server starts, so that jobs in line begin and events are read in also while no browser is
open.

What the pages import is imported meanwhile too, and a first figure is drawn: scipy alone would keep a page's first
visitor waiting for a second, and the first figure is twenty times as slow as the next.

When all is closed and only the interpreter is taken apart, nobody is told of it any more.
"""

from __future__ import annotations

import atexit
import importlib
import os
import pkgutil
import sys
import threading
import time

from streamlit.runtime import Runtime
from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.cli import main

from pages import parts
from pages.parts.owner import open_early

AHEAD = ("sts_core.results.overlap", "sts_core.figures.lines", "sts_core.figures.ranks", "sts_core.figures.changes")
"""The heaviest of what pages import, none of which knows of Streamlit."""


def read_ahead() -> None:
    """Import them while the server comes up and nobody waits, what the pages are made of as soon as it is there."""
    for name in AHEAD:
        importlib.import_module(name)
    from sts_core.figures.lines import Series, step_lines

    step_lines([Series("", [1, 2], [0.0, 1.0], "#000000")], "", "").to_json()
    while not Runtime.exists():  # a component asks for it as it is imported
        time.sleep(0.05)
    for part in pkgutil.iter_modules(parts.__path__, f"{parts.__name__}."):
        importlib.import_module(part.name)


def hush() -> None:
    """Let what the interpreter's end prints go nowhere.

    Threads that wait for the next request hold on to modules until then, and DuckDB's binding lists each of its own
    objects in them as a leak: a hundred lines after every Ctrl-C, which say nothing to whoever pressed it.
    """
    sys.stderr.flush()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)


if __name__ == "__main__":
    atexit.register(hush)  # before all else of ours, so that it runs after it
    PagesManager.uses_pages_directory = False
    open_early()
    threading.Thread(target=read_ahead, name="read ahead", daemon=True).start()
    main(prog_name="streamlit")
