"""Whatever a file holds: a right answer, or words a person can act on; never a traceback."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sts_core.errors import UserError
from sts_core.results.outcomes.outcome import Level, pair
from sts_core.results.outcomes.reading import levels_from, outcomes_from

_NUMBERS = st.one_of(
    st.integers(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0, 1, 0.5, -1, 10**400])
)
_LEAVES = st.one_of(
    st.none(), st.booleans(), _NUMBERS, st.text(max_size=8), st.sampled_from(["A", "B", "N/A", " - law"])
)
_KEYS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["results", "groups", "group_subtasks", "n-samples", "effective", "alias", "name", "acc,none",
         "acc_stderr,none", "law", "computer_science", "corr", "wrong", "acc", "total", "pred", "answer", "options",
         "answer_index", "category", "question_id", "higher_is_better", "sample_len"]
    ),
)  # fmt: skip
_JUNK: st.SearchStrategy[Any] = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=5)),
    max_leaves=20,
)
_ROWS = st.fixed_dictionaries(
    {"pred": _LEAVES, "answer": _LEAVES}, optional={"options": _JUNK, "answer_index": _LEAVES, "category": _LEAVES}
)
_SIDES = st.one_of(
    _JUNK,
    st.fixed_dictionaries(
        {"results": st.dictionaries(_KEYS, st.dictionaries(_KEYS, _LEAVES, max_size=5), max_size=4)},
        optional={"groups": _JUNK, "group_subtasks": _JUNK, "n-samples": _JUNK, "higher_is_better": _JUNK},
    ),
    st.lists(_ROWS, max_size=5),
    st.dictionaries(
        _KEYS, st.fixed_dictionaries({"corr": _LEAVES, "wrong": _LEAVES}, optional={"acc": _LEAVES}), max_size=4
    ),
)

_CELLS = st.one_of(
    st.sampled_from(["domain", "change", "before", "after", "law", "1", "-2.5", "", "nan"]), st.text(max_size=5)
)


def check(levels: list[Level]) -> None:
    """What a right answer holds."""
    assert levels
    for level in levels:
        assert level.domain.strip() == level.domain != ""
        assert math.isfinite(level.value)
        assert level.se is None or (math.isfinite(level.se) and level.se >= 0)
        assert level.n is None or level.n > 0
        json.dumps(level[:8])


def told(error: UserError) -> None:
    assert error.message
    assert error.hint


@settings(max_examples=400, deadline=None)
@given(_SIDES)
def test_any_json(value: Any) -> None:
    try:
        levels = levels_from("law.json", json.dumps(value).encode())
    except UserError as error:
        told(error)
        return
    check(levels)
    try:
        outcomes = pair(levels, levels)
    except UserError as error:
        told(error)
    else:
        assert all(outcome.change == 0 == outcome.harm for outcome in outcomes)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_bytes(content: bytes) -> None:
    for name in ("a.json", "a.txt", "a.csv", "a"):
        try:
            found = outcomes_from(name, content) if name.endswith("csv") else levels_from(name, content)
        except UserError as error:
            told(error)
        else:
            assert found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(_CELLS, min_size=1, max_size=5), max_size=6))
def test_any_table(table: list[list[str]]) -> None:
    text = "domain,change\n" + "\n".join(",".join(cells) for cells in table)
    for content in (text, text.removeprefix("domain,change\n")):
        try:
            outcomes = outcomes_from("a.csv", content.encode("utf-8", "surrogatepass"))
        except UserError as error:
            told(error)
        else:
            assert all(math.isfinite(outcome.change) and outcome.domain for outcome in outcomes)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["law", "physics", "math"]), st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1
    )
)
def test_counts_come_back(counts: dict[str, tuple[int, int]]) -> None:
    """A right summary is read rightly, whatever its numbers."""
    counts = {name: (right, wrong + (right + wrong == 0)) for name, (right, wrong) in counts.items()}
    value = {
        name: {"corr": right, "wrong": wrong, "acc": right / (right + wrong)} for name, (right, wrong) in counts.items()
    }
    levels = levels_from("x_summary.json", json.dumps(value).encode())
    assert {level.domain: (level.value, level.n) for level in levels} == {
        name: (right / (right + wrong), right + wrong) for name, (right, wrong) in counts.items()
    }
