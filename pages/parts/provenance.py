"""Where a number comes from: the settings of a result and all that was kept of how it was made."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from pages.parts.choices import as_toml
from pages.parts.escape import plain
from pages.parts.selection import Selection
from sts_core.figures.numbers import DASH, count, day, duration
from sts_core.results import Result
from sts_core.store.results import Stored


def line(stored: Stored) -> str:
    """One line that names what was measured, for the foot of a figure and the head of a file."""
    layer = f", layer {stored.layer}" if stored.layer is not None else ""
    when = day(stored.finished.isoformat())
    return f"{stored.model}, {stored.sae}{layer}, {stored.target}; {when}; result {stored.key[:12]}"


def origin(selection: Selection) -> None:
    """Under a page's answer: when and where it was measured, whether it was shipped, whether the choices differ."""
    result, stored = selection.result, selection.stored
    if result is None or stored is None:
        return
    device = result.manifest.get("resolved", {}).get("device", "this machine")
    text = f"Measured {day(stored.finished.isoformat())} on {device} in {duration(result.manifest.get('seconds'))}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f":gray[:material/schedule: {plain(text)}]", width="content")
        if stored.demo:
            st.badge("Shipped demo", color="blue", help="Measured before and shipped with the program.")
        if selection.stale:
            st.badge(
                "Settings differ from this result",
                icon=":material/history:",
                color="orange",
                help="The figures show what was measured. Measure again to see them for the settings above.",
            )


def provenance(result: Result, stored: Stored) -> None:
    """Settings and provenance, folded."""
    manifest = result.manifest
    with st.expander("Settings and provenance", icon=":material/receipt_long:"):
        left, right = st.columns(2, gap="large")
        with left:
            st.table(_facts(manifest, stored), border="horizontal", width="stretch")
            for warning in manifest.get("warnings", []):
                st.markdown(f":orange[:material/warning:] {plain(warning)}")
        with right:
            st.caption("The settings as a file, for sts run on a command line:")
            st.code(as_toml(manifest["spec"]), language=None, wrap_lines=True)
        with st.container(horizontal=True):
            _downloads(manifest, stored)


def _downloads(manifest: dict[str, Any], stored: Stored) -> None:
    name = stored.key[:12]
    st.download_button(
        "Settings (TOML)", as_toml(manifest["spec"]), f"{name}.toml", icon=":material/download:", on_click="ignore"
    )
    st.download_button(
        "Manifest (JSON)",
        json.dumps(manifest, indent=1),
        f"{name}.json",
        "application/json",
        icon=":material/download:",
        on_click="ignore",
    )


def _facts(manifest: dict[str, Any], stored: Stored) -> dict[str, str]:
    resolved = manifest.get("resolved", {})
    facts = {
        "Measured": day(stored.finished.isoformat(), clock=True)
        + (", shipped with the program" if stored.demo else ""),
        "Took": duration(manifest.get("seconds")),
        "Device and type": f"{resolved.get('device', DASH)}, {resolved.get('dtype', DASH)}",
        "Model": _named(stored.model, resolved.get("model")),
        "SAE": _named(stored.sae, resolved.get("sae")),
        "Layer": DASH if stored.layer is None else str(stored.layer),
        "Target set": stored.target,
        "Seed": str(manifest.get("seed", manifest["spec"].get("run", {}).get("seed", DASH))),
        "Tokens pooled": count(_pooled(manifest)),
        "Versions": ", ".join(f"{name} {version}" for name, version in dict(manifest.get("versions") or {}).items())
        or DASH,
        "Key": stored.key,
    }
    return {name: plain(value) for name, value in facts.items()}


def _named(name: str, resolved: Any) -> str:
    revision = resolved.get("revision") if isinstance(resolved, dict) else None
    return f"{name}, revision {str(revision)[:16]}" if revision else name


def _pooled(manifest: dict[str, Any]) -> float | None:
    tokens = manifest.get("tokens")
    pooled = tokens.get("pooled") if isinstance(tokens, dict) else None
    return pooled if isinstance(pooled, int | float) else None
