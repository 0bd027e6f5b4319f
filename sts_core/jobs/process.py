"""Whether a process is still the one we started, and how its whole group is ended.

A PID alone is no identity: the system gives it out again. The PID and the time of creation together are.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from sts_core.errors import UserError
from sts_core.folders import PROJECT, cache

MARK = "STS_JOB"
"""The environment variable by which a worker and all its children are known to belong to a job."""
CLOCK_SLACK = 2.0
"""Seconds two readings of one creation time may differ: it is told against a clock that gets corrected."""
_LOOK_EVERY = 0.02
_YIELDS = 10
"""How far a worker's priority lies below that of the dashboard, on a machine where both want every core."""


def start(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
    """Start this Python with these arguments as a process of its own session that prints to a file; its PID.

    It outlives whoever started it, and is buried by whoever did if that is still there.
    """
    # It starts in the project's folder: a relative cache path would mean another place there.
    own = {"STS_CACHE": str(cache().resolve()), "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=PROJECT,
            env={**environment, **own}, start_new_session=True,
        )  # fmt: skip
    # A dead child stays a zombie until its parent asks after it, and a dashboard lives for days.
    threading.Thread(target=process.wait, name=f"reap {environment.get(MARK, 'one that stays')}", daemon=True).start()
    return process.pid


def step_back() -> None:
    """Let the pages go first: hours of work lose nothing by it, and a click is answered while they last.

    Once for a process, however often it is said; its children have it from it.
    """
    with suppress(OSError, AttributeError):
        if os.getpriority(os.PRIO_PROCESS, 0) < _YIELDS:
            os.setpriority(os.PRIO_PROCESS, 0, _YIELDS)
    with suppress(OSError):  # where Linux shares time among sessions first, that of a single process does not count
        Path("/proc/self/autogroup").write_text(str(_YIELDS))


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


def ask_group(leader: int) -> bool:
    """Ask every process of a group to end; False when there is none any more. The caller has made sure it is his."""
    return _signal(leader, signal.SIGTERM)


def insist(leader: int, patience: float, over: Callable[[], bool] = lambda: False) -> bool:
    """Wait up to `patience` seconds for a group that was asked, then kill it. False when something still lives: the
    killed have three times as long, for on a busy machine large ones take seconds to be cleared away.

    What is `over` needs no end: the group's leader has gone on to other work by then, and is left alone.
    """
    if _gone(leader, patience, over):
        return True
    return not _signal(leader, signal.SIGKILL) or _gone(leader, max(3 * patience, 2.0), over)


def _signal(leader: int, number: signal.Signals) -> bool:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        if not _members(leader):  # only what has died and is not buried yet is left
            return False
        raise UserError(
            f"The process group {leader} belongs to someone else", "Cancel as the user who started the job."
        ) from None
    return True


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


def _gone(leader: int, patience: float, over: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + patience
    while _members(leader) and not over():
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
