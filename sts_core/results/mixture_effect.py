"""What mixing rows of other domains in has changed: two fine-tunes of one target set beside each other, per domain.

d = Δ_with − Δ_without, Δ being after − before of a domain's evaluated questions. Where both runs kept their scores row
by row, asked the same file of the same model, and hold the same question, each question is its own control: d is the
mean over the questions that both have, and its standard error that of this mean. Else the two changes are taken as
independent, √(se₁² + se₂²), which is too large where the questions are the same.

A mean over domains takes the domains as given: its standard error is √(Σ se²) / k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sts_core.results.folder import TARGET
from sts_core.results.outcomes.rows import AFTER, BEFORE
from sts_core.stats.jackknife import FEWEST_ITEMS

SAME = 0.05
"""How far two scores of one question by the same model may be apart before training, in nats or as a share: kernels
differ by less, other questions by more."""
MOSTLY = 0.9
"""The share of a set's questions for which that must hold, so that rows are held against each other at all."""
ENOUGH, ROUNDED = 20, 0.95
"""Or so many questions whose scores correlate so closely: bfloat16 and float32 do by .997 on the embedded model."""


class Told(NamedTuple):
    """The change of one domain as a run told it."""

    value: float
    se: float | None
    n: int | None


class Arm(NamedTuple):
    """One fine-tune."""

    name: str
    mixed: Mapping[str, int]
    """Rows by domain that were mixed in; none without a mixture."""
    changes: Mapping[str, Told]
    """By domain, of the metric that is looked at."""
    rows: pd.DataFrame | None = None
    """`phase, set, row, metric, value` of every question, where they were kept."""
    files: Mapping[str, str] = {}
    """What each set was read from, and by which model it was asked: rows are alike only where these are."""


class Effect(NamedTuple):
    """One domain with and without."""

    domain: str
    mixed: int
    """Rows of it in the one with."""
    without: float
    with_it: float
    difference: float
    """with − without, in the metric's unit."""
    se: float | None
    n: int | None
    """Questions."""
    paired: bool
    """Whether question was held against question."""


class Mean(NamedTuple):
    """The mean difference over several domains."""

    value: float
    se: float | None
    """None where that of one of them is not known."""
    domains: int


class Mixed(NamedTuple):
    """A run with a mixture against one without, or with another."""

    without: str
    with_it: str
    domains: list[Effect]
    target: Effect | None
    """The set that both trained on."""
    over_mixed: Mean | None
    """Over the domains that either mixed in."""
    over_others: Mean | None


def effect(without: Arm, with_it: Arm, metric: str) -> Mixed:
    """The differences of all domains that both were evaluated on, in the order of the first."""
    found = [_one(name, without, with_it, metric) for name in without.changes if name in with_it.changes]
    domains = [one for one in found if one.domain != TARGET]
    mixed = {name for arm in (without, with_it) for name, rows in arm.mixed.items() if rows}
    return Mixed(
        without.name,
        with_it.name,
        domains,
        next((one for one in found if one.domain == TARGET), None),
        _mean([one for one in domains if one.domain in mixed]),
        _mean([one for one in domains if one.domain not in mixed]),
    )


def _one(name: str, without: Arm, with_it: Arm, metric: str) -> Effect:
    first, second = without.changes[name], with_it.changes[name]
    paired = _paired(name, without, with_it, metric)
    rows = with_it.mixed.get(name, 0)
    if paired is None:
        known = [n for n in (first.n, second.n) if n is not None]
        se = None if first.se is None or second.se is None else math.hypot(first.se, second.se)
        difference, n = second.value - first.value, min(known) if known else None
        return Effect(name, rows, first.value, second.value, difference, se, n, False)
    n = len(paired)
    se = float(paired.std(ddof=1) / math.sqrt(n)) if n >= FEWEST_ITEMS else None
    return Effect(name, rows, first.value, second.value, float(paired.mean()), se, n, True)


def _paired(name: str, without: Arm, with_it: Arm, metric: str) -> np.ndarray | None:
    """[questions]: the difference of the two changes, for those that both hold; None where they cannot be matched."""
    if without.rows is None or with_it.rows is None or name not in without.files:
        return None
    if without.files[name] != with_it.files.get(name):
        return None
    first, second = (_changes(rows, name, metric) for rows in (without.rows, with_it.rows))
    both = first.index.intersection(second.index)
    if both.empty:
        return None
    first, second = first.loc[both], second.loc[both]
    if not _alike(first[BEFORE], second[BEFORE]):
        return None  # the same numbers of rows, but not the same questions: the file was another then
    return (second["change"] - first["change"]).to_numpy(dtype=float)


def _alike(first: pd.Series, second: pd.Series) -> bool:
    """Whether these are the same questions of one model: equal, or as rounding in another number format leaves them."""
    if ((first - second).abs() <= SAME).mean() >= MOSTLY:
        return True
    return len(first) >= ENOUGH and bool(first.corr(second) >= ROUNDED)


def _changes(rows: pd.DataFrame, name: str, metric: str) -> pd.DataFrame:
    """By row: `before, change`, of the rows that have both phases."""
    own = rows[(rows["set"] == name) & (rows["metric"] == metric)]
    phases = [own[own["phase"] == phase].set_index("row")["value"].rename(phase) for phase in (BEFORE, AFTER)]
    table = pd.concat(phases, axis=1, join="inner")
    return table.assign(change=table[AFTER] - table[BEFORE])[[BEFORE, "change"]]


def _mean(effects: Sequence[Effect]) -> Mean | None:
    if not effects:
        return None
    errors = [one.se for one in effects if one.se is not None]
    whole = len(errors) == len(effects)
    se = math.sqrt(sum(error**2 for error in errors)) / len(effects) if whole else None
    return Mean(sum(one.difference for one in effects) / len(effects), se, len(effects))
