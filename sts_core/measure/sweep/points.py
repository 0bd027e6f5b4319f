"""The rows of a sweep that one measurement gives: its scores held against what happened, and what simpler numbers give.

Every number comes by the same call a person would make for that result alone (`sts score`, `sts correlate`,
`sts overlap`), so a sweep says what its points say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sts_core.errors import UserError
from sts_core.measure.resolve import Resolved
from sts_core.measure.sweep.chance import aligned, rank_agreement
from sts_core.measure.sweep.spec import Choice
from sts_core.results.actual import SHIFT, Actual
from sts_core.results.agreement import ALL, HARM, SCORES, hold_against
from sts_core.results.baselines import baselines
from sts_core.results.overlap import compare
from sts_core.results.sweeps import BASELINE, KS, PROBE, SCORE
from sts_core.results.vectors import Vectors
from sts_core.stats.correlation import Correlation, correlate
from sts_core.stats.overlap import chance_null, shared

BY_SIZE = "busiest features, active"
"""The baseline that depends on how many features are asked for."""
RANDOM = "random features, active"
NOT_FOUND = np.nan
Row = dict[str, Any]
Scores = dict[str, dict[str, float]]
"""Metric -> domain -> value."""


class Measured(NamedTuple):
    """One result of the sweep."""

    sae: str
    """As the spec names it, or the probe's name."""
    probe: bool
    resolved: Resolved
    folder: Path

    @property
    def about(self) -> Row:
        """What its rows have in common."""
        spec, sae = self.resolved.spec, self.resolved.sae
        shift = Vectors(self.folder).shift
        return {
            "sae": self.sae, "layer": sae.layer, "features": sae.features, "l0": float(shift["rate_base"].sum()),
            "seed": spec.run.seed, "pool": spec.pool.tokens, "key": self.resolved.key,
        }  # fmt: skip


def fits(choice: Choice, features: int) -> bool:
    """Whether a dictionary has as many features as are asked for."""
    return choice.last <= features


class Points:
    """Asks one measurement everything; the answers are rows, and the scores behind them."""

    def __init__(self, measured: Measured, actual: Actual | None, metric_order: Sequence[str] = SCORES) -> None:
        self._measured, self._actual = measured, actual
        self._result = Vectors(measured.folder)
        self._about = measured.about
        self._metrics = tuple(metric_order)
        self.scores: dict[Choice, Scores] = {}
        """What each choice scores, for comparisons between points."""
        self.warnings: list[str] = []

    def rows(self, choices: Sequence[Choice]) -> list[Row]:
        """Scores of every choice that the dictionary has features for, then the baselines."""
        features = self._measured.resolved.sae.features
        asked = [choice for choice in choices if fits(choice, features)]
        found = [row for choice in asked for row in self._of(choice)]
        found = [{**row, "foretells": True} for row in found]
        return found + (self._baselines(asked) if self._actual is not None and asked else [])

    def _of(self, choice: Choice) -> list[Row]:
        common = {**self._about, "kind": PROBE if self._measured.probe else SCORE, **_chosen(choice)}
        n, ranks, power = choice.n or choice.size, choice.ranks, choice.power
        table = self._result.scores(n=n, ranks=ranks, power=power)
        self.scores[choice] = {
            metric: dict(zip(part["domain"], part["value"].astype(float), strict=True))
            for metric, part in table.groupby("metric", sort=False)
        }
        if self._actual is None:
            rows = [{**common, "score": metric, "outcome": "", "primary": False} for metric in self._metrics]
            return [{**row, "domains": self._known(choice, row["score"])} for row in rows]
        held = hold_against(
            self._result, self._actual, n=n, ranks=ranks, power=power, filters=(ALL,), with_baselines=False
        )
        return [
            {**common, "score": one.score, "outcome": one.outcome, "primary": one.primary and not self._measured.probe,
             **told(one.correlation)}
            for one in held.comparisons
        ]  # fmt: skip

    def _known(self, choice: Choice, metric: str) -> int:
        return sum(np.isfinite(value) for value in self.scores[choice][metric].values())

    def _baselines(self, asked: Sequence[Choice]) -> list[Row]:
        """Those that depend on nothing but the measurement once, those of so many features for every number of them."""
        actual = self._actual
        if actual is None:
            return []
        sizes = list(dict.fromkeys(choice.size for choice in asked))
        held = hold_against(self._result, actual, n=sizes[0], filters=(ALL,), measured=False)
        found = [(one.name, sizes[0] if one.name == BY_SIZE else None, c) for one, c in held.baselines]
        seen = {one.name for one, _ in held.baselines if not one.foretells}
        harm = {point.domain: point.outcome.harm for point in held.points}
        for size in sizes[1:]:
            one = next(one for one in baselines(self._result.folder, size) if one.name == BY_SIZE)
            found.append((BY_SIZE, size, _against(one.values, one.se, harm)))
        for size in sizes:
            drawn = self._result.scores(n=size, dims="random")
            drawn = drawn[drawn["metric"] == SCORES[0]].set_index("domain")
            values, errors = drawn["value"].to_dict(), drawn["se"].to_dict()
            found.append((RANDOM, size, _against(values, errors, harm)))
        return [
            {**self._about, "kind": BASELINE, "choice": "" if size is None else f"{size} features", "n": size,
             "power": 1, "score": name, "outcome": HARM, "primary": False, "foretells": name not in seen,
             **told(correlation)}
            for name, size, correlation in found
        ]  # fmt: skip


def told(found: Correlation) -> Row:
    """What of a correlation stands in the table."""
    low, high = found.loo_range or (NOT_FOUND, NOT_FOUND)
    ci, ci_rank = found.ci or (NOT_FOUND, NOT_FOUND), found.ci_spearman or (NOT_FOUND, NOT_FOUND)
    return {
        "domains": found.n, "spearman": found.spearman, "p_spearman": found.p_spearman, "spearman_low": ci_rank[0],
        "spearman_high": ci_rank[1], "r": found.r, "p_r": found.p_perm, "r_low": ci[0], "r_high": ci[1],
        "loo_min": low, "loo_max": high, "most_influential": found.most_influential or "",
        "r_without_it": found.r_without_it, "spearman_without_it": found.spearman_without_it,
    }  # fmt: skip


def overlaps(measured: Measured, first: Measured | None, actual: Actual | None) -> Row:
    """How much of the top k a fine-tune's own shift names too, and the first seed; each with what chance would give.

    The null beside the fine-tune's is the highest of METHOD 3's; beside the seed's it is chance among what fires.
    """
    found: Row = {}
    if first is not None and first.folder != measured.folder:
        mine, its = Vectors(measured.folder), Vectors(first.folder)
        ks = [k for k in KS if k <= len(mine.ranking)]
        firing = int(((mine.shift["mean_base"] > 0) | (mine.shift["mean_icl"] > 0)).sum())
        for k, both in zip(ks, shared(mine.ranking, its.ranking, ks), strict=True):
            found |= {f"seed_overlap_{k}": int(both) / k, f"seed_chance_{k}": _chance(k, firing)}
    if actual is not None and actual.folder is not None and (actual.folder / SHIFT).is_file() and not measured.probe:
        try:
            compared = compare(measured.folder, actual.folder, [k for k in KS if k <= measured.resolved.sae.features])
        except UserError:  # measured with another SAE, or not over these features: then there is none
            return found
        for row in compared.rows:
            found |= {f"overlap_{row.k}": row.value, f"overlap_null_{row.k}": row.nulls[row.highest].upper}
    return found


def same_order(scores: Mapping[str, float], first: Mapping[str, float]) -> float:
    """Spearman of a point's scores with those of another."""
    names = list(first)
    return rank_agreement(aligned(scores, names), aligned(first, names))


def _chance(k: int, firing: int) -> float:
    return chance_null(k, firing).mean if 0 < k <= firing else float("nan")


def _chosen(choice: Choice) -> Row:
    first, last = choice.ranks or (None, None)
    return {
        "choice": choice.words, "n": choice.n, "first": None if first is None else first + 1, "last": last,
        "power": choice.power,
    }  # fmt: skip


def _against(values: Mapping[str, float], errors: Mapping[str, float | None], harm: Mapping[str, float]) -> Correlation:
    names = list(harm)
    x = [values.get(name, float("nan")) for name in names]
    return correlate(names, x, list(harm.values()), x_se=[errors.get(name) for name in names])
