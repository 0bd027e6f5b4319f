"""What makes a feature fire: its strongest tokens, samples over all its strengths, and the histogram of its values.

All are gathered while the sums are, and are mergeable: a set measured in shards gives the same as in one go. Memory is
features × k, features × bins and features × bins × samples, whatever the number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BINS = 40
"""Bins of a histogram: half powers of two from 2⁻⁸, the last one open."""
LOWEST = -8.0
PER_OCTAVE = 2.0
LAST_TOKEN = 2**31 - 1
ARMS = ("base", "icl")
SAMPLES = 2
"""Tokens that are drawn from every bin of every feature, and so of every band but the top."""
QUANTILES = (90, 75, 50)
TOP, RANDOM = "top", "random"
BANDS = (TOP, *(f"q{q}" for q in QUANTILES), RANDOM)
"""Where the examples of a feature are taken from: the strongest, the bin of a quantile of the tokens that fire, any."""
_TENSORS = ("keys", "counts", "samples", "names")
_ROUNDS = ((15, 0x61C88647), (12, 0x3C6EF373), (16, 0x2545F491))
"""Shifts and odd factors that scatter numbers below 2³¹ so that each step can be undone."""


class Picked(NamedTuple):
    """Tokens of every feature, in the order in which they are shown."""

    values: Tensor
    """[features, places] float32; 0 where there is none."""
    tokens: Tensor
    """[features, places]: which token; -1 where there is none."""


@dataclass
class Examples:
    """What is kept of features' firings. Grows by `add`, merges by `+`.

    Value and token are held as one whole number that sorts as wanted: by value, and among equal values the token with
    the lower number first; among samples by a scattering of the token's number. So the result depends on no order of
    batches.
    """

    keys: Tensor
    """[features, k] int64, largest first; 0 where fewer tokens fired."""
    counts: Tensor
    """[features, bins] int64: tokens whose value lies in a bin. Zeros are not counted: they are the rest of `seen`."""
    samples: Tensor
    """[samples, features, bins] int64: of a bin's tokens those that were scattered furthest, with their values."""
    names: Tensor
    """[features]: the features' own numbers, which the scattering depends on."""
    seen: int = 0
    """Tokens that were looked at: the denominator of every density."""

    @classmethod
    def none(
        cls, features: int | Tensor, k: int, device: str | torch.device = "cpu", samples: int = SAMPLES
    ) -> Examples:
        """The identity of merging, for so many features, or for those of these numbers."""
        names = torch.arange(features, device=device) if isinstance(features, int) else features.to(device)
        keys, counts = (torch.zeros(len(names), n, dtype=torch.long, device=device) for n in (k, BINS))
        return cls(keys, counts, torch.zeros(samples, len(names), BINS, dtype=torch.long, device=device), names)

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Examples:
        """Read back from what `arrays` gave."""
        tensors = {name: torch.from_numpy(value) for name, value in arrays.items() if name != "seen"}
        return cls(**tensors, seen=int(arrays["seen"][0]))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, to be kept in a file."""
        kept = {name: getattr(self, name).cpu().numpy() for name in _TENSORS}
        return {**kept, "seen": np.array([self.seen])}

    def copy(self, device: str | torch.device = "cpu") -> Examples:
        """The same, on its own, on a device."""
        kept = {name: getattr(self, name).to(device, copy=True) for name in _TENSORS}
        return Examples(**kept, seen=self.seen)

    @property
    def values(self) -> Tensor:
        """[features, k] float32, largest first; 0 where fewer tokens fired."""
        return (self.keys >> 32).int().view(torch.float32)

    @property
    def tokens(self) -> Tensor:
        """[features, k]: which token; -1 where there is none."""
        return torch.where(self.keys > 0, LAST_TOKEN - (self.keys & 0xFFFFFFFF), -1)

    def bands(self) -> dict[str, Picked]:
        """The strongest tokens; samples from the bins that hold the quantiles of the firing tokens; samples of any.

        The q-th quantile of n firing tokens is the ⌈q·n/100⌉-th weakest of them.
        """
        found = {TOP: Picked(self.values, self.tokens)}
        up_to = self.counts.cumsum(dim=1)
        every = torch.arange(len(self.names), device=self.names.device)
        for q in QUANTILES:
            rank = (up_to[:, -1] * q + 99) // 100
            where = (up_to < rank[:, None]).sum(dim=1)
            found[f"q{q}"] = self._drawn(self.samples[:, every, where].T)
        # Those scattered furthest of all are among those scattered furthest of their bins.
        drawn = self.samples.transpose(0, 1).flatten(1).topk(len(self.samples), dim=1).values
        found[RANDOM] = self._drawn(drawn)
        return found

    def add(self, features: Tensor, numbers: Tensor) -> None:
        """Look at a batch: features [tokens, features]; numbers [tokens], each below 2³¹ and used once in all."""
        numbers = numbers.to(features.device)
        # The bits of positive float32 numbers sort like the numbers themselves.
        bits = features.float().clamp_min(0).contiguous().view(torch.int32).long()
        keys = torch.where(bits > 0, (bits << 32) | (LAST_TOKEN - numbers)[:, None], 0)
        self._merge(keys.T.topk(min(self.keys.shape[1], len(keys)), dim=1).values)
        token, column = (bits > 0).nonzero(as_tuple=True)
        bits = bits[token, column]
        slot = column * BINS + bin_of(bits.int().view(torch.float32))
        self.counts.view(-1).scatter_add_(0, slot, torch.ones_like(slot))
        self._draw(slot, (scattered(numbers[token], self.names[column]) << 32) | bits)
        self.seen += len(features)

    def __add__(self, other: Examples) -> Examples:
        samples = torch.cat([self.samples, other.samples]).topk(len(self.samples), dim=0).values
        merged = Examples(self.keys.clone(), self.counts + other.counts, samples, self.names, self.seen + other.seen)
        merged._merge(other.keys)
        return merged

    def _merge(self, keys: Tensor) -> None:
        self.keys = torch.cat([self.keys, keys], dim=1).topk(self.keys.shape[1], dim=1).values

    def _draw(self, slot: Tensor, keys: Tensor) -> None:
        """Put each key where it belongs among its slot's samples; touches no more slots than there are keys."""
        for place in self.samples:
            best = place.view(-1)
            before = best[slot]
            after = best.scatter_reduce_(0, slot, keys, "amax")[slot]
            # Who got the place hands on whom it displaced; the others try the next place.
            keys = torch.where(keys == after, before, keys)

    def _drawn(self, keys: Tensor) -> Picked:
        """[features, places] of samples' keys, read."""
        values = (keys & 0xFFFFFFFF).int().view(torch.float32)
        return Picked(values, torch.where(keys > 0, gathered(keys >> 32, self.names[:, None]), -1))


def scattered(numbers: Tensor, names: Tensor) -> Tensor:
    """Numbers below 2³¹ thrown all over that range, each to a place of its own, differently for every name."""
    x = numbers ^ _mixed(names & LAST_TOKEN)
    return _mixed(x)


def gathered(places: Tensor, names: Tensor) -> Tensor:
    """The numbers that were scattered there."""
    x = places
    for shift, factor in reversed(_ROUNDS):
        x = (x * pow(factor, -1, LAST_TOKEN + 1)) & LAST_TOKEN
        undone = x
        for _ in range(31 // shift):
            undone = x ^ (undone >> shift)
        x = undone
    return x ^ _mixed(names & LAST_TOKEN)


def _mixed(x: Tensor) -> Tensor:
    for shift, factor in _ROUNDS:
        x = x ^ (x >> shift)
        x = (x * factor) & LAST_TOKEN
    return x


def bin_of(values: Tensor) -> Tensor:
    """The bin of each positive value."""
    return ((values.float().log2() - LOWEST) * PER_OCTAVE).floor().clamp(0, BINS - 1).long()


def bin_edges() -> np.ndarray:
    """The lower edges of the bins, [bins]; the first also holds everything below it."""
    return 2.0 ** (LOWEST + np.arange(BINS) / PER_OCTAVE)
