"""Attention whose first keys are shared by every row of a batch.

All prompts of an arm begin with the same tokens. Their keys and values are computed once (`recording`); after that each
batch brings only its own tokens, and this function lets them look at the shared keys as well (`reading`). Nothing of
the beginning is copied a row: the rows of a batch are folded into one matrix product with it.

It takes the place of a model's own attention through transformers' registry, so it serves every family that asks there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

NAME = "sts_shared_beginning"
_SCORES_AT_ONCE = 6_000_000
"""Attention scores held at a time; small enough to stay near the processor's caches."""

_OTHERS = ("s_aux", "position_bias")
"""What some families add to their scores and this function does not know: better refused than left out."""


class Beginning:
    """Keys and values [1, heads, tokens, head size] of a shared beginning, a pair a layer."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.length = 0


class Desk:
    """What every attention layer of one model looks at: the beginning in use, and whether it is being recorded."""

    def __init__(self) -> None:
        self.beginning: Beginning | None = None
        self.recording = False


def install(model: PreTrainedModel) -> Desk:
    """Give a model this attention; returns the desk that its layers share."""
    AttentionInterface.register(NAME, attend)
    # Masks are made here from lengths: padding stands on the right, where no real token looks at it.
    AttentionMaskInterface.register(NAME, lambda *_args, **_kwargs: None)
    model.set_attn_implementation(NAME)
    desk = Desk()
    for module in model.modules():
        if isinstance(getattr(module, "layer_idx", None), int):
            module.sts_desk = desk  # nn.Module takes any attribute
    return desk


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """softmax(scores over the beginning and the row's own tokens so far) · values: [rows, tokens, heads, head size].

    `query` is [rows, heads, tokens, head size]; `key` and `value` may have fewer heads (grouped queries).
    """
    if any(more.get(name) is not None for name in _OTHERS):
        raise NotImplementedError(f"attention with {', '.join(name for name in _OTHERS if more.get(name) is not None)}")
    desk: Desk = module.sts_desk  # type: ignore[assignment]
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if desk.recording and desk.beginning is not None:
        desk.beginning.layers[layer] = (key, value)
        desk.beginning.length = key.shape[2]
    reading = desk.beginning if not desk.recording else None
    length = (reading.length if reading else 0) + key.shape[2]
    window = sliding_window if sliding_window is not None and sliding_window < length else None
    if reading is None and softcap is None and window is None:
        grouped = query.shape[1] != key.shape[1]
        out = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped
        )
        return out.transpose(1, 2), None
    first = reading.layers[layer] if reading else (key[:1, :, :0], value[:1, :, :0])
    blocked = _blocked(key.shape[2], first[0].shape[2], window, query.device)
    rows = max(1, _SCORES_AT_ONCE // (query.shape[1] * query.shape[2] * length))
    parts = [
        _rows(query[i : i + rows] * scaling, key[i : i + rows], value[i : i + rows], first, blocked, softcap)
        for i in range(0, len(query), rows)
    ]
    return torch.cat(parts).transpose(1, 2), None


def _rows(
    query: Tensor, key: Tensor, value: Tensor, first: tuple[Tensor, Tensor], blocked: Tensor, softcap: float | None
) -> Tensor:
    """Some rows at once: [rows, heads, tokens, head size]."""
    rows, heads, tokens, size = query.shape
    shared = key.shape[1]
    group = heads // shared
    length = first[0].shape[2]
    folded = query.reshape(rows, shared, group * tokens, size)
    scores = query.new_empty(rows, shared, group * tokens, length + tokens)
    if length:
        scores[..., :length] = _with_first(folded, first[0][0].transpose(1, 2))
    scores[..., length:] = folded @ key.transpose(2, 3)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(rows, shared, group, tokens, length + tokens)
    scores[..., length:].masked_fill_(blocked[:, length:], float("-inf"))
    if length and bool(blocked[-1, 0]):  # only a sliding window hides any of the beginning
        scores[..., :length].masked_fill_(blocked[:, :length], float("-inf"))
    weights = torch.softmax(scores, dim=-1).view(rows, shared, group * tokens, length + tokens)
    out = weights[..., length:] @ value
    if length:
        out += _with_first(weights[..., :length], first[1][0])
    return out.view(rows, heads, tokens, size)


def _with_first(rows: Tensor, shared: Tensor) -> Tensor:
    """[rows, heads, n, k] @ [heads, k, m], the rows folded into one product a head: [rows, heads, n, m]."""
    count, heads, n, k = rows.shape
    product = rows.transpose(0, 1).reshape(heads, count * n, k) @ shared
    return product.view(heads, count, n, -1).transpose(0, 1)


def _blocked(tokens: int, before: int, window: int | None, device: torch.device) -> Tensor:
    """Which keys a token may not look at: [tokens, before + tokens], later ones and those out of the window."""
    at = torch.arange(before, before + tokens, device=device)[:, None]
    keys = torch.arange(before + tokens, device=device)[None, :]
    blocked = keys > at
    return blocked if window is None else blocked | (keys <= at - window)
