"""From documents to groups of pieces: tokens in the mix that the spec asks for, a forward pass at a time.

Pieces of all corpora are shuffled and drawn so that every corpus keeps its share; a corpus that runs out starts
anew, and the report says how often. The order depends on the seed alone.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

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
