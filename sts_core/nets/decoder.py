"""A decoder that stops after block L and hands out its residual stream.

Blocks above L and the language-model head are never run. The tokens that every prompt of a set begins with are run
once; their keys and values are then shared by every batch without copying.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from sts_core.errors import UserError
from sts_core.nets import kept
from sts_core.nets.attention import Beginning, Recorded, install
from sts_core.nets.describe import ModelInfo
from sts_core.nets.narrow import ease_products
from sts_core.nets.saes import check_finite, first_line


class Prefix(NamedTuple):
    """Tokens that were run once, and what later tokens look at of them."""

    beginning: Beginning | None
    length: int


EMPTY = Prefix(None, 0)
_NORMED = {"mlp_out": "post_feedforward_layernorm", "attn_out": "post_attention_layernorm"}
_PREFIX_TOKENS = 2_048
"""A beginning is run in pieces of this many tokens: no more memory is needed than for a batch."""
_KINDS = {"full_attention", "sliding_attention"}


class Decoder:
    """The blocks of a language model up to the one that is read."""

    def __init__(self, model: PreTrainedModel, layer: int, site: str = "resid_post") -> None:
        self.device = model.device
        self.layer = layer
        self.room: int | None = None
        """Padded tokens that a batch may have; None until one did not fit."""
        self.turn = threading.RLock()
        """One question at a time: a kept decoder may serve a measurement and a person who tries a text."""
        self._model = model.eval()
        blocks = _blocks(model)
        del blocks[layer + 1 :]
        self._desk = install(model, layer + 1)
        self._caught: Tensor | None = None
        _listen(blocks[layer], site, self._catch)

    def _catch(self, stream: Tensor) -> None:
        self._caught = stream

    def adapted(self, on: bool) -> None:
        """Let the adapter act or not: Θ′ and Θ are one model, loaded once."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for module in self._model.modules():
            if isinstance(module, BaseTunerLayer):
                module.enable_adapters(on)

    def check(self) -> None:
        """Refuse a family whose attention is not of the kind that `attention` stands in for: tried on one token."""
        kinds = set(getattr(self._model.config, "layer_types", None) or ())
        try:
            beginning = self.prefix([0]).beginning
        except NotImplementedError:
            beginning = None
        if beginning is None or beginning.layers != self.layer + 1 or not kinds <= _KINDS:
            raise _unknown(self._model, "attention")

    @torch.inference_mode()
    def prefix(self, ids: list[int]) -> Prefix:
        """Run the shared beginning once."""
        if not ids:
            return EMPTY
        beginning = Beginning()
        with self.turn:
            self._record(ids, beginning)
        return Prefix(beginning, len(ids))

    def _record(self, ids: list[int], beginning: Beginning) -> None:
        self._desk.beginning, self._desk.recording = beginning, True
        try:
            for start in range(0, len(ids), _PREFIX_TOKENS):
                piece = torch.tensor([ids[start : start + _PREFIX_TOKENS]], device=self.device)
                places = torch.arange(start, start + piece.shape[1], device=self.device)[None]
                with suppress(Recorded):
                    self._model(input_ids=piece, position_ids=places, use_cache=False)
        finally:
            self._desk.beginning, self._desk.recording = None, False
            self._caught = None

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
        with self.turn:
            self._desk.beginning = prefix.beginning
            try:
                self._model(input_ids=tokens.to(self.device), position_ids=places.to(self.device), use_cache=False)
            finally:
                self._desk.beginning = None
            caught, self._caught = self._caught, None
        if caught is None:
            raise RuntimeError(f"block {self.layer} was not run")
        return caught


class Side:
    """A decoder with its adapter on (Θ′) or off (Θ): two readers, one model in memory."""

    def __init__(self, decoder: Decoder, adapted: bool) -> None:
        self._decoder = decoder
        self._adapted = adapted
        self.device = decoder.device
        self.room: int | None = None

    def prefix(self, ids: list[int]) -> Prefix:
        """As the decoder's."""
        with self._decoder.turn:
            self._decoder.adapted(self._adapted)
            return self._decoder.prefix(ids)

    def residuals(self, rows: list[list[int]], prefix: Prefix = EMPTY) -> Tensor:
        """As the decoder's."""
        with self._decoder.turn:
            self._decoder.adapted(self._adapted)
            return self._decoder.residuals(rows, prefix)


def load_decoder(info: ModelInfo, layer: int, device: str, dtype: str, site: str = "resid_post") -> Decoder:
    """A model's blocks 0…layer, its adapter over them and acting. Weights that are not finite are refused."""
    key = (info.name, info.revision, str(info.folder), str(info.adapter), layer, device, dtype, site)
    decoder: Decoder = kept.get("decoder", key, lambda: _load(info, layer, device, dtype, site))
    if info.adapter is not None:
        decoder.adapted(True)  # a kept one may have been left without
    return decoder


def _load(info: ModelInfo, layer: int, device: str, dtype: str, site: str) -> Decoder:
    logging.disable_progress_bar()  # we tell progress ourselves
    try:
        model = _adapted_model(info, dtype) if info.adapter else _plain_model(info, dtype)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"transformers cannot load {info.name}: {first_line(error)}",
            "Save the model again as safetensors, or choose another.",
        ) from error
    check_finite(info.name, model.named_parameters(), "Save the model again.")
    ease_products(model.to(device))
    decoder = Decoder(model, layer, site)
    decoder.check()
    return decoder


def _plain_model(info: ModelInfo, dtype: str) -> PreTrainedModel:
    model: PreTrainedModel = AutoModel.from_pretrained(info.folder, dtype=getattr(torch, dtype), use_safetensors=True)
    return model


def _adapted_model(info: ModelInfo, dtype: str) -> PreTrainedModel:
    """Adapters are saved over the whole language model, head included; what is read lies in its body."""
    from peft import PeftModel

    whole = AutoModelForCausalLM.from_pretrained(info.folder, dtype=getattr(torch, dtype), use_safetensors=True)
    whole = PeftModel.from_pretrained(whole, str(info.adapter)).get_base_model()
    body: PreTrainedModel = getattr(whole, whole.base_model_prefix)
    return body.to(getattr(torch, dtype))


def _listen(block: nn.Module, site: str, hear: Callable[[Tensor], None]) -> None:
    """Hear the stream at a site of a block whenever it is run: a tensor, or the first of a tuple."""
    if site == "resid_pre":
        block.register_forward_pre_hook(
            lambda _module, inputs, named: hear(inputs[0] if inputs else named["hidden_states"]), with_kwargs=True
        )
        return
    place = block if site == "resid_post" else _sublayer(block, site)
    place.register_forward_hook(lambda _module, _inputs, out: hear(out[0] if isinstance(out, tuple) else out))


def _sublayer(block: nn.Module, site: str) -> nn.Module:
    """The module whose output is added to the residual stream as this site's part, or the one of that very path."""
    if site not in _NORMED:
        try:
            return block.get_submodule(site)
        except AttributeError:
            raise UserError(
                f"There is no {site} in a {type(block).__name__}", "Correct hf_hook_name in the SAE's cfg.json."
            ) from None
    # Gemma 2 and 3 and OLMo 2 normalise what a sub-layer gives before it is added to the stream.
    if hasattr(block, "post_feedforward_layernorm"):
        return getattr(block, _NORMED[site])
    names = {"mlp_out": ("mlp",), "attn_out": ("self_attn", "attn", "attention")}[site]
    found = next((getattr(block, name) for name in names if hasattr(block, name)), None)
    if found is None:
        raise UserError(
            f"The {site} of a {type(block).__name__} is not known here", "Use a SAE on the residual stream."
        )
    return found


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
