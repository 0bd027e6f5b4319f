"""How the shift of a result is spread: what its leading features hold, which way they went, what rounding alone does.

Read from the result's tables only, a column at a time, so that a SAE of 131,072 features costs some megabytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from sts_core.errors import UserError
from sts_core.results.folder import TARGET
from sts_core.stats.jackknife import Estimate, delete_one_group, mean_per_token
from sts_core.stats.ranking import concentration, top

Numbers = NDArray[np.float64]


class Noise(NamedTuple):
    """The shift of the unchanged model computed in another number format (METHOD 3, null d)."""

    share: float
    """Its sum, as a share of the sum of the shift."""
    order: NDArray[np.int64]
    """The features it moved, most moved first."""


class Spread(NamedTuple):
    """The shift of every feature, most shifted first; equal values give the lower feature first."""

    order: NDArray[np.int64]
    signed: Numbers
    """The signed mean of the features, in that order."""
    sae: Numbers
    """Share of the shift that the first 1, 2, … features hold."""
    raw: Numbers
    """The same of raw residual dimensions; empty where none of them moved."""
    moved: int
    """Features with a shift above zero."""
    firing: int
    """Features that fire on a token of either arm, or moved."""
    noise: Noise | None
    """None where it was not measured."""

    def held(self, n: int) -> float:
        """The share of the shift that the first n features hold; NaN when nothing moved."""
        return float(self.sae[min(n, len(self.sae)) - 1]) if self.moved else float("nan")

    def raw_needed(self, share: float) -> int | None:
        """The fewest raw dimensions that hold at least this share; None where that is not known."""
        if not len(self.raw) or not np.isfinite(share):
            return None
        # A share that is met but for the last bit of a sum is met.
        return min(int(np.searchsorted(self.raw, share - 1e-12)) + 1, len(self.raw))

    def directions(self, n: int) -> tuple[int, int]:
        """How many of the first n rise with demonstrations, and how many fall, in the mean."""
        first = self.signed[:n]
        return int((first > 0).sum()), int((first < 0).sum())

    def shared_with_noise(self, n: int) -> int | None:
        """How many of the first n features are also among the n that rounding moves most."""
        if self.noise is None:
            return None
        mine = self.order[: min(n, self.moved)]
        return len(np.intersect1d(mine, self.noise.order[:n], assume_unique=True))

    def shared_by_chance(self, n: int) -> float:
        """How many two random n of the firing features share on average: n² / firing."""
        return min(n, self.firing) ** 2 / self.firing if self.firing else 0.0


def read_spread(folder: Path) -> Spread:
    """The spread of a finished result's shift."""
    table = _columns(folder / "shift.parquet", ["shift_icl", "signed_icl", "mean_base", "mean_icl", "shift_noise"])
    shift = _finite(table, "shift_icl", folder)
    order = top(shift, len(shift))
    fires = (table["mean_base"] > 0) | (table["mean_icl"] > 0) | (shift > 0)
    raw = _finite(_columns(folder / "shift_raw.parquet", ["shift_icl"]), "shift_icl", folder)
    return Spread(
        order=order,
        signed=_finite(table, "signed_icl", folder)[order],
        sae=concentration(shift),
        raw=concentration(raw) if raw.sum() > 0 else np.zeros(0),
        moved=int((shift > 0).sum()),
        firing=int(fires.sum()),
        noise=_noise(table.get("shift_noise"), shift),
    )


def held_by(folder: Path, features: NDArray[np.int64]) -> Estimate:
    """The share of the shift that these features hold with its jackknife error, conditional on the features."""
    sums, tokens, items = _groups(folder, TARGET, "absdiff")
    of_them = np.stack([sums[:, features].sum(axis=1), sums.sum(axis=1)], axis=1)
    return delete_one_group(lambda total, _: float(total[0] / total[1]), of_them, tokens, items)


def one_feature(folder: Path, name: str, quantity: str, feature: int) -> tuple[Estimate, int, int]:
    """A set's mean per token of one feature's quantity with its error (METHOD 5), and the set's tokens and items."""
    sums, tokens, items = _groups(folder, name, quantity, feature)
    return mean_per_token(sums[:, 0], tokens, items), int(tokens.sum()), items


def size_of(folder: Path, name: str) -> tuple[int, int]:
    """Tokens pooled of a set, and its items."""
    path = folder / "groups.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            return int(file.get_tensor(f"{name}/tokens").sum()), int(file.get_tensor(f"{name}/items").sum())
    except (SafetensorError, OSError):
        raise _damaged(path) from None


def _groups(folder: Path, name: str, quantity: str, feature: int | None = None) -> tuple[Numbers, Numbers, int]:
    """Group sums [groups, features] (of one feature [groups, 1]), tokens a group, and the number of items."""
    path = folder / "groups.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            stored = file.get_slice(f"{name}/{quantity}")
            width = stored.get_shape()[1]
            if feature is not None and not 0 <= feature < width:
                raise UserError(f"The SAE has no feature {feature}", f"Features are numbered from 0 to {width - 1}.")
            sums = stored[:, :] if feature is None else stored[:, feature : feature + 1]
            tokens, items = file.get_tensor(f"{name}/tokens"), file.get_tensor(f"{name}/items")
    except (SafetensorError, OSError):
        raise _damaged(path) from None
    return sums.astype(np.float64), tokens.astype(np.float64), int(items.sum())


def _columns(path: Path, names: list[str]) -> dict[str, Numbers]:
    """Those of the columns that the table has; the noise column came later than the others."""
    try:
        present = set(pq.read_schema(path).names)
        table = pq.read_table(path, columns=[name for name in names if name in present])
    except (OSError, pa.ArrowException):
        raise _damaged(path) from None
    return {name: table[name].to_numpy().astype(np.float64) for name in table.column_names}


def _finite(table: dict[str, Numbers], name: str, folder: Path) -> Numbers:
    """A column that must be there and hold numbers only: a result without one pooled token has none."""
    values = table.get(name)
    if values is None or not np.isfinite(values).all():
        raise UserError(
            f"The result in {folder} holds no shift that could be ranked", "Measure again, with more rows or tokens."
        )
    return values


def _noise(noise: Numbers | None, shift: Numbers) -> Noise | None:
    if noise is None or not np.isfinite(noise).all() or not shift.sum() > 0:
        return None
    return Noise(float(noise.sum() / shift.sum()), top(noise, int((noise > 0).sum())))


def _damaged(path: Path) -> UserError:
    return UserError(f"{path.name} in {path.parent} is gone or damaged", "Measure again with `sts run … --fresh`.")
