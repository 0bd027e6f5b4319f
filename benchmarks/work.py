"""How much arithmetic the engine has to do, and how fast this machine does nothing but that.

Counted are the matrix products of the blocks that are run, attention's products with the keys a token may look at, and
the SAE's encoder; not norms, activation functions, or the sums that features are folded into. The rate is measured with
products of the model's own shapes, so a share of 100 % would mean that all else costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import linear
from transformers import PreTrainedConfig

from sts_core.measure.plan import shared_beginning
from sts_core.text.pairs import PairSet

Shape = tuple[int, int]
_SECONDS = 0.5
"""How long a rate is measured for, at least."""


class Sizes(NamedTuple):
    """What the cost of a Llama-like block depends on."""

    width: int
    mlp: int
    heads: int
    shared_heads: int
    head: int
    blocks: int
    """Blocks that are run."""

    def products(self) -> list[Shape]:
        """The matrices of a block, inputs by outputs: queries, keys, values, output, and a gated MLP."""
        asked, shared = self.heads * self.head, self.shared_heads * self.head
        return [
            (self.width, asked), (self.width, shared), (self.width, shared), (asked, self.width),
            (self.width, self.mlp), (self.width, self.mlp), (self.mlp, self.width),
        ]  # fmt: skip


def sizes_of(config: PreTrainedConfig, blocks: int) -> Sizes:
    """Read them from a configuration."""
    heads = config.num_attention_heads
    return Sizes(
        config.hidden_size, config.intermediate_size, heads, getattr(config, "num_key_value_heads", None) or heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads, blocks,
    )  # fmt: skip


def model_flops(sizes: Sizes, pairs: PairSet) -> float:
    """What the engine has to do for a set: the shared beginning of an arm once, the rest of every query."""
    total = 0.0
    for arm in ("base", "icl"):
        shared = shared_beginning(pairs.pairs, arm)
        total += _run(sizes, 0, shared)
        total += sum(_run(sizes, shared, len(getattr(pair, arm).ids)) for pair in pairs.pairs)
    return total


def sae_flops(width: int, features: int, pooled: int) -> float:
    """Both arms through the encoder."""
    return 2.0 * 2 * width * features * pooled


def matmul_rate(shapes: Sequence[Shape], rows: int, device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second over products [rows, inputs] × [inputs, outputs]: the best of many rounds."""
    work = [
        (torch.randn(rows, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype))
        for k, n in shapes
    ]
    flops = sum(2.0 * rows * k * n for k, n in shapes)
    best, began, rounds = float("inf"), time.perf_counter(), 0
    with torch.inference_mode():
        while rounds < 3 or time.perf_counter() - began < _SECONDS:
            wait(device)
            start = time.perf_counter()
            for x, weight in work:
                linear(x, weight)
            wait(device)
            best, rounds = min(best, time.perf_counter() - start), rounds + 1
    return flops / best


def wait(device: torch.device) -> None:
    """Let the device finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _run(sizes: Sizes, first: int, end: int) -> float:
    """Tokens at places [first, end) through all blocks; a token looks at itself and all before it."""
    matrices = 2.0 * sum(k * n for k, n in sizes.products()) * (end - first)
    keys = (end * (end + 1) - first * (first + 1)) / 2
    return sizes.blocks * (matrices + 4.0 * sizes.heads * sizes.head * keys)
