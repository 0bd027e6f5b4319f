"""A worker that tells steps at a pace, with the five numbers a fine-tune tells: it trains nothing.

The job's spec says how many `steps`, and at what `rate` a second.
"""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sts_core.jobs.events import append_event
from sts_core.jobs.folder import RESULT, Job
from sts_core.jobs.process import step_back
from sts_core.jobs.worker import main
from sts_core.progress import Progress, Watcher


def numbers(step: int, steps: int, draw: random.Random) -> dict[str, float]:
    """What a step tells: a loss that falls, and four more."""
    return {
        "step": step, "loss": 0.6 + 1.6 * math.exp(-4 * step / steps) + 0.05 * draw.gauss(0, 1),
        "learning_rate": 2e-4 * (1 - step / (steps + 1)), "grad_norm": 0.8 + draw.random(), "epoch": step / 50,
        "tokens_per_second": 310 + 20 * draw.random(),
    }  # fmt: skip


def tell(job: Job, watch: Watcher) -> str:
    """Tell all steps, each when it is due."""
    steps, rate = int(job.spec["steps"]), float(job.spec["rate"])
    draw, began = random.Random(job.id), time.monotonic()
    for step in range(1, steps + 1):
        append_event(job.folder, "step", **numbers(step, steps, draw))
        watch(Progress("training", step, steps, "steps"))
        threading.Event().wait(max(0.0, began + step / rate - time.monotonic()))
    (job.folder / RESULT).mkdir(exist_ok=True)
    return RESULT


if __name__ == "__main__":
    step_back()
    sys.exit(main(Path(sys.argv[1]), {"sft": tell}))
