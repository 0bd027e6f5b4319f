"""Who works and who waits, place by place, with what can be done about it. Looked at again only while it moves."""

from __future__ import annotations

import streamlit as st

from pages.parts.escape import plain
from pages.parts.jobs_actions import moves
from pages.parts.messages import told
from pages.parts.progress import EVERY, amounts, cancel_button
from sts_core.jobs.folder import Job
from sts_core.jobs.queue import Line, in_line, lines
from sts_core.jobs.watch import active

KINDS = {
    "run": "Measurement",
    "sft": "Fine-tuning",
    "rl": "Reinforcement learning",
    "sae": "SAE training",
    "sweep": "Sweep",
    "eval": "Evaluation",
    "examples": "Examples and names",
    "label": "Labelling",
    "mix": "Mixture",
    "baselines": "Baselines",
}
"""A job's kind -> what a person calls it."""
TIME = "How long it ran; of one that was resumed, its last attempt."
"""What a table's column of times says of itself."""


def line_panel(jobs: list[Job]) -> None:
    """Draw these active jobs, again and again until none is left; with any change in who is there, the whole page."""
    if jobs:
        st.fragment(_panel, run_every=EVERY)(_who(jobs))


def _panel(who: list[tuple[str, bool]]) -> None:
    with told():
        now = active()
        if _who(now) != who:
            st.rerun()
        for line in lines(now):
            _draw(line)


def _who(jobs: list[Job]) -> list[tuple[str, bool]]:
    return sorted((job.id, in_line(job)) for job in jobs)


def _draw(line: Line) -> None:
    st.caption(f"{'Training' if line.heavy else 'Analyses'} on {plain(line.device)}, one at a time")
    for job in line.working:
        _working(job)
    for place, job in enumerate(line.waiting):
        ahead = [*line.working, *line.waiting[:place]]
        _waiting(job, place, len(line.waiting) - 1, ahead[-1] if ahead else None)


def _working(job: Job) -> None:
    with st.container(border=True, key=f"job_{job.id}", gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge("Running" if job.state == "running" else "Starting", color="blue", icon=":material/play_arrow:")
            st.markdown(f"**{plain(job.title or job.id)}**", width="stretch")
            st.caption(KINDS.get(job.kind, plain(job.kind)), width="content")
            cancel_button(job)
        st.progress(job.share or 0.0, text=plain(job.stage or "starting"))
        st.caption(amounts(job) or "The size of the work is not known yet.")


def _waiting(job: Job, place: int, last: int, ahead: Job | None) -> None:
    with (
        st.container(border=True, key=f"job_{job.id}"),
        st.container(horizontal=True, vertical_alignment="center", gap="small"),
    ):
        st.badge("Waiting", color="gray", icon=":material/hourglass_empty:")
        st.markdown(f"**{plain(job.title or job.id)}**", width="stretch")
        st.caption(f"waits for {plain(ahead.title or ahead.id)}" if ahead else "is about to begin", width="content")
        moves(job, place, last)
        cancel_button(job)
