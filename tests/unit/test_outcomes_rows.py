"""Every row's value is kept: means with errors, paired changes, and how well a set of changes is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sts_core.errors import UserError
from sts_core.results.outcomes.reading import read_outcomes
from sts_core.results.outcomes.rows import (
    AFTER,
    BEFORE,
    RowValue,
    changes,
    read_rows,
    scores,
    split_half,
    write_rows,
)


def values(name: str, metric: str, numbers: list[float]) -> list[RowValue]:
    return [RowValue(name, row, metric, number) for row, number in enumerate(numbers)]


def test_means_have_errors_over_rows() -> None:
    numbers = [1.0, 2.0, 4.0, 8.0, 16.0]
    found = scores(values("law", "nll", numbers) + values("law", "accuracy", [1.0, 1.0, 1.0, 1.0]))
    assert found[0] == ("law", "nll", pytest.approx(6.2), pytest.approx(np.std(numbers, ddof=1) / math.sqrt(5)), 5)
    assert found[1] == ("law", "accuracy", 1.0, None, 4), "four rows that agree by chance would look certain"


def test_changes_are_taken_row_by_row(tmp_path: Path) -> None:
    """Rows of one side alone do not count; a phase that is measured again replaces its rows and no others."""
    write_rows(tmp_path, BEFORE, values("law", "nll", [1.0, 2.0, 4.0, 3.0, 5.0, 9.0]))
    write_rows(tmp_path, AFTER, values("law", "nll", [7.0] * 5))
    write_rows(tmp_path, AFTER, values("law", "nll", [1.5, 3.0, 4.0, 3.5, 5.0]))
    (change,) = changes(read_rows(tmp_path))
    assert (change.set, change.metric, change.n) == ("law", "nll", 5)
    assert (change.before, change.after, change.change) == pytest.approx((3, 3.4, 0.4))
    assert change.se == pytest.approx(np.std([0.5, 1, 0, 0.5, 0], ddof=1) / math.sqrt(5))
    (outcome,) = read_outcomes(tmp_path)
    assert (outcome.harm, outcome.source, outcome.unit) == (pytest.approx(0.4), "own", "nats")


def test_a_fall_of_accuracy_is_harm_in_points(tmp_path: Path) -> None:
    write_rows(tmp_path, BEFORE, values("law", "accuracy", [1.0, 1.0, 0.0, 1.0] * 2))
    write_rows(tmp_path, AFTER, values("law", "accuracy", [1.0, 0.0, 0.0, 1.0] * 2))
    (outcome,) = read_outcomes(tmp_path)
    assert outcome.harm == pytest.approx(25)
    assert outcome.harm_se == pytest.approx(100 * np.std([0, 1, 0, 0] * 2, ddof=1) / math.sqrt(8))


def test_split_halves_know_what_rows_know(tmp_path: Path) -> None:
    """Rows that vary as much as the sets do: the whole is known to var/(var + noise/n), which the halves find."""
    draw = np.random.default_rng(0)
    truth = draw.normal(size=400)
    for phase in (BEFORE, AFTER):
        rows = []
        for number, level in enumerate(truth):
            noise = draw.normal(size=10) * math.sqrt(5)
            rows += values(f"set {number}", "nll", list(noise + (level if phase == AFTER else 0)))
        write_rows(tmp_path, phase, [*rows, *values("target", "nll", [99.0, 99.0])])
    found = split_half(read_rows(tmp_path), "nll", draws=50)
    assert found.sets == 400
    assert found.value == pytest.approx(0.5, abs=0.1)  # variance 1 between sets, 2 · 5 / 10 within
    assert found == split_half(read_rows(tmp_path), "nll", draws=50)


def test_nothing_is_said_of_too_few_sets(tmp_path: Path) -> None:
    for phase in (BEFORE, AFTER):
        write_rows(tmp_path, phase, values("law", "nll", [1.0, 2.0]) + values("math", "nll", [1.0, 2.0]))
    assert math.isnan(split_half(read_rows(tmp_path), "nll").value)


@pytest.mark.parametrize("wrong", ["columns", "torn", "twice", "gone", "words"])
def test_a_damaged_file_is_told(tmp_path: Path, wrong: str) -> None:
    write_rows(tmp_path, BEFORE, values("law", "nll", [1.0]))
    path, frame = tmp_path / "rows.parquet", read_rows(tmp_path)
    if wrong == "columns":
        frame.drop(columns="row").to_parquet(path)
    elif wrong == "torn":
        path.write_bytes(path.read_bytes()[:-9])
    elif wrong == "twice":
        pd.concat([frame, frame]).to_parquet(path)
    elif wrong == "words":
        frame.assign(value="x").to_parquet(path)
    else:
        path.unlink()
    with pytest.raises(UserError) as error:
        read_rows(tmp_path)
    assert error.value.hint
