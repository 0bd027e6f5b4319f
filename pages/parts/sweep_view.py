"""A sweep: its answer, the figure along one setting, the means behind it as a table, and all rows as a file.

`sweep_view(job)` draws one job of kind `sweep`, under way or ended; `sweep_section(target)` offers those that are done.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.charts import picture
from pages.parts.escape import plain
from pages.parts.messages import show_error, told
from pages.parts.progress import amounts, cancel_button
from pages.parts.style import mode
from sts_core.errors import UserError
from sts_core.figures.numbers import DASH, count, day, duration
from sts_core.figures.sweep import AXES, Measure, answer, beside, caption, short_names, sweep_figure, title
from sts_core.figures.words import METRICS
from sts_core.jobs.events import read_events
from sts_core.jobs.folder import RESULT, Job
from sts_core.jobs.watch import all_jobs, read
from sts_core.results.sweeps import CSV, TABLE, Sweep, over_seeds, read_sweep, values_of, varied_axes

EVERY = 2.0
"""Seconds between two looks at a sweep that is under way."""
_HEAD, _ROW, _MOST_ROWS = 38, 33, 12
_AXIS, _PICKED, _QUERY = "sweep_axis", "sweep_field", "sweep"
_HOW = {"sae": "SAE", "choice": "Features", "pool": "Pool", "power": "Power", "seed": "Seed"}


def sweep_view(job: Job) -> None:
    """Draw it: while it runs how far it is and the points so far, then what came out."""
    if job.active:
        st.fragment(_under_way, run_every=EVERY)(job.id)
        return
    if job.state != "done":
        if job.error:
            show_error(UserError(job.error, job.hint))
        st.caption("What it measured is in the store: resumed, it goes on with what is missing.")
        _points(job)
        return
    with told():
        st.fragment(_body)(str(job.folder / RESULT), _written(job.folder / RESULT))


def sweep_section(target: str) -> None:
    """The finished sweeps over this target set, newest first, one of them drawn; how to order one where there is none.

    `target` is the target set's data as a spec names it.
    """
    st.header("Does it depend on the layer, the width, the features?", anchor=False)
    found = {job.id: job for job in all_jobs() if job.kind == "sweep" and job.state == "done" and _is_of(job, target)}
    if not found:
        st.caption("No sweep over this target set is done. In a terminal:")
        st.code("sts sweep cache/demo/sweep.toml --plan\nsts sweep cache/demo/sweep.toml --detach", language=None)
        return
    asked = st.query_params.get(_QUERY, "")
    st.session_state[_PICKED] = asked if asked in found else next(iter(found))
    picked = st.selectbox(
        "Sweep", list(found), key=_PICKED, on_change=_tell_link, width=420,
        format_func=lambda job: f"{found[job].title} ({_ended(found[job])})" if job in found else job,
    )  # fmt: skip
    if picked in found:
        sweep_view(found[picked])


def _tell_link() -> None:
    """Keep the choice in the URL: by its id, for titles may be alike."""
    st.query_params[_QUERY] = st.session_state[_PICKED]


def _under_way(job_id: str) -> None:
    with told():
        job = read(job_id)
        if not job.active:
            st.rerun()
        st.progress(job.share or 0.0, text=plain(job.stage or "starting"))
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(amounts(job) or "The size of the work is not known yet.")
            cancel_button(job)
        _points(job)


def _points(job: Job) -> None:
    """The measurements that are done, as the worker told of them."""
    events = [event for event in read_events(job.folder) if event["event"] == "point"]
    last = {(event.get("key"), event.get("sae")): event for event in events}
    if not last:
        st.caption("No measurement is done yet: each appears here as soon as it is.")
        return
    rows = [
        {
            "SAE": str(event.get("sae")), "Layer": event.get("layer"), "Seed": event.get("seed"),
            "Pool": event.get("pool"), "Features": event.get("choice"), "Spearman ρ": event.get("spearman"),
            "Same order": event.get("same_order"), "From": "the store" if event.get("was_stored") else "a new pass",
        }
        for event in last.values()
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    st.dataframe(
        table.loc[:, [name for name in table if table[name].notna().any()]], hide_index=True, placeholder=DASH,
        height=_HEAD + _ROW * min(len(rows), _MOST_ROWS), alt="Measurements of this sweep that are done",
        column_config=_columns(),
    )  # fmt: skip


def _body(folder: str, written: int) -> None:
    """The finished sweep; redrawn by itself when a setting is chosen."""
    with told():
        sweep = _sweep(folder, written)
        st.subheader(plain(answer(sweep)), anchor=False)
        if simpler := beside(sweep):
            st.markdown(f"**{plain(simpler)}**")
        st.markdown(f":gray[{plain(_origin(sweep))}]")
        axis, held = _choose(sweep)
        measures: list[Measure] = ["spearman", "r"] if sweep.has_outcome else ["same_order"]
        for column, measure in zip(st.columns(len(measures), gap="medium"), measures, strict=True):
            with column:
                figure = sweep_figure(sweep, axis, held, measure, mode())
                words = title(axis, sweep.has_outcome)
                st.plotly_chart(
                    figure, theme=None, key=f"sweep_{measure}", alt=f"{words} {measure}",
                    config=picture(f"sweep-{axis}-{measure}", figure.layout.height),
                )  # fmt: skip
        _table(sweep)
        _files(sweep, [title(axis, sweep.has_outcome), *caption(sweep, axis, held)])
        _limits(sweep)


@st.cache_resource(max_entries=4, show_spinner=False)
def _sweep(folder: str, written: int) -> Sweep:
    """`written` is there so that what was written anew is read anew."""
    return read_sweep(Path(folder))


def _choose(sweep: Sweep) -> tuple[str, dict[str, Any]]:
    """What varies along the figure, and where all else stands."""
    axes = [name for name in varied_axes(sweep.table) if name in AXES] or ["sae"]
    held = {name: values_of(sweep.table, name)[0] for name in AXES}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="sweep_choices"):
        axis = axes[0]
        if len(axes) > 1:
            picked = st.segmented_control(
                "Along", axes, format_func=_HOW.__getitem__, default=axes[0], required=True, key=_AXIS,
                bind="query-params",
            )  # fmt: skip
            axis = picked if picked in axes else axes[0]
        for name in axes:
            if name in (axis, "seed"):
                continue
            values = values_of(sweep.table, name)
            named = short_names(values) if name == "sae" else {str(value): str(value) for value in values}
            chosen: Any = st.selectbox(
                _HOW[name], values, format_func=partial(_named, named), key=f"sweep_{name}", width=190
            )
            held[name] = chosen if chosen in values else values[0]
    return axis, held


def _named(names: dict[str, str], value: Any) -> str:
    return names.get(str(value), str(value))


def _table(sweep: Sweep) -> None:
    """Means over seeds of every setting, highest first; the baselines among them."""
    means = over_seeds(sweep.table)
    means = means[means["outcome"] != "size"]
    first = "spearman" if sweep.has_outcome else "same_order"
    means = means.sort_values(first, ascending=False, kind="stable")
    shown = pd.DataFrame(
        {
            "What": [METRICS.get(str(name), str(name)) for name in means["score"]],
            "Kind": means["kind"],
            "SAE": [short_names(values_of(sweep.table, "sae")).get(str(name), str(name)) for name in means["sae"]],
            "Layer": means["layer"],
            "Width": means["features"],
            "L0": means["l0"],
            "Features": [str(choice) or "all" for choice in means["choice"]],
            "Pool": means["pool"],
            "Power": means["power"],
            "Spearman ρ": means["spearman"],
            "± sd": means["spearman_sd"],
            "r": means["r"],
            "r ± sd": means["r_sd"],
            "Same order": means["same_order"],
            "Seeds": means["seeds"],
        }
    )
    constant = [name for name in ("Pool", "Power") if shown[name].nunique() == 1]
    empty = [name for name in shown if shown[name].isna().all()]
    st.dataframe(
        shown.drop(columns=list(dict.fromkeys([*constant, *empty]))), hide_index=True, placeholder=DASH,
        height=_HEAD + _ROW * min(len(shown), _MOST_ROWS), column_config=_columns(), key="sweep_table",
        alt="Every setting with its means over seeds, the best first",
    )  # fmt: skip


def _columns() -> dict[str, Any]:
    column = st.column_config
    rank = "Spearman of the domains' scores with those of the first setting under the same seed."
    return {
        "What": column.TextColumn(pinned=True, width=200),
        "SAE": column.TextColumn(width=150),
        "Layer": column.NumberColumn(format="%d", width=60),
        "Width": column.NumberColumn("Width", format="localized", width=80, help="Features of the dictionary."),
        "L0": column.NumberColumn(format="%.1f", width=60, help="Features active a token, on the target set."),
        "Spearman ρ": column.NumberColumn(format="%.2f", help="Mean over seeds, against signed harm."),
        "± sd": column.NumberColumn(format="%.2f", help="Over seeds; a dash where there is one."),
        "r": column.NumberColumn("Pearson r", format="%.2f"),
        "r ± sd": column.NumberColumn("± sd", format="%.2f"),
        "Same order": column.NumberColumn(format="%.2f", help=rank),
        "Seeds": column.NumberColumn(format="%d", width=60),
        "Seed": column.NumberColumn(format="%d", width=60),
    }


def _files(sweep: Sweep, words: list[str]) -> None:
    """All rows, to take along: every point, seed, score and outcome with all of METHOD 6's numbers."""
    text = "".join(f"# {part}\n" for part in words) + sweep.table.to_csv(index=False)
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "CSV", text, CSV, "text/csv", key="sweep_csv", type="tertiary", icon=":material/download:",
            on_click="ignore", help="Every point, seed, score and outcome, with p, intervals and leave-one-out.",
        )  # fmt: skip
        st.download_button(
            "Parquet", (sweep.folder / TABLE).read_bytes(), TABLE, "application/vnd.apache.parquet",
            key="sweep_parquet", type="tertiary", icon=":material/download:", on_click="ignore", help="The same.",
        )  # fmt: skip


def _limits(sweep: Sweep) -> None:
    """What was not measured, and what limits the rest."""
    for name, why in sweep.manifest.get("baselines_not_stored", {}).items():
        st.caption(plain(f"{DASH} {name}: {why}."))
    for warning in sweep.manifest.get("warnings", []):
        st.caption(plain(warning))


def _origin(sweep: Sweep) -> str:
    results = sweep.manifest.get("results", [])
    new = sum(not one["was_stored"] for one in results)
    parts = [
        f"{count(len(results))} measurements, {count(new)} of them new",
        f"took {duration(sweep.manifest.get('seconds'))}",
        day(sweep.manifest.get("finished"), clock=True),
    ]
    return " · ".join(parts)


def _written(folder: Path) -> int:
    try:
        return (folder / TABLE).stat().st_mtime_ns
    except OSError:
        return 0


def _is_of(job: Job, target: str) -> bool:
    base = job.spec.get("base")
    data = base.get("target", {}) if isinstance(base, dict) else {}
    return isinstance(data, dict) and data.get("data") == target


def _ended(job: Job) -> str:
    return day(job.ended.isoformat() if job.ended else None, clock=True)
