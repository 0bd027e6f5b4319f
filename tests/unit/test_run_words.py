"""What is said of a run claims no more than was measured; what differs between runs, and nothing else, is told."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sts_core.figures.run_words import (
    Overlap,
    Standing,
    changed_words,
    changes_caption,
    hold_words,
    overlap_words,
    run_headline,
)
from sts_core.jobs.differences import differences, told_apart

NONE = pd.DataFrame({"domain": [], "value": [], "se": []})


def changes(*pairs: tuple[float, float]) -> pd.DataFrame:
    names = [f"d{i}" for i in range(len(pairs))]
    return pd.DataFrame({"domain": names, "value": [v for v, _ in pairs], "se": [se for _, se in pairs]})


def standing(
    state: str = "done", step: int | None = 60, first: float | None = 2.0, last: float | None = 0.5
) -> Standing:
    return Standing(state, step, 60, first, last, 100.0, 200.0, "The disk is full.")


def test_a_change_counts_from_two_standard_errors_on() -> None:
    table = changes((0.1, 0.02), (0.03, 0.02), (-0.1, 0.02), (-0.04, 0.02), (0.5, math.nan))
    told = "1 of 5 domains got worse and 1 better by more than two standard errors (1 without an error)"
    assert changed_words(table) == told
    assert changed_words(changes((0.01, 0.02))) == "none of 1 domain changed by more than two standard errors"
    assert changed_words(changes((math.nan, math.nan))) == "no domain was measured before and after"


def test_without_errors_nothing_is_said_to_have_stayed() -> None:
    table = changes((0.1, math.nan), (-0.3, math.nan)).assign(n=1)
    told = "no error is known of what changed in 2 domains: fewer than five questions each"
    assert changed_words(table) == told
    assert run_headline(standing(), table, None) == f"N{told[1:]}."
    caption = "No error is known: fewer than five questions a domain (1 question)"
    assert changes_caption(table) == caption
    assert changes_caption(table.assign(se=[0.1, 0.2], n=[60, 50])) == (
        "± 1 s.e., question by question, 50 to 60 questions a domain"
    )


def test_a_fall_of_accuracy_is_worse() -> None:
    assert changed_words(changes((-0.1, 0.02), (0.1, 0.02), (0.1, 0.02)), "accuracy").startswith(
        "1 of 3 domains got worse and 2"
    )


@pytest.mark.parametrize("claimed", [True, False])
def test_an_overlap_is_claimed_only_above_every_null(claimed: bool) -> None:
    text = overlap_words(Overlap(100, 0.7, "noise", 0.66, claimed))
    assert text.startswith("70 of the 100 predicted features really shifted, where rounding alone gives 66")
    assert ("no claim" in text) is not claimed


def test_a_run_is_told_as_far_as_it_has_come() -> None:
    assert run_headline(standing("waiting"), NONE, None) == "This run waits for its turn."
    assert run_headline(standing("running", 23, 2.1, 1.02), NONE, None).startswith(
        "Step 23 of 60: the loss is 1.02, from 2.10 at the start; 3"
    )
    assert "no step is done yet" in run_headline(standing("running", None, None, None), NONE, None)
    assert run_headline(standing("failed", 12), NONE, None) == "This run failed after step 12: The disk is full."
    assert run_headline(standing("cancelled", None), NONE, None).startswith(
        "This run was cancelled before its first step"
    )
    assert run_headline(standing(), NONE, None).startswith("In 60 steps the loss fell from 2.00 to 0.500 (−75")
    averaged = standing()._replace(over=10)
    assert "means of the first and the last 10 steps" in run_headline(averaged, NONE, None)
    assert "(mean of 10 steps)" in run_headline(averaged._replace(state="running"), NONE, None)
    whole = run_headline(standing(), changes((0.1, 0.02)), Overlap(100, 0.7, "noise", 0.72, False))
    assert whole.startswith("70 of the 100")
    assert whole.endswith("1 of 1 domain got worse and none better by more than two standard errors.")


def test_trouble_is_said_before_anything_is_read() -> None:
    assert "do not trust" in hold_words(True, 0.5, (0.85, 0.2))
    assert "still holds" in hold_words(False, 0.997, (0.85, None))


def test_only_what_differs_is_listed() -> None:
    one = {"model": "m", "seed": 0, "lora": {"rank": 8}, "betas": [0.9, 0.95]}
    two = {"model": "m", "seed": 1, "lora": {"rank": 16, "alpha": 2}, "betas": [0.9, 0.95]}
    assert [(row.name, row.values) for row in differences([one, two])] == [
        ("seed", ("0", "1")), ("lora.rank", ("8", "16")), ("lora.alpha", ("—", "2")),
    ]  # fmt: skip
    assert differences([one, one]) == []
    assert told_apart([one, two]) == ["seed 0, rank 8, alpha —", "seed 1, rank 16, alpha 2"]
    assert told_apart([one, two], most=1) == ["seed 0, 2 more", "seed 1, 2 more"]
    assert told_apart([one]) == [""]


def test_what_tells_namesakes_apart_comes_first() -> None:
    specs = [{"method": "full", "batch": 8, "seed": 0}, {"method": "full", "batch": 8, "seed": 1},
             {"method": "lora", "batch": 4, "seed": 0}]  # fmt: skip
    assert told_apart(specs, most=1, called=["a", "a", "b"]) == [
        "seed 0, 2 more",
        "seed 1, 2 more",
        "method lora, 2 more",
    ]


def test_a_full_fine_tune_has_no_settings_of_an_adapter() -> None:
    adapter = {"method": "lora", "lora": {"rank": 8}}
    full = {"method": "full", "lora": {"rank": 16}}
    assert [row.values for row in differences([adapter, full])] == [("lora", "full"), ("8", "—")]
    assert differences([full, full | {"lora": {"rank": 4}}]) == []
