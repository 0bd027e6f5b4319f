"""Numbers measured once and measured again: are they the same within their errors?

Both sides read the same questions, so their errors have a part in common; two combined standard errors are generous to
what differs by chance alone, and a number outside them differs for another reason.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from sts_core.results.actual import PRIMARY_METRIC
from sts_core.results.folder import Result
from sts_core.results.outcomes.rows import changes, read_rows
from sts_core.results.scores import METRICS
from sts_core.stats.ranking import top

TIMES = 2.0
"""Combined standard errors that a number may differ by."""
CHANGE = "change of nll"


class Twice(NamedTuple):
    """One number, both times."""

    domain: str
    metric: str
    shipped: float
    shipped_se: float | None
    anew: float
    anew_se: float | None

    @property
    def difference(self) -> float:
        """Anew minus shipped, in combined standard errors; NaN where an error is not known."""
        if self.shipped_se is None or self.anew_se is None:
            return math.nan
        error = math.hypot(self.shipped_se, self.anew_se)
        return (self.anew - self.shipped) / error if error > 0 else math.copysign(math.inf, self.anew - self.shipped)

    @property
    def within(self) -> bool | None:
        """Whether they agree; None where an error is not known."""
        if self.anew == self.shipped:
            return True
        return None if math.isnan(self.difference) else abs(self.difference) <= TIMES


class Reproduced(NamedTuple):
    """A result measured twice."""

    scores: list[Twice]
    """Of both metrics, in the shipped result's order."""
    spearman: dict[str, float]
    """Metric -> of the domains' scores, both times."""
    shared: int
    leading: int
    """Of so many leading features `shared` lead both times."""

    def public(self) -> dict[str, Any]:
        """The same for JSON."""
        return {**self._asdict(), "scores": [public(one) for one in self.scores]}


def reproduced(shipped: Result, anew: Result, n: int = 100) -> Reproduced:
    """The scores of both by their own n leading features, and how far the two rankings agree."""
    n = min(n, len(shipped.shift), len(anew.shift))
    sides = [
        {(row["domain"], row["metric"]): row for row in result.scores(n=n).to_dict("records")}
        for result in (shipped, anew)
    ]
    found = [
        Twice(*key, float(sides[0][key]["value"]), _known(sides[0][key]["se"]),
              float(sides[1][key]["value"]), _known(sides[1][key]["se"]))
        for key in sides[0] if key in sides[1]
    ]  # fmt: skip
    leading = [set(_leading(result, n)) for result in (shipped, anew)]
    return Reproduced(found, {name: _spearman(found, name) for name in METRICS}, len(leading[0] & leading[1]), n)


def changed(shipped: Path, anew: Path) -> list[Twice]:
    """What two runs of one fine-tune did to every set, as both tell it by the answer's log-likelihood."""
    sides = [
        {one.set: one for one in changes(read_rows(folder)) if one.metric == PRIMARY_METRIC}
        for folder in (shipped, anew)
    ]
    return [
        Twice(name, CHANGE, one.change, one.se, sides[1][name].change, sides[1][name].se)
        for name, one in sides[0].items() if name in sides[1]
    ]  # fmt: skip


def public(one: Twice) -> dict[str, Any]:
    """One number, both times, for JSON."""
    return {**one._asdict(), "difference": one.difference, "within": one.within}


def _leading(result: Result, n: int) -> list[int]:
    table = result.shift.sort_values("feature")
    return [int(f) for f in table["feature"].to_numpy()[top(table["shift_icl"].to_numpy(np.float64), n)]]


def _spearman(found: list[Twice], metric: str) -> float:
    pairs = np.array([(one.shipped, one.anew) for one in found if one.metric == metric]).reshape(-1, 2).T
    if pairs.shape[1] < 3 or np.ptp(pairs, axis=1).min() == 0:
        return math.nan
    return float(np.corrcoef(rankdata(pairs[0]), rankdata(pairs[1]))[0, 1])


def _known(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
