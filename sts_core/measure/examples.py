"""What makes a feature fire: its strongest tokens and the histogram of its values, gathered while the sums are.

Both are mergeable: a set measured in shards gives the same examples and counts as in one go. Memory is features × k
and features × bins, whatever the number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS = 40
"""Bins of a histogram: half powers of two from 2⁻⁸, the last one open."""
LOWEST = -8.0
PER_OCTAVE = 2.0
LAST_TOKEN = 2**31 - 1
ARMS = ("base", "icl")


@dataclass
class Examples:
    """The k strongest tokens a feature, and how often it had which value. Grows by `add`, merges by `+`.

    Value and token are held as one whole number that sorts as wanted: by value, and among equal values the token with
    the lower number first. So the result depends on no order of batches.
    """

    keys: Tensor
    """[features, k] int64, largest first; 0 where fewer tokens fired."""
    counts: Tensor
    """[features, bins] int64: tokens whose value lies in a bin. Zeros are not counted: they are the rest of `seen`."""
    seen: int = 0
    """Tokens that were looked at: the denominator of every density."""

    @classmethod
    def none(cls, features: int, k: int, device: str | torch.device = "cpu") -> Examples:
        """The identity of merging."""
        keys = torch.zeros(features, k, dtype=torch.long, device=device)
        return cls(keys, torch.zeros(features, BINS, dtype=torch.long, device=device))

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, seen: np.ndarray) -> Examples:
        """Read back from arrays."""
        return cls(torch.from_numpy(keys), torch.from_numpy(counts), int(seen[0]))

    def copy(self, device: str | torch.device = "cpu") -> Examples:
        """The same, on its own, on a device."""
        return Examples(self.keys.to(device, copy=True), self.counts.to(device, copy=True), self.seen)

    @property
    def values(self) -> Tensor:
        """[features, k] float32, largest first; 0 where fewer tokens fired."""
        return (self.keys >> 32).int().view(torch.float32)

    @property
    def tokens(self) -> Tensor:
        """[features, k]: which token; -1 where there is none."""
        return torch.where(self.keys > 0, LAST_TOKEN - (self.keys & 0xFFFFFFFF), -1)

    def add(self, features: Tensor, numbers: Tensor) -> None:
        """Look at a batch: features [tokens, features]; numbers [tokens], each below 2³¹ and used once in all."""
        # The bits of positive float32 numbers sort like the numbers themselves.
        bits = features.float().clamp_min(0).contiguous().view(torch.int32).long()
        keys = torch.where(bits > 0, (bits << 32) | (LAST_TOKEN - numbers.to(bits.device))[:, None], 0)
        best = keys.T.topk(min(self.keys.shape[1], len(keys)), dim=1).values
        self._merge(best)
        self.counts += histogram(features)
        self.seen += len(features)

    def __add__(self, other: Examples) -> Examples:
        merged = Examples(self.keys.clone(), self.counts + other.counts, self.seen + other.seen)
        merged._merge(other.keys)
        return merged

    def _merge(self, keys: Tensor) -> None:
        self.keys = torch.cat([self.keys, keys], dim=1).topk(self.keys.shape[1], dim=1).values


def histogram(features: Tensor) -> Tensor:
    """Counts of positive values a feature and bin: [features, bins]."""
    count = features.shape[1]
    fired = features > 0
    where = fired.nonzero()
    bins = bin_of(features[fired])
    flat = torch.bincount(where[:, 1] * BINS + bins, minlength=count * BINS)
    return flat.view(count, BINS)


def bin_of(values: Tensor) -> Tensor:
    """The bin of each positive value."""
    return ((values.float().log2() - LOWEST) * PER_OCTAVE).floor().clamp(0, BINS - 1).long()


def bin_edges() -> np.ndarray:
    """The lower edges of the bins, [bins]; the first also holds everything below it."""
    return 2.0 ** (LOWEST + np.arange(BINS) / PER_OCTAVE)
