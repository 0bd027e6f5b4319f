"""With against without a mixture: exact on paired questions, honest where they cannot be paired."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from sts_core.results.mixture_effect import Arm, Told, effect
from sts_core.results.outcomes.rows import AFTER, BEFORE, changes

FILES = {name: f"tiny: {name}.jsonl" for name in ("target", "physics", "law", "math")}


def rows_of(moves: dict[str, np.ndarray], seed: int = 0, first: int = 0, noise: float = 0.0) -> pd.DataFrame:
    """Questions numbered from `first`, each moved by its own amount from a level of its own."""
    found = []
    for name, moved in moves.items():
        level = np.random.default_rng([seed, *name.encode()]).normal(2.0, 1.0, 500)
        for i, move in enumerate(moved):
            row = first + i
            before = level[row] + noise * (i % 3)
            found += [(BEFORE, name, row, "nll", before), (AFTER, name, row, "nll", before + move)]
    return pd.DataFrame(found, columns=["phase", "set", "row", "metric", "value"])


def arm(name: str, rows: pd.DataFrame, mixed: dict[str, int], keep: bool = True) -> Arm:
    told = {one.set: Told(one.change, one.se, one.n) for one in changes(rows)}
    return Arm(name, mixed, told, rows if keep else None, FILES)


@pytest.fixture
def moves() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    random = np.random.default_rng(4)
    without = {name: random.normal(0.3, 0.5, 40) for name in FILES}
    shift = {"physics": -0.2, "law": -0.1, "math": 0.05, "target": 0.02}
    with_it = {name: without[name] + shift[name] + random.normal(0, 0.02, 40) for name in FILES}
    return without, with_it


def test_each_question_is_its_own_control(moves: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    without, with_it = moves
    found = effect(arm("none", rows_of(without), {}), arm("mixed", rows_of(with_it), {"physics": 9, "law": 3}), "nll")
    assert [one.domain for one in found.domains] == ["physics", "law", "math"]
    for one in [*found.domains, found.target]:
        assert one is not None
        differences = with_it[one.domain] - without[one.domain]
        assert one.paired
        assert one.n == 40
        assert one.difference == pytest.approx(differences.mean(), abs=1e-12)
        assert one.se == pytest.approx(differences.std(ddof=1) / math.sqrt(40), rel=1e-9)
        assert one.difference == pytest.approx(one.with_it - one.without, abs=1e-12)
    assert [one.mixed for one in found.domains] == [9, 3, 0]


def test_means_are_over_the_mixed_and_over_the_others(
    moves: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
) -> None:
    without, with_it = moves
    found = effect(arm("none", rows_of(without), {}), arm("mixed", rows_of(with_it), {"physics": 9, "law": 3}), "nll")
    of = {one.domain: one for one in found.domains}
    assert found.over_mixed is not None
    assert found.over_others is not None
    assert found.over_mixed.domains == 2
    assert found.over_mixed.value == pytest.approx((of["physics"].difference + of["law"].difference) / 2)
    assert found.over_mixed.se == pytest.approx(math.hypot(of["physics"].se or 0, of["law"].se or 0) / 2)
    assert (found.over_others.domains, found.over_others.value) == (1, of["math"].difference)


def test_the_errors_are_those_of_the_truth() -> None:
    """In many worlds without any effect, differences are as far from 0 as their errors say."""
    told = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        own = {name: random.normal(0.3, 0.5, 30) for name in FILES}
        other = {name: own[name] + random.normal(0, 0.1, 30) for name in FILES}
        found = effect(arm("a", rows_of(own), {}), arm("b", rows_of(other), {}), "nll")
        told += [one.difference / one.se for one in found.domains if one.se]
    assert len(told) == 180
    assert 0.85 < float(np.std(told)) < 1.2  # a t of 29 degrees has 1.036; 180 draws tell it to 5 %
    assert abs(float(np.mean(told))) < 0.25


def test_only_questions_that_both_have_are_held_against_each_other(
    moves: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
) -> None:
    without, with_it = moves
    fewer = rows_of({name: moved[10:] for name, moved in with_it.items()}, first=10)
    found = effect(arm("none", rows_of(without), {}), arm("mixed", fewer, {"law": 1}), "nll")
    for one in found.domains:
        differences = (with_it[one.domain] - without[one.domain])[10:]
        assert (one.n, one.paired) == (30, True)
        assert one.difference == pytest.approx(differences.mean(), abs=1e-12)


@pytest.mark.parametrize("reason", ["no rows", "another file", "other questions", "another model"])
def test_what_cannot_be_paired_has_the_errors_of_two_runs(
    moves: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], reason: str
) -> None:
    without, with_it = moves
    first = arm("none", rows_of(without), {})
    second = arm("mixed", rows_of(with_it, seed=7 if reason == "other questions" else 0), {"law": 1})
    if reason == "no rows":
        second = second._replace(rows=None)
    elif reason == "another file":
        second = second._replace(files={name: f"{file}.old" for name, file in FILES.items()})
    elif reason == "another model":
        second = second._replace(files={name: file.replace("tiny", "other") for name, file in FILES.items()})
    found = effect(first, second, "nll")
    for one in found.domains:
        a, b = first.changes[one.domain], second.changes[one.domain]
        assert not one.paired
        assert one.difference == pytest.approx(b.value - a.value)
        assert one.se == pytest.approx(math.hypot(a.se or 0, b.se or 0))
        assert one.n == 40


@pytest.mark.parametrize("noise", [0.01, 0.05])  # another kernel; another number format
def test_a_little_numerical_noise_does_not_part_the_pairs(
    moves: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], noise: float
) -> None:
    without, with_it = moves
    found = effect(arm("a", rows_of(without), {}), arm("b", rows_of(with_it, noise=noise), {"law": 1}), "nll")
    assert all(one.paired for one in found.domains)


def test_few_questions_and_domains_of_one_side() -> None:
    short = rows_of({"law": np.array([0.1, 0.2]), "math": np.array([0.3])})
    other = rows_of({"law": np.array([0.0, 0.4])})
    found = effect(arm("a", short, {}), arm("b", other, {"law": 1}), "nll")
    (law,) = found.domains
    assert (law.n, law.se, law.paired) == (2, None, True)
    assert law.difference == pytest.approx(0.05)
    assert found.target is None
    assert found.over_others is None
    assert found.over_mixed is not None
    assert found.over_mixed.se is None
    nothing = effect(arm("a", short, {}), Arm("b", {"law": 1}, {}), "nll")
    assert (nothing.domains, nothing.over_mixed, nothing.over_others) == ([], None, None)


def test_a_domain_that_the_first_mixed_in_counts_as_mixed(
    moves: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
) -> None:
    without, with_it = moves
    found = effect(arm("a", rows_of(without), {"math": 2}), arm("b", rows_of(with_it), {"law": 1, "physics": 0}), "nll")
    assert found.over_mixed is not None
    assert found.over_mixed.domains == 2
    assert found.over_others is not None
    assert found.over_others.domains == 1
