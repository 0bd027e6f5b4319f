"""The sentences of a mixture: what falls on whom, what a made one is called, what mixing in has changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sts_core.figures.numbers import count, known, signed, with_error
from sts_core.figures.words import METRICS, listed, target_name
from sts_core.results.mixture_effect import Mean, Mixed

SHARED = {"sts": "by STS", "uniform": "evenly", "inverse": "by inverse STS"}
"""An allocation -> how it shares out."""
BY_HAND = "by hand"
PANEL_AXES = {"nll": "rise of the answer's NLL, nats", "accuracy": "change of accuracy"}
"""The quantity along a narrow panel."""
NAMED = 3
"""So many domains are named in a sentence."""


def quota_headline(quotas: Mapping[str, int]) -> str:
    """`220 rows: 64 from physics, 40 from law, 36 from math and 80 from 11 others.`

    Of equal ones those that stand first are named.
    """
    total = sum(quotas.values())
    leading = sorted((name for name in quotas if quotas[name]), key=lambda name: -quotas[name])
    if not leading:
        return "No row of another domain: the training set alone."
    named = leading if len(leading) == NAMED + 1 else leading[:NAMED]
    parts = [f"{count(quotas[name])} from {name}" for name in named]
    rest = leading[len(named) :]
    if rest:
        parts.append(f"{count(sum(quotas[name] for name in rest))} from {len(rest)} others")
    return f"{_rows(total)}: {listed(parts)}."


def steering_words(
    how: str, metric: str, n: int, tau: float, scores: Mapping[str, tuple[float, float | None]]
) -> str:  # fmt: skip
    """What the shares rest on, and how much of it the scores' errors leave."""
    if how == "uniform":
        return "Every domain gets the same: the scores are not looked at."
    power = "" if tau == 1 else f" to the power of {tau:g}"
    other = "the inverse of " if how == "inverse" else ""
    told = f"Shares go with {other}{METRICS[metric]}{power} over the {count(n)} features that shift most"
    values = [value for value, _ in scores.values()]
    if len(values) < 2 or not all(known(se) for _, se in scores.values()):
        return f"{told}."
    mean = sum(values) / len(values)
    apart = sum(abs(value - mean) > 2 * (se or 0.0) for value, se in scores.values())
    of = f"{count(apart) if apart else 'none'} of {count(len(values))} scores"
    verb = "lies" if apart < 2 else "lie"
    hint = ", so this is an even share but for noise" if not apart else ""
    return f"{told}; {of} {verb} more than two standard errors from their mean{hint}."


def held_words(quotas: Mapping[str, int], available: Mapping[str, int], floor: int, cap: int | None) -> str:
    """Who is held at a floor, a cap or all its rows; nothing where nobody is."""
    all_in = [name for name in quotas if quotas[name] == available[name] and available[name]]
    capped = [name for name in quotas if cap is not None and quotas[name] == cap and name not in all_in]
    low = [name for name in quotas if floor and quotas[name] == floor]
    parts = [f"{_some(all_in)} {'gives' if len(all_in) == 1 else 'give'} every row that may train"] if all_in else []
    parts += [f"{_some(capped)} {'stands' if len(capped) == 1 else 'stand'} at the cap"] if capped else []
    parts += [f"{_some(low)} {'stands' if len(low) == 1 else 'stand'} at the floor"] if low else []
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def mixture_name(manifest: Mapping[str, Any]) -> str:
    """What a made mixture is called: `math + 220 rows by STS`."""
    return _named(manifest, "")


def mixture_told(manifest: Mapping[str, Any]) -> str:
    """The same with whose rows they are, which tells two apart: `math + 220 rows of 14 domains by STS`."""
    names = sorted(name for name, rows in manifest["rows"].items() if name != "target" and rows)
    whose = listed(names) if 0 < len(names) <= NAMED else f"{count(len(names))} domains"
    return _named(manifest, f"of {whose} ")


def _named(manifest: Mapping[str, Any], whose: str) -> str:
    counts = manifest.get("counts")
    counts = counts if isinstance(counts, dict) else {name: len(rows) for name, rows in manifest["rows"].items()}
    mixed = sum(rows for name, rows in counts.items() if name != "target")
    how = how_shared(manifest)
    others = f"{_rows(mixed)} {whose}{how}"
    own = target_name(str(manifest["sources"]["target"]["data"]))
    return f"{own} + {others}" if counts.get("target") else others


def how_shared(manifest: Mapping[str, Any]) -> str:
    """`by STS`, `evenly`, …; quotas of one's own are by hand."""
    how = manifest["spec"].get("allocation", "sts")
    return SHARED.get(how, BY_HAND) if isinstance(how, str) else BY_HAND


def effect_headline(mixed: Mixed, metric: str) -> str:
    """What mixing in did to the domains mixed in, on average, and whether that is more than its error."""
    over = mixed.over_mixed
    if over is None:
        return f"{mixed.with_it} and {mixed.without} share no evaluated domain that was mixed in."
    what = f"{_change(over, metric)} on average over the {_domains(over.domains, 'mixed-in ')}"
    return f"{mixed.with_it} against {mixed.without}: {what}, {_verdict(over, metric)}."


def effect_rest(mixed: Mixed, metric: str) -> list[str]:
    """The same over the domains that were left out, and on the training set itself."""
    told = []
    if mixed.over_others is not None:
        over = mixed.over_others
        told.append(f"Over the {_domains(over.domains, 'other ')}: {_change(over, metric)}, {_verdict(over, metric)}.")
    if mixed.target is not None:
        own = Mean(mixed.target.difference, mixed.target.se, 1)
        told.append(f"On the training set's own held-out rows: {_change(own, metric)}, {_verdict(own, metric)}.")
    return told


def pairing_words(mixed: Mixed) -> str:
    """How the errors came about."""
    everything = [*mixed.domains, *([mixed.target] if mixed.target else [])]
    paired = sum(one.paired for one in everything)
    if paired == len(everything):
        return "Question by question: each question is its own control."
    if not paired:
        return (
            "The questions could not be held against each other one by one, so the errors are those of two independent "
            "runs: too large rather than too small."
        )
    return (
        f"Question by question in {paired} of {len(everything)} sets; in the others the errors are those of two "
        "independent runs, too large rather than too small (their scores before the training differ)."
    )


def _change(over: Mean, metric: str) -> str:
    unit, scale = (" percentage points of accuracy", 100.0) if metric == "accuracy" else (" nats a token", 1.0)
    value, se = scale * over.value, None if over.se is None else scale * over.se
    return f"{'+' if value > 0 else ''}{with_error(value, se) if known(se) else signed(value)}{unit}"


def _verdict(over: Mean, metric: str) -> str:
    if over.se is None or not math.isfinite(over.se):
        return "with an error that is not known"
    if abs(over.value) <= 2 * over.se:
        return "within two standard errors of no change"
    good = (over.value > 0) == (metric == "accuracy")
    return "better by more than two standard errors" if good else "worse by more than two standard errors"


def _domains(n: int, what: str) -> str:
    return f"one {what}domain" if n == 1 else f"{count(n)} {what}domains"


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{count(n)} rows"


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return listed([*names[:NAMED], f"{more} more"] if more > 0 else list(names))
