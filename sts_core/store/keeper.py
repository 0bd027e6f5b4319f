"""How a dashboard keeps the database: it owns it if it can, reads the job folders in all the time, and tells if not.

One keeper a process, whatever asks for it: `keep()` is cheap and may be called with every drawing of a page. While
another process has the database, pages read its copy (`reading`), and the keeper asks again every few seconds.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple

from sts_core.errors import UserError
from sts_core.jobs.launch import start_waiting
from sts_core.store.database import Database, database_path, owner
from sts_core.store.ingest import Ingester, Taken, ingest_all

ASK_EVERY = 3.0
"""Seconds between two tries to get the database."""


class Standing(NamedTuple):
    """How this process stands to the database."""

    owns: bool
    trouble: UserError | None
    """Why it is not ours: `Held` names who has it."""
    notice: str
    """What a person should know, such as that a damaged file was replaced or that folders cannot be read in."""
    taken: Taken | None
    """What the last pass over the job folders brought; None before the first."""


class _Keeper:
    """What this process has, for one database at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._database: Database | None = None
        self._ingester: Ingester | None = None
        self._trouble: UserError | None = None
        self._ask_at = 0.0

    def keep(self) -> Standing:
        with self._lock:
            path = database_path()
            if path != self._path:
                self._let_go()
                self._path, self._ask_at = path, 0.0
            if (self._database is None or self._database.closed) and time.monotonic() >= self._ask_at:
                self._take(path)
            return self._standing()

    def let_go(self) -> None:
        with self._lock:
            self._let_go()
            self._path = None

    def catch_up(self) -> None:
        start_waiting()
        if self._database is not None and not self._database.closed:
            ingest_all(self._database)

    def _take(self, path: Path) -> None:
        try:
            self._database, self._trouble = owner(path), None
            self._ingester = Ingester(self._database).start()
        except UserError as error:
            self._database, self._trouble = None, error
        self._ask_at = time.monotonic() + ASK_EVERY

    def _let_go(self) -> None:
        ingester, self._ingester = self._ingester, None
        database, self._database = self._database, None
        if ingester:
            ingester.stop()
        if database:
            database.close()

    def _standing(self) -> Standing:
        if self._database is None or self._ingester is None:
            return Standing(False, self._trouble, "", None)
        trouble = self._ingester.trouble
        notice = f"The job folders cannot be read in: {trouble}" if trouble else self._database.notice
        return Standing(True, None, notice, self._ingester.last)


_keeper = _Keeper()


def keep() -> Standing:
    """Own the database of this cache if nobody else does, and keep it filled; how this process stands to it."""
    return _keeper.keep()


def catch_up() -> None:
    """Let whoever is due begin and read all folders in, now: a person has just changed something there."""
    _keeper.catch_up()


def let_go() -> None:
    """Close what this process owns, and stop looking."""
    _keeper.let_go()
