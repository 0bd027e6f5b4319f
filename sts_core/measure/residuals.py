"""A set's residuals without a SAE: what the raw baselines of METHOD 6 are made of.

The base arm of a set's own queries is read; residuals exist for one batch and are folded into sums.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sts_core.measure.fold import GroupSums
from sts_core.measure.passes import (
    Reader,
    groups_of,
    items_by_group,
    open_arm,
    places,
    pooled_residuals,
    reading_order,
)
from sts_core.nets.device import hand_back, steady_memory
from sts_core.results.sums import SetSums
from sts_core.stats.jackknife import MOST_GROUPS
from sts_core.text.pairs import PairSet

QUANTITIES = ("base", "abs_base")
"""Σ r and Σ |r| over a set's tokens."""


def raw_sums(
    reader: Reader, pairs: PairSet, width: int, most_norm: float | None, ran: Callable[[int], None]
) -> SetSums:
    """The residuals of a set's pooled tokens, by jackknife group; those above `most_norm` stay out, as they did before.

    `ran` hears how many tokens went through the model.
    """
    steady_memory()
    arm = open_arm(reader, pairs, "base")
    ran(arm.prefix.length)
    place, items = places(pairs), items_by_group(len(pairs.pairs))
    sums = GroupSums(SetSums.zeros(QUANTITIES, width), reader.device)
    tokens = np.zeros(MOST_GROUPS)
    for batch in reading_order(pairs, reader.device):
        residuals = pooled_residuals(arm, batch).float()
        groups = groups_of(batch, place).to(residuals.device)
        hand_back()
        if most_norm is not None:
            keep = residuals.norm(dim=-1) <= most_norm
            residuals, groups = residuals[keep], groups[keep]
        tokens += np.bincount(groups.cpu().numpy(), minlength=MOST_GROUPS)
        sums.add(residuals, residuals, groups)
        ran(sum(len(pair.base.ids) - arm.prefix.length for pair in batch))
    return sums.read(tokens, items)
