"""Starting jobs: write the order, let the first in line begin, let go.

A job begins when its place is free (`queue`). Whoever sees a free place starts the next one: the worker that ends, a
command, the dashboard. All do it under one lock, so exactly one of them does; where a starter was killed half-way,
the next one starts the job again, and of two workers of one job the second leaves at once (`worker.Record.begin`).

A worker is a process of its own session that reads nothing and prints to a file, so it outlives a closed browser,
a Ctrl-C in the terminal of the dashboard and the dashboard's end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.folders import disk_trouble, jobs
from sts_core.jobs import queue, warm, watch
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import (
    ATTEMPT,
    LOG,
    Job,
    advance,
    create,
    editing,
    load,
    locate,
    locked,
    now,
    refuse_demo,
    reopen,
)
from sts_core.jobs.process import MARK, created, end_leftovers, lives
from sts_core.jobs.process import start as start_process

WORKER: tuple[str, ...] = ("-m", "sts_core.jobs.worker")
"""What Python is told to run; the job's folder follows."""
_GOING = 5.0
"""Seconds a resume waits for the process of the last attempt, which may be about to leave."""
_LOOK_EVERY = 0.05


def start(kind: str, spec: Mapping[str, Any], title: str, options: Mapping[str, Any] | None = None) -> str:
    """Order a job and return its id at once. It begins now, or waits until its place is free.

    `options` are kept beside the spec: `fresh`, or `device`, which tells the place it needs.
    """
    order = {"kind": kind, "title": title, "spec": dict(spec), "options": dict(options or {})}
    with _telling(), locked(jobs()):  # nobody starts it before its first event is written
        folder = create(order, {})
        append_event(folder, "created", kind=kind, title=title)
        _start_due(None)
    _refuse_if_not_started(folder)
    return folder.name


def resume(job_id: str) -> Job:
    """Let a job that failed, vanished or was cancelled go on in its own folder; as it stands then."""
    with _telling(), locked(jobs()):
        job = watch.read(job_id)
        _refuse_resume(job)
        attempt = reopen(job.folder)
        with (job.folder / LOG).open("ab") as log:
            log.write(f"\n{ATTEMPT} {attempt}, {now()} ----\n".encode())
        append_event(job.folder, "resumed", attempt=attempt)
        _start_due(None)
    _refuse_if_not_started(job.folder)
    return watch.read(job_id)


def clone(
    job_id: str, changes: Mapping[str, Any] | None = None, title: str = "", options: Mapping[str, Any] | None = None
) -> str:
    """Order a new job of the same kind and spec; its id. In `changes` a table is merged, other values are replaced."""
    job = load(locate(job_id))
    if not job.kind:
        raise UserError(f"What {job_id} was asked for cannot be read", "Order a new job instead.")
    asked = {**job.options, **(options or {}), "clone_of": job_id}
    return start(job.kind, _merged(job.spec, changes or {}), title or job.title, asked)


def start_waiting(environment: Mapping[str, str] | None = None) -> list[str]:
    """Start the first in line of every free place; the ids of those started. Cheap while nobody waits."""
    if not queue.due(watch.active()):
        return []
    try:
        with locked(jobs()):
            return _start_due(environment)
    except PermissionError:  # a cache we may only read: its owner starts what waits
        return []


def _start_due(environment: Mapping[str, str] | None) -> list[str]:
    """The same, with the lock held. What cannot be started is a failed job and takes no place; then it is the next's
    turn."""
    started = []
    while due := queue.due(watch.active()):
        for job in due:
            if _begin(job, os.environ if environment is None else environment):
                started.append(job.id)
    return started


def _begin(job: Job, environment: Mapping[str, str]) -> bool:
    """Give a job a process: the warm one if it does such jobs and is free, else one of its own."""
    if job.kind in queue.HEAVY:
        warm.make_room()
    stays = job.kind in warm.KINDS and warm.minutes() > 0
    if stays and (taken := warm.hand_over(job.folder)) is not None:
        _note_process(job.folder, taken.pid)
        return True
    stays = stays and warm.find() is None
    # What a worker leaves behind is known by its mark; one that stays gives it to its children alone.
    marked = {name: value for name, value in environment.items() if name != MARK} | ({} if stays else {MARK: job.id})
    program = warm.WORKER if stays else WORKER
    try:
        _note_process(job.folder, start_process([*program, str(job.folder.resolve())], job.folder / LOG, marked))
    except OSError as error:
        message = f"The worker's process cannot be started: {error.strerror}"
        hint = "Free some memory or processes and resume it."
        advance(job.folder, state="failed", error=message, hint=hint, ended=now())
        append_event(job.folder, "failed", error=message)
        return False
    return True


def _note_process(folder: Path, pid: int) -> None:
    with editing(folder) as status:
        if status.get("pid") is None:  # the worker writes the same of itself; whoever comes first, they agree
            status.update(pid=pid, pid_started=created(pid))


@contextmanager
def _telling() -> Iterator[None]:
    """What the disk refuses, in a person's words."""
    try:
        yield
    except OSError as error:
        raise disk_trouble(jobs(), error) from error


def _refuse_if_not_started(folder: Path) -> None:
    job = load(folder)
    if job.state == "failed" and job.pid is None:
        raise UserError(job.error, job.hint)


def _refuse_resume(job: Job) -> None:
    name = job.title or job.id
    refuse_demo(job, "resumed")
    if job.active:
        there = "It goes on by itself." if job.state == "running" else "It begins by itself when its turn comes."
        raise UserError(f"{name} has not ended ({job.state}); there is nothing to resume", there)
    if job.state == "done":
        again = f"Have it done once more: sts jobs --clone {job.id}"
        raise UserError(f"{name} is done; there is nothing to resume", again)
    if not job.kind:
        raise UserError(f"What {name} was asked for cannot be read", "Order a new job instead.")
    deadline = time.monotonic() + _GOING
    while lives(job.pid, job.pid_started) and not warm.is_warm(job.pid):  # it has told its end, and may be leaving
        if time.monotonic() >= deadline:
            raise UserError(f"The process {job.pid} of {name} is still leaving", "Try again in a moment.")
        time.sleep(_LOOK_EVERY)
    end_leftovers(job.id)


def _merged(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(spec)
    for name, value in changes.items():
        there = merged.get(name)
        nested = isinstance(value, Mapping) and isinstance(there, Mapping)
        merged[name] = _merged(there or {}, value) if nested else value
    return merged
