"""Does a score follow what really happened? Two correlations and all that must be shown beside them (METHOD 6).

A correlation of eight or fourteen domains says little by itself: one domain may carry it, chance may give it, the
outcome may be known too badly to allow more. So `correlate` gives Pearson and Spearman with permutation p, bootstrap
intervals, what each point does, the line with its band, and how many of the first three were hit. Nothing is made up:
what cannot be told is NaN or None, and `notes` says why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from sts_core.errors import UserError
from sts_core.stats.bootstrap import RESAMPLES, interval, ranks, resampled
from sts_core.stats.hits import Hits, hits
from sts_core.stats.permutation import DRAWS, PValue, two_sided

FEWEST = 3
"""Two points always lie on a line."""
FEWEST_FOR_INTERVAL = 5
"""Below, draws repeat the same few points and tell nothing."""
NAN = float("nan")

Numbers = NDArray[np.float64]


class Line(NamedTuple):
    """Least squares of y on x."""

    slope: float
    intercept: float
    residual_sd: float
    mean_x: float
    squares_x: float
    """Σ (x − mean x)²."""
    n: int

    def band(self, x: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """The line at x, and the 95 % band of the mean: fit, low, high."""
        at = np.asarray(x, dtype=np.float64)
        fit = self.intercept + self.slope * at
        error = self.residual_sd * np.sqrt(1 / self.n + (at - self.mean_x) ** 2 / self.squares_x)
        half = float(stdtrit(self.n - 2, 0.975)) * error
        return fit, fit - half, fit + half


class Correlation(NamedTuple):
    """How y follows x over named points."""

    names: tuple[str, ...]
    """Those that were compared."""
    n: int
    r: float
    """Pearson; NaN where there is none."""
    r2: float
    """Pearson², as the paper reports."""
    spearman: float
    p_perm: float
    """Two-sided permutation p of Pearson."""
    p_spearman: float
    """The same of Spearman."""
    p_exact: bool
    """Whether every order was tried; else the two errors below are those of having drawn orders."""
    p_perm_error: float
    p_spearman_error: float
    ci: tuple[float, float] | None
    """95 % bootstrap interval of Pearson."""
    ci_spearman: tuple[float, float] | None
    se_measured: float | None
    """What the points' own standard errors alone do to Pearson; None where they are not all known."""
    loo: dict[str, float]
    """Point -> Pearson without it; NaN where what is left varies in one direction only. Empty below four points."""
    loo_spearman: dict[str, float]
    most_influential: str | None
    """The point whose absence changes Pearson most."""
    r_without_it: float
    spearman_without_it: float
    line: Line | None
    hits: Hits | None
    """How many of the three highest y are among the three highest x."""
    reliability: float | None
    """Of the outcome, as it was given."""
    ceiling: float | None
    """√reliability: what a perfect score would reach with an outcome known this well."""
    corrected: float | None
    """Pearson / ceiling, within ±1."""
    left_out: tuple[str, ...]
    """Points with a value that is no number."""
    notes: tuple[str, ...]
    """What could not be told, and why."""

    @property
    def loo_range(self) -> tuple[float, float] | None:
        """The lowest and the highest Pearson that leaving one point out gives."""
        known = [value for value in self.loo.values() if math.isfinite(value)]
        return (min(known), max(known)) if known else None

    def public(self) -> dict[str, Any]:
        """The same for JSON."""
        line = None if self.line is None else self.line._asdict()
        shown = None if self.hits is None else self.hits._asdict()
        return {**self._asdict(), "line": line, "hits": shown, "loo_range": self.loo_range}


def correlate(
    names: Sequence[str],
    x: Sequence[float] | Numbers,
    y: Sequence[float] | Numbers,
    *,
    x_se: Sequence[float | None] | Numbers | None = None,
    y_se: Sequence[float | None] | Numbers | None = None,
    reliability: float | None = None,
    draws: int = DRAWS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Correlation:
    """Everything METHOD 6 asks of two lists of named values; the same seed gives the same numbers.

    `x_se` and `y_se` are the points' standard errors, `reliability` that of y (0 to 1). Points where x or y is no
    number are left out and named. Fewer than three points or values that are all equal have no correlation: NaN.
    """
    labels, first, second = _checked(names, x, y, draws, resamples, seed)
    kept = np.isfinite(first) & np.isfinite(second)
    left_out = tuple(label for label, ok in zip(labels, kept, strict=True) if not ok)
    labels = [label for label, ok in zip(labels, kept, strict=True) if ok]
    first, second = first[kept], second[kept]
    errors = [_errors(values, kept) for values in (x_se, y_se)]
    notes = [f"Left out, being no numbers: {', '.join(left_out)}."] if left_out else []
    reason = _no_correlation(first, second)
    if reason:
        return _without(labels, left_out, reliability, [*notes, reason])
    u, v = _unit(first), _unit(second)
    ru, rv = _unit(ranks(first)), _unit(ranks(second))
    r, rho = _dot(u, v), _dot(ru, rv)
    p, p_rank = two_sided([(u, v), (ru, rv)], draws, seed)
    loo = _leave_one_out(labels, first, second)
    loo_rank = _leave_one_out(labels, first, second, ranked=True)
    cis = _intervals(first, second, (r, rho), (loo, loo_rank), resamples, seed)
    influential = _most_influential(loo, r)
    ceiling, corrected = _attenuation(r, reliability)
    notes += _notes(first, second, labels, p, loo, influential, reliability, r, ceiling)
    return Correlation(
        names=tuple(labels), n=len(labels), r=r, r2=r * r, spearman=rho,
        p_perm=p.value, p_spearman=p_rank.value, p_exact=p.exact, p_perm_error=p.error, p_spearman_error=p_rank.error,
        ci=cis[0], ci_spearman=cis[1], se_measured=_measured(first, second, errors[0], errors[1]),
        loo=loo, loo_spearman=loo_rank, most_influential=influential,
        r_without_it=loo[influential] if influential else NAN,
        spearman_without_it=loo_rank[influential] if influential else NAN,
        line=_line(first, second), hits=hits(first, second),
        reliability=reliability, ceiling=ceiling, corrected=corrected, left_out=left_out, notes=tuple(notes),
    )  # fmt: skip


def _checked(
    names: Sequence[str], x: Any, y: Any, draws: int, resamples: int, seed: int
) -> tuple[list[str], Numbers, Numbers]:
    labels = [str(name) for name in names]
    try:
        values = [np.array([NAN if v is None else float(v) for v in side], dtype=np.float64) for side in (x, y)]
    except (TypeError, ValueError):
        told = "Give numbers, or NaN for what is missing."
        raise UserError("A value to be correlated is not a number", told) from None
    if not len(labels) == len(values[0]) == len(values[1]):
        raise UserError(
            f"There are {len(labels)} names, {len(values[0])} values of x and {len(values[1])} of y",
            "Give one of each for every point.",
        )
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise UserError(f"{twice[0]} is there twice", "Give every point once.")
    if draws < 1 or resamples < 1 or seed < 0:
        raise UserError("Draws and resamples are at least 1, the seed at least 0", "Leave them away for the defaults.")
    return labels, values[0], values[1]


def _errors(values: Any, kept: NDArray[np.bool_]) -> Numbers | None:
    """The standard errors of the points kept; None unless all of them are known."""
    if values is None:
        return None
    found = np.array([NAN if v is None else float(v) for v in values], dtype=np.float64)
    if len(found) != len(kept):
        raise UserError(f"There are {len(kept)} points and {len(found)} standard errors", "Give one for every point.")
    found = found[kept]
    return found if len(found) and np.isfinite(found).all() and (found >= 0).all() else None


def _no_correlation(x: Numbers, y: Numbers) -> str:
    """Why there is none; nothing where there is one."""
    if len(x) < FEWEST:
        return f"{len(x)} point{'' if len(x) == 1 else 's'}: a correlation needs at least {FEWEST}."
    same = [name for name, values in (("scores", x), ("changes", y)) if not differ(values)]
    return f"All {' and all '.join(same)} are equal: there is no correlation." if same else ""


def differ(values: Numbers) -> bool:
    """Whether the values differ by more than their last digits."""
    return float(np.ptp(values / (np.abs(values).max() or 1.0))) > 1e-13


def _without(labels: list[str], left_out: tuple[str, ...], reliability: float | None, notes: list[str]) -> Correlation:
    return Correlation(
        names=tuple(labels), n=len(labels), r=NAN, r2=NAN, spearman=NAN, p_perm=NAN, p_spearman=NAN, p_exact=False,
        p_perm_error=NAN, p_spearman_error=NAN, ci=None, ci_spearman=None, se_measured=None, loo={}, loo_spearman={},
        most_influential=None, r_without_it=NAN, spearman_without_it=NAN, line=None, hits=None,
        reliability=reliability, ceiling=None, corrected=None, left_out=left_out, notes=tuple(notes),
    )  # fmt: skip


def _unit(values: Numbers) -> Numbers:
    """Centred and of length 1, so that the dot product of two is their correlation."""
    scaled = values / np.abs(values).max()
    centred = scaled - scaled.mean()
    centred = centred / np.abs(centred).max()
    return centred / np.linalg.norm(centred)


def _dot(u: Numbers, v: Numbers) -> float:
    return float(np.clip(u @ v, -1.0, 1.0))


def _leave_one_out(labels: list[str], x: Numbers, y: Numbers, *, ranked: bool = False) -> dict[str, float]:
    found: dict[str, float] = {}
    for i, label in enumerate(labels if len(labels) > FEWEST else []):
        a, b = np.delete(x, i), np.delete(y, i)
        if not differ(a) or not differ(b):
            found[label] = NAN
        else:
            found[label] = _dot(*(_unit(ranks(s) if ranked else s) for s in (a, b)))
    return found


def _most_influential(loo: dict[str, float], r: float) -> str | None:
    """The one that r changes most without; one without which there is no correlation at all comes first."""
    change = {name: abs(value - r) if math.isfinite(value) else math.inf for name, value in loo.items()}
    return max(change, key=lambda name: change[name]) if change else None


def _intervals(
    x: Numbers, y: Numbers, values: tuple[float, float], loos: tuple[dict[str, float], dict[str, float]],
    resamples: int, seed: int,
) -> list[tuple[float, float] | None]:  # fmt: skip
    if len(x) < FEWEST_FOR_INTERVAL:
        return [None, None]
    drawn = resampled(_unit(x), _unit(y), resamples, seed)
    return [
        interval(value, draws, np.array(list(loo.values())))
        for value, draws, loo in zip(values, drawn, loos, strict=True)
    ]


def _measured(x: Numbers, y: Numbers, x_se: Numbers | None, y_se: Numbers | None) -> float | None:
    """√Σ (∂r/∂xᵢ · seᵢ)², and of y where its errors are known: the delta method, which a jackknife comes to."""
    if x_se is None and y_se is None:
        return None
    u, v = _unit(x), _unit(y)
    r = u @ v
    total = 0.0
    for own, other, values, se in ((u, v, x, x_se), (v, u, y, y_se)):
        if se is not None:
            total += float(np.sum(((other - r * own) * (se / np.linalg.norm(values - values.mean()))) ** 2))
    return math.sqrt(total)


def _line(x: Numbers, y: Numbers) -> Line | None:
    """Least squares; None where the numbers are too large or too small to be squared."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        mean_x, mean_y = float(x.mean()), float(y.mean())
        squares = float(np.sum((x - mean_x) ** 2))
        slope = float(np.sum((x - mean_x) * (y - mean_y))) / squares if squares > 0 else NAN
        rest = float(np.sum((y - mean_y - slope * (x - mean_x)) ** 2))
    line = Line(slope, mean_y - slope * mean_x, math.sqrt(rest / (len(x) - 2)), mean_x, squares, len(x))
    return line if all(math.isfinite(value) for value in line) else None


def _attenuation(r: float, reliability: float | None) -> tuple[float | None, float | None]:
    if reliability is None or not math.isfinite(reliability):
        return None, None
    ceiling = math.sqrt(min(max(reliability, 0.0), 1.0))
    return ceiling, max(-1.0, min(1.0, r / ceiling)) if ceiling > 0 else None


def _notes(
    x: Numbers, y: Numbers, labels: list[str], p: PValue, loo: dict[str, float], influential: str | None,
    reliability: float | None, r: float, ceiling: float | None,
) -> list[str]:  # fmt: skip
    found = []
    for name, values in (("x", x), ("y", y)):
        if len(np.unique(values)) < len(values):
            found.append(f"Some values of {name} are equal; they share their mean rank.")
    if not p.exact:
        found.append(f"p comes from {p.orders:,} orders drawn at random, not from all.")
    if len(labels) < FEWEST_FOR_INTERVAL:
        found.append(f"No interval below {FEWEST_FOR_INTERVAL} points.")
    if not loo:
        found.append("With three points, none can be left out: two always lie on a line.")
    elif influential and not math.isfinite(loo[influential]):
        found.append(f"Without {influential} all values of a side are equal: that point alone makes the correlation.")
    if reliability is not None and not math.isfinite(reliability):
        found.append("How well the outcome itself is known could not be told.")
    elif ceiling == 0:
        found.append("The outcome's own halves do not agree: no correlation with it can be believed.")
    elif ceiling is not None and abs(r) > ceiling + 0.005:
        found.append(f"r exceeds √reliability = {ceiling:.2f}, which only chance can do.")
    return found
