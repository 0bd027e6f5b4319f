"""Scores held against what happened: every comparison METHOD 6 asks for, the primary one marked.

Primary, fixed before looking: STS act over the 100 most shifted features, signed harm in answer log-likelihood, all
domains, Spearman. Everything else is exploratory and says so. Domains that stand on one side only are named, never
dropped in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sts_core.errors import UserError, nearest
from sts_core.results import paper
from sts_core.results.actual import MIXED, PRIMARY_METRIC, Actual, Given, read_actual, run_dims, same_name
from sts_core.results.baselines import NOT_STORED, Baseline, Cost, baselines, cost_of
from sts_core.results.folder import Result
from sts_core.results.kept_baselines import kept_baselines
from sts_core.results.outcomes.outcome import Outcome
from sts_core.results.scores import Dims
from sts_core.stats.correlation import Correlation, correlate
from sts_core.stats.ridge import REFITS

SCORES = ("sts_act", "sts_icl")
HARM, SIZE = "harm", "size"
"""Signed harm, and the size of the change without its sign, as the paper has it."""
ALL, PAPER8 = "all", "paper8"
FILTERS = (ALL, PAPER8)
EACH_END = 4
NONE_WORSE = "No domain got worse: the order of harm is that of who gained least."
OTHER_SET = "This run was trained on {}, which is not what these scores foretell: no test of them."
SELECTED = (
    "Eight domains were chosen by how much they changed: that raises a correlation (for 14 Gaussian pairs a true r of "
    "0.5 becomes 0.59 on average)."
)
PRIMARY_N = 100
REFITTED = "p is one-sided, from refitting to outcomes in other orders: such predictions lean away from the truth."
NO_DOMAIN = "No domain stands on both sides"


class Point(NamedTuple):
    """A domain on both sides."""

    domain: str
    score: dict[str, float]
    """Metric -> value."""
    score_se: dict[str, float | None]
    outcome: Outcome


class Comparison(NamedTuple):
    """A score against an outcome."""

    score: str
    outcome: str
    """`harm` or `size`."""
    filter: str
    primary: bool
    correlation: Correlation

    def public(self) -> dict[str, Any]:
        """The same for JSON."""
        return {**self._asdict(), "correlation": self.correlation.public()}


class Agreement(NamedTuple):
    """Everything at once."""

    actual: Actual
    points: list[Point]
    only_scored: list[str]
    """Domains without an outcome."""
    only_changed: list[str]
    """Domains without a score."""
    comparisons: list[Comparison]
    baselines: list[tuple[Baseline, Correlation]]
    """Each against signed harm over all domains."""
    notes: list[str]
    missing: dict[str, str]
    """Baselines of METHOD that are not among them -> why."""
    cost: Cost
    """Of the scores themselves."""

    @property
    def best_baseline(self) -> tuple[Baseline, Correlation] | None:
        """The one known before the training that ranks harm best by Spearman."""
        known = [(b, c) for b, c in self.baselines if b.foretells and np.isfinite(c.spearman)]
        return max(known, key=lambda pair: pair[1].spearman) if known else None

    def public(self) -> dict[str, Any]:
        """The same for JSON."""
        target, best = self.actual.target, self.best_baseline
        return {
            "source": self.actual.source, "metric": self.actual.metric, "metrics": self.actual.metrics,
            "reliability": self.actual.reliability, "reliability_from": self.actual.reliability_from,
            "target": None if target is None else _outcome(target),
            "points": [{"domain": p.domain, **p.score, **{f"{m}_se": v for m, v in p.score_se.items()},
                        **_outcome(p.outcome)} for p in self.points],
            "only_scored": self.only_scored, "only_changed": self.only_changed,
            "comparisons": [comparison.public() for comparison in self.comparisons],
            "baselines": [{**b.public(), "correlation": c.public()} for b, c in self.baselines],
            "best_baseline": best[0].name if best else None,
            "baselines_not_stored": self.missing, "seconds": self.cost.seconds, "device": self.cost.device,
            "notes": self.notes,
        }  # fmt: skip


def hold_against(
    result: Result,
    actual: Actual,
    *,
    n: int = PRIMARY_N,
    dims: Dims = "icl",
    ranks: tuple[int, int] | None = None,
    power: int = 1,
    filters: Sequence[str] = FILTERS,
    with_baselines: bool = True,
    measured: bool = True,
    seed: int = 0,
) -> Agreement:
    """A result's scores against what happened. `dims="sft"` takes the features that the run itself shifted.

    The baselines are those that the result tells and, if `measured`, those that `sts baselines` has measured for it.
    """
    actual = actual.beside(result.manifest)
    if dims == "sft":
        scores = result.scores(dims=run_dims(actual, *(ranks or (0, n))).tolist(), power=power)
    else:
        scores = result.scores(n=n, dims=dims, ranks=ranks, power=power)
    standard = (n, dims, ranks, power) == (PRIMARY_N, "icl", None, 1)
    found = agree(scores, actual, filters, standard=standard, seed=seed)
    if with_baselines and found.points:
        found = _with_baselines(result, n, found, measured, seed)
    if actual.from_paper:
        found.notes.append(f"The changes are not of this model: {actual.source.removeprefix('paper, ')}.")
    found.notes.extend(cautions(actual, [point.outcome.harm for point in found.points]))
    return found


def cautions(actual: Actual, harms: Sequence[float]) -> list[str]:
    """What a reader of the comparison has to know beside its numbers."""
    told = [OTHER_SET.format(actual.foreign)] if actual.foreign else []
    return [*told, *([MIXED] if actual.mixed else []), *none_worse(harms)]


def none_worse(harms: Sequence[float]) -> list[str]:
    """Said where nobody was harmed, for the words of a comparison speak of harm."""
    known = [harm for harm in harms if np.isfinite(harm)]
    return [NONE_WORSE] if known and max(known) <= 0 else []


def agree(
    scores: pd.DataFrame, actual: Actual, filters: Sequence[str] = FILTERS, *, standard: bool = False, seed: int = 0
) -> Agreement:
    """Scores (`domain, metric, value, se`) against outcomes; `standard` says that they are those fixed beforehand."""
    unknown = next((name for name in filters if name not in FILTERS), None)
    if unknown is not None or not filters:
        raise UserError(
            f"There is no filter {unknown!r}{nearest(str(unknown), FILTERS)}", "Choose all, paper8 or both."
        )
    points, only_scored, only_changed = _matched(scores, actual)
    if not points:
        told = [", ".join(names[:6]) or "nothing" for names in (only_scored, only_changed)]
        raise UserError(f"{NO_DOMAIN}: scored are {told[0]}; changed are {told[1]}", "Name the domains alike.")
    notes = [SELECTED] if PAPER8 in filters and len(points) > 2 * EACH_END else []
    found = []
    for name in dict.fromkeys(filters):
        kept = points if name == ALL else _ends(points)
        for score in [metric for metric in SCORES if any(metric in point.score for point in points)]:
            for outcome in (HARM, SIZE):
                primary = standard and (score, outcome, name) == (SCORES[0], HARM, ALL)
                primary = primary and actual.metric == PRIMARY_METRIC and not actual.foreign
                result = _compare(kept, score, outcome, actual.reliability, seed)
                found.append(Comparison(score, outcome, name, primary, result))
    return Agreement(actual, points, only_scored, only_changed, found, [], notes, {}, Cost(None, ""))


def of_paper(model: str, filters: Sequence[str] = (PAPER8,), seed: int = 0) -> Agreement:
    """The paper's own scores against its own changes, for the eight domains whose scores it shows."""
    found = agree(paper.scores(model), read_actual(f"paper:{model}"), filters, seed=seed)
    found.notes[:] = [
        f"STS of {', '.join(found.only_changed)}: {paper.NOT_PUBLISHED}.",
        "The eight are those that changed most and least: their choice raises a correlation.",
        "Scores were read off Figure 3, to about one pixel.",
    ]
    return found


def correlate_result(
    result: Result, given: Given | Actual, score: str = "sts_act", *, n: int = PRIMARY_N, dims: Dims = "icl",
    ranks: tuple[int, int] | None = None, power: int = 1, metric: str | None = None, outcome: str = HARM,
    domains: str = ALL, seed: int = 0,
) -> Correlation:  # fmt: skip
    """One comparison of a result with what happened; see `Result.correlate`."""
    if score not in SCORES or outcome not in (HARM, SIZE):
        raise UserError(f"{score!r} against {outcome!r} is not known", "Use sts_act or sts_icl, and harm or size.")
    actual = given if isinstance(given, Actual) else read_actual(given, metric)
    found = hold_against(
        result, actual, n=n, dims=dims, ranks=ranks, power=power, filters=[domains], with_baselines=False, seed=seed
    )
    return next(c.correlation for c in found.comparisons if (c.score, c.outcome) == (score, outcome))


def _matched(scores: pd.DataFrame, actual: Actual) -> tuple[list[Point], list[str], list[str]]:
    """Points in the order of the scores; what stands on one side only."""
    changed = _by_name([outcome.domain for outcome in actual.outcomes], "changes")
    scored = _by_name(list(dict.fromkeys(scores["domain"])), "scores")
    outcomes = {outcome.domain: outcome for outcome in actual.outcomes}
    points = []
    for key, domain in scored.items():
        if key in changed:
            rows = scores[scores["domain"] == domain].set_index("metric")
            values = {str(metric): float(value) for metric, value in rows["value"].items()}
            errors = {str(m): None if not np.isfinite(se) else float(se) for m, se in rows["se"].astype(float).items()}
            points.append(Point(domain, values, errors, outcomes[changed[key]]))
    return (
        points,
        [domain for key, domain in scored.items() if key not in changed],
        [domain for key, domain in changed.items() if key not in scored],
    )


def _by_name(names: Sequence[str], which: str) -> dict[str, str]:
    """What all spellings have in common -> the name."""
    found: dict[str, str] = {}
    for name in names:
        key = same_name(name)
        if key in found:
            raise UserError(f"The {which} name one domain twice: {found[key]!r} and {name!r}", "Keep one of the two.")
        found[key] = name
    return found


def _ends(points: list[Point]) -> list[Point]:
    """The four that changed most and the four that changed least, in their order; all where there are no more."""
    points = [point for point in points if np.isfinite(point.outcome.harm)]
    if len(points) <= 2 * EACH_END:
        return points
    order = np.argsort([-abs(point.outcome.harm) for point in points], kind="stable")
    chosen = {*order[:EACH_END].tolist(), *order[-EACH_END:].tolist()}
    return [point for i, point in enumerate(points) if i in chosen]


def _compare(points: list[Point], score: str, outcome: str, reliability: float | None, seed: int) -> Correlation:
    """The reliability is that of the signed harm, and told of nothing else."""
    harms = [point.outcome.harm for point in points]
    return correlate(
        [point.domain for point in points],
        [point.score.get(score, float("nan")) for point in points],
        harms if outcome == HARM else [abs(harm) for harm in harms],
        x_se=[point.score_se.get(score) for point in points],
        y_se=[point.outcome.harm_se for point in points],
        reliability=reliability if outcome == HARM else None,
        seed=seed,
    )


def _with_baselines(result: Result, n: int, found: Agreement, measured: bool, seed: int) -> Agreement:
    harm: Mapping[str, float] = {point.domain: point.outcome.harm for point in found.points}
    names = list(harm)
    told, missing = baselines(result.folder, min(n, len(result.shift)), harm), NOT_STORED
    if measured:
        kept = kept_baselines(result, found.actual.folder)
        told, missing = [*told, *kept.baselines], kept.missing
    compared = []
    for one in told:
        x = [one.values.get(name, float("nan")) for name in names]
        errors = [one.se.get(name) for name in names]
        compared.append((one, _refit(one, correlate(names, x, list(harm.values()), x_se=errors, seed=seed))))
    return found._replace(baselines=compared, missing=missing, cost=cost_of(result))


def _refit(one: Baseline, found: Correlation) -> Correlation:
    """What is fitted to the outcomes has a p of its own, and no interval: its points are not independent."""
    if one.refitted is None or not math.isfinite(found.r):
        return found
    p, p_rank = one.refitted
    error, error_rank = (float(np.sqrt(v * (1 - v) / REFITS)) for v in one.refitted)
    return found._replace(
        p_perm=p, p_spearman=p_rank, p_exact=False, p_perm_error=error, p_spearman_error=error_rank,
        ci=None, ci_spearman=None, notes=(*found.notes, REFITTED),
    )  # fmt: skip


def _outcome(one: Outcome) -> dict[str, Any]:
    keys = ("before", "after", "change", "se", "n", "unit")
    return {**{key: getattr(one, key) for key in keys}, "harm": one.harm, "harm_se": one.harm_se}
