"""From a made mixture to the form that trains on it: the link names the mixture's job, the form reads its manifest.

So a link fills the form in, also on another day, and no path stands in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.selection import KEY_HEAD
from sts_core.errors import UserError
from sts_core.figures.mixture_words import mixture_name, mixture_told
from sts_core.folders import DEMO
from sts_core.jobs.folder import RESULT, locate
from sts_core.results import Result, shelf
from sts_core.train.mixture.manifest import MANIFEST, folder_of, read_manifest

MIXTURE = "mixture"
"""The URL's name for the mixture that the form is filled in with."""
LEFT = "new_run_mixture_left"
"""The session's mark that its form was filled in with a mixture and no longer is: it stays open."""


class Filled(NamedTuple):
    """What the form takes from a mixture."""

    title: str
    """`math + 220 rows by STS`."""
    data: str
    """Its manifest."""
    model: str
    key: str
    """Of the result that steered it, which is the run's prediction."""
    foretold: bool
    """Whether that result is here."""
    domains: list[dict[str, Any]]
    """What is evaluated: the domains of that result."""
    evaluate_rows: int
    """Rows of the training set that it kept back."""


def train_on(job: str, manifest: Mapping[str, Any]) -> None:
    """Open the form, filled in."""
    key = str(manifest["result"]["key"])
    st.switch_page("pages/views/runs.py", query_params={"result": key[:KEY_HEAD], MIXTURE: job})


def filled() -> Filled | None:
    """What the URL's mixture fills in; None without one. A UserError tells why it cannot be trained on."""
    job = st.query_params.get(MIXTURE, "")
    return from_job(job) if job else None


def forget() -> None:
    """Take the mixture out of the form."""
    st.query_params.pop(MIXTURE, None)
    st.session_state[LEFT] = True


def from_job(job: str) -> Filled:
    """What the mixture of a finished job fills in."""
    folder = locate(job) / RESULT
    manifest = read_manifest(folder)
    try:
        key, kept = str(manifest["result"]["key"]), int(manifest["spec"]["target"]["evaluate_rows"])
        title = mixture_name(manifest)
        model = str(manifest["model"]["name"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"The manifest of {job} is not whole", "Make the mixture again.") from None
    result = _result(key, str(manifest["result"].get("folder", "")))
    spec = result.manifest["spec"] if result is not None else {}
    return Filled(
        title, str((folder / MANIFEST).resolve()), str(spec.get("model") or model), key, result is not None,
        list(spec.get("domains") or []), kept,
    )  # fmt: skip


def manifest_of(data: str) -> Mapping[str, Any] | None:
    """The manifest of the mixture that a training set's name means; None for any other, and for one that is gone."""
    folder = folder_of(data)
    if folder is None:
        return None
    try:
        return read_manifest(folder)
    except UserError:
        return None


def data_name(data: str) -> str | None:
    """What a training set is called where it is a mixture; None where it is none."""
    manifest = manifest_of(data)
    try:
        return None if manifest is None else mixture_told(manifest)
    except (KeyError, TypeError):
        return None


def _result(key: str, folder: str) -> Result | None:
    """The result by its key, wherever it is kept: the store, the demo, or the folder that the mixture was made from."""
    for place in (shelf.find(key), DEMO / "result", Path(folder) if folder else None):
        try:
            found = Result(place) if place is not None else None
        except UserError:
            continue
        if found is not None and str(found.manifest.get("key")) == key:
            return found
    return None
