"""How good a SAE is, on text it was not trained on: sums that add up over batches, and the numbers they give.

With x the residuals [tokens, width], x̂ their reconstruction, over the tokens that are no attention sinks:
  r2_flat       1 − Σ(x − x̂)² / Σ(x − mean of all values)²              (one mean for all dimensions)
  explained     1 − Σ(x − x̂)² / Σ_d Σ_t (x_td − x̄_d)²                   (SAELens' explained variance)
  explained_per_dimension   the mean over d of 1 − Σ_t (x_td − x̂_td)² / Σ_t (x_td − x̄_d)²
  ce_recovered  (CE_zero − CE_sae) / (CE_zero − CE_clean), residuals replaced where they are no attention sinks,
                CE of the next token at those places
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from sts_core.progress import Progress, Watcher
from sts_core.train.sae_source import Piece, Reader, batches


@dataclass
class QualitySums:
    """Sums over tokens; two of them over different tokens add to the one over both."""

    fired: Tensor
    """How often each feature fired [features]."""
    value: Tensor
    """Σ x [width]."""
    square: Tensor
    """Σ x² [width]."""
    error: Tensor
    """Σ (x − x̂)² [width]."""
    tokens: int = 0
    dropped: int = 0
    """Attention sinks left out."""
    ce_tokens: int = 0
    ce_clean: float = 0.0
    ce_sae: float = 0.0
    ce_zero: float = 0.0

    @classmethod
    def empty(cls, width: int, features: int) -> QualitySums:
        """Of no tokens."""
        fired, value, square, error = (
            torch.zeros(size, dtype=torch.float64) for size in (features, width, width, width)
        )
        return cls(fired, value, square, error)

    def __add__(self, other: QualitySums) -> QualitySums:
        return QualitySums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def numbers(self) -> dict[str, Any]:
        """The measures, rounded for a person; null where nothing was measured."""
        told: dict[str, Any] = {"tokens": self.tokens, "sinks_left_out": self.dropped}
        names = ("l0", "r2_flat", "explained", "explained_per_dimension", "never_fired_share")
        told |= dict.fromkeys(names, None)
        if self.tokens > 1:  # one token has no variance
            told |= {name: round(number, 5) for name, number in zip(names, self._of_residuals(), strict=True)}
        losses = ("ce_clean", "ce_sae", "ce_zero", "ce_recovered")
        told |= {"ce_tokens": self.ce_tokens, **dict.fromkeys(losses, None)}
        if self.ce_tokens:
            told |= {name: round(number, 5) for name, number in zip(losses, self._of_losses(), strict=True)}
        return told

    def _of_residuals(self) -> tuple[float, ...]:
        spread = self.square - self.value**2 / self.tokens
        flat = self.square.sum() - self.value.sum() ** 2 / (self.tokens * len(self.value))
        return (
            float(self.fired.sum()) / self.tokens,
            1 - float(self.error.sum() / flat),
            1 - float(self.error.sum() / spread.sum()),
            float((1 - self.error / spread)[spread > 0].mean()),
            float((self.fired == 0).double().mean()),
        )

    def _of_losses(self) -> tuple[float, ...]:
        recovered = (self.ce_zero - self.ce_sae) / (self.ce_zero - self.ce_clean)
        return (*(total / self.ce_tokens for total in (self.ce_clean, self.ce_sae, self.ce_zero)), recovered)


def measure_quality(
    reader: Reader, sae: Any, pieces: list[list[Piece]], limit: float, tokens: int, ce_tokens: int, watch: Watcher
) -> list[QualitySums]:
    """Sums for every source, `tokens` and `ce_tokens` spread evenly over them, in whole batches.

    `limit` is the residual norm above which a token is an attention sink. The sums are on the CPU.
    """
    chosen = [_drawn(own, tokens // len(pieces)) for own in pieces]
    everything, done, sums = sum(len(piece.ids) for own in chosen for piece in own), 0, []
    for own in chosen:
        total = QualitySums.empty(reader.width, sae.cfg.d_sae)
        for group in batches(iter(own), seed=0, window=64):
            needs_ce = total.ce_tokens < ce_tokens // len(pieces)
            total += _batch(reader, sae, group, limit, needs_ce)
            done += sum(len(piece.ids) for piece in group)
            watch(Progress("measuring the SAE's quality", done, everything))
        sums.append(total)
    return sums


def _drawn(pieces: list[Piece], tokens: int) -> list[Piece]:
    """Pieces drawn from all documents until they hold `tokens` tokens, or all pieces."""
    taken: list[Piece] = []
    count = 0
    for piece in random.Random(0).sample(pieces, len(pieces)):
        if count >= tokens:
            break
        taken.append(piece)
        count += len(piece.ids)
    return taken


@torch.no_grad()
def _batch(reader: Reader, sae: Any, group: list[Piece], limit: float, needs_ce: bool) -> QualitySums:
    hidden, real = reader.residuals(group)
    kept = real & (hidden.float().norm(dim=-1) <= limit)
    rows = hidden[kept]
    features = sae.encode(rows)
    rebuilt = sae.decode(features)
    x, error = rows.double(), (rows.float() - rebuilt.float()).double()
    sums = QualitySums(
        fired=(features > 0).sum(0).double().cpu(), value=x.sum(0).cpu(), square=(x**2).sum(0).cpu(),
        error=(error**2).sum(0).cpu(), tokens=len(rows), dropped=int(real.sum() - kept.sum()),
    )  # fmt: skip
    if needs_ce:
        sums.ce_tokens, (sums.ce_clean, sums.ce_sae, sums.ce_zero) = _losses(reader, group, kept, rebuilt)
    return sums


def _losses(reader: Reader, group: list[Piece], kept: Tensor, rebuilt: Tensor) -> tuple[int, list[float]]:
    """How many next tokens were judged, and their summed loss: as is, rebuilt, and with the residual zeroed."""

    def put(value: Tensor | float) -> Any:
        def edit(hidden: Tensor) -> Tensor:
            changed = hidden.clone()
            changed[kept] = value.to(hidden.dtype) if isinstance(value, Tensor) else value
            return changed

        return edit

    judged = kept.clone()
    for row, piece in enumerate(group):
        judged[row, len(piece.ids) - 1 :] = False
    losses = []
    for edit in (None, put(rebuilt), put(0.0)):
        logits, ids = reader.logits(group, edit)
        following = ids.roll(-1, dims=1)[judged]
        losses.append(float(torch.nn.functional.cross_entropy(logits[judged].float(), following, reduction="sum")))
    return int(judged.sum()), losses
