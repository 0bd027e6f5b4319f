"""A running job on the page: bar, rate, time left and cancel. It asks again and again only while a job runs."""

from __future__ import annotations

import streamlit as st

from pages.parts.escape import plain
from pages.parts.messages import told
from pages.parts.selection import show_next
from sts_core.errors import UserError
from sts_core.figures.numbers import count, duration, number, percent
from sts_core.jobs.folder import RESULT, Job
from sts_core.jobs.launch import start_waiting
from sts_core.jobs.queue import HEAVY, in_line, waits_for
from sts_core.jobs.watch import active, cancel, read
from sts_core.results import Result

EVERY = 0.8
"""Seconds between two looks at a running job."""
LINE_EVERY = 2.0
"""The same of the short line on top, which every page has: each look makes the browser go over the whole page."""
_WATCHED = "watched_job"
_VERBS = {"run": "Measuring", "examples": "Reading", "mix": "Making"}


def job_line() -> None:
    """A running job as one short line, for the right end of the context bar; nothing when none runs.

    A measurement before a training, which goes on for hours.
    """
    working = [job for job in active() if not in_line(job)]
    if not working:
        return
    job = min(working, key=lambda job: job.kind in HEAVY)
    with st.container(key="jobline", width=150):
        st.fragment(_line, run_every=LINE_EVERY)(job.id)


def job_panel(job: Job) -> None:
    """The running or waiting job with all that is known of it, and the button that ends it."""
    watch_end(job)
    st.fragment(_panel, run_every=EVERY)(job.id)


def watch_end(job: Job) -> None:
    """Look at this job's result once there is one."""
    st.session_state[_WATCHED] = job.id


def look_for_end() -> None:
    """When the job this session watched has brought a result, look at that from now on."""
    job_id = st.session_state.get(_WATCHED)
    if job_id is None:
        return
    try:
        job = read(job_id)
    except UserError:  # its folder was taken away
        del st.session_state[_WATCHED]
        return
    if not job.active:
        del st.session_state[_WATCHED]
        if job.state == "done" and (key := result_key(job)):
            show_next(key)


def amounts(job: Job) -> str:
    """`12 300 of 160 000 tokens · 850 tokens/s · 1 min 12 s left`, as far as each is known."""
    parts = []
    if job.total > 0:
        parts.append(f"{count(job.done)} of {count(job.total)} {job.unit}")
    if job.rate:
        parts.append(f"{number(job.rate)} {job.unit}/s")
    if job.time_left is not None:
        parts.append(f"{duration(job.time_left)} left")
    return " · ".join(parts)


def result_key(job: Job) -> str | None:
    """The key of what a finished job measured; None when it cannot be told."""
    if job.result and job.result != RESULT:
        return job.result
    try:
        return str(Result(job.folder / RESULT).manifest["key"])
    except (UserError, KeyError):
        return None


def _line(job_id: str) -> None:
    with told():
        _draw_line(_looked_at(job_id))


def _panel(job_id: str) -> None:
    with told():
        _draw_panel(_looked_at(job_id))


def _draw_line(job: Job) -> None:
    done = job.share
    left = f" · {duration(job.time_left)} left" if job.time_left is not None else ""
    st.progress(done or 0.0, text=f"{percent(done)}{left}" if done else "under way" if job.stage else "starting")


def _draw_panel(job: Job) -> None:
    if in_line(job):
        before = waits_for(job)
        st.markdown(f"**Waiting** {plain(job.title)}")
        st.caption(f"It waits for {plain(before.title or before.id)}." if before else "It is about to begin.")
        cancel_button(job)
        return
    st.markdown(f"**{_VERBS.get(job.kind, 'Working on')}** {plain(job.title)}")
    st.progress(job.share or 0.0, text=plain(job.stage or "starting: the model is being loaded"))
    st.caption(amounts(job) or "The size of the work is not known yet.")
    cancel_button(job)


def _looked_at(job_id: str) -> Job:
    """The job; when it has ended the whole page is drawn anew, with what came of it."""
    job = read(job_id)
    if not job.active:
        st.rerun()
    return job


def cancel_button(job: Job) -> None:
    """The button that ends a job; what came of it is told, and the page drawn anew."""
    if st.button("Cancel", key=f"cancel_{job.id}", icon=":material/close:"):
        with told():
            st.toast(plain(cancel(job.id).message))
            start_waiting()
            st.rerun()
