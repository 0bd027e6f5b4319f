"""How much room the cache takes, part by part; of the jobs also what of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from sts_core import folders
from sts_core.jobs.disk import disk_use_of_all
from sts_core.store.database import database_path

PARTS = {
    "bundle": "The embedded model, domains and training set",
    "results": "Finished results",
    "jobs": "Jobs: orders, logs and what they left",
    "saes": "SAEs trained here",
    "imported": "Outcomes that were brought by name",
    "evaluated": "What models were scored on before a training",
    "uploads": "Files that were brought to the page",
    "downloads": "Half-done downloads",
    "models": "Models fetched from a hub",
}
"""What lies under which name in the cache."""
_OF_JOBS = {
    "checkpoints": "Checkpoints of trainings",
    "result": "What jobs brought, without checkpoints",
    "log": "Logs",
    "record": "Orders and events",
}


class Room(NamedTuple):
    """One part of the cache."""

    name: str
    what: str
    files: int | None
    bytes: int
    within: bool = False
    """It is a part of another part, and counted there."""


@st.cache_data(ttl=20, max_entries=4, show_spinner=False)
def rooms(cache: str) -> list[Room]:
    """Every part that is there, the largest first; the shipped demo, which lies apart, among them."""
    places = {name: (Path(cache) / name, what) for name, what in PARTS.items()}
    places["demo"] = (folders.DEMO, "Shipped with the program: the demo's SAE and result")
    found = [Room(name, what, *_taken(place)) for name, (place, what) in places.items() if place.is_dir()]
    found += [Room("database", "What is asked of jobs; made anew from their folders", *_database())]
    largest = sorted(found, key=lambda room: -room.bytes)
    return [part for room in largest for part in [room, *(_of_jobs() if room.name == "jobs" else [])]]


def taken(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return _taken(folder)[1]


def _of_jobs() -> list[Room]:
    use = disk_use_of_all()
    parts = [Room(f"jobs: {name}", what, None, getattr(use, name), True) for name, what in _OF_JOBS.items()]
    return sorted((part for part in parts if part.bytes), key=lambda room: -room.bytes)


def _database() -> tuple[int, int]:
    path = database_path()
    sizes = [_size(place) for place in path.parent.glob(f"{path.stem}.*")]
    return len(sizes), sum(sizes)


def _taken(folder: Path) -> tuple[int, int]:
    sizes = [_size(Path(place) / name) for place, _, names in os.walk(folder) for name in names]
    return len(sizes), sum(sizes)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # it went away while we looked
        return 0
