"""Prompts through the model's own chat template, with the pooled tokens marked (METHOD 2).

The template is rendered once with stand-ins for the texts, which cuts it into its literal pieces; a prompt is those
pieces with the texts between them. So the position of every text in the prompt is known, and the same query has
the same surroundings in both arms. Exactly one BOS, never special tokens added to an already templated string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sts_core.errors import UserError

SIGNS_A_TOKEN = 40
"""Of a text, no more than so many signs for each token there is room for need be tokenised: the rest cannot fit."""
_STAND_IN = "qzSTANDINqz{}qz"
_PLAIN_QUESTION, _PLAIN_ANSWER, _PLAIN_GAP = "Question: ", "\nAnswer:", "\n\n"


class Prompt(NamedTuple):
    """A tokenised prompt."""

    text: str
    """Empty where nobody asked for it."""
    ids: Sequence[int]
    spans: list[list[int]]
    """Token spans [start, end) of the pooled texts, in order; empty ones stand for texts that gave no token."""
    head: int
    """Tokens before the first text: what the template itself emits."""


class Skeleton(NamedTuple):
    """The literal pieces around `len(pieces) - 1` texts."""

    pieces: tuple[str, ...]

    def fill(self, texts: list[str]) -> tuple[str, list[tuple[int, int]]]:
        """The whole string, and where each text lies in it."""
        parts, spans, at = [self.pieces[0]], [], len(self.pieces[0])
        for text, piece in zip(texts, self.pieces[1:], strict=True):
            spans.append((at, at + len(text)))
            parts += [text, piece]
            at += len(text) + len(piece)
        return "".join(parts), spans


class Prompter:
    """Renders and tokenises prompts for one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(
                "This model's tokenizer cannot say where its tokens lie in the text",
                "Save the model with a fast tokenizer.",
            )
        self._tokenizer = tokenizer
        self._chat = bool(tokenizer.chat_template)
        self._trims = self._chat and self._cut(1, pad="  ") is None
        self._skeletons: dict[int, Skeleton] = {}
        # The named ones, and those that are special in the tokenizer's file alone (the headers of Llama 3).
        in_file = (number for number, token in tokenizer.added_tokens_decoder.items() if token.special)
        self.special_ids = frozenset({*tokenizer.all_special_ids, *in_file})
        bare = tokenizer("x")["input_ids"]
        bos = tokenizer.bos_token_id
        self._bos = bos if bos is not None and bare[:1] == [bos] else None

    def prompt(self, texts: list[str], pooled: int) -> Prompt:
        """The prompt whose turns are these texts, user and assistant by turns; the last `pooled` of them are marked."""
        string, places = self._fill(texts)
        encoded = self._tokenizer(string, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = list(encoded["input_ids"])
        offsets: list[tuple[int, int]] = list(encoded["offset_mapping"])
        if self._bos is not None and ids[:1] != [self._bos]:
            ids.insert(0, self._bos)
            offsets.insert(0, (0, 0))
        spans = [_tokens_inside(offsets, start, end) for start, end in places[len(texts) - pooled :]]
        head = sum(1 for _, end in offsets if end <= places[0][0])
        return Prompt(string, ids, spans, head)

    def is_plain(self, text: str) -> bool:
        """Whether a text can stand in a prompt without breaking it: valid Unicode, none of the special tokens."""
        return is_unicode(text) and self.special_ids.isdisjoint(
            self._tokenizer(text, add_special_tokens=False)["input_ids"]
        )

    def passes(self, texts: list[str]) -> bool:
        """Whether the template writes these turns as they are: some cut an answer at a marker of their own."""
        if not self._chat:
            return True
        string, _ = self._fill(texts)
        return string == self._tokenizer.apply_chat_template(_turns(texts), tokenize=False)

    def text(self, ids: Sequence[int]) -> str:
        """The characters behind token ids, markers included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def skeleton(self, turns: int) -> Skeleton:
        """The template's pieces around this many turns."""
        if turns not in self._skeletons:
            skeleton = self._cut(turns, pad="") if self._chat else _plain(turns)
            if skeleton is None:
                raise UserError(
                    "The model's chat template changes the texts it is given",
                    "Use a model whose template passes user and assistant turns through.",
                )
            self._skeletons[turns] = skeleton
        return self._skeletons[turns]

    def _fill(self, texts: list[str]) -> tuple[str, list[tuple[int, int]]]:
        return self.skeleton(len(texts)).fill([text.strip() if self._trims else text for text in texts])

    def _cut(self, turns: int, pad: str) -> Skeleton | None:
        """Render stand-ins and cut at them; None when one does not come back as it was given."""
        from jinja2 import TemplateError

        stand_ins = [pad + _STAND_IN.format(i) + pad for i in range(turns)]
        try:
            rest = self._tokenizer.apply_chat_template(_turns(stand_ins), tokenize=False)
        except (TemplateError, TypeError) as error:
            raise UserError(
                f"The model's chat template fails: {error}", "Use a model whose template takes plain turns."
            ) from None
        pieces = []
        for stand_in in stand_ins:
            piece, found, rest = rest.partition(stand_in)
            if not found:
                return None
            pieces.append(piece)
        return Skeleton((*pieces, rest))


def _turns(texts: list[str]) -> list[dict[str, str]]:
    """User and assistant by turns, as templates take them."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def _plain(turns: int) -> Skeleton:
    """What base models without a template get: `Question: …`, `Answer: …`, blank lines between."""
    pieces = [_PLAIN_QUESTION]
    for turn in range(turns):
        last = turn == turns - 1
        if turn % 2 == 0:
            pieces.append(_PLAIN_ANSWER if last else _PLAIN_ANSWER + " ")
        else:
            pieces.append("" if last else _PLAIN_GAP + _PLAIN_QUESTION)
    return Skeleton(tuple(pieces))


def _tokens_inside(offsets: list[tuple[int, int]], start: int, end: int) -> list[int]:
    """The token span whose characters all lie in [start, end); a token that straddles an edge is left out."""
    inside = [i for i, (a, b) in enumerate(offsets) if a >= start and b <= end and b > a]
    return [inside[0], inside[-1] + 1] if inside else [0, 0]


def is_unicode(text: str) -> bool:
    """False for lone surrogates, which no tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
