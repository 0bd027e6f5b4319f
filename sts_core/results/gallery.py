"""A gallery: every feature's examples with the text around them, a folder that is read a feature at a time.

`manifest.json` says what it was made of, `examples.parquet` holds the chosen tokens with the feature's values on the
tokens around them, `histograms.parquet` how often a feature had which value. Both tables are sorted by feature in small
pieces, so that one feature is found without reading the others. Texts come from `gallery_rows`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sts_core import folders
from sts_core.errors import UserError
from sts_core.results.folder import Result
from sts_core.results.gallery_rows import RowTexts

FORMAT = 1
MANIFEST, EXAMPLES, HISTOGRAMS = "manifest.json", "examples.parquet", "histograms.parquet"
BANDS = ("top", "q90", "q75", "q50", "random")
"""The strongest tokens; tokens from the bin of a quantile of those that fire; any that fire."""
_AGAIN = "Make it again with `sts examples RESULT --all --fresh`."


class Example(NamedTuple):
    """A token on which a feature fires, and the tokens around it."""

    source: str
    arm: str
    band: str
    rank: int
    value: float
    row: int
    token: int
    """Its place among the row's own tokens as the model read them, chat markup included."""
    texts: list[str]
    """The window's tokens; empty strings where the text cannot be had (`trouble` says why)."""
    values: list[float]
    """The feature on them, in this arm."""
    peak: int
    """Which of the window is the token itself."""
    others: dict[str, list[float]]
    """The feature on the same tokens in the other arms; NaN where an arm did not read a token."""
    trouble: str = ""


class _Table:
    """A Parquet file sorted by `feature`; finds the pieces that hold one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._metadata = pq.read_metadata(path)
        self.schema = self._metadata.schema.to_arrow_schema()
        column = self.schema.names.index("feature")
        spans = []
        for number in range(self._metadata.num_row_groups):
            told = self._metadata.row_group(number).column(column).statistics
            spans.append((told.min, told.max))
        self._first, self._last = np.array(spans, dtype=np.int64).reshape(-1, 2).T

    def of(self, feature: int) -> pa.Table:
        """The rows of a feature. The file is opened anew each time, so several threads may ask at once."""
        start = int(np.searchsorted(self._last, feature, side="left"))
        stop = int(np.searchsorted(self._first, feature, side="right"))
        if start >= stop:
            return self.schema.empty_table()
        with pq.ParquetFile(self._path, metadata=self._metadata) as file:
            table = file.read_row_groups(range(start, stop), use_threads=False)
        return table.filter(pc.equal(table["feature"], feature))


class Gallery:
    """A finished gallery; see `open_gallery`."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._rows = RowTexts(folder, manifest)

    @property
    def sources(self) -> list[str]:
        """The texts it was made of, in their order."""
        return [str(source["name"]) for source in self.manifest["sources"]]

    @property
    def arms(self) -> list[str]:
        """`base`, `icl`, and the fine-tuned runs by their names."""
        return list(self.manifest["arms"])

    @property
    def shipped(self) -> str:
        """What a gallery that ships leaves out, in a sentence; empty for one that was made here."""
        told = self.manifest.get("shipped")
        if not isinstance(told, dict):
            return ""
        left_out = ", ".join(told.get("left_out", {}))
        without = f", without those of {left_out}, whose text does not ship" if left_out else ""
        return f"These examples ship with the demo: the strongest few of each set{without}; values around are rounded."

    def holds(self, feature: int) -> bool:
        """Whether this feature was looked at: all are, unless the gallery was made for a list."""
        kept = self.manifest.get("kept")
        return 0 <= feature < self.manifest.get("features", feature + 1) and (kept is None or feature in kept)

    def examples(self, feature: int) -> list[Example]:
        """By source, arm and band in the manifest's order, then by rank. Empty for a feature that never fires."""
        self._check(feature)
        try:
            rows = self._ordered(list(_rows(self._examples.of(feature))))
            return [self._example(row) for row in rows]
        except (OSError, pa.ArrowException, LookupError, ValueError, TypeError):
            raise self._damaged(EXAMPLES) from None

    def histograms(self, feature: int) -> tuple[pd.DataFrame, np.ndarray]:
        """`source, arm, seen, counts` of a feature, a row for all that was looked at, and the bins' lower edges.

        `seen` is the denominator of its density; what `counts` lacks to it are tokens on which it does not fire.
        """
        self._check(feature)
        try:
            table = self._histograms
            edges = np.array((table.schema.metadata or {})[b"edges"].decode().split(","), dtype=float)
            frame = table.of(feature).to_pandas()[["source", "arm", "seen", "counts"]]
            return self._with_silent(frame, len(edges)), edges
        except (OSError, pa.ArrowException, LookupError, ValueError, TypeError):
            raise self._damaged(HISTOGRAMS) from None

    def _with_silent(self, frame: pd.DataFrame, bins: int) -> pd.DataFrame:
        """The table holds where a feature fires; it is silent wherever else the manifest says one looked."""
        held = {(line.source, line.arm): line for line in frame.itertuples(index=False)}
        rows = []
        for source in self.manifest["sources"]:
            for arm, seen in (source.get("seen") or {}).items():
                silent = (source["name"], arm, seen, np.zeros(bins, np.int64))
                rows.append(tuple(held.pop((source["name"], arm), silent)))
        return pd.DataFrame([*rows, *(tuple(line) for line in held.values())], columns=list(frame.columns))

    def _example(self, row: Mapping[str, Any]) -> Example:
        values = row["values"]
        texts, trouble = self._rows.window(row["source"], row["row"], row["start"], len(values))
        peak = row["token"] - row["start"]
        if not 0 <= peak < len(values):
            raise ValueError("the token lies outside its window")
        if "shipped" in self.manifest:  # the values around are rounded, this one is not
            values = [*values[:peak], row["value"], *values[peak + 1 :]]
        return Example(
            row["source"], row["arm"], row["band"], row["rank"], row["value"], row["row"], row["token"],
            texts, values, peak, row["others"], trouble,
        )  # fmt: skip

    def _ordered(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        names = {name: place for place, name in enumerate([*self.sources, *self.arms, *BANDS])}
        last = len(names)
        return sorted(
            rows, key=lambda r: (*(names.get(r[part], last) for part in ("source", "arm", "band")), r["rank"])
        )

    def _check(self, feature: int) -> None:
        count = self.manifest.get("features")
        if feature < 0 or (count is not None and feature >= count):
            raise UserError(
                f"There is no feature {feature}", f"Choose one from 0 to {count - 1}." if count else "Choose from 0 up."
            )
        if not self.holds(feature):
            raise UserError(
                f"Feature {feature} is not among those this gallery was made for",
                "Make one for all with `sts examples RESULT --all`.",
            )

    @cached_property
    def _examples(self) -> _Table:
        return _Table(self.folder / EXAMPLES)

    @cached_property
    def _histograms(self) -> _Table:
        return _Table(self.folder / HISTOGRAMS)

    def _damaged(self, name: str) -> UserError:
        return UserError(f"{name} in {self.folder} is gone or damaged", _AGAIN)


def open_gallery(folder: Path) -> Gallery:
    """The gallery in a folder; UserError for a folder that holds none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} holds no gallery", "Make one with `sts examples RESULT --all`.") from None
    except (ValueError, RecursionError, OSError):
        raise UserError(f"The manifest in {folder} cannot be read", _AGAIN) from None
    if not isinstance(manifest, dict) or not {"sources", "arms"} <= manifest.keys():
        raise UserError(f"{folder} is no gallery", "Make one with `sts examples RESULT --all`.")
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"The gallery in {folder} is of format {manifest.get('format')!r}; this program reads {FORMAT}", _AGAIN
        )
    return Gallery(folder, manifest)


def gallery_of(result: Path) -> Path | None:
    """Where the gallery of a result lies, for all its features; None when there is none.

    Of a result that ships the one made here stands before the shipped one, which holds fewer examples.
    """
    key = str(Result(result).manifest.get("key"))
    places = [result / "gallery", home() / key]
    if result.is_relative_to(folders.DEMO):
        places.reverse()
    return next((folder for folder in places if key_of(folder) == key), None)


def gallery_for(result: Path, features: list[int], sources: Sequence[str] | None = None) -> Path | None:
    """The gallery of a result, or one that holds all of these features in these sources; None when there is neither.

    Without `sources`, all sets of the result are wanted.
    """
    manifest = Result(result).manifest
    wanted = set(manifest["sets"] if sources is None else sources)
    whole = gallery_of(result)
    others = sorted(home().glob(f"{manifest.get('key')}+*"))
    for folder in [whole, *others] if whole else others:
        if key_of(folder) == manifest.get("key"):
            found = open_gallery(folder)
            if all(found.holds(feature) for feature in features) and wanted <= set(found.sources):
                return folder
    return None


def home() -> Path:
    """Galleries that were made on this machine: one folder a result's key, those of a part of it beside as `key+…`."""
    return folders.ensure(folders.cache() / "galleries")


def key_of(folder: Path) -> str | None:
    """The key of the result that a gallery belongs to; None where there is no gallery that can be read."""
    try:
        return str(open_gallery(folder).manifest.get("key"))
    except UserError:
        return None


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows as plain values; the lists are cut from one array, which is ten times faster than one by one."""
    plain = [name for name in table.column_names if name not in ("values", "others")]
    columns = {name: table[name].to_pylist() for name in plain}
    values = _lists(table["values"])
    others = table["others"].to_pylist() if "others" in table.column_names else [None] * table.num_rows
    for i in range(table.num_rows):
        yield {**{name: column[i] for name, column in columns.items()}, "values": values[i], "others": _arms(others[i])}


def _lists(column: pa.ChunkedArray) -> list[list[float]]:
    found: list[list[float]] = []
    for chunk in column.chunks:
        flat, at = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        found += [flat[start:stop].tolist() for start, stop in pairwise(at)]
    return found


def _arms(value: Any) -> dict[str, list[float]]:
    """A map, a struct, or a list of (arm, values), whichever way it was written."""
    if not value:
        return {}
    pairs = (
        value.items() if isinstance(value, dict) else (tuple(p.values()) if isinstance(p, dict) else p for p in value)
    )
    return {arm: values for arm, values in pairs if values is not None}
