"""The database's tables, as numbered steps from nothing to today's form.

A step that was released is never changed; what comes later is a step of its own. Each is applied in one transaction,
together with its line in `migrations`. Times are UTC, without a zone.

    jobs         a job as its folder tells it; `seen` is the stamp of the files the row was read from
    events       what happened to a job, keyed (job, seq) like the lines of its events.jsonl
    metrics      the numbers of events that carry a step
    evaluations  scores of domains before and after
    predictions  what was foretold when a run was launched; the first of a job and key stays
    ingested     how far each events.jsonl has been read, and what of it could not be
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from sts_core.errors import UserError


class Migration(NamedTuple):
    """One step; steps are numbered 1, 2, 3, … in their order."""

    name: str
    sql: str


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "jobs, events and what is in them",
        """
        create table jobs (
            id varchar primary key, kind varchar not null, title varchar not null, state varchar not null,
            stage varchar not null, done double not null, total double not null, unit varchar not null,
            created timestamp, started timestamp, finished timestamp, error varchar not null, hint varchar not null,
            result varchar not null, spec json not null, options json not null, note varchar not null,
            seen varchar not null
        );
        create table events (
            job varchar, seq bigint, time timestamp, kind varchar not null, payload json not null,
            primary key (job, seq)
        );
        create table metrics (
            job varchar not null, seq bigint not null, step bigint not null, name varchar not null, value double
        );
        create table evaluations (
            job varchar not null, seq bigint not null, phase varchar not null, domain varchar not null,
            metric varchar not null, value double, se double, n bigint, source varchar not null
        );
        create table predictions (
            key varchar, job varchar, seq bigint not null, written timestamp, dims json not null,
            scores json not null, measure varchar not null,
            primary key (job, key)
        );
        create table ingested (
            job varchar primary key, inode bigint not null, bytes bigint not null, tail varchar not null,
            lines bigint not null, skipped bigint not null, skipped_lines bigint[] not null
        );
        """,
    ),
)

_RECORD = "create table if not exists migrations (number integer primary key, name varchar, applied timestamp)"


def version(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """The number of the last step applied, 0 for an empty database; UserError when it is none of ours."""
    tables = {name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()}
    if "migrations" not in tables:
        if tables:
            raise UserError(
                f"{path} is a database of another program", "Move it away; the program makes its own in its place."
            )
        return 0
    row = connection.execute("select coalesce(max(number), 0) from migrations").fetchone()
    return int(row[0]) if row else 0


def refuse_newer(found: int, path: Path, steps: Sequence[Migration] = MIGRATIONS) -> None:
    """UserError for a database of a later program: what we do not know we do not touch."""
    if found > len(steps):
        raise UserError(
            f"The database {path} was made by a newer version of this program (form {found}; this one knows"
            f" {len(steps)}). It was not touched",
            "Update the program, or name another cache folder in STS_CACHE.",
        )


def migrate(
    connection: duckdb.DuckDBPyConnection, path: Path = Path(":memory:"), steps: Sequence[Migration] = MIGRATIONS
) -> int:
    """Bring the tables to today's form; how many steps that took."""
    before = version(connection, path)
    refuse_newer(before, path, steps)
    connection.execute(_RECORD)
    for number, step in enumerate(steps[before:], start=before + 1):
        applied = datetime.now(UTC).replace(tzinfo=None)
        connection.begin()
        try:
            connection.execute(step.sql)
            connection.execute("insert into migrations values (?, ?, ?)", [number, step.name, applied])
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
    return len(steps) - before
