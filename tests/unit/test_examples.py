"""The strongest tokens and histograms are those of a dense computation, in any batches and shards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sts_core.measure.examples import BINS, Examples, bin_edges

TOKENS, FEATURES, K = 200, 17, 5


@pytest.fixture(params=[0, 1])
def dense(request: pytest.FixtureRequest) -> torch.Tensor:
    """Sparse values with many ties (the second: all values are multiples of a quarter)."""
    draw = torch.Generator().manual_seed(request.param)
    values = torch.relu(torch.randn(TOKENS, FEATURES, generator=draw) - 0.8) * 4
    values[:, 3] = 0
    return (values * 4).round() / 4 if request.param else values


def gathered(dense: torch.Tensor, sizes: list[int]) -> Examples:
    examples = Examples.none(FEATURES, K)
    for part, numbers in zip(dense.split(sizes), torch.arange(TOKENS).split(sizes), strict=True):
        examples.add(part, numbers)
    return examples


@pytest.mark.parametrize("sizes", [[200], [1] * 200, [3, 97, 100]])
def test_the_strongest_tokens_are_those_of_a_full_sort(dense: torch.Tensor, sizes: list[int]) -> None:
    examples = gathered(dense, sizes)
    for feature in range(FEATURES):
        column = dense[:, feature].numpy()
        order = [int(t) for t in np.lexsort((np.arange(TOKENS), -column)) if column[t] > 0][:K]
        found = [int(t) for t in examples.tokens[feature] if t >= 0]
        assert found == order
        assert examples.values[feature, : len(order)].tolist() == column[order].tolist()
    assert examples.tokens[3].tolist() == [-1] * K


def test_histograms_count_every_positive_value_once(dense: torch.Tensor) -> None:
    examples = gathered(dense, [3, 97, 100])
    edges = bin_edges()
    for feature in range(FEATURES):
        column = dense[:, feature].numpy()
        positive = column[column > 0]
        wanted = np.bincount(np.clip(np.searchsorted(edges, positive, side="right") - 1, 0, BINS - 1), minlength=BINS)
        assert examples.counts[feature].tolist() == wanted.tolist()
    assert examples.seen == TOKENS


def test_shards_merge_to_the_whole(dense: torch.Tensor) -> None:
    whole = gathered(dense, [200])
    shards = []
    for i in range(7):
        shard = Examples.none(FEATURES, K)
        shard.add(dense[i::7], torch.arange(TOKENS)[i::7])
        shards.append(shard)
    merged = sum(shards[1:], Examples.none(FEATURES, K) + shards[0])
    assert torch.equal(merged.values, whole.values)
    assert torch.equal(merged.tokens, whole.tokens)
    assert torch.equal(merged.counts, whole.counts)
    assert merged.seen == whole.seen
