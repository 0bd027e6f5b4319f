"""What a model scored, row by row, before and after: kept so that paired changes can be taken at any time.

`rows.parquet` has one line a phase, set, row and metric. Rows, not tokens, are the independent units: every mean has
its standard error over rows, sd / √n with n − 1 in the variance; it is unknown for a single row. What a fine-tune did
to a set is the mean over rows of after − before, each row against itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sts_core.errors import UserError
from sts_core.folders import disk_trouble, ensure
from sts_core.stats.jackknife import FEWEST_ITEMS

FILE = "rows.parquet"
BEFORE, AFTER = "before", "after"
COLUMNS = ("phase", "set", "row", "metric", "value")


class RowValue(NamedTuple):
    """A metric of one row."""

    set: str
    row: int
    metric: str
    value: float


class Score(NamedTuple):
    """The mean of a metric over a set's rows."""

    set: str
    metric: str
    value: float
    se: float | None
    """None for a single row."""
    n: int


class Change(NamedTuple):
    """The mean over rows of after − before."""

    set: str
    metric: str
    before: float
    after: float
    change: float
    se: float | None
    """Of the change, over rows; None for a single one."""
    n: int


class Reliability(NamedTuple):
    """How well a set of changes is known: two halves of every set's rows, correlated over sets."""

    metric: str
    value: float
    """The mean over draws of the halves' correlation, stepped up to the whole (Spearman–Brown)."""
    sets: int
    draws: int


def scores(rows: Iterable[RowValue]) -> list[Score]:
    """One a set and metric, in the order they first come in."""
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row.set, row.metric), []).append(row.value)
    return [Score(name, metric, *_mean(np.array(found))) for (name, metric), found in values.items()]


def write_rows(folder: Path, phase: str, rows: Iterable[RowValue]) -> None:
    """Put a phase into the folder's `rows.parquet`, in place of that phase's rows; the file is replaced whole."""
    ensure(folder)
    path = folder / FILE
    new = pd.DataFrame([(phase, *row) for row in rows], columns=list(COLUMNS))
    if path.exists():
        old = read_rows(folder)
        new = pd.concat([old[old["phase"] != phase], new], ignore_index=True)
    part = path.with_name(f".{FILE}.part")
    try:
        pq.write_table(pa.Table.from_pandas(new, preserve_index=False), part, compression="zstd")
        part.replace(path)
    except OSError as error:
        raise disk_trouble(folder, error) from error


def read_rows(folder: Path) -> pd.DataFrame:
    """The columns `phase, set, row, metric, value`."""
    try:
        frame = pq.read_table(folder / FILE).to_pandas()
    except FileNotFoundError:
        raise UserError(f"{folder} holds no evaluation", f"Name a folder with {FILE} in it.") from None
    except (OSError, pa.ArrowException):
        raise UserError(f"{FILE} in {folder} is damaged", "Evaluate again.") from None
    numbers = all(name in frame and pd.api.types.is_numeric_dtype(frame[name]) for name in ("row", "value"))
    if set(frame.columns) != set(COLUMNS) or not numbers:
        raise UserError(f"{FILE} in {folder} is no evaluation", f"Its columns are to be {', '.join(COLUMNS)}.")
    if bool(frame.duplicated(["phase", "set", "row", "metric"]).any()):
        raise UserError(f"{FILE} in {folder} has rows twice", "Evaluate again.")
    return frame[list(COLUMNS)]


def changes(frame: pd.DataFrame) -> list[Change]:
    """What changed between the phases, on the rows that both have; one a set and metric, in the file's order."""
    found = []
    for (name, metric), group in _paired(frame).groupby(["set", "metric"], sort=False):
        before, after = group[BEFORE].to_numpy(float), group[AFTER].to_numpy(float)
        found.append(Change(name, metric, float(before.mean()), float(after.mean()), *_mean(after - before)))
    return found


def split_half(frame: pd.DataFrame, metric: str, draws: int = 200, seed: int = 0) -> Reliability:
    """Split every set's rows at random into halves, correlate the halves' changes over sets, step up, average.

    The target set is left out: it is what was trained on. NaN with fewer than three sets of two rows, or where no
    change differs from another.
    """
    paired = _paired(frame[(frame["metric"] == metric) & (frame["set"] != "target")])
    sets = [(group[AFTER] - group[BEFORE]).to_numpy(float) for _, group in paired.groupby("set", sort=False)]
    sets = [values for values in sets if len(values) >= 2]
    draw = np.random.default_rng(seed)
    stepped = []
    for _ in range(draws if len(sets) >= 3 else 0):
        shuffled = [draw.permutation(values) for values in sets]
        halves = np.array([(v[: len(v) // 2].mean(), v[len(v) // 2 :].mean()) for v in shuffled]).T
        if np.ptp(halves, axis=1).min() > 0:
            r = float(np.corrcoef(halves)[0, 1])
            stepped.append(2 * r / (1 + r) if r > -0.5 else -2.0)  # Spearman–Brown runs away below: held at −2
    return Reliability(metric, float(np.mean(stepped)) if stepped else float("nan"), len(sets), len(stepped))


def _paired(frame: pd.DataFrame) -> pd.DataFrame:
    """Both phases beside each other: `set, metric, row, before, after`."""
    key = ["set", "metric", "row"]
    sides = [
        frame[frame["phase"] == phase][[*key, "value"]].rename(columns={"value": phase}) for phase in (BEFORE, AFTER)
    ]
    return sides[0].merge(sides[1], on=key, how="inner", sort=False)


def _mean(values: np.ndarray) -> tuple[float, float | None, int]:
    n = len(values)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)) if n >= FEWEST_ITEMS else None, n
