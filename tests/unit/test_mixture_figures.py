"""Words and figures of a mixture: counts that add up, marks that are where the numbers say, no name read as markup."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_core.figures.mixture import Panel, allocation_bars, change_panels
from sts_core.figures.mixture_words import (
    effect_headline,
    held_words,
    how_shared,
    mixture_name,
    pairing_words,
    quota_headline,
    steering_words,
)
from sts_core.results.mixture_effect import Effect, Mean, Mixed


def table(**changes: Any) -> pd.DataFrame:
    values = {
        "domain": ["law", "<b>math</b>", "physics"], "quota": [5, 9, 6], "sts": [5.0, 9.0, 6.0],
        "uniform": [7.0, 7.0, 6.0], "inverse": [math.nan] * 3, "available": [50, 9, 30], "score": [1.0, 2.0, 1.5],
        "se": [0.1, math.nan, 0.2],
    }  # fmt: skip
    return pd.DataFrame({**values, **changes})


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_bars_are_the_quotas_and_marks_the_others(mode: Any) -> None:
    figure = allocation_bars(table(), "sts", "How many?", ["a caption"], mode)
    bars, _, evenly = figure.data
    assert list(bars.x) == [9, 6, 5]
    assert list(bars.customdata) == ["<b>math</b>", "physics", "law"]
    assert (evenly.name, list(evenly.x)) == ("evenly", [7.0, 6.0, 7.0])  # what cannot be made has no marks
    assert figure.layout.xaxis.range[0] == 0
    assert figure.layout.xaxis.range[1] > 9
    texts = [note.text for note in figure.layout.annotations]
    assert {"9 of 9", "6 of 30", "5 of 50"} <= set(texts)
    assert any("■ by STS" in text and "| evenly" in text and "inverse" not in text for text in texts)
    assert all("<b>math" not in text for text in (*figure.layout.yaxis.ticktext, *bars.hovertext))


def test_the_reach_holds_every_mark() -> None:
    figure = allocation_bars(table(inverse=[30.0, 1.0, 1.0]), "sts", "How many?")
    assert figure.layout.xaxis.range[1] > 30


def test_panels_share_order_and_span() -> None:
    first = pd.DataFrame({"domain": ["a", "b", "c"], "value": [0.1, 0.5, -0.2], "se": [0.1, math.nan, 0.1], "n": 9})
    second = pd.DataFrame({"domain": ["c", "a", "d"], "value": [0.9, 0.2, math.nan], "se": 0.1, "n": 9})
    figures = change_panels([Panel("one", first, {}), Panel("two", second, {"a": 12})], "harm")
    assert list(figures[0].layout.xaxis.range) == list(figures[1].layout.xaxis.range)
    assert list(figures[0].layout.yaxis.ticktext) == ["b", "a", "c", "d"]
    assert list(figures[1].layout.yaxis.ticktext) == ["b", "a <b>+12</b>", "c", "d"]
    for figure, changes in zip(figures, (first, second), strict=True):
        known = {row.domain: row.value for row in changes.itertuples() if row.value == row.value}
        dots = next(trace for trace in figure.data if trace.name == "change")
        shown = {"bacd"[int(y)]: x for x, y in zip(dots.x, dots.y, strict=True)}
        assert shown == known
        assert {"bacd"[int(shape.y0)]: shape.x1 for shape in figure.layout.shapes} == known


@given(st.dictionaries(st.sampled_from("abcdefghijklmn"), st.integers(0, 70), min_size=1))
def test_the_headline_adds_up(quotas: dict[str, int]) -> None:
    text = quota_headline(quotas)
    total, giving = sum(quotas.values()), [name for name in quotas if quotas[name]]
    if not giving:
        assert text == "No row of another domain: the training set alone."
        return
    numbers = [int(word) for word in text.replace("others.", "").split(": ")[1].replace(",", "").split()
               if word.isdigit()]  # fmt: skip
    others = int(text.split()[-2]) if text.endswith("others.") else 0
    assert text.startswith(f"{total} row")
    assert sum(numbers) - others == total
    assert others in (0, len(giving) - 3)
    assert others != 1


def test_what_steers_is_told_with_what_the_errors_leave() -> None:
    scores = {"a": (1.0, 0.1), "b": (1.1, 0.1), "c": (2.4, 0.1)}
    assert "3 of 3 scores lie more than two standard errors" in steering_words("sts", "sts_act", 100, 1.0, scores)
    level = dict.fromkeys("abc", (1.0, 0.1))
    assert "an even share but for noise" in steering_words("sts", "sts_act", 100, 1.0, level)
    assert "to the power of 2.5" in steering_words("sts", "sts_icl", 100, 2.5, scores)
    assert "inverse of STS act" in steering_words("inverse", "sts_act", 100, 1.0, scores)
    assert "not looked at" in steering_words("uniform", "sts_act", 100, 1.0, scores)
    unknown = {"a": (1.0, None), "b": (2.0, 0.1)}
    assert "standard errors" not in steering_words("sts", "sts_act", 100, 1.0, unknown)


def test_who_is_held_is_told() -> None:
    quotas, available = {"a": 9, "b": 5, "c": 2}, {"a": 9, "b": 50, "c": 50}
    assert held_words(quotas, available, 0, None) == "A gives every row that may train."
    assert held_words(quotas, available, 2, 5) == (
        "A gives every row that may train; b stands at the cap; c stands at the floor."
    )
    assert held_words({"a": 1}, {"a": 9}, 0, None) == ""
    many = dict.fromkeys("abcdef", 3)
    assert held_words(many, many, 0, None) == "A, b, c and 3 more give every row that may train."


def test_a_mixture_has_a_name() -> None:
    manifest = {"spec": {"allocation": "sts"}, "rows": {"target": [1], "law": [1, 2]},
                "sources": {"target": {"data": "sets/math.jsonl"}}}  # fmt: skip
    assert mixture_name(manifest) == "math.jsonl + 2 rows by STS"
    assert mixture_name({**manifest, "counts": {"target": 0, "law": 1}}) == "1 row by STS"
    assert how_shared({"spec": {"allocation": {"law": 2}}}) == "by hand"


def test_the_verdict_is_the_errors() -> None:
    def told(value: float, se: float | None, metric: str = "nll") -> str:
        one = Effect("law", 3, 0.1, 0.1 + value, value, se, 40, True)
        return effect_headline(Mixed("no mixture", "3 rows", [one], None, Mean(value, se, 1), None), metric)

    assert "−0.20 ± 0.05 nats a token on average over the one mixed-in domain, better by more" in told(-0.2, 0.05)
    assert "worse by more than two" in told(0.2, 0.05)
    assert "within two standard errors of no change" in told(0.1, 0.05)
    assert "an error that is not known" in told(0.1, None)
    assert "−20 ± 5 percentage points of accuracy" in told(-0.2, 0.05, "accuracy")
    assert "worse by more" in told(-0.2, 0.05, "accuracy")
    assert "no evaluated domain" in effect_headline(Mixed("a", "b", [], None, None, None), "nll")


def test_how_pairs_came_about_is_told() -> None:
    pair, loose = (Effect("a", 1, 0.0, 0.0, 0.0, 0.1, 9, paired) for paired in (True, False))
    assert "own control" in pairing_words(Mixed("a", "b", [pair], None, None, None))
    assert "1 of 2 sets" in pairing_words(Mixed("a", "b", [pair], loose, None, None))
    assert "two independent runs" in pairing_words(Mixed("a", "b", [loose], None, None, None))
