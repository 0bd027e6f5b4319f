"""Files a person brings: kept in the cache under what they hold, never under a path of theirs."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import streamlit as st

from sts_core.folders import atomic_write, cache, ensure


def keep_target_file() -> None:
    """Keep the uploaded target set and choose it."""
    file = st.session_state.get("target_file")
    if file is not None:
        st.session_state["target"] = str(_kept(file, _digest([file])))


def keep_domain_files() -> None:
    """Keep the uploaded domains side by side and choose their folder."""
    files = st.session_state.get("domain_files") or []
    if files:
        together = _digest(files)
        places = [_kept(file, together) for file in files]
        st.session_state["domain_folder"] = str(places[0].parent)


def uploads() -> Path:
    """Where they lie."""
    return cache() / "uploads"


def _kept(file: Any, digest: str) -> Path:
    place = ensure(uploads() / digest) / _safe_name(file.name)
    if not place.is_file():
        atomic_write(place, file.getvalue())
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
