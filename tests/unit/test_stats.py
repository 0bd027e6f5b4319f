"""The pure numbers, against simulation and plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from sts_core.stats.jackknife import MOST_GROUPS, delete_one_group, group_of, mean_per_token
from sts_core.stats.ranking import concentration, top


def grouped(values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sums and token counts of 20 groups, item i in group i mod min(20, items)."""
    sums, counts = np.zeros(20), np.zeros(20)
    for i, tokens in enumerate(values):
        group = i % min(20, len(values))
        sums[group] += tokens.sum()
        counts[group] += len(tokens)
    return sums, counts


def test_the_jackknife_error_is_the_spread_over_fresh_data_sets() -> None:
    """Ratio means over questions of unequal length whose tokens hang together.

    Over 2,000 data sets the mean of se² and the true variance each scatter by about 3 %, so 10 % is not met by chance.
    """
    draw = np.random.default_rng(11)
    means, variances = [], []
    for _ in range(2000):
        lengths = draw.integers(3, 60, size=100)
        values = [draw.normal(1 + draw.normal(0, 0.7), 1.0, size=n) for n in lengths]
        value, se = mean_per_token(*grouped(values), items=100)
        means.append(value)
        assert se is not None
        variances.append(se**2)
    assert np.mean(variances) == pytest.approx(np.var(means, ddof=1), rel=0.10)


def test_tokens_taken_for_independent_would_understate_it() -> None:
    """The same data: without groups the error is less than half, so the test above can fail."""
    draw = np.random.default_rng(12)
    lengths = draw.integers(3, 60, size=100)
    values = [draw.normal(1 + draw.normal(0, 0.7), 1.0, size=n) for n in lengths]
    tokens = np.concatenate(values)
    _, se = mean_per_token(*grouped(values), items=100)
    assert se is not None
    assert tokens.std() / np.sqrt(len(tokens)) < se / 2


@pytest.mark.parametrize("items", [5, 7, 20, 21, 137])
def test_value_and_error_follow_the_formula(items: int) -> None:
    draw = np.random.default_rng(items)
    values = [draw.exponential(size=draw.integers(1, 9)) for _ in range(items)]
    sums, counts = grouped(values)
    got = mean_per_token(sums, counts, items)
    groups = [np.concatenate(values[g :: min(20, items)]) for g in range(min(20, items))]
    without = np.array([np.concatenate(groups[:g] + groups[g + 1 :]).mean() for g in range(len(groups))])
    assert got.value == pytest.approx(np.concatenate(values).mean(), rel=1e-12)
    expected = np.sqrt((len(groups) - 1) / len(groups) * ((without - without.mean()) ** 2).sum())
    assert got.se == pytest.approx(expected, rel=1e-9)


def test_below_five_items_no_error_is_stated() -> None:
    sums, counts = grouped([np.ones(3), np.zeros(3), np.ones(2), np.ones(4)])
    assert mean_per_token(sums, counts, 4) == (pytest.approx(9 / 12), None)


def test_groups_that_lost_all_their_tokens_do_not_count() -> None:
    """Six questions, one of them with no token left: the error is that of the five."""
    six = mean_per_token(np.array([1.0, 2, 3, 0, 4, 6]), np.array([2.0, 2, 3, 0, 3, 4]), 6)
    five = mean_per_token(np.array([1.0, 2, 3, 4, 6]), np.array([2.0, 2, 3, 3, 4]), 6)
    assert six == five


def test_without_any_token_there_is_no_value() -> None:
    value, se = mean_per_token(np.zeros(20), np.zeros(20), 6)
    assert np.isnan(value)
    assert se is None


def test_a_statistic_of_several_sums_gets_them_together() -> None:
    """The difference of two means over the same questions: the jackknife sees that they move together."""
    draw = np.random.default_rng(5)
    sums, counts = draw.normal(size=(20, 2)).cumsum(axis=1), draw.integers(2, 9, 20).astype(float)
    got = delete_one_group(lambda s, n: float((s[1] - s[0]) / n), sums, counts, 40)
    assert got == pytest.approx(mean_per_token(sums[:, 1] - sums[:, 0], counts, 40), rel=1e-9)


def test_items_are_dealt_round() -> None:
    assert MOST_GROUPS == 20
    assert [group_of(i, 3) for i in range(3)] == [0, 1, 2]
    assert [group_of(i, 45) for i in (0, 19, 20, 44)] == [0, 19, 0, 4]


def test_equal_values_give_the_lower_index_first() -> None:
    assert top(np.array([1.0, 3.0, 2.0, 3.0, 0.0, 3.0]), 4).tolist() == [1, 3, 5, 2]
    assert top(np.zeros(5000, dtype=np.float32), 300).tolist() == list(range(300))


def test_top_is_what_sorting_pairs_gives() -> None:
    values = np.random.default_rng(0).integers(0, 40, size=500).astype(np.float32)
    assert top(values, 123).tolist() == sorted(range(500), key=lambda i: (-values[i], i))[:123]


def test_concentration_is_the_share_of_the_largest() -> None:
    values = np.random.default_rng(1).exponential(size=200).astype(np.float32)
    shares = concentration(values)
    for n in (1, 10, 150):
        assert shares[n - 1] == pytest.approx(sum(sorted(values.tolist())[-n:]) / sum(values.tolist()), rel=1e-12)
    assert shares[-1] == pytest.approx(1)
    assert concentration(np.zeros(4)).tolist() == [0, 0, 0, 0]
