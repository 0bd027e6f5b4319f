"""How many of their leading features two rankings share, beside what they would share for no good reason (METHOD 3).

Two rankings of shifts agree for dull reasons too: few features fire at all, busy features move most, rounding moves
the same ones. So an overlap comes with four nulls and an interval, and is claimed only where the interval lies above
the highest null. A feature that did not move (shift 0) is in no top k: ties among such would look like agreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from sts_core.errors import UserError
from sts_core.stats.jackknife import FEWEST_ITEMS
from sts_core.stats.ranking import top

Vector = NDArray[np.floating]
Numbers = NDArray[np.int64]
STANDARD_K = (10, 50, 100, 200, 500)
MOST_BINS = 50
_TAILS = (0.025, 0.975)
_AT_ONCE = 4_000_000
"""Feature values that are held at once while resampling."""


class Side(NamedTuple):
    """One of the two rankings, by how far each feature shifted."""

    shift: Vector
    """E_t |Δ_i|: [features], never below zero."""
    sums: Vector | None = None
    """Σ_t |Δ_i| a jackknife group: [groups, features]; None where they were not kept, and the ranking is held fixed."""
    tokens: Vector | None = None
    """Tokens a group: [groups]. Groups without any are not resampled; the ranking depends on them no further."""


class Null(NamedTuple):
    """The share of the top k that two rankings have in common when nothing but this null relates them."""

    mean: float
    low: float | None = None
    """2.5 % quantile; None where the null is a single measured value."""
    high: float | None = None
    """97.5 % quantile, likewise."""

    @property
    def upper(self) -> float:
        """What an overlap has to exceed."""
        return self.mean if self.high is None else self.high


class Overlap(NamedTuple):
    """Overlap@k with all that must be shown beside it."""

    k: int
    shared: int
    """Features in both top k."""
    value: float
    """shared / k; NaN when fewer than k features moved on either side."""
    interval: tuple[float, float] | None
    """95 %, from resampling groups of questions; None without the groups or with too few questions."""
    chance: Null
    """(a) Rankings drawn at random from the features that fire."""
    activation: Null
    """(b) The other ranking against the ranking by mean activation."""
    matched: Null
    """(c) The ICL ranks permuted among features of like mean activation."""
    noise: Null | None
    """(d) The ICL ranking against a ranking by noise alone; None where that was not measured."""
    claimed: bool
    """Whether the interval lies above the highest of the nulls measured."""

    @property
    def nulls(self) -> dict[str, Null]:
        """The nulls that were measured, by name."""
        named = {"chance": self.chance, "activation": self.activation, "matched": self.matched, "noise": self.noise}
        return {name: null for name, null in named.items() if null is not None}

    @property
    def highest(self) -> str:
        """The name of the null that is hardest to exceed."""
        return max(self.nulls, key=lambda name: self.nulls[name].upper)


def overlap(
    icl: Side,
    other: Side,
    mean_base: Vector,
    *,
    ks: Sequence[int] | None = None,
    fires: NDArray[np.bool_] | None = None,
    noise: Vector | None = None,
    same_groups: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> list[Overlap]:
    """Overlap@k of two rankings for each k, with interval, nulls and claim.

    `mean_base` [features] is the mean activation without demonstrations, `fires` [features] marks features that fire
    anywhere (those with activation or shift always count), `noise` [features] a shift that no training made.
    `same_groups` says that group g of both sides holds the same questions: they are then resampled together.
    Without `ks`, the standard ones that fit. The same seed gives the same intervals.
    """
    _check(icl, other, mean_base, noise)
    if draws < 1 or seed < 0:
        raise UserError(f"{draws} draws with seed {seed} cannot be made", "Give at least one draw and a seed from 0.")
    wanted = _wanted(ks, len(icl.shift))
    leading, its, busiest = (_leaders(values, wanted[-1]) for values in (icl.shift, other.shift, mean_base))
    noisy = None if noise is None else _leaders(noise, wanted[-1])
    firing = (mean_base > 0) | (icl.shift > 0) | (other.shift > 0)
    firing = firing if fires is None else firing | fires
    bins = activation_bins(mean_base, firing)
    resampled = bootstrap(icl, other, wanted, same_groups=same_groups, draws=draws, seed=seed)
    rows = []
    for i, k in enumerate(wanted):
        a, b = leading[:k], its[:k]
        both = _common(a, b)
        moved = len(a) == len(b) == k
        value = both / k if moved else float("nan")
        row = Overlap(
            k=k,
            shared=both,
            value=value,
            interval=_interval(value, resampled[:, i] / k) if resampled is not None and moved else None,
            chance=chance_null(k, int(firing.sum())),
            activation=Null(_common(b, busiest[:k]) / k),
            matched=matched_null(a, b, bins, k),
            noise=None if noisy is None else Null(_common(a, noisy[:k]) / k),
            claimed=False,
        )
        least = row.interval[0] if row.interval else float("-inf")
        rows.append(row._replace(claimed=least > row.nulls[row.highest].upper))
    return rows


def shared(first: Numbers, second: Numbers, ks: Sequence[int]) -> Numbers:
    """|top k ∩ top k| of two lists of features, best first, for every k: [ks]."""
    _, rank_first, rank_second = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    return np.searchsorted(np.sort(np.maximum(rank_first, rank_second)), ks, side="left")


def chance_null(k: int, firing: int) -> Null:
    """Null (a), exact: two random k of the firing features share a hypergeometric number."""
    if k > firing:
        return Null(1.0, 1.0, 1.0)
    law = hypergeom(firing, k, k)
    low, high = law.ppf(_TAILS)
    return Null(k / firing, float(low) / k, float(high) / k)


def activation_bins(mean_base: Vector, firing: NDArray[np.bool_]) -> Numbers:
    """The bin of each feature: fifty equal steps of log mean activation, [features].

    Equal steps match equally well whatever the SAE's width; bins of equal counts would put a wide SAE's busiest
    thousands into one. Features that fire elsewhere but not here share bin 0; −1 marks those that fire nowhere.
    """
    bins = np.where(firing, 0, -1)
    active = mean_base > 0
    if active.any():
        logs = np.log(mean_base[active].astype(np.float64))
        edges = np.linspace(logs.min(), logs.max(), MOST_BINS + 1)[1:-1]
        bins[active] = 1 + np.searchsorted(edges, logs, side="right")
    return bins


def matched_null(icl_top: Numbers, other_top: Numbers, bins: Numbers, k: int) -> Null:
    """Null (c), exact: what is shared when the ICL ranks are permuted at random within each bin.

    A bin of m features, a of them in the one top k and c in the other, then shares a hypergeometric(m, a, c) number,
    each bin on its own: the whole follows the convolution, which is what endless draws of permutations come to.
    """
    size = np.bincount(bins[bins >= 0], minlength=MOST_BINS + 1)
    of_icl = np.bincount(bins[icl_top], minlength=MOST_BINS + 1)
    of_other = np.bincount(bins[other_top], minlength=MOST_BINS + 1)
    chances = np.ones(1)
    for m, a, c in zip(size, of_icl, of_other, strict=True):
        if a and c:
            chances = np.convolve(chances, hypergeom.pmf(np.arange(min(a, c) + 1), m, a, c))
    below = np.cumsum(chances)
    low, high = np.minimum(np.searchsorted(below, np.array(_TAILS) * below[-1]), len(chances) - 1)
    mean = float(np.sum(of_icl * of_other / np.maximum(size, 1)))
    return Null(mean / k, int(low) / k, int(high) / k)


def bootstrap(icl: Side, other: Side, ks: Sequence[int], *, same_groups: bool, draws: int, seed: int) -> Numbers | None:
    """How many of the top k are shared when groups are drawn again with replacement: [draws, ks].

    A side without groups keeps its ranking. None when neither has them, or one has too few to say anything.
    """
    random = np.random.default_rng(seed)
    sides = (icl, other)
    filled = [_filled(side) for side in sides]
    if same_groups and filled[0] is not None and filled[1] is not None:
        filled = [filled[0] | filled[1]] * 2
    known = [groups for groups in filled if groups is not None]
    if not known or any(groups.sum() < FEWEST_ITEMS for groups in known):
        return None
    weights: list[NDArray[np.float32] | None] = []
    for groups in filled:
        repeat = same_groups and weights and weights[0] is not None and groups is not None
        weights.append(weights[0] if repeat else None if groups is None else _draw(groups, draws, random))
    step = max(1, _AT_ONCE // max(1, len(icl.shift)))
    streams = [_Resampled(side, ks[-1], weight) for side, weight in zip(sides, weights, strict=True)]
    found = np.empty((draws, len(ks)), dtype=np.int64)
    for start in range(0, draws, step):
        tops = [stream.tops(start, min(start + step, draws)) for stream in streams]
        for row, (first, second) in enumerate(zip(*tops, strict=True), start):
            found[row] = shared(first, second, ks)
    return found


class _Resampled:
    """One side's top k in every draw."""

    def __init__(self, side: Side, k: int, weights: NDArray[np.float32] | None) -> None:
        self._k, self._weights, self._fixed = k, weights, _leaders(side.shift, k)
        if weights is not None and side.sums is not None:
            total = side.sums.sum(axis=0)
            self._moved = np.flatnonzero(total > 0)  # the others are 0 in every draw
            self._sums = np.ascontiguousarray(side.sums[:, self._moved], dtype=np.float32)
            self._guide = top(total[self._moved], 2 * k)

    def tops(self, start: int, stop: int) -> list[Numbers]:
        """The leading features of each draw, best first. The k-th of a few good guesses bounds the k-th of all from
        below, so that only what reaches it has to be sorted.
        """
        if self._weights is None:
            return [self._fixed] * (stop - start)
        values = self._weights[start:stop] @ self._sums
        guide = values[:, self._guide]
        n = guide.shape[1]
        bound = np.partition(guide, n - self._k, axis=1)[:, n - self._k] if n >= self._k else np.zeros(len(values))
        found = []
        for row, least in zip(values, bound, strict=True):
            reach = np.flatnonzero((row >= least) & (row > 0)) if least <= 0 else np.flatnonzero(row >= least)
            found.append(self._moved[reach[top(row[reach], self._k)]])
        return found


def _leaders(shift: Vector, n: int) -> Numbers:
    """The first n features that moved at all, best first."""
    first = top(shift, n)
    return first[shift[first] > 0]


def _common(first: Numbers, second: Numbers) -> int:
    return len(np.intersect1d(first, second, assume_unique=True))


def _filled(side: Side) -> NDArray[np.bool_] | None:
    if side.sums is None:
        return None
    return np.ones(len(side.sums), dtype=bool) if side.tokens is None else np.asarray(side.tokens) > 0


def _draw(groups: NDArray[np.bool_], draws: int, random: np.random.Generator) -> NDArray[np.float32]:
    """How often each group is drawn: [draws, groups], each row adding up to the number of filled ones."""
    count = int(groups.sum())
    return random.multinomial(count, groups / count, size=draws).astype(np.float32)


def _interval(value: float, resampled: Vector) -> tuple[float, float]:
    """The middle 95 %, widened to hold the value: resampling shakes both rankings, and often shares less throughout."""
    low, high = np.quantile(resampled, _TAILS)
    return min(float(low), value), max(float(high), value)


def _check(icl: Side, other: Side, mean_base: Vector, noise: Vector | None) -> None:
    """Refuse what is no ranking of one SAE's features."""
    named: dict[str, Any] = {"ICL": icl.shift, "other": other.shift, "activation": mean_base, "noise": noise}
    lengths = {np.shape(values) for values in named.values() if values is not None}
    if len(lengths) != 1 or len(lengths.pop()) != 1:
        raise UserError("The rankings are not over the same features", "Compare rankings made with one SAE.")
    for name, values in named.items():
        if values is None:
            continue
        if bad := int(np.sum(~np.isfinite(values))):
            raise UserError(f"The {name} ranking has {bad} values that are no number", "Measure it again.")
        if np.any(values < 0):
            raise UserError(
                f"The {name} ranking has values below zero", "A shift is the mean of an absolute difference."
            )
    _check_groups("ICL", icl)
    _check_groups("other", other)


def _check_groups(name: str, side: Side) -> None:
    if side.sums is None:
        return
    groups = side.sums.shape[0]
    if side.sums.shape != (groups, len(side.shift)) or (side.tokens is not None and len(side.tokens) != groups):
        raise UserError(f"The groups of the {name} ranking do not fit its features", "Measure it again.")
    if not np.isfinite(side.sums).all() or (side.sums < 0).any():
        raise UserError(f"The groups of the {name} ranking hold what is no shift", "Measure it again.")


def _wanted(ks: Sequence[int] | None, features: int) -> list[int]:
    """The ks in order; the standard ones that fit when none are given."""
    wanted = sorted(set(STANDARD_K if ks is None else ks))
    if ks is None:
        wanted = [k for k in wanted if k <= features] or [features]
    if not wanted or wanted[0] < 1 or wanted[-1] > features:
        raise UserError(
            f"k is {', '.join(map(str, wanted)) or 'missing'}, but there are {features} features",
            f"Choose each k between 1 and {features}.",
        )
    return wanted
