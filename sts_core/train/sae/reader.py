"""A language model seen at its blocks: the residuals after some of them in one run, and its loss on the next token.

The run stops at the deepest block that is asked for. A loss starts from residuals after a block, so the blocks below
are not run again, and only places that are judged go through the head.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from sts_core.errors import UserError
from sts_core.train.sae.source import Piece

_JUDGED_AT_ONCE = 256
"""Rows of logits that are held in float32: a larger vocabulary would leave the caches."""


class _Reached(Exception):
    """The deepest block has answered; the blocks above need not run."""


class Seen(NamedTuple):
    """A group of pieces, padded on the right, as the model saw it."""

    ids: Tensor
    """[pieces, longest]"""
    real: Tensor
    """Which places hold a token [pieces, longest]."""
    hidden: dict[int, Tensor]
    """By layer the residuals after its block [pieces, longest, width]; at padding they mean nothing."""


class Reader:
    """A loaded causal language model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()
        self._name, self._blocks = _find_blocks(model)
        self._tupled = False
        """Whether the blocks answer with a tuple whose first entry is the stream."""
        config = model.config.get_text_config()
        self.width, self.vocabulary = int(config.hidden_size), int(config.vocab_size)
        self.device = next(model.parameters()).device

    def block_name(self, layer: int) -> str:
        """The block's name in the model."""
        return f"{self._name}.{layer}"

    @torch.no_grad()
    def read(self, group: list[Piece], layers: Collection[int]) -> Seen:
        """The residuals after these blocks, from one run. Under causal attention no token sees the padding."""
        ids, real = self._padded(group)
        found: dict[int, Tensor] = {}

        def catch(layer: int) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                self._tupled = isinstance(output, tuple)
                found[layer] = output[0] if self._tupled else output
                if layer == max(layers):
                    raise _Reached

            return hook

        with ExitStack() as hooks, suppress(_Reached):
            for layer in layers:
                hooks.callback(self._blocks[layer].register_forward_hook(catch(layer)).remove)
            self.model(input_ids=ids, use_cache=False)
        return Seen(ids, real, found)

    @torch.no_grad()
    def losses(self, ids: Tensor, judged: Tensor, layer: int, hidden: Tensor) -> Tensor:
        """The loss of the next token at every judged place [judged places], the stream after `layer` being `hidden`.

        The layer must have been read before.
        """
        with self._continued(layer, hidden), self._only(judged):
            logits = self.model(input_ids=ids, use_cache=False).logits[0]
        following = ids.roll(-1, dims=1)[judged]
        parts = zip(logits.split(_JUDGED_AT_ONCE), following.split(_JUDGED_AT_ONCE), strict=True)
        return torch.cat([cross_entropy(rows.float(), right, reduction="none") for rows, right in parts])

    def _padded(self, group: list[Piece]) -> tuple[Tensor, Tensor]:
        """Token ids [pieces, longest], and which places hold one."""
        longest = max(len(piece.ids) for piece in group)
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        real = torch.zeros(len(group), longest, dtype=torch.bool)
        for row, piece in enumerate(group):
            ids[row, : len(piece.ids)] = torch.tensor(piece.ids)
            real[row, : len(piece.ids)] = True
        return ids.to(self.device), real.to(self.device)

    @contextmanager
    def _continued(self, layer: int, hidden: Tensor) -> Iterator[None]:
        """The blocks up to `layer` are not run: the stream behind them is `hidden`."""
        answer = (hidden,) if self._tupled else hidden
        below = self._blocks[: layer + 1]
        for block in below:
            block.forward = lambda *_, **__: answer
        try:
            yield
        finally:
            for block in below:
                del block.forward

    @contextmanager
    def _only(self, places: Tensor) -> Iterator[None]:
        """The head sees the given places alone, as one row."""

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (inputs[0][places][None],)

        handle = self.model.get_output_embeddings().register_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _find_blocks(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """A decoder's blocks with their name: the one list of modules that is as long as the model is deep."""
    depth = int(model.config.get_text_config().num_hidden_layers)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return name, module
    raise UserError("This model's blocks are not found", "Use a decoder that transformers keeps as one list of blocks.")
