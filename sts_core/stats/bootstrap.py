"""How far a correlation would move if other points had been drawn: 95 % bootstrap intervals, corrected for bias.

Points are drawn again with replacement; a draw is kept as how often it holds each point. The interval is BCa (bias
corrected and accelerated): with eight or fourteen Gaussian pairs it holds the true r in 92 to 95 of 100 worlds, where
plain percentiles do so in 90.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

RESAMPLES = 10_000
TAIL = 0.025
_AT_ONCE = 4_000_000
"""Numbers that are held at once while resampling."""

Numbers = NDArray[np.float64]


def resampled(x: Numbers, y: Numbers, draws: int = RESAMPLES, seed: int = 0) -> tuple[Numbers, Numbers]:
    """Pearson and Spearman of each draw, [draws] each; NaN where a draw repeats one value of x or of y throughout."""
    found: tuple[list[Numbers], list[Numbers]] = ([], [])
    for counts in _blocks(len(x), draws, seed):
        found[0].append(_pearson(counts, x[None], y[None]))
        found[1].append(_pearson(counts, _ranks_of(counts, x), _ranks_of(counts, y)))
    return np.concatenate(found[0]), np.concatenate(found[1])


def ranks(values: Numbers) -> Numbers:
    """The rank of each value, 1 for the lowest; equal values share their mean rank: [n]."""
    return _ranks_of(np.ones((1, len(values))), values)[0]


def interval(value: float, draws: Numbers, without: Numbers) -> tuple[float, float] | None:
    """The middle 95 % of the draws, shifted for bias and skew; `without` [n] is the value without each point.

    None where no draw has a value. Without points that differ, skew is taken as none.
    """
    kept = draws[np.isfinite(draws)]
    if not len(kept) or not math.isfinite(value):
        return None
    below = (np.count_nonzero(kept < value - 1e-12) + np.count_nonzero(kept <= value + 1e-12)) / (2 * len(kept))
    least = 0.5 / len(kept)
    bias = float(ndtri(np.clip(below, least, 1 - least)))
    skew = _acceleration(without)
    ends = [bias + float(ndtri(tail)) for tail in (TAIL, 1 - TAIL)]
    shares = [float(ndtr(bias + z / (1 - skew * z))) if skew * z < 1 else float(z > 0) for z in ends]
    low, high = np.quantile(kept, np.clip(shares, 0, 1))
    return float(low), float(high)


def _acceleration(without: Numbers) -> float:
    """Efron's: Σ u³ / (6 (Σ u²)^1.5) of the mean minus each."""
    known = without[np.isfinite(without)]
    u = known.mean() - known if len(known) else np.zeros(1)
    spread = float(np.sum(u**2))
    return float(np.sum(u**3)) / (6 * spread**1.5) if spread > 1e-20 else 0.0


def _blocks(n: int, draws: int, seed: int) -> Iterator[Numbers]:
    """How often each draw holds each point: blocks of [draws, n], each row adding up to n."""
    if n * draws <= _AT_ONCE:
        yield _kept_counts(n, draws, seed)
        return
    random, step = np.random.default_rng(seed), max(1, _AT_ONCE // n)
    for start in range(0, draws, step):
        yield _counts(random, n, min(step, draws - start))


@lru_cache(maxsize=8)
def _kept_counts(n: int, draws: int, seed: int) -> Numbers:
    return _counts(np.random.default_rng(seed), n, draws)


def _counts(random: np.random.Generator, n: int, draws: int) -> Numbers:
    return random.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def _pearson(counts: Numbers, x: Numbers, y: Numbers) -> Numbers:
    """Pearson of each draw; x and y are [draws or 1, n]."""
    n = counts.shape[1]
    u = x - (counts * x).sum(axis=1, keepdims=True) / n
    v = y - (counts * y).sum(axis=1, keepdims=True) / n
    of_x, of_y, both = ((counts * a * b).sum(axis=1) for a, b in ((u, u), (v, v), (u, v)))
    varies = _varies(counts, x) & _varies(counts, y) & (of_x > 0) & (of_y > 0)
    r = both / np.sqrt(np.where(varies, of_x, 1.0)) / np.sqrt(np.where(varies, of_y, 1.0))
    return np.where(varies, np.clip(r, -1.0, 1.0), np.nan)


def _varies(counts: Numbers, values: Numbers) -> NDArray[np.bool_]:
    """Whether a draw holds two different values."""
    held = counts > 0
    return np.where(held, values, -np.inf).max(axis=1) > np.where(held, values, np.inf).min(axis=1)


def _ranks_of(counts: Numbers, values: Numbers) -> Numbers:
    """The rank of each point among those of a draw, equal values sharing their mean rank: [draws, n]."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    held = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks = np.cumsum(held, axis=1) - (held - 1) / 2
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    return ranks[:, group]
