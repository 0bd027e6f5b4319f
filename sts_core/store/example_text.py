"""Which features fire near a text: a search through the windows of a gallery's examples.

The rows that examples are from are cut into tokens once, when somebody searches first; which windows hold the text is
then a question in SQL. A row whose text cannot be had is not found.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd

from sts_core.errors import UserError
from sts_core.results.gallery import EXAMPLES, Gallery
from sts_core.results.gallery_rows import RowTexts
from sts_core.store.features import SETTINGS, parquet

SHORTEST = 3
"""Letters; a shorter text is nearly everywhere."""
MOST_PLACES = 20_000


class Row(NamedTuple):
    """A row of a source, as far as examples reach into it."""

    source: str
    row: int
    text: str
    ends: np.ndarray
    """[tokens]: where in the text each token ends."""


class ExampleTexts:
    """The texts of a gallery's examples, ready to be searched; any thread may ask."""

    def __init__(self, gallery: Gallery) -> None:
        self._path = gallery.folder / EXAMPLES
        reach = f"select source, row, max(start + len(values)) as reach from {parquet(self._path)} group by all"
        texts = RowTexts(gallery.folder, gallery.manifest)
        self._rows = [row for found in _asked(self._path, reach, {}) if (row := _read(texts, *found)) is not None]

    def features_with(self, text: str) -> tuple[int, ...]:
        """The features with an example whose window holds the text, whatever its capitals."""
        wanted = text.strip()
        if len(wanted) < SHORTEST:
            return ()
        places = self._places(wanted)
        if places.empty:
            return ()
        question = f"""
            select distinct feature from {parquet(self._path)} as shown join places
                on shown.source = places.source and shown.row = places.row
                and places.first >= shown.start and places.last < shown.start + len(shown.values)
            order by feature"""
        return tuple(int(row[0]) for row in _asked(self._path, question, {"places": places}))

    def _places(self, wanted: str) -> pd.DataFrame:
        """`source, row, first, last`: the tokens that a text lies in, wherever it stands."""
        pattern = re.compile(re.escape(wanted), re.IGNORECASE)
        found = [
            (row.source, row.row, *np.searchsorted(row.ends, (hit.start(), hit.end() - 1), side="right").tolist())
            for row in self._rows
            for hit in pattern.finditer(row.text)
        ]
        return pd.DataFrame(found[:MOST_PLACES], columns=["source", "row", "first", "last"])


def _read(texts: RowTexts, source: str, row: int, reach: int) -> Row | None:
    tokens, trouble = texts.window(source, row, 0, reach)
    return None if trouble else Row(source, row, "".join(tokens), np.cumsum([len(token) for token in tokens]))


def _asked(path: Path, question: str, given: dict[str, pd.DataFrame]) -> list[tuple[Any, ...]]:
    try:
        with duckdb.connect(":memory:", config=SETTINGS) as connection:
            for name, table in given.items():
                connection.register(name, table)
            return connection.execute(question).fetchall()
    except duckdb.Error as error:
        raise UserError(
            f"{path.name} in {path.parent} is gone or damaged",
            "Make it again with `sts examples RESULT --all --fresh`.",
        ) from error
