"""How the shift is spread, and how much of it a fine-tune repeats beside its nulls: two figures of lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sts_core.figures.concentration import Curve, points
from sts_core.figures.lines import places
from sts_core.figures.numbers import count
from sts_core.figures.report.ink import LETTER, NARROW, Point, Sheet
from sts_core.figures.run_words import NULL_NAMES
from sts_core.stats.overlap import Overlap

HEIGHT, LEFT, TOP, FOOT = 300, 58, 12, 46
_QUARTERS = (0, 25, 50, 75, 100)


class _Plot(NamedTuple):
    """Where the axes lie."""

    sheet: Sheet
    right: float

    def at(self, share_x: float, share_y: float) -> Point:
        """A place from shares of the two axes, from the lower left."""
        width, height = self.right - LEFT, self.sheet.height - TOP - FOOT
        return LEFT + share_x * width, TOP + (1 - share_y) * height

    def frame(self, below: str, beside: str) -> None:
        """Shares from 0 to 100 % at the left, and what the axes are."""
        for value in _QUARTERS:
            y = self.at(0, value / 100)[1]
            self.sheet.line((LEFT, y), (self.right, y), "zero" if value == 0 else "grid")
            self.sheet.text(LEFT - 8, y + 4, f"{value} %", "muted", "end")
        self.sheet.text((LEFT + self.right) / 2, self.sheet.height - 6, below, "muted", "middle")
        self.sheet.tilted(13, TOP + (self.sheet.height - TOP - FOOT) / 2, beside, "muted")

    def tick(self, share_x: float, text: str) -> None:
        """A number below the axis."""
        self.sheet.text(self.at(share_x, 0)[0], self.sheet.height - FOOT + 16, text, "muted", "middle")


def concentration(sae: Curve, raw: Curve | None, width: int) -> Sheet:
    """The share of the shift that the leading dimensions hold, of features and of the raw stream."""
    plot = _Plot(Sheet(width, HEIGHT + TOP + FOOT), width - 16)
    curves = [(sae, "accent")] + ([(raw, "quiet")] if raw is not None and len(raw.shares) else [])
    least = math.log10(1 / max(len(curve.shares) for curve, _ in curves))

    def across(n: int | NDArray[np.int64], total: int) -> NDArray[np.float64]:
        return np.asarray(1 - np.log10(np.asarray(n) / total) / least)

    plot.frame("share of all dimensions, most shifted first (log scale)", "share of the shift")
    for power in range(math.ceil(least), 1):
        plot.tick(1 - power / least, f"{100 * 10.0**power:g} %")
    for curve, kind in reversed(curves):
        at = points(curve.shares, curve.marked)
        held = curve.shares[at - 1]
        plot.sheet.path([plot.at(float(x), float(y)) for x, y in zip(across(at, len(curve.shares)), held, strict=True)],
                        f"curve {kind}")  # fmt: skip
    for order, (curve, kind) in enumerate(curves):
        side = -1 if order == 0 else 1
        if curve.marked:
            share = float(curve.shares[curve.marked - 1])
            x, y = plot.at(float(across(curve.marked, len(curve.shares))), share)
            plot.sheet.ring(x, y, 5.5, f"dot {kind}")
            _beside(plot, x, y + (-6 if side < 0 else 16), count(curve.marked), f"bold {kind} halo", side)
        height = 0.74 if order == 0 else 0.3
        n = min(int(np.searchsorted(curve.shares, height)) + 1, len(curve.shares))
        x, y = plot.at(float(across(n, len(curve.shares))), float(curve.shares[n - 1]))
        _beside(plot, x, y, curve.name, f"{kind} halo", side)
    return plot.sheet


def overlaps(rows: Sequence[Overlap], width: int) -> Sheet:
    """Overlap@k with its interval, and each null beside it."""
    rows = [row for row in rows if math.isfinite(row.value)]
    names = ["shared", *(NULL_NAMES[name] for name in NULL_NAMES if all(name in row.nulls for row in rows))]
    plot = _Plot(Sheet(width, HEIGHT + TOP + FOOT), width - 22 - LETTER * max(map(len, names)))
    plot.frame("k, the leading features compared", "overlap@k")
    across = [0.06 + 0.88 * i / max(1, len(rows) - 1) if len(rows) > 1 else 0.5 for i in range(len(rows))]
    for x, row in zip(across, rows, strict=True):
        plot.tick(x, count(row.k))
    ends = [rows[-1].value if rows else 0.0]
    for null in NULL_NAMES:
        if NULL_NAMES[null] in names and rows:
            values = [row.nulls[null].mean for row in rows]
            plot.sheet.path([plot.at(x, y) for x, y in zip(across, values, strict=True)],
                            f"curve quiet {'dashed' if null == 'noise' else 'dotted'}")  # fmt: skip
            ends.append(values[-1])
    plot.sheet.path([plot.at(x, row.value) for x, row in zip(across, rows, strict=True)], "curve accent")
    for x, row in zip(across, rows, strict=True):
        if row.interval is not None:
            plot.sheet.line(plot.at(x, row.interval[0]), plot.at(x, row.interval[1]), "whisker accent")
        plot.sheet.ring(*plot.at(x, row.value), 5, "dot accent")
    for name, y in zip(names, places(ends, (0.0, 1.0), HEIGHT, 15), strict=True):
        kind = "bold accent" if name == "shared" else "muted"
        plot.sheet.text(plot.right + 10, plot.at(0, y)[1] + 4, name, kind)
    return plot.sheet


def _beside(plot: _Plot, x: float, y: float, text: str, kind: str, side: int) -> None:
    """Text left or right of a place, within the sheet."""
    room = LETTER * len(text) + 10
    if side < 0 and x - room < LEFT:
        side = 1
    elif side > 0 and x + room > plot.sheet.width:
        side = -1
    gap = 10 if plot.sheet.width > NARROW else 8
    plot.sheet.text(x + side * gap, y, text, kind, "end" if side < 0 else "start")
