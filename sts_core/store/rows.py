"""What a line of events.jsonl means in the tables: a pure function of its bytes.

    any event               a row of events: job, seq, time, kind (its `event`) and what else it says as JSON
    … with a whole `step`   a row of metrics for each other number in it, NaN and infinity too. A table within is
                            told by its path: {"step": 20, "overlap": {"100": 0.4}} gives `overlap/100`
    `evaluation`            a row of evaluations: phase (before, after, change), domain, metric, value, se, n, source
    `prediction`            a row of predictions: key, dims, scores, measure

An event that lacks what its kind needs is kept as an event and gives no further row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeGuard

_LARGEST = 2**63 - 1
_DEEPEST = 3
PHASES = ("before", "after", "change")


class Metric(NamedTuple):
    """A number of an event."""

    step: int
    name: str
    value: float


class Evaluation(NamedTuple):
    """The score of one domain before or after, or the change between the two, question by question."""

    phase: str
    domain: str
    metric: str
    value: float | None
    se: float | None
    n: int | None
    source: str


class Prediction(NamedTuple):
    """What was foretold, under the key of the result it was told from."""

    key: str
    dims: str
    scores: str
    measure: str


class Event(NamedTuple):
    """One line, understood."""

    seq: int
    time: datetime | None
    """UTC, without a zone, as the tables keep it."""
    kind: str
    payload: str
    """JSON, strictly: NaN and infinity are the strings "NaN", "Infinity" and "-Infinity"."""
    metrics: tuple[Metric, ...] = ()
    evaluation: Evaluation | None = None
    prediction: Prediction | None = None


def understood(line: bytes) -> Event | None:
    """The event of a line; None when it is not JSON, or has no number an event can have."""
    try:
        return _event(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _event(said: object) -> Event | None:
    if not isinstance(said, dict) or not _whole(said.get("seq")) or said["seq"] < 1:
        return None
    seq, time, kind = said.pop("seq"), _moment(said.pop("time", None)), _text(said.pop("event", ""))
    event = Event(seq, time, kind, strict(said))
    if kind == "evaluation":
        return event._replace(evaluation=_evaluation(said))
    if kind == "prediction":
        return event._replace(prediction=_prediction(said))
    step = said.pop("step", None)
    return event._replace(metrics=tuple(_numbers(step, said))) if _whole(step) else event


def strict(value: Any) -> str:
    """A value as JSON that any reader accepts."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    return _encodable(text)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list) else value


def _evaluation(said: dict[str, Any]) -> Evaluation | None:
    names = [said.get(name) for name in ("phase", "domain", "metric")]
    if names[0] not in PHASES or not all(isinstance(name, str) and name for name in names):
        return None
    n = said.get("n")
    phase, domain, metric = (_text(name) for name in names)
    value, se = _number(said.get("value")), _number(said.get("se"))
    return Evaluation(phase, domain, metric, value, se, n if _whole(n) else None, _text(said.get("source", "")))


def _prediction(said: dict[str, Any]) -> Prediction | None:
    key = said.get("key")
    if not isinstance(key, str) or not key:
        return None
    return Prediction(
        _text(key), strict(said.get("dims")), strict(said.get("scores")), _text(said.get("measure") or "")
    )


def _numbers(step: int, said: dict[str, Any], path: str = "", depth: int = 1) -> Iterator[Metric]:
    for name, part in said.items():
        if isinstance(part, dict) and depth < _DEEPEST:
            yield from _numbers(step, part, f"{path}{name}/", depth + 1)
        elif (number := _number(part)) is not None:
            yield Metric(step, _text(path + name), number)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _whole(value: object) -> TypeGuard[int]:
    return type(value) is int and -_LARGEST <= value <= _LARGEST


def _text(value: object) -> str:
    return _encodable(value if isinstance(value, str) else str(value))


def _encodable(text: str) -> str:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        if moment is None:
            return None
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None
