"""The headline claims no more than was measured."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sts_core.figures.words import (
    error_caption,
    explanation,
    feature_sentence,
    headline,
    noise_words,
    shift_title,
    spread_headline,
    target_name,
)

PREDICTION = "(prediction, not yet tested here)"


def scored(*rows: tuple[str, float, float | None], items: int = 40) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["domain", "value", "se"])
    return frame.astype({"se": "float64"}).assign(tokens=100, items=items)


def test_a_clear_leader_is_named() -> None:
    said = headline(scored(("math", 1.0, 0.1), ("law", 3.0, 0.1), ("history", 2.0, 0.1)), "gsm-symbolic")
    assert said == f"Law scores highest of 3 domains for training on gsm-symbolic {PREDICTION}."


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        (0, "not yet tested here"),
        (1, "tested here by one fine-tune"),
        (2, "tested here by two fine-tunes"),
        (30, "tested here by 30 fine-tunes"),
    ],
)
def test_whether_it_was_tested_is_told(tests: int, told: str) -> None:
    said = headline(scored(("math", 1.0, 0.1), ("law", 3.0, 0.1)), "x", tests)
    assert said == f"Law scores highest of 2 domains for training on x (prediction, {told})."


def test_two_level_leaders_are_named_as_level() -> None:
    said = headline(scored(("math", 3.0, 0.1), ("law", 3.05, 0.1), ("history", 2.0, 0.1)), "x")
    assert said.startswith("Law and math score highest of 3 domains")
    assert said.endswith("within two standard errors of each other.")


def test_more_level_leaders_are_counted() -> None:
    rows = [(f"d{i}", 3.0 - 0.01 * i, 0.1) for i in range(5)] + [("far", 1.0, 0.1)]
    said = headline(scored(*rows), "x")
    assert said.startswith("D0 and d1 score highest of 6 domains")
    assert said.endswith("but the first five are within two standard errors of the highest.")


def test_a_level_domain_further_down_is_counted_too() -> None:
    rows = [("a", 3.0, 0.01), ("b", 2.99, 0.01), ("c", 2.985, 0.02), ("d", 2.5, 0.01), ("e", 2.4, 2.0), ("f", 1.0, 0.1)]
    assert headline(scored(*rows), "x").endswith("but four of them are within two standard errors of the highest.")


def test_the_edge_of_level_is_two_standard_errors_of_the_difference() -> None:
    gap = 2 * math.hypot(0.3, 0.4)
    level = headline(scored(("a", 3.0, 0.3), ("b", 3.0 - gap + 1e-9, 0.4), ("c", 0.0, 0.1)), "x")
    clear = headline(scored(("a", 3.0, 0.3), ("b", 3.0 - gap - 1e-9, 0.4), ("c", 0.0, 0.1)), "x")
    assert level.startswith("A and b score highest")
    assert clear.startswith("A scores highest")


def test_when_all_are_level_nobody_is_named() -> None:
    said = headline(scored(("math", 1.0, 0.5), ("law", 1.1, 0.5), ("history", 1.2, 0.5)), "x")
    assert said.startswith("No domain of the 3 stands out")
    assert "math" not in said.lower()


def test_one_domain_is_compared_with_nothing() -> None:
    said = headline(scored(("math", 1.0, 0.5)), "x")
    assert "nothing to compare it with" in said
    assert "highest" not in said


@pytest.mark.parametrize("missing", [None, math.nan])
def test_without_errors_the_order_is_not_claimed(missing: float | None) -> None:
    said = headline(scored(("math", 1.0, missing), ("law", 2.0, missing)), "x")
    assert "the order may be chance" in said
    partly = headline(scored(("math", 1.0, missing), ("law", 2.0, 0.1)), "x")
    assert "fewer than five questions in one of them" in partly


def test_what_was_not_measured_is_left_out_and_said() -> None:
    said = headline(scored(("math", math.nan, None), ("law", 2.0, 0.1), ("history", 1.0, 0.1)), "x")
    assert "of 2 domains" in said
    assert said.endswith("; one could not be measured.")


def test_nothing_measured_at_all() -> None:
    assert headline(scored(("math", math.nan, None)), "x").startswith("No domain could be scored")
    assert headline(scored(), "x").startswith("No domain could be scored")


def test_the_caption_tells_what_the_whiskers_are() -> None:
    assert error_caption(scored(("a", 1, 0.1))) == "± 1 s.e., 40 questions a domain"
    some = scored(("a", 1, 0.1), ("b", 1, None))
    assert "1 without an error" in error_caption(some)
    assert error_caption(scored(("a", 1, None))).startswith("No error is known")


def test_other_sentences() -> None:
    assert shift_title(0.331, 100, 4096) == "100 of 4\u202f096 features hold 33\u202f% of the shift"
    assert shift_title(math.nan, 100, 4096) == "No shift was measured"
    assert target_name("/data/sets/limo.jsonl") == "limo.jsonl"
    assert target_name("GAIR/LIMO-v2.1") == "GAIR/LIMO-v2.1"
    assert "own worked examples" in explanation("sts_icl", 100, "x")
    assert "on a domain's questions" in explanation("sts_act", 100, "x")


def test_the_spread_is_told_beside_raw_dimensions() -> None:
    said = spread_headline(0.331, 100, 4096, (41, 576), (55, 45))
    assert said == (
        "100 of 4\u202f096 features hold 33\u202f% of the shift; "
        "the model's raw dimensions would need 41 of 576 for as much."
    )


@pytest.mark.parametrize(
    ("n", "directions", "said"),
    [
        (100, (75, 25), ", and 75 of them rise"),
        (100, (10, 90), ", and 90 of them fall"),
        (10, (10, 0), ", and all of them rise"),
        (100, (74, 26), ""),
        (100, (70, 0), ""),
        (4, (4, 0), ""),
    ],
)
def test_a_way_is_told_only_where_most_go_it(n: int, directions: tuple[int, int], said: str) -> None:
    assert spread_headline(0.5, n, 4096, None, directions).endswith(f"of the shift{said}.")


def test_the_spread_of_all_or_nothing_claims_nothing() -> None:
    assert "no shift to rank" in spread_headline(math.nan, 100, 4096)
    assert spread_headline(1.0, 100, 50).startswith("All 50 features hold the whole shift")
    assert spread_headline(0.2, 1, 50) == "1 of 50 features holds 20\u202f% of the shift."


def test_noise_stands_beside_chance() -> None:
    assert noise_words(0.03, 12, 100, 2.44) == (
        "Rounding alone gives 3.0\u202f% of this shift; 12 of the top 100 are also among its own top 100 "
        "(2.4 by chance)."
    )
    assert "(almost none by chance)" in noise_words(0.03, 1, 10, 0.001)


def test_noise_that_was_not_measured_is_not_called_small() -> None:
    assert noise_words(None, None, 100, 2.0) == (
        "The noise of rounding was not measured, so how much of this shift it makes is not known."
    )


def test_a_feature_in_a_sentence() -> None:
    law = scored(("law", 0.5, 0.01), ("math", 0.2, 0.01))
    assert feature_sentence(3, 4096, -0.2, 0.01, law) == (
        "Rank 3 of 4\u202f096 by shift. Demonstrations lower it in the mean; it is most active in law."
    )
    silent = scored(("law", 0.0, 0.0), ("math", 0.0, 0.0))
    assert feature_sentence(9, 20, 0.0, 0.0, silent).endswith("not moved in the mean; it is silent in every domain.")


def test_a_feature_s_sentence_claims_no_more_than_its_errors_allow() -> None:
    even = scored(("health", 0.035, 0.015), ("math", 0.035, 0.014), ("law", 0.001, 0.001))
    told = feature_sentence(3, 4096, 0.0004, 0.0008, even)
    assert "Whether demonstrations raise or lower it in the mean is not clear" in told
    assert told.endswith("it is most active in health and math, level within two standard errors.")
    many = scored(*((name, 0.1 - i / 1000, 0.1) for i, name in enumerate("abcdef")))
    assert feature_sentence(3, 9, 0.2, None, many).endswith(
        "raise it in the mean; it is most active in a, but the first six are within two standard errors of it."
    )
    unknown = scored(("law", 0.5, None), ("math", 0.4, None))
    assert feature_sentence(3, 9, 0.2, None, unknown).endswith("it is most active in law.")
