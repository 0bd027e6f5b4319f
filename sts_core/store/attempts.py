"""The attempts of a job: when each ran, how long all took together, and how far the present one has come."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import duckdb
import pandas as pd

from sts_core.jobs.folder import Job


class Together(NamedTuple):
    """All attempts of a job as one."""

    began: datetime | None
    """When the first began."""
    seconds: float | None
    """How long they took without the time between them; None when none began."""


class Again(NamedTuple):
    """What a job has told since it was last resumed."""

    trains: bool
    """Its training has begun."""
    stepped: bool
    """It has told a step; one that it does over is not told twice."""


def attempts(connection: duckdb.DuckDBPyConnection, job: str) -> pd.DataFrame:
    """When each attempt of a job began and when it was last heard of: `began, heard`, in order.

    That a process is gone may be found out days later, so that is not heard of it.
    """
    question = """
        with told as (
            select kind, time, sum((kind = 'started')::int) over (order by seq) as attempt,
                sum((kind = 'resumed')::int) over (order by seq) as resumed
            from events where job = ? and kind <> 'dead' and time is not null
        ),
        begun as (select attempt, time as began, resumed from told where kind = 'started')
        select began, max(time) as heard from told join begun using (attempt, resumed)
        group by attempt, began order by attempt
    """
    return connection.execute(question, [job]).df()


def together(job: Job, found: pd.DataFrame) -> Together:
    """All of these attempts, the last as the job's folder tells it."""
    rows = [(_utc(began), _utc(heard)) for began, heard in found[["began", "heard"]].itertuples(index=False)]
    before = [(began, heard) for began, heard in rows if job.started is None or began < job.started]
    if not before:
        return Together(job.started, job.seconds)
    took = sum((heard - began).total_seconds() for began, heard in before)
    return Together(before[0][0], took + (job.seconds or 0.0))


def again(connection: duckdb.DuckDBPyConnection, job: str) -> Again:
    """How far a job has come since it was last resumed, or since it began."""
    question = """
        with resumed as (select coalesce(max(seq), 0) as last from events where job = $job and kind = 'resumed')
        select count(*) filter (kind = 'stage' and payload->>'unit' = 'steps'), count(*) filter (kind = 'step')
        from events, resumed where job = $job and seq > last
    """
    trains, steps = connection.execute(question, {"job": job}).fetchone() or (0, 0)
    return Again(bool(trains), bool(steps))


def _utc(moment: pd.Timestamp) -> datetime:
    return moment.to_pydatetime().replace(tzinfo=UTC)
