"""The button that has every feature of a result looked at (examples, what it writes, a name), and its progress."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts.messages import told
from pages.parts.progress import job_panel
from sts_core.jobs.folder import Job
from sts_core.jobs.launch import start
from sts_core.jobs.watch import active
from sts_core.store.results import Stored

KIND = "examples"


def reading(stored: Stored) -> None:
    """Draw the job that does it for this result, or the button that starts one."""
    job = _under_way(stored.folder)
    if job is not None:
        with st.container(border=True, key="reading"):
            job_panel(job)
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="read_features"):
        if st.button("Look at every feature", key="look_at_all", type="primary", icon=":material/search:"):
            with told():
                title = f"Examples and names, {stored.target} on {stored.model}"
                start(KIND, {"result": str(stored.folder)}, title)
                st.rerun()
        st.caption(
            "Gathers where each fires, what it writes and a name for it, in the background; about as long as the"
            " measurement took, twice.",
            width="content",
        )


def _under_way(result: Path) -> Job | None:
    return next((job for job in active() if job.kind == KIND and job.spec.get("result") == str(result)), None)
