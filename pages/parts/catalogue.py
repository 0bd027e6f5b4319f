"""The catalogue of models and SAEs inside the pickers: what there is, what fits, and what must be accepted first.

The registry's file takes a second to read the first time, so a thread reads it, and only once somebody searches in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.escape import plain
from pages.parts.messages import show_error, told
from sts_core.errors import UserError
from sts_core.figures.numbers import count, number
from sts_core.nets import catalogue, presets
from sts_core.nets.catalogue import ModelEntry, SaeEntry

PATIENCE = 15.0
"""Seconds a person waits for the catalogue."""
_READER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalogue")


class Boxes(NamedTuple):
    """The two folded parts, drawn with the fields they belong to and filled once all fields are drawn."""

    models: Any
    saes: Any


def model_part(model: str) -> Any:
    """Below the field of the model: what must be accepted first, the paper's models, and a folded part to fill."""
    # Only a whole hub id is asked for here: a short name would need the catalogue, which may not be read yet.
    if "/" in model and (asked := catalogue.gate(model)):
        st.markdown(f":orange[:material/lock: {plain(asked)}]")
    st.caption("The paper's models:")
    with st.container(horizontal=True, gap="xsmall"):
        for preset in presets.PRESETS:
            st.button(preset.name, key=f"preset_{preset.name}", on_click=_choose, args=(preset.model, preset.saes[0]))
    if (chosen := presets.preset_for(model)) is not None:
        st.caption(plain(chosen.note))
    return _folded("Search models with SAEs", "model_catalogue")


def sae_part() -> Any:
    """Below the field of the SAE: a folded part to fill."""
    return _folded("Search SAEs of this model", "sae_catalogue")


def fill(boxes: Boxes, model: str, sae: str) -> None:
    """Fill what is open. Called after all fields are drawn, for the first time of all it takes a second.

    A click in that second then finds every field as it was chosen.
    """
    if boxes.models.open:
        with boxes.models:
            _search_models(model)
    if boxes.saes.open:
        with boxes.saes, told():
            _search_saes(model, sae)


def _search_models(model: str) -> None:
    if (known := _or_wait()) is None:
        return
    _search("Model", "model", {entry.name: _model_label(entry) for entry in known}, "Search by name or licence")
    entry = next((entry for entry in known if model in entry.names), None)
    st.caption("The model chosen is not in the catalogue." if entry is None else plain(_sae_count(entry)))


def _search_saes(model: str, sae: str) -> None:
    if _or_wait() is None:
        return
    found = catalogue.saes(model)
    usable = [entry for entry in found if entry.usable]
    if usable:
        names = {entry.name: label(entry) for entry in _of_a_layer(usable, model, sae)}
        _search("SAE", "sae", names, "Search by width, L0 or name")
    st.caption(plain(_hidden(found, usable)))


def label(entry: SaeEntry) -> str:
    """A SAE in one line: how wide it is, how many of its features are active at once, and its name."""
    parts = [f"{count(entry.width)} features" if entry.width else "", f"L0 {number(entry.l0, 2)}" if entry.l0 else ""]
    return " · ".join([*filter(None, parts), entry.name])


def _of_a_layer(usable: Sequence[SaeEntry], model: str, sae: str) -> list[SaeEntry]:
    """Those of the layer a person chooses: a model may have more than a thousand."""
    by_layer: dict[int, list[SaeEntry]] = {}
    for entry in usable:
        by_layer.setdefault(-1 if entry.layer is None else entry.layer, []).append(entry)
    layers = list(by_layer)
    now = next((entry.layer for entry in usable if entry.name == sae), None)
    layer = st.selectbox(
        "Layer",
        layers,
        layers.index(now) if now in by_layer else len(layers) // 2,
        key=f"sae_layer_{model}",
        format_func=lambda at: f"{'not stated' if at < 0 else at} ({_saes(len(by_layer[at]))})",
    )
    return by_layer.get(layer, [])


def _search(what: str, key: str, names: dict[str, str], placeholder: str) -> None:
    """A field to search in; what is found goes into the field above and this one is empty again."""
    found = f"{key}_found"

    def take() -> None:
        if name := st.session_state.get(found):
            st.session_state[key] = name
        st.session_state[found] = None

    st.selectbox(
        what,
        list(names),
        None,
        key=found,
        format_func=lambda name: names.get(name, name),
        placeholder=placeholder,
        on_change=take,
    )


def _folded(title: str, key: str) -> Any:
    """A folded part that knows whether it is open: nothing is looked up before."""
    return st.expander(title, key=key, type="compact", icon=":material/search:", on_change="rerun")


def _hidden(found: Sequence[SaeEntry], usable: Sequence[SaeEntry]) -> str:
    """How many SAEs of the model there are, and why the others are not shown."""
    if not found:
        return "No SAE of this model is known. Name a folder, or train one with sts sae train."
    told = f"{count(len(usable))} of {count(len(found))} SAEs of this model can be measured with here"
    reasons = Counter(entry.why_not for entry in found if not entry.usable).most_common(3)
    if not reasons:
        return f"{told}."
    why = " ".join(f"{count(times)}: {reason}" for reason, times in reasons)
    return f"{told}; {count(len(found) - len(usable))} are hidden. {why}"


def _model_label(entry: ModelEntry) -> str:
    licence = " · licence to accept" if entry.gated else ""
    return f"{entry.name} · {_saes(entry.usable)}{licence}"


def _sae_count(entry: ModelEntry) -> str:
    places = {
        "embedded": "It is shipped with the program",
        "here": "It is on this machine",
        "registry": "It is on the hub",
    }
    note = f" {entry.note}" if entry.note and not entry.gated else ""
    usable = f", {count(entry.usable)} of which can be measured with" if entry.usable < entry.saes else ""
    return f"{places[entry.source]}; {_saes(entry.saes)}{usable}.{note}"


def _saes(many: int) -> str:
    return "1 SAE" if many == 1 else f"{count(many)} SAEs"


def _choose(model: str, sae: str) -> None:
    st.session_state.update(model=model, sae=sae)


def _or_wait() -> list[ModelEntry] | None:
    """The models; None where they cannot be had, which is told."""
    reading = _reading()
    try:
        if reading.done():
            return reading.result()
        with st.skeleton(height=72):
            return reading.result(PATIENCE)
    except UserError as error:
        show_error(error)
    except TimeoutError:
        st.caption("The catalogue is still being read. Fold this part and open it again.")
    return None


def _reading() -> Future[list[ModelEntry]]:
    started = _started()
    if "models" not in started:
        started["models"] = _READER.submit(catalogue.models)
    return started["models"]


@st.cache_resource(ttl=60, show_spinner=False)
def _started() -> dict[str, Future[list[ModelEntry]]]:
    """Read anew every minute, for models may have been put on this machine."""
    return {}
