"""The room jobs take, and how a job is taken away.

A job is deleted by giving its folder another name first, which happens at once or not at all; then it is emptied. The
empty folder `.gone-<id>` stays until the owner of the database has forgotten the job's rows (`store.ingest`), who also
empties what somebody was killed over.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from sts_core.errors import UserError
from sts_core.folders import jobs
from sts_core.jobs import warm, watch
from sts_core.jobs.folder import ID, LOG, RESULT, locate, locked, own_names, refuse_demo
from sts_core.jobs.process import end_leftovers, lives

CHECKPOINTS = "checkpoints"
_GONE = ".gone-"


class Use(NamedTuple):
    """Bytes of a job's files, or of all jobs'."""

    checkpoints: int = 0
    result: int = 0
    """What came out, without checkpoints."""
    log: int = 0
    record: int = 0
    """What was asked, how it stands, what happened."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def disk_use(job_id: str) -> Use:
    """The room one job takes, by part."""
    return _use(locate(job_id))


def disk_use_of_all() -> Use:
    """The room all jobs of this machine take, by part."""
    each = [_use(jobs() / name) for name in own_names()]
    return Use(*(sum(part) for part in zip(*each, strict=True))) if each else Use()


def last_checkpoint(folder: Path) -> int:
    """The step of the newest whole checkpoint in a job's folder, from which it is gone on with; 0 without one."""
    names = (place.name for place in (folder / RESULT / CHECKPOINTS).glob("step-*"))
    return max((int(step) for name in names if (step := name.removeprefix("step-")).isdecimal()), default=0)


def delete(job_id: str) -> int:
    """Remove an ended job with all its files; how many bytes that was. Its rows go with the next look of the owner."""
    with locked(jobs()):  # nobody resumes it meanwhile
        job = watch.read(job_id)
        name = job.title or job.id
        refuse_demo(job, "deleted")
        if job.active:
            raise UserError(f"{name} has not ended ({job.state})", f"Cancel it first: sts jobs --cancel {job_id}")
        if lives(job.pid, job.pid_started) and not warm.is_warm(job.pid):
            raise UserError(f"The process {job.pid} of {name} is still leaving", "Try again in a moment.")
        end_leftovers(job.id)
        freed = _use(job.folder).total
        gone = job.folder.with_name(f"{_GONE}{job_id}")
        try:
            job.folder.rename(gone)
        except OSError as error:
            raise UserError(f"{job.folder} cannot be removed: {error.strerror}", "Allow it, then try again.") from error
    empty(gone)
    return freed


def deleted() -> list[tuple[str, Path]]:
    """Jobs that were deleted and whose rows may still be in the database: their ids and what is left of them."""
    there = ((entry.name.removeprefix(_GONE), entry) for entry in jobs().glob(f"{_GONE}*"))
    return [(name, entry) for name, entry in there if ID.fullmatch(name)]


def empty(folder: Path) -> None:
    """Remove all that lies in a folder; what refuses stays, and is tried again with the owner's next look."""
    for entry in list(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _use(folder: Path) -> Use:
    checkpoints, result = _bytes(folder / RESULT / CHECKPOINTS), _bytes(folder / RESULT)
    whole, log = _bytes(folder), _bytes(folder / LOG)
    return Use(checkpoints, result - checkpoints, log, max(0, whole - result - log))


def _bytes(place: Path) -> int:
    """Of a file, or of all files in a folder; links are not followed."""
    found = 0
    inside = [Path(at) / name for at, _, names in os.walk(place) for name in names]
    for path in inside or [place]:
        try:
            found += 0 if path.is_dir() and not path.is_symlink() else path.lstat().st_size
        except OSError:  # not there, or it went away while we looked
            continue
    return found
