"""Who works and who waits: on every device one heavy job and one light one at a time, the others in a line.

The order is by each job's `turn`, which a person can change. Nothing here starts a process: `launch.start_waiting`
asks who is due, under the lock of the folder of all jobs.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from sts_core.errors import UserError
from sts_core.folders import jobs
from sts_core.jobs import watch
from sts_core.jobs.folder import Job, advance, locked

HEAVY = frozenset({"sft", "rl", "sweep", "sae"})
"""Kinds that train; all others are light: an analysis of a page is not kept waiting by a training of hours."""
Way = Literal["first", "up", "down"]


class Line(NamedTuple):
    """One place on one device: who has it, and who waits for it."""

    device: str
    heavy: bool
    working: tuple[Job, ...]
    """At most one, unless somebody started jobs past the queue."""
    waiting: tuple[Job, ...]
    """The next one first."""


def lines(active: Iterable[Job] | None = None) -> list[Line]:
    """Every place that somebody has or waits for; `active` spares looking at the folders once more."""
    places: dict[tuple[str, bool], list[Job]] = {}
    for job in watch.active() if active is None else active:
        places.setdefault((device(job), job.kind in HEAVY), []).append(job)
    return [
        Line(
            *place,
            working=tuple(job for job in there if not in_line(job)),
            waiting=tuple(sorted(filter(in_line, there), key=lambda job: (job.turn, job.id))),
        )
        for place, there in sorted(places.items(), key=lambda entry: (entry[0][0], not entry[0][1]))
    ]


def in_line(job: Job) -> bool:
    """It waits, and no process was started for it yet."""
    return job.state == "waiting" and job.pid is None


def due(active: Iterable[Job]) -> list[Job]:
    """Those to start now: the first in line of every place that is free."""
    return [line.waiting[0] for line in lines(active) if line.waiting and not line.working]


def waits_for(job: Job, active: Iterable[Job] | None = None) -> Job | None:
    """The job right before this one: the one ahead in line, or the one that has the place; None when it need not wait.

    A job that is about to be started waits for nobody.
    """
    for line in lines(active):
        ids = [other.id for other in line.waiting]
        if job.id in ids:
            ahead = [*line.working, *line.waiting[: ids.index(job.id)]]
            return ahead[-1] if ahead else None
    return None


def move(job_id: str, way: Way) -> None:
    """Put a waiting job first in its line, or one place up or down; at the end of the line nothing changes."""
    with locked(jobs()):
        job = watch.read(job_id)
        line = next((line for line in lines() if job_id in [other.id for other in line.waiting]), None)
        if line is None:
            raise UserError(f"{job.title or job.id} does not wait ({job.state})", "Only what waits can be moved.")
        order = [other for other in line.waiting if other.id != job_id]
        before = [other.id for other in line.waiting].index(job_id)
        at = {"first": 0, "up": max(0, before - 1), "down": min(len(order), before + 1)}[way]
        order.insert(at, job)
        turns = sorted(other.turn for other in line.waiting)
        if len(set(turns)) < len(turns):  # equal turns cannot be told apart: all are given new ones
            turns = [time.time() - len(turns) + i for i in range(len(turns))]
        for other, turn in zip(order, turns, strict=True):
            if other.turn != turn:
                advance(other.folder, turn=turn)


def device(job: Job) -> str:
    """The device a job was ordered for, told without loading a model's libraries; `auto` is the first one here."""
    run = job.spec.get("run")
    asked = (job.options.get("device"), job.spec.get("device"), run.get("device") if isinstance(run, dict) else None)
    name = next((text for text in asked if isinstance(text, str) and text), "auto")
    if name != "auto":
        return "cuda:0" if name == "cuda" else name
    if Path("/dev/nvidia0").exists():
        return "cuda:0"
    return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"
