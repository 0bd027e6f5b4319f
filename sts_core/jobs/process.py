"""Whether a process is still the one we started, and how its whole group is ended.

A PID alone is no identity: the system gives it out again. The PID and the time of creation together are.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import psutil

from sts_core.errors import UserError

MARK = "STS_JOB"
"""The environment variable by which a worker and all its children are known to belong to a job."""
CLOCK_SLACK = 2.0
"""Seconds two readings of one creation time may differ: it is told against a clock that gets corrected."""
_LOOK_EVERY = 0.02


def created(pid: int) -> float | None:
    """When the living process with this PID was created; None when there is none."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (psutil.Error, ValueError, OverflowError):
        return None


def lives(pid: object, started: object) -> bool:
    """Whether the very process lives that had this PID and was created at this time; both as a file gave them."""
    if not isinstance(pid, int) or not isinstance(started, int | float) or pid <= 0:
        return False
    found = created(pid)
    return found is not None and abs(found - started) <= CLOCK_SLACK


def end_group(leader: int, patience: float) -> bool:
    """End every process of the group: ask, wait up to `patience` seconds, then insist.

    The caller has made sure that the group is his. False when something of it still lives after that.
    """
    for ask, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, max(patience, 2.0))):
        try:
            os.killpg(leader, ask)
        except ProcessLookupError:
            return True
        except PermissionError:
            if not _members(leader):  # only what has died and is not buried yet is left
                return True
            raise UserError(
                f"The process group {leader} belongs to someone else", "Cancel as the user who started the job."
            ) from None
        if _gone(leader, wait):
            return True
    return False


def end_leftovers(mark: str) -> int:
    """Kill what a worker that is gone left behind, the processes that bear its job's mark; how many."""
    left = [pid for pid in psutil.pids() if pid != os.getpid() and _mark(pid) == mark]
    for pid in left:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def _mark(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        mark = process.environ().get(MARK)
        return mark if process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OSError):
        return None


def _gone(leader: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while _members(leader):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_EVERY)
    return True


def _members(leader: int) -> list[int]:
    """The living processes of a group; one that has died but is not yet buried by its parent counts as gone."""
    return [pid for pid in psutil.pids() if _group(pid) == leader and created(pid) is not None]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None
