"""Both arms of a set, side by side through the decoder, in batches of like length."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sts_core.errors import UserError
from sts_core.measure.fold import Fold
from sts_core.measure.parts import Kept, Measured
from sts_core.measure.plan import shared_beginning
from sts_core.nets.decoder import Prefix
from sts_core.nets.device import hand_back, is_out_of_memory, steady_memory
from sts_core.stats.jackknife import MOST_GROUPS, group_of
from sts_core.text.pairs import Pair, PairSet

_BATCH_TOKENS = {"cpu": 2_048, "mps": 4_096, "cuda": 32_768}
MEDIAN_OVER = 512
"""Pooled tokens of the target's base arm that the outlier threshold is taken from."""
LIKE_LENGTH = 0.75
"""A pair shorter than this share of a batch's longest begins a batch of its own, unless the batch is small."""
KEEP_EVERY = 20.0
"""Seconds between two keepings of a set that is not finished."""


class Reader(Protocol):
    """What hands out residuals: a decoder, or one side of a decoder with an adapter."""

    device: torch.device
    room: int | None

    def prefix(self, ids: list[int]) -> Prefix:
        """Run a shared beginning once."""

    def residuals(self, rows: list[list[int]], prefix: Prefix = ...) -> Tensor:
        """The stream for tokens that follow it."""


class Arm(NamedTuple):
    """One side of the comparison: who reads which prompts, and their shared beginning, run once."""

    reader: Reader
    prompts: str
    """`base` or `icl`."""
    prefix: Prefix


def measure_set(
    decoder: Reader,
    sae: Any,
    pairs: PairSet,
    most_norm: float | None,
    target: bool,
    ran: Callable[[int], None],
    *,
    tuned: Reader | None = None,
    before: Kept | None = None,
    skipped: Callable[[int], None] = lambda _: None,
    keep: Callable[[Kept], None] | None = None,
    examples: int = 0,
    also: Callable[[Tensor, Tensor], None] = lambda _base, _other: None,
) -> Measured:
    """Fold every pooled token of a set; `ran` hears how many tokens went through the model.

    Compares the prompts without and with demonstrations; with a `tuned` model, the prompts without them in both
    models. Keeps so many `examples` a feature. `before` is where an earlier sitting stopped (what it ran is
    `skipped`); `keep` hears now and then where this one stands.
    """
    steady_memory()
    arms = (open_arm(decoder, pairs, "base"), open_arm(tuned or decoder, pairs, "base" if tuned else "icl"))
    ran(sum(arm.prefix.length for arm in arms))
    fold = Fold(sae.cfg.d_sae, sae.cfg.d_in, target, decoder.device, before.measured if before else None, examples)
    count = len(pairs.pairs)
    items, place = items_by_group(count), places(pairs)
    kept_at = time.monotonic()
    for number, batch in enumerate(reading_order(pairs, decoder.device), start=1):
        tokens = sum(len(getattr(p, arm.prompts).ids) - arm.prefix.length for p in batch for arm in arms)
        if before is not None and number <= before.batches:
            skipped(tokens)
            continue
        base, other = (pooled_residuals(arm, batch) for arm in arms)
        hand_back()
        groups = groups_of(batch, place)
        numbers = torch.cat([torch.arange(p.pooled) + place[id(p)][1] for p in batch]).to(base.device)
        fold.add(sae, base, other, groups.to(base.device), most_norm, numbers)
        also(base, other)
        ran(tokens)
        if keep is not None and time.monotonic() - kept_at > KEEP_EVERY:
            keep(Kept(fold.finish(items), number))
            kept_at = time.monotonic()
    return fold.finish(items)


def open_arm(reader: Reader, pairs: PairSet, prompts: str) -> Arm:
    """Encode what all prompts of an arm begin with, once."""
    shared = getattr(pairs.pairs[0], prompts).ids[: shared_beginning(pairs.pairs, prompts)]
    return Arm(reader, prompts, reader.prefix(shared))


def pooled_residuals(arm: Arm, batch: list[Pair]) -> Tensor:
    """The residuals of the pooled tokens of an arm, pair after pair: [tokens, width].

    A batch that does not fit the memory is halved, and no later one is tried that large.
    """
    prompts = [getattr(pair, arm.prompts) for pair in batch]
    rows = [prompt.ids[arm.prefix.length :] for prompt in prompts]
    size = len(rows) * max(len(row) for row in rows)
    reader = arm.reader
    if reader.room is None or size <= reader.room or len(batch) == 1:
        try:
            stream = reader.residuals(rows, arm.prefix)
            spans = [(i, start, end) for i, prompt in enumerate(prompts) for start, end in prompt.spans]
            before = arm.prefix.length
            return torch.cat([stream[i, start - before : end - before] for i, start, end in spans])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise UserError(
                    f"One query of {len(prompts[0].ids):,} tokens does not fit the memory of {reader.device}",
                    "Choose fewer or shorter demonstrations, a smaller model, or another device.",
                ) from error
            reader.room = size // 2
        if reader.device.type == "cuda":
            torch.cuda.empty_cache()
    half = len(batch) // 2
    return torch.cat([pooled_residuals(arm, batch[:half]), pooled_residuals(arm, batch[half:])])


def norm_threshold(decoder: Reader, target: PairSet, medians: float) -> float:
    """`medians` × the median residual norm of the first 512 pooled target tokens, base arm (METHOD 2)."""
    arm = open_arm(decoder, target, "base")
    norms: list[Tensor] = []
    for pair in target.pairs:
        norms.append(pooled_residuals(arm, [pair]).float().norm(dim=-1))
        if sum(len(n) for n in norms) >= MEDIAN_OVER:
            break
    return medians * float(torch.cat(norms)[:MEDIAN_OVER].quantile(0.5))


def reading_order(pairs: PairSet, device: torch.device) -> Iterator[list[Pair]]:
    """The batches in which a device reads a set: the same every time."""
    return batches(pairs.pairs, _BATCH_TOKENS[device.type])


def batches(pairs: list[Pair], budget: int) -> Iterator[list[Pair]]:
    """Pairs of like length together, longest first, so that little is padded and memory peaks at once."""
    batch: list[Pair] = []
    for pair in sorted(pairs, key=lambda p: (-len(p.base.ids), p.row)):
        if batch:
            # The first pair of a batch is its longest: it sets the padded length of all.
            longest, size = len(batch[0].base.ids), len(batch) * len(batch[0].base.ids)
            much_padded = len(pair.base.ids) < LIKE_LENGTH * longest and size >= budget / 4
            if size + longest > budget or much_padded:
                yield batch
                batch = []
        batch.append(pair)
    if batch:
        yield batch


def items_by_group(count: int) -> np.ndarray:
    """How many of so many queries each jackknife group holds: [groups]."""
    return np.bincount([group_of(i, count) for i in range(count)], minlength=MOST_GROUPS)


def groups_of(batch: list[Pair], place: dict[int, tuple[int, int]]) -> Tensor:
    """The jackknife group of every pooled token of a batch: [tokens]; `place` is that of the batch's set."""
    return torch.tensor([group_of(place[id(p)][0], len(place)) for p in batch for _ in range(p.pooled)])


def places(pairs: PairSet) -> dict[int, tuple[int, int]]:
    """A pair -> its position among the queries, and how many pooled tokens stand before it."""
    places, before = {}, 0
    for position, pair in enumerate(pairs.pairs):
        places[id(pair)] = (position, before)
        before += pair.pooled
    return places
