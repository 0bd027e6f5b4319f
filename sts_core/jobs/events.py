"""What happened to a job, in order: events.jsonl, one line an event, numbered from 1, only ever added to.

A process that dies while it writes leaves a last line without its end. Readers stop at the last whole line, and the
next writer cuts the torn rest off: it was never an event, nobody has seen it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from sts_core.jobs.folder import locked, now

EVENTS = "events.jsonl"
_BLOCK = 8 * 1024


def append_event(folder: Path, event: str, **details: Any) -> int:
    """Add one event under the folder's lock; returns its number."""
    with locked(folder), open(os.open(folder / EVENTS, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
        end, last = _last_whole(file)
        file.truncate(end)
        file.seek(end)
        line = {"seq": last + 1, "time": now(), "event": event, **details}
        file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return last + 1


def read_events(folder: Path, after: int = 0) -> list[dict[str, Any]]:
    """The whole events numbered above `after`, in order; a damaged line is passed over."""
    try:
        whole, _, _ = (folder / EVENTS).read_bytes().rpartition(b"\n")
    except OSError:
        return []
    found = [event for line in whole.split(b"\n") if (event := _parsed(line)) is not None]
    return [event for event in found if event["seq"] > after]


def _last_whole(file: BinaryIO) -> tuple[int, int]:
    """Where the last whole line ends, and the number of the last event that can be read (0 when there is none)."""
    size = file.seek(0, os.SEEK_END)
    length = _BLOCK
    while True:  # only the file's end is read, unless that holds no event
        start = max(0, size - length)
        file.seek(start)
        tail = file.read(size - start)
        whole = tail[: tail.rfind(b"\n") + 1]
        for line in reversed(whole.split(b"\n")):
            if (event := _parsed(line)) is not None:
                return start + len(whole), event["seq"]
        if start == 0:
            return len(whole), 0
        length *= 4


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    numbered = isinstance(event, dict) and type(event.get("seq")) is int
    return event if numbered else None
