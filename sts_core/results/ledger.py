"""How good predictions have been here: each one as it was written down before a run, scored by what the run did.

A prediction names domains and their scores, and the measure it is to be judged by; an evaluation brings the outcomes.
Holding them together is a pure function of the two: no result of today is looked at and nothing is stored, so that a
score can be neither chosen nor mended afterwards. What cannot be scored says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

from sts_core.errors import UserError
from sts_core.results.actual import MIXED, PRIMARY_METRIC, same_name
from sts_core.results.folder import TARGET
from sts_core.results.outcomes.outcome import Outcome
from sts_core.results.tables import csv_bytes
from sts_core.stats.bootstrap import RESAMPLES
from sts_core.stats.correlation import Correlation, correlate

WAITS_RUN, WAITS_EVALUATION = "waits for its run", "waits for its evaluation"
SCORED, CANNOT = "scored", "cannot be scored"
STATES = (WAITS_RUN, WAITS_EVALUATION, SCORED, CANNOT)
ACCURACY = "accuracy"
POWER = 1
"""What is written down at launch are means of activations, not of their squares."""
LATE = "It was written down after the training had begun, so it foretold nothing."
_SCORES = ("sts_act", "sts_icl")
_PLAINLY = (
    ("points:", "domains with both numbers:"), ("point:", "domain with both numbers:"),
)  # fmt: skip
"""A correlation's own words -> what they are here."""
_AGAIN = "A prediction cannot be changed after launch; start a new run."


class Foretold(NamedTuple):
    """A prediction as it was written down."""

    run: str
    title: str
    written: datetime | None
    """UTC, without a zone."""
    key: str
    """Of the result that it was told from."""
    measure: str
    """What it is to be judged by, in its own words."""
    dims: Any
    """The features averaged over, the most shifted first."""
    scores: Any
    model: str
    data: str
    """What was trained on, as the run's spec names it."""
    training_set: str
    """What tells one training set from another: its hash where it is known."""


class Evaluated(NamedTuple):
    """What happened to the domains in the end."""

    by: str
    """The job that measured it: the run itself, or a later evaluation of its model."""
    when: datetime | None
    outcomes: Mapping[str, Sequence[Outcome]]
    """Metric -> domains, without the target set."""
    reliability: Mapping[str, tuple[float | None, str]]
    """Metric -> how well its outcomes are known, and what told that; of those a prediction is judged by."""


class Judged(NamedTuple):
    """By what a prediction is judged."""

    score: str
    metric: str


class Point(NamedTuple):
    """A domain on both sides."""

    domain: str
    score: float
    score_se: float | None
    harm: float
    harm_se: float | None


class Held(NamedTuple):
    """Written scores beside signed harm."""

    metric: str
    points: tuple[Point, ...]
    correlation: Correlation
    only_foretold: tuple[str, ...]
    only_changed: tuple[str, ...]


class Entry(NamedTuple):
    """One line of the ledger."""

    foretold: Foretold
    judged: Judged | None
    state: str
    why: str = ""
    """What it waits for, or why it cannot be scored."""
    primary: Held | None = None
    """Against the outcome that was fixed beforehand."""
    accuracy: Held | None = None
    """Against the fall of accuracy, for comparison."""
    evaluated: Evaluated | None = None
    notes: tuple[str, ...] = ()

    @property
    def mixed(self) -> bool:
        """Whether its run trained on more than what the scores foretell."""
        return MIXED in self.notes

    @property
    def found(self) -> Correlation | None:
        """The primary comparison, where there is one."""
        return self.primary.correlation if self.state == SCORED and self.primary else None

    @property
    def n_features(self) -> int | None:
        """How many features the written scores average over."""
        dims = self.foretold.dims
        return len(dims) if isinstance(dims, list) and dims else None

    @property
    def reliability(self) -> tuple[float | None, str]:
        """How well the primary outcome is known, and what told that."""
        metric = self.judged.metric if self.judged else PRIMARY_METRIC
        return self.evaluated.reliability.get(metric, (None, "")) if self.evaluated else (None, "")

    def public(self) -> dict[str, Any]:
        """All of it for JSON: the row, the features and scores as they were written, every domain on both sides."""
        points = self.primary.points if self.primary else ()
        return {
            **self.row(), "dims": self.foretold.dims, "scores": self.foretold.scores,
            "domains": [point._asdict() for point in points],
            "only_foretold": self.primary.only_foretold if self.primary else (),
            "only_changed": self.primary.only_changed if self.primary else (),
        }  # fmt: skip

    def row(self) -> dict[str, Any]:
        """The same in one row of plain values, for a table, a CSV or JSON; None stands where nothing was found."""
        one, judged, hits = self.foretold, self.judged, self.found.hits if self.found else None
        reliability, source = self.reliability
        return {
            "run": one.run, "title": one.title, "written": _time(one.written), "result": one.key, "model": one.model,
            "trained_on": one.data, "measure": one.measure, "score": judged.score if judged else None,
            "outcome": judged.metric if judged else None, "features": self.n_features, "power": POWER,
            "state": self.state, "why": self.why or None,
            **_numbers(self.found), "hits": hits.shared if hits else None, "hit_rate": hits.share if hits else None,
            "hit_rate_by_chance": hits.chance if hits else None,
            **{f"accuracy_{name}": value for name, value in _beside(self.accuracy).items()},
            "reliability": reliability, "reliability_from": source or None,
            "evaluated_by": self.evaluated.by if self.evaluated else None,
            "evaluated": _time(self.evaluated.when) if self.evaluated else None, "notes": " ".join(self.notes) or None,
        }  # fmt: skip


def judged_by(measure: str) -> Judged:
    """The written measure's score and outcome; UserError where it names none that is known here."""
    text = " ".join(measure.replace("_", " ").split()).casefold()
    named = [score for score in _SCORES if score.replace("_", " ") in text]
    if not text:
        raise UserError("It does not say by what it is to be judged", _AGAIN)
    if len(named) != 1:
        raise UserError(f"Its measure {measure[:80]!r} is none that is known here", _AGAIN)
    return Judged(named[0], ACCURACY if ACCURACY in text else PRIMARY_METRIC)


def written_scores(scores: Any, score: str) -> dict[str, tuple[float, float | None]]:
    """Domain -> value and standard error, of one score; UserError where they cannot be read."""
    found: dict[str, tuple[float, float | None]] = {}
    for row in scores if isinstance(scores, list) else [None]:
        if not isinstance(row, Mapping) or not isinstance(row.get("domain"), str) or "value" not in row:
            raise UserError("Its scores are not written in a form that can be read", _AGAIN)
        if row.get("metric", score) != score:
            continue
        if row["domain"] in found:
            raise UserError(f"Its scores name {row['domain']} twice", _AGAIN)
        se = _number(row.get("se"))
        found[row["domain"]] = (_number(row["value"]), se if math.isfinite(se) and se >= 0 else None)
    if not found:
        raise UserError(f"It holds no {score.replace('sts_', 'STS ')} of any domain", _AGAIN)
    return found


def score(foretold: Foretold, evaluated: Evaluated, notes: Sequence[str] = ()) -> Entry:
    """Hold a prediction against what happened; the line it makes, scored or not."""
    try:
        judged = judged_by(foretold.measure)
        written = written_scores(foretold.scores, judged.score)
        primary = _hold(written, judged.metric, evaluated)
        accuracy = None if judged.metric == ACCURACY else _hold(written, ACCURACY, evaluated, whole=False)
    except UserError as error:
        return Entry(foretold, _judged(foretold), CANNOT, f"{error.message}.", None, None, evaluated, tuple(notes))
    why = _why_not(primary, judged.metric)
    state = CANNOT if why else SCORED
    return Entry(foretold, judged, state, why, primary, accuracy, evaluated, tuple(notes))


def unscored(foretold: Foretold, state: str, why: str, notes: Sequence[str] = ()) -> Entry:
    """A line that has no score, yet or for good."""
    return Entry(foretold, _judged(foretold), state, why, notes=tuple(notes))


def to_csv(entries: Sequence[Entry]) -> str:
    """All lines as a CSV, the columns those of a row; no text of it is run by a spreadsheet."""
    rows = [entry.row() for entry in entries]
    return csv_bytes(pa.table({name: [row[name] for row in rows] for name in COLUMNS})).decode("utf-8")


def _judged(foretold: Foretold) -> Judged | None:
    try:
        return judged_by(foretold.measure)
    except UserError:
        return None


def _hold(
    written: Mapping[str, tuple[float, float | None]], metric: str, evaluated: Evaluated, whole: bool = True
) -> Held | None:
    """Both sides by what their domains' names have in common; None where this metric was not measured."""
    outcomes = _by_name({one.domain: one for one in evaluated.outcomes.get(metric, ())}, "evaluation")
    scored = _by_name(written, "prediction")
    scored.pop(TARGET, None)
    if not outcomes:
        return None
    both = [key for key in scored if key in outcomes]
    points = tuple(
        Point(name, value, se, outcome.harm, outcome.harm_se)
        for (name, (value, se)), (_, outcome) in ((scored[key], outcomes[key]) for key in both)
    )
    reliability = evaluated.reliability.get(metric, (None, ""))[0]
    return Held(
        metric, points, _correlated(points, reliability, whole),
        tuple(name for key, (name, _) in scored.items() if key not in outcomes),
        tuple(name for key, (name, _) in outcomes.items() if key not in scored),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _correlated(points: tuple[Point, ...], reliability: float | None, whole: bool) -> Correlation:
    """All of METHOD 6, without `whole` no intervals; what was held together once is not computed again."""
    found = correlate(
        [point.domain for point in points], [point.score for point in points], [point.harm for point in points],
        x_se=[point.score_se for point in points], y_se=[point.harm_se for point in points], reliability=reliability,
        resamples=RESAMPLES if whole else 1,
    )  # fmt: skip
    return found if whole else found._replace(ci=None, ci_spearman=None)


def _by_name(values: Mapping[str, Any], which: str) -> dict[str, tuple[str, Any]]:
    """What all spellings of a name have in common -> the name and its value."""
    found: dict[str, tuple[str, Any]] = {}
    for name, value in values.items():
        key = same_name(name)
        if key in found:
            raise UserError(f"The {which} names one domain twice: {found[key][0]!r} and {name!r}", _AGAIN)
        found[key] = (name, value)
    return found


def _why_not(primary: Held | None, metric: str) -> str:
    """Why there is no score; nothing where there is one."""
    if primary is None:
        missing = "answer log-likelihood" if metric == PRIMARY_METRIC else metric
        return f"Its evaluation measured no {missing}, by which it is to be judged."
    if not primary.points:
        return "No domain stands both in the prediction and in the evaluation."
    found = primary.correlation
    if math.isfinite(found.spearman):
        return ""
    told = " ".join(found.notes)
    for plainly in _PLAINLY:
        told = told.replace(*plainly)
    return told


def _number(value: Any) -> float:
    """NaN for what is no number; what was no finite number is kept as its name."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _numbers(found: Correlation | None) -> dict[str, Any]:
    names = ("n", "spearman", "p_spearman", "r", "p_r")
    ends = ("spearman_low", "spearman_high", "r_low", "r_high", "r_leave_one_out_min", "r_leave_one_out_max")
    if found is None:
        return dict.fromkeys((*names, "p_exact", *ends))
    values = (found.n, found.spearman, found.p_spearman, found.r, found.p_perm, found.p_exact)
    intervals = [found.ci_spearman, found.ci, found.loo_range]
    pairs = [end for interval in intervals for end in (interval or (None, None))]
    return {**dict(zip((*names, "p_exact"), values, strict=True)), **dict(zip(ends, pairs, strict=True))}


def _beside(held: Held | None) -> dict[str, Any]:
    found = held.correlation if held else None
    known = found is not None and math.isfinite(found.spearman)
    names = ("spearman", "p_spearman", "r")
    return {name: getattr(found, name) if known else None for name in names}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.isoformat(timespec='seconds')}Z"


_NOTHING = Foretold("", "", None, "", "", None, None, "", "", "")
COLUMNS = tuple(Entry(_NOTHING, None, CANNOT).row())
"""The columns of a row, in order."""
