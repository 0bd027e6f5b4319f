"""What is said where the two correlations disagree, and nothing where they agree."""

from __future__ import annotations

import math

import pytest

from sts_core.figures.correlation_words import disagreement_words
from sts_core.stats.correlation import correlate

UP, FAR = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0), (30.0, 40.0, 50.0)


@pytest.mark.parametrize(
    ("y", "begins"),
    [
        ((*UP[::-1], *FAR), "Pearson's r alone"),
        ((*UP, 10.0, 11.0, 0.5), ""),
        ((*UP, 3.5, 10.0, 4.5), "The ranks alone"),
        ((*UP, *FAR), ""),
        ((*UP[::-1], 2.5, 7.5, 5.5), ""),
        ((*(math.nan,) * 10, 1.0, 2.0), ""),
    ],
)
def test_a_disagreement_is_told_from_its_side(y: tuple[float, ...], begins: str) -> None:
    found = correlate([f"d{i}" for i in range(12)], [*UP, *FAR], list(y), resamples=50)
    said = disagreement_words(found)
    assert said.startswith(begins)
    assert bool(said) == bool(begins)
