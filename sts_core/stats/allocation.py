"""How many rows of each domain: a budget shared out by score, within floors and caps (METHOD 12).

The share of domain d is proportional to `score_d ^ tau` ("sts"), the same for all ("uniform"), or proportional to
`score_d ^ -tau` ("inverse"). One factor λ serves all: x_d = λ · weight_d, held between the floor and the domain's cap,
with Σ x_d = budget. Whole rows come of it by largest remainder: every x_d is rounded down, and the rows left go one
each to the largest fractions; of equal ones to the domain whose score asks for more, then to the earlier name. The
arithmetic is exact, so the order in which domains are named changes nothing.

A weight of 0 gets rows above the floor only once every other domain is at its cap; an infinite one (the inverse of 0)
gets them first.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from fractions import Fraction

from sts_core.errors import UserError, nearest

ALLOCATIONS = ("sts", "uniform", "inverse")
_FIRST, _BY_WEIGHT, _LAST = range(3)
"""When a domain gets rows above its floor."""
_NAMED = 3
"""So many domains are named in an explanation; the others are counted."""


def allocate(
    scores: Mapping[str, float],
    available: Mapping[str, int],
    budget: int,
    how: str = "sts",
    tau: float = 1.0,
    floor: int = 0,
    cap: int | None = None,
) -> dict[str, int]:
    """Rows of each domain, in the order of `scores`: exactly `budget` of them, or a UserError that says why not.

    `available` says how many rows a domain has; `cap`, where given, holds for every domain beside it.
    """
    if how not in ALLOCATIONS:
        raise UserError(f"There is no allocation {how!r}{nearest(how, ALLOCATIONS)}", f"Use {', '.join(ALLOCATIONS)}.")
    if not scores:
        raise UserError("There is no domain to share the budget among", "Name at least one domain.")
    caps = {name: min(available[name], available[name] if cap is None else cap) for name in scores}
    _check_possible(caps, available, budget, floor, cap)
    ranks, weights = _weights(scores, how, tau)
    exact = {name: Fraction(floor) for name in scores}
    left = Fraction(budget - floor * len(scores))
    for rank in (_FIRST, _BY_WEIGHT, _LAST):
        these = [name for name in scores if ranks[name] == rank]
        part = min(left, sum((Fraction(caps[name] - floor) for name in these), Fraction(0)))
        if these and part:
            exact |= _fill({name: weights[name] for name in these}, floor, caps, part + floor * len(these))
            left -= part
    sign = 0 if how == "uniform" or tau == 0 else -1 if how == "sts" else 1
    return _whole_rows(exact, budget, {name: sign * score if sign else 0 for name, score in scores.items()})


def check_quotas(quotas: Mapping[str, int], available: Mapping[str, int]) -> dict[str, int]:
    """Quotas of one's own, for every domain that has rows available (0 where none is given); refuses what cannot be."""
    for name, quota in quotas.items():
        if name not in available:
            raise UserError(
                f"A quota is given for {name!r}, which is no domain of this mixture{nearest(name, available)}",
                f"The domains are: {', '.join(available)}.",
            )
        if quota > available[name]:
            raise UserError(
                f"{quota:,} rows of {name} are asked for, {available[name]:,} are available", f"Lower {name}'s quota."
            )
    return {name: quotas.get(name, 0) for name in available}


def _check_possible(
    caps: Mapping[str, int], available: Mapping[str, int], budget: int, floor: int, cap: int | None
) -> None:
    if short := [name for name in caps if caps[name] < floor]:
        if cap is not None and cap < floor:
            raise UserError(f"The floor of {floor:,} rows is above the cap of {cap:,}", "Lower floor, or raise cap.")
        raise UserError(
            f"The floor is {floor:,} rows a domain, but {_told(short, available)}",
            "Lower floor, or leave these domains out.",
        )
    if floor * len(caps) > budget:
        raise UserError(
            f"A floor of {floor:,} in {len(caps):,} domains needs {floor * len(caps):,} rows; the budget is {budget:,}",
            "Raise budget, lower floor, or name fewer domains.",
        )
    if sum(caps.values()) < budget:
        held = f" under the cap of {cap:,}" if cap is not None and any(cap < available[name] for name in caps) else ""
        raise UserError(
            f"The budget is {budget:,} rows, but {len(caps):,} domains give at most {sum(caps.values()):,}{held}",
            "Lower budget, raise cap, or name more domains.",
        )


def _told(names: list[str], available: Mapping[str, int]) -> str:
    named = ", ".join(f"{name} has {available[name]:,}" for name in names[:_NAMED])
    more = len(names) - _NAMED
    return f"{named} and {more:,} more have too few" if more > 0 else named


def _weights(scores: Mapping[str, float], how: str, tau: float) -> tuple[dict[str, int], dict[str, Fraction]]:
    """When each domain's turn comes, and its weight then."""
    if not math.isfinite(tau) or tau < 0:
        raise UserError(f"tau is {tau}", "Give a number of at least 0; 0 shares out evenly.")
    if how == "uniform" or tau == 0:
        return dict.fromkeys(scores, _BY_WEIGHT), dict.fromkeys(scores, Fraction(1))
    for name, score in scores.items():
        if not math.isfinite(score) or score < 0:
            raise UserError(
                f"The score of {name} is {score}, which gives no share", "Leave it out, or share out evenly (uniform)."
            )
    positive = [score for score in scores.values() if score > 0]
    ranks, weights = {}, {}
    for name, score in scores.items():
        # Against the extreme one, so that no power overflows; one that vanishes counts as the 0 it has become.
        ratio = (score / max(positive) if how == "sts" else min(positive) / score) if score > 0 else 0.0
        weight = ratio**tau
        if score == 0:
            ranks[name] = _LAST if how == "sts" else _FIRST
        else:
            ranks[name] = _BY_WEIGHT if weight > 0 else _LAST
        weights[name] = Fraction(weight) if ranks[name] == _BY_WEIGHT else Fraction(1)
    return ranks, weights


def _fill(weights: Mapping[str, Fraction], floor: int, caps: Mapping[str, int], total: Fraction) -> dict[str, Fraction]:
    """λ · weight between floor and cap for each, with the λ at which they add up to `total`."""

    def at(factor: Fraction) -> dict[str, Fraction]:
        return {name: max(Fraction(floor), min(factor * w, Fraction(caps[name]))) for name, w in weights.items()}

    def whole(factor: Fraction) -> Fraction:
        return sum(at(factor).values(), Fraction(0))

    # Between two of these, the same domains are held at floor or cap, so the sum is a straight line in λ.
    bends = sorted({Fraction(edge) / w for name, w in weights.items() for edge in (floor, caps[name])})
    place = bisect_left(bends, total, key=whole)
    upper = bends[place]
    if place == 0 or whole(upper) == total:
        return at(upper)
    lower = bends[place - 1]
    low, high = whole(lower), whole(upper)
    return at(lower + (upper - lower) * (total - low) / (high - low))


def _whole_rows(exact: Mapping[str, Fraction], budget: int, turn: Mapping[str, float]) -> dict[str, int]:
    """Largest remainder, of equal ones the lower `turn`. No share is rounded past its cap: caps are whole."""
    rows = {name: math.floor(share) for name, share in exact.items()}
    order = sorted(rows, key=lambda name: (rows[name] - exact[name], turn[name], name))
    for name in order[: budget - sum(rows.values())]:
        rows[name] += 1
    return rows
