"""Fine-tuning runs: start one, watch it, see what it changed and whether the prediction came true, compare several."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.parts.context import context_bar
from pages.parts.early import send_first
from pages.parts.launch_form import launch_form
from pages.parts.messages import show_error, told
from pages.parts.run_compare import compare
from pages.parts.run_data import Counts, Run, counts, listing, run
from pages.parts.run_view import run_view
from pages.parts.runs_table import MOST_COMPARED, picked_runs, runs_table
from pages.parts.selection import Selection
from sts_core.errors import UserError
from sts_core.figures.frame import short
from sts_core.figures.numbers import count
from sts_core.jobs.folder import ID

EVERY = 3.0
"""Seconds between two looks at the table while something runs."""
_RUN, _COMPARE, _ALL = "run", "compare", "all"
_THERE = "“All runs” above shows them; in a terminal, `sts jobs` lists those there are."
_BODY, _PICKED, _VISIT = "runs_body", "runs_picked", "runs_visit"


def page() -> None:
    st.fragment(body, key=_BODY)(context_bar())


def body(selection: Selection) -> None:
    """All below the line on top; what is picked redraws this alone."""
    with told():
        draw(selection)


def draw(selection: Selection) -> None:
    asked = st.query_params.get(_RUN, "")
    together = st.query_params.get_all(_COMPARE)
    view = _RUN if asked else _COMPARE if together else _ALL
    # Each has a place of its own, and the others' is emptied: of what a part of the page had drawn inside another part
    # Streamlit would leave some standing.
    places = {name: st.container() if name == view else st.empty() for name in (_ALL, _RUN, _COMPARE)}
    with places[view]:
        _draw(selection, asked, together)


def _draw(selection: Selection, asked: str, together: list[str]) -> None:
    if asked or together:
        st.button("All runs", icon=":material/arrow_back:", type="tertiary", on_click=_open, args=([],))
    title = st.container()
    found = _found([asked] if asked else together)
    if len(found) == 1:
        run_view(found[0].job.id)
    elif found:
        compare(found)
    elif asked or together:
        title.title("This run is not here." if asked else "None of these runs is here.", anchor=False)
    else:
        overview(selection)


def overview(selection: Selection) -> None:
    """The table, the button for the rows picked in it, and the form that starts a run; each is redrawn by itself."""
    now = counts()
    with st.container(key="answer", gap="small"):
        st.title(headline(*now), anchor=False)
        st.markdown(
            ":gray[A run fine-tunes a model in the background, goes on when this page is closed, and tells at every "
            "checkpoint whether the features that were predicted really shift.]"
        )
    send_first()
    form = st.container()
    st.fragment(_table, run_every=EVERY if now.active else None)(now)
    st.fragment(_picked, key=_PICKED)()
    with form:  # above the table, but drawn behind it: its many fields are folded
        st.fragment(launch_form)(selection)


def headline(runs: int, active: int, waiting: int = 0) -> str:
    """How many there are, how many are under way, and how many of the active wait."""
    if not runs:
        return "No fine-tuning run yet."
    kept = "one run is kept" if runs == 1 else f"{count(runs)} runs are kept"
    going = active - waiting
    told = [f"{_some(going)} {'is' if going < 2 else 'are'} under way"] if going or not waiting else []
    told += [f"{_some(waiting)} wait{'s' if waiting == 1 else ''}"] if waiting else []
    return f"{kept.capitalize()}; {', '.join(told)}."


def _some(n: int) -> str:
    return ("none", "one")[n] if n < 2 else count(n)


def _table(told_above: Counts) -> None:
    with told():
        now, runs = counts(), listing()
        if now != told_above:
            st.rerun()  # the title tells them too
        runs_table(runs, st.session_state.get(_VISIT, 0), partial(st.rerun, _PICKED))
        if len(runs) < now.runs:
            st.caption(f"The newest {count(len(runs))} of {count(now.runs)} runs.")


def _picked() -> None:
    """Only this is drawn anew when a row is picked: the table shows that by itself."""
    picked = picked_runs(st.session_state.get(_VISIT, 0))
    if not picked:
        st.caption("Pick one run to open it, or two to five to compare them.")
    elif len(picked) > MOST_COMPARED:
        st.caption(f"{len(picked)} runs are picked; at most {MOST_COMPARED} can be compared.")
    else:
        label = "Open this run" if len(picked) == 1 else f"Compare these {len(picked)} runs"
        st.button(label, type="primary", icon=":material/open_in_full:", on_click=_open, args=(picked,))


def _open(jobs: list[str]) -> None:
    """Put one run, several, or none into the URL, and draw them."""
    for name in (_RUN, _COMPARE):
        if name in st.query_params:
            del st.query_params[name]
    if len(jobs) == 1:
        st.query_params[_RUN] = jobs[0]
    elif jobs:
        st.query_params[_COMPARE] = jobs
    st.session_state[_VISIT] = st.session_state.get(_VISIT, 0) + 1
    st.rerun(_BODY)


def _found(jobs: list[str]) -> list[Run]:
    """Those that are here, as many as are compared; what is wrong with the others, and how many more were named."""
    found: list[Run] = []
    named = list(dict.fromkeys(jobs))
    for at, job in enumerate(named):
        if len(found) == MOST_COMPARED:
            more = len(named) - at
            verb = "is" if more == 1 else "are"
            st.caption(f"At most {MOST_COMPARED} runs are compared; {count(more)} more {verb} in the address.")
            break
        try:
            found.append(run(job))
        except UserError as error:
            message = error.message if ID.fullmatch(job) else f"“{short(job, 60)}” is no id of a run"
            show_error(UserError(message, _THERE))
    return found


with told():
    page()
