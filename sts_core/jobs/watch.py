"""Looking at jobs, and ending one.

Whoever looks keeps the books honest: a job that says it runs while its process is gone is written down as dead (or
as cancelled, when that was asked for).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.folders import jobs
from sts_core.jobs import warm
from sts_core.jobs.events import append_event, read_events
from sts_core.jobs.folder import (
    ACTIVE,
    ATTEMPT,
    ENDED,
    STATUS,
    Job,
    editing,
    load,
    locate,
    names,
    now,
    own_names,
    read_table,
    refuse_demo,
)
from sts_core.jobs.process import ask_group, end_leftovers, insist, lives


class Cancelled(NamedTuple):
    """What came of a cancel."""

    job: Job
    """The job as it stands now."""
    message: str
    """What happened, in a sentence."""


def read(job_id: str) -> Job:
    """The job as it truly stands; UserError when there is none of this id."""
    job = load(locate(job_id))
    return job if job.demo else _settled(job)


def newest(kind: str | None = None) -> Job | None:
    """The job started last, of this kind or of any."""
    return next((job for job in _each() if kind in (None, job.kind)), None)


def all_jobs() -> list[Job]:
    """Every job, newest first; a damaged one among them is shown as failed, with the reason."""
    return list(_each())


def active() -> list[Job]:
    """The jobs that wait or run, newest first. Of those that have ended only the status is looked at."""
    return list(_active())


def running(kind: str | None = None) -> Job | None:
    """The newest job that runs or waits, of this kind or of any."""
    return next((job for job in _active() if kind in (None, job.kind)), None)


def cancel(job_id: str, patience: float = 5.0) -> Cancelled:
    """End a job and every process of its group: ask, wait up to `patience` seconds, insist.

    A job that has ended already stays as it is, and the message says so. What it left half-done is not a result.
    """
    job = read(job_id)
    refuse_demo(job, "cancelled")
    if not job.active:
        return Cancelled(job, f"{_named(job)} had already ended ({job.state}); nothing was changed.")
    with editing(job.folder) as status:
        if status.get("state") in ACTIVE:
            status["cancel_asked"] = now()
            if status.get("pid") is None:  # not started yet: the worker will find the order withdrawn
                status.update(state="cancelled", ended=now())
    append_event(job.folder, "cancel asked")
    with editing(job.folder) as status:
        # While we hold the lock its end cannot be written: the signal meets this job and no later one.
        if status.get("state") in ACTIVE and lives(status.get("pid"), status.get("pid_started")):
            ask_group(status["pid"])
    if not _ended_by_force(job.folder, status, patience):
        raise UserError(
            f"{_named(job)} does not end: its process {status['pid']} hangs in the system",
            "Wait for the disk or the device it waits on, then cancel again.",
        )
    now_stands = read(job_id)
    if now_stands.state == "cancelled":
        return Cancelled(now_stands, f"{_named(job)} was cancelled.")
    return Cancelled(now_stands, f"{_named(job)} ended by itself ({now_stands.state}) before it could be cancelled.")


def _ended_by_force(folder: Path, status: Mapping[str, Any], patience: float) -> bool:
    """Whether nothing of the worker's group lives any more. A stranger who got its PID is left alone.

    The warm worker is at its next job once this one has told its end.
    """
    pid = status.get("pid")
    if not isinstance(pid, int) or not lives(pid, status.get("pid_started")):
        return True

    def over() -> bool:
        return warm.is_warm(pid) and (read_table(folder / STATUS) or {}).get("state") in ENDED

    return insist(pid, patience, over)


def _each() -> Iterator[Job]:
    for name in names():
        with suppress(UserError):  # removed by someone while we look
            yield read(name)


def _active() -> Iterator[Job]:
    place = jobs().resolve()
    for name in own_names():
        path = place / name / STATUS
        stamp = _stamp(path)
        if _ended.get(path) == stamp is not None:
            continue
        status = read_table(path) or {}
        if status.get("state") in ACTIVE:
            _ended.pop(path, None)
            with suppress(UserError):
                job = read(name)
                if job.active:
                    yield job
        else:
            _ended[path] = stamp


_ended: dict[Path, tuple[int, ...] | None] = {}
"""The status files that told an end when last looked at, each as it was then: pages ask many times a second."""


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _settled(job: Job) -> Job:
    """The job as it stands; one that claims to be active while nobody is at work on it gets its end written first."""
    if not job.active:
        return _recovered(job) if STATUS in job.error else job
    try:
        with editing(job.folder) as status:
            verdict = {} if status.get("state") in ENDED else _verdict(status, job)
            status.update(verdict)
        if verdict:
            end_leftovers(job.id)  # before anyone takes the place that is free now
            if not _told(job):
                append_event(job.folder, verdict["state"], error=verdict.get("error", ""))
        return load(job.folder)
    except OSError:  # a cache we may only read: tell what we see, write nothing
        verdict = _verdict(read_table(job.folder / STATUS) or {}, job)
        return replace(job, **{name: verdict[name] for name in ("state", "error", "hint") if name in verdict})


def _recovered(job: Job) -> Job:
    """A job whose status is lost, as its events tell that it ended; as it is, when they do not."""
    if read_table(job.folder / STATUS) is not None or not (told := _told(job)):
        return job
    with suppress(OSError), editing(job.folder) as status:
        status.update(told)
    return load(job.folder)


def _verdict(status: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """What to write of an active job that nobody works on; nothing when somebody does, or when it waits its turn."""
    pid = status.get("pid")
    if pid is None or lives(pid, status.get("pid_started")):
        return {}
    end: dict[str, Any] = {"ended": now(), "rate": None, "seconds_left": None}
    if end_told := _told(job):
        return {**end, **end_told}
    if status.get("cancel_asked"):
        return {"state": "cancelled", **end}
    last = [line for line in job.log_tail(1) if not line.startswith(ATTEMPT)]
    told = f"; the last it said: {last[0].strip()[:300]}" if last else ""
    look = "Its log tells what came before. " if last else ""
    hint = f"{look}If memory ran out, lower the token budgets or batches. Then resume it."
    return {"state": "dead", "error": f"Its process {pid} is gone, without a word of why{told}", "hint": hint, **end}


def _told(job: Job) -> dict[str, Any]:
    """The end a worker told as an event before it was killed over writing it down; nothing when it told none."""
    last = (read_events(job.folder) or [{}])[-1]
    if last.get("event") not in ENDED:
        return {}
    words = {name: str(last[name]) for name in ("result", "error", "hint") if last.get(name)}
    return {"state": last["event"], "ended": last.get("time") or now(), **words}


def _named(job: Job) -> str:
    return f'"{job.title}"' if job.title else job.id
