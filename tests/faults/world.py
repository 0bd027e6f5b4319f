"""A cache with jobs and a dashboard in it, to which things are done; and what must hold whatever was done.

`sound` is the claim of every fault run: events numbered without gap or double, each step told once, nothing stuck,
no process left over, a database that opens and has exactly what the folders have.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from sts_core.cli.app import streamlit_arguments
from sts_core.folders import PROJECT
from sts_core.jobs import launch, queue, warm, watch
from sts_core.jobs.events import EVENTS, read_events
from sts_core.jobs.folder import ENDED, Job
from sts_core.jobs.process import MARK, created
from sts_core.store.database import database_path
from sts_core.store.ownership import holder
from sts_core.store.reading import read
from tests.faults.worker import STAYS, loss

WORKER = Path(__file__).with_name("worker.py")
SERVER = Path(__file__).with_name("dashboard.py")
PATIENCE = 180.0


class World:
    """One cache, its workers and its dashboards."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder = folder
        self.rng = rng
        self._servers: list[subprocess.Popen[bytes]] = []

    def order(self, kind: str, steps: int = 60, rate: float = 150.0, title: str = "", device: str = "") -> str:
        """A job of so many steps at so many a second."""
        options = {"device": device} if device else {}
        return launch.start(kind, {"steps": steps, "rate": rate}, title or kind, options)

    def dashboard(self, owns: bool = True) -> subprocess.Popen[bytes]:
        """The real server, in a group of its own like one in a terminal; there once it owns the database."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        arguments = [str(SERVER), str(WORKER), *streamlit_arguments(port, "127.0.0.1")[2:]]
        with (self.folder / f"server-{port}.txt").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, *arguments], cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._servers.append(server)
        if owns:
            until(lambda: self.owner() == server.pid, "the dashboard takes the database")
        return server

    def owner(self) -> int | None:
        """The PID of who has the database."""
        found = holder(database_path())
        return found.pid if found and not found.brief else None

    def end(self) -> None:
        """End all that is still there."""
        for server in self._servers:
            server.kill()
            server.wait(PATIENCE)
        while active := sorted(watch.active(), key=lambda job: not queue.in_line(job)):
            watch.cancel(active[0].id, patience=0)
        warm.send_home()


@contextmanager
def world(folder: Path, seed: int) -> Iterator[World]:
    """A cache of its own under this folder, for this process and all it starts."""
    before = {name: os.environ.get(name) for name in ("STS_CACHE", "OMP_NUM_THREADS", "STS_WARM_MINUTES")}
    worker, launch.WORKER = launch.WORKER, (str(WORKER),)
    stays, warm.WORKER = warm.WORKER, (str(WORKER), STAYS)
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    os.environ.update(STS_CACHE=str(cache), OMP_NUM_THREADS="1", STS_WARM_MINUTES="0")
    made = World(folder, random.Random(seed))
    try:
        yield made
    finally:
        made.end()
        launch.WORKER, warm.WORKER = worker, stays
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def until(what: Callable[[], bool], words: str, patience: float = PATIENCE) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, f"not so within {patience:.0f} s: {words}"
        threading.Event().wait(0.02)


def pause(seconds: float) -> None:
    """Let the others work for a moment that chance has chosen."""
    threading.Event().wait(seconds)


def ended(*jobs: str, state: str = "done") -> list[Job]:
    """These jobs once all have ended, which they must have in this state."""

    def there() -> bool:
        launch.start_waiting()  # what every command and every dashboard does
        return all(watch.read(job).state in ENDED for job in jobs)

    until(there, f"{len(jobs)} jobs end")
    found = [watch.read(job) for job in jobs]
    assert [job.state for job in found] == [state] * len(jobs), [
        (job.state, job.error, job.log_tail()) for job in found
    ]
    return found


def step_of(job: str) -> int:
    """The last step a job has told."""
    return max((event["step"] for event in read_events(watch.read(job).folder) if event["event"] == "step"), default=0)


def kill(job: str) -> None:
    """SIGKILL for a job's worker, if it has one."""
    pid = watch.read(job).pid
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def sound(*jobs: str) -> None:
    """All that must hold of jobs that are done."""
    for job in ended(*jobs):
        happened = read_events(job.folder)
        assert [event["seq"] for event in happened] == list(range(1, len(happened) + 1)), f"{job.id}: gaps or doubles"
        whole = (job.folder / EVENTS).read_bytes()
        assert whole.endswith(b"\n"), "a torn line is left"
        steps = [event["step"] for event in happened if event["event"] == "step"]
        assert steps == list(range(1, job.spec["steps"] + 1)), f"{job.id}: steps lost or done twice"
        assert (job.folder / job.result / "loss.txt").read_text() == repr(_expected(job.spec["steps"]))
        assert happened[-1]["event"] == "done"
    until(lambda: not _left_over(*jobs), "no process of an ended job is left")
    assert not [child.pid for child in psutil.Process().children() if child.status() == "zombie" and _ours(child.pid)]
    until(lambda: _in_database() == _in_folders(), "the database has what the folders have")


def _expected(steps: int) -> float:
    value = 10.0
    for step in range(1, steps + 1):
        value = loss(step, value)
    return value


def _left_over(*jobs: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if created(process.pid) is not None and process.environ().get(MARK) in jobs:
                found.append(process.pid)
    return found


def _ours(pid: int) -> bool:
    """A zombie whose end a thread of ours waits for is buried in a moment."""
    pause(0.2)
    return psutil.pid_exists(pid) and created(pid) is None


def _in_folders() -> set[tuple[str, int]]:
    return {(job.id, event["seq"]) for job in watch.all_jobs() for event in read_events(job.folder)}


def _in_database() -> set[tuple[str, int]]:
    with read() as view:
        rows = view.connection.execute("select job, seq from events").fetchall()
        steps = view.connection.execute("select count(*) from events where kind = 'step'").fetchone()
        metrics = view.connection.execute("select count(*) from metrics where name = 'loss'").fetchone()
    assert len(rows) == len(set(rows)), "an event is there twice"
    assert steps == metrics, "a step has no loss, or two"
    return {(str(job), int(seq)) for job, seq in rows}
