"""The real dashboard, but for its workers: `python tests/faults/dashboard.py WORKER.py run app.py …`.

What the server starts when a place is free is a test's worker, with kinds that need no model. All else is as it is.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sts_core.jobs import launch

if __name__ == "__main__":
    launch.WORKER = (str(Path(sys.argv.pop(1)).resolve()),)
    runpy.run_module("pages.parts.start", run_name="__main__", alter_sys=True)
