"""A worker with kinds that take steps at a pace, tell each as an event, and go on after the last one told.

steps    how many; the result is a number that depends on every one of them
rate     a second
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sts_core.jobs import launch, warm, warm_worker
from sts_core.jobs.events import append_event, read_events
from sts_core.jobs.folder import RESULT, Job
from sts_core.jobs.worker import main
from sts_core.progress import Progress, Watcher


def loss(step: int, before: float) -> float:
    """The next loss, which remembers all before it."""
    return 0.9 * before + 1 / step


def train(job: Job, watch: Watcher) -> str:
    """Take the steps that are left."""
    steps, rate = int(job.spec["steps"]), float(job.spec["rate"])
    told = [event for event in read_events(job.folder) if event["event"] == "step"]
    value, first = (told[-1]["loss"], told[-1]["step"] + 1) if told else (10.0, 1)
    began = time.monotonic()
    for step in range(first, steps + 1):
        value = loss(step, value)
        append_event(job.folder, "step", step=step, loss=value)
        watch(Progress("training", step, steps, "steps"))
        threading.Event().wait(max(0.0, began + (step - first + 1) / rate - time.monotonic()))
    (job.folder / RESULT).mkdir(exist_ok=True)
    (job.folder / RESULT / "loss.txt").write_text(repr(value))
    return RESULT


STAYS = "stays"
"""Asks for the worker that stays after its job."""

if __name__ == "__main__":
    me, kinds = str(Path(__file__).resolve()), {"sft": train, "run": train}
    launch.WORKER, warm.WORKER = (me,), (me, STAYS)  # the next in line is one of these too
    if sys.argv[1] == STAYS:
        sys.exit(warm_worker.main(sys.argv[2:], dict, kinds))
    sys.exit(main(Path(sys.argv[1]), kinds))
