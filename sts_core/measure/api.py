"""The Python door: `sts.run(spec)`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from sts_core import folders
from sts_core.folders import results
from sts_core.measure.resolve import resolve
from sts_core.measure.run import run as run_into
from sts_core.progress import Progress, silent
from sts_core.results import Result, shelf
from sts_core.spec import Spec


def run(
    spec: Spec, progress: Callable[[Progress], None] | None = None, out: Path | str | None = None, fresh: bool = False
) -> Result:
    """Measure a spec, or take its result from the store. Without `out` the result lives in the store alone."""
    watch = progress or silent
    if out is not None:
        return run_into(spec, Path(out), watch, fresh)
    key = resolve(spec).key
    stored = shelf.find(key)
    if stored is None or fresh:
        with tempfile.TemporaryDirectory(dir=folders.cache(), prefix=".run-") as draft:
            run_into(spec, Path(draft) / "result", watch, fresh)
        stored = results() / key
    return Result(stored)
