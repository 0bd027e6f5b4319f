"""What having tried many settings is worth, against brute force and over many worlds without any effect."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from sts_core.measure.sweep.chance import aligned, band, best_of, rank_agreement


def test_it_is_what_trying_every_order_gives() -> None:
    random = np.random.default_rng(0)
    settings = [[random.normal(size=5) for _ in range(2)] for _ in range(4)]
    y = random.normal(size=5)

    def means(outcome: np.ndarray) -> list[float]:
        return [float(np.mean([spearmanr(x, outcome).statistic for x in one])) for one in settings]

    found = best_of(settings, y)
    assert found is not None
    own = means(y)
    assert (found.setting, found.settings) == (int(np.argmax(own)), 4)
    assert found.spearman == pytest.approx(max(own))
    shuffled = np.array([means(y[list(order)]) for order in permutations(range(5))])
    assert found.p_alone == pytest.approx(np.mean(shuffled[:, found.setting] >= max(own) - 1e-9))
    assert found.p_best == pytest.approx(np.mean(shuffled.max(axis=1) >= max(own) - 1e-9))


def test_the_best_of_many_is_believed_as_often_as_it_should_be() -> None:
    """Without any effect p of the best is below .05 in about one world of twenty; alone it would be in many more."""
    random = np.random.default_rng(1)
    worlds, alone, best = 200, 0, 0
    for _ in range(worlds):
        found = best_of([[random.normal(size=6)] for _ in range(12)], random.normal(size=6))
        assert found is not None
        alone += found.p_alone <= 0.05
        best += found.p_best <= 0.05
    assert best <= 0.05 * worlds + 3 * (0.05 * 0.95 * worlds) ** 0.5  # three standard errors above
    assert alone > 4 * best
    assert alone > 0.25 * worlds


def test_settings_that_say_the_same_count_as_one() -> None:
    random = np.random.default_rng(2)
    x, y = random.normal(size=7), random.normal(size=7)
    one, many = best_of([[x]], y), best_of([[np.exp(x)] for _ in range(9)], y)
    assert one is not None
    assert many is not None
    assert one.p_best == one.p_alone == many.p_best


def test_the_band_holds_what_chance_gives() -> None:
    random = np.random.default_rng(3)
    x, y = random.normal(size=14), random.normal(size=14)
    found = band(x, y)
    assert found is not None
    # The 5 % critical values of Spearman and Pearson for 14 pairs in any table: 0.538 and 0.532.
    assert found.spearman == pytest.approx(0.538, abs=0.015)
    assert found.r == pytest.approx(0.532, abs=0.03)


def test_what_cannot_be_ranked_is_none() -> None:
    y = np.array([1.0, 2.0, 3.0, 4.0])
    assert best_of([], y) is None
    assert best_of([[np.ones(4)]], y) is None
    assert best_of([[np.array([1.0, np.nan, np.nan, 2.0])]], y) is None
    assert band(np.ones(4), y) is None
    assert band(y[:2], y[:2]) is None
    assert np.isnan(rank_agreement(np.ones(4), y))


def test_a_domain_that_one_setting_lacks_is_left_out_of_all() -> None:
    y, whole = np.array([1.0, 2.0, 3.0, 4.0, 0.0]), np.array([1.0, 2.0, 3.0, 4.0, 9.0])
    found = best_of([[whole], [np.array([4.0, 3.0, 2.0, 1.0, np.nan])]], y)
    assert found is not None
    assert found.setting == 0
    assert found.spearman == pytest.approx(1.0)
    assert aligned({"a": 1.0}, ["b", "a"]).tolist()[1] == 1.0
