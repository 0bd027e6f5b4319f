"""How fast this machine did its work before: tokens a second by what was done, kept for the next plan."""

from __future__ import annotations

import json
from pathlib import Path

from sts_core import folders

MEASURING, TRAINING = "rates.json", "training-rates.json"
"""The files in the cache, by kind of work."""


def known(file: str) -> dict[str, float]:
    """All that is kept; nothing where there is no such file, or none that can be read."""
    try:
        return {key: float(value) for key, value in json.loads(_path(file).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def keep(file: str, key: str, rate: float) -> None:
    """Keep a rate under its key."""
    folders.atomic_json(_path(file), {**known(file), key: round(rate, 1)})


def _path(file: str) -> Path:
    return folders.cache() / file
