"""All predictions of the ledger together: how often and how well they ranked what happened.

Runs of one training set, and runs held against one result, are not independent: the sign test counts each such group
once, by its median. Nothing is claimed for few.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from statistics import median
from typing import NamedTuple

from sts_core.results.ledger import STATES, Entry
from sts_core.stats.correlation import Correlation

_ZERO = 1e-12
"""A Spearman this small is 0 but for its last digits."""


class Overall(NamedTuple):
    """All predictions together."""

    predictions: int
    by_state: Mapping[str, int]
    mixed: int
    """Scored ones whose run had other domains mixed in, which the scores do not foretell: not counted below."""
    scored: int
    median: float | None
    """Of Spearman over the scored ones."""
    above: int
    """Scored ones whose Spearman is above 0."""
    groups: int
    """Independent ones among the scored: no two share a training set or a result."""
    groups_above: int
    """Groups whose median Spearman is above 0."""
    p: float | None
    """Two-sided sign test over the groups' medians; those of exactly 0 say nothing."""
    asked: int
    """Places among the first three, over all scored ones where that can be told."""
    hit: float
    """How many of them were hit; a whole number where no tie is at the third place."""
    by_chance: float
    """How many guessing would hit on average."""

    @property
    def hit_rate(self) -> float | None:
        """The share of the hardest hit domains that the first scores named."""
        return self.hit / self.asked if self.asked else None

    @property
    def chance(self) -> float | None:
        """The hit rate of guessing."""
        return self.by_chance / self.asked if self.asked else None


def overall(entries: Iterable[Entry]) -> Overall:
    """What all of them say together."""
    entries = list(entries)
    all_scored = [(entry, found) for entry in entries if (found := entry.found) is not None]
    scored = [one for one in all_scored if not one[0].mixed]
    values = [found.spearman for _, found in scored]
    medians = [median(found.spearman for _, found in group) for group in _groups(scored)]
    hits = [found.hits for _, found in scored if found.hits is not None]
    return Overall(
        predictions=len(entries),
        by_state={state: sum(entry.state == state for entry in entries) for state in STATES},
        mixed=len(all_scored) - len(scored), scored=len(scored),
        median=median(values) if values else None, above=_above(values),
        groups=len(medians), groups_above=_above(medians), p=sign_p(medians),
        asked=sum(one.k for one in hits), hit=sum(one.shared for one in hits),
        by_chance=sum(one.chance * one.k for one in hits),
    )  # fmt: skip


def sign_p(values: Sequence[float]) -> float | None:
    """How often coins alone would fall at least this unevenly: exact, two-sided; None without a value other than 0."""
    signs = [value > 0 for value in values if abs(value) > _ZERO]
    n, fewer = len(signs), min(sum(signs), len(signs) - sum(signs))
    if not n:
        return None
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n)


def _above(values: Iterable[float]) -> int:
    return sum(value > _ZERO for value in values)


def _groups(scored: Sequence[tuple[Entry, Correlation]]) -> list[list[tuple[Entry, Correlation]]]:
    """The scored ones in groups: whoever shares a training set or a result with one of a group belongs to it."""
    fresh = count()
    group_of: dict[tuple[str, str], int] = {}
    groups: dict[int, list[tuple[Entry, Correlation]]] = {}
    for one in scored:
        foretold = one[0].foretold
        marks = [("key", foretold.key), ("set", foretold.training_set)]
        met = sorted({group_of[mark] for mark in marks if mark in group_of}) or [next(fresh)]
        for other in met[1:]:
            groups[met[0]] += groups.pop(other)
            group_of.update({mark: met[0] for mark, group in group_of.items() if group == other})
        groups.setdefault(met[0], []).append(one)
        group_of.update(dict.fromkeys(marks, met[0]))
    return list(groups.values())
