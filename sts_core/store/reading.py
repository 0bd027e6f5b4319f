"""The database for a command: whoever owns it, a question gets its answer and never fails on a lock.

1. This process owns it: its own database.
2. Nobody owns it: this process does for the moment, reads the job folders in first, and lets go.
3. A dashboard owns it: the copy it makes every few seconds. A dashboard that has just started makes its first soon.
4. There is no copy, or the place cannot be written: a database in memory, made of the job folders.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import duckdb

from sts_core.errors import UserError
from sts_core.store.database import Database, database_path, owned
from sts_core.store.ingest import ingest_all
from sts_core.store.migrations import MIGRATIONS, version
from sts_core.store.opening import SETTINGS
from sts_core.store.ownership import Held
from sts_core.store.snapshot import snapshot_of

_PATIENCE = 2.0
_LOOK_EVERY = 0.05


class View(NamedTuple):
    """A database to ask."""

    connection: duckdb.DuckDBPyConnection
    source: Literal["owner", "moment", "copy", "folders"]
    as_of: datetime
    """When it was made, in UTC: what happened since is not in it."""
    notice: str = ""
    """What a person should know, such as that a damaged file was replaced; mostly empty."""


@contextmanager
def read(path: Path | None = None, patience: float = _PATIENCE) -> Iterator[View]:
    """Open the database for some questions; `patience` is for another command, or for a dashboard's first copy."""
    path = path or database_path()
    if (mine := owned(path)) is not None:
        with mine.reading() as connection:
            yield View(connection, "owner", datetime.now(UTC))
        return
    found = _found(path, patience)
    if isinstance(found, View):
        with found.connection:
            yield found
        return
    with found or Database(None) as database:
        as_of = datetime.now(UTC)
        ingest_all(database)
        with database.reading() as connection:
            yield View(connection, "moment" if found else "folders", as_of, database.notice)


def _found(path: Path, patience: float) -> Database | View | None:
    """The database as our own, or the copy of who has it; None when neither is to be had in time."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return Database(path, brief=True)
        except Held as error:
            brief = error.holder is not None and error.holder.brief
            if not brief and (copied := _copied(path)) is not None:
                return copied
            if error.holder is None or time.monotonic() >= deadline:
                return None
        except OSError:  # a cache we may only read
            return None
        time.sleep(_LOOK_EVERY)


def _copied(path: Path) -> View | None:
    """The copy its owner made; None when there is none of today's form."""
    place = snapshot_of(path)
    connection = None
    try:
        as_of = datetime.fromtimestamp(place.stat().st_mtime, UTC)
        connection = duckdb.connect(place, read_only=True, config=SETTINGS)
        if version(connection, place) == len(MIGRATIONS):
            return View(connection, "copy", as_of)
    except (OSError, duckdb.Error, UserError):
        pass
    if connection is not None:
        connection.close()
    return None
