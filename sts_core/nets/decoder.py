"""A decoder that stops after block L and hands out its residual stream.

Blocks above L and the language-model head are never run. The tokens that every prompt of a set begins with are run once;
their keys and values are then shared by every batch without copying.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModel, DynamicCache, PreTrainedModel
from transformers.utils import logging

from sts_core.errors import UserError
from sts_core.nets.describe import ModelInfo
from sts_core.nets.saes import first_line


class Prefix(NamedTuple):
    """Tokens that were run once: their keys and values, of batch size one."""

    cache: DynamicCache | None
    length: int


EMPTY = Prefix(None, 0)


class Decoder:
    """The first `layer + 1` blocks of a language model."""

    def __init__(self, model: PreTrainedModel, layer: int) -> None:
        self.device = model.device
        self.layer = layer
        self._model = model.eval()
        blocks = _blocks(model)
        del blocks[layer + 1 :]
        self._caught: Tensor | None = None
        blocks[layer].register_forward_hook(self._catch)

    def _catch(self, _module: Any, _inputs: Any, output: Any) -> None:
        # A block hands back its residual stream as a tensor, or first in a tuple.
        self._caught = output[0] if isinstance(output, tuple) else output

    @torch.inference_mode()
    def prefix(self, ids: list[int]) -> Prefix:
        """Run the shared beginning once."""
        if not ids:
            return EMPTY
        cache = DynamicCache(config=self._model.config)
        tokens = torch.tensor([ids], device=self.device)
        self._model(input_ids=tokens, past_key_values=cache, use_cache=True)
        return Prefix(cache, len(ids))

    @torch.inference_mode()
    def residuals(self, rows: list[list[int]], prefix: Prefix = EMPTY) -> Tensor:
        """The stream after block L for tokens that follow the prefix: [rows, longest row, width].

        Rows are padded on the right; what stands at padding is meaningless.
        """
        longest = max(len(row) for row in rows)
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), prefix.length + longest, dtype=torch.long)
        mask[:, : prefix.length] = 1
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
            mask[i, prefix.length : prefix.length + len(row)] = 1
        places = torch.arange(prefix.length, prefix.length + longest).expand(len(rows), -1)
        self._model(
            input_ids=tokens.to(self.device),
            attention_mask=mask.to(self.device),
            position_ids=places.to(self.device),
            past_key_values=_shared(prefix, len(rows)),
            use_cache=prefix.cache is not None,
        )
        caught, self._caught = self._caught, None
        if caught is None:
            raise RuntimeError(f"block {self.layer} was not run")
        return caught


def load_decoder(info: ModelInfo, layer: int, device: str, dtype: str) -> Decoder:
    """Load a model's blocks 0…layer. Weights that are not finite are refused."""
    logging.disable_progress_bar()  # we tell progress ourselves
    try:
        model = AutoModel.from_pretrained(info.folder, dtype=getattr(torch, dtype), use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"transformers cannot load {info.name}: {first_line(error)}",
            "Save the model again as safetensors, or choose another.",
        ) from error
    for name, value in model.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"The weights of {info.name} hold values that are not finite ({name})", "Save the model again.")
    return Decoder(model.to(device), layer)


def _blocks(model: PreTrainedModel) -> Any:
    """The list of transformer blocks, under the name the family gives it."""
    for owner in (model, getattr(model, "language_model", None)):
        for name in ("layers", "h"):
            blocks = getattr(owner, name, None)
            if isinstance(blocks, torch.nn.ModuleList):
                return blocks
    raise UserError(f"The blocks of a {model.config.model_type} model are not known here", "Use a Llama, Qwen, Mistral, Gemma or GPT model.")


def _shared(prefix: Prefix, rows: int) -> DynamicCache | None:
    """The prefix's keys and values seen by every row. `expand` copies nothing; what a batch adds stays in its own copy."""
    if prefix.cache is None:
        return None
    cache = copy.copy(prefix.cache)
    cache.layers = [copy.copy(layer) for layer in prefix.cache.layers]
    for layer in cache.layers:
        if layer.is_initialized:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
    return cache
