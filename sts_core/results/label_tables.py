"""The paper's two tables about labels (C.3), each number beside what no shift at all would give (METHOD 10).

How many of the most shifted features carry a label, and how many of a label's features are among the most shifted: the
same count, over the one or over the other. Beside it stand two base rates: drawn at random from the features that
fire, and from those that fire about as strongly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sts_core.errors import UserError
from sts_core.stats.overlap import activation_bins
from sts_core.stats.ranking import top

SHARE_TOPS = (50, 100, 200)
RECALL_TOP = 500
MOST_LABELS = 12
Marks = NDArray[np.bool_]


class Rate(NamedTuple):
    """A share with its standard error; NaN and None where it is not known."""

    value: float
    se: float | None


UNKNOWN = Rate(math.nan, None)


class Line(NamedTuple):
    """One label at one cut of the ranking."""

    label: str
    top: int
    features: int
    """Over how many features the value is a share: the top n, or those with the label."""
    value: Rate
    firing: Rate
    """The same over features drawn at random from all that fire, with the spread of such draws."""
    matched: Rate
    """The same drawn at random among features of like mean activation."""


class Tables(NamedTuple):
    """Both tables, and what they rest on."""

    share: list[Line]
    recall: list[Line]
    firing: int
    """Features that fire on the target set."""
    asked: int
    """How many of them the judge was asked about."""
    unlabelled: int
    """How many of those it gave no label."""

    def public(self) -> dict[str, Any]:
        """As JSON values."""
        plain: dict[str, Any] = {"firing": self.firing, "asked": self.asked, "unlabelled": self.unlabelled}
        for name in ("share", "recall"):
            plain[name] = [
                {**line._asdict(), **{k: getattr(line, k)._asdict() for k in ("value", "firing", "matched")}}
                for line in getattr(self, name)
            ]
        return plain


def label_tables(
    shift: pd.DataFrame,
    labels: Mapping[int, str | None],
    names: Sequence[str] | None = None,
    tops: Sequence[int] = SHARE_TOPS,
    recall_top: int = RECALL_TOP,
) -> Tables:
    """Fill both tables from `shift.parquet` and a judge's labels: feature -> label, None where it gave none.

    A feature that is not in `labels` was not asked. A value is known only where all features it is made of were asked:
    the top n for a share; all that fire for a recall and for every base rate. Labels in the order of `names`, else the
    most frequent first. The error of a value is √(p(1−p)/n), features taken for independent draws; that of a base rate
    is the exact spread of such draws without replacement.
    """
    by_feature = shift.sort_values("feature", ignore_index=True)
    firing = np.flatnonzero((by_feature["mean_base"] > 0) | (by_feature["shift_icl"] > 0))
    if not len(firing):
        raise UserError("No feature fires on the target set", "Measure the result again.")
    ranked = firing[top(by_feature["shift_icl"].to_numpy()[firing], len(firing))]
    features = by_feature["feature"].to_numpy()
    given = [labels.get(int(feature)) for feature in features]
    asked = np.array([int(feature) in labels for feature in features])
    bins = activation_bins(by_feature["mean_base"].to_numpy(), np.isin(np.arange(len(features)), firing))
    share, recall = [], []
    for name in list(names or _frequent(given, firing))[:MOST_LABELS]:
        carries = np.array([label == name for label in given])
        for n in tops:
            if n <= len(ranked):
                share.append(_line(name, n, carries, ranked, firing, bins, asked, over_label=False))
        if recall_top <= len(ranked):
            recall.append(_line(name, recall_top, carries, ranked, firing, bins, asked, over_label=True))
    answered = int(asked[firing].sum())
    without = answered - sum(given[feature] is not None for feature in firing)
    return Tables(share, recall, len(firing), answered, without)


def _line(
    name: str,
    n: int,
    carries: Marks,
    ranked: NDArray[np.int64],
    firing: NDArray[np.int64],
    bins: NDArray[np.int64],
    asked: Marks,
    over_label: bool,
) -> Line:
    chosen = np.zeros(len(carries), dtype=bool)
    chosen[ranked[:n]] = True
    all_asked = bool(asked[firing].all())
    over = int(carries[firing].sum()) if over_label else n
    known = all_asked if over_label else bool(asked[ranked[:n]].all())
    if not over:
        return Line(name, n, 0, UNKNOWN, UNKNOWN, UNKNOWN)
    value = float((carries & chosen).sum()) / over
    everywhere = np.where(bins >= 0, 0, -1)
    return Line(
        name, n, over,
        Rate(value, math.sqrt(value * (1 - value) / over)) if known else UNKNOWN,
        _drawn(carries, chosen, everywhere, over) if all_asked else UNKNOWN,
        _drawn(carries, chosen, bins, over) if all_asked else UNKNOWN,
    )  # fmt: skip


def _drawn(carries: Marks, chosen: Marks, bins: NDArray[np.int64], over: int) -> Rate:
    """|label ∩ top n| / over when the top n are drawn anew within each bin: mean and spread, both exact.

    A bin of N features, k of them chosen and a of them with the label, shares a hypergeometric number: mean k·a/N,
    variance k · a/N · (1 − a/N) · (N − k)/(N − 1).
    """
    inside = bins >= 0
    count = int(bins.max()) + 1
    size, k, a = (
        np.bincount(bins[marks], minlength=count).astype(float) for marks in (inside, inside & chosen, inside & carries)
    )
    part = a / np.maximum(size, 1)
    variance = k * part * (1 - part) * (size - k) / np.maximum(size - 1, 1)
    return Rate(float((k * part).sum()) / over, math.sqrt(float(variance.sum())) / over)


def _frequent(given: Sequence[str | None], firing: NDArray[np.int64]) -> list[str]:
    counts = pd.Series([given[feature] for feature in firing], dtype=object).dropna().value_counts()
    return sorted(counts.index, key=lambda name: (-counts[name], name))
