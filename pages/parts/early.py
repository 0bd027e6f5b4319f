"""What a person waits for goes first.

The drawing library is fetched while nobody waits: five megabytes that the first figure would wait for otherwise. The
page's own script asks for it only with the first figure. What is asked for here is the same file under the same name,
so that it is fetched and read once; where that file is not found, figures wait for it as they did.

And an answer is sent before what takes longer is made: see `send_first`.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import streamlit as st

_SCRIPTS = Path(st.__file__).parent / "static" / "static" / "js"
_WANTED = ("PlotlyChart", "DataFrame")
"""What draws figures and tables."""
_IDLE = "<script>for (const name of {names}) requestIdleCallback(() => import(`./static/js/${{name}}`));</script>"
_MOMENT = 0.01
"""Seconds: every five milliseconds the server looks what there is to send."""


def send_first() -> None:
    """Let what is drawn so far reach the browser before the rest is made.

    The server's threads take turns. Without this the one that sends gets its turns between the making of figures, and
    the browser, which draws all that has come at once, shows the title with them.
    """
    time.sleep(_MOMENT)


def fetch_early() -> None:
    """Let the browser fetch what figures and tables need, as soon as it has nothing else to do."""
    if names := _names():
        st.html(_IDLE.format(names=list(names)), unsafe_allow_javascript=True)


@cache
def _names() -> tuple[str, ...]:
    """The files as this version of Streamlit has them."""
    found = (sorted(_SCRIPTS.glob(f"{name}.*.js")) for name in _WANTED)
    return tuple(files[0].name for files in found if len(files) == 1)
