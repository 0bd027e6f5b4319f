"""The four nulls on planted cases: a claim passes where it is true, and each null stops the case it is there for.

Every test states how far the figures are from the line, so that a null that stopped working would be seen.
"""

from __future__ import annotations

import numpy as np

from sts_core.stats.overlap import Overlap, Side, overlap

GROUPS, FEATURES, K = 20, 2000, 100
TOKENS = np.full(GROUPS, 50.0)


def measured(shift: np.ndarray, random: np.random.Generator, spread: float = 0.3) -> Side:
    """A true shift [features] as twenty groups of questions would measure it, each off by its own factor."""
    sums = shift * TOKENS[:, None] * random.lognormal(0, spread, (GROUPS, len(shift)))
    return Side(sums.sum(axis=0) / TOKENS.sum(), sums, TOKENS)


def upper(row: Overlap) -> dict[str, float]:
    return {name: null.upper for name, null in row.nulls.items()}


def test_identical_rankings_are_claimed() -> None:
    random = np.random.default_rng(0)
    shift, base = random.lognormal(0, 1, FEATURES), random.lognormal(0, 1, FEATURES)
    one = measured(shift, random)
    noise = random.lognormal(0, 1, FEATURES)
    for row in overlap(one, one, base, same_groups=True, noise=noise):
        assert row.value == 1
        assert row.interval == (1, 1)
        assert row.claimed
        assert max(upper(row).values()) <= 0.5  # half the scale below the interval


def test_one_truth_measured_on_different_questions_is_claimed() -> None:
    random = np.random.default_rng(1)
    shift, base = random.lognormal(0, 1, FEATURES), random.lognormal(0, 1, FEATURES)
    (row,) = overlap(measured(shift, random), measured(shift, random), base, ks=[K], noise=base)
    assert row.value > 0.8
    assert row.interval is not None
    assert row.claimed
    assert row.interval[0] > row.nulls[row.highest].upper + 0.4


def test_independent_rankings_share_what_chance_gives_and_are_not_claimed() -> None:
    """100 data sets: their mean overlap is chance's within 4 errors, and no more than 5 % are claimed."""
    random = np.random.default_rng(2)
    values, claims = [], 0
    for seed in range(100):
        icl, other = (measured(random.lognormal(0, 1, FEATURES), random) for _ in range(2))
        base = random.lognormal(0, 1, FEATURES)
        (row,) = overlap(icl, other, base, ks=[K], draws=100, seed=seed)
        values.append(row.value)
        claims += row.claimed
        assert row.chance.mean == K / FEATURES
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - K / FEATURES) < 4 * error
    assert claims <= 5


def test_two_rankings_that_only_follow_activation_are_not_claimed() -> None:
    """They share far more than chance; the activation null alone already gives all of it."""
    random = np.random.default_rng(3)
    base = random.lognormal(0, 1.5, FEATURES)
    icl, other = (measured(base * random.lognormal(0, 0.3, FEATURES), random) for _ in range(2))
    (row,) = overlap(icl, other, base, ks=[K])
    assert row.interval is not None
    assert row.interval[0] > row.chance.upper + 0.4  # by chance alone it would be claimed
    assert row.activation.upper >= row.interval[0] + 0.03
    assert not row.claimed


def test_a_ranking_that_follows_activation_loosely_is_stopped_by_the_matched_null() -> None:
    """Only features of a middle activation move, in both: unlike the ranking by activation, yet nothing more."""
    random = np.random.default_rng(4)
    base = random.lognormal(0, 1, FEATURES)
    middle = np.exp(-((np.log(base) - 1.5) ** 2) / (2 * 0.04))  # activation near e^1.5
    icl, other = (measured(middle * random.lognormal(0, 0.2, FEATURES) + 1e-9, random, 0.1) for _ in range(2))
    (row,) = overlap(icl, other, base, ks=[K])
    assert row.interval is not None
    others = {name: value for name, value in upper(row).items() if name != "matched"}
    assert row.interval[0] > max(others.values()) + 0.1  # the other nulls would let it pass
    assert row.highest == "matched"
    assert not row.claimed


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Numbers with so many bits of mantissa, as a narrower dtype keeps them."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent)


def test_rounding_noise_is_stopped_by_the_noise_null_and_by_no_other() -> None:
    """No training at all: the "fine-tuned" features are the model's own, with residuals rounded to 8 bits (bf16).

    Features with long encoder rows move most by anything, demonstrations and rounding alike, whatever their activation.
    """
    random = np.random.default_rng(5)
    tokens, width = 1000, 32
    encoder = random.normal(size=(width, FEATURES)) * random.lognormal(0, 1, FEATURES)
    bias = 40 * random.lognormal(0, 1, FEATURES)
    residual = random.normal(size=(tokens, width))
    group = np.repeat(np.arange(GROUPS), tokens // GROUPS)
    features = np.maximum(residual @ encoder + bias, 0)

    def shift(other: np.ndarray) -> Side:
        moved = np.abs(np.maximum(other @ encoder + bias, 0) - features)
        sums = np.stack([moved[group == g].sum(axis=0) for g in range(GROUPS)])
        return Side(moved.mean(axis=0), sums, np.bincount(group).astype(float))

    icl = shift(residual + random.normal(scale=0.5, size=residual.shape))
    untrained = shift(rounded(residual, 8))
    noise = shift(rounded(residual, 7)).shift
    base = features.mean(axis=0)
    (blind,) = overlap(icl, untrained, base, ks=[K], same_groups=True)
    (row,) = overlap(icl, untrained, base, ks=[K], same_groups=True, noise=noise)
    assert blind.noise is None
    assert "noise" not in blind.nulls
    assert blind.claimed  # the other three see nothing wrong
    assert blind.interval is not None
    assert blind.interval[0] > max(upper(blind).values()) + 0.2
    assert row.highest == "noise"
    assert row.nulls["noise"].upper >= row.interval[0]
    assert not row.claimed


def test_a_true_fine_tune_is_claimed_above_its_noise() -> None:
    """The same measured honestly: training moves what demonstrations move, rounding moves other features."""
    random = np.random.default_rng(6)
    lesson, rounding = random.lognormal(0, 1, FEATURES), 0.1 * random.lognormal(0, 1, FEATURES)
    base = random.lognormal(0, 1, FEATURES)
    icl = measured(lesson + rounding, random)
    tuned = measured(lesson * random.lognormal(0, 0.5, FEATURES) + rounding, random)
    (row,) = overlap(icl, tuned, base, ks=[K], same_groups=True, noise=rounding)
    assert row.interval is not None
    assert row.interval[0] > row.nulls[row.highest].upper + 0.15
    assert row.claimed
