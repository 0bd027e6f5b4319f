"""What a person can do with a job: see its result, let it go on, do it once more, move it in line, delete it, note."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import streamlit as st

from pages.parts.escape import plain
from pages.parts.messages import told
from pages.parts.progress import result_key
from pages.parts.selection import show_next
from sts_core.figures.numbers import count, duration, size
from sts_core.figures.run_words import from_words
from sts_core.jobs import disk, launch, queue
from sts_core.jobs.folder import STAGED, Job
from sts_core.jobs.watch import read
from sts_core.store import keeper
from sts_core.store.note import LONGEST, write_note

CHOSEN = "job"
"""The URL's name for the job that is looked at."""
_MEASURES = "run"
_RUN = "run"
"""The URL's name for the fine-tune that is looked at."""
_WAYS: dict[queue.Way, tuple[str, str]] = {
    "first": ("First", ":material/vertical_align_top:"),
    "up": ("Up", ":material/arrow_upward:"),
    "down": ("Down", ":material/arrow_downward:"),
}
"""A way to move in line -> its word and its sign."""


def actions(job: Job) -> None:
    """The buttons that make sense for a job that has ended; an active one has its own in the line.

    One that ships with the demo can be done once more, and no more than that.
    """
    if job.active:
        return
    if job.demo:
        st.caption(":material/lock: This run ships with the demo: it can be looked at and run again, but not changed.")
    with st.container(horizontal=True, gap="xsmall", key=f"actions_{job.id}"):
        if job.state == "done" and job.kind == _MEASURES:
            _button(job, "Show", ":material/align_horizontal_left:", _show, "Look at its result on the Workbench.")
        if job.state != "done" and job.kind and not job.demo:
            _resume_button(job)
        if job.kind and job.spec:
            _run_again(job)
        if not job.demo:
            _delete(job)


def moves(job: Job, place: int, last: int) -> None:
    """The buttons that move a waiting job; those that would change nothing cannot be pressed."""
    for way, (word, icon) in _WAYS.items():
        idle = place == (last if way == "down" else 0)
        if st.button(word, key=f"{way}_{job.id}", icon=icon, type="tertiary", disabled=idle):
            with told():
                queue.move(job.id, way)
                st.rerun()


def note(job: Job, text: str) -> None:
    """A field for a person's words on this job, kept as soon as they are typed; of one that ships its words alone."""
    if job.demo:
        if text:
            st.caption(plain(text))
        return
    key = f"note_{job.id}"

    def keep() -> None:
        given = st.session_state[key]
        write_note(job.id, given[:LONGEST])
        if len(given) > LONGEST:
            st.toast(f"Of the note the first {count(LONGEST)} characters are kept.")
        keeper.catch_up()

    # A field with a limit of its own takes nothing at all of a longer text, and says nothing.
    st.text_area("Note", text, key=key, height=80, on_change=keep, placeholder="Why this run?")


def _button(
    job: Job,
    word: str,
    icon: str,
    do: Callable[[Job], None],
    help_: str,
    kind: Literal["primary", "secondary"] = "secondary",
    key: str = "",
) -> None:
    if st.button(word, key=key or f"{word}_{job.id}", icon=icon, help=help_, type=kind):
        with told():
            do(job)


def _resume_button(job: Job) -> None:
    """A fine-tune without a checkpoint starts over, which is said before it is pressed."""
    help_, word = "It goes on in its own folder, from the last checkpoint or part that is whole.", "Resume"
    if job.kind in STAGED:
        step = disk.last_checkpoint(job.folder)
        help_ = f"It goes on in its own folder, {from_words(step)}."
        word = "Resume" if step else "Resume from the first step"
    _button(job, word, ":material/resume:", _resume, help_, "primary", key=f"Resume_{job.id}")


def _run_again(job: Job) -> None:
    """A fine-tune is asked about once more: it takes its time, and others wait for it."""
    if job.kind not in STAGED:
        _button(job, "Run again", ":material/replay:", _again, "A new job with the same settings.")
        return
    with st.popover("Run again", icon=":material/replay:", key=f"again_{job.id}"):
        took = f" This one took {duration(job.seconds)}." if job.state == "done" and job.seconds else ""
        st.markdown(f"A new job with the same settings, from the first step.{took}")
        _button(job, "Order it", ":material/replay:", _again, "It begins at once, or waits for its turn.", "primary")


def _show(job: Job) -> None:
    if key := result_key(job):
        show_next(key)
        st.switch_page("pages/views/workbench.py")


def _resume(job: Job) -> None:
    resumed = launch.resume(job.id)
    start = f", {from_words(disk.last_checkpoint(job.folder))}" if job.kind in STAGED else ""
    st.toast(plain(f"Attempt {resumed.attempt}{start}: {_standing(resumed)}"))
    _drawn_anew(job.id)


def _again(job: Job) -> None:
    options = {"fresh": True} if job.kind == _MEASURES and job.state == "done" else {}
    new = launch.clone(job.id, options=options)
    st.toast(plain(f"A new job: {_standing(read(new))}"))
    if _RUN in st.query_params:  # the new one is looked at, where it can be cancelled
        st.query_params[_RUN] = new
    _drawn_anew(new)


def _delete(job: Job) -> None:
    room = size(disk.disk_use(job.id).total)
    with st.popover(f"Delete ({room})", icon=":material/delete:", key=f"delete_{job.id}"):
        kept = " A result that is in the store stays there." if job.kind == _MEASURES else ""
        st.markdown(f"This removes the job's folder and all in it, {room}, for good.{kept}")
        if st.button("Delete for good", key=f"delete_now_{job.id}", type="primary"):
            with told():
                st.toast(f"Deleted; that freed {size(disk.delete(job.id))}.")
                _drawn_anew(None)


def _standing(job: Job) -> str:
    before = queue.waits_for(job)
    return f"it waits for {before.title or before.id}." if before else "it begins."


def _drawn_anew(chosen: str | None) -> None:
    """Draw the whole page with what is true now, looking at this job."""
    keeper.catch_up()
    if chosen:
        st.query_params[CHOSEN] = chosen
    else:
        for name in (CHOSEN, _RUN):
            st.query_params.pop(name, None)
    st.rerun()
