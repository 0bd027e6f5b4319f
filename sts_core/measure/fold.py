"""From residuals to sums: features exist for one batch, are folded, and are gone (METHOD 3, 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sts_core.measure.parts import Measured
from sts_core.nets.saes import encode
from sts_core.results.folder import DOMAIN_SUMS, TARGET_SUMS
from sts_core.results.sums import SetSums
from sts_core.stats.jackknife import MOST_GROUPS

_CHUNK = 16_000_000
"""Feature values that are held at once in one arm."""


class Fold:
    """Adds up a set's tokens, a row a jackknife group. `target` sets also keep the raw residual's own sums."""

    def __init__(self, features: int, width: int, target: bool) -> None:
        self._quantities = TARGET_SUMS if target else DOMAIN_SUMS
        self.sums = SetSums.zeros(self._quantities, features)
        self.raw = SetSums.zeros(TARGET_SUMS, width) if target else None
        self.outliers = 0

    def add(self, sae: Any, base: Tensor, icl: Tensor, groups: Tensor, most_norm: float | None) -> None:
        """Fold aligned residuals [tokens, width] of both arms; `groups` [tokens] says which group each belongs to.

        A token whose norm exceeds `most_norm` in either arm is dropped in both, and counted.
        """
        base, icl = base.float(), icl.float()
        if most_norm is not None:
            keep = (base.norm(dim=-1) <= most_norm) & (icl.norm(dim=-1) <= most_norm)
            self.outliers += int((~keep).sum())
            base, icl, groups = base[keep], icl[keep], groups[keep]
        self.sums.tokens[:] += np.bincount(groups.cpu().numpy(), minlength=MOST_GROUPS)
        if self.raw is not None:
            _fold(self.raw, base, icl, groups)
        step = max(1, _CHUNK // sae.cfg.d_sae)
        for start in range(0, len(base), step):
            part = slice(start, start + step)
            _fold(self.sums, encode(sae, base[part]), encode(sae, icl[part]), groups[part])

    def finish(self, items_per_group: np.ndarray) -> Measured:
        """The sums with their item counts."""
        self.sums.items[:] = items_per_group
        if self.raw is not None:
            self.raw.items[:], self.raw.tokens[:] = items_per_group, self.sums.tokens
        return Measured(self.sums, self.raw, self.outliers)


def _fold(into: SetSums, base: Tensor, icl: Tensor, groups: Tensor) -> None:
    """Add Σ over tokens of every quantity, by group: one matrix product each. [tokens, k] -> [groups, k]."""
    delta = icl - base
    values = {
        "base": lambda: base, "base_sq": lambda: base.square(), "icl": lambda: icl, "absdiff": lambda: delta.abs(),
        "sqdiff": lambda: delta.square(), "diff": lambda: delta, "active_base": lambda: (base > 0).float(),
        "active_icl": lambda: (icl > 0).float(),
    }  # fmt: skip
    member = torch.nn.functional.one_hot(groups, MOST_GROUPS).T.float()
    for quantity, total in into.sums.items():
        total += (member @ values[quantity]()).double().cpu().numpy()
