"""Causal attention over whole rows in 16 bits on a processor, where the library's own kernel is the slow part.

Tokens are looked up in blocks: a block sees the keys up to its own end, so about half of the products are never made,
and its scores stay near the caches. It takes the place of a model's attention through transformers' registry.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

_NAME = "sts_causal_blocks"
_BLOCK = 64
"""Tokens that are looked up together."""
_KNOWN = ("llama", "qwen2", "qwen3", "mistral", "olmo2", "smollm3")
"""Families whose attention is softmax(scaled scores of the tokens so far) · values and nothing else."""


def install(model: PreTrainedModel) -> None:
    """Give a model this attention if it is faster there and says the same; else leave it as it is."""
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds and getattr(config, "sliding_window", None):
        kinds = {"sliding_attention"}
    plain = config.model_type in _KNOWN and kinds <= {"full_attention"}
    if plain and model.device.type == "cpu" and model.dtype == torch.bfloat16:
        AttentionInterface.register(_NAME, attend)
        # Padding stands on the right, where under causal attention no token looks at it.
        AttentionMaskInterface.register(_NAME, lambda *_args, **_kwargs: None)
        model.set_attn_implementation(_NAME)


def attend(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None,
    scaling: float | None = None, **_more: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """[rows, heads, tokens, head size] to [rows, tokens, heads, head size]; keys may have fewer heads than queries."""
    rows, heads, tokens, size = query.shape
    shared = key.shape[1]
    query = query * (size**-0.5 if scaling is None else scaling)
    key, value = key.contiguous(), value.contiguous()
    later = torch.ones(_BLOCK, _BLOCK, dtype=torch.bool, device=query.device).triu(1)
    out = query.new_empty(rows, tokens, heads, size)
    for start in range(0, tokens, _BLOCK):
        end = min(tokens, start + _BLOCK)
        part = end - start
        scores = query[:, :, start:end].reshape(rows, shared, -1, size) @ key[:, :, :end].transpose(2, 3)
        by_head = scores.view(rows, shared, heads // shared, part, end)
        by_head[..., start:].masked_fill_(later[:part, :part], float("-inf"))
        found = scores.softmax(-1) @ value[:, :, :end]
        out[:, start:end] = found.view(rows, heads, part, size).transpose(1, 2)
    return out, None
