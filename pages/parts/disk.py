"""How much room the cache takes, part by part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from sts_core import folders

PARTS = {
    "bundle": "The embedded model, domains and training set",
    "results": "Finished results",
    "jobs": "Jobs: orders, logs and what they left",
    "uploads": "Files that were brought to the page",
    "downloads": "Half-done downloads",
    "models": "Models fetched from a hub",
}
"""What lies under which name in the cache."""


class Room(NamedTuple):
    """One part of the cache."""

    name: str
    what: str
    files: int
    bytes: int


@st.cache_data(ttl=20, max_entries=4, show_spinner=False)
def rooms(cache: str) -> list[Room]:
    """Every part that is there, the largest first; the shipped demo, which lies apart, among them."""
    places = {name: (Path(cache) / name, what) for name, what in PARTS.items()}
    places["demo"] = (folders.DEMO, "Shipped with the program: the demo's SAE and result")
    found = [Room(name, what, *_taken(place)) for name, (place, what) in places.items() if place.is_dir()]
    return sorted(found, key=lambda room: -room.bytes)


def taken(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return _taken(folder)[1]


def _taken(folder: Path) -> tuple[int, int]:
    files = size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(place) / name).lstat().st_size
                files += 1
            except OSError:  # it went away while we looked
                continue
    return files, size
