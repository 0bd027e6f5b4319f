"""How good a SAE is, on text it was not trained on: sums that add up over batches, and the numbers they give.

With x the residuals [tokens, width], x̂ their reconstruction, over the tokens that are no attention sinks:
  r2_flat       1 − Σ(x − x̂)² / Σ(x − mean of all values)²              (one mean for all dimensions)
  explained     1 − Σ(x − x̂)² / Σ_d Σ_t (x_td − x̄_d)²                   (SAELens' explained variance)
  explained_per_dimension   the mean over d of 1 − Σ_t (x_td − x̂_td)² / Σ_t (x_td − x̄_d)²
  ce_recovered  (CE_zero − CE_sae) / (CE_zero − CE_clean), residuals replaced where they are no attention sinks,
                CE of the next token at those places
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from sts_core.progress import Progress, Watcher
from sts_core.train.sae_source import Piece, Reader, batches


@dataclass
class QualitySums:
    """Sums over tokens; two of them over different tokens add to the one over both."""

    width: int
    features: int
    tokens: int = 0
    dropped: int = 0
    """Attention sinks left out."""
    active: float = 0.0
    """Features active, summed over tokens."""
    fired: Tensor | None = None
    """How often each feature fired [features]."""
    value: Tensor | None = None
    """Σ x [width]."""
    square: Tensor | None = None
    """Σ x² [width]."""
    error: Tensor | None = None
    """Σ (x − x̂)² [width]."""
    ce_tokens: int = 0
    ce_clean: float = 0.0
    ce_sae: float = 0.0
    ce_zero: float = 0.0

    def __post_init__(self) -> None:
        for name, size in (("fired", self.features), ("value", self.width), ("square", self.width), ("error", self.width)):
            if getattr(self, name) is None:
                setattr(self, name, torch.zeros(size, dtype=torch.float64))

    def __add__(self, other: QualitySums) -> QualitySums:
        added = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name not in _SIZES}
        return QualitySums(self.width, self.features, **added)

    def numbers(self) -> dict[str, Any]:
        """The measures, rounded for a person; null where nothing was measured."""
        assert_filled = (self.fired, self.value, self.square, self.error)
        fired, value, square, error = (part for part in assert_filled if part is not None)
        n = max(self.tokens, 1)
        spread = square - value**2 / n
        flat = float(square.sum() - value.sum() ** 2 / (n * self.width))
        varied = spread > 0
        ce = [total / self.ce_tokens if self.ce_tokens else None for total in (self.ce_clean, self.ce_sae, self.ce_zero)]
        lost = self.ce_zero - self.ce_clean
        return {
            "tokens": self.tokens,
            "sinks_left_out": self.dropped,
            "l0": _rounded(self.active / n) if self.tokens else None,
            "r2_flat": _rounded(1 - float(error.sum()) / flat) if flat > 0 else None,
            "explained": _rounded(1 - float(error.sum() / spread.sum())) if bool(varied.any()) else None,
            "explained_per_dimension": _rounded(float((1 - error[varied] / spread[varied]).mean())) if bool(varied.any()) else None,
            "never_fired_share": _rounded(float((fired == 0).double().mean())),
            "ce_tokens": self.ce_tokens,
            "ce_clean": _rounded(ce[0]),
            "ce_sae": _rounded(ce[1]),
            "ce_zero": _rounded(ce[2]),
            "ce_recovered": _rounded((self.ce_zero - self.ce_sae) / lost) if self.ce_tokens and lost else None,
        }


_SIZES = ("width", "features")


def measure_quality(
    reader: Reader, sae: Any, pieces: list[list[Piece]], limit: float, tokens: int, ce_tokens: int, watch: Watcher
) -> list[QualitySums]:
    """Sums for every source, `tokens` and `ce_tokens` spread evenly over them, in whole batches.

    `limit` is the residual norm above which a token is an attention sink. The sums are on the CPU.
    """
    everything, done = len(pieces) * (tokens // len(pieces)), 0
    sums = []
    for own in pieces:
        total = QualitySums(reader.width, sae.cfg.d_sae)
        for group in _up_to(own, tokens // len(pieces)):
            needs_ce = total.ce_tokens < ce_tokens // len(pieces)
            total += _batch(reader, sae, group, limit, needs_ce)
            watch(Progress("measuring the SAE's quality", min(done + total.tokens, everything), everything))
        done += total.tokens
        sums.append(total)
    return sums


def _up_to(pieces: list[Piece], tokens: int) -> Iterator[list[Piece]]:
    """Batches of the first pieces that hold `tokens` tokens, or of all of them."""
    taken, count = [], 0
    for piece in pieces:
        if count >= tokens:
            break
        taken.append(piece)
        count += len(piece.ids)
    return batches(iter(taken), seed=0, window=64)


@torch.no_grad()
def _batch(reader: Reader, sae: Any, group: list[Piece], limit: float, needs_ce: bool) -> QualitySums:
    hidden, real = reader.residuals(group)
    kept = real & (hidden.float().norm(dim=-1) <= limit)
    rows = hidden[kept]
    features = sae.encode(rows)
    rebuilt = sae.decode(features)
    x, error = rows.double(), (rows.float() - rebuilt.float()).double()
    sums = QualitySums(
        reader.width, sae.cfg.d_sae,
        tokens=len(rows), dropped=int(real.sum() - kept.sum()),
        active=float((features > 0).sum()), fired=(features > 0).sum(0).double().cpu(),
        value=x.sum(0).cpu(), square=(x**2).sum(0).cpu(), error=(error**2).sum(0).cpu(),
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


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
