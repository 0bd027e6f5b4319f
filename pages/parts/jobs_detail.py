"""One job opened: how it stands and why, what can be done, its note, the end of its log and the room it takes."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from pages.parts.escape import plain
from pages.parts.jobs_actions import CHOSEN, actions, note
from pages.parts.jobs_line import KINDS
from pages.parts.jobs_table import STATES
from pages.parts.messages import show_error, told
from pages.parts.sweep_view import sweep_view
from sts_core.errors import UserError
from sts_core.figures.numbers import DASH, day, size
from sts_core.figures.run_words import attempt_words
from sts_core.jobs.disk import disk_use
from sts_core.jobs.folder import Job, marked
from sts_core.jobs.watch import read
from sts_core.store import reading
from sts_core.store.attempts import attempts, together
from sts_core.store.note import read_note

EVERY = 2.0
"""Seconds between two looks at an active job's log."""
LOG_LINES = 60
_COLORS: dict[str, Literal["gray", "blue", "green", "red"]] = {
    "running": "blue",
    "done": "green",
    "failed": "red",
    "dead": "red",
}
_PARTS = {
    "checkpoints": "Checkpoints",
    "result": "Result",
    "log": "Log",
    "record": "Order and events",
}


def job_detail() -> None:
    """Draw the job the URL names; nothing when it names none."""
    asked = st.query_params.get(CHOSEN, "")
    if not asked:
        return
    try:
        job = read(asked)
    except UserError:
        st.caption("The job that was looked at is not there any more.")
        return
    with st.container(border=True, key="job_detail", gap="small"):
        _head(job)
        actions(job)
        if job.kind == "sweep":
            sweep_view(job)
        left, right = st.columns([0.62, 0.38], gap="medium")
        with left:
            st.fragment(_log, run_every=EVERY if job.active else None)(job.id)
        with right:
            note(job, read_note(job.folder))
            _room(job)


def _head(job: Job) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(STATES[job.state], color=_COLORS.get(job.state, "gray"))
        st.subheader(plain(marked(job.title or job.id, job.id)), anchor=False)
    with reading.read() as view:
        whole = together(job, attempts(view.connection, job.id))
    began = day(whole.began.isoformat(), clock=True) if whole.began else "not begun"
    parts = [KINDS.get(job.kind, job.kind or DASH), began, attempt_words(job.attempt, whole.seconds), job.id]
    st.caption(plain(" · ".join(parts)))
    if job.error:
        show_error(UserError(job.error, job.hint))


def _log(job_id: str) -> None:
    with told():
        lines = read(job_id).log_tail(LOG_LINES)
        st.caption("The end of its log")
        height: int | Literal["content"] = 300 if len(lines) > 12 else "content"
        st.code("\n".join(lines) or "Nothing was printed yet.", language=None, wrap_lines=True, height=height)


def _room(job: Job) -> None:
    use = disk_use(job.id)
    rows = {name: size(amount) for part, name in _PARTS.items() if (amount := getattr(use, part))}
    st.caption("Room on the disk")
    st.table({**rows, "Together": size(use.total)}, border="horizontal", width="stretch")
