"""What chance gives when many settings are tried: the best of them is high even where no score follows anything.

Outcomes are put in other orders, the same ones for every setting, so that settings that say nearly the same count as
nearly one. How often the highest of all then reaches what was found is the p of having picked the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sts_core.stats.bootstrap import ranks

DRAWS = 20_000
ALL_ORDERS_UP_TO = 7
FEWEST = 3
SHARE = 0.95

Numbers = NDArray[np.float64]


class Best(NamedTuple):
    """The setting that ranks the outcome best, and what having looked for it is worth."""

    setting: int
    """Its place among the settings."""
    spearman: float
    """Mean over its seeds."""
    p_alone: float
    """One-sided, as if it had been the only one."""
    p_best: float
    """How often the best of all settings does as well when outcomes are shuffled."""
    settings: int

    def public(self) -> dict[str, Any]:
        """The same for JSON."""
        return self._asdict()


class Band(NamedTuple):
    """Within ± this, 95 of 100 shuffled outcomes lie."""

    spearman: float
    r: float


def best_of(settings: Sequence[Sequence[Numbers]], y: Numbers, seed: int = 0) -> Best | None:
    """`settings` holds for each the scores [domains] of every seed; None where nothing can be ranked."""
    kept = np.isfinite(y)
    for vectors in settings:
        for one in vectors:
            kept = kept & np.isfinite(one)
    if kept.sum() < FEWEST or not len(settings):
        return None
    outcome = _unit(ranks(y[kept]))
    means = np.array([np.mean([_unit(ranks(one[kept])) for one in vectors], axis=0) for vectors in settings])
    found = means @ outcome
    if not np.isfinite(found).any():
        return None
    best = int(np.nanargmax(found))
    shuffled = outcome[_orders(int(kept.sum()), seed)] @ np.nan_to_num(means).T
    least = found[best] - 1e-9
    return Best(best, float(found[best]), _p(shuffled[:, best] >= least, len(outcome)),
                _p(shuffled.max(axis=1) >= least, len(outcome)), len(settings))  # fmt: skip


def band(x: Numbers, y: Numbers, seed: int = 0) -> Band | None:
    """What a score with these values reaches by chance, either way."""
    kept = np.isfinite(x) & np.isfinite(y)
    if kept.sum() < FEWEST:
        return None
    orders = _orders(int(kept.sum()), seed)
    found = []
    for kind in (ranks, np.asarray):
        u, v = _unit(kind(x[kept])), _unit(kind(y[kept]))
        found.append(float(np.quantile(np.abs(v[orders] @ u), SHARE)))
    return Band(*found) if np.isfinite(found).all() else None


def aligned(scores: Mapping[str, float], names: Sequence[str]) -> Numbers:
    """The scores in this order; NaN where there is none."""
    return np.array([scores.get(name, np.nan) for name in names], dtype=np.float64)


def rank_agreement(x: Numbers, y: Numbers) -> float:
    """Spearman of two lists; NaN where there is none."""
    kept = np.isfinite(x) & np.isfinite(y)
    if kept.sum() < FEWEST:
        return float("nan")
    return float(np.clip(_unit(ranks(x[kept])) @ _unit(ranks(y[kept])), -1, 1))


def _unit(values: Numbers) -> Numbers:
    """Centred and of length 1; NaN where all values are equal."""
    centred = values - values.mean()
    size = float(np.linalg.norm(centred))
    return centred / size if size > 0 else np.full(len(values), np.nan)


def _orders(n: int, seed: int) -> NDArray[np.integer]:
    """Every order of a few things, or so many drawn at random: [orders, n]."""
    if n <= ALL_ORDERS_UP_TO:
        return np.array(list(permutations(range(n))), dtype=np.int64)
    return np.random.default_rng(seed).permuted(np.tile(np.arange(n), (DRAWS, 1)), axis=1)


def _p(reached: NDArray[np.bool_], n: int) -> float:
    exact = n <= ALL_ORDERS_UP_TO
    return float(reached.mean()) if exact else (int(reached.sum()) + 1) / (len(reached) + 1)
