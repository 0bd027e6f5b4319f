"""A copy of the database for those who do not own it: `sts.snapshot.duckdb`, replaced whole.

It has the tables without their indexes: it is only ever read, and is copied four times as fast for it.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb


def snapshot_of(path: Path) -> Path:
    """Where the copy of this database lies."""
    return path.with_name(f"{path.stem}.snapshot{path.suffix}")


def copy(connection: duckdb.DuckDBPyConnection, path: Path) -> Path:
    """Copy the database of this connection, which has no transaction open; returns the copy's place.

    A reader that has the old copy open keeps it. The draft has one name: only the owner makes copies.
    """
    place = snapshot_of(path)
    draft = place.with_name(f".{place.name}.draft")
    for leftover in place.parent.glob(f"{draft.name}*"):
        leftover.unlink()
    row = connection.execute("select current_database()").fetchone()
    tables = connection.execute(
        "select table_name from duckdb_tables() where database_name = current_database() order by 1"
    ).fetchall()
    quoted = str(draft).replace("'", "''")
    connection.execute(f"attach '{quoted}' as snapshot_draft")
    try:
        for (table,) in tables:
            connection.execute(f'create table snapshot_draft."{table}" as from "{row[0] if row else ""}"."{table}"')
    finally:
        connection.execute("detach snapshot_draft")  # which also writes its journal into the file
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(place)
    return place
