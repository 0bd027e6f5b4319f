"""What is kept of a set of texts: sums over its pooled tokens, a row a jackknife group.

Sums of two halves of a set add up to the sums of the whole, so a set can be measured in shards, on several
machines, or in two sittings. Means, rates and scores are all read off these sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sts_core.stats.jackknife import MOST_GROUPS

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SetSums:
    """Per quantity a sum [groups, features] over tokens; beside them tokens and items a group."""

    sums: dict[str, Array]
    """`base` Σh, `base_sq` Σh², `icl` Σh′, `absdiff` Σ|Δ|, `sqdiff` ΣΔ², `diff` ΣΔ, `active_*` tokens with h > 0,
    `abs_base` Σ|h|."""
    tokens: Array
    items: Array

    @classmethod
    def zeros(cls, quantities: tuple[str, ...], features: int) -> SetSums:
        """The identity of addition."""
        empty = {name: np.zeros((MOST_GROUPS, features)) for name in quantities}
        return cls(empty, np.zeros(MOST_GROUPS), np.zeros(MOST_GROUPS))

    def __add__(self, other: SetSums) -> SetSums:
        added = {name: value + other.sums[name] for name, value in self.sums.items()}
        return SetSums(added, self.tokens + other.tokens, self.items + other.items)

    def mean(self, quantity: str) -> Array:
        """E over tokens of a quantity: [features]; NaN when no token was pooled."""
        tokens = self.tokens.sum()
        total = self.sums[quantity].sum(axis=0)
        return total / tokens if tokens else np.full(total.shape, np.nan)
