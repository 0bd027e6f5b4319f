"""A result folder (CONTRACT "A result folder"): written once when a run ends, then only read.

`manifest.json` is written last, so a folder that has one is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sts_core.errors import UserError
from sts_core.folders import atomic_json, ensure
from sts_core.results.scores import ICL, ICL_SQUARED, Dims, choose_dims, score_table
from sts_core.results.sums import SetSums

if TYPE_CHECKING:
    from sts_core.results.actual import Given
    from sts_core.stats.correlation import Correlation

TARGET, RAW = "target", "target/raw"
NOISE, NOISE_RAW = "target/noise", "target/noise_raw"
"""Names of sets that no domain can have."""
TARGET_SUMS = ("base", "icl", "absdiff", "sqdiff", "diff", "active_base", "active_icl")
DOMAIN_SUMS = ("base", "base_sq", "absdiff", "sqdiff", "active_base")
KEPT_IN_GROUPS = ("base", "base_sq", "icl", "absdiff", "sqdiff", "diff")

_SHIFT_COLUMNS = {
    "shift_icl": "absdiff", "shift_icl_sq": "sqdiff", "signed_icl": "diff", "mean_base": "base", "mean_icl": "icl",
    "rate_base": "active_base", "rate_icl": "active_icl",
}  # fmt: skip
_DOMAIN_COLUMNS = {
    "mean_act": "base", "mean_act_sq": "base_sq", "mean_absdiff": "absdiff", "mean_diff_sq": "sqdiff",
    "rate": "active_base",
}  # fmt: skip


class Result:
    """A finished result. Everything is read when first asked for; nothing here needs a model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
            if not isinstance(self.manifest, dict):
                raise ValueError("not a table")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{folder if folder.name else folder.absolute()} holds no finished result",
                "Name the --out folder of a finished `sts run`.",
            ) from None
        except (ValueError, RecursionError, OSError):
            raise UserError(
                f"The manifest in {folder} cannot be read", "Measure again with `sts run … --fresh`."
            ) from None

    @property
    def domains(self) -> list[str]:
        """The domains, in the spec's order."""
        return [domain["name"] for domain in self.manifest["spec"]["domains"]]

    @cached_property
    def shift(self) -> pd.DataFrame:
        """One row a feature: how far the demonstrations moved it on the target set."""
        return self._table("shift.parquet")

    @cached_property
    def shift_raw(self) -> pd.DataFrame:
        """The same for raw residual dimensions: the paper's "without SAE" contrast."""
        return self._table("shift_raw.parquet")

    @cached_property
    def vectors(self) -> pd.DataFrame:
        """One row a domain and feature: the means every score is made of."""
        return self._table("domains.parquet")

    @cached_property
    def groups(self) -> dict[str, SetSums]:
        """Jackknife group sums a set (`target`, `target/raw`, each domain)."""
        sets: dict[str, dict[str, Any]] = {}
        try:
            arrays = load_file(self.folder / "groups.safetensors")
        except (OSError, SafetensorError):
            raise self._damaged("groups.safetensors") from None
        for key, array in arrays.items():
            name, quantity = key.rsplit("/", 1)
            sets.setdefault(name, {})[quantity] = array.astype(np.float64)
        return {name: SetSums(s, tokens=s.pop("tokens"), items=s.pop("items")) for name, s in sets.items()}

    def scores(
        self, n: int = 100, dims: Dims = "icl", ranks: tuple[int, int] | None = None, power: int = 1
    ) -> pd.DataFrame:
        """STS_act and STS_icl of every domain (METHOD 4), from stored vectors.

        Columns: `domain, metric, n, power, value, se, tokens, items`.
        """
        chosen = choose_dims(
            self.shift, n, dims, ranks, self.folder, seed=self.manifest["seed"], by=ranked_by(self.manifest)
        )
        return score_table({name: self.groups[name] for name in self.domains}, chosen, power)

    def correlate(self, actual: Given, score: str = "sts_act", **choices: Any) -> Correlation:
        """How a score of the domains follows what happened to them: METHOD 6, over the domains both sides name.

        `actual` is a CSV, a pair of evaluations (before, after), an evaluation's or a run's folder, `paper:MODEL`,
        outcomes, or a change of accuracy in percentage points a domain. Choices: `n, dims, ranks, power` as of
        `scores`; `metric`; `outcome="harm"` or `"size"`; `domains="all"` or `"paper8"`; `seed`.
        """
        from sts_core.results.agreement import correlate_result

        return correlate_result(self, actual, score, **choices)

    def _table(self, name: str) -> pd.DataFrame:
        try:
            return pq.read_table(self.folder / name).to_pandas()
        except (OSError, pa.ArrowException):
            raise self._damaged(name) from None

    def _damaged(self, name: str) -> UserError:
        return UserError(f"{name} in {self.folder} is gone or damaged", "Measure again with `sts run … --fresh`.")


def write_result(folder: Path, manifest: Mapping[str, Any], sets: Mapping[str, SetSums]) -> Result:
    """Write everything but the manifest, then the manifest.

    `sets` holds target, target/raw, each domain and, where it was measured, target/noise and target/noise_raw.
    """
    ensure(folder)
    _write_table(folder / "shift.parquet", _shift_table(sets[TARGET], sets.get(NOISE)))
    _write_table(folder / "shift_raw.parquet", _shift_table(sets[RAW], sets.get(NOISE_RAW)))
    domains = {name: sums for name, sums in sets.items() if name != TARGET and "/" not in name}
    _write_table(folder / "domains.parquet", pd.concat([_domain_table(n, s) for n, s in domains.items()]))
    grouped = {name: sums for name, sums in sets.items() if name not in (NOISE, NOISE_RAW)}
    save_file(_group_arrays(grouped), folder / "groups.safetensors")
    (folder / "groups.safetensors").chmod(0o644)  # safetensors makes files for the owner's eyes only
    shift = pq.read_table(folder / "shift.parquet").to_pandas()
    _write_table(folder / "scores.parquet", _standard_scores(shift, domains, ranked_by(manifest)))
    atomic_json(folder / "manifest.json", dict(manifest))
    return Result(folder)


def ranked_by(manifest: Mapping[str, Any]) -> str:
    """The reference preset ranks features by squared differences."""
    try:
        return ICL_SQUARED if manifest["spec"]["run"]["preset"] == "reference" else ICL
    except (KeyError, TypeError):  # written by other hands
        return ICL


def _standard_scores(shift: pd.DataFrame, domains: Mapping[str, SetSums], by: str) -> pd.DataFrame:
    """The scores that lie ready in the folder; any other N or dimension list is made from the groups when asked."""
    sizes = [n for n in (10, 50, 100, 200, 500, 1000, 2000) if n <= len(shift)] or [len(shift)]
    tables = [score_table(domains, choose_dims(shift, n=n, by=by), power) for n in sizes for power in (1, 2)]
    return pd.concat(tables, ignore_index=True)


def _shift_table(sums: SetSums, noise: SetSums | None) -> pd.DataFrame:
    """`shift_noise` is the shift of the unchanged model computed in another number format; NaN when not measured."""
    columns = {column: sums.mean(quantity).astype(np.float32) for column, quantity in _SHIFT_COLUMNS.items()}
    unmeasured = np.full(len(columns["shift_icl"]), np.nan, np.float32)
    columns["shift_noise"] = noise.mean("absdiff").astype(np.float32) if noise else unmeasured
    return pd.DataFrame({"feature": np.arange(len(columns["shift_icl"]), dtype=np.int32), **columns})


def _domain_table(name: str, sums: SetSums) -> pd.DataFrame:
    columns = {column: sums.mean(quantity).astype(np.float32) for column, quantity in _DOMAIN_COLUMNS.items()}
    features = np.arange(len(columns["mean_act"]), dtype=np.int32)
    return pd.DataFrame({"domain": name, "feature": features, **columns})


def _group_arrays(sets: Mapping[str, SetSums]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, sums in sets.items():
        for quantity, values in sums.sums.items():
            if quantity in KEPT_IN_GROUPS:
                arrays[f"{name}/{quantity}"] = values.astype(np.float32)
        arrays[f"{name}/tokens"] = sums.tokens
        arrays[f"{name}/items"] = sums.items
    return arrays


def _write_table(path: Path, frame: pd.DataFrame) -> None:
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, compression="zstd")
