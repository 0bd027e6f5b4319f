"""One side of a comparison, in a process of its own so that its memory is its own.

    python -m benchmarks.side '{"side": "ours", "model": "tiny", …}'

reads a `Task` as JSON and prints a `Report` as JSON. The parent is `benchmarks/engine.py`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import sts_core  # noqa: F401  before torch: it sets how threads wait, for both sides alike

# isort: split
import numpy as np
import torch
from torch import Tensor

from benchmarks import items, made, meter, rival, work
from benchmarks.task import TINY, Report, Task
from sts_core.measure.passes import measure_set
from sts_core.nets.decoder import Decoder, load_decoder
from sts_core.nets.describe import find_model, find_sae
from sts_core.nets.saes import load_sae
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.text.pairs import PairSet

_TINY_QUERY = 100
_RATE_ROWS = 2_048
_MOST_LOGITS = 2e9
"""Bytes of logits above which the rival does not try a padded batch."""


def run(task: Task) -> Report:
    """Load, build the same queries as the other side, measure."""
    sae = (
        load_sae(find_sae(task.sae), "cpu", "float32")
        if task.sae
        else made.random_sae("standard", task.layer, _width(task), task.features, "cpu", "float32", task.seed)
    )
    return _ours(task, sae) if task.side == "ours" else _rival(task, sae)


def _ours(task: Task, sae: Any) -> Report:
    if task.model == TINY:
        decoder = Decoder(made.random_model(made.tiny_config(), "cpu", task.dtype, task.seed), task.layer)
    else:
        decoder = load_decoder(find_model(task.model), task.layer, "cpu", task.dtype)
    own = meter.settle()
    pairs = _pairs(task)
    marks: list[tuple[int, float]] = []

    def once() -> Tensor:
        start, run_so_far = time.perf_counter(), 0
        marks.clear()

        def ran(tokens: int) -> None:
            nonlocal run_so_far
            run_so_far += tokens
            marks.append((run_so_far, time.perf_counter() - start))

        measured = measure_set(decoder, sae, pairs, None, True, ran)
        shift = torch.from_numpy(measured.sums.mean("absdiff"))
        torch.sort(shift, descending=True, stable=True)
        return shift

    shift, cost = meter.measured(once, task.repeats, task.seconds, own)
    _keep(task, shift)
    sizes = work.sizes_of(_config(task), task.layer + 1)
    cpu = torch.device("cpu")
    rate = work.matmul_rate(sizes.products(), _RATE_ROWS, cpu, getattr(torch, task.dtype))
    sae_rate = work.matmul_rate([(sizes.width, sae.cfg.d_sae)], _RATE_ROWS, cpu, torch.float32)
    ideal = work.model_flops(sizes, pairs) / rate
    ideal += work.sae_flops(sizes.width, sae.cfg.d_sae, pairs.tokens) / sae_rate
    return Report(*_size(pairs), cost, 0, ideal, rate, marks)


def _rival(task: Task, sae: Any) -> Report:
    if task.model == TINY:
        model = made.random_model(made.tiny_config(), "cpu", task.dtype, task.seed, head=True)
    else:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            find_model(task.model).folder, dtype=getattr(torch, task.dtype), use_safetensors=True
        ).eval()
        for weight in model.parameters():
            weight.isfinite().all()  # read once, so that weights mapped from the file count as the model's own
    own = meter.settle()
    pairs = _pairs(task)
    batch = _better_batch(model, sae, task, pairs)
    shift, cost = meter.measured(
        lambda: rival.shift(model, sae, task.layer, pairs.pairs, batch), task.repeats, task.seconds, own
    )
    _keep(task, shift)
    return Report(*_size(pairs), cost, batch, 0.0, 0.0, [])


def _better_batch(model: Any, sae: Any, task: Task, pairs: PairSet) -> int:
    """The faster of the batch sizes, tried on a few queries; this is the rival's warm-up as well."""
    longest = max(len(pair.icl.ids) for pair in pairs.pairs)
    a_row = longest * model.config.vocab_size * model.dtype.itemsize
    tried: dict[int, float] = {}
    for batch in task.batches:
        if batch == 1 or (batch * a_row <= _MOST_LOGITS and batch <= len(pairs.pairs)):
            few = pairs.pairs[: max(task.batches) if a_row * max(task.batches) <= _MOST_LOGITS else 1]
            start = time.perf_counter()
            rival.shift(model, sae, task.layer, few, batch)
            tried[batch] = time.perf_counter() - start
    return min(tried, key=lambda size: tried[size])


def _pairs(task: Task) -> PairSet:
    if task.model == TINY:
        wanted = max(task.tokens, task.items * _TINY_QUERY)
        return items.from_noise(made.TINY_VOCABULARY, task.prefix, _TINY_QUERY, wanted, task.seed)
    tokenizer = load_tokenizer(find_model(task.model))
    return items.from_rows(Path(task.data), tokenizer, task.prefix, task.items, task.tokens, task.seed)


def _config(task: Task) -> Any:
    from transformers import AutoConfig

    return made.tiny_config() if task.model == TINY else AutoConfig.from_pretrained(find_model(task.model).folder)


def _width(task: Task) -> int:
    return int(_config(task).hidden_size)


def _size(pairs: PairSet) -> tuple[int, int, int]:
    return len(pairs.pairs), pairs.tokens, items.prompt_tokens(pairs)


def _keep(task: Task, shift: Tensor) -> None:
    if task.keep:
        np.save(task.keep, shift.double().numpy())


if __name__ == "__main__":
    print(run(Task.from_json(sys.argv[1])).to_json())
