"""Which rows may be scored and which are kept back (METHOD 2, 6).

A set's rows stand in the order of a hash of their question. The first half may be queried; the second half is never
queried: it is what a domain is evaluated on after training, and, of the target set, what is trained on. The hash is
of the question alone, so a repeated question is always on one side.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from sts_core.text.sources import Row


class Sides(NamedTuple):
    """The two halves of a set, each in hash order."""

    queried: list[Row]
    kept: list[Row]


def split(rows: list[Row]) -> Sides:
    """The halves; the first is the larger by one, or by as many as share the question in the middle."""
    ordered = sorted(rows, key=lambda row: (_place(row), row.number))
    middle = (len(ordered) + 1) // 2
    while 0 < middle < len(ordered) and _place(ordered[middle - 1]) == _place(ordered[middle]):
        middle += 1
    return Sides(ordered[:middle], ordered[middle:])


def _place(row: Row) -> str:
    return hashlib.sha256(row.question.strip().encode("utf-8", "surrogatepass")).hexdigest()
