"""How often chance alone would pair two lists at least this well: two-sided permutation p (METHOD 6).

Up to nine points every order is tried, so that p is exact. Beyond, 100,000 orders are drawn and p = (b + 1) / (m + 1),
which is never 0 and comes with the error of having drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 9
"""Points up to which every order is tried."""
DRAWS = 100_000
_KEPT = 4_000_000
"""Indices that are held at once, and kept for the next time."""
_SAME = 1e-9
"""Correlations closer than this are equal: sums taken in another order differ in their last digits."""

Numbers = NDArray[np.float64]
Orders = NDArray[np.integer]


class PValue(NamedTuple):
    """A two-sided p and how it was found."""

    value: float
    exact: bool
    orders: int
    """How many orders were compared."""
    error: float
    """Standard error of having drawn orders; 0 where all were tried."""


def two_sided(pairs: Sequence[tuple[Numbers, Numbers]], draws: int = DRAWS, seed: int = 0) -> list[PValue]:
    """The p of each pair of lists [n], all over the same orders: P(|Σ u·v in another order| ≥ |Σ u·v|).

    The lists are centred and of length 1, so that Σ u·v is a correlation. The order as found counts as one of all.
    """
    n = len(pairs[0][0])
    exact = n <= EXACT_UP_TO
    reached, seen = [0] * len(pairs), 0
    for block in _orders(n, draws, seed):
        seen += len(block)
        for i, (u, v) in enumerate(pairs):
            reached[i] += int(np.count_nonzero(np.abs(v[block] @ u) >= abs(float(u @ v)) - _SAME))
    if exact:
        return [PValue(count / seen, True, seen, 0.0) for count in reached]
    found = [(count + 1) / (seen + 1) for count in reached]
    return [PValue(p, False, seen, math.sqrt(p * (1 - p) / seen)) for p in found]


def _orders(n: int, draws: int, seed: int) -> Iterator[Orders]:
    """All orders of n things, or so many drawn at random: blocks of [orders, n]."""
    if n <= EXACT_UP_TO:
        yield _all_orders(n)
    elif n * draws <= _KEPT:
        yield _drawn_orders(n, draws, seed)
    else:
        random, step = np.random.default_rng(seed), max(1, _KEPT // n)
        for start in range(0, draws, step):
            yield _draw(random, n, min(step, draws - start))


@lru_cache(maxsize=EXACT_UP_TO + 1)
def _all_orders(n: int) -> Orders:
    return np.array(list(permutations(range(n))), dtype=np.int8).reshape(-1, n)


@lru_cache(maxsize=8)
def _drawn_orders(n: int, draws: int, seed: int) -> Orders:
    return _draw(np.random.default_rng(seed), n, draws)


def _draw(random: np.random.Generator, n: int, draws: int) -> Orders:
    kind = np.int16 if n <= np.iinfo(np.int16).max else np.int64
    return random.permuted(np.tile(np.arange(n, dtype=kind), (draws, 1)), axis=1)
