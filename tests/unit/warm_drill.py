"""A warm worker without models: its jobs are drills, chosen by the spec's `drill`, and its answers an echo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sts_core.errors import UserError
from sts_core.jobs import launch, warm, worker
from sts_core.jobs.folder import Job
from sts_core.jobs.warm_worker import main
from sts_core.progress import Watcher
from tests.unit.jobs_drill import DRILLS

PLAIN = "plain"
"""Asks for a worker that leaves after its job."""


def run(job: Job, watch: Watcher) -> str:
    return DRILLS[str(job.spec["drill"])](job, watch)


def refuse(_: dict[str, Any]) -> dict[str, Any]:
    raise UserError("There is no soup", "Order the salad.")


def break_down(_: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("the pot fell over")


ANSWERS = {"echo": lambda of: of, "refuse": refuse, "break": break_down}

if __name__ == "__main__":
    me = str(Path(__file__).resolve())
    launch.WORKER, warm.WORKER = (me, PLAIN), (me,)
    kinds = {**DRILLS, "run": run}
    if sys.argv[1:2] == [PLAIN]:
        sys.exit(worker.main(Path(sys.argv[2]), kinds))
    sys.exit(main(sys.argv[1:], lambda: ANSWERS, kinds))
