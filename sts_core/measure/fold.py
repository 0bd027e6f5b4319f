"""From residuals to sums: features exist for one batch, are folded, and are gone (METHOD 3, 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sts_core.measure.examples import ARMS, Examples
from sts_core.measure.parts import Measured
from sts_core.nets.saes import encode
from sts_core.results.folder import DOMAIN_SUMS, TARGET_SUMS
from sts_core.results.sums import SetSums
from sts_core.stats.jackknife import MOST_GROUPS

_CHUNK = {"cpu": 4_000_000, "mps": 32_000_000, "cuda": 256_000_000}
"""Feature values that are held at once in one arm."""
_FEWEST_TOKENS = 64
"""Tokens that are folded together at least: every fold goes through all sums once."""


def tokens_at_once(features: int, device: torch.device) -> int:
    """How many tokens are encoded together, so that their features stay a bounded piece of memory."""
    return max(_FEWEST_TOKENS, _CHUNK[device.type] // features)


class Fold:
    """Adds up a set's tokens, a row a jackknife group, on the device that computes them.

    Keeps so many `examples` a feature in each arm. `target` sets also keep the raw residual's own sums. Starts from
    `kept`, what an interrupted sitting had.
    """

    def __init__(
        self,
        features: int,
        width: int,
        target: bool,
        device: torch.device,
        kept: Measured | None = None,
        examples: int = 0,
    ) -> None:
        self._chunk = tokens_at_once(features, device)
        quantities = TARGET_SUMS if target else DOMAIN_SUMS
        self._sums = GroupSums(kept.sums if kept else SetSums.zeros(quantities, features), device)
        raw = kept.raw if kept else SetSums.zeros(TARGET_SUMS, width)
        self._raw = GroupSums(raw, device) if target and raw else None
        self._tokens = self._sums.start.tokens.copy()
        self._outliers = kept.outliers if kept else 0
        if kept is not None:
            self._examples = {arm: found.copy(device) for arm, found in kept.examples.items()}
        else:
            self._examples = {arm: Examples.none(features, examples, device) for arm in ARMS} if examples else {}

    def add(
        self,
        sae: Any,
        base: Tensor,
        other: Tensor,
        groups: Tensor,
        most_norm: float | None,
        numbers: Tensor | None = None,
    ) -> None:
        """Fold aligned residuals [tokens, width] of both arms; `groups` [tokens] says which group each belongs to.

        A token whose norm exceeds `most_norm` in either arm is dropped in both, and counted. `numbers` [tokens] name
        the tokens, where examples are kept.
        """
        base, other = base.float(), other.float()
        if most_norm is not None:
            keep = (base.norm(dim=-1) <= most_norm) & (other.norm(dim=-1) <= most_norm)
            self._outliers += int((~keep).sum())
            base, other, groups = base[keep], other[keep], groups[keep]
            numbers = numbers[keep] if numbers is not None else None
        self._tokens += np.bincount(groups.cpu().numpy(), minlength=MOST_GROUPS)
        for start in range(0, len(base), self._chunk):
            part = slice(start, start + self._chunk)
            if self._raw is not None:
                self._raw.add(base[part], other[part], groups[part])
            features = encode(sae, base[part]), encode(sae, other[part])
            self._sums.add(*features, groups[part])
            if numbers is not None and self._examples:
                for arm, values in zip(ARMS, features, strict=True):
                    self._examples[arm].add(values, numbers[part])
            del features  # before the next ones are made

    def finish(self, items_per_group: np.ndarray) -> Measured:
        """The sums so far, with the set's item counts."""
        raw = self._raw.read(self._tokens, items_per_group) if self._raw else None
        sums = self._sums.read(self._tokens, items_per_group)
        return Measured(sums, raw, self._outliers, {arm: found.copy() for arm, found in self._examples.items()})


class GroupSums:
    """Running sums [groups, features] of the quantities it starts with, in float64 where the device has it."""

    def __init__(self, start: SetSums, device: torch.device) -> None:
        self.start = start
        wide = torch.float32 if device.type == "mps" else torch.float64
        features = next(iter(start.sums.values())).shape[1]
        self._room = torch.empty(2, 0, features, device=device)
        """Written over by every batch: fresh memory each time would cost more than the arithmetic."""
        self._product = torch.empty(MOST_GROUPS, features, device=device)
        self._widened = self._product.to(wide)
        self._totals = {name: torch.tensor(value, dtype=wide, device=device) for name, value in start.sums.items()}

    def add(self, base: Tensor, other: Tensor, groups: Tensor) -> None:
        """Add Σ over tokens of every quantity, by group: one matrix product each. [tokens, k] -> [groups, k]."""
        member = torch.nn.functional.one_hot(groups, MOST_GROUPS).T.float()
        if self._room.shape[1] < len(base):
            self._room = base.new_empty(2, *base.shape)
        delta, scratch = self._room[0][: len(base)], self._room[1][: len(base)]
        torch.sub(other, base, out=delta)
        values = {
            "base": lambda: base, "base_sq": lambda: torch.square(base, out=scratch),
            "abs_base": lambda: torch.abs(base, out=scratch), "icl": lambda: other,
            "diff": lambda: delta, "absdiff": lambda: torch.abs(delta, out=scratch),
            "sqdiff": lambda: torch.square(delta, out=scratch), "active_base": lambda: torch.gt(base, 0, out=scratch),
            "active_icl": lambda: torch.gt(other, 0, out=scratch),
        }  # fmt: skip
        for quantity, total in self._totals.items():
            torch.mm(member, values[quantity](), out=self._product)
            total += self._widened.copy_(self._product)

    def read(self, tokens: np.ndarray, items: np.ndarray) -> SetSums:
        """The sums so far, with the tokens and items of every group."""
        sums = {name: total.double().cpu().numpy().copy() for name, total in self._totals.items()}
        return SetSums(sums, tokens.astype(np.float64), items.astype(np.float64))
