"""What the feature browser knows: a result's features, their labels, galleries, meanings, and the runs that moved them.

Everything is read once and kept while its files stay as they are; a file that is written anew is read anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from pages.parts.run_data import titles
from pages.parts.selection import Selection, open_stored
from sts_core import folders
from sts_core.jobs.folder import marked, result_folder
from sts_core.results import labels
from sts_core.results.dictionary import Dictionary, dictionary_of
from sts_core.results.folder import TARGET
from sts_core.results.gallery import Gallery, gallery_for, gallery_of, open_gallery
from sts_core.results.spread import size_of
from sts_core.store.browse import Features, read_features
from sts_core.store.example_text import SHORTEST, ExampleTexts
from sts_core.store.results import Stored

NO_LABELS = pd.DataFrame({"feature": [], "label": []})


class Moved(NamedTuple):
    """How far something moved a feature."""

    what: str
    shift: float
    signed: float
    rank: int
    features: int


class Revisions(NamedTuple):
    """What names the exact model and SAE of a result; empty where the result does not tell."""

    model: str
    sae: str


def revisions(selection: Selection) -> Revisions:
    """Of the result that is looked at."""
    resolved = selection.result.manifest.get("resolved", {}) if selection.result else {}
    return Revisions(*(str((resolved.get(name) or {}).get("revision") or "") for name in ("model", "sae")))


@st.cache_resource(max_entries=2, show_spinner=False)
def features_of(folder: str, key: str) -> Features:
    """All features of a result, ready to be asked."""
    names = [TARGET, *open_stored(folder, key).domains]
    return read_features(Path(folder), {name: size_of(Path(folder), name)[0] for name in names})


def labels_of(of: Revisions) -> pd.DataFrame:
    """What the features are called, with notes and stars; empty where the result does not name its SAE."""
    if not of.sae:
        return NO_LABELS
    return _labels(of, _written(folders.cache() / "labels" / of.sae, folders.DEMO / "labels" / of.sae))


@st.cache_resource(max_entries=4, show_spinner=False)
def _labels(of: Revisions, written: tuple[Any, ...]) -> pd.DataFrame:
    return labels.labels_of(of.sae, of.model or None)


def label_of(table: pd.DataFrame, feature: int) -> dict[str, Any]:
    """One feature's row; empty where nothing is known of it."""
    found = table[table["feature"] == feature]
    return {} if found.empty else {str(name): value for name, value in found.iloc[0].items()}


def gallery(stored: Stored, feature: int) -> Gallery | None:
    """The gallery of a result, or one that was made for a list with this feature in it; None where there is none."""
    folder = gallery_for(stored.folder, [feature], sources=())
    return None if folder is None else _gallery(str(folder), _written(folder))


@st.cache_resource(max_entries=4, show_spinner=False)
def _gallery(folder: str, written: tuple[Any, ...]) -> Gallery:
    return open_gallery(Path(folder))


def features_with(stored: Stored, text: str) -> tuple[int, ...]:
    """The features with an example that holds the text; none where no gallery of all features was made.

    A number alone is a feature's: in examples it would find others too.
    """
    asked = len(text.strip()) >= SHORTEST and not text.strip().isdigit()
    folder = gallery_of(stored.folder) if asked else None
    return () if folder is None else _example_texts(str(folder), _written(folder)).features_with(text)


@st.cache_resource(max_entries=2, show_spinner="Reading the texts of the examples, once …")
def _example_texts(folder: str, written: tuple[Any, ...]) -> ExampleTexts:
    return ExampleTexts(open_gallery(Path(folder)))


def meanings(selection: Selection) -> Dictionary | None:
    """The dictionary of the result's SAE on its model; None where none was made."""
    of, stored = revisions(selection), selection.stored
    if stored is None or not of.sae or not of.model:
        return None
    name = stored.sae
    beside = folders.DEMO / name.removeprefix("demo/") if name.startswith("demo/") else Path(name).expanduser()
    found = dictionary_of(SimpleNamespace(revision=of.model), SimpleNamespace(revision=of.sae, folder=beside))
    return None if found is None else _meanings(str(found), _written(found))


@st.cache_resource(max_entries=4, show_spinner=False)
def _meanings(path: str, written: tuple[Any, ...]) -> Dictionary:
    return Dictionary(Path(path))


def tested_runs(key: str) -> dict[str, str]:
    """Fine-tuning runs whose real shift was measured against this result: id -> title.

    Those on the set alone, which is what was foretold, before those with other domains mixed in; the newest first.
    """
    held = sorted(_held(key), key=lambda run: run[2])
    return {job: marked(title, job) for job, title, _ in held}


def times_tested(key: str) -> int:
    """How many fine-tunes on the set alone were held against this result."""
    return sum(not mixed for _, _, mixed in _held(key))


def _held(key: str) -> list[tuple[str, str, bool]]:
    """Id, title, and whether other domains were mixed in."""
    runs = [(job, title, _manifest(result_folder(job)) or {}) for job, title in titles().items()]
    return [
        (job, title, "mixture" in (told.get("rows") or {}))
        for job, title, told in runs
        if told.get("prediction") == key
    ]


def moved_by_run(job: str, title: str, feature: int) -> Moved | None:
    """How far a fine-tune moved a feature; None where its shift cannot be read."""
    path = result_folder(job) / "shift.parquet"
    try:
        table = _run_shift(str(path), _written(path))
        row = table.loc[feature]
    except (OSError, pa.ArrowException, KeyError):
        return None
    return Moved(title, float(row["shift_sft"]), float(row["signed_sft"]), int(row["rank"]), len(table))


@st.cache_resource(max_entries=8, show_spinner=False)
def _run_shift(path: str, written: tuple[Any, ...]) -> pd.DataFrame:
    """A run's shift by feature, with ranks: equal values by the lower number first."""
    table = pq.read_table(path, columns=["feature", "shift_sft", "signed_sft"]).to_pandas()
    ordered = table.sort_values(["shift_sft", "feature"], ascending=[False, True])
    return ordered.assign(rank=range(1, len(table) + 1)).set_index("feature")


def _manifest(folder: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and (folder / "shift.parquet").is_file() else None


def _written(*places: Path) -> tuple[Any, ...]:
    """What changes when one of these files, or of the files below these folders, is written anew."""
    found = []
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            try:
                stat = path.stat()
            except OSError:
                continue
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)
