"""Starting a job: write its folder, start its worker, let go.

The worker is a process of its own session that reads nothing and prints to a file, so it outlives a closed browser,
a Ctrl-C in the terminal of the dashboard and the dashboard's end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.folders import PROJECT, cache, jobs
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import LOG, advance, create, locked, now
from sts_core.jobs.process import created
from sts_core.jobs.watch import running

WORKER: tuple[str, ...] = ("-m", "sts_core.jobs.worker")
"""What Python is told to run; the job's folder follows."""
HEAVY = frozenset({"run"})
"""Kinds that want the machine for themselves: one of them at a time."""


def start(kind: str, spec: Mapping[str, Any], title: str, options: Mapping[str, Any] | None = None) -> str:
    """Start a job and return its id at once; `options` such as `fresh` are kept beside the spec."""
    with locked(jobs()):  # two starts at once must not both find the machine free
        if kind in HEAVY:
            _refuse_second(kind)
        me = {"pid": os.getpid(), "pid_started": created(os.getpid())}
        order = {"kind": kind, "title": title, "spec": dict(spec), "options": dict(options or {})}
        folder = create(order, {"launcher": me})
        append_event(folder, "created", kind=kind, title=title)
        _spawn(folder)
    return folder.name


def _refuse_second(kind: str) -> None:
    other = running(kind)
    if other is not None:
        raise UserError(
            f"A measurement is already running: {other.title or other.id}",
            f"Wait for it, or cancel it: `sts jobs --cancel {other.id}`.",
        )


def _spawn(folder: Path) -> None:
    # The worker starts in the project's folder: a relative cache path would mean another place there.
    environment = {**os.environ, "STS_CACHE": str(cache().resolve()), "PYTHONUNBUFFERED": "1"}
    try:
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *WORKER, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PROJECT,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        message = f"The worker's process cannot be started: {error.strerror}"
        advance(folder, state="failed", error=message, ended=now())
        raise UserError(message, "Free some memory or processes and start again.") from error
    # The worker writes the same of itself; whoever comes first, they agree.
    advance(folder, pid=process.pid, pid_started=created(process.pid))
    # A dead child stays a zombie until its parent asks after it, and a dashboard lives for days.
    threading.Thread(target=process.wait, name=f"reap {folder.name}", daemon=True).start()
