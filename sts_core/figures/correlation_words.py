"""A correlation in plain words: what it is, how sure, and whether one point carries it (METHOD 6, LOOK)."""

from __future__ import annotations

import math

from sts_core.figures.numbers import DASH, count, duration, fixed, known, number, p_value
from sts_core.figures.words import METRICS
from sts_core.results.actual import Actual
from sts_core.results.agreement import HARM, PAPER8, Comparison
from sts_core.results.baselines import Baseline, Cost
from sts_core.results.outcomes.outcome import SHARE
from sts_core.stats.correlation import Correlation
from sts_core.stats.hits import Hits

OUTCOMES = {"harm": "harm", "size": "|change|"}
"""What a score is held against -> its short name."""
LIKELY = 0.05
"""From this p on, chance alone is said to explain it."""

CARRIED = 0.2
"""From this p on there is nothing that one point could carry."""


def correlation_words(found: Correlation) -> str:
    """`r = 0.77, n = 8, p = .055; without engineering 0.05: one point carries this`."""
    if not known(found.r):
        return next((note for note in reversed(found.notes)), "No correlation can be told.").rstrip(".")
    head = f"r = {fixed(found.r, 2)}, n = {count(found.n)}, {p_value(found.p_perm)}"
    if found.most_influential is None:
        return head
    without = f"{head}; without {found.most_influential} {fixed(found.r_without_it, 2)}"
    return f"{without}: one point carries this" if carried_by_one(found) else without


def carried_by_one(found: Correlation) -> bool:
    """Whether leaving one point out takes away more than half of r, turns its sign, or leaves no r at all.

    Where chance alone gives such an r easily there is nothing to carry.
    """
    if found.most_influential is None or not known(found.r) or found.p_perm > CARRIED:
        return False
    rest = found.r_without_it
    return not math.isfinite(rest) or rest * found.r <= 0 or abs(rest) < abs(found.r) / 2


def comparison_title(found: Comparison) -> str:
    """`STS act against harm, all domains`; paper-8 are the four that changed most and the four that changed least."""
    which = "paper-8" if found.filter == PAPER8 else "all domains"
    return f"{METRICS.get(found.score, found.score)} against {OUTCOMES[found.outcome]}, {which}"


def verdict(found: Comparison) -> str:
    """One sentence on whether the score ranked what happened, by Spearman and its permutation p."""
    c = found.correlation
    name = METRICS.get(found.score, found.score)
    what = "harm" if found.outcome == HARM else "the size of the change"
    if not known(c.spearman):
        return f"Whether {name} ranks {what} cannot be told: {correlation_words(c)}."
    told = f"(Spearman ρ = {fixed(c.spearman, 2)}, n = {count(c.n)}, {p_value(c.p_spearman)})"
    if c.p_spearman >= LIKELY:
        leans = ", and leans the wrong way" if c.spearman < 0 else ""
        return f"{name} does not rank {what} better than chance would{leans} {told}."
    if c.spearman < 0:
        return f"{name} ranks {what} the wrong way round {told}."
    return f"{name} ranks {what} better than chance {told}."


def disagreement_words(found: Correlation) -> str:
    """What to make of it where only one of the two correlations is beyond chance; nothing where they agree."""
    if not known(found.r) or not known(found.spearman) or (found.p_perm < LIKELY) == (found.p_spearman < LIKELY):
        return ""
    sure, other = ("Pearson's r", "the ranks") if found.p_perm < LIKELY else ("The ranks", "Pearson's r")
    return (
        f"{sure} alone would pass for more than chance, {other} would not: r weighs how far apart domains lie, and so "
        "can hang on a few of them. What was fixed beforehand is the ranks."
    )


def harm_words(actual: Actual) -> str:
    """`harm, nats a token`: above 0 is worse."""
    unit = next((one.unit for one in actual.outcomes), "")
    if unit == "nats":
        return "harm, nats a token"
    return "harm, points of accuracy" if unit == SHARE or actual.from_paper else "harm"


def interval_words(interval: tuple[float, float] | None) -> str:
    """`−0.12 to 0.94`."""
    return DASH if interval is None else f"{fixed(interval[0], 2)} to {fixed(interval[1], 2)}"


def hits_words(found: Hits | None) -> str:
    """`2 of the 3 hit hardest are among the 3 highest scores (chance: 0.64)`."""
    if found is None:
        return ""
    k = count(found.k)
    by_chance = number(found.chance * found.k, 2)
    shared = count(found.shared) if found.shared == round(found.shared) else number(found.shared, 2)
    return f"{shared} of the {k} hit hardest are among the {k} highest scores (chance: {by_chance})"


def baseline_kind(one: Baseline) -> str:
    """Whether it could have told beforehand, and if not, why not."""
    return "foretells" if one.foretells else "has seen the outcomes" if one.refitted else "known after the training"


def cost_words(seconds: float | None, device: str) -> str:
    """`2 min 52 s on cpu`."""
    return DASH if seconds is None else f"{duration(seconds)}{f' on {device}' if device else ''}"


def baseline_cost(one: Baseline, sts: Cost) -> str:
    """The same of a baseline; one that is read from the result itself cost what STS did."""
    same = one.seconds is not None and (one.seconds, one.device) == sts
    return "as STS" if same else cost_words(one.seconds, one.device)


def baseline_words(name: str, found: Correlation) -> str:
    """What the best of the simple numbers reaches on its own."""
    told = f"Spearman ρ = {fixed(found.spearman, 2)}, {p_value(found.p_spearman)}"
    return f"Best of the baselines that foretell: {name} ({told})."


def reliability_words(reliability: float | None, source: str) -> str:
    """How well the outcome itself is known, told before any score is."""
    if reliability is None:
        return "How well the outcome is known is not told: it has neither rows nor standard errors."
    if not math.isfinite(reliability):
        return "How well the outcome is known could not be told."
    if reliability <= 0:
        return f"The outcome is noise (reliability {fixed(reliability, 2)}, from {source}): no score could follow it."
    ceiling = fixed(math.sqrt(min(reliability, 1.0)), 2)
    return f"Reliability of the outcome {fixed(reliability, 2)} (from {source}): no score can exceed r = {ceiling}."
