"""Two to five runs beside each other: their curves over one another, what they changed, and only what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import run_figures
from pages.parts.escape import plain
from pages.parts.mixture_compare import compare_mixtures
from pages.parts.mixture_launch import data_name
from pages.parts.run_data import Run
from sts_core.figures.numbers import DASH, column_decimals, count, number, percent, with_error
from sts_core.jobs.differences import differences


def compare(runs: Sequence[Run]) -> None:
    """Draw it."""
    with st.container(key="answer", gap="small"):
        st.title(plain(_headline(runs)), anchor=False)
    rows = differences([_told(run.spec) for run in runs])
    names = named(runs)
    if rows:
        table = pd.DataFrame([row.values for row in rows], columns=names, index=[row.name for row in rows])
        st.dataframe(table.rename_axis("Setting"), alt="Settings that differ between the runs")
    else:
        st.caption("All their settings are the same.")
    shown = [name for name in run_figures.TITLES if any(len(run.curves[name]) for run in runs)]
    left, right = st.columns(2, gap="medium")
    for i, name in enumerate(shown):
        with (left, right)[i % 2]:
            figure = run_figures.curves(runs, name, names)
            run_figures.draw(figure, f"compare_{name}", run_figures.TITLES[name], f"compare-{name}")
    st.header("What each changed", anchor=False)
    st.dataframe(_changes(runs, names), placeholder=DASH, alt="Change of each domain in each run")
    st.fragment(compare_mixtures)(runs)


def _told(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings, a mixture under its name and not under its place."""
    target = spec.get("target")
    name = data_name(str(target.get("data", ""))) if isinstance(target, dict) else None
    return spec if name is None or not isinstance(target, dict) else {**spec, "target": {**target, "data": name}}


def _headline(runs: Sequence[Run]) -> str:
    names = zip(runs, named(runs), strict=True)
    ended = [(run.standing.last_loss or 0.0, name) for run, name in names if len(run.curves["loss"])]
    if not ended:
        return f"{len(runs)} runs; none has done a step yet."
    trained_on = {str(_told(run.spec).get("target")) for run in runs}
    if len(trained_on) > 1:
        return f"{count(len(runs))} runs, trained on {count(len(trained_on))} different sets: what did each change?"
    best, name = min(ended)
    return f"Of {len(runs)} runs, {name} has the lowest loss at its end: {number(best)}."


def _changes(runs: Sequence[Run], names: Sequence[str]) -> pd.DataFrame:
    columns = {}
    for run, name in zip(runs, names, strict=True):
        rows = pd.concat([run.target_changes("nll"), run.changes("nll")])
        places = column_decimals(rows["value"], rows["se"])
        columns[name] = {
            str(domain): f"{'+' if value > 0 else ''}{with_error(value, se, places)}"
            for domain, value, se in zip(rows["domain"], rows["value"], rows["se"], strict=True)
        }
        overlap = run.overlap()
        columns[name]["overlap with its prediction"] = percent(overlap.share) if overlap else DASH
    return pd.DataFrame(columns).rename_axis("Rise of the answer's negative log-likelihood")


def named(runs: Sequence[Run]) -> list[str]:
    """What each is called; those of one title with the end of their ids."""
    titles = [run.title for run in runs]
    return [f"{run.title} ({run.job.id[-6:]})" if titles.count(run.title) > 1 else run.title for run in runs]
