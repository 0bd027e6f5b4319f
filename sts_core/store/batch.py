"""What was read from job folders, gathered to be kept in one transaction."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from sts_core.jobs.folder import Job
from sts_core.store.rows import Event, strict

_STAMP = re.compile(r"\d{8}-\d{6}-\d{6}")
_MOMENT = pa.timestamp("us")
_JOBS = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "kind", "title", "state", "stage", "unit")),
        *((name, pa.string()) for name in ("error", "hint", "result", "spec", "options", "note", "seen")),
        *((name, pa.float64()) for name in ("done", "total")),
        *((name, _MOMENT) for name in ("created", "started", "finished")),
    ]
)
_KEY = [("job", pa.string()), ("seq", pa.int64())]
_EVENTS = pa.schema([*_KEY, ("time", _MOMENT), ("kind", pa.string()), ("payload", pa.string())])
_METRICS = pa.schema([*_KEY, ("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())])
_EVALUATIONS = pa.schema(
    [
        *_KEY,
        *((name, pa.string()) for name in ("phase", "domain", "metric")),
        *((name, pa.float64()) for name in ("value", "se")),
        ("n", pa.int64()),
        ("source", pa.string()),
    ]
)
_PREDICTIONS = pa.schema(
    [*_KEY, ("written", _MOMENT), *((name, pa.string()) for name in ("key", "dims", "scores", "measure"))]
)
_PLACES = pa.schema(
    [
        ("job", pa.string()),
        ("inode", pa.int64()),
        ("bytes", pa.int64()),
        ("tail", pa.string()),
        ("lines", pa.int64()),
        ("skipped", pa.int64()),
        ("skipped_lines", pa.list_(pa.int64())),
    ]
)


class Place(NamedTuple):
    """How far the events of a job have been read."""

    job: str
    inode: int
    bytes: int = 0
    """Where the next line begins."""
    tail: str = ""
    """The hash of the last bytes before that: whether the file is still the one that was read."""
    lines: int = 0
    skipped: int = 0
    """Lines that are no events."""
    skipped_lines: Sequence[int] = ()
    """The numbers of the first of them, from 1."""


@dataclass
class Batch:
    """Rows for every table; `save` is the work of one transaction."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Active jobs whose folders are no more."""
    deleted: list[str] = field(default_factory=list)
    """Jobs that a person deleted: all their rows go."""
    events: dict[tuple[str, int], Event] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    bytes: int = 0

    def add_job(self, job: Job, note: str, seen: str) -> None:
        """A job's row, read from files with this stamp."""
        texts = {name: _utf8(getattr(job, name)) for name in ("kind", "title", "stage", "unit", "error", "hint")}
        row = {name: getattr(job, name) for name in ("id", "state", "done", "total", "result")}
        times = {"created": _created(job.id), "started": _naive(job.started), "finished": _naive(job.ended)}
        whole = {"spec": strict(job.spec), "options": strict(job.options), "note": note, "seen": seen}
        self.jobs.append(row | texts | times | whole)

    def add_events(self, events: Iterable[Event], place: Place) -> None:
        """Events up to this place of their file; of two with one number the first is kept."""
        for event in events:
            self.events.setdefault((place.job, event.seq), event)
        self.bytes += place.bytes - (self.places[place.job].bytes if place.job in self.places else 0)
        self.places[place.job] = place

    def save(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Keep it; how many of the events are new."""
        if self.jobs:
            _insert(connection, "jobs", pa.Table.from_pylist(self.jobs, _JOBS), _replacing(_JOBS, "id"))
        if self.gone:
            changes = "state = 'dead', error = 'Its folder is gone', hint = ''"
            connection.execute(f"update jobs set {changes} where id in (select unnest(?))", [self.gone])
        new = self._save_events(connection) if self.events else 0
        if self.places:
            places = pa.Table.from_pylist([place._asdict() for place in self.places.values()], _PLACES)
            _insert(connection, "ingested", places, _replacing(_PLACES, "job"))
        if self.deleted:
            remove(connection, self.deleted)
        return new

    def _save_events(self, connection: duckdb.DuckDBPyConnection) -> int:
        heads = [(job, seq, e.time, e.kind, e.payload) for (job, seq), e in self.events.items()]
        fresh = _insert(connection, "events", _table(heads, _EVENTS), "do nothing returning job, seq")
        metrics = [(*key, *metric) for key, e in self.events.items() for metric in e.metrics]
        evaluations = [(*key, *e.evaluation) for key, e in self.events.items() if e.evaluation]
        predictions = [(*key, e.time, *e.prediction) for key, e in self.events.items() if e.prediction]
        for name, rows, schema in (
            ("metrics", metrics, _METRICS),
            ("evaluations", evaluations, _EVALUATIONS),
            ("predictions", predictions, _PREDICTIONS),
        ):
            if rows and fresh:
                # Only of events that are new: theirs is the key that keeps every row from being there twice.
                new = _table([row for row in rows if row[:2] in fresh], schema)
                _insert(connection, name, new, "do nothing" if name == "predictions" else "")
        return len(fresh)


def remove(connection: duckdb.DuckDBPyConnection, jobs: list[str]) -> None:
    """Delete all rows of these jobs."""
    connection.execute("delete from jobs where id in (select unnest(?))", [jobs])
    for table in ("events", "metrics", "evaluations", "predictions", "ingested"):
        connection.execute(f"delete from {table} where job in (select unnest(?))", [jobs])


def _insert(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table, conflict: str) -> set[tuple[str, int]]:
    """Insert rows by their columns' names; the keys of those inserted, when they are asked for."""
    connection.register("batch_rows", rows)
    try:
        asked = f"insert into {name} by name select * from batch_rows" + (
            f" on conflict {conflict}" if conflict else ""
        )
        done = connection.execute(asked)
        return {(str(job), int(seq)) for job, seq in done.fetchall()} if "returning" in conflict else set()
    finally:
        connection.unregister("batch_rows")


def _replacing(schema: pa.Schema, key: str) -> str:
    changes = ", ".join(f"{name} = excluded.{name}" for name in schema.names if name != key)
    return f"({key}) do update set {changes}"


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _naive(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None


def _created(job: str) -> datetime | None:
    """When a job was ordered, which its id tells."""
    found = _STAMP.match(job)
    try:
        return datetime.strptime(found[0], "%Y%m%d-%H%M%S-%f") if found else None
    except ValueError:
        return None
