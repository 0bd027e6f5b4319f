"""Lines over steps and signed changes: what is drawn is what was measured, and names never lie on each other."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_core.figures.changes import domain_changes
from sts_core.figures.lines import GAP, HEIGHT, LONGEST_NAME, Series, places, step_lines, told_apart
from sts_core.figures.theme import TOKENS

INK = TOKENS["light"].accent


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_names_stand_apart_and_in_order(values: list[float]) -> None:
    found = places(values, (0.0, 1.0), HEIGHT, GAP)
    order = sorted(range(len(values)), key=lambda i: values[i])
    stands = [found[i] for i in order]
    assert all(b - a >= 0.8 * GAP / HEIGHT for a, b in pairwise(stands))
    assert len(found) == len(values)


def test_names_far_from_each_other_stand_at_their_lines() -> None:
    assert places([0.9, 0.1], (0.0, 1.0), 200, 15) == [0.9, 0.1]


def test_a_line_holds_its_values_and_says_them_exactly() -> None:
    figure = step_lines([Series("loss", [1, 2, 3], [2.0, 1.5, 1.25], INK)], "Does it learn?", "nats", steps=60)
    line = figure.data[-1]
    assert (list(line.x), list(line.y)) == ([1, 2, 3], [2.0, 1.5, 1.25])
    assert "step 3: 1.25" in line.hovertext[-1]
    assert figure.layout.xaxis.range[1] == pytest.approx(61.2)
    assert figure.layout.yaxis.range[1] > 2.0


def test_single_measurements_have_whiskers_and_long_ones_a_band() -> None:
    point = Series("overlap", [20, 40], [0.5, 0.6], INK, [0.4, 0.5], [0.55, 0.7], points=True)
    band = Series("loss", [1, 2], [1.0, 0.5], INK, [0.8, 0.4], [1.2, 0.6])
    whiskers = step_lines([point], "t", "a", percent=True).data[0]
    assert list(whiskers.error_y.array) == pytest.approx([0.05, 0.1])
    assert list(whiskers.error_y.arrayminus) == pytest.approx([0.1, 0.1])
    assert step_lines([band], "t", "a").data[0].fill == "toself"


def test_what_is_not_a_number_leaves_the_axis_alone() -> None:
    figure = step_lines([Series("loss", [1, 2], [1.0, math.nan], INK)], "t", "a")
    assert all(math.isfinite(end) for end in figure.layout.yaxis.range)
    assert step_lines([], "t", "a").layout.yaxis.range == (0.0, 1.0)


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "a <b>bold</b> run"])
def test_names_are_text(hostile: str) -> None:
    figure = step_lines([Series(hostile, [1], [1.0], INK), Series("b", [1], [2.0], INK)], hostile, "a", [hostile])
    told = [a.text for a in figure.layout.annotations] + [d.name for d in figure.data] + list(figure.data[0].hovertext)
    assert not any("<script" in text or "<b>bold" in text for text in told)


def test_changes_are_drawn_largest_first_with_their_errors_and_signs() -> None:
    table = pd.DataFrame(
        {"domain": ["law", "math", "physics"], "value": [-0.1, 0.3, math.nan], "se": [0.02, 0.05, math.nan],
         "n": [40, 120, 0]}
    )  # fmt: skip
    figure = domain_changes(table, "What changed?", "rise of the loss")
    dots = figure.data[0]
    assert list(dots.x) == [0.3, -0.1]
    assert list(dots.error_x.array) == [0.05, 0.02]
    assert list(figure.layout.yaxis.ticktext) == ["math", "law", "physics"]
    texts = [a.text for a in figure.layout.annotations]
    assert any(text.startswith("+0.30") for text in texts)
    assert any("−0.10" in text for text in texts)
    assert any("not measured" in text for text in texts)
    assert figure.layout.xaxis.range[0] < -0.12 < 0.35 < figure.layout.xaxis.range[1]
    stems = figure.layout.shapes
    assert [stem.line.color for stem in stems] == [TOKENS["light"].rise, TOKENS["light"].fall]


def test_names_that_begin_alike_are_told_apart_by_their_ends() -> None:
    tail = ", LoRA, 60 steps"
    named = [f"gsm-symbolic{tail}", f"gsm-symbolic + 220 rows by STS{tail}", f"gsm-symbolic + 220 rows evenly{tail}"]
    shown = told_apart([Series(name, [1], [1.0], "#000") for name in named])
    assert shown[0] == "gsm-symbolic"
    assert [name[-6:] for name in shown[1:]] == ["by STS", "evenly"]
    assert all(len(name) <= LONGEST_NAME for name in shown)
    assert told_apart([Series("a, b", [1], [1.0], "#000"), Series("c, b", [1], [1.0], "#000")]) == ["a", "c"]
    assert told_apart([Series("same", [1], [1.0], "#000")] * 2) == ["same", "same"]
