"""The table of jobs, newest first, chosen in SQL; a row of it opens the job it stands for."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from pages.parts.escape import plain
from pages.parts.jobs_actions import CHOSEN
from pages.parts.jobs_line import KINDS, TIME
from sts_core.figures.numbers import DASH, count, day, duration
from sts_core.jobs.folder import marked
from sts_core.store import queries
from sts_core.store.reading import read

MOST = 200
SHOW: dict[str, tuple[str, tuple[str, ...]]] = {
    "all": ("All", ()),
    "active": ("Under way", ("waiting", "running")),
    "done": ("Done", ("done",)),
    "ended": ("Came to nothing", ("failed", "dead", "cancelled")),
}
"""A choice in the URL -> its word, and the states it stands for."""
STATES = {
    "waiting": "Waiting",
    "running": "Running",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "dead": "Vanished",
}


class Listed(NamedTuple):
    """What the table shows."""

    rows: pd.DataFrame
    source: str
    as_of: datetime


def listed(limit: int = MOST, states: tuple[str, ...] = ()) -> Listed:
    """The newest jobs with the line of their loss, from the database or, where it is another's, from its copy."""
    with read() as view:
        return Listed(queries.runs(view.connection, limit=limit, states=states), view.source, view.as_of)


def job_table() -> None:
    """Draw the choice of states and the table."""
    chosen = st.segmented_control(
        "Show",
        list(SHOW),
        format_func=lambda name: SHOW[name][0],
        default="all",
        required=True,
        key="show",
        bind="query-params",
        label_visibility="collapsed",
    )
    show = chosen if chosen in SHOW else "all"
    found = listed(states=SHOW[show][1])
    st.caption(_told(found))
    if found.rows.empty:
        return
    ids = list(found.rows["id"])
    asked = st.query_params.get(CHOSEN, "")
    at: Any = {"selection": {"rows": [ids.index(asked)]}} if asked in ids else None
    key = f"jobs_{show}"
    st.dataframe(
        shown(found.rows),
        hide_index=True,
        height="auto" if len(ids) <= 10 else 388,
        column_config=_columns(),
        placeholder=DASH,
        key=key,
        on_select=partial(_pick, key, ids),
        selection_mode=["single-row", "single-cell"],
        selection_default=at,
        alt="Jobs, newest first: how each stands, when it began, how long it ran",
    )


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as the table shows them."""
    return pd.DataFrame(
        {
            "state": [STATES.get(state, state) for state in rows["state"]],
            "title": [marked(title or job, job) for title, job in zip(rows["title"], rows["id"], strict=True)],
            "kind": [KINDS.get(kind, kind) for kind in rows["kind"]],
            "ordered": rows["created"],
            "took": [duration(None if pd.isna(seconds) else seconds) for seconds in rows["seconds"]],
            "loss": [list(line) for line in rows["sparkline"]],
            "last": rows["last"],
            "note": rows["note"],
        }
    )


def _told(found: Listed) -> str:
    rows, skipped = len(found.rows), int(found.rows["skipped"].sum())
    parts = [f"The newest {count(rows)}" if rows == MOST else f"{count(rows)} {'job' if rows == 1 else 'jobs'}"]
    if found.source != "owner":
        parts.append(f"as of {day(found.as_of.isoformat(), clock=True)}")
    if skipped:
        parts.append(f"{count(skipped)} lines of their events could not be read")
    return plain("; ".join(parts) + "." + (" Pick a row to open it." if rows else ""))


def _pick(key: str, ids: list[str]) -> None:
    """The picked row's job; none when the pick was taken back. A cell that is clicked picks its row."""
    picked = st.session_state[key]["selection"]
    row = next((row for row, _ in picked["cells"]), next(iter(picked["rows"]), None))
    if picked["cells"]:
        st.session_state[key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    if row is not None and row < len(ids):
        st.query_params[CHOSEN] = ids[row]
    else:
        st.query_params.pop(CHOSEN, None)


def _columns() -> dict[str, Any]:
    column = st.column_config
    return {
        "state": column.TextColumn("Status", width="small", pinned=True),
        "title": column.TextColumn("Job", width="large"),
        "kind": column.TextColumn("Kind"),
        "ordered": column.DatetimeColumn("Ordered (UTC)", format="D MMM YYYY, HH:mm"),
        "took": column.TextColumn("Time", width="small", help=TIME),
        "loss": column.LineChartColumn("Loss", width="small", help="Mean loss over equal stretches of its steps."),
        "last": column.NumberColumn("Last loss", format="%.3f", width="small"),
        "note": column.TextColumn("Note"),
    }
