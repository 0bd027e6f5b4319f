"""The report's tables: each number beside its error, what was not measured an em dash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sts_core.figures.correlation_words import (
    baseline_cost,
    baseline_kind,
    comparison_title,
    cost_words,
    harm_words,
    interval_words,
)
from sts_core.figures.feature_words import JUDGES
from sts_core.figures.numbers import DASH, column_decimals, count, fixed, number, p_value, percent, signed, with_error
from sts_core.figures.report.gathering import Feature, Gathered
from sts_core.figures.report.ink import shown
from sts_core.figures.run_words import NULL_NAMES
from sts_core.stats.correlation import Correlation

Row = Sequence[str]


def table(caption: str, head: Row, rows: Sequence[Row], words: Sequence[int] = (), first: int = -1) -> str:
    """Rows under a head; the columns in `words` hold words and stand left, as the first does, all others right."""
    left = {0, *words}
    kinds = ["" if place in left else ' class="n"' for place in range(len(head))]
    heads = "".join(f'<th scope="col"{kind}>{shown(text)}</th>' for kind, text in zip(kinds, head, strict=True))
    body = []
    for number_, row in enumerate(rows):
        cells = [f"<td{kind}>{shown(text)}</td>" for kind, text in zip(kinds[1:], row[1:], strict=True)]
        mark = ' class="first"' if number_ == first else ""
        body.append(f'<tr{mark}><th scope="row">{shown(row[0])}</th>{"".join(cells)}</tr>')
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{shown(caption)}">'
    inside = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<p class="cap">{shown(caption)}</p>{region}<table>{inside}</table></div>'


def scores(found: Gathered, act: pd.DataFrame, icl: pd.DataFrame) -> str:
    """Every domain with both scores, the highest STS act first."""
    both = act.merge(icl, on="domain", suffixes=("", "_icl")).sort_values(
        ["value", "domain"], ascending=[False, True], na_position="last"
    )
    places = [column_decimals(frame["value"], frame["se"]) for frame in (act, icl)]
    rows = [
        (
            str(row["domain"]), with_error(row["value"], row["se"], places[0]),
            with_error(row["value_icl"], row["se_icl"], places[1]), count(row["items"]), count(row["tokens"]),
        )
        for row in both.to_dict("records")
    ]  # fmt: skip
    head = ("Domain", "STS act ± s.e.", "STS icl ± s.e.", "Questions", "Tokens")
    return table(f"Scores over the {count(found.n)} most shifted features.", head, rows)


def outcomes(found: Gathered) -> str:
    """What became of each domain, the most harmed first."""
    if found.agreement is None or found.actual is None:
        return ""
    points = sorted(found.agreement.points, key=lambda point: (-point.outcome.harm, point.domain))
    places = column_decimals([p.outcome.harm for p in points], [p.outcome.harm_se for p in points])
    rows = [
        (
            p.domain, number(p.score.get("sts_act")), number(p.score.get("sts_icl")), number(p.outcome.before),
            number(p.outcome.after), with_error(p.outcome.harm, p.outcome.harm_se, places), count(p.outcome.n),
        )
        for p in points
    ]  # fmt: skip
    harm = harm_words(found.actual)
    head = ("Domain", "STS act", "STS icl", "Before", "After", f"{harm[:1].upper()}{harm[1:]} ± s.e.", "Questions")
    return table(f"What became of each domain ({found.actual.metric}); above 0 it got worse.", head, rows)


def comparisons(found: Gathered) -> str:
    """Every comparison, the primary one marked."""
    if found.agreement is None:
        return ""
    every = found.agreement.comparisons
    rows = [(comparison_title(one), *_numbers(one.correlation)) for one in every]
    primary = next((i for i, one in enumerate(every) if one.primary), -1)
    marked = "The first, shaded, was fixed beforehand; all others are exploratory." if primary == 0 else "Exploratory."
    return table(f"Every comparison. {marked}", ("Score against outcome", *_HEAD), rows, words=(8,), first=primary)


def baselines(found: Gathered) -> str:
    """What simpler numbers reach on the same domains."""
    if found.agreement is None or not found.agreement.baselines:
        return ""
    rows = [
        (f"{one.name}{'' if one.foretells else f' ({baseline_kind(one)})'}", *_numbers(c),
         baseline_cost(one, found.agreement.cost).replace(" ", "\u00a0"))
        for one, c in found.agreement.baselines
    ]  # fmt: skip
    missing = ", ".join(found.agreement.missing)
    caption = (
        "Baselines against harm over all domains, and what each cost to know; STS and all that is read from its result "
        f"took {cost_words(*found.agreement.cost)}." + (f" Not measured here: {missing}." if missing else "")
    )
    return table(caption, ("Baseline", *_HEAD, "Took"), rows, words=(8, 10))


def overlaps(found: Gathered) -> str:
    """Overlap@k beside each null."""
    if found.overlap is None:
        return ""
    rows = []
    for row in found.overlap.rows:
        nulls = [_null(row.nulls.get(name)) for name in NULL_NAMES]
        interval = DASH if row.interval is None else f"{fixed(row.interval[0], 2)} to {fixed(row.interval[1], 2)}"
        rows.append((count(row.k), fixed(row.value, 2), interval, *nulls, "yes" if row.claimed else "no"))
    head = ("k", "Overlap@k", "95 %", *(name.capitalize() for name in NULL_NAMES.values()), "Claimed")
    return table("Overlap with its nulls; of a null that scatters, the upper end of its 95 %.", head, rows)


def leading(found: Gathered) -> str:
    """The features that shift most, with their labels where they have any."""
    if not found.leading:
        return ""
    labelled = any(one.label for one in found.leading)
    named = ["Label", "Detection"] if labelled else []
    head = ["Rank", "Feature", *named, "Shift", "Signed", "Fires, without", "with",
            "Most active in"]  # fmt: skip
    rows = [
        (
            count(one.rank), str(one.feature), *(_label(one) if labelled else ()), number(one.shift),
            signed(one.signed), percent(one.rate_base), percent(one.rate_icl), one.domain or DASH,
        )
        for one in found.leading
    ]  # fmt: skip
    caption = (
        f"The {count(len(rows))} most shifted of {count(found.features)} features. Signed: above 0, demonstrations "
        "raise it. Fires: share of tokens, without and with demonstrations."
    )
    if labelled:
        caption += (
            " Detection: how well a label tells texts that the feature fires on from others; half is chance. Labels by "
            f"{_judges(found.leading)}."
        )
    return table(caption, head, rows, words=(2, 8) if labelled else (6,))


_HEAD = ("r", "R²", "p", "95 % of r", "ρ", "p of ρ", "Leave one out", "Most influential", "r without")


def _numbers(c: Correlation) -> tuple[str, ...]:
    p, p_rank = (p_value(value).removeprefix("p = ").removeprefix("p ") for value in (c.p_perm, c.p_spearman))
    return (
        fixed(c.r, 2), fixed(c.r2, 2), p, interval_words(c.ci), fixed(c.spearman, 2), p_rank,
        interval_words(c.loo_range), c.most_influential or DASH, fixed(c.r_without_it, 2),
    )  # fmt: skip


def _null(null: Any) -> str:
    return DASH if null is None else fixed(null.upper, 2)


def _label(one: Feature) -> tuple[str, str]:
    """What it is called, and how well that holds."""
    return one.label or DASH, fixed(one.detection, 2)


def _judges(features: Sequence[Feature]) -> str:
    """Who gave the labels, and how many each."""
    who = [JUDGES.get(one.judge, one.judge) if not one.human else "a person" for one in features if one.label]
    counts = {name: who.count(name) for name in dict.fromkeys(who)}
    return ", ".join(f"{name or 'a judge that is not named'} ({count(many)})" for name, many in counts.items())
