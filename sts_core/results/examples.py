"""Where features fire: each one's strongest tokens, samples of the others, and the histogram of its values.

A token is named by its row in the set's file and its place among the pooled tokens of that row, so no text is copied.
Examples and histograms are a file each, sorted by feature: one feature's lines are found without reading the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

EXAMPLES, HISTOGRAMS = "examples.parquet", "histograms.parquet"
TOP = "top"
_LINES_TOGETHER = 20_000


class Found(NamedTuple):
    """What was gathered of a set in an arm."""

    set: str
    arm: str
    """`base`, or `icl`: behind the demonstrations."""
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Band (`top`, `q90` …) -> values [features, places], 0 where fewer tokens fired, and which of the set's tokens."""
    counts: np.ndarray
    """[features, bins]."""
    seen: int
    """Tokens that were looked at: the denominator of every density."""
    rows: Sequence[int]
    """The row of each query in the set's file."""
    pooled: Sequence[int]
    """Pooled tokens of each query."""


def write_examples(folder: Path, found: Iterable[Found], edges: np.ndarray) -> None:
    """Write both files; `edges` are the lower edges of the histograms' bins."""
    kept = list(found)
    examples = pd.concat([_examples(one, band) for one in kept for band in one.bands])
    examples = examples.sort_values(["feature", "set", "arm", "band", "rank"])
    histograms = pd.concat([_histograms(one) for one in kept]).sort_values(["feature", "set", "arm"])
    _write(folder / EXAMPLES, examples, {})
    _write(folder / HISTOGRAMS, histograms, {"edges": ",".join(f"{edge:.9g}" for edge in edges)})


def read_examples(folder: Path, feature: int) -> pd.DataFrame:
    """`set, arm, feature, band, rank, value, row, token` of a feature; older files hold the top alone."""
    frame = pq.read_table(folder / EXAMPLES, filters=[("feature", "=", feature)]).to_pandas()
    return frame if "band" in frame else frame.assign(band=TOP)


def read_histograms(folder: Path, feature: int) -> tuple[pd.DataFrame, np.ndarray]:
    """`set, arm, feature, seen, counts` of a feature, and the lower edges of the bins."""
    edges = pq.read_schema(folder / HISTOGRAMS).metadata[b"edges"].decode().split(",")
    table = pq.read_table(folder / HISTOGRAMS, filters=[("feature", "=", feature)])
    return table.to_pandas(), np.array(edges, dtype=float)


def _examples(one: Found, band: str) -> pd.DataFrame:
    values, tokens = one.bands[band]
    feature, rank = np.nonzero(values > 0)
    token = tokens[feature, rank]
    starts = np.concatenate([[0], np.cumsum(one.pooled)])
    query = np.searchsorted(starts, token, side="right") - 1
    return pd.DataFrame(
        {
            "set": one.set, "arm": one.arm, "feature": feature.astype(np.int32), "band": band,
            "rank": (rank + 1).astype(np.int32), "value": values[feature, rank].astype(np.float32),
            "row": np.asarray(one.rows, dtype=np.int64)[query], "token": (token - starts[query]).astype(np.int32),
        }
    )  # fmt: skip


def _histograms(one: Found) -> pd.DataFrame:
    fired = np.flatnonzero(one.counts.any(axis=1))
    return pd.DataFrame(
        {
            "set": one.set, "arm": one.arm, "feature": fired.astype(np.int32), "seen": one.seen,
            "counts": list(one.counts[fired]),
        }
    )  # fmt: skip


def _write(path: Path, frame: pd.DataFrame, told: dict[str, str]) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **told})
    pq.write_table(table, path, compression="zstd", row_group_size=_LINES_TOGETHER)
