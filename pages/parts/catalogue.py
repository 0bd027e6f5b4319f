"""The catalogue of models and SAEs inside the pickers: what there is, what fits, and what must be accepted first.

The registry's file takes a second to read the first time, so a thread reads it, and only once a picker is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import streamlit as st

from pages.parts.escape import plain
from pages.parts.messages import show_error
from sts_core.errors import UserError
from sts_core.figures.numbers import count, number
from sts_core.nets import catalogue, presets
from sts_core.nets.catalogue import ModelEntry, SaeEntry

EVERY = 0.4
_READER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalogue")


def model_names() -> list[str]:
    """Every model's name, as far as the catalogue was read by now."""
    return [entry.name for entry in _known() or []]


def model_part(model: str) -> None:
    """Below the field of the model: the paper's models to choose, and what is known of the one that is chosen."""
    st.caption("The paper's models:")
    with st.container(horizontal=True, gap="xsmall"):
        for preset in presets.PRESETS:
            st.button(preset.name, key=f"preset_{preset.name}", on_click=_choose_preset, args=(preset,))
    if (chosen := presets.preset_for(model)) is not None:
        st.caption(plain(chosen.note))
    known = _or_wait()
    if known is None:
        return
    entry = next((entry for entry in known if model in entry.names), None)
    if asked := catalogue.gate(model) if entry is None or entry.source == "registry" else None:
        st.markdown(f":orange[:material/lock: {plain(asked)}]")
    if entry is None:
        st.caption("This name is not in the catalogue. It is looked for on this machine, then on the hub.")
    else:
        st.caption(plain(_sae_count(entry)))


def sae_part(model: str, sae: str) -> None:
    """Below the field of the SAE: those of the model that can be measured with, by layer, and how many cannot."""
    if _or_wait() is None:
        return
    try:
        found = catalogue.saes(model)
    except UserError as error:
        show_error(error)
        return
    usable = [entry for entry in found if entry.usable]
    if usable:
        _choose_sae(usable, model, sae)
    st.caption(plain(_hidden(found, usable)))


def label(entry: SaeEntry) -> str:
    """A SAE in one line: how wide it is, how many of its features are active at once, and its name."""
    parts = [f"{count(entry.width)} features" if entry.width else "", f"L0 {number(entry.l0)}" if entry.l0 else ""]
    return " · ".join([*filter(None, parts), entry.name])


def _choose_sae(usable: Sequence[SaeEntry], model: str, sae: str) -> None:
    by_layer: dict[int, list[SaeEntry]] = {}
    for entry in usable:
        by_layer.setdefault(-1 if entry.layer is None else entry.layer, []).append(entry)
    now = next((entry.layer for entry in usable if entry.name == sae), None)
    layers = list(by_layer)
    first = layers.index(now) if now in by_layer else len(layers) // 2
    layer = st.selectbox(
        "Layer",
        layers,
        first,
        key=f"sae_layer_{model}",
        format_func=lambda at: f"{'not stated' if at < 0 else at}: {count(len(by_layer[at]))} SAEs",
    )
    names = {entry.name: label(entry) for entry in by_layer.get(layer, usable)}
    st.selectbox(
        "Choose of the catalogue",
        list(names),
        None,
        key="sae_found",
        format_func=lambda name: names.get(name, name),
        placeholder="Search by width, L0 or name",
        on_change=_choose_found,
    )


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


def _sae_count(entry: ModelEntry) -> str:
    many = "One SAE is" if entry.saes == 1 else f"{count(entry.saes)} SAEs are"
    places = {"embedded": "shipped with the program", "here": "on this machine", "registry": "on the hub"}
    note = f" {entry.note}" if entry.note and not entry.gated else ""
    return (
        f"{many} known for it, {count(entry.usable)} can be measured with. The model is {places[entry.source]}.{note}"
    )


def _choose_preset(preset: presets.Preset) -> None:
    st.session_state["model"] = preset.model
    st.session_state["sae"] = preset.saes[0]


def _choose_found() -> None:
    if chosen := st.session_state.get("sae_found"):
        st.session_state["sae"] = chosen
    st.session_state["sae_found"] = None


def _or_wait() -> list[ModelEntry] | None:
    """The models; while they are being read a word and a skeleton in their place, and None."""
    reading = _reading()
    if reading.done():
        try:
            return reading.result()
        except UserError as error:
            show_error(error)
            return None
    st.caption("Reading the catalogue of public models …")
    st.skeleton(height=60)
    st.fragment(_look_again, run_every=EVERY)()
    return None


def _look_again() -> None:
    if _reading().done():
        st.rerun()


def _known() -> list[ModelEntry] | None:
    """The models when they were read without a fault, else None; starts no reading."""
    reading = _started().get("models")
    return reading.result() if reading is not None and reading.done() and not reading.exception() else None


def _reading() -> Future[list[ModelEntry]]:
    started = _started()
    if "models" not in started:
        started["models"] = _READER.submit(catalogue.models)
    return started["models"]


@st.cache_resource(ttl=60, show_spinner=False)
def _started() -> dict[str, Future[list[ModelEntry]]]:
    """Read anew every minute, for models may have been put on this machine."""
    return {}
