"""Strongest tokens, samples and histograms are those of a dense computation, in any batches and shards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sts_core.measure.examples import (
    BANDS,
    BINS,
    LAST_TOKEN,
    QUANTILES,
    RANDOM,
    SAMPLES,
    TOP,
    Examples,
    bin_edges,
    gathered,
    scattered,
)  # fmt: skip

TOKENS, FEATURES, K = 200, 17, 5


@pytest.fixture(params=[0, 1])
def dense(request: pytest.FixtureRequest) -> torch.Tensor:
    """Sparse values with many ties (the second: all values are multiples of a quarter)."""
    draw = torch.Generator().manual_seed(request.param)
    values = torch.relu(torch.randn(TOKENS, FEATURES, generator=draw) - 0.8) * 4
    values[:, 3] = 0
    return (values * 4).round() / 4 if request.param else values


def of_batches(dense: torch.Tensor, sizes: list[int]) -> Examples:
    examples = Examples.none(dense.shape[1], K)
    for part, numbers in zip(dense.split(sizes), torch.arange(len(dense)).split(sizes), strict=True):
        examples.add(part, numbers)
    return examples


def bins_of(column: np.ndarray) -> np.ndarray:
    """The bin of every value by its edges; what does not fire has none."""
    place = np.clip(np.searchsorted(bin_edges(), column, side="right") - 1, 0, BINS - 1)
    return np.where(column > 0, place, -1)


def furthest(candidates: np.ndarray, feature: int) -> list[int]:
    """Those of the tokens that are scattered furthest, by a full sort."""
    places = scattered(torch.from_numpy(candidates), torch.tensor(feature)).tolist()
    return [int(candidates[i]) for i in np.argsort(places)[::-1][:SAMPLES]]


@pytest.mark.parametrize("sizes", [[200], [1] * 200, [3, 97, 100]])
def test_the_strongest_tokens_are_those_of_a_full_sort(dense: torch.Tensor, sizes: list[int]) -> None:
    examples = of_batches(dense, sizes)
    for feature in range(FEATURES):
        column = dense[:, feature].numpy()
        order = [int(t) for t in np.lexsort((np.arange(TOKENS), -column)) if column[t] > 0][:K]
        found = [int(t) for t in examples.tokens[feature] if t >= 0]
        assert found == order
        assert examples.values[feature, : len(order)].tolist() == column[order].tolist()
    assert examples.tokens[3].tolist() == [-1] * K


@pytest.mark.parametrize("sizes", [[200], [1] * 200, [3, 97, 100]])
def test_samples_are_those_of_a_full_sort_of_the_bin(dense: torch.Tensor, sizes: list[int]) -> None:
    bands = of_batches(dense, sizes).bands()
    assert tuple(bands) == BANDS
    for feature in range(FEATURES):
        column = dense[:, feature].numpy()
        fired = np.flatnonzero(column > 0)
        wanted = {RANDOM: furthest(fired, feature)}
        for q in QUANTILES:
            # The quantile as NumPy tells it: the least value that so many per cent do not exceed.
            at = np.quantile(column[fired], q / 100, method="inverted_cdf") if len(fired) else np.float32(0)
            wanted[f"q{q}"] = furthest(np.flatnonzero((bins_of(column) == bins_of(at)) & (column > 0)), feature)
        for band, order in wanted.items():
            picked = bands[band]
            assert [int(t) for t in picked.tokens[feature] if t >= 0] == order
            assert picked.values[feature, : len(order)].tolist() == column[order].tolist()
            assert not picked.values[feature, len(order) :].any()


def test_histograms_count_every_positive_value_once(dense: torch.Tensor) -> None:
    examples = of_batches(dense, [3, 97, 100])
    for feature in range(FEATURES):
        bins = bins_of(dense[:, feature].numpy())
        assert examples.counts[feature].tolist() == np.bincount(bins[bins >= 0], minlength=BINS).tolist()
    assert examples.seen == TOKENS


def test_shards_merge_to_the_whole(dense: torch.Tensor) -> None:
    whole = of_batches(dense, [200])
    shards = []
    for i in range(7):
        shard = Examples.none(FEATURES, K)
        shard.add(dense[i::7], torch.arange(TOKENS)[i::7])
        shards.append(shard)
    merged = sum(shards[1:], Examples.none(FEATURES, K) + shards[0])
    backwards = sum(shards[::-1], Examples.none(FEATURES, K))
    for one in (merged, backwards):
        assert all(np.array_equal(value, whole.arrays()[name]) for name, value in one.arrays().items())
    assert torch.equal(merged.values, whole.values)


def test_a_few_features_give_what_they_give_among_all(dense: torch.Tensor) -> None:
    chosen = torch.tensor([11, 2, 16])
    few = Examples.none(chosen, K)
    few.add(dense[:, chosen], torch.arange(TOKENS))
    every = of_batches(dense, [200])
    for band, picked in few.bands().items():
        assert torch.equal(picked.tokens, every.bands()[band].tokens[chosen]), band
        assert torch.equal(picked.values, every.bands()[band].values[chosen]), band


def test_what_is_kept_reads_back(dense: torch.Tensor) -> None:
    whole = of_batches(dense, [200])
    again = Examples.of(whole.copy().arrays())
    again.add(dense + 1, torch.arange(TOKENS) + TOKENS)
    whole.add(dense + 1, torch.arange(TOKENS) + TOKENS)
    assert all(np.array_equal(value, whole.arrays()[name]) for name, value in again.arrays().items())
    assert torch.equal(again.bands()[TOP].tokens, again.tokens)


def test_scattering_can_be_undone_and_is_even() -> None:
    draw = torch.Generator().manual_seed(0)
    numbers = torch.cat([torch.arange(50_000), torch.randint(LAST_TOKEN, (50_000,), generator=draw)])
    for name in (0, 1, 4_095, 131_071):
        places = scattered(numbers, torch.tensor(name))
        assert torch.equal(gathered(places, torch.tensor(name)), numbers)
        assert int(places.min()) >= 0
        assert int(places.max()) <= LAST_TOKEN
        # 50,000 neighbours over 16 equal parts: 3,125 each, give or take 54 (one standard deviation).
        parts = torch.bincount(places[:50_000] >> 27, minlength=16)
        assert int((parts - 3_125).abs().max()) < 300


def test_which_token_is_drawn_differs_between_features() -> None:
    same = torch.ones(1_000, 64)
    examples = Examples.none(64, 1)
    examples.add(same, torch.arange(1_000))
    drawn = examples.bands()[RANDOM].tokens[:, 0]
    assert len(set(drawn.tolist())) > 50
