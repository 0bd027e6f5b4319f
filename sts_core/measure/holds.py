"""Does the SAE still hold on the fine-tuned model? Gathered in the same pass as the shift (METHOD 9).

Residuals drift, and a dictionary of the old ones may describe the new ones badly: then what its features say of the
new model is not worth reading, and that is told before any overlap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sts_core.measure.fold import tokens_at_once

LEAST_COSINE = 0.9
MOST_R2_LOST = 0.25
"""As a share of the base model's own R²."""
MOST_L0 = 2.0
"""How many times more, or fewer, features may be active."""


class Holds(NamedTuple):
    """How well a SAE describes a model it was not trained on, beside the one it was."""

    tokens: int
    residual_cosine: float
    """Mean over tokens of the cosine between the two models' residuals."""
    l0_base: float
    """Mean number of active features a token."""
    l0_tuned: float
    r2_base: float
    """1 − squared error of the reconstruction / variance, all dimensions together; NaN where nothing varies."""
    r2_tuned: float

    @property
    def trouble(self) -> list[str]:
        """Why the features of the fine-tuned model should not be trusted; empty when they may."""
        found = []
        if not self.residual_cosine >= LEAST_COSINE:
            found.append(f"the residuals have turned away (cosine {self.residual_cosine:.2f})")
        if not self.r2_base - self.r2_tuned <= MOST_R2_LOST * abs(self.r2_base):
            found.append(f"it explains less of them (R² {self.r2_base:.2f} before, {self.r2_tuned:.2f} after)")
        if not self.l0_base / MOST_L0 <= self.l0_tuned <= self.l0_base * MOST_L0:
            found.append(
                f"other numbers of features are active (L0 {self.l0_base:.1f} before, {self.l0_tuned:.1f} after)"
            )
        return found


class HoldSums:
    """Adds up aligned residuals of both models; nothing of a batch is kept."""

    def __init__(self, sae: Any, most_norm: float | None) -> None:
        self._sae, self._most_norm = sae, most_norm
        self._tokens = 0
        self._cosine = 0.0
        self._sides = (_Side(), _Side())

    def add(self, base: Tensor, tuned: Tensor) -> None:
        """Residuals [tokens, width] of the same tokens; those above the norm in either model are left out."""
        base, tuned = base.float(), tuned.float()
        if self._most_norm is not None:
            kept = (base.norm(dim=-1) <= self._most_norm) & (tuned.norm(dim=-1) <= self._most_norm)
            base, tuned = base[kept], tuned[kept]
        self._tokens += len(base)
        self._cosine += float(torch.nn.functional.cosine_similarity(base, tuned, dim=-1).double().sum())
        for side, residuals in zip(self._sides, (base, tuned), strict=True):
            side.add(self._sae, residuals)

    def finish(self) -> Holds:
        """What the tokens so far say; NaN where there were none."""
        n = self._tokens
        base, tuned = self._sides
        cosine = self._cosine / n if n else float("nan")
        return Holds(n, cosine, base.l0(n), tuned.l0(n), base.r2(n), tuned.r2(n))


class _Side:
    """One model's sums."""

    def __init__(self) -> None:
        self._active = 0.0
        self._error = 0.0
        self._square = 0.0
        self._sum: Tensor | None = None

    def add(self, sae: Any, residuals: Tensor) -> None:
        for part in residuals.split(tokens_at_once(sae.cfg.d_sae, residuals.device)):
            with torch.inference_mode():
                features = sae.encode(part.to(sae.dtype))
                rebuilt = sae.decode(features).float()
            self._active += float((features > 0).sum())
            self._error += float((part - rebuilt).square().sum(dtype=torch.float64))
        self._square += float(residuals.square().sum(dtype=torch.float64))
        total = residuals.sum(dim=0, dtype=torch.float64)
        self._sum = total if self._sum is None else self._sum + total

    def l0(self, tokens: int) -> float:
        return self._active / tokens if tokens else float("nan")

    def r2(self, tokens: int) -> float:
        if not tokens or self._sum is None:
            return float("nan")
        variance = self._square - float(self._sum.square().sum()) / tokens
        return 1 - self._error / variance if variance > 0 else float("nan")
