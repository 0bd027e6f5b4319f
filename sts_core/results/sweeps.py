"""A sweep's folder: one long table of every point, the means over seeds, and a manifest that names every result.

`sweep.parquet` (and `.csv`) has a row a point, score and outcome; `summary.csv` has the means over seeds. The points
are ordinary results of the store, named by their keys. `manifest.json` is written last: a folder that has it is whole.
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

from sts_core.errors import UserError

FORMAT, KIND = 1, "sweep"
MANIFEST, TABLE, CSV, SUMMARY = "manifest.json", "sweep.parquet", "sweep.csv", "summary.csv"
SCORE, PROBE, BASELINE = "score", "probe", "baseline"
"""Kinds of rows: STS over a SAE's features, STS over those of a probe, and a baseline of METHOD 6."""
KS = (10, 50, 100, 200, 500)
SETTINGS = (
    "kind", "sae", "layer", "features", "l0", "pool", "choice", "n", "first", "last", "power", "score", "outcome",
)  # fmt: skip
"""Columns that say what a point is, but for the seed."""
MEASURES = ("spearman", "r", "same_order")
COLUMNS = (
    "kind", "sae", "layer", "features", "l0", "seed", "pool", "choice", "n", "first", "last", "power", "score",
    "outcome", "varied", "value", "primary", "foretells", "domains", "spearman", "p_spearman", "spearman_low",
    "spearman_high", "r", "p_r", "r_low", "r_high", "loo_min", "loo_max", "most_influential", "r_without_it",
    "spearman_without_it", "same_order",
    *(f"{what}_{k}" for k in KS for what in ("overlap", "overlap_null", "seed_overlap", "seed_chance")), "key",
)  # fmt: skip
_AGAIN = "Sweep again: what is stored is not measured again."
_AXES = ("sae", "pool", "choice", "power", "seed")


class Sweep(NamedTuple):
    """A finished sweep as it is read."""

    folder: Path
    table: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def has_outcome(self) -> bool:
        """Whether it was held against what happened."""
        return self.manifest.get("actual") is not None


def read_sweep(folder: Path) -> Sweep:
    """What a finished sweep's folder holds."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
            raise ValueError("no sweep")
        table = pq.read_table(folder / TABLE).to_pandas()
    except FileNotFoundError:
        raise UserError(
            f"{folder} holds no finished sweep", "Name the --out folder of a finished `sts sweep`."
        ) from None
    except (OSError, ValueError, RecursionError, pa.ArrowException):
        raise UserError(f"The sweep in {folder} cannot be read", _AGAIN) from None
    if lacking := [name for name in COLUMNS if name not in table]:
        raise UserError(f"The sweep in {folder} lacks {lacking[0]}", _AGAIN)
    return Sweep(folder, table, manifest)


def write_table(folder: Path, table: pd.DataFrame) -> None:
    """The long table, its CSV, and the means over seeds."""
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), folder / TABLE, compression="zstd")
    table.to_csv(folder / CSV, index=False)
    over_seeds(table).to_csv(folder / SUMMARY, index=False)


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """A row a setting: mean and sd over its seeds of each measure, and how many seeds there are.

    L0 is measured with every seed anew, so its mean stands; the sd (n − 1) of a single seed is unknown.
    """
    keys = [name for name in SETTINGS if name != "l0"]
    rows = []
    for values, group in table.groupby(keys, sort=False, dropna=False):
        row = dict(zip(keys, values, strict=True)) | {"l0": float(group["l0"].mean()), "seeds": len(group)}
        for measure in MEASURES:
            known = group[measure].dropna().to_numpy(np.float64)
            row[measure] = float(known.mean()) if len(known) else float("nan")
            row[f"{measure}_sd"] = float(known.std(ddof=1)) if len(known) > 1 else float("nan")
        rows.append(row)
    columns = [*SETTINGS, "seeds", *(name for m in MEASURES for name in (m, f"{m}_sd"))]
    return pd.DataFrame(rows, columns=columns)


def varied_axes(table: pd.DataFrame) -> list[str]:
    """What has more than one value among the scores of SAEs: `sae`, `choice`, `pool`, `power`, `seed`."""
    own = table[table["kind"] == SCORE]
    return [name for name in _AXES if own[name].nunique() > 1]


def values_of(table: pd.DataFrame, axis: str) -> list[Any]:
    """The values of an axis in the order of the spec."""
    own = table[table["kind"] == SCORE]
    return list(dict.fromkeys(own[axis].tolist()))


def along(table: pd.DataFrame, axis: str, held: Sequence[tuple[str, Any]]) -> pd.DataFrame:
    """The rows in which only this axis varies: every other is held at the value given."""
    kept = np.ones(len(table), dtype=bool)
    for name, value in held:
        if name != axis:
            kept &= (table[name] == value).to_numpy()
    return table[kept]
