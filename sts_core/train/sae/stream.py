"""Residuals of several layers from one pass over the text, without attention sinks, as fast as the SAEs take them.

What one layer takes is read for all of them; what another has not taken yet waits in its queue. Every layer has its own
limit for attention sinks and its own scale, both from a first look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sts_core.errors import UserError
from sts_core.train.sae.reader import Reader
from sts_core.train.sae.source import Piece

_FIRST_LOOK = 16_384
"""Tokens from which the norm's median, the mean and the scale are taken before training."""


class Scale(NamedTuple):
    """What a first look at a layer's residuals tells."""

    limit: float
    """Norm above which a token is an attention sink."""
    factor: float
    """Brings the mean norm to √width."""
    mean: Tensor
    sample: Tensor
    """Residuals [some, width] in no particular order."""


class Stream:
    """The pass: which groups were read, of which corpus, and what was left out."""

    def __init__(self, reader: Reader, groups: Iterator[list[Piece]], corpora: int, layers: list[int]) -> None:
        self.reader = reader
        self.given = 0
        """Groups read."""
        self.tokens = [0] * corpora
        self.dropped = dict.fromkeys(layers, 0)
        """Attention sinks left out, by layer."""
        self.limits = dict.fromkeys(layers, float("inf"))
        self._groups = groups
        self._waiting: dict[int, deque[Tensor]] = {layer: deque() for layer in layers}

    def first_look(self, outliers: float) -> dict[int, Scale]:
        """Read some residuals, set the limits from them, and keep them: they are trained on, too."""
        while sum(self.tokens) < _FIRST_LOOK:
            self._read()
        return {layer: self._look(layer, outliers) for layer in sorted(self._waiting)}

    def go_on(self, given: int) -> None:
        """Stand where a stream of the same spec stood after so many groups."""
        for _ in range(given):
            next(self._groups)
        self.given = given

    def forget(self, layer: int) -> None:
        """This layer is not needed any more."""
        self._waiting.pop(layer, None)

    def rows(self, layer: int, watch: Callable[[int], None]) -> Iterator[Tensor]:
        """Residuals [some, width] of a layer without end; `watch` hears how many before each."""
        queue = self._waiting[layer]
        while True:
            while not queue:
                self._read()
            rows = queue.popleft()
            watch(len(rows))
            yield rows

    def _read(self) -> None:
        group = next(self._groups)
        self.given += 1
        for piece in group:
            self.tokens[piece.corpus] += len(piece.ids)
        seen = self.reader.read(group, self._waiting)
        for layer, hidden in seen.hidden.items():
            rows = hidden[seen.real]
            kept = rows[rows.float().norm(dim=-1) <= self.limits[layer]]
            self.dropped[layer] += len(rows) - len(kept)
            self._waiting[layer].append(kept)

    def _look(self, layer: int, outliers: float) -> Scale:
        seen = torch.cat(list(self._waiting[layer]))
        norms = seen.float().norm(dim=-1)
        limit = self.limits[layer] = outliers * float(norms.median())
        kept = seen[norms <= limit]
        if not len(kept):
            raise UserError(f"outliers = {outliers} leaves no token to train on", "Give a number well above 1.")
        self.dropped[layer] = len(seen) - len(kept)
        self._waiting[layer].clear()
        self._waiting[layer].append(kept)
        usual = kept.float()[torch.randperm(len(kept)).to(kept.device)]
        return Scale(limit, self.reader.width**0.5 / float(usual.norm(dim=-1).mean()), usual.mean(0), usual)
