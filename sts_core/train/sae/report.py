"""How good a SAE is, on text it was not trained on: sums that add up over batches, and the numbers they give.

With x the residuals [tokens, width], x̂ their reconstruction, over the tokens that are no attention sinks:
  r2_flat       1 − Σ(x − x̂)² / Σ(x − mean of all values)²              (one mean for all dimensions)
  explained     1 − Σ(x − x̂)² / Σ_d Σ_t (x_td − x̄_d)²                   (SAELens' explained variance)
  explained_per_dimension   the mean over d of 1 − Σ_t (x_td − x̂_td)² / Σ_t (x_td − x̄_d)²
  never_fired_share, dense_share   features that fire on none of the tokens, on more than a tenth of them
  ce_recovered  (CE_zero − CE_sae) / (CE_zero − CE_clean), residuals replaced where they are no attention sinks,
                CE of the next token at those places
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sts_core.progress import Progress, Watcher
from sts_core.train.sae.reader import Reader, Seen
from sts_core.train.sae.source import Piece, batches

_DENSE = 0.1
"""A feature that fires on more than this share of the tokens is dense."""
_AT_ONCE = 2048
"""Tokens that are encoded at a time."""
_LOGITS_AT_ONCE = 1 << 28
"""Logits that are held at a time: tokens times vocabulary."""


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
        names = ("l0", "r2_flat", "explained", "explained_per_dimension", "never_fired_share", "dense_share")
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
            float((self.fired > _DENSE * self.tokens).double().mean()),
        )

    def _of_losses(self) -> tuple[float, ...]:
        recovered = (self.ce_zero - self.ce_sae) / (self.ce_zero - self.ce_clean)
        return (*(total / self.ce_tokens for total in (self.ce_clean, self.ce_sae, self.ce_zero)), recovered)


class Candidate(NamedTuple):
    """A finished SAE and the residuals it is for."""

    sae: Any
    layer: int
    limit: float
    """Norm above which a token is an attention sink."""


def drawn(pieces: list[list[Piece]], tokens: int) -> list[list[Piece]]:
    """Of every source pieces drawn from all its documents, until they hold its even part of `tokens`, or all."""
    chosen: list[list[Piece]] = []
    for own in pieces:
        taken: list[Piece] = []
        count = 0
        for piece in random.Random(0).sample(own, len(own)):
            if count >= tokens // len(pieces):
                break
            taken.append(piece)
            count += len(piece.ids)
        chosen.append(taken)
    return chosen


def measure_quality(
    reader: Reader, candidates: dict[str, Candidate], pieces: list[list[Piece]], ce_tokens: int, watch: Watcher
) -> dict[str, list[QualitySums]]:
    """For every SAE the sums of every source, from one pass over the pieces; `ce_tokens` are spread evenly over them.

    The sums are on the CPU.
    """
    everything, done = sum(map(_tokens, pieces)), 0
    sums: dict[str, list[QualitySums]] = {name: [] for name in candidates}
    for own in pieces:
        totals = {name: QualitySums.empty(reader.width, c.sae.cfg.d_sae) for name, c in candidates.items()}
        left, judged = _tokens(own), 0
        for group in batches(iter(own), seed=0, window=64):
            wanted = math.ceil((ce_tokens // len(pieces) - judged) * min(1.0, _tokens(group) / left))
            found = _group(reader, candidates, group, wanted)
            judged += max(one.ce_tokens for one in found.values())
            left -= _tokens(group)
            totals = {name: total + found[name] for name, total in totals.items()}
            done += _tokens(group)
            watch(Progress("measuring the SAE's quality", done, everything))
        for name, total in totals.items():
            sums[name].append(total)
    return sums


def _tokens(pieces: list[Piece]) -> int:
    return sum(len(piece.ids) for piece in pieces)


@torch.no_grad()
def _group(
    reader: Reader, candidates: dict[str, Candidate], group: list[Piece], ce_tokens: int
) -> dict[str, QualitySums]:
    seen = reader.read(group, {candidate.layer for candidate in candidates.values()})
    losses = _Losses(reader, seen, ce_tokens) if ce_tokens > 0 else None
    return {name: _one(seen, candidate, losses) for name, candidate in candidates.items()}


def _one(seen: Seen, candidate: Candidate, losses: _Losses | None) -> QualitySums:
    """The sums of one SAE over one group."""
    hidden, sae = seen.hidden[candidate.layer], candidate.sae
    kept = seen.real & (hidden.float().norm(dim=-1) <= candidate.limit)
    sums = QualitySums.empty(hidden.shape[-1], sae.cfg.d_sae)
    rebuilt: list[Tensor] = []
    for rows in hidden[kept].split(_AT_ONCE):
        features = sae.encode(rows)
        rebuilt.append(sae.decode(features))
        x, error = rows.double(), (rows.float() - rebuilt[-1].float()).double()
        sums += QualitySums(
            fired=(features > 0).sum(0).double().cpu(), value=x.sum(0).cpu(), square=(x**2).sum(0).cpu(),
            error=(error**2).sum(0).cpu(), tokens=len(rows),
        )  # fmt: skip
    sums.dropped = int(seen.real.sum()) - sums.tokens
    if losses and rebuilt:
        edited = hidden.clone()
        edited[kept] = torch.cat(rebuilt).to(hidden.dtype)
        losses.add_to(sums, candidate.layer, kept, edited)
    return sums


class _Losses:
    """The next-token losses of one group: as is and zeroed once for all SAEs, rebuilt for each.

    Of the group some pieces are judged, drawn from all lengths: as many as hold `tokens` tokens.
    """

    def __init__(self, reader: Reader, seen: Seen, tokens: int) -> None:
        self._reader, self._seen = reader, seen
        order = torch.randperm(len(seen.real), generator=torch.Generator().manual_seed(0)).to(seen.real.device)
        lengths = seen.real.sum(1)[order]
        self._real = seen.real & seen.real.roll(-1, dims=1)  # the last token has no next
        self._real[:, -1] = False
        self._real[order[lengths.cumsum(0) - lengths >= tokens]] = False
        deepest = max(seen.hidden)
        self._clean = self._at(self._real, deepest, seen.hidden[deepest])
        self._zero: dict[int, float] = {}

    def add_to(self, sums: QualitySums, layer: int, kept: Tensor, rebuilt: Tensor) -> None:
        """Fill in the losses of a SAE; `kept` are the places that are no attention sinks."""
        judged = self._real & kept
        hidden = self._seen.hidden[layer]
        sums.ce_tokens = int(judged.sum())
        sums.ce_clean = float(self._clean[judged].sum())
        sums.ce_sae = float(self._at(judged, layer, rebuilt)[judged].sum())
        if layer not in self._zero:  # the SAEs of a layer have one limit, so the same places are zeroed
            zeroed = hidden.masked_fill(kept[..., None], 0.0)
            self._zero[layer] = float(self._at(judged, layer, zeroed)[judged].sum())
        sums.ce_zero = self._zero[layer]

    def _at(self, judged: Tensor, layer: int, hidden: Tensor) -> Tensor:
        """Losses at the judged places [pieces, longest], 0 elsewhere, some pieces at a time."""
        losses = torch.zeros(judged.shape, dtype=torch.float64, device=judged.device)
        rows = judged.any(1).nonzero().squeeze(1)
        for some in rows.split(max(1, _LOGITS_AT_ONCE // (judged.shape[1] * self._reader.vocabulary))):
            found = self._reader.losses(self._seen.ids[some], judged[some], layer, hidden[some])
            losses[some] = losses[some].masked_scatter(judged[some], found.double())
        return losses
