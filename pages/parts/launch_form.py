"""Starting a fine-tune: its settings, the plan a child process makes of them, the command that does the same."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from pages.parts.choices import FIELDS, short
from pages.parts.escape import plain
from pages.parts.launch_fields import LABELS, METHODS, fields
from pages.parts.messages import show_error, told
from pages.parts.mixture_launch import LEFT, Filled, data_name, filled, forget
from pages.parts.planning import Planning, planned
from pages.parts.selection import KEY_HEAD, Selection
from pages.parts.spec_words import by_field, in_fields
from sts_core.errors import UserError
from sts_core.figures.numbers import count, number
from sts_core.figures.run_words import time_words
from sts_core.jobs.launch import start
from sts_core.spec import MMLU_DOMAINS
from sts_core.spec_file import to_toml
from sts_core.train.sft.spec import SftSpec

COMMAND: tuple[str, ...] = (sys.executable, "-m", "sts_core", "sft", "--plan")
FILE = "run.toml"
_DRAWN = "new_run_drawn"
_NO_RATE = "Choose a learning rate: the paper gives none, and none suits every model."


def launch_form(selection: Selection) -> None:
    """Draw it, folded; model, data and prediction are those of the line on top, or of the URL's mixture."""
    try:
        mixture = filled()
    except UserError as error:
        show_error(error)
        _leave_mixture()
        return
    _form(selection, mixture)


def _form(selection: Selection, mixture: Filled | None) -> None:
    box = st.expander(
        "New run", icon=":material/add:", key="new_run",
        expanded=mixture is not None or st.session_state.get(LEFT, False),
        on_change="rerun" if mixture is None else "ignore",
    )  # fmt: skip
    # A folded form of thirty fields would be gone over by the browser with every click on the page.
    if mixture is None and not (box.open or _begun()):
        return
    st.session_state[_DRAWN] = True
    with box:
        _draw(selection, mixture)


def _begun() -> bool:
    """Somebody has filled in something: this session, or whoever made the link."""
    return st.session_state.get(_DRAWN, False) or any(name.startswith("sft_") for name in st.query_params)


def _draw(selection: Selection, mixture: Filled | None) -> None:
    st.markdown(f":gray[{plain(_what(selection, mixture))}]")
    if mixture is not None:
        _leave_mixture()
    foretold = _prediction(selection) if mixture is None else mixture.key if mixture.foretold else None
    if foretold and not st.checkbox(
        "Hold the run against this prediction", True, key="sft_foretold", bind="query-params"
    ):
        foretold = None
    given = fields()
    values = _spec(selection, given, foretold) if mixture is None else _mixed_spec(mixture, given, foretold)
    if "learning_rate" not in values:
        st.caption(_NO_RATE)
        return
    try:
        spec = SftSpec.from_dict(values)
    except UserError as error:
        show_error(in_fields(error, LABELS))
        return
    # Above the code, which grows with the settings: a button must not move under a hand that presses it.
    how = Planning(
        "sft", "Plan this run", "Looking at the model and the rows …", COMMAND, said=partial(in_fields, fields=LABELS)
    )
    if (plan := planned(values, how)) is not None:
        _draw_plan(spec, plan)
    _same_in_a_terminal(values)


def _leave_mixture() -> None:
    st.button(
        "Train on the set chosen on top instead", key="sft_no_mixture", type="tertiary", icon=":material/close:",
        on_click=forget,
    )  # fmt: skip


def _same_in_a_terminal(values: dict[str, Any]) -> None:
    toml = to_toml(values)
    st.caption(f"The same in a terminal: these lines as {FILE}, and the command below them.")
    st.code(toml, language=None, wrap_lines=True)
    st.code(f"sts sft {FILE} --detach", language=None)
    st.download_button(
        FILE, toml, FILE, "application/toml", type="tertiary", icon=":material/download:", on_click="ignore",
        key="sft_toml", help="These lines as a file.",
    )  # fmt: skip


def _what(selection: Selection, mixture: Filled | None) -> str:
    if mixture is not None:
        text = f"Trains {short(mixture.model, 60)} on {mixture.title}, a mixture made here: {mixture.data}."
        if not mixture.foretold:
            return f"{text} The result that steered it is no longer here: the run is held against no prediction."
        return f"{text} The result {mixture.key[:KEY_HEAD]}, which steered it, is its prediction."
    model, target = short(selection.chosen["model"], 60), short(selection.chosen["target"], 60)
    text = f"Trains {model} on {target}, both chosen on top."
    if (stored := _prediction(selection)) is not None:
        return (
            f"{text} The result {stored[:KEY_HEAD]} is its prediction: written down before the first step, then tested."
        )
    return f"{text} There is no measured prediction of these settings: measure first to see one tested."


def _prediction(selection: Selection) -> str | None:
    """The result looked at, where it was measured for this model and target set."""
    stored, chosen = selection.stored, selection.chosen
    fits = stored is not None and (stored.model, stored.target) == (chosen["model"], chosen["target"])
    return stored.key if stored is not None and fits else None


def _spec(selection: Selection, given: Mapping[str, Any], foretold: str | None) -> dict[str, Any]:
    """The spec as a file has it: what is chosen on top, and what the fields give."""
    columns = {field: text for field in FIELDS if (text := selection.chosen.get(f"target_{field}"))}
    target = {"data": selection.chosen["target"], **({"columns": columns} if columns else {})}
    values = {
        "model": selection.chosen["model"], **given, **({"prediction": foretold} if foretold else {}),
        "target": target | given.get("target", {}),
        "evaluate": {"domains": "mmlu", **given.get("evaluate", {})} | _own_domains(selection),
    }  # fmt: skip
    return _as_in_a_file(values)


def _mixed_spec(mixture: Filled, given: Mapping[str, Any], foretold: str | None) -> dict[str, Any]:
    """The same of a mixture: what it was made for and with, and what the fields give."""
    kept = {"domains": "mmlu", "target_rows": mixture.evaluate_rows}
    return _as_in_a_file({
        "model": mixture.model, **given, **({"prediction": foretold} if foretold else {}),
        "target": {"data": mixture.data} | given.get("target", {}),
        "evaluate": {**kept, **given.get("evaluate", {})} | _named_domains(mixture.domains),
    })  # fmt: skip


def _as_in_a_file(values: dict[str, Any]) -> dict[str, Any]:
    tables = ("lora", "target", "evaluate")  # in a file, tables stand behind all else
    return {key: values[key] for key in (*(key for key in values if key not in tables), *tables) if key in values}


def _own_domains(selection: Selection) -> dict[str, Any]:
    """The domains chosen on top, where they are not simply all fourteen."""
    return _named_domains((selection.spec or {}).get("domains", []))


def _named_domains(domains: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    named = [
        {"name": d["name"], "data": d["data"], **({"columns": d["columns"]} if d.get("columns") else {})}
        for d in domains
    ]
    fourteen = [{"name": name, "data": f"mmlu/{name}"} for name in MMLU_DOMAINS]
    return {"domains": named} if named and named != fourteen else {}


def _draw_plan(spec: SftSpec, plan: dict[str, Any]) -> None:
    work, rows, kept = plan["work"], plan["rows"], plan["checkpoints"]
    parts = [
        f"{_data_told(spec)}: {count(rows['train'])} rows to train on, {count(plan['steps'])} steps, "
        f"{count(plan['tokens'])} tokens",
        f"about {time_words(work)}",
        f"{number(work['memory_gb'], 2)} GB of memory",
        f"{count(kept['kept'])} checkpoints and room for one more, {number(work['disk_gb'], 2)} GB on the disk",
    ]
    st.markdown(plain(" · ".join(parts)))
    for warning in plan.get("warnings", []):
        st.markdown(f":orange[:material/warning:] {plain(by_field(warning, LABELS))}")
    if st.button("Start", key="sft_start", type="primary", icon=":material/play_arrow:"):
        with told():
            job = start("sft", spec.to_dict(), title=_title(spec, plan["steps"]))
            st.query_params["run"] = job
            forget()
            st.rerun()


def _title(spec: SftSpec, steps: int) -> str:
    return f"{_data_told(spec)}, {METHODS[spec.method]}, {count(steps)} steps"


def _data_told(spec: SftSpec) -> str:
    return data_name(spec.target.data) or short(spec.target.data, 40)
