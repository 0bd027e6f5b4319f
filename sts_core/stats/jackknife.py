"""How sure a mean is, when questions and not tokens are the independent units (METHOD 5).

Queries are dealt into at most twenty groups; each group keeps a sum and a token count. Leaving one group out at a
time gives the standard error of any smooth statistic of those sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_GROUPS = 20
FEWEST_ITEMS = 5
"""Below this many questions no standard error is stated."""


class Estimate(NamedTuple):
    """A value with its standard error; the error is None where it is not known."""

    value: float
    se: float | None


def group_of(item: int, items: int) -> int:
    """The group of the item at this position: i mod min(20, items)."""
    return item % min(MOST_GROUPS, max(items, 1))


def delete_one_group(
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    items: int,
) -> Estimate:
    """The statistic of the summed groups, and its delete-one-group jackknife error.

    `sums` is [groups] or [groups, k], `counts` [groups]; the statistic gets (total sum, total count). With g groups
    that hold tokens: se² = (g − 1)/g · Σ (θ₋ᵢ − mean θ₋)².
    """
    filled = counts > 0
    sums, counts = sums[filled], counts[filled]
    if len(counts) == 0:
        return Estimate(float("nan"), None)
    total, count = sums.sum(axis=0), counts.sum()
    value = statistic(total, count)
    if items < FEWEST_ITEMS or len(counts) < 2:
        return Estimate(value, None)
    without = np.array([statistic(total - sums[g], count - counts[g]) for g in range(len(counts))])
    g = len(without)
    return Estimate(value, float(np.sqrt((g - 1) / g * np.sum((without - without.mean()) ** 2))))


def mean_per_token(sums: NDArray[np.float64], counts: NDArray[np.float64], items: int) -> Estimate:
    """Σ sums / Σ counts with its jackknife error; `sums` and `counts` are [groups]."""
    return delete_one_group(lambda s, n: float(s / n), sums, counts, items)
