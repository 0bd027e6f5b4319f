"""Three workers tell a hundred events a second each, taken in while pages ask: none lost, nobody kept waiting."""

from __future__ import annotations

import time
from typing import NamedTuple

from sts_core.jobs import watch
from sts_core.jobs.events import read_events
from sts_core.jobs.folder import ENDED
from sts_core.store import keeper, queries
from sts_core.store.reading import read
from tests.faults.world import World, pause, sound

RATE, WORKERS = 100, 3


class Streamed(NamedTuple):
    """What came of it."""

    events: int
    seconds: float
    """From the first to the last event told."""
    slowest: float
    """Seconds the slowest but five in a hundred of the questions took."""
    behind: float
    """Seconds until all was in after the last worker had ended."""


def stream(world: World, seconds: float) -> Streamed:
    """Let them tell for so long; all must be in the database at the end."""
    assert keeper.keep().owns
    try:
        steps = round(seconds * RATE)
        jobs = [world.order("sft", steps, RATE, f"worker {i}", device=f"cuda:{i}") for i in range(WORKERS)]
        began = time.monotonic()
        asked: list[float] = []
        while any(watch.read(job).state not in ENDED for job in jobs):
            asked.append(_ask())
            pause(0.1)
        ended = time.monotonic()
        told = sum(len(read_events(watch.read(job).folder)) for job in jobs)
        while _count() < told and time.monotonic() < ended + 60:
            pause(0.02)
        behind = time.monotonic() - ended
        sound(*jobs)
        return Streamed(told, ended - began, sorted(asked)[int(0.95 * len(asked))], behind)
    finally:
        keeper.let_go()


def _ask() -> float:
    """What drawing the Jobs page asks of the database, in seconds."""
    began = time.perf_counter()
    with read() as view:
        queries.runs(view.connection)
        queries.jobs(view.connection)
    return time.perf_counter() - began


def _count() -> int:
    with read() as view:
        row = view.connection.execute("select count(*) from events").fetchone()
    return int(row[0]) if row else 0
