"""Which rows may be scored and which are kept back (METHOD 2, 6).

A set's rows stand in the order of a hash of their question. The first half may be queried; the second half is never
queried: it is what a domain is evaluated on after training, and, of the target set, what is trained on, but for its
last rows, on which the target is evaluated itself. The hash is of the question alone, so a repeated question is
always on one side.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from sts_core.text.sources import Row


class Sides(NamedTuple):
    """The two halves of a set, each in hash order."""

    queried: list[Row]
    kept: list[Row]


class TargetSides(NamedTuple):
    """The kept half of the target set, in hash order: no question is on both sides."""

    trained: list[Row]
    evaluated: list[Row]


def split(rows: list[Row]) -> Sides:
    """The halves; the first is the larger by one, or by as many as share the question in the middle."""
    ordered = sorted(rows, key=lambda row: (_place(row), row.number))
    middle = (len(ordered) + 1) // 2
    while 0 < middle < len(ordered) and _place(ordered[middle - 1]) == _place(ordered[middle]):
        middle += 1
    return Sides(ordered[:middle], ordered[middle:])


def held_out(rows: list[Row], n: int) -> TargetSides:
    """Cut the target set's kept half: its last `n` rows are evaluated, those before them are trained on.

    `rows` are all usable rows of the set. At most half of the kept rows are evaluated, so that a small set leaves
    something to train on; fewer, too, where the same question lies on both sides of the cut: it is trained on.
    """
    kept = split(rows).kept
    cut = len(kept) - min(max(n, 0), len(kept) // 2)
    while 0 < cut < len(kept) and _place(kept[cut - 1]) == _place(kept[cut]):
        cut += 1
    return TargetSides(kept[:cut], kept[cut:])


def _place(row: Row) -> str:
    return hashlib.sha256(row.question.strip().encode("utf-8", "surrogatepass")).hexdigest()
