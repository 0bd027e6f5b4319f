"""How likely a model finds the answers: batches of like length, logits at the tokens that are read and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sts_core.errors import UserError
from sts_core.nets.device import hand_back, is_out_of_memory
from sts_core.train.evaluation.pieces import Piece

_BATCH_TOKENS = {"cpu": 2_048, "mps": 4_096, "cuda": 32_768}
_BATCH_LOGITS = {"cpu": 2**26, "mps": 2**27, "cuda": 2**29}
"""Logits of a batch: places that are read × vocabulary."""
_LIKE_LENGTH = 0.75
"""A piece shorter than this share of a batch's longest begins a batch of its own, unless the batch is small."""
_FLOATS_AT_ONCE = 2**24
"""Logits that are normalised at once."""
_WEIGHTS_AT_ONCE = 2**14
"""Rows of the head that are taken to float32 at once."""


class Scored(NamedTuple):
    """What the model says to a piece."""

    logps: list[float]
    """The natural logarithm of the likelihood of every answer token, given all before it."""
    first_choice: list[int]
    """The token that the model finds likeliest in each of their places."""
    also: list[float]
    """The log-likelihoods of the piece's other tokens, in place of the first."""


class Scorer:
    """A language model that reads pieces."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        self._most = max(1, _BATCH_LOGITS[self._device.type] // self._vocabulary)
        """Places that are read at once."""
        self._room: int | None = None
        """Padded tokens that a batch may have; None until one did not fit."""

    def score(self, pieces: list[Piece], ran: Callable[[int], None]) -> list[Scored]:
        """All pieces, in their order; `ran` hears how many tokens went through the model."""
        parts = [(n, part) for n, piece in enumerate(pieces) for part in _parts(piece, self._most)]
        found: dict[tuple[int, int], Scored] = {}
        for batch in _batches(parts, _BATCH_TOKENS[self._device.type], self._most):
            results = self._batch([part for _, part in batch])
            for (n, part), result in zip(batch, results, strict=True):
                found[n, part.start] = result
            hand_back()
            ran(sum(len(part.ids) - 1 for _, part in batch))
        joined = [Scored([], [], []) for _ in pieces]
        for (n, _), result in sorted(found.items()):
            joined[n].logps.extend(result.logps)
            joined[n].first_choice.extend(result.first_choice)
            joined[n].also.extend(result.also)
        return joined

    def _batch(self, pieces: list[Piece]) -> list[Scored]:
        """One pass; a batch that does not fit the memory is halved, and no later one is tried that large."""
        size = len(pieces) * (max(len(piece.ids) for piece in pieces) - 1)
        if self._room is None or size <= self._room or len(pieces) == 1:
            try:
                return self._forward(pieces)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(pieces) == 1:
                    raise UserError(
                        f"One question of {len(pieces[0].ids):,} tokens does not fit the memory of {self._device}",
                        "Choose fewer demonstrations, shorter rows, a smaller model, or another device.",
                    ) from error
                self._room = size // 2
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        half = len(pieces) // 2
        return self._batch(pieces[:half]) + self._batch(pieces[half:])

    @torch.no_grad()
    def _forward(self, pieces: list[Piece]) -> list[Scored]:
        """Padded on the right: a decoder looks back alone, so padding is seen by no token that is read."""
        longest = max(len(piece.ids) for piece in pieces) - 1  # nothing follows the last answer token
        ids = torch.zeros(len(pieces), longest, dtype=torch.long)
        read = torch.zeros(len(pieces), longest, dtype=torch.bool)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece.ids) - 1] = torch.tensor(piece.ids[:-1])
            read[row, piece.start - 1 : len(piece.ids) - 1] = True
        with _only(self._model, read.to(self._device)):
            logits = self._model(input_ids=ids.to(self._device), use_cache=False).logits[0]
        gold = torch.tensor([token for piece in pieces for token in piece.ids[piece.start :]], device=self._device)
        logps, best, norms = _against(logits, gold)
        counts = [len(piece.ids) - piece.start for piece in pieces]
        firsts = [sum(counts[:n]) for n in range(len(pieces))]
        also = [
            (logits[first, list(piece.also)].float() - norms[first]).tolist()
            for first, piece in zip(firsts, pieces, strict=True)
        ]
        if not bool(torch.isfinite(logps).all()):
            raise UserError(
                "The model gives likelihoods that are not numbers",
                "Its training may have diverged: evaluate an earlier checkpoint, or use float32.",
            )
        return [
            Scored(own.tolist(), first.tolist(), others)
            for own, first, others in zip(logps.split(counts), best.split(counts), also, strict=True)
        ]


def _against(logits: Tensor, gold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of [places, vocabulary]: log p of the gold tokens, the likeliest tokens, log Σ exp; in float32."""
    at_once = max(1, _FLOATS_AT_ONCE // logits.shape[-1])
    logps, best, norms = [], [], []
    for part, right in zip(logits.split(at_once), gold.split(at_once), strict=True):
        values = part.float()
        norms.append(values.logsumexp(dim=-1))
        logps.append(values.gather(-1, right[:, None])[:, 0] - norms[-1])
        best.append(values.argmax(dim=-1))
    return torch.cat(logps), torch.cat(best), torch.cat(norms)


@contextmanager
def _only(model: Any, places: Tensor) -> Iterator[None]:
    """The model's head sees the given places alone, as one row; what the model does to logits afterwards it does.

    The head computes in float32: logits rounded to bfloat16 make every fourth pair of letters equally likely.
    """

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (inputs[0][places.to(inputs[0].device)][None],)

    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(hook)
    narrow = type(head) is nn.Linear and head.weight.dtype in (torch.bfloat16, torch.float16)
    if narrow:  # anything else, as an adapter over the head, computes as it does
        head.forward = partial(_in_float32, head)
    try:
        yield
    finally:
        handle.remove()
        if narrow:
            del head.forward


def _in_float32(head: nn.Linear, hidden: Tensor) -> Tensor:
    """The head's product in float32, a piece of the vocabulary at a time."""
    hidden = hidden.float()
    pieces = [hidden @ rows.float().T for rows in head.weight.split(_WEIGHTS_AT_ONCE)]
    logits = torch.cat(pieces, dim=-1)
    return logits if head.bias is None else logits + head.bias.float()


def _parts(piece: Piece, most: int) -> Iterator[Piece]:
    """The piece; of an answer longer than `most` tokens, its stretches, each behind all that comes before it."""
    for start in range(piece.start, len(piece.ids), most):
        yield Piece(piece.ids[: start + most], start, piece.also if start == piece.start else ())


def _batches(parts: list[tuple[int, Piece]], budget: int, most: int) -> Iterator[list[tuple[int, Piece]]]:
    """Of like length together, longest first: little is padded, and memory peaks at once."""
    batch: list[tuple[int, Piece]] = []
    places = 0
    for n, part in sorted(parts, key=lambda entry: (-len(entry[1].ids), entry[0], entry[1].start)):
        read = len(part.ids) - part.start
        if batch:
            longest = len(batch[0][1].ids)
            size = len(batch) * longest
            much_padded = len(part.ids) < _LIKE_LENGTH * longest and size >= budget / 4
            if size + longest > budget or places + read > most or much_padded:
                yield batch
                batch, places = [], 0
        batch.append((n, part))
        places += read
    if batch:
        yield batch
