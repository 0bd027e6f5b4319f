"""Prompts: what the model's own template says, one BOS, and spans that hold the question and nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_core.errors import UserError
from sts_core.text.prompts import Prompter
from tests import tiny

CHATS: tuple[tiny.Style, ...] = ("chatml", "llama3", "gemma")
TEXTS = ["How many apples?", "Seven of them.", "And how\nmany  trains?", "12 or 3", "What is  the speed?"]


@cache
def tokenizer(style: tiny.Style) -> Any:
    return tiny.tokenizer(style)


@cache
def prompter(style: tiny.Style) -> Prompter:
    return Prompter(tokenizer(style))


def turns(texts: list[str]) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def decoded(style: tiny.Style, ids: list[int]) -> str:
    return str(tokenizer(style).decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("style", CHATS)
def test_the_prompt_is_what_the_models_template_gives(style: tiny.Style, count: int) -> None:
    """As text and as tokens; also with spaces around a text, which some templates trim and others keep."""
    texts = [f"  {text} " for text in TEXTS[:count]]
    got = prompter(style).prompt(texts, pooled=1)
    own = tokenizer(style).apply_chat_template(turns(texts), tokenize=True, return_dict=True)["input_ids"]
    assert got.text == tokenizer(style).apply_chat_template(turns(texts), tokenize=False)
    assert got.ids == own


def test_without_a_template_a_plain_one_is_used() -> None:
    got = prompter("plain").prompt(TEXTS[:3], pooled=1)
    assert got.text == (
        "Question: How many apples?\nAnswer: Seven of them.\n\nQuestion: And how\nmany  trains?\nAnswer:"
    )
    assert decoded("plain", got.ids) == got.text


@pytest.mark.parametrize(("style", "bos"), [("llama3", "<|begin_of_text|>"), ("gemma", "<bos>"), ("plain-bos", "<s>")])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_exactly_one_bos_and_it_comes_first(style: tiny.Style, bos: str, count: int) -> None:
    number = tokenizer(style).convert_tokens_to_ids(bos)
    ids = prompter(style).prompt(TEXTS[:count], pooled=1).ids
    assert ids[0] == number
    assert ids.count(number) == 1


def test_a_template_without_bos_still_gets_the_one_its_tokenizer_gives() -> None:
    bare = tiny.tokenizer("llama3")
    bare.chat_template = bare.chat_template.replace("{{ bos_token }}", "")
    ids = Prompter(bare).prompt(TEXTS[:3], pooled=1).ids
    assert ids[0] == bare.bos_token_id
    assert ids.count(bare.bos_token_id) == 1


def test_a_tokenizer_without_bos_gets_none() -> None:
    ids = prompter("plain").prompt(TEXTS[:1], pooled=1).ids
    assert ids == tokenizer("plain")(f"Question: {TEXTS[0]}\nAnswer:", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("style", tiny.STYLES)
def test_each_span_decodes_to_its_text(style: tiny.Style) -> None:
    """Or, where the first word's token begins in the template, to the rest: no token holds anything from outside."""
    got = prompter(style).prompt(TEXTS[:4], pooled=2)
    for span, text in zip(got.spans, TEXTS[2:4], strict=True):
        inside = decoded(style, got.ids[slice(*span)])
        assert inside in text
        assert len(text) - len(inside) <= len(text.split()[0])  # at most the first word hangs on the template


@pytest.mark.parametrize("style", ["plain", "plain-bos"])
def test_a_token_that_begins_outside_the_text_is_left_out(style: tiny.Style) -> None:
    """` river` is one token, and its space is the plain template's."""
    got = prompter(style).prompt(["river stone"], pooled=1)
    start, end = got.spans[0]
    assert decoded(style, got.ids[start - 1 : end]) == " river stone"
    assert decoded(style, got.ids[start:end]) == " stone"


@pytest.mark.parametrize("style", CHATS)
def test_in_chats_the_span_is_the_whole_question(style: tiny.Style) -> None:
    got = prompter(style).prompt(TEXTS[:3], pooled=1)
    assert decoded(style, got.ids[slice(*got.spans[0])]) == TEXTS[2]


@pytest.mark.parametrize("style", tiny.STYLES)
def test_the_head_ends_before_the_first_text(style: tiny.Style) -> None:
    one, other = (prompter(style).prompt([text], pooled=1) for text in ("zebra", "12 quartz"))
    assert one.head == other.head
    assert one.ids[: one.head] == other.ids[: one.head]
    assert one.head <= one.spans[0][0]
    assert (
        decoded(style, one.ids[: one.head])
        .rstrip()
        .endswith({"chatml": "user", "llama3": "<|end_header_id|>", "gemma": "user"}.get(style, "Question:"))
    )


def test_a_system_message_the_template_adds_stays_in_the_head_of_both_arms() -> None:
    base, icl = prompter("chatml").prompt(TEXTS[:1], pooled=1), prompter("chatml").prompt(TEXTS[:3], pooled=1)
    assert base.head == icl.head
    assert "tiny model" in decoded("chatml", base.ids[: base.head])
    assert base.ids[: base.head] == icl.ids[: base.head]


@pytest.mark.parametrize("style", tiny.STYLES)
def test_every_marker_of_the_tokenizer_is_known_as_special(style: tiny.Style) -> None:
    """Also those that are special in its file alone, such as the header markers of Llama 3."""
    known = {i for i, token in tokenizer(style).added_tokens_decoder.items() if token.special}
    assert known <= prompter(style).special_ids
    for number in known:
        assert not prompter(style).is_plain(f"a {tokenizer(style).convert_ids_to_tokens(number)} b")


def test_a_template_that_changes_texts_is_refused() -> None:
    shouting = tiny.tokenizer("chatml")
    shouting.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(UserError, match="changes the texts"):
        Prompter(shouting).prompt(["a"], pooled=1)


def test_a_broken_template_is_told() -> None:
    broken = tiny.tokenizer("chatml")
    broken.chat_template = "{% for m in messages %}{{ raise_exception('not today') }}{% endfor %}"
    with pytest.raises(UserError, match="not today"):
        Prompter(broken).prompt(["a"], pooled=1)


def test_a_tokenizer_without_positions_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="where its tokens lie"):
        Prompter(Slow())


MARKERS = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<bos>", "<s>", "qzSTANDINqz0qz", "{{ x }}"]
WILD = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        st.sampled_from([*MARKERS, "\u200b", "\u202e", "👩‍👩‍👧", "e\u0301", "\n\n", "\r\n", "\ufeff", "مرحبا", "  "]),
    ),
    max_size=5,
).map("".join)


@settings(max_examples=80, deadline=None)
@given(style=st.sampled_from(tiny.STYLES), texts=st.lists(WILD, min_size=3, max_size=3))
def test_any_texts_lie_where_the_prompt_says(style: tiny.Style, texts: list[str]) -> None:
    """Whatever a text is, the prompt is the template's and no pooled token holds a character from outside its text."""
    got = prompter(style).prompt(texts, pooled=1)
    if tokenizer(style).chat_template:
        assert got.text == tokenizer(style).apply_chat_template(turns(texts), tokenize=False)
    start, end = got.spans[0]
    inside = decoded(style, got.ids[start:end])
    assert 0 <= start <= end <= len(got.ids)
    assert inside.strip("\ufffd") in texts[2] or "\ufffd" in inside.strip("\ufffd")
