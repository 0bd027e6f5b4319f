"""Both arms of a set, side by side through the decoder, in batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sts_core.measure.fold import Fold
from sts_core.measure.parts import Measured
from sts_core.measure.plan import shared_beginning
from sts_core.nets.decoder import Decoder, Prefix
from sts_core.stats.jackknife import MOST_GROUPS, group_of
from sts_core.text.pairs import Pair, PairSet

_BATCH_TOKENS = {"cpu": 2_048, "mps": 4_096, "cuda": 32_768}
MEDIAN_OVER = 512
"""Pooled tokens of the target's base arm that the outlier threshold is taken from."""


class Arms(NamedTuple):
    """The shared beginnings of a set's two arms, run once."""

    base: Prefix
    icl: Prefix


def measure_set(
    decoder: Decoder, sae: Any, pairs: PairSet, most_norm: float | None, target: bool, ran: Callable[[int], None]
) -> Measured:
    """Fold every pooled token of a set; `ran` hears how many tokens went through the model."""
    arms = run_prefixes(decoder, pairs)
    ran(arms.base.length + arms.icl.length)
    fold = Fold(sae.cfg.d_sae, sae.cfg.d_in, target)
    number = {id(pair): i for i, pair in enumerate(pairs.pairs)}
    items = np.bincount([group_of(i, len(pairs.pairs)) for i in range(len(pairs.pairs))], minlength=MOST_GROUPS)
    for batch in _batches(pairs.pairs, _BATCH_TOKENS[decoder.device.type]):
        base, icl = (
            pooled_residuals(decoder, batch, arm, prefix) for arm, prefix in zip(("base", "icl"), arms, strict=True)
        )
        groups = [group_of(number[id(pair)], len(pairs.pairs)) for pair in batch for _ in range(pair.pooled)]
        fold.add(sae, base, icl, torch.tensor(groups, device=base.device), most_norm)
        ran(sum(len(p.base.ids) - arms.base.length + len(p.icl.ids) - arms.icl.length for p in batch))
    return fold.finish(items)


def run_prefixes(decoder: Decoder, pairs: PairSet) -> Arms:
    """Encode what all prompts of an arm begin with, once."""
    first = pairs.pairs[0]
    return Arms(
        *(decoder.prefix(getattr(first, arm).ids[: shared_beginning(pairs.pairs, arm)]) for arm in ("base", "icl"))
    )


def pooled_residuals(decoder: Decoder, batch: list[Pair], arm: str, prefix: Prefix) -> Tensor:
    """The residuals of the pooled tokens of an arm, pair after pair: [tokens, width]."""
    prompts = [getattr(pair, arm) for pair in batch]
    stream = decoder.residuals([prompt.ids[prefix.length :] for prompt in prompts], prefix)
    spans = [(i, start, end) for i, prompt in enumerate(prompts) for start, end in prompt.spans]
    return torch.cat([stream[i, start - prefix.length : end - prefix.length] for i, start, end in spans])


def norm_threshold(decoder: Decoder, target: PairSet, medians: float) -> float:
    """`medians` × the median residual norm of the first 512 pooled target tokens, base arm (METHOD 2)."""
    prefix = run_prefixes(decoder, target).base
    norms: list[Tensor] = []
    for pair in target.pairs:
        norms.append(pooled_residuals(decoder, [pair], "base", prefix).float().norm(dim=-1))
        if sum(len(n) for n in norms) >= MEDIAN_OVER:
            break
    return medians * float(torch.cat(norms)[:MEDIAN_OVER].quantile(0.5))


def _batches(pairs: list[Pair], budget: int) -> Iterator[list[Pair]]:
    """Pairs of like length together, longest first, so that little is padded and memory peaks at once."""
    batch: list[Pair] = []
    for pair in sorted(pairs, key=lambda p: (-len(p.base.ids), p.row)):
        # The first pair of a batch is its longest: it sets the padded length of all.
        if batch and (len(batch) + 1) * len(batch[0].base.ids) > budget:
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch
