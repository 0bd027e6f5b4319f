"""One line about the process that keeps a model loaded, and the button that lets it go."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts.escape import plain
from sts_core.figures.numbers import duration, size
from sts_core.jobs import warm


def kept_loaded() -> None:
    """Draw the line; nothing when no such process lives."""
    standing = warm.standing()
    if standing is None:
        return
    loaded = list(dict.fromkeys(Path(name).name for name in standing.get("loaded", [])))
    left = standing.get("seconds_left")
    idle = "A process is there to keep a model loaded" if left is None else "A process waits to load a model"
    words = [f"Kept loaded: {plain(' · '.join(loaded))}" if loaded else idle]
    if "bytes" in standing:
        words.append(f"{size(standing['bytes'])} of memory")
    words.append("at work" if left is None else f"goes home in {duration(left)} unless it is asked something")
    with st.container(horizontal=True, vertical_alignment="center", key="kept_loaded", gap="small"):
        st.caption(f":material/local_fire_department: {'; '.join(words)}.")
        st.button(
            "Let it go", key="let_go", type="tertiary", on_click=warm.send_home,
            help="The next question or measurement loads the model anew, which takes some seconds.",
        )  # fmt: skip
