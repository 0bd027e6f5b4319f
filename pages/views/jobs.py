"""Jobs & cache: what runs and what ran, the stored results, and the room they take."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from pages.parts.context import context_bar
from pages.parts.disk import rooms, taken
from pages.parts.escape import plain
from pages.parts.messages import show_empty, told
from pages.parts.progress import EVERY, amounts, cancel_button, result_key, share
from pages.parts.selection import show_next
from sts_core import folders
from sts_core.figures.numbers import count, day, duration, size
from sts_core.jobs.folder import Job
from sts_core.jobs.watch import all_jobs
from sts_core.store.results import Stored, listing

MOST_JOBS = 30
MOST_RESULTS = 200
LOG_LINES = 40
CHIPS: dict[str, tuple[str, Literal["gray", "blue", "green", "red"], str]] = {
    "waiting": ("Waiting", "gray", ":material/hourglass_empty:"),
    "running": ("Running", "blue", ":material/play_arrow:"),
    "done": ("Done", "green", ":material/check:"),
    "failed": ("Failed", "red", ":material/error:"),
    "cancelled": ("Cancelled", "gray", ":material/block:"),
    "dead": ("Vanished", "red", ":material/heart_broken:"),
}


def page() -> None:
    context_bar()
    jobs, stored = all_jobs(), listing()
    parts = rooms(str(folders.cache()))
    active = sum(job.active for job in jobs)
    running = "No job runs" if not active else "One job runs" if active == 1 else f"{active} jobs run"
    results = "one result is stored" if len(stored) == 1 else f"{count(len(stored))} results are stored"
    with st.container(key="answer"):
        st.title(f"{running}; {results}; the cache takes {size(sum(room.bytes for room in parts))}.", anchor=False)
    st.header("Jobs", anchor=False)
    if jobs:
        st.fragment(show_jobs, run_every=EVERY if active else None)(active)
    else:
        show_empty("No job yet", "A measurement started on the Workbench is a job and appears here.")
    st.header("Stored results", anchor=False)
    show_results(stored)
    st.header("Room on the disk", anchor=False)
    st.dataframe(
        [{"Part": room.name, "What": room.what, "Files": room.files, "Size": size(room.bytes)} for room in parts],
        hide_index=True,
        alt="Room each part of the cache takes",
    )


def show_jobs(active: int) -> None:
    """The newest jobs. When one ends the whole page is drawn anew, for then there may be a result more."""
    with told():
        jobs = all_jobs()
        if sum(job.active for job in jobs) != active:
            st.rerun()
        draw_jobs(jobs)


def draw_jobs(jobs: list[Job]) -> None:
    for job in jobs[:MOST_JOBS]:
        show_job(job)
    if len(jobs) > MOST_JOBS:
        st.caption(f"{count(len(jobs) - MOST_JOBS)} older jobs are in {plain(folders.jobs())}.")


def show_job(job: Job) -> None:
    with st.container(border=True, key=f"job_{job.id}", gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            label, color, icon = CHIPS.get(job.state, CHIPS["waiting"])
            st.badge(label, color=color, icon=icon)
            st.markdown(f"**{plain(job.title or job.id)}**", width="stretch")
            started = day(job.started.isoformat(), clock=True) if job.started else "not started"
            st.caption(f"{started} · {duration(job.seconds)}", width="content")
            _buttons(job)
        if job.active:
            st.progress(share(job) or 0.0, text=plain(job.stage or "starting"))
            st.caption(amounts(job) or "The size of the work is not known yet.")
        elif job.error:
            st.markdown(f":red[{plain(job.error)}] {plain(job.hint)}")
        with st.expander("Log", key=f"log_{job.id}", type="compact"):
            st.code("\n".join(job.log_tail(LOG_LINES)) or "The worker printed nothing.", language=None, wrap_lines=True)


def _buttons(job: Job) -> None:
    if job.active:
        cancel_button(job)
    elif job.state == "done" and st.button("Show", key=f"show_{job.id}", icon=":material/align_horizontal_left:"):
        with told():
            if key := result_key(job):
                show_next(key)
                st.switch_page("pages/views/workbench.py")


def show_results(stored: list[Stored]) -> None:
    if not stored:
        show_empty("No result yet", "Measure on the Workbench: what comes out is kept here.")
        return
    rows = [
        {
            "Finished": s.finished,
            "Target": s.target,
            "Model": s.model,
            "SAE": s.sae,
            "Layer": s.layer,
            "Domains": s.domains,
            "Size": size(taken(s.folder)),
            "Key": s.key[:12],
            "From": "shipped demo" if s.demo else "this machine",
        }
        for s in stored[:MOST_RESULTS]
    ]
    st.dataframe(
        rows,
        hide_index=True,
        alt="Stored results, newest first",
        column_config={
            "Finished": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm", timezone="UTC", pinned=True)
        },
    )


with told():
    page()
