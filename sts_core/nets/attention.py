"""Attention whose first keys are shared by every row of a batch.

All prompts of an arm begin with the same tokens. Their keys and values are computed once (`recording`); after that each
batch brings only its own tokens, and this function lets them look at the shared keys as well (`reading`). The beginning
lies in a buffer with room behind it: a row's own keys are written there, and nothing of the beginning is copied again.

It takes the place of a model's own attention through transformers' registry, so it serves every family that asks there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from sts_core.nets.narrow import wide

NAME = "sts_shared_beginning"
_SCORES_AT_ONCE = {"cpu": 1_500_000}
_MOST_SCORES = 400_000_000
"""Attention scores held at a time: near the processor's caches, elsewhere within memory."""
_FEWEST_TOKENS = 64
"""Tokens that are looked up together at least; fewer would make thin matrix products."""
_MOST_KEYS = 65_536
"""Keys that a layer's buffer holds at most, unless a single row needs more."""

_OTHERS = ("s_aux", "position_bias")
"""What some families add to their scores and this function does not know: better refused than left out."""


class Recorded(Exception):
    """The last layer's keys are recorded: what the model would still compute of a beginning, nobody reads."""


class Beginning:
    """The keys and values of a shared beginning, a pair a layer."""

    def __init__(self) -> None:
        self.length = 0
        self._first: dict[int, tuple[Tensor, Tensor]] = {}
        self._buffers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def layers(self) -> int:
        """How many layers are recorded."""
        return len(self._first)

    def record(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's [1, heads, tokens, head size] behind what it has; returns all it has."""
        if layer in self._first:
            key, value = (torch.cat(both, dim=2) for both in zip(self._first[layer], (key, value), strict=True))
        self._first[layer] = (key.contiguous(), value.contiguous())
        self.length = key.shape[2]
        return self._first[layer]

    def followed_by(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The beginning with each row's own [rows, heads, tokens, head size] behind it; good until the next call."""
        rows, _, tokens, _ = key.shape
        end = self.length + tokens
        joined = self._buffers.get(layer)
        # Of exactly this length: a longer one would be copied by every product with a part of it.
        if joined is None or len(joined[0]) < rows or joined[0].shape[2] != end:
            joined = self._buffers[layer] = self._buffer(layer, rows, end)
        for buffer, own in zip(joined, (key, value), strict=True):
            buffer[:rows, :, self.length :] = own
        return joined[0][:rows], joined[1][:rows]

    def _buffer(self, layer: int, rows: int, end: int) -> tuple[Tensor, Tensor]:
        """Room for so many rows of so many tokens, the beginning laid into each."""

        def laid(first: Tensor) -> Tensor:
            buffer = first.new_empty(rows, first.shape[1], end, first.shape[3])
            buffer[:, :, : self.length] = first
            return buffer

        self._buffers.pop(layer, None)  # before the new one is made
        key, value = self._first[layer]
        return laid(key), laid(value)


class Desk:
    """What every attention layer of one model looks at: the beginning in use, and whether it is being recorded."""

    def __init__(self, layers: int) -> None:
        self.beginning: Beginning | None = None
        self.recording = False
        self.layers = layers


def install(model: PreTrainedModel, layers: int) -> Desk:
    """Give a model of so many layers this attention; returns the desk that they share."""
    AttentionInterface.register(NAME, attend)
    # Masks are made here from lengths: padding stands on the right, where no real token looks at it.
    AttentionMaskInterface.register(NAME, lambda *_args, **_kwargs: None)
    model.set_attn_implementation(NAME)
    desk = Desk(layers)
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
    asked = query.dtype
    query, key, value = wide(query, key, value)
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    beginning = desk.beginning
    if desk.recording and beginning is not None:
        key, value = beginning.record(layer, key, value)
        if layer + 1 == desk.layers:
            raise Recorded
        beginning = None
    rows, heads, tokens, size = query.shape
    length = (beginning.length if beginning else 0) + key.shape[2]
    look = _Look(
        scale=size**-0.5 if scaling is None else scaling,
        softcap=softcap,
        window=sliding_window if sliding_window is not None and sliding_window < length else None,
        most_scores=_SCORES_AT_ONCE.get(query.device.type, _MOST_SCORES),
    )
    if length == tokens and look.fusible(query):
        grouped = query.shape[1] != key.shape[1]
        out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=look.scale, enable_gqa=grouped)
        return out.transpose(1, 2).to(asked), None
    at_once = max(1, min(look.most_scores // (heads * tokens * length), _MOST_KEYS // length))
    out = query.new_empty(rows, tokens, heads, size, dtype=asked)
    for i in range(0, rows, at_once):
        some = slice(i, i + at_once)
        keys, values = key[some], value[some]
        if beginning is not None:
            keys, values = beginning.followed_by(layer, keys, values)
        out[some] = look(query[some], keys, values).transpose(1, 2)
    return out, None


class _Look(NamedTuple):
    """How tokens look at keys: scale, soft cap, sliding window."""

    scale: float
    softcap: float | None
    window: int | None
    most_scores: int

    def fusible(self, query: Tensor) -> bool:
        """Whether the library's own kernel does this, and faster: on a processor in bfloat16 it is the slower one."""
        return self.softcap is None and self.window is None and (query.device.type != "cpu" or query.dtype.itemsize > 2)

    def __call__(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The last tokens of `keys` are those of `query`: [rows, heads, tokens, head size]."""
        rows, heads, tokens, size = query.shape
        shared, length = keys.shape[1:3]
        if self.fusible(query):
            folded = query.reshape(rows, shared, -1, size)
            seen = ~_hidden(length - tokens, length, 0, length, None, query.device)
            seen = seen.repeat(heads // shared, 1)
            return scaled_dot_product_attention(folded, keys, values, seen, scale=self.scale).view(query.shape)
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        parts = max(1, tokens // max(_FEWEST_TOKENS, self.most_scores // (rows * heads * length)))
        step = -(-tokens // parts)
        for start in range(0, tokens, step):
            part = slice(start, start + step)
            out[:, :, part] = self._part(query[:, :, part], keys, values, length - tokens + start)
        return out

    def _part(self, query: Tensor, keys: Tensor, values: Tensor, first: int) -> Tensor:
        """Tokens that stand one after another from place `first` on."""
        rows, heads, tokens, size = query.shape
        shared, end = keys.shape[1], first + tokens
        start = 0 if self.window is None else max(0, first - self.window + 1)
        folded = query.reshape(rows, shared, -1, size) * self.scale
        scores = folded @ keys[:, :, start:end].transpose(2, 3)
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        by_head = scores.view(rows, shared, heads // shared, tokens, end - start)
        # Without a window only a token's own batch can hide from it.
        hidden_from = first if self.window is None else start
        hidden = _hidden(first, end, hidden_from, end, self.window, query.device)
        by_head[..., hidden_from - start :].masked_fill_(hidden, float("-inf"))
        return (torch.softmax(scores, dim=-1) @ values[:, :, start:end]).view(query.shape)


def _hidden(first: int, end: int, from_key: int, to_key: int, window: int | None, device: torch.device) -> Tensor:
    """Which keys tokens [first, end) may not look at, later ones and those out of the window: [tokens, keys]."""
    at = torch.arange(first, end, device=device)[:, None]
    keys = torch.arange(from_key, to_key, device=device)[None, :]
    hidden = keys > at
    return hidden if window is None else hidden | (keys <= at - window)
