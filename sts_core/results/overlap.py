"""A result's shifted features against another ranking of the same features: a result's, a fine-tune's, or a file's.

What is read here is only what the comparison needs, so that a wide SAE's folder costs megabytes and not gigabytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from sts_core.errors import UserError
from sts_core.results.folder import TARGET, Result
from sts_core.stats.jackknife import FEWEST_ITEMS
from sts_core.stats.overlap import Null, Overlap, Side, overlap

SHIFT, GROUPS = "shift.parquet", "groups.safetensors"
SFT, ICL, NOISE = "shift_sft", "shift_icl", "shift_noise"
_MEASURE_AGAIN = "Measure again with `sts run … --fresh`."


class Comparison(NamedTuple):
    """Overlap@k of a result with another ranking, and what one must know to read it."""

    rows: list[Overlap]
    """One for each k, smallest first."""
    features: int
    firing: int
    """Features that fire in either arm, or moved in the other ranking."""
    tokens: int
    """Pooled tokens of the result's target set."""
    other_tokens: int | None
    """The same of the other side; None where it does not say."""
    other_column: str
    """What the other side is ranked by."""
    same_queries: bool
    """Whether both sides read the same questions, which are then resampled together."""
    notes: list[str]
    """What limits the comparison, in a person's words."""

    def public(self) -> dict[str, Any]:
        """The same for JSON; what was not measured is null."""
        values = {name: value for name, value in self._asdict().items() if name != "rows"}
        return {**values, "overlaps": [_row(row) for row in self.rows]}


class _Other(NamedTuple):
    """The ranking to compare with, as it was found."""

    side: Side
    column: str
    noise: NDArray[np.floating] | None
    manifest: dict[str, Any]
    """Empty where a bare table was given."""


def compare(folder: Path, other: Path, ks: Sequence[int] | None = None, draws: int = 1000, seed: int = 0) -> Comparison:
    """The overlap of a result's ICL shift with OTHER, with its nulls (METHOD 3).

    OTHER is a result folder (its ICL shift), a fine-tune's folder or `shift.parquet` (`shift_sft`), or a .parquet or
    .csv file with `feature` and one column of values. A fine-tune may also stand first, and the result second.
    """
    if not _is_result(folder) and _is_result(other):
        folder, other = other, folder
    manifest = Result(folder).manifest
    path = folder / SHIFT
    table = _ordered(Result(folder).shift, path)
    icl = Side(_values(table, ICL, path), *_groups(folder))
    mean_base = _values(table, "mean_base", path)
    against = _find(other, len(table))
    _same_sae(folder, manifest, other, against.manifest)
    own = _noise(table, path) if NOISE in table else None
    noise = against.noise if own is None else own
    fires = (mean_base > 0) | (_values(table, "mean_icl", path) > 0)
    together = _same_queries(manifest, against.manifest) and against.side.sums is not None
    rows = overlap(
        icl, against.side, mean_base,
        ks=ks, fires=fires, noise=noise, same_groups=together, draws=draws, seed=seed,
    )  # fmt: skip
    # The noise of rounding is the null that is hardest to exceed: without it nothing is claimed.
    rows = [row._replace(claimed=row.claimed and row.noise is not None) for row in rows]
    tokens = 0 if icl.tokens is None else int(icl.tokens.sum())
    other_tokens = None if against.side.tokens is None else int(against.side.tokens.sum())
    notes = [*_differences(manifest, against), *_limits(icl, against, rows)]
    firing = int((fires | (icl.shift > 0) | (against.side.shift > 0)).sum())
    return Comparison(rows, len(table), firing, tokens, other_tokens, against.column, together, notes)


def _row(row: Overlap) -> dict[str, Any]:
    highest = row.nulls[row.highest]
    return {
        "k": row.k, "overlap": row.value, "shared": row.shared,
        "interval": list(row.interval) if row.interval else None,
        "nulls": {name: _null(getattr(row, name)) for name in ("chance", "activation", "matched", "noise")},
        "highest_null": {"name": row.highest, "value": highest.upper},
        "claimed": row.claimed,
    }  # fmt: skip


def _null(null: Null | None) -> dict[str, float] | None:
    return None if null is None else {name: value for name, value in null._asdict().items() if value is not None}


def _is_result(path: Path) -> bool:
    """A finished result, and not a fine-tune's folder, which has a manifest and a shift of its own."""
    return (path / "manifest.json").is_file() and SFT not in _columns(path / SHIFT)


def _find(other: Path, features: int) -> _Other:
    """The other ranking, wherever it lies."""
    if _is_result(other):
        result = Result(other)
        return _from_table(other / SHIFT, result.shift, features, result.manifest, _groups(other))
    if SFT in _columns(other / SHIFT):
        other = other / SHIFT
    if other.is_dir():
        raise UserError(
            f"{other} holds neither a finished result nor a fine-tune's {SHIFT}",
            "Name a result folder, a fine-tune's folder, or a .parquet or .csv file with feature and one value column.",
        )
    grouped = other.name == SHIFT and (other.parent / GROUPS).is_file()
    groups = _groups(other.parent) if grouped else (None, None)
    return _from_table(other, _read(other), features, _manifest_beside(other), groups)


def _from_table(
    path: Path,
    table: pd.DataFrame,
    features: int,
    manifest: dict[str, Any],
    groups: tuple[NDArray[Any] | None, NDArray[Any] | None],
) -> _Other:
    """The ranking in the table of that place: every feature once, in any order."""
    if len(table) != features:
        raise UserError(
            f"{path} lists {len(table)} features, the result's SAE has {features}",
            "Compare rankings made with one SAE; a feature that did not move is listed with 0.",
        )
    table = _ordered(table, path)
    columns = [str(name) for name in table.columns if name != "feature"]
    named = [name for name in (SFT, ICL) if name in columns] or columns
    if not named or (len(columns) > 1 and named == columns):
        raise UserError(
            f"{path} does not say which column to rank by: it has {', '.join(['feature', *columns])}",
            f"Keep feature and one column of values, or name that column {SFT}.",
        )
    noise = _noise(table, path) if NOISE in columns and named[0] != NOISE else None
    return _Other(Side(_values(table, named[0], path), *groups), named[0], noise, manifest)


def _ordered(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table in the order of its features, each of which it must list once."""
    numbers = pd.to_numeric(table["feature"], errors="coerce").to_numpy() if "feature" in table else np.zeros(0)
    if not table.columns.is_unique or not np.array_equal(np.sort(numbers), np.arange(max(1, len(table)))):
        raise UserError(
            f"{path} does not list each feature once", "It needs a column feature, numbered from 0 without gaps."
        )
    return table.iloc[np.argsort(numbers)]


def _values(table: pd.DataFrame, column: str, path: Path) -> NDArray[np.float64]:
    """A column as numbers."""
    if column not in table:
        raise UserError(f"{path} has no column {column}", _MEASURE_AGAIN)
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if bad := int(np.sum(~np.isfinite(numbers))):
        raise UserError(f"{bad} values of {column} in {path} are no numbers", "Measure or write that file again.")
    return numbers


def _columns(path: Path) -> list[str]:
    """The columns of a Parquet file; none when there is no such file."""
    if not path.is_file():
        return []
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return []


def _read(path: Path) -> pd.DataFrame:
    """A table of a person's or ours: CSV when its name says so, else Parquet."""
    if not path.is_file():
        raise UserError(f"There is no file {path}", "Name a finished result, or a table of features and values.")
    try:
        return pd.read_csv(path) if path.suffix.lower() == ".csv" else pq.read_table(path).to_pandas()
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read as a table: {error}", "Give a Parquet file, or CSV with a header in a .csv file."
        ) from None


def _groups(folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Σ|Δ| of the target set a jackknife group [groups, features], and the groups' tokens."""
    path = folder / GROUPS
    try:
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor(f"{TARGET}/absdiff"), file.get_tensor(f"{TARGET}/tokens")
    except (SafetensorError, OSError):
        raise UserError(f"{path} is missing or cannot be read", _MEASURE_AGAIN) from None


def _manifest_beside(path: Path) -> dict[str, Any]:
    """What the manifest beside a `shift.parquet` says of how it was made; of other tables nothing is known."""
    if path.name != SHIFT:
        return {}
    try:
        manifest = json.loads((path.parent / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _part(manifest: dict[str, Any], *keys: str) -> Any:
    """A value deep in a manifest; None where it does not go that far."""
    value: Any = manifest
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _same_sae(folder: Path, mine: dict[str, Any], other: Path, its: dict[str, Any]) -> None:
    """Refuse two dictionaries: feature 7 of the one is not feature 7 of the other."""
    first, second = (_part(manifest, "resolved", "sae", "revision") for manifest in (mine, its))
    if first is not None and second is not None and first != second:
        names = [_part(manifest, "resolved", "sae", "name") or "unnamed" for manifest in (mine, its)]
        raise UserError(
            f"{folder} and {other} were measured with different SAEs ({names[0]} {first}, {names[1]} {second}): "
            "their features cannot be compared",
            "Measure both with the same SAE.",
        )


def _same_queries(mine: dict[str, Any], its: dict[str, Any]) -> bool:
    """Whether both read the same rows of the same file, in the same order and so in the same groups."""
    rows, data = ("sets", TARGET, "query_rows"), ("resolved", "files", TARGET, "data")
    return all(_part(mine, *keys) is not None and _part(mine, *keys) == _part(its, *keys) for keys in (rows, data))


def _differences(mine: dict[str, Any], against: _Other) -> list[str]:
    """What was not the same on both sides."""
    its = against.manifest
    notes = []
    if _part(mine, "key") is not None and _part(mine, "key") == _part(its, "key") and against.column == ICL:
        notes.append("Both are the same result: they share everything by construction.")
    models = [_part(manifest, "resolved", "model", "name") for manifest in (mine, its)]
    if None not in models and models[0] != models[1]:
        notes.append(f"Different models: {models[0]} and {models[1]}.")
    pools = [_part(manifest, "spec", "pool") for manifest in (mine, its)]
    if None not in pools and pools[0] != pools[1]:
        notes.append("The two pooled different tokens (pool settings differ).")
    if _part(its, "sets", TARGET) is not None and not _same_queries(mine, its):
        notes.append("The two were measured on different questions; they are resampled independently.")
    return notes


def _noise(table: pd.DataFrame, path: Path) -> NDArray[np.floating] | None:
    """The shift by rounding alone; None where the column says that it was not measured."""
    return None if table[NOISE].isna().all() else _values(table, NOISE, path)


def _limits(icl: Side, against: _Other, rows: Sequence[Overlap]) -> list[str]:
    """What could not be had."""
    notes = []
    if against.side.sums is None:
        notes.append("The other ranking has no groups: the interval holds it fixed.")
    if rows[0].nulls.get("noise") is None:
        notes.append("The noise of rounding was not measured (no shift_noise), so nothing is claimed.")
    if all(row.interval is None for row in rows if np.isfinite(row.value)):
        notes.append(f"Fewer than {FEWEST_ITEMS} groups of questions on a side: no interval, so nothing is claimed.")
    moved = min(int((side.shift > 0).sum()) for side in (icl, against.side))
    if short := [str(row.k) for row in rows if row.k > moved]:
        notes.append(f"Only {moved} features moved on one side: no overlap for k = {', '.join(short)}.")
    return notes
