"""A decoder that stops after block L and hands out its residual stream.

Blocks above L and the language-model head are never run. The tokens that every prompt of a set begins with are run
once; their keys and values are then shared by every batch without copying.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging

from sts_core.errors import UserError
from sts_core.nets.attention import Beginning, install
from sts_core.nets.describe import ModelInfo
from sts_core.nets.saes import first_line


class Prefix(NamedTuple):
    """Tokens that were run once, and what later tokens look at of them."""

    beginning: Beginning | None
    length: int


EMPTY = Prefix(None, 0)
_KINDS = {"full_attention", "sliding_attention"}


class Decoder:
    """The first `layer + 1` blocks of a language model."""

    def __init__(self, model: PreTrainedModel, layer: int) -> None:
        self.device = model.device
        self.layer = layer
        self._model = model.eval()
        blocks = _blocks(model)
        del blocks[layer + 1 :]
        self._desk = install(model)
        self._caught: Tensor | None = None
        blocks[layer].register_forward_hook(self._catch)

    def _catch(self, _module: Any, _inputs: Any, output: Any) -> None:
        # A block hands back its residual stream as a tensor, or first in a tuple.
        self._caught = output[0] if isinstance(output, tuple) else output

    def check(self) -> None:
        """Refuse a family whose attention is not of the kind that `attention` stands in for: tried on one token."""
        kinds = set(getattr(self._model.config, "layer_types", None) or ())
        try:
            beginning = self.prefix([0]).beginning
        except NotImplementedError:
            beginning = None
        if beginning is None or len(beginning.layers) != self.layer + 1 or not kinds <= _KINDS:
            raise _unknown(self._model, "attention")

    @torch.inference_mode()
    def prefix(self, ids: list[int]) -> Prefix:
        """Run the shared beginning once."""
        if not ids:
            return EMPTY
        self._desk.beginning, self._desk.recording = Beginning(), True
        try:
            self._model(input_ids=torch.tensor([ids], device=self.device), use_cache=False)
            return Prefix(self._desk.beginning, len(ids))
        finally:
            self._desk.beginning, self._desk.recording = None, False

    @torch.inference_mode()
    def residuals(self, rows: list[list[int]], prefix: Prefix = EMPTY) -> Tensor:
        """The stream after block L for tokens that follow the prefix: [rows, longest row, width].

        Rows are padded on the right; what stands at padding is meaningless.
        """
        longest = max(len(row) for row in rows)
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        places = torch.arange(prefix.length, prefix.length + longest).expand(len(rows), -1)
        self._desk.beginning = prefix.beginning
        try:
            self._model(input_ids=tokens.to(self.device), position_ids=places.to(self.device), use_cache=False)
        finally:
            self._desk.beginning = None
        caught, self._caught = self._caught, None
        if caught is None:
            raise RuntimeError(f"block {self.layer} was not run")
        return caught


def load_decoder(info: ModelInfo, layer: int, device: str, dtype: str) -> Decoder:
    """Load a model's blocks 0…layer. Weights that are not finite are refused."""
    logging.disable_progress_bar()  # we tell progress ourselves
    try:
        model = AutoModel.from_pretrained(info.folder, dtype=getattr(torch, dtype), use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"transformers cannot load {info.name}: {first_line(error)}",
            "Save the model again as safetensors, or choose another.",
        ) from error
    for name, value in model.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise UserError(
                f"The weights of {info.name} hold values that are not finite ({name})", "Save the model again."
            )
    decoder = Decoder(model.to(device), layer)
    decoder.check()
    return decoder


def _blocks(model: PreTrainedModel) -> Any:
    """The list of transformer blocks, under the name the family gives it."""
    for owner in (model, getattr(model, "language_model", None)):
        for name in ("layers", "h"):
            blocks = getattr(owner, name, None)
            if isinstance(blocks, torch.nn.ModuleList):
                return blocks
    raise _unknown(model, "list of blocks")


def _unknown(model: PreTrainedModel, what: str) -> UserError:
    return UserError(
        f"The {what} of a {model.config.model_type} model is not known here",
        "Use a Llama, Qwen, Mistral, Gemma, Phi, OLMo, GPT-2 or GPT-NeoX model.",
    )
