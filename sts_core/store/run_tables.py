"""What a fine-tuning run told, as tables to take elsewhere: read from its folder alone, so that any cache will do.

curves        step, then a column for each number of its steps (loss, learning_rate, …)
trajectory    step, then a column for each number of its checkpoints (overlap_100, null_100, …)
evaluations   phase, domain, metric, source, value, se, n: the newest of each
prediction    key, written, measure, domain, metric, value, se: as it was written down before the first step
dims          rank, feature: those that the prediction averages over
rows          phase, set, row, metric, value: every question's own
shift         feature, shift_sft, …: what the run really moved
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from sts_core.errors import UserError
from sts_core.jobs.events import EVENTS
from sts_core.jobs.folder import RESULT
from sts_core.results.outcomes.rows import FILE
from sts_core.results.tables import read
from sts_core.store.rows import Event, understood

SHIFT = "shift.parquet"
_STEP, _TRAJECTORY = "step", "trajectory"


def run_tables(folder: Path) -> dict[str, pa.Table]:
    """The tables of a job's folder, those that hold anything."""
    events = _events(folder)
    if not events:
        raise UserError(f"The run in {folder} told nothing", "Choose a run that began: `sts jobs` lists them.")
    found = {
        "curves": _steps(event for event in events if event.kind == _STEP),
        "trajectory": _steps(event for event in events if event.kind == _TRAJECTORY),
        "evaluations": _evaluations(events),
        "prediction": _prediction(events),
        "dims": _dims(events),
    }
    found = {name: table for name, table in found.items() if table.num_rows}
    for name, place in (("rows", folder / RESULT / FILE), ("shift", folder / RESULT / SHIFT)):
        if place.is_file():
            found[name] = read(place)
    return found


def predicted_key(folder: Path) -> str:
    """The key of the result that the run was held against; empty where it was held against none."""
    found = (event.prediction for event in _events(folder) if event.prediction is not None)
    first = next(found, None)
    return "" if first is None else first.key


def _events(folder: Path) -> list[Event]:
    try:
        whole, _, _ = (folder / EVENTS).read_bytes().rpartition(b"\n")
    except OSError:
        return []
    found = {event.seq: event for line in whole.split(b"\n") if (event := understood(line)) is not None}
    return [found[seq] for seq in sorted(found)]


def _steps(events: Iterable[Event]) -> pa.Table:
    """A row a step, of one told twice the later; columns in the order they were first told."""
    rows: dict[int, dict[str, float]] = {}
    names: dict[str, None] = {}
    for event in events:
        for metric in event.metrics:
            names.setdefault(metric.name)
            rows.setdefault(metric.step, {})[metric.name] = metric.value
    steps = sorted(rows)
    columns = {name: pa.array([rows[step].get(name) for step in steps], pa.float64()) for name in names}
    return pa.table({_STEP: pa.array(steps, pa.int64()), **columns})


def _evaluations(events: Iterable[Event]) -> pa.Table:
    newest: dict[tuple[str, str, str, str], Any] = {}
    for event in events:
        if (one := event.evaluation) is not None:
            newest.pop((one.phase, one.domain, one.metric, one.source), None)
            newest[one.phase, one.domain, one.metric, one.source] = one
    found = list(newest.values())
    kinds = {"value": pa.float64(), "se": pa.float64(), "n": pa.int64()}
    names = ("phase", "domain", "metric", "source", "value", "se", "n")
    return pa.table(
        {name: pa.array([getattr(one, name) for one in found], kinds.get(name, pa.string())) for name in names}
    )


def _prediction(events: Iterable[Event]) -> pa.Table:
    """The first that was told: a prediction cannot be changed after launch."""
    first = next((event for event in events if event.prediction is not None), None)
    rows: list[tuple[Any, ...]] = []
    if first is not None and first.prediction is not None:
        told = json.loads(first.prediction.scores)
        for score in told if isinstance(told, list) else []:
            if isinstance(score, dict):
                written = first.time.isoformat(timespec="seconds") if first.time else None
                head = (first.prediction.key, written, first.prediction.measure)
                words = tuple(str(score.get(name, "")) for name in ("domain", "metric"))
                rows.append((*head, *words, *(_number(score.get(name)) for name in ("value", "se"))))
    names = ("key", "written", "measure", "domain", "metric", "value", "se")
    kinds = [pa.string()] * 5 + [pa.float64()] * 2
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table({name: pa.array(c, k) for name, c, k in zip(names, columns, kinds, strict=True)})


def _dims(events: Iterable[Event]) -> pa.Table:
    first = next((event.prediction for event in events if event.prediction is not None), None)
    told = json.loads(first.dims) if first is not None else []
    features = [one for one in told if type(one) is int] if isinstance(told, list) else []
    columns = {"rank": list(range(1, len(features) + 1)), "feature": features}
    return pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
