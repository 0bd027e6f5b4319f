"""What `sts demo rebuild` says: each number as it ships and as it came now, and whether they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.cli.telling import table
from sts_core.errors import UserError
from sts_core.figures.numbers import DASH, duration, fixed, with_error
from sts_core.jobs.folder import RESULT, Job, result_folder
from sts_core.results import reproduced
from sts_core.results.folder import Result
from sts_core.results.reproduced import Reproduced, Twice

_NAMES = {"sts_act": "STS act", "sts_icl": "STS icl"}
_ROUNDING = "Rounding alone moves features; see docs/RESULTS, the demo."


class Found(NamedTuple):
    """What a rebuild made."""

    draft: Path
    result: Result
    shipped: Result | None
    runs: Mapping[str, str]
    """Name -> its job."""
    against: Mapping[str, Job]
    """Name -> the run of the same training that ships."""
    seconds: Mapping[str, float]


def public(found: Found) -> dict[str, Any]:
    """All of it for JSON."""
    scores = None if found.shipped is None else reproduced.reproduced(found.shipped, found.result).public()
    return {
        "draft": str(found.draft), "result": scores, "runs": dict(found.runs), "seconds": dict(found.seconds),
        "changes": {name: [reproduced.public(one) for one in _changes(found, name)] for name in found.against},
    }  # fmt: skip


def told(found: Found) -> str:
    """The tables and what they come to."""
    parts = []
    if found.shipped is None:
        parts.append("No result ships, so there is nothing to hold this one against.")
    else:
        both = reproduced.reproduced(found.shipped, found.result)
        parts += [_scores(both), _summary(both), _settings(found.shipped, found.result)]
    for name, job in found.runs.items():
        parts.append(_run(found, name, job))
    parts.append(table([("step", "took"), *((step, duration(spent)) for step, spent in found.seconds.items())]))
    parts.append(f"The draft lies in {found.draft}.")
    return "\n\n".join(part for part in parts if part)


def agreement(found: Sequence[Twice]) -> str:
    """How many numbers agree, of those whose errors are known."""
    known = [one for one in found if one.within is not None]
    if not known:
        return "no errors are known, so nothing can be said of agreement"
    return f"{sum(bool(one.within) for one in known)} of {len(known)} within 2 combined standard errors"


def _scores(both: Reproduced) -> str:
    rows: dict[str, dict[str, Twice]] = {one.domain: {} for one in both.scores}
    for one in both.scores:
        rows[one.domain][one.metric] = one
    head = [cell for name in _NAMES.values() for cell in (f"{name}, shipped", "anew", "apart")]
    lines = [(domain, *(cell for metric in _NAMES for cell in _cells(own.get(metric)))) for domain, own in rows.items()]
    return table([("domain", *head), *lines])


def _cells(one: Twice | None) -> tuple[str, str, str]:
    if one is None:
        return (DASH, DASH, DASH)
    apart = DASH if one.within is None else f"{fixed(one.difference, 1)} s.e. {'✓' if one.within else '✗'}"
    return (with_error(one.shipped, one.shipped_se), with_error(one.anew, one.anew_se), apart)


def _summary(both: Reproduced) -> str:
    lines = [
        f"{name}: {agreement([one for one in both.scores if one.metric == metric])}; "
        f"Spearman of the two {fixed(both.spearman[metric], 3)}."
        for metric, name in _NAMES.items()
    ]
    return "\n".join([*lines, f"{both.shared} of the {both.leading} most shifted features lead both times."])


def _settings(shipped: Result, anew: Result) -> str:
    """What is not the same on both sides."""
    words = {"device": "device", "dtype": "number format"}
    differ = [
        f"{word}: {shipped.manifest.get(name)} as shipped, {anew.manifest.get(name)} now"
        for name, word in words.items()
        if shipped.manifest.get(name) != anew.manifest.get(name)
    ]
    return f"Not the same: {'; '.join(differ)}. {_ROUNDING}" if differ else ""


def _run(found: Found, name: str, job: str) -> str:
    if name not in found.against:
        return f"{name} (job {job}): no run of this training ships, so there is nothing to hold it against."
    changes = _changes(found, name)
    lines = [(one.domain, *_cells(one)) for one in changes]
    rows = table([("set", "change, shipped", "anew", "apart"), *lines])
    ship = found.against[name].id
    return f"{name} (job {job}) against the shipped {ship}, rise of nll:\n{rows}\n{agreement(changes)}."


def _changes(found: Found, name: str) -> list[Twice]:
    try:
        return reproduced.changed(found.against[name].folder / RESULT, result_folder(found.runs[name]))
    except UserError:  # one of them was not evaluated
        return []
