"""What the mixture page shows before anything is made: rows that may train, quotas by every allocation, drawn rows.

Which rows may train is found out once for a result and kept as numbers; their texts are read again for the few that are
looked at, so that a large set does not stay in the dashboard's memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from pages.parts.mixture_choices import Choice
from pages.parts.transfer_data import vectors
from sts_core.errors import UserError
from sts_core.spec import DataSpec
from sts_core.stats.allocation import ALLOCATIONS, allocate
from sts_core.store.results import Stored
from sts_core.text.sources import locate, read_rows
from sts_core.train.mixture.manifest import TARGET, source_answer
from sts_core.train.mixture.pools import Sources
from sts_core.train.mixture.spec import MODEL, MixtureSpec


class Rows(NamedTuple):
    """The rows of one set that may train."""

    data: DataSpec
    numbers: NDArray[np.int64]
    """Their record numbers, in the order they are drawn in."""
    left_out: dict[str, int]


class Text(NamedTuple):
    """A row to be read by a person."""

    number: int
    question: str
    answer: str | None
    """None where the model has still to answer."""


class Allocated(NamedTuple):
    """The budget shared out."""

    table: pd.DataFrame
    """`domain, quota, sts, uniform, inverse, available, score, se`, a row for each domain that is mixed in."""
    quotas: dict[str, int]
    """The most rows first."""
    scores: dict[str, tuple[float, float | None]]
    available: dict[str, int]


def may_train(stored: Stored, choice: Choice) -> dict[str, Rows]:
    """Set -> its rows, the target's first; a UserError says why a set cannot be mixed in."""
    target = choice.target
    return _may_train(
        str(stored.folder), stored.key, choice.answers, choice.seed, target["rows"], target["evaluate_rows"],
        target["answer"],
    )  # fmt: skip


@st.cache_resource(max_entries=8, show_spinner="Counting the rows that may train …")
def _may_train(
    folder: str, key: str, answers: str, seed: int, rows: int | str, kept: int, learned: str
) -> dict[str, Rows]:
    """The result's key is part of the cache's key, for the demo may be renewed."""
    spec = MixtureSpec.from_dict({
        "result": folder, "budget": 0, "answers": answers, "seed": seed,
        "target": {"rows": rows, "evaluate_rows": kept, "answer": learned},
    })  # fmt: skip
    return {
        name: Rows(pool.data, np.array([row.number for row in pool.rows], dtype=np.int64), pool.left_out)
        for name, pool in Sources(spec).pools.items()
    }


def scores(stored: Stored, metric: str, n: int) -> dict[str, tuple[float, float | None]]:
    """Domain -> its score and standard error."""
    table = vectors(str(stored.folder), stored.key).scores(n=n)
    own = table[table["metric"] == metric]
    return {
        str(name): (float(value), float(se) if math.isfinite(se) else None)
        for name, value, se in zip(own["domain"], own["value"], own["se"].astype(float), strict=True)
    }


def shared_out(
    choice: Choice, names: Sequence[str], scored: Mapping[str, tuple[float, float | None]], rows: Mapping[str, int]
) -> Allocated:
    """The quotas of the chosen allocation, beside the others; a UserError explains what cannot be."""
    values = {name: scored[name][0] for name in names}
    available = {name: rows[name] for name in names}
    quotas = _allocate(choice, values, available, choice.how)
    table: dict[str, list[Any]] = {"domain": list(names), "quota": list(quotas.values())}
    for how in ALLOCATIONS:
        try:
            table[how] = list(_allocate(choice, values, available, how).values())
        except UserError:
            table[how] = [math.nan] * len(names)
    table |= {
        "available": list(available.values()), "score": list(values.values()),
        "se": [math.nan if scored[name][1] is None else scored[name][1] for name in names],
    }  # fmt: skip
    quotas = {name: quotas[name] for name in sorted(quotas, key=lambda name: (-quotas[name], -values[name], name))}
    return Allocated(pd.DataFrame(table), quotas, {name: scored[name] for name in names}, available)


def texts(rows: Rows, first: int, last: int, answers: str) -> list[Text]:
    """Those of the set's rows that would be drawn as number `first` to `last`, as they are learned."""
    numbers = tuple(int(number) for number in rows.numbers[first:last])
    return _texts(rows.data.data, tuple(sorted(rows.data.columns.items())), numbers, answers)


@st.cache_data(max_entries=64, show_spinner=False)
def _texts(data: str, columns: tuple[tuple[str, str], ...], numbers: tuple[int, ...], answers: str) -> list[Text]:
    wanted = set(numbers)
    found = {row.number: row for row in read_rows(locate(data), dict(columns), ("question",)).rows
             if row.number in wanted}  # fmt: skip
    return [
        Text(n, found[n].question, None if answers == MODEL else source_answer(found[n], answers))
        for n in numbers if n in found
    ]  # fmt: skip


def learned_of(name: str, choice: Choice) -> str:
    """Whose answer of a set is learned."""
    return str(choice.target["answer"]) if name == TARGET else choice.answers


def _allocate(choice: Choice, scored: dict[str, float], available: dict[str, int], how: str) -> dict[str, int]:
    return allocate(scored, available, choice.budget, how, choice.tau, choice.floor, choice.cap)
