"""The one owner of `<cache>/sts.duckdb`: one thread writes what a queue hands it, any number of threads read.

A work that is handed in runs in one transaction: all of it is kept, or nothing. Readers see what was kept when their
question began, and wait for nobody. A process that is killed loses the work it was in, nothing before it; the file
opens again. What becomes of a damaged file is told in `opening`. After work was done a copy for other processes is
made (`snapshot`), never so often that it costs more than a tenth of the time.

No other code of this process may open the file, not even to read its bytes: closing it would drop DuckDB's lock.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from sts_core.errors import UserError
from sts_core.folders import cache
from sts_core.store.migrations import migrate
from sts_core.store.opening import SETTINGS, Damaged, open_file, verdict
from sts_core.store.ownership import Ownership
from sts_core.store.snapshot import copy, snapshot_of

T = TypeVar("T")
Work = Callable[[duckdb.DuckDBPyConnection], T]
"""What is done in one transaction; it neither commits nor rolls back."""
_LOG = logging.getLogger(__name__)
_FATAL = (duckdb.FatalException, duckdb.InternalException)
_COPY_EVERY = 2.0
"""Seconds between two copies, at least."""
_PATIENCE = 5.0
"""Seconds a dashboard waits for a command that has the database for a moment, and a close for readers."""
_owned: dict[Path, Database] = {}
_owning = threading.Lock()


def database_path() -> Path:
    """Where the database of this cache lies."""
    return cache().resolve() / "sts.duckdb"


def owner(path: Path | None = None) -> Database:
    """The database, opened if it is not open here already; `Held` names the process that has it."""
    path = path or database_path()
    with _owning:
        return _owned.get(path) or Database(path)


def owned(path: Path) -> Database | None:
    """The database if this very process has it open."""
    return _owned.get(path)


class Database:
    """An open database; close it, or let it close as the process ends."""

    def __init__(self, path: Path | None, brief: bool = False) -> None:
        """Open the file, or a database in memory for None. `brief` is for one question: no copy is made."""
        self.path = path
        self.notice = ""
        """What a person should know, such as that a damaged file was replaced; mostly empty."""
        self.ingesting = threading.Lock()
        """Held by whoever reads job folders in: two at once would do the same work twice."""
        self._pid = os.getpid()
        self._ownership = Ownership(path, brief, _PATIENCE if not brief else 0.0) if path else None
        self._copies = path is not None and not brief
        self._filled = False
        self._gate = threading.Condition()
        self._readers: set[duckdb.DuckDBPyConnection] = set()
        self._closing = False
        self._root: duckdb.DuckDBPyConnection | None = None
        self._writer: duckdb.DuckDBPyConnection | None = None
        self._damage = ""
        self._changed, self._copy_after = True, time.monotonic()
        self._tasks: queue.SimpleQueue[tuple[Work[Any] | None, Future[Any]] | None] = queue.SimpleQueue()
        try:
            self._open()
            if self._copies and path:
                snapshot_of(path).unlink(missing_ok=True)  # of another owner's time: nobody knows how old
        except BaseException:
            self._let_go()
            if self._ownership:
                self._ownership.release()
            raise
        self._thread = threading.Thread(target=self._work, name="database writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        if path and not brief:
            _owned[path] = self

    def write(self, work: Work[T]) -> Future[T]:
        """Hand in what is to be written; the future has what it returned once that is safely kept."""
        future: Future[T] = Future()
        with self._gate:
            self._refuse_if_closed()
            self._tasks.put((work, future))
        return future

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for this thread's questions, each of which sees what is kept as it begins."""
        if self._root is None:  # closed after an error: the writer's next work opens it again, or tells why not
            self.write(lambda _: None).result()
        with self._gate:
            self._refuse_if_closed()
            if self._root is None:
                raise UserError("The database is closed after an error", "Try again in a moment.")
            cursor = self._root.cursor()
            self._readers.add(cursor)
        try:
            yield cursor
        except duckdb.Error as error:
            if isinstance(told := verdict(error, self.path or Path(":memory:")), Damaged):
                hint = "Start the dashboard again: the database is then filled anew from the job folders."
                raise UserError(f"The database is damaged: {told}", hint) from error
            raise
        finally:
            with self._gate:
                self._readers.discard(cursor)
                cursor.close()
                self._gate.notify_all()

    def mark_filled(self) -> None:
        """All that the job folders hold is in: from now on copies are made, which before would have told half."""
        if not self._filled:
            self._filled = True
            self.write(lambda _: None)  # wakes the writer

    @property
    def closed(self) -> bool:
        """It is closed, or about to be."""
        return self._closing

    def snapshot(self) -> Path:
        """Make the copy for other processes now; its place."""
        future: Future[Path] = Future()
        with self._gate:
            self._refuse_if_closed()
            self._tasks.put((None, future))
        return future.result()

    def close(self) -> None:
        """Do what is handed in, end the reading, write all into the file and let it go. A second call does nothing."""
        with self._gate:
            if self._closing or os.getpid() != self._pid:  # a forked child owns nothing
                return
            self._closing = True
            self._tasks.put(None)
        self._thread.join()
        self._let_go()
        if self._ownership:
            self._ownership.release()
        atexit.unregister(self.close)
        if self.path and _owned.get(self.path) is self:
            del _owned[self.path]

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_if_closed(self) -> None:
        if self._closing:
            raise UserError("The database is closed", "Start the dashboard again.")

    def _open(self) -> None:
        if self.path:
            root, notice = open_file(self.path, self._damage)
        else:
            root, notice = duckdb.connect(":memory:", config=SETTINGS), ""
            migrate(root)
        self.notice, self._damage = notice or self.notice, ""
        # The root is never asked anything: a connection is for one thread, and cursors are made of it by all.
        with self._gate:
            self._root, self._writer = root, root.cursor()

    def _let_go(self) -> None:
        """Close everything; readers that do not come to an end are interrupted."""
        with self._gate:
            root, self._root = self._root, None
            if not self._gate.wait_for(lambda: not self._readers, _PATIENCE):
                for cursor in self._readers:
                    cursor.interrupt()
                self._gate.wait_for(lambda: not self._readers, _PATIENCE)
        for connection in (self._writer, root):
            if connection is not None:
                with suppress(duckdb.Error):
                    connection.close()
        self._writer = None

    def _work(self) -> None:
        """The writer's thread: until told to close, one work after the other; copies when there is nothing else."""
        while True:
            due = self._copies and self._filled and self._changed
            try:
                wait = max(0.0, self._copy_after - time.monotonic()) if due else None
                task = self._tasks.get(timeout=wait)
            except queue.Empty:
                self._copy()
                continue
            if task is None:
                return
            self._do(*task)

    def _do(self, work: Work[Any] | None, future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            if self._writer is None:
                self._open()
            assert self._writer is not None  # _open has made it, or raised
            done = self._kept(self._writer, work) if work else copy(self._writer, self._place())
        except duckdb.Error as error:
            future.set_exception(self._told(error))
        except BaseException as error:  # whatever it is, it belongs to whoever waits for the work
            future.set_exception(error)
        else:
            self._changed = bool(work)
            future.set_result(done)

    def _kept(self, connection: duckdb.DuckDBPyConnection, work: Work[T]) -> T:
        connection.begin()
        try:
            done = work(connection)
            connection.commit()
        except BaseException:
            with suppress(duckdb.Error):
                connection.rollback()
            raise
        return done

    def _told(self, error: duckdb.Error) -> Exception:
        """What to tell of a failed work. After an error that leaves DuckDB unusable, the next work opens it anew."""
        told = verdict(error, self.path or Path(":memory:"))
        if isinstance(told, Damaged) or isinstance(error, _FATAL) or "has been invalidated" in str(error):
            self._damage = str(told) if isinstance(told, Damaged) else ""
            self._filled = self._filled and not self._damage  # a new file is empty until the folders are read in
            self._let_go()
            return UserError(f"The database had to be closed: {str(error).splitlines()[0][:200]}", "Try again.")
        return error

    def _copy(self) -> None:
        """The copy for other processes; a disk that refuses it costs them, not the owner."""
        began = time.monotonic()
        self._changed = False
        try:
            if self._writer is not None:
                copy(self._writer, self._place())
        except (duckdb.Error, OSError) as error:
            _LOG.warning("the copy of the database for other processes was not made: %s", error)
        took = time.monotonic() - began
        self._copy_after = time.monotonic() + max(_COPY_EVERY, 10 * took)

    def _place(self) -> Path:
        if self.path is None:
            raise UserError("A database in memory has no copy", "")
        return self.path
