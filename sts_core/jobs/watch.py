"""Looking at jobs, and ending one.

Whoever looks keeps the books honest: a job that says it runs while its process is gone is written down as dead (or
as cancelled, when that was asked for).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import ACTIVE, ENDED, STATUS, Job, editing, load, locate, names, now, read_table
from sts_core.jobs.process import end_group, lives


class Cancelled(NamedTuple):
    """What came of a cancel."""

    job: Job
    """The job as it stands now."""
    message: str
    """What happened, in a sentence."""


def read(job_id: str) -> Job:
    """The job as it truly stands; UserError when there is none of this id."""
    return _settled(load(locate(job_id)))


def newest(kind: str | None = None) -> Job | None:
    """The job started last, of this kind or of any."""
    return next((job for job in _each() if kind in (None, job.kind)), None)


def all_jobs() -> list[Job]:
    """Every job, newest first; a damaged one among them is shown as failed, with the reason."""
    return list(_each())


def running(kind: str | None = None) -> Job | None:
    """The newest job that runs or is about to, of this kind or of any."""
    return next((job for job in _each() if job.active and kind in (None, job.kind)), None)


def cancel(job_id: str, patience: float = 5.0) -> Cancelled:
    """End a job and every process of its group: ask, wait up to `patience` seconds, insist.

    A job that has ended already stays as it is, and the message says so. What it left half-done is not a result.
    """
    job = read(job_id)
    if not job.active:
        return Cancelled(job, f"{_named(job)} had already ended ({job.state}); nothing was changed.")
    with editing(job.folder) as status:
        if status.get("state") in ACTIVE:
            status["cancel_asked"] = now()
            if status.get("pid") is None:  # not started yet: the worker will find the order withdrawn
                status.update(state="cancelled", ended=now())
    append_event(job.folder, "cancel asked")
    if not _ended_by_force(status, patience):
        raise UserError(
            f"{_named(job)} does not end: its process {status['pid']} hangs in the system",
            "Wait for the disk or the device it waits on, then cancel again.",
        )
    now_stands = read(job_id)
    if now_stands.state == "cancelled":
        return Cancelled(now_stands, f"{_named(job)} was cancelled.")
    return Cancelled(now_stands, f"{_named(job)} ended by itself ({now_stands.state}) before it could be cancelled.")


def _ended_by_force(status: Mapping[str, Any], patience: float) -> bool:
    """Whether nothing of the worker's group lives any more. A stranger who got its PID is left alone."""
    pid = status.get("pid")
    if not isinstance(pid, int) or not lives(pid, status.get("pid_started")):
        return True
    return end_group(pid, patience)


def _each() -> Iterator[Job]:
    for name in names():
        with suppress(UserError):  # removed by someone while we look
            yield read(name)


def _settled(job: Job) -> Job:
    """The job as it stands; one that claims to be active while nobody is at work on it gets its end written first."""
    if not job.active:
        return job
    try:
        with editing(job.folder) as status:
            verdict = {} if status.get("state") in ENDED else _verdict(status, job)
            status.update(verdict)
        if verdict:
            append_event(job.folder, verdict["state"], error=verdict.get("error", ""))
        return load(job.folder)
    except OSError:  # a cache we may only read: tell what we see, write nothing
        verdict = _verdict(read_table(job.folder / STATUS) or {}, job)
        return replace(job, **{name: verdict[name] for name in ("state", "error", "hint") if name in verdict})


def _verdict(status: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """What to write of an active job that nobody works on; nothing when somebody does, or when it may wait."""
    worker = status.get("pid"), status.get("pid_started")
    launcher = status.get("launcher")
    if worker[0] is not None:
        at_work = lives(*worker)
    else:  # without a launcher it waits for its turn, and may
        at_work = not isinstance(launcher, dict) or lives(launcher.get("pid"), launcher.get("pid_started"))
    if at_work:
        return {}
    end: dict[str, Any] = {"ended": now(), "rate": None, "seconds_left": None}
    if status.get("cancel_asked"):
        return {"state": "cancelled", **end}
    who = f"Its process {worker[0]} is gone" if worker[0] is not None else "It was never started"
    last = job.log_tail(1)
    told = f"; the last it said: {last[0].strip()[:300]}" if last else ""
    hint = "Its log tells what came before. If memory ran out, lower the token budgets. Then start it again."
    return {"state": "dead", "error": f"{who}, without a word of why{told}", "hint": hint, **end}


def _named(job: Job) -> str:
    return f'"{job.title}"' if job.title else job.id
