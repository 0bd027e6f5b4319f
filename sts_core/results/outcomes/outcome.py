"""What a fine-tune did to a domain: a measure before and after it, from wherever it comes (METHOD 6).

A `Level` is one measure of one model; two of them, before and after, make an `Outcome`. Where both know their rows, the
change is taken row by row, and its standard error is that of the paired differences; else the two errors are added as
of independent samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sts_core.errors import UserError, nearest
from sts_core.spec import DOMAIN_NAME, MMLU_DOMAINS

SHARE = "share"
"""The unit of accuracies between 0 and 1."""
_LOWER = ("nll", "loss", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter")
_OFFICIAL = {name.casefold(): name for name in MMLU_DOMAINS}


class Level(NamedTuple):
    """A measure of one model on one domain."""

    domain: str
    metric: str
    value: float
    se: float | None
    """None where it is not known."""
    n: int | None
    """Rows; None where it is not known."""
    source: str
    unit: str = ""
    """`share` for an accuracy between 0 and 1, `nats`, or nothing: as the file has it."""
    lower_is_better: bool = False
    rows: Mapping[str, float] | None = None
    """The value of every row by its name, where the source tells them."""


class Outcome(NamedTuple):
    """What became of a domain."""

    domain: str
    before: float | None
    after: float | None
    change: float
    """after − before, in the metric's own unit."""
    se: float | None
    """Of the change."""
    n: int | None
    metric: str
    source: str
    unit: str = ""
    lower_is_better: bool = False

    @property
    def harm(self) -> float:
        """How much worse it became, signed: the rise of a loss, or the fall of an accuracy in percentage points."""
        if self.lower_is_better:
            return self.change
        return 0.0 - self.change * (100 if self.unit == SHARE else 1)

    @property
    def harm_se(self) -> float | None:
        """The standard error of the harm, in its unit."""
        share = self.unit == SHARE and not self.lower_is_better
        return None if self.se is None else self.se * (100 if share else 1)


def is_lower_better(metric: str) -> bool:
    """Whether a metric of this name is a loss."""
    name = metric.split(",")[0].strip().casefold()
    return name in _LOWER or name.startswith("nll")


def domain_name(text: str, where: str) -> str:
    """A domain's name with blanks for underscores, as MMLU-Pro spells it where it is one of its fourteen."""
    name = " ".join(text.replace("_", " ").split())
    if not DOMAIN_NAME.fullmatch(name):
        raise UserError(
            f"{where}: a domain cannot be named {text[:80]!r}", 'Use 1 to 64 letters, digits, spaces, "_", "&" or "-".'
        )
    return _OFFICIAL.get(name.casefold(), name)


def pair(before: Sequence[Level], after: Sequence[Level]) -> list[Outcome]:
    """The outcomes of all domains and metrics that both sides have, in the order of the first; none is an error."""
    sides = [_by_key(levels, which) for levels, which in ((before, "before"), (after, "after"))]
    found = [_change(level, sides[1][key]) for key, level in sides[0].items() if key in sides[1]]
    if not found:
        told = [
            ", ".join(sorted({f"{level.domain} ({level.metric})" for level in levels})[:6])
            for levels in (before, after)
        ]
        raise UserError(
            f"The two have no domain and metric in common: {told[0] or 'nothing'} before, {told[1] or 'nothing'} after",
            "Evaluate both models on the same tasks.",
        )
    return found


def of_metric(outcomes: Sequence[Outcome], metric: str | None = None) -> list[Outcome]:
    """Those of one metric; the metric must be named where there are several."""
    names = list(dict.fromkeys(outcome.metric for outcome in outcomes))
    if metric is None and len(names) > 1:
        raise UserError(f"There are {len(names)} metrics: {', '.join(names[:12])}", "Name one with --metric.")
    if metric is not None and metric not in names:
        raise UserError(
            f"There is no metric {metric!r}{nearest(metric, names)}", f"There are: {', '.join(names[:12])}."
        )
    return [outcome for outcome in outcomes if metric is None or outcome.metric == metric]


def mean_level(
    domain: str, metric: str, rows: Mapping[str, float], source: str, unit: str = SHARE, lower_is_better: bool = False
) -> Level:
    """The mean over rows with its standard error."""
    values = np.array(list(rows.values()), dtype=float)
    se = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Level(domain, metric, float(values.mean()), se, len(values), source, unit, lower_is_better, rows)


def _by_key(levels: Sequence[Level], which: str) -> dict[tuple[str, str], Level]:
    keys = [(level.domain.casefold(), level.metric) for level in levels]
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice:
        raise UserError(f"The {which} side has {twice[0]!r} ({twice[1]}) twice", "Keep one of them.")
    return dict(zip(keys, levels, strict=True))


def _change(before: Level, after: Level) -> Outcome:
    if before.unit != after.unit:
        sides = " and ".join(
            f"{level.value:g} {when}{', a share' if level.unit == SHARE else ''}"
            for level, when in ((before, "before"), (after, "after"))
        )
        raise UserError(
            f"{before.domain}: {before.metric} is {sides}",
            "Give shares from 0 to 1 on both sides, or per cent on both.",
        )
    common = [name for name in before.rows if name in after.rows] if before.rows and after.rows else []
    if before.rows and after.rows and len(common) < max(len(before.rows), len(after.rows)):
        raise UserError(
            f"{before.domain}: {len(before.rows)} rows before, {len(after.rows)} after, {len(common)} of them the same",
            "Evaluate both models on the same rows.",
        )
    if before.rows and after.rows and common:
        differences = {name: after.rows[name] - before.rows[name] for name in common}
        change, se = mean_level(before.domain, before.metric, differences, before.source)[2:4]
    else:
        change, se = after.value - before.value, None
        if before.se is not None and after.se is not None:
            se = math.hypot(before.se, after.se)
    counts = [n for n in (before.n, after.n) if n is not None]
    return Outcome(
        before.domain, before.value, after.value, change, se, min(counts) if counts else None, before.metric,
        before.source, before.unit, before.lower_is_better,
    )  # fmt: skip
