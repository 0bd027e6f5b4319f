"""What the pages ask of the database, each in one statement, so that only the rows shown are read into the program.

Every function takes a connection: a cursor of the owner (`Database.reading`) or the one that `reading.read` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pandas as pd

_OF_JOBS = """
    select * exclude (seen, job, inode, bytes, tail, lines, skipped, skipped_lines),
        epoch(coalesce(finished, $now) - started) as seconds,
        coalesce(skipped, 0) as skipped, coalesce(skipped_lines, []) as skipped_lines
    from jobs left join ingested on job = id
    where (len($states) = 0 or list_contains($states, state)) and (len($kinds) = 0 or list_contains($kinds, kind))
    order by created desc nulls last, id desc limit $limit
"""


def jobs(
    connection: duckdb.DuckDBPyConnection,
    limit: int = 200,
    states: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> pd.DataFrame:
    """Jobs, the newest first, of these states and kinds, or of any.

    `seconds` is how long each ran, or has run; `skipped` how many lines of its events could not be understood.
    """
    return connection.execute(_OF_JOBS, _chosen(limit, states, kinds)).df()


def count(connection: duckdb.DuckDBPyConnection, states: Sequence[str] = (), kinds: Sequence[str] = ()) -> int:
    """How many jobs there are of these states and kinds, or of any."""
    question = """
        select count(*) from jobs
        where (len($states) = 0 or list_contains($states, state)) and (len($kinds) = 0 or list_contains($kinds, kind))
    """
    row = connection.execute(question, {"states": list(states), "kinds": list(kinds)}).fetchone()
    return int(row[0]) if row else 0


def titles(connection: duckdb.DuckDBPyConnection, kind: str, limit: int = 200) -> dict[str, str]:
    """Titles of the jobs of a kind, by their ids, the newest first."""
    question = "select id, title from jobs where kind = ? order by created desc nulls last, id desc limit ?"
    return {str(job): str(title or job) for job, title in connection.execute(question, [kind, limit]).fetchall()}


def runs(
    connection: duckdb.DuckDBPyConnection,
    limit: int = 200,
    states: Sequence[str] = (),
    kinds: Sequence[str] = (),
    metric: str = "loss",
    points: int = 60,
) -> pd.DataFrame:
    """The same with `last`, the newest value of a metric, `step`, where that was, and `sparkline`.

    The sparkline is at most `points` means over equal stretches of steps. It is empty, and `last` missing, where the
    metric was never told.
    """
    listed = jobs(connection, limit, states, kinds)
    return with_sparklines(listed, sparklines(connection, list(listed["id"]), metric, points))


def sparklines(
    connection: duckdb.DuckDBPyConnection, ids: Sequence[str], metric: str = "loss", points: int = 60
) -> pd.DataFrame:
    """`id, step, last, sparkline` of those of these jobs that have told the metric."""
    question = """
        with told as (
            select job, seq, step, value from metrics where list_contains($ids, job) and name = $metric
        ),
        spans as (
            select job, min(step) as first, max(step) as final, arg_max(value, seq) as last from told group by job
        ),
        means as (
            select job, (step - first) * $points // (final - first + 1) as place, avg(value) as mean
            from told join spans using (job) group by all
        ),
        lines as (select job, list(mean order by place) as sparkline from means group by job)
        select job as id, final as step, last, sparkline from spans join lines using (job)
    """
    if not ids:
        nothing = pd.DataFrame({"id": [], "step": [], "last": [], "sparkline": []})
        return nothing.astype({"id": str, "sparkline": object})
    return connection.execute(question, {"ids": list(ids), "metric": metric, "points": points}).df()


def with_sparklines(listed: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """Jobs beside their lines, in the jobs' order; one without has an empty line."""
    found = listed.merge(lines, on="id", how="left")
    found["sparkline"] = [line if isinstance(line, list | np.ndarray) else [] for line in found["sparkline"]]
    return found


def remarks(connection: duckdb.DuckDBPyConnection, job: str) -> tuple[str, int]:
    """A person's note on a job, and how many lines of its events could not be understood."""
    question = "select coalesce(note, ''), coalesce(skipped, 0) from jobs left join ingested on job = id where id = ?"
    row = connection.execute(question, [job]).fetchone()
    return (str(row[0]), int(row[1])) if row else ("", 0)


def places(connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """What changes with a job's row or its events: a value for each of these jobs, equal as long as nothing has."""
    question = """
        select id, seen, inode, bytes from jobs left join ingested on job = id where list_contains(?, id)
    """
    return {row[0]: tuple(row[1:]) for row in connection.execute(question, [list(ids)]).fetchall()}


def curve(connection: duckdb.DuckDBPyConnection, job: str, name: str, points: int = 500) -> pd.DataFrame:
    """One of `curves`."""
    return curves(connection, job, [name], points)[name]


def curves(
    connection: duckdb.DuckDBPyConnection, job: str, names: Sequence[str], points: int = 500
) -> dict[str, pd.DataFrame]:
    """Metrics over steps: by name at most `points` rows of `step, value, low, high`, read in one go.

    With more steps than that, a row stands for a stretch of them: its last step, and the mean, least and greatest
    value. NaN counts as greatest. Of a step that was done twice the later counts.
    """
    question = """
        with told as (
            select name, step, arg_max(value, seq) as value from metrics
            where job = $job and list_contains($names, name) group by name, step
        ),
        span as (select name, min(step) as first, max(step) as last from told group by name)
        select name, max(step) as step, avg(value) as value, min(value) as low, max(value) as high
        from (
            select told.*, case when last - first < $points then step - first
                else (step - first) * $points // (last - first + 1) end as place
            from told join span using (name)
        )
        group by name, place order by name, place
    """
    table = connection.execute(question, {"job": job, "names": list(names), "points": points}).df()
    return {name: table[table["name"] == name].drop(columns="name").reset_index(drop=True) for name in names}


def metric_names(connection: duckdb.DuckDBPyConnection, job: str) -> list[str]:
    """The metrics a job has told, in the order it first told them."""
    rows = connection.execute("select name from metrics where job = ? group by name order by min(seq), name", [job])
    return [name for (name,) in rows.fetchall()]


def newest_metrics(connection: duckdb.DuckDBPyConnection, job: str) -> pd.DataFrame:
    """The last value of each metric: `name, step, value`, in the order they were first told."""
    question = """
        select name, arg_max(step, seq) as step, arg_max(value, seq) as value from metrics where job = ?
        group by name order by min(seq), name
    """
    return connection.execute(question, [job]).df()


def at_steps(connection: duckdb.DuckDBPyConnection, job: str, but: Sequence[str] = ()) -> pd.DataFrame:
    """Every metric but those named at every step: `name, step, value`; of one told twice the later counts."""
    question = """
        select name, step, arg_max(value, seq) as value from metrics
        where job = ? and not list_contains(?, name) group by name, step order by name, step
    """
    return connection.execute(question, [job, list(but)]).df()


def events(
    connection: duckdb.DuckDBPyConnection, job: str, after_seq: int = 0, limit: int = 1000, kinds: Sequence[str] = ()
) -> pd.DataFrame:
    """What happened to a job after an event's number, in order: `seq, time, kind, payload` (JSON); of kinds, or all."""
    question = """
        select seq, time, kind, payload from events
        where job = $job and seq > $after and (len($kinds) = 0 or list_contains($kinds, kind)) order by seq limit $limit
    """
    asked = {"job": job, "after": after_seq, "kinds": list(kinds), "limit": limit}
    return connection.execute(question, asked).df()


def evaluations(connection: duckdb.DuckDBPyConnection, job: str) -> pd.DataFrame:
    """Scores of domains before and after, the newest of each: `phase, domain, metric, source, value, se, n`."""
    question = """
        select phase, domain, metric, source, value, se, n from evaluations where job = ?
        qualify row_number() over (partition by phase, domain, metric, source order by seq desc) = 1
        order by seq
    """
    return connection.execute(question, [job]).df()


def predictions(connection: duckdb.DuckDBPyConnection, job: str) -> pd.DataFrame:
    """What was foretold when the job was launched: `key, written, dims, scores` (JSON) and `measure`."""
    question = "select key, written, dims, scores, measure from predictions where job = ? order by seq"
    return connection.execute(question, [job]).df()


def _chosen(limit: int, states: Sequence[str], kinds: Sequence[str]) -> dict[str, Any]:
    now = datetime.now(UTC).replace(tzinfo=None)
    return {"limit": limit, "states": list(states), "kinds": list(kinds), "now": now}
