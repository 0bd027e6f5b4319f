"""From questions to token ids: what is put to the model, and at which tokens its answer is read.

The prompt is the model's own chat template, as everywhere (METHOD 2); the gold answer stands in the assistant's turn.
A token belongs to the answer when it holds one of its characters: where a template ends in `Answer: `, the blank before
the answer lies in its first token, as it does in training.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sts_core.text.prompts import SIGNS_A_TOKEN, Prompter, is_unicode
from sts_core.train.evaluation.sets import EvalSet, Question


class Piece(NamedTuple):
    """A prompt with one answer behind it: one row of a batch."""

    ids: list[int]
    start: int
    """Where the answer begins; it ends with the ids."""
    also: tuple[int, ...] = ()
    """Tokens whose likelihood is asked too, in place of the answer's first."""


class Asked(NamedTuple):
    """A question as pieces.

    With options whose letters are one token each, one forward pass over the prompt tells all letters: they are read in
    place of the first token of whatever answer stands there. Else every letter is a piece of its own.
    """

    question: Question
    pieces: tuple[Piece, ...]
    letters_at: int | None = None
    """The piece that the letters' tokens are read from."""
    text_at: int | None = None
    """The piece that holds the gold option in words."""


class Writer:
    """Turns questions into pieces for one tokenizer."""

    def __init__(self, tokenizer: Any, context: int) -> None:
        self._tokenizer = tokenizer
        self._prompter = Prompter(tokenizer)
        self._context = context

    def ask(self, one: EvalSet, in_words: bool) -> tuple[list[Asked], dict[str, int]]:
        """The set's questions, and why some cannot be asked. `in_words`: with the gold option's text as well."""
        asked: list[Asked] = []
        dropped: dict[str, int] = {}
        for question in one.questions:
            written = self._write(question, list(one.demos), in_words)
            if isinstance(written, str):
                dropped[written] = dropped.get(written, 0) + 1
            else:
                asked.append(written)
        return asked, dropped

    def _write(self, question: Question, before: list[str], in_words: bool) -> Asked | str:
        """The pieces, or the reason why there are none."""
        wanted = list(question.letters) or [question.gold]
        if in_words and question.options:
            wanted.append(question.gold_text)
        turns = [*before, question.text]
        if not all(is_unicode(text) for text in [*turns, *wanted]):
            return "not valid Unicode"
        if not all(wanted):
            return "an empty option"
        if sum(map(len, turns)) + max(map(len, wanted)) > self._context * SIGNS_A_TOKEN:
            return "too long"
        # Options differ in words alone: what the template does to one it does to all; the gold one is tried.
        tried = [question.gold, *wanted[len(question.letters) :]]
        if not all(self._prompter.passes([*turns, text]) for text in tried):
            return "changed by the chat template"
        pieces = [self._piece(turns, text) for text in wanted]
        if any(len(piece.ids) > self._context for piece in pieces):
            return "too long"
        if any(token in self._prompter.special_ids for piece in pieces for token in piece.ids[piece.start :]):
            return "holds the template's special tokens"
        return _arranged(question, pieces)

    def _piece(self, turns: list[str], answer: str) -> Piece:
        texts = [*turns, answer]
        prompt = self._prompter.prompt(texts, pooled=1)
        encoded = self._tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        ahead = len(prompt.ids) - len(offsets)  # a BOS that no text stands for
        end = len(prompt.text) - len(self._prompter.skeleton(len(texts)).pieces[-1])
        begin = end - len(answer)
        own = [i for i, (a, b) in enumerate(offsets) if b > begin and a < end and b > a]
        return Piece(list(prompt.ids[: ahead + own[-1] + 1]), ahead + own[0])


def _arranged(question: Question, pieces: list[Piece]) -> Asked:
    """As few pieces as tell all that is asked."""
    if not question.options:
        return Asked(question, tuple(pieces))
    letters, words = pieces[: len(question.options)], pieces[len(question.options) :]
    prompts = [piece.ids[: piece.start] for piece in letters]
    if any(len(piece.ids) - piece.start != 1 for piece in letters) or any(ids != prompts[0] for ids in prompts):
        return Asked(question, tuple(pieces), None, len(letters) if words else None)
    tokens = tuple(piece.ids[-1] for piece in letters)
    if words and words[0].ids[: words[0].start] == prompts[0]:
        return Asked(question, (words[0]._replace(also=tokens),), 0, 0)
    gold = letters[question.letters.index(question.gold)]._replace(also=tokens)
    return Asked(question, (gold, *words), 0, 1 if words else None)
