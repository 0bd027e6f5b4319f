"""Were the leading ones foretold? How many of the first k by one list are the first k by another, against chance."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FIRST = 3

Numbers = NDArray[np.float64]


class Hits(NamedTuple):
    """What the two first k share."""

    k: int
    shared: float
    """Mean over ways to break ties: a whole number where there are none at the k-th place."""
    share: float
    """shared / k: the hit rate."""
    chance: float
    """The hit rate of guessing: k / n."""
    p: float | None
    """The chance to share at least as many by guessing; None where ties leave open how many are shared."""


def hits(x: Numbers, y: Numbers, k: int = FIRST) -> Hits | None:
    """The highest k of y among the highest k of x; None where k is all there is."""
    n = len(x)
    if n <= k:
        return None
    inside = [_inside(values, k) for values in (x, y)]
    shared = float(inside[0] @ inside[1])
    whole = all(set(np.unique(held)) <= {0.0, 1.0} for held in inside)
    p = _at_least(round(shared), n, k) if whole else None
    return Hits(k, shared, shared / k, k / n, p)


def _inside(values: Numbers, k: int) -> Numbers:
    """How likely each is among the highest k when ties are broken at random: [n], adding up to k."""
    least = np.sort(values)[-k]
    above, equal = values > least, values == least
    return above + equal * ((k - above.sum()) / equal.sum())


def _at_least(shared: int, n: int, k: int) -> float:
    """Two random k of n share at least so many: the hypergeometric tail."""
    ways = sum(math.comb(k, i) * math.comb(n - k, k - i) for i in range(shared, k + 1))
    return ways / math.comb(n, k)
