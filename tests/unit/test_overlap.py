"""Overlap@k, its interval and its exact nulls, each against the same thing computed plainly; and what is refused.

That the nulls stop a false claim and let a true one pass is shown in test_overlap_planted.py.
"""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_core.errors import UserError
from sts_core.stats.overlap import Side, activation_bins, bootstrap, chance_null, matched_null, overlap, shared
from sts_core.stats.ranking import top

GROUPS = 20


def side(sums: np.ndarray, tokens: np.ndarray | None = None) -> Side:
    """A ranking from its group sums, ten tokens a group unless told."""
    tokens = np.full(len(sums), 10.0) if tokens is None else tokens
    return Side(sums.sum(axis=0) / tokens.sum(), sums, tokens)


def plain(first: np.ndarray, second: np.ndarray, k: int) -> int:
    """|topk ∩ topk| of two lists of values, by sorting everything; what did not move is in no top k."""
    tops = []
    for values in (first, second):
        order = sorted((i for i in range(len(values)) if values[i] > 0), key=lambda i: (-values[i], i))
        tops.append(set(order[:k]))
    return len(tops[0] & tops[1])


@given(st.data())
def test_shared_counts_the_intersection_of_every_top_k(data: st.DataObject) -> None:
    """Small whole numbers, so that most values are tied."""
    features = data.draw(st.integers(1, 12))
    values = st.lists(st.integers(1, 4), min_size=features, max_size=features).map(np.array)
    first, second = data.draw(values), data.draw(values)
    ks = list(range(1, features + 1))
    found = shared(top(first, features), top(second, features), ks)
    assert found.tolist() == [plain(first, second, k) for k in ks]


@given(st.data())
def test_overlap_is_the_plain_count_and_symmetric(data: st.DataObject) -> None:
    features = data.draw(st.integers(2, 15))
    values = st.lists(st.integers(0, 4), min_size=features, max_size=features).map(lambda v: np.array(v, float))
    first, second, base = data.draw(values), data.draw(values), data.draw(values)
    ks = list(range(1, features + 1))
    there = overlap(Side(first), Side(second), base, ks=ks)
    back = overlap(Side(second), Side(first), base, ks=ks)
    moved = min(np.sum(first > 0), np.sum(second > 0))
    for row, mirrored in zip(there, back, strict=True):
        assert row.shared == mirrored.shared == plain(first, second, row.k)
        assert np.isnan(row.value) == (row.k > moved)
        assert row.interval is None
        assert not row.claimed
        assert row.activation.mean * row.k == pytest.approx(plain(second, base, row.k))
        if row.k <= moved:
            assert row.value == row.shared / row.k


def test_equal_values_rank_the_lower_feature_first() -> None:
    first, second = np.array([1.0, 2.0, 2.0, 2.0]), np.array([1.0, 1.0, 5.0, 4.0])
    rows = overlap(Side(first), Side(second), np.ones(4), ks=[1, 2, 3])
    assert [row.shared for row in rows] == [0, 1, 2]  # {1}{2}, {1,2}{2,3}, {1,2,3}{2,3,0}


def test_features_that_did_not_move_do_not_fill_a_top_k() -> None:
    """Two rankings with three moved features each and none in common; the ties at 0 would give 7 of 10 for nothing."""
    first, second = np.zeros(50), np.zeros(50)
    first[[40, 41, 42]] = second[[45, 46, 47]] = 1.0
    three, ten = overlap(Side(first), Side(second), np.ones(50), ks=[3, 10])
    assert three.value == 0
    assert np.isnan(ten.value)
    assert ten.shared == 0
    assert not ten.claimed


@pytest.mark.parametrize("same_groups", [True, False])
def test_the_resampled_overlaps_are_those_of_plainly_weighted_sums(same_groups: bool) -> None:
    """Whole numbers, so that float32 is exact; the weights are drawn again here with the same seed."""
    random = np.random.default_rng(3)
    first, second = (random.integers(0, 40, size=(GROUPS, 300)) * (random.random(300) < 0.7) for _ in range(2))
    tokens = np.full(GROUPS, 5.0)
    tokens[[4, 17]] = 0
    first[[4, 17]] = second[[4, 17]] = 0
    ks, draws = [1, 10, 60], 40
    found = bootstrap(side(first, tokens), side(second, tokens), ks, same_groups=same_groups, draws=draws, seed=11)
    weights = np.random.default_rng(11)
    chance = (tokens > 0) / 18
    one = weights.multinomial(18, chance, size=draws)
    two = one if same_groups else weights.multinomial(18, chance, size=draws)
    expected = [[plain(a @ first, b @ second, k) for k in ks] for a, b in zip(one, two, strict=True)]
    assert found is not None
    assert found.tolist() == expected


def test_a_side_without_groups_keeps_its_ranking() -> None:
    random = np.random.default_rng(4)
    sums, fixed = random.integers(1, 50, size=(GROUPS, 200)), random.random(200)
    found = bootstrap(side(sums), Side(fixed), [20], same_groups=False, draws=30, seed=0)
    weights = np.random.default_rng(0).multinomial(GROUPS, np.full(GROUPS, 1 / GROUPS), size=30)
    assert found is not None
    assert found[:, 0].tolist() == [plain(w @ sums, fixed, 20) for w in weights]


def test_the_same_seed_gives_the_same_interval_and_another_one_its_own() -> None:
    random = np.random.default_rng(5)
    one, two = (side(random.gamma(1.0, 1.0, size=(GROUPS, 500))) for _ in range(2))
    runs = [bootstrap(one, two, [50], same_groups=False, draws=200, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_the_interval_holds_the_value_also_when_every_draw_shares_less() -> None:
    """Equal sides resampled apart: the value is 1, and no draw comes near it."""
    one = side(np.random.default_rng(8).gamma(1.0, 1.0, size=(GROUPS, 500)))
    resampled = bootstrap(one, one, [50], same_groups=False, draws=200, seed=0)
    (row,) = overlap(one, one, one.shift, ks=[50], draws=200)
    assert resampled is not None
    assert resampled.max() < 45
    assert row.interval == (pytest.approx(np.quantile(resampled, 0.025) / 50), 1)


def test_below_five_groups_there_is_no_interval_and_no_claim() -> None:
    sums = np.tile(np.arange(1.0, 101.0), (GROUPS, 1))
    tokens = np.zeros(GROUPS)
    tokens[:4] = 10
    sums[4:] = 0
    (row,) = overlap(side(sums, tokens), side(sums, tokens), np.ones(100), ks=[10], same_groups=True)
    assert row.value == 1
    assert row.interval is None
    assert not row.claimed


def test_chance_is_what_all_pairs_of_sets_share() -> None:
    """Ten firing features, every set of three against one: 120 sets, counted."""
    counts = [len({0, 1, 2} & set(other)) / 3 for other in combinations(range(10), 3)]
    null = chance_null(3, 10)
    assert null.mean == pytest.approx(np.mean(counts), abs=1e-12)
    assert null.high == pytest.approx(np.quantile(counts, 0.975, method="inverted_cdf"), abs=1e-12)
    assert null.low == pytest.approx(np.quantile(counts, 0.025, method="inverted_cdf"), abs=1e-12)


def test_the_matched_null_is_what_permuting_ranks_within_bins_gives() -> None:
    """1,000 literal permutations; their mean is off by more than 4 of its own errors once in 16,000 times."""
    random = np.random.default_rng(6)
    features, k = 2000, 100
    base = random.lognormal(0, 1.5, features) * (random.random(features) < 0.8)
    icl, other = base * random.lognormal(0, 0.7, features) + 1e-6, base * random.lognormal(0, 0.7, features) + 1e-6
    bins = activation_bins(base, np.ones(features, dtype=bool))
    null = matched_null(top(icl, k), top(other, k), bins, k)
    found = []
    for _ in range(1000):
        permuted = icl.copy()
        for one in np.unique(bins):
            members = np.flatnonzero(bins == one)
            permuted[members] = icl[random.permutation(members)]
        found.append(plain(permuted, other, k) / k)
    assert null.mean == pytest.approx(np.mean(found), abs=4 * np.std(found) / np.sqrt(1000))
    assert null.low == pytest.approx(np.quantile(found, 0.025), abs=0.0101)
    assert null.high == pytest.approx(np.quantile(found, 0.975), abs=0.0101)
    assert null.mean > 4 * k / features  # and chance would be far from it


def test_bins_are_equal_steps_of_log_activation() -> None:
    base = np.array([0.0, 0.0, 1e-5, 1.05e-5, 1.0, 0.99])
    bins = activation_bins(base, np.array([False, True, True, True, True, True]))
    assert bins.tolist() == [-1, 0, 1, 1, 50, 50]
    assert activation_bins(np.ones(3), np.ones(3, dtype=bool)).max() <= 50
    assert activation_bins(np.zeros(3), np.zeros(3, dtype=bool)).tolist() == [-1, -1, -1]


def test_without_ks_the_standard_ones_that_fit_are_taken() -> None:
    values = np.arange(1.0, 121.0)
    assert [row.k for row in overlap(Side(values), Side(values), values)] == [10, 50, 100]
    assert [row.k for row in overlap(Side(values[:7]), Side(values[:7]), values[:7])] == [7]


def test_nothing_moved_is_reported_and_not_a_crash() -> None:
    for row in overlap(Side(np.zeros(600)), side(np.zeros((GROUPS, 600))), np.zeros(600)):
        assert np.isnan(row.value)
        assert row.interval is None
        assert not row.claimed


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ks": [4, 11]}, "there are 10 features"),
        ({"ks": [0]}, "there are 10 features"),
        ({"ks": []}, "missing"),
        ({"icl": Side(np.array([np.nan, *range(9)]))}, "ICL ranking has 1 values that are no number"),
        ({"other": Side(np.array([np.inf, *range(9)]))}, "other ranking has 1 values that are no number"),
        ({"other": Side(np.arange(-1.0, 9.0))}, "below zero"),
        ({"other": Side(np.ones(9))}, "not over the same features"),
        ({"other": Side(np.ones((2, 5)))}, "not over the same features"),
        ({"noise": np.ones(11)}, "not over the same features"),
        ({"noise": np.full(10, np.nan)}, "noise ranking"),
        ({"icl": Side(np.ones(10), np.ones((5, 9)), np.ones(5))}, "do not fit"),
        ({"icl": Side(np.ones(10), np.ones((5, 10)), np.ones(4))}, "do not fit"),
        ({"icl": Side(np.ones(10), np.full((5, 10), np.nan), np.ones(5))}, "hold what is no shift"),
        ({"draws": 0}, "0 draws"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_what_is_no_ranking_is_refused_with_a_hint(changes: dict, told: str) -> None:
    values = {"icl": Side(np.ones(10)), "other": Side(np.ones(10)), "mean_base": np.ones(10), "ks": [5], **changes}
    with pytest.raises(UserError, match=told) as refused:
        overlap(values.pop("icl"), values.pop("other"), values.pop("mean_base"), **values)
    assert refused.value.hint


@pytest.mark.parametrize("kind", ["all move alike", "few move"])
def test_a_wide_dictionary_takes_three_seconds(kind: str) -> None:
    """20 groups × 131,072 features × 5 k, 1,000 draws; measured 0.3 to 0.8 s of processor time, so 3 s is slack."""
    random = np.random.default_rng(7)
    shape = (GROUPS, 131_072)
    sides = []
    for _ in range(2):
        sums = random.random(shape, dtype=np.float32)
        if kind == "few move":
            sums *= random.random(shape, dtype=np.float32) < 0.1
        sides.append(side(sums))
    began = time.process_time()
    rows = overlap(sides[0], sides[1], sides[0].shift, noise=sides[1].shift)
    assert time.process_time() - began < 3
    assert [row.k for row in rows] == [10, 50, 100, 200, 500]
