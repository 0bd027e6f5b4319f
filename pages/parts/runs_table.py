"""The table of fine-tuning runs: how each stands, its loss as a small line, and what tells it from the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.jobs_line import TIME
from pages.parts.messages import show_empty
from pages.parts.mixture_launch import data_name
from sts_core.figures.numbers import DASH, duration
from sts_core.jobs.differences import told_apart
from sts_core.jobs.folder import marked

STATES = {
    "waiting": "○ waiting",
    "running": "▶ running",
    "done": "✓ done",
    "failed": "✕ failed",
    "cancelled": "⊘ cancelled",
    "dead": "✕ vanished",
}
"""A sign and a word, so that neither colour nor shape carries the meaning alone."""
MOST_COMPARED = 5
_IDS = "runs_ids"


def runs_table(runs: pd.DataFrame, visit: int, on_pick: Callable[[], object]) -> None:
    """Draw it; `on_pick` is called when rows are picked. On another visit nothing is picked yet."""
    st.session_state[_IDS] = list(runs["id"])
    if runs.empty:
        show_empty("No run yet", "Start one above, or in a terminal: sts sft cache/demo/sft.toml")
        return
    table = shown(runs)
    st.dataframe(
        table,
        hide_index=True,
        height=min(38 + 35 * len(runs), 460),
        column_config=_columns(table["data"].str.contains(" rows ").any()),
        placeholder=DASH,
        key=_key(visit),
        on_select=on_pick,
        selection_mode="multi-row",
        alt="Fine-tuning runs, newest first",
    )


def picked_runs(visit: int) -> list[str]:
    """The ids of the rows that are picked in the table as it was drawn last."""
    ids: list[str] = st.session_state.get(_IDS, [])
    picked = st.session_state.get(_key(visit))
    rows: list[int] = picked["selection"]["rows"] if picked else []
    return [ids[row] for row in rows if row < len(ids)]


def _key(visit: int) -> str:
    return f"runs_{visit}"


def shown(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows as the table shows them."""
    specs = [json.loads(text or "{}") for text in runs["spec"]]
    titles = [marked(title, job) for title, job in zip(runs["title"], runs["id"], strict=True)]
    return pd.DataFrame(
        {
            "state": [STATES.get(state, state) for state in runs["state"]],
            "title": titles,
            "data": [_data(spec) for spec in specs],
            "loss": [list(line) for line in runs["sparkline"]],
            "last": runs["last"],
            "done": [None if pd.isna(share) else 100 * share for share in runs["share"]],
            "took": [duration(None if pd.isna(seconds) else seconds) for seconds in runs["seconds"]],
            "differs": told_apart([_but_data(spec) for spec in specs], called=titles),
        }
    )


def _data(spec: dict[str, Any]) -> str:
    """What it is trained on: a set, or a mixture, told by what is in it and not by where its manifest lies."""
    target = spec.get("target")
    data = str(target.get("data", "")) if isinstance(target, dict) else ""
    return data_name(data) or data.rsplit("/", 1)[-1]


def _but_data(spec: dict[str, Any]) -> dict[str, Any]:
    """What a run is trained on has a column of its own."""
    target = spec.get("target")
    if not isinstance(target, dict):
        return spec
    return {**spec, "target": {key: value for key, value in target.items() if key != "data"}}


def _columns(mixed: bool) -> dict[str, Any]:
    """`mixed`: some run was trained on a mixture, whose name is long."""
    column = st.column_config
    return {
        "state": column.TextColumn("Status", pinned=True, width="small"),
        "title": column.TextColumn("Run", width=225),
        "data": column.TextColumn("Data", width=190 if mixed else 100),
        "loss": column.LineChartColumn("Loss", width="small", help="Mean loss over equal stretches of its steps."),
        "last": column.NumberColumn("Last loss", format="%.3f"),
        "done": column.ProgressColumn("Done", width=100, format="%.0f %%", min_value=0, max_value=100),
        "took": column.TextColumn("Time", width="small", help=TIME),
        "differs": column.TextColumn(
            "Differs by",
            help="Settings that are not the same in all these runs, first those that tell a run from its namesakes.",
        ),
    }
