"""Which features lead: top N, and how much of the whole the first n hold (METHOD 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def top(values: NDArray[np.floating], n: int) -> NDArray[np.int64]:
    """Indices of the n largest values, largest first; equal values give the lower index first."""
    return np.argsort(-values, kind="stable")[:n]


def concentration(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of the sum held by the largest 1, 2, … of them: [features], rising to 1 (all zeros when the sum is 0)."""
    ordered = np.sort(values.astype(np.float64))[::-1]
    total = ordered.sum()
    return np.cumsum(ordered) / total if total > 0 else np.zeros_like(ordered)
