"""One fine-tuning run: its answer first, then how it learned, whether the prediction came true, and what it changed."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import run_figures
from pages.parts.escape import plain
from pages.parts.jobs_actions import actions, note
from pages.parts.messages import told
from pages.parts.progress import amounts, cancel_button
from pages.parts.run_data import K, Run, run
from sts_core.figures import run_words
from sts_core.figures.numbers import (
    DASH,
    column_decimals,
    count,
    day,
    fixed,
    number,
    percent,
    size,
    with_error,
)
from sts_core.jobs.folder import RESULT, Job
from sts_core.spec_file import to_toml

EVERY = 2.0
"""Seconds between two looks at a run that is under way."""
LOG_LINES = 60
_METRICS = {
    "nll": "Answer likelihood", "accuracy": "Accuracy", "nll_choice": "Among the letters",
    "nll_text": "Answer in words", "first_choice": "First choice",
}  # fmt: skip


def run_view(job: str) -> None:
    """Draw it. While it runs its head and its curve are drawn again and again, each by itself, the rest when it is due.

    Whatever is clicked redraws the part it belongs to, and no other.
    """
    now = run(job)
    every = EVERY if now.job.active else None
    st.fragment(_head, run_every=every)(job, _landmarks(now))
    # In a box of its own: by its place Streamlit knows the part in which something is clicked. Without the box, the end
    # of a run would move all that follows, and a click made in that moment would be lost.
    with st.container():
        actions(now.job)
    left, right = st.columns(2, gap="medium")
    with left:
        st.fragment(_learning, run_every=every)(job)
    with right:
        _prediction(now)
    st.fragment(_changed)(job)
    _below(now)


def _landmarks(now: Run) -> tuple[object, ...]:
    """What the parts that are not polled show: with any change in it the whole page is due."""
    known = (len(now.evaluations), len(now.events), len(now.trajectory.get(f"overlap_{K}", {})))
    return (now.job.state, now.prediction is None, now.note, *known)


def _head(job: str, landmarks: tuple[object, ...]) -> None:
    with told():
        now = run(job)
        if _landmarks(now) != landmarks:
            st.rerun()
        with st.container(key="answer", gap="small"):
            headline = run_words.run_headline(now.standing, now.changes("nll"), now.overlap())
            st.title(plain(headline), anchor=False)
            learned = run_words.learned_words(now.standing)
            if now.job.state == "done" and learned not in headline:
                st.markdown(f":gray[{plain(learned)}.]")
            _facts_line(now)
        if now.job.active:
            st.progress(now.job.share or 0.0, text=plain(now.job.stage or "starting"))
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(amounts(now.job) or "The size of the work is not known yet.")
                cancel_button(now.job)
        elif now.job.error:
            st.error(plain(now.job.hint or " "), title=plain(now.job.error), icon=":material/error:")


def _facts_line(now: Run) -> None:
    whole = now.together
    began = day(whole.began.isoformat(), clock=True) if whole.began else "not started"
    parts = [run_figures.origin([now]), began, run_words.attempt_words(now.job.attempt, whole.seconds)]
    st.markdown(f":gray[:material/schedule: {plain(' · '.join(parts))}]")


def _learning(job: str) -> None:
    with told():
        _draw_learning(run(job))


def _draw_learning(now: Run) -> None:
    shown = [name for name in run_figures.TITLES if len(now.curves[name])]
    if not shown:
        st.caption(
            "No step is done yet: the loss appears here from the first one on."
            if now.job.active
            else "It ended before its first step, so there is no loss to show."
        )
        return
    name = st.segmented_control(
        "Curve", shown, format_func=lambda key: run_figures.AXES[key].split(",")[0], default=shown[0], required=True,
        key="curve", bind="query-params",
    )  # fmt: skip
    name = name if name in shown else shown[0]
    run_figures.draw(run_figures.curves([now], name), "curve_figure", run_figures.TITLES[name], f"{name}-{now.job.id}")
    _csv(now.curves[name], f"{name}-{now.job.id}")


def _prediction(now: Run) -> None:
    if now.prediction is None and now.spec.get("prediction") and now.job.active:
        st.caption("Its prediction is written down before the first step, and held against the model at checkpoints.")
        return
    if now.prediction is None and now.spec.get("prediction"):
        st.caption("It ended before its prediction was written down, which comes before the first step.")
        return
    if now.prediction is None:
        st.caption(
            "This run was started without a prediction, so there is nothing to hold it against. Name a finished result "
            "as its prediction to see whether the features that it names really shift."
        )
        return
    if not now.trajectory.get(f"overlap_{K}"):
        then = (
            "It is held against the model at the first checkpoint."
            if now.job.active
            else "The model was held against it at no checkpoint."
        )
        st.caption(f"A prediction was written down at launch. {then}")
        return
    words = run_words.hold_words(
        bool(now.newest("trouble")), now.newest("residual_cosine"), (now.newest("r2_base"), now.newest("r2_tuned"))
    )
    st.markdown(f"{':orange[:material/warning:]' if now.newest('trouble') else ':material/check:'} {plain(words)}")
    title = run_words.trajectory_title(K)
    run_figures.draw(run_figures.trajectory(now), "trajectory", title, f"trajectory-{now.job.id}")
    _csv(pd.DataFrame(now.trajectory).rename_axis("step").reset_index(), f"trajectory-{now.job.id}")


def _changed(job: str) -> None:
    with told():
        _draw_changed(run(job))


def _draw_changed(now: Run) -> None:
    st.header("Before and after", anchor=False)
    metrics = [name for name in _METRICS if len(now.changes(name))]
    metrics = metrics or [name for name in _METRICS if len(now.target_changes(name))]
    if not metrics:
        st.caption(_not_scored(now))
        return
    metric = st.segmented_control(
        "Measure", metrics, format_func=_METRICS.__getitem__, default=metrics[0], required=True, key="measure",
        bind="query-params",
    )  # fmt: skip
    metric = metric if metric in metrics else metrics[0]
    table = now.changes(metric)
    left, right = st.columns([0.6, 0.4], gap="medium")
    with left:
        if len(table):
            figure = run_figures.changes(now, table, metric)
            run_figures.draw(figure, "changes", run_words.CHANGES_TITLE, f"changes-{metric}-{now.job.id}")
            _csv(table, f"changes-{metric}-{now.job.id}")
        else:
            st.caption("No domain was scored, only the training set's own rows.")
    with right:
        target = now.target_changes(metric)
        if len(target):
            row = target.iloc[0]
            rows = f"{count(row['n'])} row{'' if row['n'] == 1 else 's'}"
            st.markdown(
                f"**On the training set's own held-out rows**: {plain(with_error(row['value'], row['se']))} "
                f"({rows}). {plain(run_words.METRICS[metric].capitalize())}."
            )
        st.dataframe(_before_after(now, metric), hide_index=True, placeholder=DASH, alt="Each domain before and after")


def _not_scored(now: Run) -> str:
    """Why nothing stands under before and after."""
    wanted = now.spec.get("evaluate") or {}
    scored, asked = len(now.evaluations) > 0, bool(wanted.get("domains") or wanted.get("target_rows"))
    what = "Domains" if wanted.get("domains") else "The training set's own rows"
    if now.job.active:
        if scored:
            return f"{what} were scored before the first step; they are scored again after the last."
        return f"{what} are scored before the first step and after the last." if asked else "None was asked for."
    return (
        f"{what} were scored before the first step; the run ended before they were scored again."
        if scored
        else "Nothing was measured before and after."
    )


def _before_after(now: Run, metric: str) -> list[dict[str, str]]:
    rows = now.evaluations[now.evaluations["metric"] == metric]
    places = column_decimals(rows["value"], rows["se"])
    found = []
    for domain in dict.fromkeys(rows["domain"]):
        own = rows[rows["domain"] == domain].set_index("phase")
        told_of = {phase: own.loc[phase] for phase in ("before", "after", "change") if phase in own.index}
        line = {"Domain": domain}
        for phase, label in (("before", "Before"), ("after", "After")):
            one = told_of.get(phase)
            line[label] = DASH if one is None else with_error(one["value"], one["se"], places)
        change = told_of.get("change")
        plus = "+" if change is not None and change["value"] > 0 else ""
        line["Change"] = DASH if change is None else f"{plus}{fixed(change['value'], places)}"
        found.append(line)
    return found


def _below(now: Run) -> None:
    """What is folded, drawn once it is unfolded: the prediction as it was written, checkpoints, note, settings, log."""
    if now.prediction is not None:
        with _folded("The prediction, as it was written before the first step", "lock", "foretold") as foretold:
            if foretold.open:
                st.caption(plain(f"{now.prediction['measure']}; result {now.prediction['key']}"))
                st.json({name: now.prediction[name] for name in ("scores", "dims")}, expanded=1)
    checkpoints = _checkpoints(now)
    with _folded(f"Checkpoints and artefacts ({count(len(checkpoints))})", "inventory_2", "artefacts") as artefacts:
        if artefacts.open:
            st.caption(plain("Weights do not ship with the demo." if now.job.demo else f"In {now.job.folder / RESULT}"))
            if checkpoints:
                st.dataframe(checkpoints, hide_index=True, alt="Checkpoints")
    with _folded("Settings and note", "receipt_long", "settings") as settings:
        if settings.open:
            st.caption("As the file of `sts sft`:")
            st.code(to_toml(run_words.briefly(now.spec)), language=None, wrap_lines=True)
        note(now.job, now.note)
    with _folded("Log", "notes", "log") as log:
        if log.open:
            st.fragment(_log, run_every=EVERY if now.job.active else None)(now.job)
    if now.skipped:
        st.caption(f"{count(now.skipped)} lines of its events could not be understood and are left out.")


def _folded(label: str, icon: str, key: str) -> Any:
    """A fold that knows whether it is open: the browser goes over all that is in one, also while nobody looks."""
    return st.expander(label, icon=f":material/{icon}:", key=key, on_change="rerun")


def _log(job: Job) -> None:
    nothing = "The log does not ship with the demo." if job.demo else "The worker printed nothing."
    lines = "\n".join(job.log_tail(LOG_LINES)) or nothing
    st.code(lines, language=None, wrap_lines=True)


def _checkpoints(now: Run) -> list[dict[str, str]]:
    rows = []
    for payload in now.events[now.events["kind"] == "checkpoint"]["payload"]:
        told_of = json.loads(payload)
        step = told_of.get("step")
        overlap = now.trajectory.get(f"overlap_{K}", {}).get(step)
        rows.append(
            {
                "Step": count(step) if isinstance(step, int) else DASH,
                "Folder": str(told_of.get("name", "")),
                "Size": size(told_of.get("bytes")),
                f"Overlap@{K}": percent(overlap),
                "Residual cosine": number(now.trajectory.get("residual_cosine", {}).get(step)),
            }
        )
    return rows


def _csv(table: pd.DataFrame, name: str) -> None:
    st.download_button(
        "CSV", table.to_csv(index=False), f"{name}.csv", "text/csv", type="tertiary", icon=":material/download:",
        on_click="ignore", key=f"csv_{name}", help="The numbers of this figure.",
    )  # fmt: skip
