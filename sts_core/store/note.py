"""A person's note on a job. It lies in the job's folder, so that the database can always be made anew without loss."""

from __future__ import annotations

from pathlib import Path

from sts_core.errors import UserError
from sts_core.folders import atomic_write
from sts_core.jobs.folder import load, locate, refuse_demo

NOTE = "note.txt"
LONGEST = 10_000
"""Characters."""


def write_note(job: str, text: str) -> None:
    """Put this note in place of the one before; the job's row has it after the next pass."""
    if len(text) > LONGEST:
        raise UserError(f"A note of {len(text)} characters is too long", f"Keep it to {LONGEST}.")
    folder = locate(job)
    refuse_demo(load(folder), "noted on")
    atomic_write(folder / NOTE, text.encode("utf-8", "replace"))


def read_note(folder: Path) -> str:
    """The note in a job's folder; empty when there is none."""
    try:
        with (folder / NOTE).open("rb") as file:
            return file.read(4 * LONGEST).decode("utf-8", "replace")[:LONGEST]
    except OSError:
        return ""
