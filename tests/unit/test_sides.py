"""Which rows may be queried: half of them, chosen by content, equal questions on one side."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sts_core.text.sides import split
from sts_core.text.sources import Row


def rows(questions: list[str]) -> list[Row]:
    return [Row(number, question, "a", "w") for number, question in enumerate(questions)]


@given(st.lists(st.text(max_size=6), max_size=60))
def test_the_halves_are_disjoint_and_whole(questions: list[str]) -> None:
    sides = split(rows(questions))
    assert sorted([*sides.queried, *sides.kept]) == sorted(rows(questions))


@given(st.lists(st.sampled_from(["a", "a ", "\na", "b", "c", "d\u200b", "d", "\ud800"]), max_size=40))
def test_equal_questions_are_on_one_side(questions: list[str]) -> None:
    """White space around a question does not make it another one."""
    queried, kept = ({row.question.strip() for row in side} for side in split(rows(questions)))
    assert not queried & kept


def test_different_questions_are_halved() -> None:
    for count in (1, 2, 7, 100, 333):
        sides = split(rows([f"question {i}" for i in range(count)]))
        assert len(sides.queried) == (count + 1) // 2


def test_the_order_in_the_file_does_not_matter() -> None:
    questions = [f"question {i}" for i in range(50)]
    shuffled = random.Random(0).sample(questions, 50)
    assert [r.question for r in split(rows(questions)).queried] == [r.question for r in split(rows(shuffled)).queried]


def test_the_answer_does_not_matter() -> None:
    """So the same question with another gold answer cannot be trained on and scored."""
    plain = rows([f"question {i}" for i in range(50)])
    other = [row._replace(answer=f"{row.number}", worked=None) for row in plain]
    assert [r.number for r in split(plain).queried] == [r.number for r in split(other).queried]
