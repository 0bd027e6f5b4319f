"""The score of a label by hand and by leaving texts out; orders that cannot be met are refused before any work."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sts_core.errors import UserError
from sts_core.judge.detection import balanced
from sts_core.judge.order import LabelOrder


def test_balanced_accuracy_by_hand() -> None:
    fires = np.array([True] * 8 + [False] * 10)
    said = [True] * 6 + [False, None] + [False] * 9 + [True]
    found = balanced(fires, said)
    assert found.score == pytest.approx((6 / 7 + 9 / 10) / 2)
    assert (found.active, found.silent, found.unanswered) == (7, 10, 1)
    assert balanced(fires, [True] * 18).score == 0.5
    assert balanced(fires, fires.tolist()).score == 1.0
    assert balanced(fires, fires.tolist()).se > 0  # type: ignore[operator]
    assert math.isnan(balanced(fires, [None] * 5 + said[5:]).score)


def test_the_error_of_a_score_takes_texts_as_units() -> None:
    draw = np.random.default_rng(0)
    texts = np.repeat(np.arange(12), 5)
    fires = draw.random(60) < 0.4
    said = (fires ^ (texts < 4)).tolist()  # four texts all wrong: their windows are not independent
    found = balanced(fires, said, texts.tolist())

    def without(left: int | None) -> float:
        kept = [i for i in range(60) if texts[i] != left]
        sides = [[fires[i] == said[i] for i in kept if fires[i] == side] for side in (True, False)]
        return float(sum(np.mean(side) for side in sides) / 2)

    others = np.array([without(text) for text in range(12)])
    assert found.score == pytest.approx(without(None))
    assert found.se == pytest.approx(math.sqrt(11 / 12 * ((others - others.mean()) ** 2).sum()))
    assert found.se > 1.5 * balanced(fires, said).se  # type: ignore[operator]
    right = fires.tolist()
    all_right = balanced(fires, right, texts.tolist())
    n, m = int(fires.sum()), int((~fires).sum())
    p, q = (n + 1) / (n + 2), (m + 1) / (m + 2)
    assert all_right.se == pytest.approx(math.sqrt(p * (1 - p) / n + q * (1 - q) / m) / 2)
    assert balanced(fires, right, [0] * 60).se is None  # one text alone tells nothing


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": ("math", "poetry")}, "no corpus 'poetry'"),
        ({"labels": ("math",)}, "label set"),
        ({"top": 0}, "top"),
        ({"tokens": 0}, "tokens"),
        ({"price": (1.0, -1.0)}, "price"),
        ({"timeout": 0}, "timeout"),
        ({"features": (-1,)}, "feature"),
    ],
)
def test_an_order_that_cannot_be_met_is_refused_at_once(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        LabelOrder("somewhere", **changes)
    with pytest.raises(UserError, match="judje"):
        LabelOrder.from_dict({"result": "x", "judje": "local"})


def test_words_alone_are_given_to_the_embedded_corpora_by_a_judge_that_reads() -> None:
    names, corpora = LabelOrder("x", "local", ("poetry", "numbers")).names_and_corpora()
    assert names == ("poetry", "numbers")
    assert corpora == {"math": "gsm-symbolic", "code": "stdlib", "prose": "prose"}
    assert LabelOrder.from_dict({"result": "x", "labels": ["math", "code"]}).names_and_corpora()[1] == {
        "math": "gsm-symbolic",
        "code": "stdlib",
    }
