"""Jobs & cache: what runs, waits and ran, what can be done about it, the stored results, and the room they take."""

from __future__ import annotations

import streamlit as st

from pages.parts.context import context_bar
from pages.parts.disk import Room, rooms, taken
from pages.parts.jobs_detail import job_detail
from pages.parts.jobs_line import line_panel
from pages.parts.jobs_table import job_table
from pages.parts.kept_loaded import kept_loaded
from pages.parts.messages import show_empty, told
from sts_core import folders
from sts_core.figures.numbers import DASH, count, size
from sts_core.jobs.folder import Job, names
from sts_core.jobs.queue import in_line
from sts_core.jobs.watch import active
from sts_core.store.results import Stored, listing

MOST_RESULTS = 200


def page() -> None:
    context_bar()
    jobs, stored = active(), listing()
    parts = rooms(str(folders.cache()))
    results = "one result is stored" if len(stored) == 1 else f"{count(len(stored))} results are stored"
    with st.container(key="answer"):
        room = size(sum(room.bytes for room in parts if not room.within))
        st.title(f"{running(jobs)}; {results}; the cache takes {room}.", anchor=False)
    with told():
        line_panel(jobs)
        kept_loaded()
    st.header("Jobs", anchor=False)
    with told():
        if names():
            job_table()
            job_detail()
        else:
            show_empty("No job yet", "A measurement started on the Workbench is a job and appears here.")
    st.header("Stored results", anchor=False)
    show_results(stored)
    st.header("Room on the disk", anchor=False)
    show_rooms(parts)


def running(jobs: list[Job]) -> str:
    """How many work and how many wait."""
    waiting = sum(in_line(job) for job in jobs)
    working = len(jobs) - waiting
    words = "No job runs" if not working else "One job runs" if working == 1 else f"{count(working)} jobs run"
    return words + ("" if not waiting else " and one waits" if waiting == 1 else f" and {count(waiting)} wait")


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
        key="stored",
        alt="Stored results, newest first",
        column_config={
            "Finished": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm", timezone="UTC", pinned=True)
        },
    )


def show_rooms(parts: list[Room]) -> None:
    st.dataframe(
        [{"Part": room.name, "What": room.what, "Files": room.files, "Size": size(room.bytes)} for room in parts],
        hide_index=True,
        key="rooms",
        placeholder=DASH,
        alt="Room each part of the cache takes",
    )


with told():
    page()
