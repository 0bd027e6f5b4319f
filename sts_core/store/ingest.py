"""Job folders into the database: each events.jsonl from where reading stopped up to its last newline.

What is read and how far it was read are kept in one transaction, and events are keyed (job, seq): killed at any
moment, the next pass goes on, and nothing is lost or there twice. A torn last line waits for its end. A line that is
no event is counted, told by its number, and passed over. A file that is not the one read before (another inode,
shorter, or other bytes before the place) is read from its beginning; what is known of it already stays as it is.

A job's row follows its folder, its note (`note.txt`) included. A folder that is gone leaves its rows until `forget`;
those of a job that was deleted (`jobs.disk`) go with the next pass, and so do those of a job that ships no more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import duckdb

from sts_core.errors import UserError
from sts_core.folders import demo_runs
from sts_core.folders import jobs as jobs_folder
from sts_core.jobs import disk, watch
from sts_core.jobs.events import EVENTS
from sts_core.jobs.folder import ACTIVE, SPEC, STATUS, demo_names, in_demo, own_names
from sts_core.jobs.launch import start_waiting
from sts_core.store.batch import Batch, Place, remove
from sts_core.store.database import Database, database_path
from sts_core.store.note import NOTE, read_note
from sts_core.store.rows import Event, understood

BUSY, IDLE = 1.0, 2.0
"""Seconds between two passes while a job is active, and while none is."""
_LOG = logging.getLogger(__name__)
_PIECE = 1 << 20
"""Bytes of events that are read, understood and kept at a time."""
_TAIL = 256
_DEMO = "demo "
"""How the stamp of a job that ships begins: with the next demo its rows go too."""
_TOLD_LINES = 20


class Taken(NamedTuple):
    """What a pass brought in."""

    events: int
    """New ones."""
    skipped: int
    """Lines that are no events."""
    active: int
    """Jobs that wait or run."""
    unread: tuple[str, ...]
    """Jobs whose files could not be read this time."""


class _Known(NamedTuple):
    """What the database has of a job."""

    state: str
    seen: str
    place: Place | None


def ingest_all(database: Database) -> Taken:
    """Bring in all that the job folders hold and the database does not."""
    with database.ingesting:
        taken = _Pass(database).run()
        database.mark_filled()
        return taken


def forget(database: Database, job: str) -> None:
    """Remove all rows of a job. Delete its folder first: what lies there is read in again."""
    with database.ingesting:
        database.write(lambda connection: remove(connection, [job])).result()


class Ingester:
    """A thread that keeps the database beside the folders, and lets waiting jobs begin when their place is free.

    It looks often while a job is active, else seldom. It leaves when the cache is another one than its database's.
    """

    def __init__(self, database: Database) -> None:
        self.last: Taken | None = None
        self.trouble = ""
        """Why the last pass failed; empty when it did not."""
        self._database = database
        self._wake, self._stop = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="ingest", daemon=True)

    def start(self) -> Ingester:
        """Begin; returns itself."""
        self._thread.start()
        return self

    def wake(self) -> None:
        """Look at once: a job was just started, say."""
        self._wake.set()

    def stop(self) -> None:
        """End after the pass it is in. It also ends when the database is closed."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop and not self._database.closed and self._database.path == database_path():
            self._wake.clear()
            try:
                self.last, self.trouble = ingest_all(self._database), ""
                if self.last.active:
                    start_waiting()
            except (UserError, OSError, duckdb.Error) as error:
                if str(error) != self.trouble and not self._database.closed:
                    _LOG.warning("job folders could not be read in: %s", error)
                self.trouble = str(error)
            if not self._stop:
                self._wake.wait(BUSY if self.last and self.last.active else IDLE)


class _Pass:
    """One walk over all job folders."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch = Batch()
        self._events = self._skipped = self._active = 0

    def run(self) -> Taken:
        unread = []
        known = _known(self._database)
        places = ((demo_runs(), demo_names()), (jobs_folder(), own_names()))
        there = {name: root / name for root, names in places for name in reversed(names)}
        for name, folder in there.items():
            try:
                self._job(folder, known.get(name))
            except OSError:
                unread.append(name)
        gone = [name for name in known if name not in there]
        self._batch.gone += [name for name in gone if known[name].state in ACTIVE]
        self._batch.deleted += [name for name in gone if known[name].seen.startswith(_DEMO)]  # another demo's
        left = disk.deleted() if self._database.path else []  # a database of a moment leaves that to the owner
        self._batch.deleted += [name for name, _ in left]
        self._save()
        for _, folder in left:
            disk.empty(folder)
            with suppress(OSError):  # not empty, or not ours to remove: the next pass tries again
                folder.rmdir()
        return Taken(self._events, self._skipped, self._active, tuple(unread))

    def _job(self, folder: Path, known: _Known | None) -> None:
        seen = _stamp(folder)  # before the files are read: what changes after that is seen by the next pass
        state = known.state if known else ""
        if known is None or seen != known.seen or state in ACTIVE:
            try:
                job = watch.read(folder.name)  # which also finds out whether its process still lives
            except UserError:  # removed as we look
                return
            if known is None or seen != known.seen or job.state != state:
                self._batch.add_job(job, read_note(folder), seen)
            self._active += job.active
        before = known.place.skipped if known and known.place else 0
        for events, place in _pieces(folder, known.place if known else None):
            self._batch.add_events(events, place)
            self._skipped += max(0, place.skipped - before)
            before = place.skipped
            if self._batch.bytes >= _PIECE:
                self._save()

    def _save(self) -> None:
        batch, self._batch = self._batch, Batch()
        if batch.jobs or batch.gone or batch.places or batch.deleted:
            self._events += self._database.write(batch.save).result()


def _known(database: Database) -> dict[str, _Known]:
    with database.reading() as connection:
        rows = connection.execute(
            """
            select id, state, seen, job, inode, bytes, tail, lines, skipped, skipped_lines
            from jobs left join ingested on job = id
            """
        ).fetchall()
    return {row[0]: _Known(row[1], row[2], None if row[3] is None else Place._make(row[3:])) for row in rows}


def _stamp(folder: Path) -> str:
    """What changes when one of the files does that a job's row is read from."""
    marks = []
    for name in (SPEC, STATUS, NOTE):
        try:
            found = os.stat(f"{folder}/{name}")  # without a Path: this is asked of every job of every pass
        except OSError:
            marks.append("-")
        else:
            marks.append(f"{found.st_ino}.{found.st_mtime_ns}.{found.st_size}")
    return (_DEMO if in_demo(folder) else "") + " ".join(marks)


def _pieces(folder: Path, place: Place | None) -> Iterator[tuple[list[Event], Place]]:
    """The events behind this place, a piece of the file at a time, each with the place it ends at."""
    path = f"{folder}/{EVENTS}"
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    if place and (found.st_ino, found.st_size) == (place.inode, place.bytes):
        return
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        if place is None or not _continues(file, found, place):
            place = Place(folder.name, found.st_ino)
        while whole := _whole_lines(file, place.bytes, found.st_size):
            events, place = _understand(whole, place)
            place = place._replace(tail=_tail(file, place.bytes))
            yield events, place


def _continues(file: BinaryIO, found: os.stat_result, place: Place) -> bool:
    """Whether this file is the one that was read up to the place."""
    same = found.st_ino == place.inode and found.st_size >= place.bytes
    return same and _tail(file, place.bytes) == place.tail


def _tail(file: BinaryIO, end: int) -> str:
    start = max(0, end - _TAIL)
    file.seek(start)
    return hashlib.sha256(file.read(end - start)).hexdigest()[:16]


def _whole_lines(file: BinaryIO, start: int, end: int) -> bytes:
    """About a piece of whole lines, more when one line is longer than that; nothing when none is whole yet."""
    length = _PIECE
    while start < end:
        file.seek(start)
        data = file.read(min(length, end - start))
        if cut := data.rfind(b"\n") + 1:
            return data[:cut]
        if length >= end - start:
            break
        length *= 4
    return b""


def _understand(whole: bytes, place: Place) -> tuple[list[Event], Place]:
    lines = whole.split(b"\n")[:-1]
    found = [understood(line) for line in lines]
    bad = [place.lines + i for i, event in enumerate(found, start=1) if event is None]
    told = (*place.skipped_lines, *bad)[:_TOLD_LINES]
    there = place._replace(
        bytes=place.bytes + len(whole),
        lines=place.lines + len(lines),
        skipped=place.skipped + len(bad),
        skipped_lines=told,
    )
    return [event for event in found if event is not None], there
