"""One text as the model reads it: its own tokens, and which characters of it stand behind each of them.

A token is listed with the characters that it adds: put together, the pieces are the text again. Where a character takes
several tokens, the first holds it and the others hold nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.text.prompts import Prompter, is_unicode

MOST_CHARACTERS = 40_000
"""A text is cut here before it is looked at any closer."""


class Probed(NamedTuple):
    """A text with what stands before it."""

    ids: list[int]
    """All that the model reads, up to the last token of the text."""
    first: int
    """The place of the text's first token."""
    text: str
    """As it stands in the prompt: some templates take blanks off its ends."""
    tokens: list[str]
    """The characters that each of the text's tokens adds."""
    pieces: list[int]
    """0, or which piece of a character the token is, counted from 1."""

    @property
    def own(self) -> list[int]:
        """The ids of the text's tokens."""
        return self.ids[self.first :]


def check_text(text: str) -> None:
    """Refuse a text without a sign, and one that no tokenizer can encode."""
    if not text.strip():
        raise UserError("There is no text to read", "Give a sentence.")
    if not is_unicode(text):
        raise UserError("The text is not valid Unicode", "Take the broken signs out.")


def bounded(text: str, tokenizer: Any, most: int) -> tuple[str, bool]:
    """At most so many tokens of a text, in whole characters, and whether it was cut."""
    if not tokenizer.is_fast:
        raise UserError(
            "This model's tokenizer cannot say where its tokens lie in the text",
            "Save the model with a fast tokenizer.",
        )
    short = text[:MOST_CHARACTERS]
    offsets = tokenizer(short, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if len(offsets) > most:
        short = short[: offsets[most][0]]
    return short, len(short) < len(text)


def as_turn(text: str, prompter: Prompter, tokenizer: Any, before: Sequence[str] = ()) -> Probed:
    """The text as a user's turn in the model's chat template, behind the turns `before`; it is not to be changed there.

    A token that reaches over an edge of the text is one of its tokens, listed with the text's part of its characters.
    """
    if not prompter.is_plain(text):
        raise UserError(
            "The text holds markers of the model's chat template",
            "Take them out; `sts probe --raw` reads it without a template.",
        )
    turns = [*before, text]
    if not prompter.passes(turns):
        raise UserError("The model's chat template changes the text", "Read it raw, without the template.")
    prompt = prompter.prompt(turns, pooled=1)
    encoded = tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = [(a, b) for a, b in encoded["offset_mapping"]]
    offsets = [(0, 0)] * (len(prompt.ids) - len(offsets)) + offsets  # the prompter has set a BOS before them
    pieces = prompter.skeleton(len(turns)).pieces
    as_given = len(prompt.text) == sum(map(len, pieces)) + sum(map(len, turns))  # else blanks at the ends are gone
    end = len(prompt.text) - len(pieces[-1])
    start = end - len(text if as_given else text.strip())
    return _probed(list(prompt.ids), offsets, prompt.text, start, end)


def as_it_is(text: str, tokenizer: Any) -> Probed:
    """The text without a template, after the BOS where the tokenizer sets one."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), [(a, b) for a, b in encoded["offset_mapping"]]
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos] and offsets[0] == (0, 0):  # the text brings its own
        ids, offsets = ids[1:], offsets[1:]
    return _probed(ids, offsets, text, 0, len(text))


def cut_before(probed: Probed, head: int, context: int) -> tuple[Probed, int]:
    """Take the turns before the text away from the left until all fits the context; returns also how many tokens."""
    over = min(max(0, len(probed.ids) - context), probed.first - head)
    ids = [*probed.ids[:head], *probed.ids[head + over :]]
    return probed._replace(ids=ids, first=probed.first - over), over


def _probed(ids: list[int], offsets: list[tuple[int, int]], string: str, start: int, end: int) -> Probed:
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and b > a]
    if not inside:
        raise UserError("The text gives no token of its own", "Give a longer text.")
    first, last = inside[0], inside[-1]
    tokens, pieces, upto = [], [], start
    for i in range(first, last + 1):
        reaches = end if i == last else min(max(offsets[i][1], upto), end)
        tokens.append(string[upto:reaches])
        pieces.append(0)
        if not tokens[-1] and i > first:
            pieces[-2] = pieces[-2] or 1
            pieces[-1] = pieces[-2] + 1
        upto = reaches
    return Probed(ids[: last + 1], first, string[start:end], tokens, pieces)
