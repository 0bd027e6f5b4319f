"""The concentration curve says what its arrays say, from few points; the small bars point the right way."""

from __future__ import annotations

import math
from urllib.parse import unquote

import numpy as np
import pytest

from sts_core.figures.bars import signed_bars
from sts_core.figures.concentration import Curve, concentration_curves, points
from sts_core.figures.theme import TOKENS


def shares(total: int, steep: float = 1.0) -> np.ndarray:
    values = 1 / np.arange(1, total + 1) ** steep
    return np.cumsum(values) / values.sum()


@pytest.mark.parametrize("total", [1, 2, 239, 241, 131_072])
def test_points_are_few_and_hold_the_ends_and_the_mark(total: int) -> None:
    marked = min(100, total)
    at = points(shares(total), marked)
    assert len(at) <= 250
    assert {1, marked, total} <= set(at.tolist())
    assert (np.diff(at) > 0).all()


def test_both_curves_are_drawn_over_their_own_dimensions() -> None:
    sae, raw = Curve("SAE features", shares(4096), 100), Curve("raw dimensions", shares(576, 0.2), 41)
    figure = concentration_curves(sae, raw, "How much?", ["± this", "from there"])
    assert sum(len(trace.x) for trace in figure.data) <= 500
    assert figure.data[0].x[-1] == figure.data[1].x[-1] == 100
    assert figure.data[0].y[-1] == pytest.approx(100)
    marks = {trace.name: (trace.x[0], trace.y[0]) for trace in figure.data if trace.mode == "markers"}
    assert marks["SAE features, chosen"] == pytest.approx((100 * 100 / 4096, 100 * sae.shares[99]))
    assert marks["raw dimensions, chosen"] == pytest.approx((100 * 41 / 576, 100 * raw.shares[40]))
    said = [a.text for a in figure.layout.annotations]
    assert {"<b>100</b>", "<b>41</b>", "SAE<br>features", "raw<br>dimensions", "± this<br>from there"} <= set(said)
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.yaxis.range[0] == 0


def test_the_hover_tells_the_exact_number() -> None:
    figure = concentration_curves(Curve("SAE features", shares(4096), 100), None, "How much?")
    at = list(points(shares(4096), 100)).index(100)
    assert figure.data[0].hovertext[at].startswith("<b>100 of 4\u202f096 SAE features</b>")
    assert f"{100 * shares(4096)[99]:.4g} %" in figure.data[0].hovertext[at]


def test_without_raw_dimensions_the_first_stands_alone() -> None:
    figure = concentration_curves(Curve("SAE features", shares(50), None), Curve("raw", np.zeros(0), None), "How much?")
    assert len(figure.data) == 1


@pytest.mark.parametrize(("n", "steep"), [(1, 3.0), (10, 0.1), (50, 1.0)])
def test_names_and_numbers_do_not_stand_in_one_place(n: int, steep: float) -> None:
    figure = concentration_curves(
        Curve("SAE features", shares(50, steep), n), Curve("raw dimensions", shares(16), 3), "How much?", mode="dark"
    )
    places = [a.y for a in figure.layout.annotations if a.yref != "paper"]
    assert len(places) == 4
    assert all(0 < y <= 100 + 1e-9 for y in places)


def test_bars_point_the_way_of_their_sign_on_one_scale() -> None:
    up, down, small, nothing, unknown = (unquote(b) if b else b for b in signed_bars([4.0, -4.0, 0.001, 0.0, math.nan]))
    assert up is not None
    assert down is not None
    assert f'fill="{TOKENS["light"].rise}" d="M50 5h48' in up
    assert f'fill="{TOKENS["light"].fall}" d="M2 5h48' in down
    assert "M50 5h1v" in str(small)
    assert "5h0v" in str(nothing)
    assert unknown is None
    assert up.startswith("data:image/svg+xml,<svg")


def test_bars_take_the_colours_of_the_appearance() -> None:
    assert TOKENS["dark"].rise in unquote(str(signed_bars([1.0], "dark")[0]))
    assert signed_bars([]) == []
