"""With and without a mixture: what each run did to every domain, and what mixing in changed, question by question.

Offered where the compared runs trained on one target set, with different mixtures or none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from pages.parts.charts import picture
from pages.parts.escape import plain
from pages.parts.messages import told
from pages.parts.mixture_launch import manifest_of
from pages.parts.run_data import Run
from pages.parts.style import mode
from sts_core.errors import UserError
from sts_core.figures.mixture import Panel, change_panels
from sts_core.figures.mixture_words import PANEL_AXES, effect_headline, effect_rest, mixture_name, pairing_words
from sts_core.figures.numbers import column_decimals, signed, with_error
from sts_core.figures.run_words import changes_axis, changes_caption
from sts_core.figures.words import target_name
from sts_core.jobs.differences import differences
from sts_core.jobs.folder import result_folder
from sts_core.results.mixture_effect import Arm, Effect, Mixed, Told, effect
from sts_core.results.outcomes.rows import read_rows

METRICS = {"nll": "Answer likelihood", "accuracy": "Accuracy"}
NO_MIXTURE = "no mixture"
ACROSS = 3
"""Panels beside each other."""
_SET_BY_THE_MIXTURE = ("target.data", "target.columns", "target.answer")
"""Settings that differ because of the mixture itself."""


class Trained(NamedTuple):
    """A run and what it was trained on."""

    run: Run
    name: str
    """`no mixture`, `220 rows by STS`."""
    target: tuple[str, str]
    """The target set: its data and its columns."""
    mixed: Mapping[str, int]
    sha256: str
    """Of the mixture's file; nothing without one."""


def compare_mixtures(runs: Sequence[Run]) -> None:
    """Draw it; nothing where there is nothing to compare."""
    with told():
        if trained := side_by_side(runs):
            _draw(trained)


def _draw(trained: Sequence[Trained]) -> None:
    st.header("With and without a mixture", anchor=False)
    metrics = [name for name in METRICS if all(len(one.run.changes(name)) for one in trained)]
    if not metrics:
        st.caption("Not every one of these runs was evaluated before and after: there is nothing to compare yet.")
        return
    metric = st.segmented_control(
        "Measured by", metrics, format_func=METRICS.__getitem__, default=metrics[0], required=True,
        key="mixture_measure", bind="query-params",
    )  # fmt: skip
    metric = metric if metric in metrics else metrics[0]
    first, *others = [_arm(one, metric) for one in trained]
    found = [effect(first, other, metric) for other in others]
    for mixed in found:
        st.markdown(f"**{plain(effect_headline(mixed, metric))}** {plain(' '.join(effect_rest(mixed, metric)))}")
    _caution(trained, found)
    _draw_panels(trained, metric)
    _draw_table(found, metric)


def side_by_side(runs: Sequence[Run]) -> list[Trained]:
    """The runs of one target set, the one without a mixture first; none where fewer than two mixtures differ."""
    trained = [found for run in runs if (found := _trained(run)) is not None]
    targets = [one.target for one in trained]
    most = max(set(targets), key=lambda target: (targets.count(target), -targets.index(target)), default=None)
    same = [one for one in trained if one.target == most]
    if len({one.sha256 for one in same}) < 2:
        return []
    return _told_apart(sorted(same, key=lambda one: bool(one.sha256)))


def _trained(run: Run) -> Trained | None:
    """What a run was trained on; None where its mixture's folder is gone, so that nobody knows."""
    target = run.spec.get("target")
    target = target if isinstance(target, dict) else {}
    data = str(target.get("data", ""))
    manifest = manifest_of(data)
    if manifest is None:
        columns = json.dumps(target.get("columns") or {}, sort_keys=True)
        return None if data.endswith("manifest.json") else Trained(run, NO_MIXTURE, (data, columns), {}, "")
    source = manifest["sources"]["target"]
    mixed = {name: len(rows) for name, rows in manifest["rows"].items() if name != "target"}
    name = mixture_name(manifest).removeprefix(f"{target_name(str(source['data']))} + ")
    own = (str(source["data"]), json.dumps(source["columns"], sort_keys=True))
    return Trained(run, name, own, mixed, str(manifest["file"]["sha256"]))


def _told_apart(trained: list[Trained]) -> list[Trained]:
    """Two that would bear one name are told apart by their runs."""
    names = [one.name for one in trained]
    return [
        one._replace(name=f"{one.name} ({one.run.job.id[-6:]})") if names.count(one.name) > 1 else one
        for one in trained
    ]


def _arm(one: Trained, metric: str) -> Arm:
    """The run as it is held against another: with its questions one by one, where they were kept."""
    table = pd.concat([one.run.target_changes(metric), one.run.changes(metric)])
    changes = {
        str(domain): Told(float(value), _known(se), None if _known(n) is None else int(n))
        for domain, value, se, n in zip(*(table[name] for name in ("domain", "value", "se", "n")), strict=True)
    }
    try:
        rows = read_rows(result_folder(one.run.job.id))
    except UserError:
        rows = None
    return Arm(one.name, one.mixed, changes, rows, _files(one))


def _files(one: Trained) -> dict[str, str]:
    """What each set was read from, and who answered."""
    model, evaluated = str(one.run.spec.get("model", "")), one.run.spec.get("evaluate")
    domains = evaluated.get("domains", []) if isinstance(evaluated, dict) else []
    domains = domains if isinstance(domains, list) else []
    found = {
        str(domain.get("name")): json.dumps([model, domain.get("data"), domain.get("columns") or {}], sort_keys=True)
        for domain in domains
        if isinstance(domain, dict)
    }
    return found | {"target": json.dumps([model, *one.target])}


def _known(value: Any) -> float | None:
    return None if value is None or not math.isfinite(float(value)) else float(value)


def _caution(trained: Sequence[Trained], found: Sequence[Mixed]) -> None:
    """How the errors came about, and what else than the mixture differs between the runs."""
    told_of = [pairing_words(mixed) for mixed in found]
    st.caption(plain(" ".join(dict.fromkeys(told_of))))
    rows = differences([one.run.spec for one in trained])
    others = [row.name for row in rows if row.name not in _SET_BY_THE_MIXTURE]
    if others:
        st.markdown(
            f":orange[:material/warning:] These runs differ in more than the mixture: {plain(', '.join(others[:6]))}."
        )
    if len(trained) > 1:
        st.caption("One run each: another seed moves these numbers too, which their errors do not hold.")


def _draw_panels(trained: Sequence[Trained], metric: str) -> None:
    panels = [
        Panel(
            one.name[:1].upper() + one.name[1:],
            one.run.changes(metric),
            one.mixed,
            [f"{changes_caption(one.run.changes(metric))}; + rows mixed in. Run {one.run.job.id}"],
        )
        for one in trained
    ]
    figures = change_panels(panels, PANEL_AXES[metric], mode())
    places = [column for _ in range(0, len(panels), ACROSS) for column in st.columns(min(len(panels), ACROSS))]
    for place, panel, figure, one in zip(places, panels, figures, trained, strict=False):
        with place:
            st.plotly_chart(
                figure, theme=None, key=f"mixture_panel_{one.run.job.id}", alt=f"Changes of domains: {panel.title}",
                config=picture(f"mixture-{metric}-{one.run.job.id}", figure.layout.height),
            )  # fmt: skip


def _draw_table(found: Sequence[Mixed], metric: str) -> None:
    """The differences with their errors, readable and as a file."""
    columns = {}
    for mixed in found:
        rows = [*([mixed.target] if mixed.target else []), *mixed.domains]
        places = column_decimals([one.difference for one in rows], [one.se for one in rows])
        columns[f"{mixed.with_it} − {mixed.without}"] = {one.domain: _difference(one, places) for one in rows}
    table = pd.DataFrame(columns).rename_axis("Domain")
    axis = changes_axis(metric)
    st.caption(plain(f"What mixing in changed, ± 1 s.e.: {axis[:1].lower()}{axis[1:]}."))
    st.dataframe(
        table,
        column_config={"_index": st.column_config.Column(width=110)},
        alt="What mixing in changed in each domain, with its error",
    )
    lines = [
        {"with": mixed.with_it, "against": mixed.without, "metric": metric, **one._asdict()}
        for mixed in found
        for one in [*([mixed.target] if mixed.target else []), *mixed.domains]
    ]
    st.download_button(
        "CSV", pd.DataFrame(lines).to_csv(index=False), f"mixtures-{metric}.csv", "text/csv", key="csv_mixtures",
        type="tertiary", icon=":material/download:", on_click="ignore", help="Every difference with its error.",
    )  # fmt: skip


def _difference(one: Effect, places: int) -> str:
    plus = "+" if one.difference > 0 else ""
    return f"{plus}{with_error(one.difference, one.se, places)}" if one.se is not None else signed(one.difference)
