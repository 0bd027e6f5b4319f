"""A budget shared out: exactly the budget, floors and caps kept, shares held against another way of finding them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_core.errors import UserError
from sts_core.stats.allocation import ALLOCATIONS, allocate, check_quotas

MANY, SOME = settings(max_examples=10_000, deadline=None), settings(max_examples=600, deadline=None)


class Case(NamedTuple):
    scores: dict[str, float]
    available: dict[str, int]
    budget: int
    how: str
    tau: float
    floor: int
    cap: int | None

    def rows(self, **changes: Any) -> dict[str, int]:
        return allocate(*self._replace(**changes))

    @property
    def caps(self) -> dict[str, int]:
        return {name: min(have, have if self.cap is None else self.cap) for name, have in self.available.items()}

    @property
    def possible(self) -> bool:
        fits = all(cap >= self.floor for cap in self.caps.values())
        return fits and self.floor * len(self.scores) <= self.budget <= sum(self.caps.values())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores over many magnitudes, equal ones and zeros among them; budgets within reach and out of it."""
    names = draw(st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=8, unique=True))
    score = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 1e-12]), st.floats(0, 1e9, allow_subnormal=False))
    available = {name: draw(st.integers(0, 60)) for name in names}
    return Case(
        {name: draw(score) for name in names}, available, draw(st.integers(0, 250)), draw(st.sampled_from(ALLOCATIONS)),
        draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 40.0])), draw(st.sampled_from([0, 0, 1, 5])),
        draw(st.sampled_from([None, None, 4, 25])),
    )  # fmt: skip


@MANY
@given(cases())
def test_it_is_exactly_the_budget_within_floors_and_caps_or_says_why_not(case: Case) -> None:
    if not case.possible:
        with pytest.raises(UserError) as told:
            case.rows()
        assert told.value.hint
        assert any(word in told.value.message for word in ("floor", "budget"))
        return
    rows = case.rows()
    assert list(rows) == list(case.scores)
    assert sum(rows.values()) == case.budget
    assert all(case.floor <= rows[name] <= case.caps[name] for name in rows)


@SOME
@given(cases(), st.randoms())
def test_the_order_of_the_domains_changes_nothing(case: Case, chance: Any) -> None:
    if not case.possible:
        return
    names = list(case.scores)
    chance.shuffle(names)
    again = case._replace(scores={name: case.scores[name] for name in names})
    assert again.rows() == case.rows()


@SOME
@given(cases())
def test_who_has_more_score_gets_no_less(case: Case) -> None:
    """With "inverse" who has less score; of two, the one with the higher cap."""
    if not case.possible:
        return
    rows, sign = case.rows(), {"sts": 1, "uniform": 0, "inverse": -1}[case.how] if case.tau else 0
    for a in rows:
        for b in rows:
            if sign * case.scores[a] > sign * case.scores[b] and case.caps[a] >= case.caps[b]:
                assert rows[a] >= rows[b]


@SOME
@given(cases())
def test_the_shares_are_those_that_bisection_finds(case: Case) -> None:
    """One factor for all, found another way (floats, bisection): no domain is a whole row away from its share."""
    usable = case.how == "uniform" or case.tau == 0 or all(score >= 1e-3 for score in case.scores.values())
    if not case.possible or not usable or case.tau > 2:
        return
    power = {"sts": case.tau, "uniform": 0.0, "inverse": -case.tau}[case.how]
    weights = {name: score**power if power else 1.0 for name, score in case.scores.items()}

    def at(factor: float) -> dict[str, float]:
        return {name: min(max(factor * w, case.floor), case.caps[name]) for name, w in weights.items()}

    low, high = 1e-30, 1e30
    for _ in range(300):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if sum(at(middle).values()) < case.budget else (low, middle)
    rows = case.rows()
    assert all(abs(rows[name] - share) < 1 + 1e-6 for name, share in at(high).items())


def test_the_papers_two_domains() -> None:
    """220 rows in the ratio of two scores: 3 to 1 gives 165 and 55."""
    scores, have = {"engineering": 0.36, "law": 0.12}, {"engineering": 900, "law": 900}
    assert allocate(scores, have, 220) == {"engineering": 165, "law": 55}
    assert allocate(scores, have, 220, "inverse") == {"engineering": 55, "law": 165}
    assert allocate(scores, have, 220, "uniform") == {"engineering": 110, "law": 110}
    assert allocate(scores, have, 220, tau=2.0) == {"engineering": 198, "law": 22}


def test_what_a_capped_domain_cannot_give_the_others_give_in_proportion() -> None:
    scores = {"a": 6.0, "b": 2.0, "c": 1.0}
    assert allocate(scores, {"a": 10, "b": 99, "c": 99}, 40) == {"a": 10, "b": 20, "c": 10}
    assert allocate(scores, {"a": 99, "b": 99, "c": 99}, 45, floor=9) == {"a": 27, "b": 9, "c": 9}


def test_equal_fractions_go_to_the_larger_score_then_by_name() -> None:
    have = {"a": 9, "b": 9, "c": 9}
    assert allocate(dict.fromkeys("cba", 1.0), have, 4) == {"c": 1, "b": 1, "a": 2}
    assert allocate({"a": 1.0, "b": 3.0}, have, 2) == {"a": 0, "b": 2}  # shares of 0.5 and 1.5


def test_a_score_of_zero_gets_what_nobody_else_can_give() -> None:
    have = {"a": 5, "b": 9, "c": 9}
    assert allocate({"a": 1.0, "b": 0.0, "c": 0.0}, have, 4) == {"a": 4, "b": 0, "c": 0}
    assert allocate({"a": 1.0, "b": 0.0, "c": 0.0}, have, 11) == {"a": 5, "b": 3, "c": 3}
    assert allocate({"a": 1.0, "b": 0.0, "c": 0.0}, have, 20, "inverse") == {"a": 2, "b": 9, "c": 9}


@pytest.mark.parametrize("score", [-0.1, math.nan, math.inf])
def test_what_is_no_score_is_told_but_does_not_hinder_equal_shares(score: float) -> None:
    with pytest.raises(UserError, match="The score of b"):
        allocate({"a": 1.0, "b": score}, {"a": 5, "b": 5}, 4)
    assert allocate({"a": 1.0, "b": score}, {"a": 5, "b": 5}, 4, "uniform") == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"budget": 500}, "at most 40"),
        ({"budget": 30, "cap": 7}, "at most 21 under the cap of 7"),
        ({"floor": 5, "budget": 14}, "needs 15 rows"),
        ({"floor": 12, "budget": 39}, "c has 10"),
        ({"floor": 9, "cap": 8}, "above the cap"),
        ({"how": "invers"}, 'did you mean "inverse"'),
        ({"tau": -1.0}, "tau is"),
        ({"scores": {}}, "no domain"),
    ],
)
def test_why_it_cannot_be_is_explained(changes: dict[str, Any], told: str) -> None:
    case = Case({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 15, "b": 15, "c": 10}, 20, "sts", 1.0, 0, None)
    assert sum(case.rows().values()) == 20
    with pytest.raises(UserError, match=told):
        case.rows(**changes)


def test_quotas_of_ones_own() -> None:
    have = {"physics": 10, "law": 4}
    assert check_quotas({"law": 3}, have) == {"physics": 0, "law": 3}
    with pytest.raises(UserError, match=r"did you mean \"physics\""):
        check_quotas({"phisics": 3}, have)
    with pytest.raises(UserError, match="4 are available"):
        check_quotas({"law": 5}, have)
