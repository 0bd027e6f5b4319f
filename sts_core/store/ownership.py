"""Who owns the database: one process at a time, under a lock that goes when the process goes.

The lock lies on a note beside the database, `sts.duckdb.owner`, which tells who holds it: the PID and the time that
process was created, since a PID alone is given out again. DuckDB has a lock of its own on the file; ours is taken
first, so that looking the file over, moving a damaged one away and changing its tables are under it as well.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.folders import ensure
from sts_core.jobs.folder import now, read_table
from sts_core.jobs.process import created, lives

_LOOK_EVERY = 0.02
_TO_SIGN = 0.5
"""Seconds that one who has just got the lock may take until the note tells who it is."""


class Holder(NamedTuple):
    """The process that has the database."""

    pid: int
    since: str
    """ISO 8601, UTC; empty when it is not known."""
    brief: bool
    """It has it for one question only, and is gone in a moment."""


class Held(UserError):
    """Another process has the database."""

    def __init__(self, path: Path, holder: Holder | None) -> None:
        self.holder = holder
        if holder is None:
            who, what = "another process", "End the other program that has it open, then start again."
        elif holder.pid == os.getpid():
            who, what = f"this very process (PID {holder.pid})", "Use the database that is open here already."
        elif holder.brief:
            who, what = f"process {holder.pid}, which answers a question from it", "Try again in a moment."
        else:
            who = f"process {holder.pid}" + (f" since {holder.since}" if holder.since else "")
            what = (
                "Use the dashboard that runs already, or end it first"
                f" (`kill {holder.pid}`); commands (`sts …`) work beside it."
            )
        super().__init__(f"The database {path} is held by {who}", what)


class Ownership:
    """The right to open a database, held until `release` or until this process ends."""

    def __init__(self, path: Path, brief: bool = False, patience: float = 0.0) -> None:
        """Take it, or `Held`; one who has it for a moment only is waited for up to `patience` seconds."""
        ensure(path.parent)
        self.path = path
        self._file = os.open(note_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock(patience)
            self._write({"pid": os.getpid(), "pid_started": created(os.getpid()), "since": now(), "brief": brief})
        except BaseException:
            os.close(self._file)
            raise

    def release(self) -> None:
        """Let go. The note stays, empty: a name that is removed while another waits for its lock would split it."""
        self._write(None)
        os.close(self._file)

    def _lock(self, patience: float) -> None:
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                who = holder(self.path)
                wait = _TO_SIGN if who is None else patience if who.brief else 0.0
                if time.monotonic() - began >= wait:
                    raise Held(self.path, who) from None
            time.sleep(_LOOK_EVERY)

    def _write(self, note: dict[str, Any] | None) -> None:
        os.ftruncate(self._file, 0)
        if note is not None:
            os.pwrite(self._file, json.dumps(note).encode(), 0)


def note_of(path: Path) -> Path:
    """The owner's note beside a database."""
    return path.with_name(f"{path.name}.owner")


def holder(path: Path) -> Holder | None:
    """Who holds this database, by the note; None when nobody of us does, or the note's writer is gone."""
    note = read_table(note_of(path))
    if note is None or not lives(note.get("pid"), note.get("pid_started")):
        return None
    return Holder(int(note["pid"]), str(note.get("since") or ""), bool(note.get("brief")))
