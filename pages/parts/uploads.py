"""Files a person brings: kept in the cache under what they hold, never under a path of theirs, if they can be read."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.choices import domain_files
from pages.parts.messages import show_error
from sts_core.errors import UserError
from sts_core.folders import atomic_write, cache, ensure
from sts_core.text.sources import read_records

MOST_MB = 50
"""The largest file that is taken by way of the page; a larger one is named by its path."""


def keep_target_file() -> None:
    """Keep the uploaded target set and choose it; a file that cannot be read is refused, and why is told."""
    file = st.session_state.get("target_file")
    st.session_state.pop("target_refused", None)
    if file is None:
        return
    try:
        st.session_state["target"] = str(_kept(file, _digest([file])))
    except UserError as error:
        st.session_state["target_refused"] = error


def keep_domain_files() -> None:
    """Keep the uploaded domains side by side and choose their folder; one bad file refuses them all."""
    files = st.session_state.get("domain_files") or []
    st.session_state.pop("domain_refused", None)
    if not files:
        return
    try:
        together = _digest(files)
        places = [_kept(file, together) for file in files]
        folder = str(places[0].parent)
        if len(domain_files(folder)) < len(files):
            raise UserError("Two of the files have one name", "Name each file after its domain.")
        st.session_state["domain_folder"] = folder
    except UserError as error:
        st.session_state["domain_refused"] = error


def show_refusal(side: str) -> None:
    """Under the field of the files: why the last ones were not taken."""
    if (error := st.session_state.get(f"{side}_refused")) is not None:
        show_error(error)


def uploads() -> Path:
    """Where they lie."""
    return cache() / "uploads"


def _kept(file: Any, digest: str) -> Path:
    """Where the file lies from now on. What cannot be read as records does not stay."""
    place = ensure(uploads() / digest) / _safe_name(file.name)
    if not place.is_file():
        atomic_write(place, file.getvalue())
        try:
            if not read_records(place):
                raise UserError(f"{place.name} holds no rows", "Give a file with at least one record.")
        except UserError:
            place.unlink()
            raise
    return place.resolve()


def _digest(files: list[Any]) -> str:
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.name):
        whole.update(hashlib.sha256(file.name.encode() + b"\0" + file.getvalue()).digest())
    return whole.hexdigest()[:16]


def _safe_name(name: str) -> str:
    """The last part of the name alone, of letters that mean nothing to a file system."""
    last = re.split(r"[\\/]", name)[-1]
    return re.sub(r"[^\w. &-]", "_", last).lstrip(". ")[-100:] or "file"
