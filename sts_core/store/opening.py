"""Opening the database's file: looked over read-only first, so that what must not be touched is not.

A file from a newer program or a newer DuckDB is refused as it lies. A damaged one is moved to
`sts.duckdb.damaged-<time>` and an empty one takes its place, to be filled again from the job folders: everything in
it comes from there, a job's note included. Only what was kept of jobs whose folders are gone is lost, and told.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from sts_core.errors import UserError
from sts_core.store.migrations import migrate, refuse_newer, version
from sts_core.store.ownership import Held, Holder

SETTINGS: dict[str, Any] = {
    "threads": 1,
    "memory_limit": "1GB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""A dashboard runs beside trainings, and fetches nothing from the network."""
_PID = re.compile(r"\(PID (\d+)\)")
_LOCKED = ("Could not set lock", "Conflicting lock")
_NEWER = ("can only read storage versions", "Failed to read WAL of version")
_DISK = ("No space left", "Permission denied", "Read-only file system", "out of memory")
_DAMAGE = ("orrupt", "not a valid DuckDB database", "Could not read enough bytes", "Failure while replaying")


class Damaged(Exception):
    """The file holds something that DuckDB cannot make sense of."""


class Opened(NamedTuple):
    """A database that is ready for use."""

    connection: duckdb.DuckDBPyConnection
    notice: str
    """What a person should know, such as that a damaged file was replaced; mostly empty."""


def open_file(path: Path, damage: str = "") -> Opened:
    """Open or make the database at this path, its tables in today's form; the caller owns it (`ownership`).

    With `damage` the file is known to be bad, and is replaced unlooked at.
    """
    notice = ""
    try:
        try:
            if damage:
                raise Damaged(damage)
            _look_over(path)
            return Opened(_ready(path), "")
        except Damaged as error:
            aside = move_aside(path)
            notice = (
                f"The database was damaged ({error}). It lies in {aside.name} now, and a new one is filled from the"
                " job folders; of jobs whose folders are gone, nothing comes back."
            )
            return Opened(_ready(path), notice)
    except OSError as error:
        raise UserError(f"The database {path} cannot be opened: {error.strerror}", "Free or allow the file.") from error


def verdict(error: duckdb.Error, path: Path) -> Damaged | UserError:
    """What an error of DuckDB's about a file means."""
    text = " ".join(str(error).split())
    if any(sign in text for sign in _LOCKED):
        pid = _PID.search(text)
        return Held(path, Holder(int(pid[1]), "", False) if pid else None)
    if any(sign in text for sign in _NEWER):
        return UserError(
            f"The database {path} was written by a newer DuckDB. It was not touched",
            "Install the versions of requirements.txt again, or name another cache folder in STS_CACHE.",
        )
    if not any(sign in text for sign in _DISK) and any(sign in text for sign in _DAMAGE):
        return Damaged(text[:200])
    return UserError(
        f"The database {path} cannot be used: {text[:200]}",
        "Free space or memory, or move the file away: it is filled again from the job folders.",
    )


def move_aside(path: Path) -> Path:
    """Give the database, and what DuckDB keeps beside it, a name that tells it is damaged; the new name."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
    for part in sorted(path.parent.glob(f"{path.name}.wal*")):
        part.rename(aside.with_name(aside.name + part.name.removeprefix(path.name)))
    if path.exists():
        path.rename(aside)
    return aside


def _look_over(path: Path) -> None:
    """Read everything once, changing nothing: `Damaged`, or UserError for what is not ours to open."""
    journal = path.with_name(f"{path.name}.wal")
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        if journal.exists():
            raise Damaged("only its journal is left")
        path.unlink(missing_ok=True)  # its owner was killed as it made it
        return
    try:
        with duckdb.connect(path, read_only=True, config=SETTINGS) as connection:
            refuse_newer(version(connection, path), path)
            tables = connection.execute("select table_name from duckdb_tables()").fetchall()
            for (table,) in tables:  # a block is checked when it is read
                connection.execute(f'select bit_xor(hash(t)) from "{table}" t').fetchone()
    except duckdb.Error as error:
        raise verdict(error, path) from error


def _ready(path: Path) -> duckdb.DuckDBPyConnection:
    connection = None
    try:
        connection = duckdb.connect(path, config=SETTINGS)
        migrate(connection, path)
        return connection
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, duckdb.Error):
            raise verdict(error, path) from error
        raise
