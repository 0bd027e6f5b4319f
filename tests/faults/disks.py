"""A disk that is too small, and one that is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sts_core.jobs import watch


class CannotRun(Exception):
    """This machine does not allow what the fault needs."""


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[None]:
    """A disk of this size mounted there; `CannotRun` where one may not mount."""
    options = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    try:
        subprocess.run(options, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotRun("a small disk cannot be mounted here (that needs root on Linux)") from error
    try:
        yield
    finally:
        for job in watch.active():
            watch.cancel(job.id, patience=0)
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def filled(place: Path, leave: int = 0) -> Iterator[None]:
    """The disk has no byte left, or but so many."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for piece in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * piece):
                    pass
            except OSError:
                continue
        file.truncate(max(0, file.tell() - leave))
    try:
        yield
    finally:
        filler.unlink()
