"""Measuring the baselines that need a model: which are missing and why, the plan, the button, how far the job is."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.escape import plain
from pages.parts.messages import told
from pages.parts.planning import Planning, planned
from pages.parts.progress import job_panel
from pages.parts.spec_words import in_fields
from sts_core.figures.numbers import DASH, count, duration
from sts_core.jobs.folder import Job
from sts_core.jobs.launch import start
from sts_core.jobs.watch import active
from sts_core.results.baselines import BEFORE_AFTER
from sts_core.store.results import Stored

KIND = "baselines"
COMMAND: tuple[str, ...] = (sys.executable, "-m", "sts_core", "baselines", "--plan")
STEPS, ROWS = 15, 40
_FIELDS = {"lora_steps": "Steps of the LoRA probe", "rows": "Questions a domain"}
_NO_RUN = "needs the fine-tuned model: choose a run of this machine under What happened (runs that ship carry no model)"
_PARTS = {"raw": "raw residuals", "after": "before and after", "probe": "the short LoRA probe"}


def measure_missing(stored: Stored, missing: dict[str, str], run: Path | None) -> None:
    """Draw what is not measured, and what measures it; `run` is the folder of the fine-tune that is looked at."""
    job = _under_way(stored.folder)
    if job is not None:
        with st.container(border=True, key="baselines_job"):
            job_panel(job)
        return
    for name, why in missing.items():
        because = _NO_RUN if name == BEFORE_AFTER and run is None else why
        st.caption(plain(f"{DASH} {name}: {because}."))
    if set(missing) <= ({BEFORE_AFTER} if run is None else set()):
        return
    values = _choose(stored, run)
    help_ = "The plan reads the rows and counts tokens; nothing is computed and no weights are loaded."
    how = Planning(
        KIND,
        "Plan measuring these",
        "Reading the rows and counting tokens …",
        COMMAND,
        help_,
        partial(in_fields, fields=_FIELDS),
    )
    if (plan := planned(values, how)) is not None:
        _draw_plan(stored, values, plan)


def _choose(stored: Stored, run: Path | None) -> dict[str, Any]:
    """The order as a file has it."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="baselines_choices"):
        steps = st.number_input(
            _FIELDS["lora_steps"], value=STEPS, step=1, key="probe_steps", width=170,
            help="A training of so few steps on the training rows; then each domain's answers are scored again.",
        )  # fmt: skip
        rows = st.number_input(
            _FIELDS["rows"], value=ROWS, step=1, key="probe_rows", width=170,
            help="What the probe is scored on: questions the result was measured on, never those that are evaluated.",
        )  # fmt: skip
    values = {"result": str(stored.folder.resolve()), "lora_steps": int(steps), "rows": int(rows)}
    return values | ({} if run is None else {"run": str(run.resolve())})


def _draw_plan(stored: Stored, values: dict[str, Any], plan: dict[str, Any]) -> None:
    todo = [f"{_PARTS[one['part']]} {duration(one['seconds'])}" for one in plan["parts"] if not one["there"]]
    parts = [f"about {duration(plan['seconds'])} on {plan['device']}", *todo] if todo else ["all of it is measured"]
    if (probe := plan.get("probe")) is not None:
        scored = sum(probe["scored"].values())
        parts.append(f"{count(probe['steps'])} steps on {count(probe['train_rows'])} rows, {count(scored)} questions")
    st.markdown(plain(" · ".join(parts)))
    for warning in plan.get("warnings", []):
        st.markdown(f":orange[:material/warning:] {plain(warning)}")
    if st.button("Measure them", key="baselines_start", type="primary", icon=":material/play_arrow:"):
        with told():
            title = f"Baselines, {stored.target} on {stored.model}"
            start(KIND, values, title, {"device": str(plan["device"])})
            st.rerun()


def _under_way(result: Path) -> Job | None:
    place = str(result.resolve())
    return next((job for job in active() if job.kind == KIND and job.spec.get("result") == place), None)
