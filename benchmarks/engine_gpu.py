"""The paper's whole budget on one large GPU, with a model of Qwen2.5-7B's shape and random weights.

    python -m benchmarks.engine_gpu                  # needs CUDA and about 40 GB on it
    python -m benchmarks.engine_gpu --shrink         # the same path, tiny and on the processor: shows that it runs

28 blocks of which 26 are run, in bfloat16, built on the device; random JumpReLU SAEs of 28,672 and 131,072 features.
20,000 pooled tokens of the target set behind 2 demonstrations of 4,000 tokens, and 10,000 of each of fourteen domains
behind 5 of 250, both arms. Seconds count from the moment all is loaded; the matmul rate is measured in the same run.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that `python benchmarks/engine_gpu.py` works too

import sts_core  # noqa: F401  before torch: it sets how threads wait

# isort: split
import torch
from transformers import Qwen2Config

from benchmarks import items, made, work
from sts_core.errors import UserError
from sts_core.measure.passes import measure_set, norm_threshold
from sts_core.nets.decoder import Decoder
from sts_core.nets.device import cpu_name
from sts_core.text.pairs import PairSet

FASTEST, SHARE = 12.0, 0.5
"""What is promised: seconds for the whole budget, share of the matmul rate."""


class Size(NamedTuple):
    """What is built and how much is measured."""

    model: dict[str, int]
    layer: int
    features: tuple[int, ...]
    query: int
    target: tuple[int, int]
    """Pooled tokens, and tokens of the demonstrations before each query."""
    domain: tuple[int, int]
    domains: int
    rows: int
    """Rows of the products that the matmul rate is measured with."""


PAPER = Size(
    {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
     "num_key_value_heads": 4, "vocab_size": 8192, "max_position_embeddings": 32768},
    layer=25, features=(28_672, 131_072), query=100, target=(20_000, 2 * 4_000), domain=(10_000, 5 * 250),
    domains=14, rows=16_384,
)  # fmt: skip
SHRUNK = Size(
    {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
     "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 512},
    layer=2, features=(256, 512), query=20, target=(200, 80), domain=(100, 50), domains=2, rows=64,
)  # fmt: skip


class Outcome(NamedTuple):
    """The whole budget with one SAE."""

    features: int
    seconds: float
    prompt_tokens: int
    """Tokens that went through the model."""
    pooled: int
    ideal: float
    """Seconds that the counted arithmetic takes at the measured rate."""
    memory: int
    """Bytes on the device at the most; 0 without CUDA."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 measured; 2 there is no CUDA device here."""
    parser = argparse.ArgumentParser(prog="benchmarks.engine_gpu", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--shrink", action="store_true", help="tiny, on the processor; its figures mean nothing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    try:
        _run(options.shrink, options.seed)
    except UserError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return 2
    return 0


def _run(shrink: bool, seed: int) -> None:
    if not shrink and not torch.cuda.is_available():
        raise UserError("There is no CUDA device here", "Run it on a machine with a large GPU, or see --shrink.")
    size, device = (SHRUNK, torch.device("cpu")) if shrink else (PAPER, torch.device("cuda", 0))
    dtype = "float32" if shrink else "bfloat16"
    config = Qwen2Config(**size.model, bos_token_id=None, eos_token_id=None)
    decoder = Decoder(made.random_model(config, str(device), dtype, seed), size.layer)
    sets = budget(size, seed)
    sizes = work.sizes_of(config, size.layer + 1)
    rate = work.matmul_rate(sizes.products(), size.rows, device, getattr(torch, dtype))
    outcomes = []
    for features in size.features:
        sae = made.random_sae("jumprelu", size.layer, sizes.width, features, str(device), dtype, seed)
        outcomes.append(measure(decoder, sae, sets, sizes, rate, warm=_warm(size, seed)))
        del sae
    print(_head(device, rate, dtype, seed, shrink))
    print(_table(outcomes))


def budget(size: Size, seed: int) -> list[PairSet]:
    """The target set first, then the domains."""
    asked = [size.target] + [size.domain] * size.domains
    return [
        items.from_noise(size.model["vocab_size"], items.HEAD + before, size.query, tokens, seed + number)
        for number, (tokens, before) in enumerate(asked)
    ]


def measure(decoder: Decoder, sae: Any, sets: list[PairSet], sizes: work.Sizes, rate: float, warm: PairSet) -> Outcome:
    """All sets as a run does them, the outlier threshold first. A small set goes before, so that kernels are loaded."""
    device = decoder.device
    measure_set(decoder, sae, warm, None, True, lambda _tokens: None)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run = 0

    def ran(tokens: int) -> None:
        nonlocal run
        run += tokens

    work.wait(device)
    start = time.perf_counter()
    most_norm = norm_threshold(decoder, sets[0], 8.0)
    pooled = 0
    for number, pairs in enumerate(sets):
        pooled += int(measure_set(decoder, sae, pairs, most_norm, number == 0, ran).sums.tokens.sum())
    work.wait(device)
    seconds = time.perf_counter() - start
    flops = sum(work.model_flops(sizes, pairs) for pairs in sets)
    flops += sum(work.sae_flops(sizes.width, sae.cfg.d_sae, pairs.tokens) for pairs in sets)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Outcome(sae.cfg.d_sae, seconds, run, pooled, flops / rate, memory)


def _warm(size: Size, seed: int) -> PairSet:
    return items.from_noise(size.model["vocab_size"], items.HEAD + size.query, size.query, 8 * size.query, seed + 999)


def _head(device: torch.device, rate: float, dtype: str, seed: int, shrink: bool) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers", "sae-lens"))
    shape = (
        "Shrunken shapes: these figures mean nothing." if shrink else "Qwen2.5-7B's shape, block 25, random weights."
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {name}, Python {platform.python_version()}, {packages}; {dtype}, seed {seed}.\n"
        f"{shape} Matmul rate measured in this run: {rate / 1e12:,.2f} TFLOP/s.\n"
    )


def _table(outcomes: Sequence[Outcome]) -> str:
    lines = [
        "| features | seconds after loading | tokens run | pooled tokens | share of matmul rate | GB on the device "
        f"| ≤ {FASTEST:g} s | ≥ {SHARE:.0%} |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for o in outcomes:
        share = o.ideal / o.seconds
        fast, full = ("yes" if holds else "NO" for holds in (o.seconds <= FASTEST, share >= SHARE))
        lines.append(
            f"| {o.features:,} | {o.seconds:.2f} | {o.prompt_tokens:,} | {o.pooled:,} | {share:.1%} "
            f"| {o.memory / 1e9:.1f} | {fast} | {full} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
