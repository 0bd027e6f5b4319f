"""Writing a gallery's tables from the parts of its sources, a few features at a time.

Each part is sorted by feature; so are the tables, and no feature lies in two pieces of a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sts_core.results.gallery import BANDS, EXAMPLES, HISTOGRAMS
from sts_core.results.gallery_rows import ROWS

_TOGETHER = 4_000
"""Lines of a piece of a file, but for a feature that has more."""


class Chosen(NamedTuple):
    """The examples of a source, a line each, sorted by feature, arm, band and rank."""

    feature: np.ndarray
    arm: np.ndarray
    """Which of the source's arms."""
    band: np.ndarray
    """Which of the bands."""
    rank: np.ndarray
    value: np.ndarray
    row: np.ndarray
    token: np.ndarray
    start: np.ndarray
    length: np.ndarray
    window: np.ndarray
    """Which of the part's windows shows it."""


class Part(NamedTuple):
    """What was made of a source."""

    source: str
    arms: list[str]
    chosen: Chosen
    values: np.ndarray
    """[windows, arms, width]: the feature on each token of a window; a map of a file, read as needed."""
    names: np.ndarray
    """[features]: which ones were looked at, sorted."""
    counts: np.ndarray
    """[arms, features, bins]"""
    seen: np.ndarray
    """[arms]: tokens that were looked at."""
    seconds: np.ndarray
    """[1]: how long it took."""


def write_tables(folder: Path, parts: Sequence[Part], edges: np.ndarray) -> int:
    """Write examples and histograms; returns the number of examples."""
    lines = 0
    schema = _examples(parts[0], slice(0, 0)).schema
    with pq.ParquetWriter(folder / EXAMPLES, schema, compression="zstd") as writer:
        for first, last in _stretches([part.chosen.feature for part in parts]):
            tables = [_examples(part, slice(*np.searchsorted(part.chosen.feature, (first, last)))) for part in parts]
            writer.write_table(_by_feature(tables))
            lines += sum(table.num_rows for table in tables)
    told = {"edges": ",".join(f"{edge:.9g}" for edge in edges)}
    fired = [np.argwhere(part.counts.any(axis=2).T) for part in parts]
    schema = _histograms(parts[0], fired[0][:0]).schema.with_metadata(told)
    with pq.ParquetWriter(folder / HISTOGRAMS, schema, compression="zstd") as writer:
        places = [part.names[where[:, 0]] for part, where in zip(parts, fired, strict=True)]
        for first, last in _stretches(places):
            tables = [
                _histograms(part, where[slice(*np.searchsorted(place, (first, last)))])
                for part, where, place in zip(parts, fired, places, strict=True)
            ]
            writer.write_table(_by_feature(tables).cast(schema))
    return lines


class Row(NamedTuple):
    """A row that an example shows: its token ids, or, where its text can be had again, where that is cut."""

    source: str
    row: int
    ids: Sequence[int] | None
    cuts: Sequence[int] | None
    """Signs of each token in the row's text."""


def write_rows(folder: Path, rows: Sequence[Row]) -> None:
    """Write what is kept of the rows themselves."""
    numbers = pa.list_(pa.int32())
    columns = {
        "source": pa.array([row.source for row in rows], pa.string()),
        "row": pa.array([row.row for row in rows], pa.int64()),
        "ids": pa.array([row.ids for row in rows], numbers), "cuts": pa.array([row.cuts for row in rows], numbers),
    }  # fmt: skip
    pq.write_table(pa.table(columns), folder / ROWS, compression="zstd")


def _stretches(features: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Ranges [first, last) of features that have about so many lines together, over all parts."""
    most = max((int(part[-1]) for part in features if len(part)), default=-1)
    lines = sum((np.bincount(part, minlength=most + 1) for part in features), np.zeros(most + 1, np.int64))
    first = held = 0
    for feature, count in enumerate(lines.tolist()):
        if held and held + count > _TOGETHER:
            yield first, feature
            first, held = feature, 0
        held += count
    if held:
        yield first, most + 1


def _by_feature(tables: Sequence[pa.Table]) -> pa.Table:
    """One piece of a file; within a feature the order of the sources stays."""
    table = pa.concat_tables(tables).combine_chunks()
    return table.take(pa.array(np.argsort(table["feature"].to_numpy(), kind="stable")))


def _examples(part: Part, lines: slice) -> pa.Table:
    chosen = Chosen(*(column[lines] for column in part.chosen))
    values = np.asarray(part.values[chosen.window]) if len(chosen.window) else np.empty((0, *part.values.shape[1:]))
    others = np.array([[a for a in range(len(part.arms)) if a != arm] for arm in range(len(part.arms))], np.int64)
    every = np.arange(len(chosen.arm))
    own, rest = values[every, chosen.arm], values[every[:, None], others[chosen.arm]]
    count = others.shape[1]
    items = _lists(rest.reshape(-1, values.shape[2]), np.repeat(chosen.length, count))
    offsets = pa.array(np.arange(len(every) + 1, dtype=np.int32) * count)
    keys = pa.array(np.array(part.arms, dtype=object)[others[chosen.arm]].reshape(-1), pa.string())
    return pa.table(
        {
            "feature": chosen.feature, "source": _repeated(part.source, len(every)),
            "arm": pa.array(np.array(part.arms, dtype=object)[chosen.arm], pa.string()),
            "band": pa.array(np.array(BANDS, dtype=object)[chosen.band], pa.string()),
            "rank": chosen.rank, "value": chosen.value, "row": chosen.row, "token": chosen.token,
            "start": chosen.start, "values": _lists(own, chosen.length),
            "others": pa.MapArray.from_arrays(offsets, keys, items),
        }
    )  # fmt: skip


def _histograms(part: Part, where: np.ndarray) -> pa.Table:
    feature, arm = where[:, 0], where[:, 1]
    counts = part.counts[arm, feature]
    return pa.table(
        {
            "feature": part.names[feature].astype(np.int32), "source": _repeated(part.source, len(where)),
            "arm": pa.array(np.array(part.arms, dtype=object)[arm], pa.string()),
            "seen": part.seen[arm].astype(np.int64),
            "counts": pa.ListArray.from_arrays(
                pa.array(np.arange(len(where) + 1, dtype=np.int32) * counts.shape[1]), pa.array(counts.reshape(-1))
            ),
        }
    )  # fmt: skip


def _lists(values: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    """The first so many values of each line."""
    flat = values[np.arange(values.shape[1]) < lengths[:, None]].astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, from_pandas=False))


def _repeated(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), count)
