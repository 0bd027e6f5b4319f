"""What the transfer page draws: scores of a choice of features, what happened, and the two held together.

Scores come from mapped vectors and a correlation from some thousand resamples, so that a slider is answered at once; an
equal question is not asked twice.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from sts_core.errors import UserError
from sts_core.figures.numbers import count, questions
from sts_core.figures.transfer import Dot
from sts_core.results import paper
from sts_core.results.actual import PRIMARY_METRIC, Actual, run_dims, same_name
from sts_core.results.agreement import ALL, HARM, PRIMARY_N, Agreement, Comparison, hold_against, of_paper
from sts_core.results.scores import Dims
from sts_core.results.vectors import Vectors
from sts_core.stats.correlation import Correlation, correlate

ACT, ICL = "sts_act", "sts_icl"
DIMS = {"icl": "demonstrations", "sft": "the run itself", "random": "chance", "list": "my list"}
"""What chooses the features -> its name on the page."""
NEEDS_RUN = (
    "The run's own features need a run",
    "Choose a fine-tuning run under What happened, or let demonstrations choose the features.",
)


class Choice(NamedTuple):
    """What a person chose of scores and outcome."""

    score: str = ACT
    dims: str = "icl"
    n: int = PRIMARY_N
    ranks: tuple[int, int] | None = None
    """A rank band in place of the first n."""
    features: tuple[int, ...] = ()
    """The list of one's own."""
    power: int = 1
    outcome: str = HARM

    @property
    def fixed_beforehand(self) -> bool:
        """Whether this is the primary comparison, but for the outcome's metric (METHOD 6)."""
        return self._replace(features=()) == Choice()

    def words(self) -> str:
        """Which features, in words: `the 100 most shifted features`."""
        if self.dims == "list":
            return f"{count(len(self.features))} features of your own"
        if self.dims == "random":
            return f"{count(self.n)} features drawn by chance"
        by = " in the run" if self.dims == "sft" else ""
        if self.ranks is not None:
            return f"the features of ranks {count(self.ranks[0] + 1)} to {count(self.ranks[1])} by shift{by}"
        return f"the {count(self.n)} features that shift most{by}"


class Held(NamedTuple):
    """Scores beside outcomes."""

    dots: list[Dot]
    table: pd.DataFrame
    """`domain, score, score_se, before, after, harm, harm_se, questions`."""
    only_scored: list[str]
    only_changed: list[str]


@st.cache_resource(max_entries=4, show_spinner=False)
def vectors(folder: str, key: str) -> Vectors:
    """A result's vectors. The key is part of the cache's key, for the demo may be renewed."""
    return Vectors(Path(folder))


def scores(of: Vectors, choice: Choice, actual: Actual | None) -> pd.DataFrame:
    """`choice.score` of every domain."""
    return of.scores(dims=features(of, choice, actual), power=choice.power, metrics=[choice.score])


def features(of: Vectors, choice: Choice, actual: Actual | None) -> list[int]:
    """The features that are averaged over."""
    dims: Dims = list(choice.features) if choice.dims == "list" else choice.dims
    if choice.dims == "sft":
        if actual is None:
            raise UserError(*NEEDS_RUN)
        return run_dims(actual, *(choice.ranks or (0, choice.n))).tolist()
    return of.choose(choice.n, dims, choice.ranks if choice.dims == "icl" else None).tolist()


def hold(scored: pd.DataFrame, actual: Actual, choice: Choice) -> Held:
    """The domains that both sides name, in the order of the scores."""
    outcomes = {same_name(one.domain): one for one in actual.outcomes}
    rows, dots, matched = [], [], set()
    for domain, value, se in zip(scored["domain"], scored["value"], scored["se"].astype(float), strict=True):
        one = outcomes.get(same_name(str(domain)))
        if one is None:
            continue
        matched.add(same_name(str(domain)))
        y = abs(one.harm) if choice.outcome != HARM else one.harm
        note = "" if one.n is None else questions(one.n)
        dots.append(Dot(str(domain), float(value), float(se) if math.isfinite(se) else None, y, one.harm_se, note))
        rows.append((str(domain), float(value), se, one.before, one.after, y, one.harm_se, one.n))
    table = pd.DataFrame(
        rows, columns=["domain", "score", "score_se", "before", "after", "harm", "harm_se", "questions"]
    ).astype(dict.fromkeys(("score_se", "before", "after", "harm_se", "questions"), float))
    scored_names = [str(domain) for domain in scored["domain"]]
    return Held(
        dots,
        table,
        [name for name in scored_names if same_name(name) not in matched],
        [one.domain for key, one in outcomes.items() if key not in matched],
    )


def correlation(held: Held, reliability: float | None, whole: bool = True) -> Correlation:
    """All of METHOD 6; without `whole` only what a figure shows: r, the line, what each point does."""
    dots = held.dots
    return _correlated(
        tuple(dot.name for dot in dots), tuple(dot.x for dot in dots), tuple(dot.y for dot in dots),
        tuple(dot.x_se for dot in dots), tuple(dot.y_se for dot in dots), reliability, whole,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _correlated(
    names: tuple[str, ...], x: tuple[float, ...], y: tuple[float, ...], x_se: tuple[float | None, ...],
    y_se: tuple[float | None, ...], reliability: float | None, whole: bool,
) -> Correlation:  # fmt: skip
    few = {} if whole else {"draws": 1, "resamples": 1}
    return correlate(names, x, y, x_se=x_se, y_se=y_se, reliability=reliability, **few)


def compared(found: Correlation, choice: Choice, actual: Actual) -> Comparison:
    """The correlation with what was compared, for its words."""
    primary = choice.fixed_beforehand and actual.metric == PRIMARY_METRIC and not actual.foreign
    return Comparison(choice.score, choice.outcome, ALL, primary, found)


@st.cache_resource(max_entries=16, show_spinner="Comparing with the baselines …")
def whole_agreement(
    folder: str, key: str, choice: Choice, token: str, metric: str, measured: tuple[tuple[str, int], ...],
    _actual: Actual,
) -> Agreement:  # fmt: skip
    """Every comparison and every baseline; reads all vectors, so it is made when it is asked for.

    `measured` is there so that baselines measured anew are read anew.
    """
    of = vectors(folder, key)
    dims: Dims = list(choice.features) if choice.dims == "list" else choice.dims
    n = min(len(features(of, choice, _actual)), len(of.ranking))
    return hold_against(of, _actual, n=n, dims=dims, ranks=choice.ranks, power=choice.power)


@st.cache_resource(max_entries=8, show_spinner=False)
def paper_agreement(model: str) -> Agreement:
    """The paper's scores against its changes."""
    return of_paper(model)


def paper_scores(model: str, score: str) -> pd.DataFrame:
    """A row for each of the fourteen domains: those whose score the paper does not show have none."""
    shown = paper.scores(model)
    shown = shown[shown["metric"] == score].set_index("domain")
    names = [one.domain for one in paper.outcomes(model)]
    values = [float(shown["value"].get(name, np.nan)) for name in names]
    return pd.DataFrame(
        {"domain": names, "metric": score, "value": values, "se": np.nan, "tokens": np.nan, "items": np.nan}
    )


def leading(of: Vectors, scored: list[int], choice: Choice, domain: str, most: int = 12) -> pd.DataFrame:
    """The features that bring most to a domain's score: `feature, rank, here, elsewhere, share`."""
    means = of.means(choice.score, np.array(scored, dtype=np.int64), choice.power)
    here, others = means.loc[domain], means.drop(index=domain)
    places = np.empty(len(of.ranking), dtype=np.int64)
    places[of.ranking] = np.arange(1, len(of.ranking) + 1)
    total = float(here.sum())
    table = pd.DataFrame(
        {
            "feature": scored,
            "rank": places[scored],
            "here": here.to_numpy(),
            "elsewhere": others.mean().to_numpy() if len(others) else np.nan,
            "share": here.to_numpy() / total if total > 0 else np.nan,
        }
    )
    return table.sort_values(["here", "feature"], ascending=[False, True]).head(most).reset_index(drop=True)
