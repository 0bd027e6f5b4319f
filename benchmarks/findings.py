"""What the reports of both sides say together: how far apart their numbers are, how many times their costs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.task import Report, Task

OURS, RIVAL = "ours.npy", "rival.npy"
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Σ|ours − rival| / Σ rival over the features' shifts; in bfloat16 another batch size alone rounds otherwise."""
_TOP = 100


class Cell(NamedTuple):
    """One length of the shared beginning."""

    prefix: int
    dtype: str
    ours: Report
    """On the rival's queries."""
    many: Report
    """On all queries of the cell."""
    rival: Report
    difference: float
    shared_top: int
    """Of the 100 most shifted features, those that both sides name."""

    @property
    def agrees(self) -> bool:
        """Whether both sides did the same work."""
        return self.difference <= TOLERANCE[self.dtype]

    @property
    def scale(self) -> float:
        """All queries in units of the rival's, by tokens of whole prompts."""
        return self.many.prompt_tokens / self.rival.prompt_tokens

    @property
    def faster_same(self) -> float:
        """Times faster in wall seconds, on the same queries, nothing extrapolated."""
        return self.rival.cost.wall / self.ours.cost.wall

    @property
    def faster_all(self) -> float:
        """The same on all queries, the rival's seconds extrapolated."""
        return self.rival.cost.wall * self.scale / self.many.cost.wall


class Memory(NamedTuple):
    """Peak memory beyond the model's own, at one budget."""

    tokens: int
    features: int
    ours: Report
    rival: int
    """Bytes."""
    rival_each: float
    """Bytes a token."""
    extrapolated: bool

    @property
    def ratio(self) -> float:
        """Ours over the rival's."""
        return self.ours.cost.beyond / max(self.rival, 1)


class Flat(NamedTuple):
    """The engine alone over growing numbers of tokens."""

    features: int
    reports: list[Report]

    @property
    def growth(self) -> float:
        """Memory beyond the model's own at most tokens over that at fewest, less one."""
        return self.reports[-1].cost.beyond / max(self.reports[0].cost.beyond, 1) - 1

    def seconds_each(self, first: float, last: float) -> float:
        """Seconds a pooled token between two numbers of pooled tokens, within the longest run."""
        longest = self.reports[-1]
        run, at = (np.array(values) for values in zip(*longest.marks, strict=True))
        pooled = run * (longest.pooled / run[-1])
        return float((np.interp(last, pooled, at) - np.interp(first, pooled, at)) / (last - first))

    @property
    def halves(self) -> tuple[float, float]:
        """Seconds a token in the first and in the second half of what lies between the two larger numbers."""
        first, last = self.reports[-2].pooled, self.reports[-1].pooled
        middle = (first + last) / 2
        return self.seconds_each(first, middle), self.seconds_each(middle, last)


def compare(task: Task, ours: Report, many: Report, rival: Report, folder: Path) -> Cell:
    """Hold the shift vectors that both sides left in the folder against each other."""
    a, b = np.load(folder / OURS), np.load(folder / RIVAL)
    difference = float(np.abs(a - b).sum() / np.abs(b).sum())
    top = min(_TOP, len(a))
    shared = len(set(np.argsort(-a, kind="stable")[:top]) & set(np.argsort(-b, kind="stable")[:top]))
    return Cell(task.prefix, task.dtype, ours, many, rival, difference, shared)
