"""Scores of domains from stored sums: any N, any list of dimensions, no forward pass (METHOD 4)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sts_core.errors import UserError
from sts_core.results.sums import SetSums
from sts_core.stats.jackknife import mean_per_token
from sts_core.stats.ranking import top

Dims = Literal["icl", "sft", "random"] | str | Path | Sequence[int]
ICL, ICL_SQUARED = "shift_icl", "shift_icl_sq"
"""The columns an ICL ranking may go by: the default's, and the reference preset's."""
METRICS = {"sts_act": ("base", "base_sq"), "sts_icl": ("absdiff", "sqdiff")}
"""The metric -> its quantity for power 1 and for power 2."""


def choose_dims(
    shift: pd.DataFrame,
    n: int = 100,
    dims: Dims = "icl",
    ranks: tuple[int, int] | None = None,
    folder: Path | None = None,
    seed: int = 0,
    by: str = ICL,
) -> NDArray[np.int64]:
    """The features a score is averaged over: top n of a ranking, a band of ranks, chance, or a list of one's own.

    `by` is the column that the ICL ranking goes by.
    """
    features = len(shift)
    if ranks is not None and dims not in ("icl", "sft"):
        raise UserError("A rank band needs a ranking", "Use --ranks with --dims icl or sft.")
    if isinstance(dims, str) and dims == "random":
        return np.sort(np.random.default_rng(seed).choice(features, size=_fits(n, features), replace=False))
    if not isinstance(dims, str | Path):
        return _own_list(list(dims), features)
    if str(dims) not in ("icl", "sft"):
        return _own_list(_read_list(Path(dims)), features)
    values = shift[by].to_numpy() if dims == "icl" else _sft_shift(folder)
    if ranks is None:
        return top(values, _fits(n, features))
    first, last = ranks
    if not 0 <= first < last <= features:
        raise UserError(
            f"Ranks {first + 1} to {last} are no band of {features} features",
            f"Give the lower rank first, from 1 to {features}.",
        )
    return top(values, last)[first:]


def score_table(
    domains: Mapping[str, SetSums], dims: NDArray[np.int64], power: int = 1, metrics: Iterable[str] = tuple(METRICS)
) -> pd.DataFrame:
    """STS_act and STS_icl of each domain over the given dimensions, with delete-one-group errors.

    value = mean over dims of E over tokens; the errors hold the dimensions fixed.
    """
    if power not in (1, 2):
        raise UserError(
            f"power is {power}", "Use 1 (absolute value, the default) or 2 (squares, as the reference notebook)."
        )
    rows = []
    for metric in metrics:
        for name, sums in domains.items():
            items = int(sums.items.sum())
            per_group = sums.sums[METRICS[metric][power - 1]][:, dims].mean(axis=1)
            value, se = mean_per_token(per_group, sums.tokens, items)
            rows.append((name, metric, len(dims), power, value, se, int(sums.tokens.sum()), items))
    table = pd.DataFrame(rows, columns=["domain", "metric", "n", "power", "value", "se", "tokens", "items"])
    return table.astype({"se": "float64"})


def _fits(n: int, features: int) -> int:
    if not 1 <= n <= features:
        raise UserError(f"n is {n}, but the SAE has {features} features", f"Choose n between 1 and {features}.")
    return n


def _own_list(dims: list[int], features: int) -> NDArray[np.int64]:
    if not dims or len(set(dims)) != len(dims) or not all(0 <= d < features for d in dims):
        raise UserError(
            "The list of dimensions is empty, repeats one, or names one the SAE does not have",
            f"List each feature once, between 0 and {features - 1}.",
        )
    return np.array(dims, dtype=np.int64)


def _read_list(path: Path) -> list[int]:
    """Feature numbers from a file: a JSON list, or numbers separated by white space or commas."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{path} cannot be read as a list of dimensions", "Use icl, sft, random, or a file of feature numbers."
        ) from None
    try:
        values = json.loads(text) if text.lstrip().startswith("[") else [int(v) for v in text.replace(",", " ").split()]
    except (ValueError, RecursionError):
        values = [None]
    if not all(type(value) is int for value in values):
        raise UserError(f"{path} does not hold feature numbers", "Write whole numbers, or a JSON list of them.")
    return list(values)


def _sft_shift(folder: Path | None) -> NDArray[np.float64]:
    """The shift measured after a real fine-tune of this target, when the result has one."""
    raise UserError(
        "This result has no measured shift of a fine-tune" + (f" ({folder})" if folder else ""),
        "Use --dims icl; the fine-tune's own dimensions come with a fine-tuning run.",
    )
