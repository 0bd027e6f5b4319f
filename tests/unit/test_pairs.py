"""Token-aligned pairs: the same pooled tokens in both arms, or the row is dropped and counted."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sts_core.errors import UserError
from sts_core.spec import DataSpec
from sts_core.text.pairs import PairSet, build_pairs
from sts_core.text.prompts import Prompter
from tests import tiny

LONG = 4_000


@cache
def tokenizer(style: tiny.Style) -> Any:
    return tiny.tokenizer(style)


def pairs(
    path: Path, style: tiny.Style = "chatml", pool: str = "query", context: int = LONG, seed: int = 0, **more: Any
) -> PairSet:
    spec = DataSpec(**{"name": "physics", "data": str(path), "demos": 2, "tokens": 10**6, **more})
    return build_pairs(spec, Prompter(tokenizer(style)), pool, context, seed)


def pooled(prompt: Any) -> list[list[int]]:
    return [prompt.ids[start:end] for start, end in prompt.spans]


def questions(path: Path) -> list[str]:
    return [json.loads(line)["question"] for line in path.read_text().splitlines()]


@pytest.fixture
def plenty(tmp_path: Path) -> Path:
    return tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(60))


@pytest.mark.parametrize("pool", ["query", "answer", "query+answer"])
@pytest.mark.parametrize("style", tiny.STYLES)
def test_both_arms_are_the_templates_with_the_same_pooled_tokens(plenty: Path, style: tiny.Style, pool: str) -> None:
    """Each arm against the template's own rendering of the rows that the set says it used."""
    got = pairs(plenty, style, pool)
    records = [json.loads(line) for line in plenty.read_text().splitlines()]
    demos = [text for n in got.demo_rows for text in (records[n]["question"], records[n]["cot"])]
    assert len(got.pairs) >= 28
    for pair in got.pairs:
        record = records[pair.row]
        asked = [record["question"]] + ([record["answer"]] if pool != "query" else [])
        for prompt, texts in ((pair.base, asked), (pair.icl, demos + asked)):
            if tokenizer(style).chat_template:
                turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
                own = tokenizer(style).apply_chat_template(turns, return_dict=True)["input_ids"]
                assert prompt.ids == own
        assert pooled(pair.base) == pooled(pair.icl)
        wanted = {"query": asked[:1], "answer": asked[1:], "query+answer": asked}[pool]
        assert len(pair.base.spans) == len(wanted)
        for ids, text in zip(pooled(pair.base), wanted, strict=True):
            inside = tokenizer(style).decode(ids).strip()
            assert inside
            assert inside == text if tokenizer(style).chat_template else inside in text


def test_budgets_are_reached_in_whole_items(plenty: Path) -> None:
    got = pairs(plenty, tokens=100)
    assert got.tokens >= 100 > got.tokens - got.pairs[-1].pooled
    assert not got.warnings
    more = pairs(plenty, tokens=200)
    assert [p.row for p in more.pairs][: len(got.pairs)] == [p.row for p in got.pairs]
    assert more.demo_rows == got.demo_rows


def test_too_few_rows_is_a_warning_with_the_number_reached(plenty: Path) -> None:
    got = pairs(plenty)
    assert len(got.warnings) == 1
    assert f"{got.tokens:,} of the 1,000,000" in got.warnings[0]


@pytest.mark.parametrize("name", ["target", "physics"])
def test_a_demonstration_is_never_a_query_and_halves_are_disjoint(plenty: Path, name: str) -> None:
    asked = questions(plenty)
    used: set[int] = set()
    for seed in range(5):
        got = pairs(plenty, seed=seed, name=name)
        rows = {pair.row for pair in got.pairs}
        assert not {asked[n] for n in rows} & {asked[n] for n in got.demo_rows}
        assert len(rows) == len(got.pairs)
        used |= rows
    assert len(used) <= 30  # whatever the seed, half of the rows are never queried


def test_repeated_questions_never_stand_on_both_sides(tmp_path: Path) -> None:
    rows = tiny.rows(20)
    again = [{**row, "question": f" {row['question']}\n", "answer": "another"} for row in rows]
    path = tiny.write_rows(tmp_path / "rows.jsonl", rows + again)
    asked = [question.strip() for question in questions(path)]
    for seed in range(5):
        got = pairs(path, seed=seed)
        assert not {asked[p.row] for p in got.pairs} & {asked[n] for n in got.demo_rows}


def test_demonstrations_of_a_file_of_their_own_are_numbered_there_and_not_queried(tmp_path: Path) -> None:
    rows = tiny.rows(40)
    path = tiny.write_rows(tmp_path / "rows.jsonl", rows)
    demos = tiny.write_rows(tmp_path / "demos.jsonl", rows[10:14])
    got = pairs(path, demo_data=str(demos), demos=4)
    assert sorted(got.demo_rows) == [0, 1, 2, 3]
    assert not {pair.row for pair in got.pairs} & set(range(10, 14))
    assert all(rows[n + 10]["question"] in got.pairs[0].icl.text for n in got.demo_rows)


def test_the_seed_decides_and_repeats(plenty: Path) -> None:
    assert pairs(plenty, seed=1) == pairs(plenty, seed=1)
    first, other = pairs(plenty, seed=1), pairs(plenty, seed=2)
    assert first.demo_rows != other.demo_rows
    assert [p.row for p in first.pairs] != [p.row for p in other.pairs]


def test_too_long_is_cut_from_the_left_between_head_and_query(tmp_path: Path) -> None:
    path = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(40, words=(10, 30)))
    whole, cut = pairs(path, demos=5), pairs(path, demos=5, context=200)
    assert max(len(pair.icl.ids) for pair in cut.pairs) == 200
    assert any("cut" in warning for warning in cut.warnings)
    away = {len(a.icl.ids) - len(b.icl.ids) for a, b in zip(whole.pairs, cut.pairs, strict=True)}
    assert len(away) == 1
    (gone,) = away
    for before, after in zip(whole.pairs, cut.pairs, strict=True):
        head = before.icl.head
        assert after.base == before.base
        assert after.icl.ids == before.icl.ids[:head] + before.icl.ids[head + gone :]
        assert pooled(after.icl) == pooled(after.base)
        assert after.icl.text == tokenizer("chatml").decode(after.icl.ids)


def test_a_query_that_would_fill_the_context_is_dropped(tmp_path: Path) -> None:
    rows = tiny.rows(20)
    for row in rows[::2]:
        row["question"] += " stone" * 200
    got = pairs(tiny.write_rows(tmp_path / "rows.jsonl", rows), context=200, demos=1)
    assert got.dropped["too long"] > 0
    assert all(pair.row % 2 for pair in got.pairs)
    assert all(len(pair.icl.ids) <= 200 for pair in got.pairs)


@pytest.mark.parametrize("style", ["llama3", "gemma", "chatml"])
def test_questions_with_the_templates_own_markers_are_dropped(tmp_path: Path, style: tiny.Style) -> None:
    markers = [token.content for token in tokenizer(style).added_tokens_decoder.values() if token.special]
    rows = tiny.rows(40)
    for number, row in enumerate(rows[:20]):
        row["question"] = f"say {markers[number % len(markers)]} {row['question']}"
    got = pairs(tiny.write_rows(tmp_path / "rows.jsonl", rows), style)
    assert got.dropped["holds the template's special tokens"] > 0
    assert all(pair.row >= 20 for pair in got.pairs)
    assert all(number >= 20 for number in got.demo_rows)


def test_a_query_that_is_tokenised_differently_after_demonstrations_is_dropped(plenty: Path) -> None:
    class Fickle(Prompter):
        """Splits the pooled text otherwise in a longer prompt, when it names a river."""

        def prompt(self, texts: list[str], pooled: int) -> Any:
            made = super().prompt(texts, pooled)
            if len(texts) > 1 and "river" in texts[-1]:
                made.ids[made.spans[0][0]] += 1
            return made

    got = build_pairs(DataSpec(name="physics", data=str(plenty)), Fickle(tokenizer("chatml")), "query", LONG, 0)
    assert got.dropped["tokenised differently after demonstrations"] > 0
    assert got.pairs
    assert not any("river" in pair.base.text for pair in got.pairs)
    assert all(pooled(pair.base) == pooled(pair.icl) for pair in got.pairs)


def test_answers_the_template_would_change_are_not_used(tmp_path: Path) -> None:
    """As reasoning models' templates do, which cut the thoughts out of earlier answers."""
    thinking = tiny.tokenizer("chatml")
    thinking.chat_template = thinking.chat_template.replace(
        "{{ m['content'] }}", "{{ m['content'].split('</think>')[-1] }}"
    )
    rows = tiny.rows(40)
    for row in rows[:20]:
        row["cot"] = f"well </think> {row['cot']}"
    path = tiny.write_rows(tmp_path / "rows.jsonl", rows)
    spec = DataSpec(name="physics", data=str(path), demos=3)
    got = build_pairs(spec, Prompter(thinking), "query", LONG, 0)
    assert all(number >= 20 for number in got.demo_rows)


@pytest.mark.parametrize(("rows", "demos"), [(1, 1), (2, 2), (5, 3), (9, 5)])
def test_fewer_rows_than_demonstrations_and_a_query_is_refused(tmp_path: Path, rows: int, demos: int) -> None:
    path = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(rows))
    with pytest.raises(UserError, match="too few for") as caught:
        pairs(path, demos=demos)
    assert caught.value.hint


ODD = ["😀" * 5, "👩‍👩‍👧 family", "مرحبا بالعالم", "\u202egnorw", "\u200b", "\ufeff", "e\u0301\u0301", "\ud800 torn",
       "<|im_end|>", "<|im_start|>assistant\nyes", "<|im_end", "|>", "\r\n\r\n", "\x00", "a" * 50_000, "   x   ",
       "{{ 7*7 }}", "\nAnswer: no\n\nQuestion: why", "ﷺ", "\udc00\ud800"]  # fmt: skip
WILD = st.one_of(
    st.sampled_from(ODD), st.text(max_size=20), st.lists(st.sampled_from(ODD[:14]), max_size=4).map("".join)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    style=st.sampled_from(tiny.STYLES),
    pool=st.sampled_from(["query", "answer", "query+answer"]),
    texts=st.lists(st.tuples(WILD, WILD), min_size=6, max_size=12),
)
def test_whatever_the_rows_hold_pairs_align_or_are_counted(
    tmp_path: Path, style: tiny.Style, pool: str, texts: list[tuple[str, str]]
) -> None:
    path = tmp_path / "wild.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in texts))
    demos = tiny.write_rows(tmp_path / "demos.jsonl", tiny.rows(3))
    try:
        got = pairs(path, style, pool, context=1_000, demo_data=str(demos))
    except UserError as error:
        if not error.hint:
            raise
        return
    special = {i for i, token in tokenizer(style).added_tokens_decoder.items() if token.special}
    for pair in got.pairs:
        assert pooled(pair.base) == pooled(pair.icl)
        assert all(pooled(pair.base))
        assert not special & {token for span in pooled(pair.base) for token in span}
        for text, ids in zip(
            texts[pair.row] if pool == "query+answer" else [texts[pair.row][pool == "answer"]],
            pooled(pair.base),
            strict=True,
        ):
            inside = tokenizer(style).decode(ids).strip("\ufffd")
            assert inside in text or "\ufffd" in inside
    half = (len(texts) + 1) // 2
    unread = got.dropped.get("no question", 0) + got.dropped.get("no answer", 0)
    assert len(got.pairs) + sum(got.dropped.values()) >= half - unread
