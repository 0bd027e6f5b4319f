"""Names beside points: no name could stand better by itself, as counted by hand, box by box."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from sts_core.figures.beside import WAYS, Lettering, Plot, Way, middle, ways_beside

Box = tuple[float, float, float, float]


def shared(one: Box, other: Box) -> float:
    wide, high = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    return max(0.0, wide) * max(0.0, high)


def box(plot: Plot, i: int, way: Way, names: Lettering) -> Box:
    x, y = middle(plot, i, way, names)
    half = names.widths[i] / 2
    return x - half, y - names.height / 2, x + half, y + names.height / 2


def cost(plots: list[Plot], names: Lettering, ways: list[Way], i: int, way: Way, ringed: int | None) -> float:
    """What the name covers on this side, all others standing where they stand."""
    found = 2.0 * WAYS.index(way)
    for plot in plots:
        own = box(plot, i, way, names)
        points = list(zip(plot.x, plot.y, plot.x_se, plot.y_se, strict=True))
        reach = [12 if j == ringed else 7 for j in range(len(points))]
        around = chain(
            ((x - r, y - r, x + r, y + r) for (x, y, _, _), r in zip(points, reach, strict=True)),
            ((x - a, y - 3, x + a, y + 3) for x, y, a, _ in points),
            ((x - 3, y - b, x + 3, y + b) for x, y, _, b in points),
            (box(plot, j, other, names) for j, other in enumerate(ways) if j != i),
        )
        outside = max(0.0, plot.left - own[0]) + max(0.0, own[2] - plot.right)
        found += sum(shared(own, other) for other in around) + 3 * names.height * outside
    return found


@pytest.mark.parametrize("seed", range(6))
def test_no_name_could_stand_better_by_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 14
    spots, errors = rng.uniform(0, 1, (2, n)), rng.uniform(0, 0.1, (2, n))
    plots = []
    for wide in (300, 480):
        (x, y), (x_se, y_se) = ((part * [[wide], [300]]).tolist() for part in (spots, errors))
        plots.append(Plot(x, y, x_se, y_se, 0, wide))
    names = Lettering([float(w) for w in rng.integers(20, 110, n)], 14, (13, 7))
    ringed = None if seed % 2 else 3
    ways = ways_beside(plots, names, ringed)
    for i, way in enumerate(ways):
        own = cost(plots, names, ways, i, way, ringed)
        assert own <= min(cost(plots, names, ways, i, other, ringed) for other in WAYS) + 1e-6


def test_a_name_by_itself_stands_above_but_not_in_its_ring_and_never_beyond_the_edge() -> None:
    names = Lettering([60], 14, (13, 7))
    alone = Plot([100], [100], [0], [0], 0, 300)
    assert ways_beside([alone], names) == [(0, 1)]
    assert ways_beside([alone], names, 0) == [(1, 0)]
    assert ways_beside([alone._replace(x=[295])], names) == [(-1, 0)]
    assert ways_beside([alone._replace(x=[5])], names) == [(1, 0)]


def test_nothing_and_a_crowd_are_answered_too() -> None:
    assert ways_beside([Plot([], [], [], [], 0, 300)], Lettering([], 14, (13, 7))) == []
    many = [0.0] * 5_000
    assert ways_beside([Plot(many, many, many, many, 0, 300)], Lettering(many, 14, (13, 7))) == [(0, 1)] * 5_000
