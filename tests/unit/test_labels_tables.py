"""The two tables about labels against counting by hand, drawing at random and every case enumerated."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from sts_core.errors import UserError
from sts_core.results.label_tables import label_tables
from sts_core.stats.overlap import activation_bins
from sts_core.stats.ranking import top


def made(features: int = 400, seed: int = 0) -> tuple[pd.DataFrame, dict[int, str | None]]:
    draw = np.random.default_rng(seed)
    mean = np.exp(draw.normal(-4, 2, features)) * (draw.random(features) > 0.2)
    shift = np.where(mean > 0, mean * np.exp(draw.normal(0, 1, features)), 0)
    names = np.array(["math", "code", None], dtype=object)[draw.integers(0, 3, features)]
    frame = pd.DataFrame({"feature": np.arange(features), "shift_icl": shift, "mean_base": mean})
    return frame.sample(frac=1, random_state=1), dict(enumerate(names))


def test_both_tables_equal_counting_one_by_one() -> None:
    shift, labels = made()
    by_feature = shift.set_index("feature")
    firing = [f for f in by_feature.index if by_feature.mean_base[f] > 0 or by_feature.shift_icl[f] > 0]
    ranked = sorted(firing, key=lambda f: (-by_feature.shift_icl[f], f))
    found = label_tables(shift, labels, ["math", "code"], tops=(10, 50), recall_top=100)
    assert (found.firing, found.asked) == (len(firing), len(firing))
    assert found.unlabelled == sum(labels[f] is None for f in firing)
    assert [(line.label, line.top) for line in found.share] == [("math", 10), ("math", 50), ("code", 10), ("code", 50)]
    for line in found.share:
        share = sum(labels[f] == line.label for f in ranked[: line.top]) / line.top
        assert line.value.value == pytest.approx(share, abs=1e-12)
        assert line.value.se == pytest.approx(math.sqrt(share * (1 - share) / line.top), abs=1e-12)
        assert line.firing.value == pytest.approx(sum(labels[f] == line.label for f in firing) / len(firing))
    for line in found.recall:
        own = [f for f in firing if labels[f] == line.label]
        assert line.features == len(own)
        assert line.value.value == pytest.approx(len(set(own) & set(ranked[:100])) / len(own), abs=1e-12)
        assert line.firing.value == pytest.approx(100 / len(firing))


def test_the_base_rates_are_those_of_drawing_the_leading_features_anew() -> None:
    shift, labels = made(seed=3)
    found = label_tables(shift, labels, ["math"], tops=(60,), recall_top=60)
    shift = shift.sort_values("feature")
    mean, moved = shift["mean_base"].to_numpy(), shift["shift_icl"].to_numpy()
    fires = (mean > 0) | (moved > 0)
    firing = np.flatnonzero(fires)
    chosen = np.isin(np.arange(len(mean)), firing[top(moved[firing], 60)])
    bins = activation_bins(mean, fires)
    carries = np.array([labels[f] == "math" for f in range(len(mean))])
    draw = np.random.default_rng(0)
    anywhere, matched = [], []
    for _ in range(4_000):
        anywhere.append(carries[draw.choice(firing, 60, replace=False)].sum())
        count = 0
        for number in np.unique(bins[chosen]):
            inside = np.flatnonzero(bins == number)
            count += carries[draw.choice(inside, int(chosen[inside].sum()), replace=False)].sum()
        matched.append(count)
    share, recall = found.share[0], found.recall[0]
    for rate, drawn in ((share.firing, anywhere), (share.matched, matched)):
        assert rate.value == pytest.approx(np.mean(drawn) / 60, abs=4 * float(np.std(drawn)) / 60 / math.sqrt(4_000))
        assert rate.se == pytest.approx(np.std(drawn) / 60, rel=0.06)
    own = recall.features
    assert recall.matched.value * own == pytest.approx(share.matched.value * 60)
    assert recall.matched.se * own == pytest.approx(share.matched.se * 60)  # type: ignore[operator]


def test_a_small_case_equals_every_draw_there_is() -> None:
    shift = pd.DataFrame({"feature": range(5), "shift_icl": [5.0, 4, 3, 2, 1], "mean_base": [1.0] * 5})
    labels: dict[int, str | None] = {0: "a", 1: "b", 2: "a", 3: "a", 4: None}
    found = label_tables(shift, labels, ["a"], tops=(2,), recall_top=2).share[0]
    every = [sum(labels[f] == "a" for f in pair) / 2 for pair in itertools.combinations(range(5), 2)]
    assert found.value.value == 0.5
    for rate in (found.firing, found.matched):  # all are equally active: one bin
        assert rate.value == pytest.approx(np.mean(every))
        assert rate.se == pytest.approx(np.std(every))


def test_what_was_not_asked_is_not_known() -> None:
    shift, labels = made()
    ranked = label_order(shift)
    some = {feature: labels[feature] for feature in ranked[:50]}
    found = label_tables(shift, some, ["math"], tops=(50, 60), recall_top=100)
    first, second = found.share
    assert first.value.value == pytest.approx(sum(labels[f] == "math" for f in ranked[:50]) / 50)
    assert math.isnan(first.firing.value)
    assert first.firing.se is None
    assert math.isnan(first.matched.value)
    assert math.isnan(second.value.value)
    assert math.isnan(found.recall[0].value.value)
    assert (found.asked, found.firing) == (50, len(ranked))


def test_a_label_nobody_carries_and_too_few_features() -> None:
    shift, labels = made()
    found = label_tables(shift, labels, ["law"], tops=(50, 5_000), recall_top=100)
    assert [(line.top, line.value.value) for line in found.share] == [(50, 0.0)]
    assert math.isnan(found.recall[0].value.value)
    assert label_tables(shift, labels).share[0].label in ("math", "code")
    dead = shift.assign(mean_base=0.0, shift_icl=0.0)
    with pytest.raises(UserError, match="No feature fires"):
        label_tables(dead, labels)
    public = found.public()
    assert public["share"][0]["value"] == {"value": 0.0, "se": 0.0}


def label_order(shift: pd.DataFrame) -> list[int]:
    firing = shift[(shift["mean_base"] > 0) | (shift["shift_icl"] > 0)]
    return [int(f) for f in firing.sort_values(["shift_icl", "feature"], ascending=[False, True])["feature"]]
