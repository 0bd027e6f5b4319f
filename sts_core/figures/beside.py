"""On which side of its point each name stands: where it covers least of the points, whiskers and names around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Way = tuple[int, int]
"""To the right and up from a point; minus one is left and down."""
WAYS: tuple[Way, ...] = ((0, 1), (1, 0), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""The sides a name may stand on, those tried first that one reads most easily."""
_POINT, _RING, _WHISKER, _LINE = 7.0, 12.0, 3.0, 1.5
"""Pixels that a point and a ring reach from their middle, a whisker and a line to both their sides."""
_OUTSIDE, _LATER = 3.0, 2.0
"""What an area outside the plot counts, one covered counting once; and what each later side is thought worse."""
_SWEEPS = 5
_MOST = 120
"""More names than that cover each other anyhow."""


class Plot(NamedTuple):
    """The points as they lie in a drawing of one size, in pixels, upwards."""

    x: Sequence[float]
    y: Sequence[float]
    x_se: Sequence[float]
    y_se: Sequence[float]
    """How far a whisker reaches to one side; zero where there is none."""
    left: float
    right: float
    level: float | None = None
    """Where a line runs across."""


class Lettering(NamedTuple):
    """How large names are: pixels."""

    widths: Sequence[float]
    height: float
    gap: tuple[float, float]
    """How far a name stands off the middle of its point: to the side, and upwards or downwards."""


def ways_beside(plots: Sequence[Plot], names: Lettering, ringed: int | None = None) -> list[Way]:
    """The side of every name, one for all the sizes a figure may be drawn in."""
    n = len(names.widths)
    if n == 0 or n > _MOST:
        return [WAYS[0]] * n
    alone = np.tile(_LATER * np.arange(len(WAYS)), (n, 1))
    pairs = np.zeros((n, len(WAYS), n, len(WAYS)))
    for plot in plots:
        boxes = _boxes(plot, names)
        alone += _covered(boxes, _obstacles(plot, ringed)).sum(-1) + _OUTSIDE * _outside(boxes, plot, names.height)
        pairs += _covered(boxes, boxes.reshape(-1, 4)).reshape(pairs.shape)
    chosen = alone.argmin(1)
    everyone = np.arange(n)
    for _ in range(_SWEEPS):
        before = chosen.copy()
        for i in range(n):
            met = pairs[i, :, everyone, chosen]
            met[i] = 0
            chosen[i] = (alone[i] + met.sum(0)).argmin()
        if (chosen == before).all():
            break
    return [WAYS[way] for way in chosen]


def middle(plot: Plot, i: int, way: Way, names: Lettering) -> tuple[float, float]:
    """Where the middle of a name lies that stands on this side of its point."""
    (across, up), (aside, above) = way, names.gap
    return plot.x[i] + across * (aside + names.widths[i] / 2), plot.y[i] + up * (above + names.height / 2)


def _boxes(plot: Plot, names: Lettering) -> np.ndarray:
    """Left, low, right, high of every name on every side: names x sides x 4."""
    half = np.asarray(names.widths, float)[:, None] / 2
    ways = np.array(WAYS, float)
    x = np.asarray(plot.x, float)[:, None] + ways[:, 0] * (names.gap[0] + half)
    y = np.asarray(plot.y, float)[:, None] + ways[:, 1] * (names.gap[1] + names.height / 2)
    return np.stack([x - half, y - names.height / 2, x + half, y + names.height / 2], axis=-1)


def _obstacles(plot: Plot, ringed: int | None) -> np.ndarray:
    x, y, x_se, y_se = (np.asarray(values, float) for values in plot[:4])
    lines = [] if plot.level is None else [(plot.left, plot.level - _LINE, plot.right, plot.level + _LINE)]
    reach = np.full(len(x), _POINT)
    if ringed is not None:
        reach[ringed] = _RING
    return np.concatenate([
        np.reshape(lines, (-1, 4)),
        np.stack([x - reach, y - reach, x + reach, y + reach], axis=-1),
        np.stack([x - x_se, y - _WHISKER, x + x_se, y + _WHISKER], axis=-1),
        np.stack([x - _WHISKER, y - y_se, x + _WHISKER, y + y_se], axis=-1),
    ])  # fmt: skip


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area each box shares with each of the others, on one more axis."""
    one = boxes[..., None, :]
    sides = np.minimum(one[..., 2:], others[:, 2:]) - np.maximum(one[..., :2], others[:, :2])
    return np.maximum(sides, 0).prod(-1)


def _outside(boxes: np.ndarray, plot: Plot, height: float) -> np.ndarray:
    """The area of each box that lies left or right of the plot."""
    return height * (np.maximum(plot.left - boxes[..., 0], 0) + np.maximum(boxes[..., 2] - plot.right, 0))
