"""What a probe takes from a finished result: its demonstrations, and how active every feature usually is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sts_core.errors import UserError
from sts_core.fingerprint import sha256_file
from sts_core.results.folder import TARGET, Result
from sts_core.spec import Spec
from sts_core.text.sources import demonstration_source, locate, read_rows


class Shown(NamedTuple):
    """What a result put before its target set's queries, and what it knows of its model."""

    turns: tuple[str, ...]
    """User and assistant by turns."""
    outlier_norm: float | None
    """The residual norm above which a token was left out; None where none was."""
    model: str
    """The model's revision then."""
    sae: str
    """The SAE's revision then."""
    key: str
    """The result's."""


def demonstrations(folder: Path) -> Shown:
    """Read them from the very rows that the result names; UserError when their file is another one by now."""
    manifest = Result(folder).manifest
    try:
        target = Spec.from_dict(manifest["spec"]).target
        rows = tuple(int(row) for row in manifest["sets"][TARGET]["demo_rows"])
        resolved = manifest["resolved"]
        digests = resolved["files"][TARGET]
        own = demonstration_source(target)
        data, columns = own or (target.data, target.columns)
        digest = str(digests["demo_data" if own else "data"])
        revisions = str(resolved["model"]["revision"]), str(resolved["sae"]["revision"])
        norm = manifest.get("outlier_norm")
        most = None if norm is None else float(norm)
        key = str(manifest["key"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"The manifest in {folder} does not say what its demonstrations were", "Measure again with `sts run`."
        ) from None
    path = locate(data, demos=bool(own))
    stat = path.stat()
    turns = _turns(path, stat.st_size, stat.st_mtime_ns, digest, _frozen(columns), rows)
    return Shown(turns, most, *revisions, key)


def _frozen(columns: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(columns.items()))


@lru_cache(maxsize=8)
def _turns(
    path: Path, _size: int, _changed: int, digest: str, columns: tuple[tuple[str, str], ...], rows: tuple[int, ...]
) -> tuple[str, ...]:
    """Kept as long as the file is the same: the rows of a set take a while to read."""
    if sha256_file(path) != digest:
        raise UserError("The demonstrations of the result have changed since", "Measure it again with `sts run`.")
    found = {row.number: row for row in read_rows(path, dict(columns), ("question", "worked")).rows}
    if not rows or not set(rows) <= found.keys():
        raise UserError("The demonstrations of the result are not in its data", "Measure it again with `sts run`.")
    return tuple(text for row in rows for text in (found[row].question, found[row].worked or ""))


@lru_cache(maxsize=4)
def usual_activity(folder: Path, key: str) -> np.ndarray:
    """[features]: the mean over the result's sets, target and domains alike, of a feature's mean activation (base)."""
    result = Result(folder)
    sets = [result.shift["mean_base"].to_numpy(dtype=float)]
    vectors = result.vectors
    sets += [part["mean_act"].to_numpy(dtype=float) for _, part in vectors.groupby("domain", sort=False)]
    if len({len(means) for means in sets}) > 1:
        raise UserError(f"{key}: not every set has every feature", "Measure again with `sts run … --fresh`.")
    means: np.ndarray = np.mean(sets, axis=0)
    return means
