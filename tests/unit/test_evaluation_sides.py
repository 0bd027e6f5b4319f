"""Which rows are evaluated: those that nobody scored and nobody trains on, whatever the rows lack."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_core.errors import UserError
from sts_core.spec import DataSpec
from sts_core.text.pairs import build_pairs
from sts_core.text.prompts import Prompter
from sts_core.text.sides import held_out, split
from sts_core.text.sources import Row, read_rows
from sts_core.train.evaluation.sets import Question, as_question, domain_set, target_set
from tests import tiny


def rows(questions: list[str]) -> list[Row]:
    return [Row(number, question, "a", "w") for number, question in enumerate(questions)]


@given(st.lists(st.text(max_size=3), max_size=60), st.integers(-2, 70))
def test_the_kept_half_is_cut_in_two(questions: list[str], n: int) -> None:
    """Whole, in order, no question on both sides; at most `n` and at most half of it are evaluated."""
    kept, sides = split(rows(questions)).kept, held_out(rows(questions), n)
    assert [*sides.trained, *sides.evaluated] == kept
    assert not {row.question.strip() for row in sides.trained} & {row.question.strip() for row in sides.evaluated}
    assert len(sides.evaluated) <= max(0, min(n, len(kept) // 2))


def test_of_different_questions_exactly_so_many_are_evaluated() -> None:
    for count, n, expected in ((100, 10, 10), (100, 0, 0), (100, 40, 25), (3, 5, 0), (4, 5, 1)):
        assert len(held_out(rows([f"question {i}" for i in range(count)]), n).evaluated) == expected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pool", ["query", "answer"])
def test_rows_are_those_that_nobody_else_uses(tmp_path: Path, seed: int, pool: str) -> None:
    """Rows without an answer, or without a worked one, make other halves for the one than for the other."""
    draw, records = random.Random(seed), tiny.rows(90, seed=seed)
    for record in records:
        for field in ("answer", "cot"):
            if draw.random() < 0.25 * seed / 3:
                record[field] = ""
    path = tiny.write_rows(tmp_path / "rows.jsonl", records)
    for name, make in (("physics", domain_set), ("target", target_set)):
        spec = DataSpec(name, str(path), demos=2, tokens=100_000)
        scored = {pair.row for pair in build_pairs(spec, Prompter(tiny.tokenizer("chatml")), pool, 256, 0).pairs}
        chosen = make(spec, rows=12)
        asked = {question.row for question in chosen.questions}
        assert 1 <= len(asked) <= 12
        assert seed > 0 or len(asked) == 12
        assert not scored & asked
        for field in ("answer", "worked"):
            trained = {row.number for row in held_out(read_rows(path, {}, ("question", field)).rows, 12).trained}
            assert name == "physics" or not trained & asked
        assert chosen == make(spec, rows=12)


def test_demonstrations_are_rows_that_are_not_evaluated(tmp_path: Path) -> None:
    """They do not change which rows are; they come from a file of their own where there is one."""
    path = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(80, seed=5))
    shown = tiny.write_rows(tmp_path / "shown.jsonl", tiny.rows(3, seed=6))
    spec, own = DataSpec("law", str(path)), DataSpec("law", str(path), demo_data=str(shown))
    plain, with_two, other = domain_set(spec, 15), domain_set(spec, 15, demos=2), domain_set(spec, 15, demos=2, seed=1)
    assert plain.questions == with_two.questions == other.questions
    assert plain.demos == ()
    assert len(with_two.demos) == len(other.demos) == 4
    assert with_two.demos != other.demos
    assert not set(with_two.demos[::2]) & {question.text for question in domain_set(spec, 80).questions}
    assert set(domain_set(own, 15, demos=3).demos[::2]) == {row["question"] for row in tiny.rows(3, seed=6)}
    with pytest.raises(UserError, match="60 demonstrations are asked for, 40 rows"):
        domain_set(spec, demos=60)


def test_the_worked_answer_is_asked_where_it_is_trained_on(tmp_path: Path) -> None:
    records = tiny.rows(40, seed=5)
    spec = DataSpec("target", str(tiny.write_rows(tmp_path / "rows.jsonl", records)))
    for question in target_set(spec, 5, answer="cot").questions:
        assert question.gold == records[question.row]["cot"]


@pytest.mark.parametrize(
    "records", [[{"question": "a", "answer": "b"}], [{"question": f"{i}", "cot": "", "answer": ""} for i in range(9)]]
)
def test_a_set_without_rows_to_spare_is_told(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    spec = DataSpec("law", str(tiny.write_rows(tmp_path / "rows.jsonl", records)))
    with pytest.raises(UserError, match="law: no row is left to evaluate"):
        domain_set(spec)


def test_options_are_found_again(tmp_path: Path) -> None:
    """As they are written into the question, also where the question itself has lines that look like options."""
    lines = "Which?\nA. one\nB. two\nA. first\nB. second\nC. third, or\nmore"
    found = as_question(Row(3, lines, " B ", None))
    assert found == Question(3, lines, "B", ("first", "second", "third, or\nmore"))
    assert as_question(Row(3, lines, "second", None)) == found
    assert as_question(Row(3, lines, "D", None)) == Question(3, lines, "D")
    assert as_question(Row(3, "What is 2 + 2?", "4", None)) == Question(3, "What is 2 + 2?", "4")
    assert as_question(Row(3, "What?", None, "worked")) is None
    assert found is not None
    assert (found.letters, found.gold_text) == ("ABC", "second")
    records = [{"question": "Which one?", "options": ["x", "y and z", "w"], "answer": index} for index in range(3)]
    written = read_rows(tiny.write_rows(tmp_path / "mc.jsonl", records), {}, ("question",)).rows
    asked = [as_question(row) for row in written]
    assert [(one.gold, one.options) for one in asked if one] == [(letter, ("x", "y and z", "w")) for letter in "ABC"]
