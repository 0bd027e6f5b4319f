"""Scores of any choice of features at once: only the columns that are averaged are read, the rest stays on the disk.

A wide SAE's group sums are half a gigabyte; a score over 100 of 131,072 features needs a thousandth of them. So the
file is mapped into memory, and what is read is added up by the very same steps as `Result.scores`: equal to its last
bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sts_core.results.folder import Result, ranked_by
from sts_core.results.scores import METRICS, Dims, choose_dims, score_table
from sts_core.results.sums import SetSums
from sts_core.stats.ranking import top

GROUPS = "groups.safetensors"
_KINDS = {"F32": "<f4", "F64": "<f8"}
_LONGEST_HEADER = 100_000_000


class Vectors(Result):
    """A finished result whose scores are asked for again and again; everything else is that of a `Result`."""

    @property
    def ranked_by(self) -> str:
        """The column of the ICL ranking."""
        return ranked_by(self.manifest)

    @cached_property
    def ranking(self) -> NDArray[np.int64]:
        """All features, most shifted first."""
        return top(self.shift[self.ranked_by].to_numpy(), len(self.shift))

    def choose(self, n: int = 100, dims: Dims = "icl", ranks: tuple[int, int] | None = None) -> NDArray[np.int64]:
        """The features that `scores` averages over."""
        first, last = ranks or (0, n)
        if isinstance(dims, str) and dims == "icl" and 0 <= first < last <= len(self.ranking):
            return self.ranking[first:last]
        return choose_dims(self.shift, n, dims, ranks, self.folder, seed=self.manifest["seed"], by=self.ranked_by)

    def scores(
        self, n: int = 100, dims: Dims = "icl", ranks: tuple[int, int] | None = None, power: int = 1,
        metrics: Sequence[str] = tuple(METRICS),
    ) -> pd.DataFrame:  # fmt: skip
        """As of `Result.scores`, number for number; of one metric alone in half the time."""
        chosen = self.choose(n, dims, ranks)
        quantities = {METRICS[metric][power - 1] for metric in metrics} if power in (1, 2) else set()
        sets = {name: self._columns(name, sorted(quantities), chosen) for name in self.domains}
        return score_table(sets, np.arange(len(chosen)), power, metrics)

    def means(self, metric: str, chosen: NDArray[np.int64], power: int = 1) -> pd.DataFrame:
        """What each of these features brings to each domain's score: a row a domain, a column a feature."""
        quantity = METRICS[metric][power - 1]
        rows = {}
        for name in self.domains:
            sums = self._columns(name, [quantity], chosen)
            tokens = float(sums.tokens.sum())
            total = sums.sums[quantity].sum(axis=0)
            rows[name] = total / tokens if tokens else np.full(len(chosen), np.nan)
        return pd.DataFrame.from_dict(rows, orient="index", columns=[int(feature) for feature in chosen])

    def _columns(self, name: str, quantities: list[str], chosen: NDArray[np.int64]) -> SetSums:
        """A set's group sums of these features alone."""
        try:
            sums = {key: self._mapped[f"{name}/{key}"][:, chosen].astype(np.float64) for key in quantities}
            sizes = [np.array(self._mapped[f"{name}/{part}"], dtype=np.float64) for part in ("tokens", "items")]
        except (KeyError, IndexError):
            raise self._damaged(GROUPS) from None
        return SetSums(sums, *sizes)

    @cached_property
    def _mapped(self) -> dict[str, NDArray[Any]]:
        """Every array of the file as a view into it; nothing is read yet."""
        path = self.folder / GROUPS
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > _LONGEST_HEADER:
                    raise ValueError("no header")
                header = json.loads(file.read(length))
            content = np.memmap(path, np.uint8, mode="r")
            start = 8 + length
            return {
                str(name): _view(content[start:], entry) for name, entry in header.items() if name != "__metadata__"
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._damaged(GROUPS) from None


def _view(content: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    """One array as the header describes it."""
    first, last = entry["data_offsets"]
    if not 0 <= first <= last <= len(content):
        raise ValueError("the file is cut short")
    return np.asarray(content[first:last]).view(_KINDS[entry["dtype"]]).reshape(entry["shape"])
