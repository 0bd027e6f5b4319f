"""Figures and words of features: shares over all tokens, clouds in the right place, text that stays text."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sts_core.figures import feature_words as words
from sts_core.figures.histograms import Arm, activation_histogram
from sts_core.figures.scatter import shift_scatter

EDGES = [0.25, 0.5, 1.0, 2.0, 4.0]


def test_a_histogram_shows_shares_of_all_tokens_looked_at() -> None:
    arms = [Arm("base", [0, 5, 10, 0, 0], 1_000), Arm("ICL", [0, 0, 0, 40, 0], 2_000)]
    figure = activation_histogram(EDGES, arms, "<b>Why</b>?", ["caption"])
    base, icl = figure.data
    assert list(base.x) == [0.5, 0.5, 1.0, 2.0, 4.0]  # empty bins at both ends are left out
    assert list(base.y) == pytest.approx([0, 0.005, 0.01, 0, 0])
    assert list(icl.y) == pytest.approx([0, 0, 0, 0.02, 0])
    assert base.fill == "tozeroy"
    assert icl.fill is None
    assert base.line.dash != icl.line.dash  # told apart by more than colour
    assert "10 of 1\u202f000 tokens" in base.hovertext[2]
    assert figure.layout.annotations[0].text == "&lt;b&gt;Why&lt;/b&gt;?"


@pytest.mark.parametrize("counts", [[0, 5, 10, 0, 0], [1, 0, 0, 0, 1], [0, 0, 3, 0, 0]])
def test_the_axes_tell_their_values_apart(counts: list[int]) -> None:
    figure = activation_histogram(EDGES, [Arm("base", counts, 1_000_000)], "t")
    ticks = figure.layout.xaxis.ticktext
    assert len(set(ticks)) == len(ticks) >= 1
    assert [float(text) for text in ticks] == pytest.approx(list(figure.layout.xaxis.tickvals))
    decimals = int(figure.layout.yaxis.tickformat[1])
    quarter = max(counts) / 1_000_000 / 4
    assert f"{100 * quarter:.{decimals}f}" != f"{100 * 2 * quarter:.{decimals}f}"


def test_the_density_has_its_denominator() -> None:
    assert Arm("base", [1, 2, 5], 400).density == 0.02
    assert math.isnan(Arm("base", [], 0).density)


def test_an_arm_without_tokens_is_drawn_empty() -> None:
    figure = activation_histogram(EDGES, [Arm("base", [0] * 5, 0)], "t")
    assert set(figure.data[0].y) == {0}


def test_a_cloud_and_its_rows_lie_where_their_numbers_say() -> None:
    cells = pd.DataFrame({"x": [-2.0, -1.0], "y": [-3.0, 0.0], "many": [1, 500]})
    rows = pd.DataFrame(
        {
            "feature": [7, 8, 9],
            "density": [0.01, 0.1, 0.0],
            "shift_icl": [0.001, 1.0, 1.0],
            "signed_icl": [0.001, -1.0, 1.0],
            "strongest": ["law", "</b>x", "law"],
            "label": ["<i>a</i>", None, "b"],
        }
    )
    figure = shift_scatter(cells, rows, "t", (), drawn=((-2, -3), (-1, -3), (-1, 0)))
    cloud, up, down, line = figure.data
    assert list(cloud.x) == pytest.approx([0.01, 0.1])
    assert "1 feature about here" in cloud.hovertext[0]
    assert (list(up.customdata), list(down.customdata)) == ([7], [8])  # what has no logarithm is not drawn
    assert (up.marker.symbol, down.marker.symbol) == ("triangle-up", "triangle-down")
    assert "“&lt;i&gt;a&lt;/i&gt;”" in up.hovertext[0]
    assert "strongest in &lt;/b&gt;x" in down.hovertext[0]
    assert list(line.x) == pytest.approx([0.01, 0.1, 0.1, 0.01])


def test_nothing_to_draw_is_an_empty_figure() -> None:
    empty = pd.DataFrame({name: [] for name in ("feature", "density", "shift_icl", "signed_icl", "strongest", "label")})
    figure = shift_scatter(pd.DataFrame({"x": [], "y": [], "many": []}), empty, "t")
    assert all(len(trace.x) == 0 for trace in figure.data)


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ({}, "It has no label yet."),
        ({"label": None, "judge": "provenance"}, "It has no label yet."),
        ({"label": "a", "human": True, "judge": "person"}, "Labelled by a person."),
        (
            {"label": "a", "judge": "provenance", "detection": 0.914},
            "Labelled by the source of its strongest examples; detection 0.91.",
        ),
        ({"label": "a", "judge": "imported from a.csv"}, "Label imported from a.csv."),
        ({"label": "a", "judge": "http://x", "detection": math.nan}, "Labelled by http://x; not yet tested."),
    ],
)
def test_a_label_says_whose_it_is_and_how_it_held(label: dict[str, object], told: str) -> None:
    assert words.label_words(label) == told


def test_a_headline_stands_beside_its_base_rate() -> None:
    told = words.list_headline("shift", 100, [("math", 17), ("law", 14)], 0.11)
    assert told == (
        "Of the 100 most shifted features 17 are most active in math (11\u202f% of all that fire are) and 14 in law."
    )
    assert words.list_headline("gain", 3, [("law", 1)], None) == (
        "Of the 3 features that gain most in firing 1 are most active in law."
    )
    assert words.list_headline("shift", 0, [], None) == "No feature fires in these sets."


def test_density_words() -> None:
    assert words.density_words("icl", 0, 20, "x") == "ICL: fires on none of 20 tokens of x"
    assert words.density_words("run 3", 1, 200, "15 sets") == "run 3: fires on 0.50\u202f% of 200 tokens of 15 sets"
    assert words.density_words("base", 0, 0, "x") == "base: no token was looked at"


def test_markdown_holds_hostile_text_in_its_fences() -> None:
    text = words.as_markdown(
        "Feature 7: “[x](javascript:1) <script>”",
        {"Note": "two\nlines | `tick`"},
        ["a ```` b ⟪c⟫", "# heading"],
        {"Promotes": ["`", " sum"], "Suppresses": []},
        "model_x, *sae*",
    )
    lines = text.splitlines()
    assert lines[0] == r"## Feature 7: “\[x\](javascript:1) \<script\>”"
    assert lines[2] == r"- Note: two lines \| \`tick\`"
    assert lines[3] == "- Promotes: `` ` ``, ` sum`"
    fence = "`" * 5
    assert text.count(fence) == 2
    inside = text.split(fence)[1]
    assert inside == "text\na ```` b ⟪c⟫\n# heading\n"
    assert lines[-1] == r"_model\_x, \*sae\*_"
