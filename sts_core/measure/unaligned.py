"""The pass of `preset = "reference"`: row t of one arm against row t of the other, whatever tokens they are (METHOD 8).

The two arms are collected apart, in the order of the file, up to 10,000 rows each. So residuals are held for that many
rows (not features), and are encoded in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sts_core.measure.fold import Fold
from sts_core.measure.parts import Measured
from sts_core.measure.passes import Arm, Reader, pooled_residuals
from sts_core.nets.decoder import EMPTY
from sts_core.stats.jackknife import MOST_GROUPS, group_of
from sts_core.text.pairs import Pair, PairSet
from sts_core.text.reference import MOST_ROWS

_BATCH = 4


def measure_unaligned(decoder: Reader, sae: Any, pairs: PairSet, target: bool, ran: Callable[[int], None]) -> Measured:
    """Fold the first rows of both arms, paired by their number. Groups are those of the base arm's items."""
    base, icl = (_collect(Arm(decoder, arm, EMPTY), pairs.pairs, ran) for arm in ("base", "icl"))
    rows = min(len(base), len(icl))
    sizes = [len(pair.base.ids) for pair in pairs.pairs]
    item_of_row = np.repeat(np.arange(len(sizes)), sizes)[:rows]
    used = int(item_of_row[-1]) + 1
    groups = torch.tensor([group_of(int(item), used) for item in item_of_row])
    fold = Fold(sae.cfg.d_sae, sae.cfg.d_in, target, decoder.device)
    fold.add(sae, base[:rows], icl[:rows], groups.to(base.device), None)
    return fold.finish(np.bincount([group_of(i, used) for i in range(used)], minlength=MOST_GROUPS))


def _collect(arm: Arm, pairs: list[Pair], ran: Callable[[int], None]) -> Tensor:
    """The first 10,000 rows of an arm, [rows, width]; items beyond them are not run."""
    parts: list[Tensor] = []
    rows = 0
    for batch in _few(pairs):
        tokens = sum(len(getattr(pair, arm.prompts).ids) for pair in batch)
        if rows < MOST_ROWS:
            parts.append(pooled_residuals(arm, batch))
            rows += tokens
        ran(tokens)
    return torch.cat(parts)[:MOST_ROWS]


def _few(pairs: list[Pair]) -> Iterator[list[Pair]]:
    """Some neighbours at a time: the order of the file is kept."""
    for start in range(0, len(pairs), _BATCH):
        yield pairs[start : start + _BATCH]
