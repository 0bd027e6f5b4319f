"""The disk is full as a real fine-tune writes a checkpoint: the one before stays, and the run goes on from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sts_core.folders import cache
from sts_core.jobs import launch, watch
from sts_core.jobs.events import read_events
from sts_core.jobs.folder import Job
from sts_core.jobs.process import lives
from tests.faults.disks import filled, small_disk
from tests.faults.world import World, ended, step_of, until

STEPS, EVERY = 40, 8


def disk_full_for_a_checkpoint(world: World) -> None:
    """Room for events and status, none for a checkpoint; when there is room again the run is resumed."""
    from tests import tiny

    tiny.save_model(world.folder / "tiny-llama", "llama", "chatml")
    tiny.write_rows(world.folder / "rows.jsonl", tiny.rows(60, seed=1))
    spec = _spec(world.folder)
    with _real_worker(), small_disk(cache(), 32):
        job = launch.start("sft", spec, "no room")
        until(lambda: step_of(job) > EVERY, "a checkpoint is there")
        with filled(cache(), leave=1 << 18):
            at_work = watch.read(job)
            until(lambda: not lives(at_work.pid, at_work.pid_started), "the worker ends")
            stopped = watch.read(job)
            assert stopped.state == "failed", (stopped.state, stopped.log_tail())
            assert "cannot be written" in stopped.error
            assert "Free some space" in stopped.hint
            kept = sorted(path.name for path in (stopped.folder / "result" / "checkpoints").glob("step-*"))
            assert kept, "the last good checkpoint is kept"
            assert not list((stopped.folder / "result" / "checkpoints").glob(".*.part"))
        launch.resume(job)
        (gone_on,) = ended(job)
        losses = _losses(gone_on)
    with _real_worker():
        (whole,) = ended(launch.start("sft", spec, "room enough"))
    assert list(losses) == list(range(1, STEPS + 1))
    assert losses == pytest.approx(_losses(whole), rel=0, abs=1e-6)


def _spec(folder: Path) -> dict[str, Any]:
    return {
        "model": str(folder / "tiny-llama"), "learning_rate": 0.01, "steps": STEPS, "batch": 4, "method": "full",
        "device": "cpu", "dtype": "float32", "checkpoint_every": EVERY, "evaluate": {"target_rows": 0},
        "target": {"data": str(folder / "rows.jsonl"), "answer": "cot"},
    }  # fmt: skip


def _losses(job: Job) -> dict[int, float]:
    told = [event for event in read_events(job.folder) if event["event"] == "step"]
    assert len({event["step"] for event in told}) == len(told), "a step is told twice"
    return {event["step"]: event["loss"] for event in told}


@contextmanager
def _real_worker() -> Iterator[None]:
    drill, launch.WORKER = launch.WORKER, ("-m", "sts_core.jobs.worker")
    try:
        yield
    finally:
        launch.WORKER = drill
