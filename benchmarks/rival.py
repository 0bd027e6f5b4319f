"""The rival: the paper's computation as a competent engineer writes it down with transformers, without any of ours.

Every query is encoded behind its demonstrations again, through all blocks and the head; the dense features of all
pooled tokens are kept and put together with `torch.cat`; only then are the arms paired and the features sorted. It is
kinder to itself than the reference code: only pooled tokens go through the SAE, and prompts may share a padded batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sts_core.text.pairs import Pair
from sts_core.text.prompts import Prompt


@torch.inference_mode()
def shift(model: PreTrainedModel, sae: Any, layer: int, pairs: list[Pair], batch: int) -> Tensor:
    """E_t |h(t | C, x) − h(t | x)| of every feature: [features] in float32, sorted on the way as a ranking needs it."""
    pairs = sorted(pairs, key=lambda pair: len(pair.icl.ids))
    base = dense_features(model, sae, layer, [pair.base for pair in pairs], batch)
    icl = dense_features(model, sae, layer, [pair.icl for pair in pairs], batch)
    mean = (icl - base).abs().mean(dim=0)
    torch.sort(mean, descending=True, stable=True)
    return mean


def dense_features(model: PreTrainedModel, sae: Any, layer: int, prompts: list[Prompt], batch: int) -> Tensor:
    """The features of all pooled tokens of an arm: [tokens, features]."""
    kept = []
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        longest = max(len(prompt.ids) for prompt in some)
        ids = torch.tensor([list(prompt.ids) + [0] * (longest - len(prompt.ids)) for prompt in some])
        mask = torch.tensor([[1] * len(prompt.ids) + [0] * (longest - len(prompt.ids)) for prompt in some])
        # No mask for prompts of one length: attention is faster without.
        padded = mask.to(model.device) if not bool(mask.all()) else None
        out = model(input_ids=ids.to(model.device), attention_mask=padded, use_cache=False, output_hidden_states=True)
        stream = out.hidden_states[layer + 1]
        pooled = [stream[i, a:b] for i, prompt in enumerate(some) for a, b in prompt.spans]
        kept.append(sae.encode(torch.cat(pooled).to(sae.dtype)).float())
    return torch.cat(kept)
