"""A text's own tokens in a prompt: put together they are the text again, whatever stands around it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sts_core.errors import UserError
from sts_core.text.probed import MOST_CHARACTERS, as_it_is, as_turn, bounded, check_text, cut_before
from sts_core.text.prompts import Prompter
from tests import tiny

TEXTS = [
    "seven train apple", "  blanks at both ends \n", "a\nb\t\tc\r\nd", "é🏔️ 山 שלום", "🏔", "\x1b[31mred\u202e \0",
    "<script>alert(1)</script>", "?",
]  # fmt: skip


@pytest.mark.parametrize("style", tiny.STYLES)
@pytest.mark.parametrize("text", TEXTS)
def test_the_tokens_of_a_turn_put_together_are_the_text(style: tiny.Style, text: str) -> None:
    words = tiny.tokenizer(style)
    prompter = Prompter(words)
    for before in ((), ("seven?", "green"), ("  seven?", "green ", "🏔", "x")):
        read = as_turn(text, prompter, words, before)
        assert "".join(read.tokens) == read.text
        assert read.text in (text, text.strip())
        assert len(read.own) == len(read.tokens) == len(read.pieces)
        prompt = prompter.prompt([*before, text], pooled=1)
        assert read.ids == list(prompt.ids)[: len(read.ids)]
        start, end = prompt.spans[0]
        assert read.first <= start
        assert end <= len(read.ids)  # what a measurement would pool is among them


@pytest.mark.parametrize("style", ["llama3", "gemma"])
def test_a_template_that_takes_blanks_away_is_followed(style: tiny.Style) -> None:
    words = tiny.tokenizer(style)
    assert as_turn(" seven ", Prompter(words), words).text == "seven"


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("style", tiny.STYLES)
def test_a_raw_text_is_read_as_it_is_after_one_bos(style: tiny.Style, text: str) -> None:
    words = tiny.tokenizer(style)
    read = as_it_is(text, words)
    assert "".join(read.tokens) == read.text == text
    assert read.ids == words(text)["input_ids"]
    assert read.first == (1 if style in ("llama3", "gemma", "plain-bos") else 0)


def test_a_raw_text_with_its_own_bos_gets_no_second() -> None:
    words = tiny.tokenizer("llama3")
    read = as_it_is("<|begin_of_text|>seven", words)
    assert read.ids.count(words.bos_token_id) == 1
    assert read.text == "".join(read.tokens) == "<|begin_of_text|>seven"


def test_pieces_of_one_character_are_counted() -> None:
    words = tiny.tokenizer("chatml")
    read = as_turn("a🏔b", Prompter(words), words)
    assert read.tokens == ["a", "🏔", "", "", "", "b"]
    assert read.pieces == [0, 1, 2, 3, 4, 0]


def test_signs_that_a_tokenizer_drops_belong_to_the_next_token() -> None:
    """As with sentence pieces that cut between words and keep no blank."""
    inner = Tokenizer(models.WordLevel({"one": 0, "two": 1, "?": 2}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.normalizer = normalizers.Lowercase()
    inner.decoder = decoders.WordPiece()
    words = PreTrainedTokenizerFast(tokenizer_object=inner)
    read = as_it_is("  One  two ", words)
    assert read.tokens == ["  One", "  two "]


def test_demonstrations_are_cut_from_the_left_behind_the_head() -> None:
    words = tiny.tokenizer("chatml")
    prompter = Prompter(words)
    whole = as_turn("apple", prompter, words, ["seven train speed stone?", "green"])
    head = prompter.prompt(["x"], pooled=1).head
    cut, over = cut_before(whole, head, len(whole.ids) - 3)
    assert over == 3
    assert cut.ids == whole.ids[:head] + whole.ids[head + 3 :]
    assert cut.own == whole.own
    assert cut_before(whole, head, len(whole.ids)) == (whole, 0)


@pytest.mark.parametrize("text", ["seven train apple " * 40, "🏔" * 50])
def test_a_long_text_is_cut_in_whole_characters(text: str) -> None:
    words = tiny.tokenizer("chatml")
    short, cut = bounded(text, words, 30)
    assert cut
    assert text.startswith(short)
    assert 25 <= len(words(short)["input_ids"]) <= 30
    assert bounded(short, words, 30) == (short, False)


def test_a_huge_text_is_cut_before_it_is_tokenised() -> None:
    words = tiny.tokenizer("chatml")

    class Watching:
        is_fast = True
        seen: ClassVar[list[int]] = []

        def __call__(self, text: str, **how: Any) -> Any:
            self.seen.append(len(text))
            return words(text, **how)

    assert bounded("x " * 10**6, Watching(), 100)[1]
    assert max(Watching.seen) <= MOST_CHARACTERS


def test_a_tokenizer_that_gives_no_places_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="where its tokens lie"):
        bounded("seven", Slow(), 10)


@pytest.mark.parametrize("text", ["", " \n\t", "broken \ud800"])
def test_what_is_no_text_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        check_text(text)
    assert caught.value.hint


def test_markers_of_the_template_are_refused_as_a_turn() -> None:
    words = tiny.tokenizer("chatml")
    with pytest.raises(UserError, match="markers"):
        as_turn("a<|im_end|>b", Prompter(words), words)
    assert "".join(as_it_is("a<|im_end|>b", words).tokens) == "a<|im_end|>b"
