"""A job's folder: what was asked, how it stands, what happened, what it said, what came out.

    spec.json      what was asked; written once
    status.json    how it stands; replaced whole, under the folder's lock, by the worker or by whoever sees it gone
    events.jsonl   what happened, in order (`jobs.events`)
    log.txt        what the worker's process printed
    result/        what came out; believed only when the job is done

A job that has ended stays as it ended: the first final state wins, so a cancel, a crash and a finish may race.

Fine-tunes that ship with the program lie in the same form in the demo's folder (`folders.job` finds either); nothing
is ever written there.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sts_core import folders
from sts_core.errors import UserError
from sts_core.folders import atomic_json, demo_runs, jobs, shows_demo_runs

FORMAT = 1
ACTIVE = frozenset({"waiting", "running"})
ENDED = frozenset({"done", "failed", "cancelled", "dead"})
ID = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{6}")
SPEC, STATUS, LOG, RESULT = "spec.json", "status.json", "log.txt", "result"
ATTEMPT = "---- attempt"
"""How the line begins that parts an attempt's words from those before it in the log."""
_TAIL_BYTES = 64 * 1024
STAGED = ("sft",)
"""Kinds of work that go through stages of different units."""
_TELLING = 0.01
"""Share of a fine-tune's time that must lie behind it before anything is told of the rest: before, it is a guess."""
_FEWEST_LETTERS = 4
"""Of an id, for a job to be meant by them."""


@dataclass(frozen=True)
class Job:
    """A job as its folder tells it at one moment."""

    id: str
    folder: Path
    kind: str = ""
    """What the worker does: `run`."""
    title: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    state: str = "waiting"
    """`waiting`, `running`, `done`, `failed`, `cancelled` or `dead` (its process vanished without a word)."""
    stage: str = ""
    done: float = 0.0
    total: float = 0.0
    """How much the whole work is, in `unit`; 0 while it is not known."""
    unit: str = ""
    rate: float | None = None
    """Units a second over the last few seconds; None while it is not known."""
    seconds_left: float | None = None
    started: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    hint: str = ""
    result: str = ""
    """What came out: a folder inside the job's own, or a key of the store. Empty unless the job is done."""
    pid: int | None = None
    pid_started: float | None = None
    """When the process was created (seconds since 1970): with the PID, the worker's identity."""
    attempt: int = 1
    """How often it was begun: a resumed job goes on in its folder as the next attempt."""
    turn: float = 0.0
    """Its place among those that wait: the lowest comes first."""

    @property
    def active(self) -> bool:
        """It waits or runs."""
        return self.state in ACTIVE

    @property
    def demo(self) -> bool:
        """It ships with the program and can only be read."""
        return in_demo(self.folder)

    @property
    def seconds(self) -> float | None:
        """How long it has run, or ran; None when it never began."""
        if self.started is None:
            return None
        return max(0.0, ((self.ended or datetime.now(UTC)) - self.started).total_seconds())

    @property
    def share(self) -> float | None:
        """How much of the whole work is done, from 0 to 1; None while its size is not known.

        A fine-tune's stages have units of their own, so it is told by its time, as far as that is known.
        """
        if self.kind in STAGED and self.state != "done":
            return self._time_share if self.time_left is not None else None
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else None

    @property
    def time_left(self) -> float | None:
        """Seconds that are left; None until enough of a fine-tune's attempt is done to know how fast it goes."""
        known = self.kind not in STAGED or (self._time_share or 0.0) >= _TELLING
        return self.seconds_left if known else None

    @property
    def _time_share(self) -> float | None:
        left, spent = self.seconds_left, self.seconds
        return None if left is None or not spent else spent / (spent + left)

    def log_tail(self, n: int = 20) -> list[str]:
        """The last n lines its process printed; of a line redrawn in place, what stood there last."""
        try:
            with (self.folder / LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return []
        lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
        return [line for line in lines if line.strip()][-n:] if n > 0 else []


def create(order: Mapping[str, Any], status: Mapping[str, Any]) -> Path:
    """A new job's folder, `waiting` for its turn, for `kind`, `title`, `spec` and `options`; it appears whole."""
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(3)}"
    draft = jobs().resolve() / f".{name}"
    draft.mkdir()
    atomic_json(draft / SPEC, {**order, "format": FORMAT})
    atomic_json(draft / STATUS, {"state": "waiting", "turn": time.time(), **status})
    folder = draft.with_name(name)
    draft.rename(folder)
    return folder


def locate(job_id: str) -> Path:
    """The folder of a job by its id."""
    if not ID.fullmatch(job_id) or not (folder := folders.job(job_id)).is_dir():
        raise UserError(f"There is no job {job_id[:60]!r}", "`sts jobs` lists those there are.")
    return folder


def result_folder(job_id: str) -> Path:
    """Where a job's result lies, or would lie: what came out, whoever made it."""
    return folders.job(job_id) / RESULT


def result_meant(name: str) -> Path | None:
    """The same of the job that a person names by its id or a part of it; None where they name none."""
    job = meant(name)
    return locate(job) / RESULT if ID.fullmatch(job) else None


def in_demo(folder: Path) -> bool:
    """Whether a job's folder is one of those that ship."""
    return folder.parent == demo_runs()


def marked(title: str, job_id: str) -> str:
    """What a list calls a job: those that ship bear a mark."""
    return f"{title} · demo" if in_demo(folders.job(job_id)) else title


def refuse_demo(job: Job, what: str) -> None:
    """UserError when somebody would change a job that ships; `what` cannot be done: `deleted`."""
    if job.demo:
        again = f"Have it done once more, as a job of your own: sts jobs --clone {job.id}"
        raise UserError(f"{job.title or job.id} ships with the demo and cannot be {what}", again)


def meant(text: str) -> str:
    """The id of the one job that a person names by its id, or by the beginning or the end of it."""
    there = names()
    if text in there or len(text) < _FEWEST_LETTERS:
        return text
    found = [name for name in there if name.startswith(text) or name.endswith(text)]
    if len(found) > 1:
        raise UserError(f"{len(found)} jobs are named like {text!r}", f"Type more of it: {found[0]}, {found[1]} …")
    return found[0] if found else text


def names() -> list[str]:
    """The ids of all jobs, those that ship among them, newest first; what is not a job's folder is passed over."""
    return sorted({*own_names(), *demo_names()}, reverse=True)


def own_names() -> list[str]:
    """The ids of this machine's jobs, newest first."""
    return _names(jobs())


def demo_names() -> list[str]:
    """The ids of the jobs that ship and are not this machine's too, newest first."""
    return [name for name in _names(demo_runs()) if in_demo(folders.job(name))] if shows_demo_runs() else []


def shipped_jobs() -> list[Job]:
    """All jobs that ship, also those that are hidden or this machine's too, newest first."""
    return [load(demo_runs() / name) for name in _names(demo_runs())] if demo_runs().is_dir() else []


def _names(place: Path) -> list[str]:
    return sorted((e.name for e in place.iterdir() if ID.fullmatch(e.name) and e.is_dir()), reverse=True)


def read_table(path: Path) -> dict[str, Any] | None:
    """A JSON file's table; None when it is missing, torn or something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def load(folder: Path) -> Job:
    """The job as its files tell it, its process unasked; a damaged folder is a failed job that says why."""
    order, status = read_table(folder / SPEC), read_table(folder / STATUS)
    if order is None:
        return _damaged(folder, {}, f"Its {SPEC} is missing or damaged")
    if status is None:
        return _damaged(folder, order, f"Its {STATUS} is missing or damaged")
    if order.get("format") != FORMAT:
        return _damaged(folder, order, f"Its {SPEC} has format {order.get('format')!r}; this program writes {FORMAT}")
    try:
        return Job(id=folder.name, folder=folder, **_asked(order), **_standing(status))
    except (TypeError, ValueError, OverflowError):
        return _damaged(folder, order, f"Its {STATUS} holds something that is no status")


@contextmanager
def editing(folder: Path) -> Iterator[dict[str, Any]]:
    """The status under the folder's lock; what the caller changes is written when the block ends well.

    A status that says the job has ended is not written again, whatever the caller changes.
    """
    with locked(folder):
        status = read_table(folder / STATUS) or {}
        before = json.dumps(status)
        ended = status.get("state") in ENDED
        yield status
        if not ended and json.dumps(status) != before:
            atomic_json(folder / STATUS, status)


def advance(folder: Path, **changes: Any) -> dict[str, Any]:
    """Merge changes into the status unless the job has ended; the status as it stands afterwards."""
    with editing(folder) as status:
        if status.get("state") not in ENDED:
            status.update(changes)
    return status


def reopen(folder: Path) -> int:
    """Let an ended job wait for its turn once more, its end forgotten; the number of the attempt it then is."""
    with locked(folder):
        status = read_table(folder / STATUS) or {}
        attempt = 1 + (before if type(before := status.get("attempt")) is int else 1)
        kept = {name: status[name] for name in ("stage", "done", "total", "unit") if name in status}
        atomic_json(folder / STATUS, {**kept, "state": "waiting", "turn": time.time(), "attempt": attempt})
    return attempt


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock among all processes and threads; a process that dies lets go of it.

    Whoever writes into a job's folder does so under it, so here ends every way of writing into one that ships.
    """
    if in_demo(folder):
        refuse_demo(load(folder), "changed")
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def now() -> str:
    """This moment as the files write it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _asked(order: Mapping[str, Any]) -> dict[str, Any]:
    tables = {name: value if isinstance(value := order.get(name), dict) else {} for name in ("spec", "options")}
    return {"kind": str(order.get("kind", "")), "title": str(order.get("title", "")), **tables}


def _standing(status: Mapping[str, Any]) -> dict[str, Any]:
    state = status.get("state")
    if state not in ACTIVE | ENDED:
        raise ValueError(f"no state: {state!r}")
    words = {name: str(status.get(name) or "") for name in ("stage", "unit", "error", "hint")}
    amounts = {name: float(status.get(name) or 0) for name in ("done", "total")}
    unsure = {name: _or_none(float, status.get(name)) for name in ("rate", "seconds_left", "pid_started")}
    times = {name: _or_none(_moment, status.get(name)) for name in ("started", "ended")}
    result = str(status.get("result") or "") if state == "done" else ""
    place = {"pid": _or_none(int, status.get("pid")), "turn": float(status.get("turn") or 0)}
    attempt = max(1, int(status.get("attempt") or 1))
    return {"state": state, "result": result, "attempt": attempt, **place, **words, **amounts, **unsure, **times}


def _or_none(kind: Any, value: Any) -> Any:
    return None if value is None else kind(value)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _damaged(folder: Path, order: Mapping[str, Any], reason: str) -> Job:
    hint = "Resume it: it goes on from what it left. Or order it anew."
    return Job(id=folder.name, folder=folder, **_asked(order), state="failed", error=reason, hint=hint)
