"""Token ids that share their beginning with other prompts' read like plain lists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sts_core.text.tokens import Tokens

IDS = st.lists(st.integers(0, 9), max_size=12)
PLACE = st.none() | st.integers(-14, 14)


@given(IDS, IDS, st.integers(0, 14), st.integers(0, 14), PLACE, PLACE, st.sampled_from([None, 1, 2, -1]))
def test_they_read_like_a_list(
    ids: list[int], others: list[int], first: int, most: int, start: int | None, stop: int | None, step: int | None
) -> None:
    tokens = Tokens(ids, Tokens(others, at_most=first), at_most=most)
    assert list(tokens) == tokens == ids
    assert len(tokens) == len(ids)
    assert tokens[start:stop:step] == ids[start:stop:step]
    assert [tokens[i] for i in range(-len(ids), len(ids))] == [ids[i] for i in range(-len(ids), len(ids))]


def test_a_common_beginning_is_held_once() -> None:
    one = Tokens([1, 2, 3, 4], at_most=3)
    assert Tokens([1, 2, 3, 9], one, at_most=3)._first is one._first
    # Not where it would reach into what is the prompt's own, and not when it differs.
    assert len(Tokens([1, 2, 3, 9], one, at_most=2)._first) == 0
    assert len(Tokens([1, 7, 3, 9], one, at_most=3)._first) == 0
