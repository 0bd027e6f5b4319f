"""From documents to residuals: pieces of tokens in the mix that the spec asks for, read by the model's first blocks.

Pieces of all corpora are shuffled and drawn so that every corpus keeps its share; a corpus that runs out starts
anew, and the report says how often. The model stops after the SAE's layer. Attention sinks are left out by norm.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sts_core.errors import UserError
from sts_core.text.corpora import Corpus, Document

BATCH_TOKENS = 8192
"""Padded tokens in one forward pass."""
_SHORTEST = 8
"""Pieces below this many tokens are nearly all position 0."""


class Piece(NamedTuple):
    """Consecutive tokens of one document, read from position 0."""

    ids: array[int]
    corpus: int


class Pieces(NamedTuple):
    """A corpus, cut: what is trained on and what only measures."""

    training: list[Piece]
    held_out: list[Piece]


def cut(corpus: Corpus, number: int, tokenizer: Any, context: int) -> Pieces:
    """Tokenise a corpus whole. A document stays on its side with all its pieces."""
    head = _head(tokenizer)
    pieces = Pieces([], [])
    for document in corpus.documents():
        side = pieces.held_out if document.held_out else pieces.training
        ids = _token_ids(document, tokenizer, head)
        for start in range(0, len(ids), context):
            opening = head if start else []
            part = (opening + ids[start : start + context])[:context]
            if len(part) >= _SHORTEST:
                side.append(Piece(array("i", part), number))
    if not pieces.training:
        raise UserError(f"The corpus {corpus.name} holds no text to train on", "Give it more, or leave it out.")
    return pieces


def _token_ids(document: Document, tokenizer: Any, head: list[int]) -> list[int]:
    if document.turns and tokenizer.chat_template:
        turns = [{"role": role, "content": content} for role, content in document.turns]
        return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False))
    labels = {"user": "Question", "assistant": "Answer"}
    text = document.text or "\n".join(f"{labels[role]}: {content}" for role, content in document.turns)
    return head + list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _head(tokenizer: Any) -> list[int]:
    """What the tokenizer itself puts before a text: a BOS token, or nothing."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    return list(whole[: whole.index(bare[0])]) if bare and bare[0] in whole else []


def mixed(pieces: list[list[Piece]], shares: list[float], seed: int) -> Iterator[Piece]:
    """Draw without end: always from the corpus that is furthest behind its share of the tokens."""
    order = [_endless(own, random.Random(f"{seed}-{number}")) for number, own in enumerate(pieces)]
    given = [0.0] * len(pieces)
    while True:
        number = min(range(len(pieces)), key=lambda i: given[i] / shares[i])
        piece = next(order[number])
        given[number] += len(piece.ids)
        yield piece


def _endless(pieces: list[Piece], rng: random.Random) -> Iterator[Piece]:
    while True:
        yield from rng.sample(pieces, len(pieces))


def batches(pieces: Iterator[Piece], seed: int, window: int = 256) -> Iterator[list[Piece]]:
    """Group pieces of like length into forward passes, within a window so that the mix stays a mix."""
    rng = random.Random(seed)
    while True:
        taken = [piece for piece, _ in zip(pieces, range(window), strict=False)]
        if not taken:
            return
        taken.sort(key=lambda piece: len(piece.ids))
        groups: list[list[Piece]] = [[]]
        for piece in taken:
            if groups[-1] and (len(groups[-1]) + 1) * len(piece.ids) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(piece)
        rng.shuffle(groups)
        yield from groups


class _Reached(Exception):
    """The block has answered; the blocks above need not run."""


class Reader:
    """A language model seen at one block: its residuals, and its logits with residuals replaced."""

    def __init__(self, model: PreTrainedModel, layer: int) -> None:
        self.model = model
        self.model.eval()
        self.block_name, self.block = _block(model, layer)
        self.width = int(model.config.get_text_config().hidden_size)
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def residuals(self, group: list[Piece]) -> tuple[Tensor, Tensor]:
        """Residuals [pieces, longest, width] after the block, and which places hold a token [pieces, longest].

        Padding stands on the right, so under causal attention no token sees it.
        """
        ids, real = self._padded(group)
        kept: list[Tensor] = []

        def keep(hidden: Tensor) -> Tensor:
            kept.append(hidden)
            raise _Reached

        with self._edited(keep), suppress(_Reached):
            self.model(input_ids=ids, use_cache=False)
        return kept[0], real

    @torch.no_grad()
    def logits(self, group: list[Piece], edit: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Logits [pieces, longest, vocabulary] with the block's output passed through `edit`, and the token ids."""
        ids, _ = self._padded(group)
        with self._edited(edit or (lambda hidden: hidden)):
            return self.model(input_ids=ids, use_cache=False).logits, ids

    def _padded(self, group: list[Piece]) -> tuple[Tensor, Tensor]:
        longest = max(len(piece.ids) for piece in group)
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        real = torch.zeros(len(group), longest, dtype=torch.bool)
        for row, piece in enumerate(group):
            ids[row, : len(piece.ids)] = torch.tensor(piece.ids)
            real[row, : len(piece.ids)] = True
        return ids.to(self.device), real.to(self.device)

    @contextmanager
    def _edited(self, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (edit(output[0]), *output[1:])
            return edit(output)

        handle = self.block.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _block(model: PreTrainedModel, layer: int) -> tuple[str, nn.Module]:
    """A decoder's block by number, with its name: the one list of modules that is as long as the model is deep."""
    depth = int(model.config.get_text_config().num_hidden_layers)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return f"{name}.{layer}", module[layer]
    raise UserError("This model's blocks are not found", "Use a decoder that transformers keeps as one list of blocks.")
