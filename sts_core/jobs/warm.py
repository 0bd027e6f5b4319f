"""The warm worker, seen from outside: one process a cache that keeps the last model and SAE loaded.

It does light jobs without the seconds that loading costs, and answers live questions ("try a text"). It listens on
the loopback alone, and a note that only its owner may read says where and with which token. Whoever asks starts it
when there is none. Nothing depends on it: when it is gone, busy or of another version of this program, a job gets a
process of its own, and a question starts a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.folders import PROJECT, cache
from sts_core.jobs.folder import locked, read_table
from sts_core.jobs.process import MARK, created, lives, start

WORKER: tuple[str, ...] = ("-m", "sts_core.jobs.warm_worker")
"""What Python is told to run."""
NOTE, LOG, ALIVE = "warm.json", "warm.txt", ".warm.lock"
KINDS = frozenset({"run", "examples", "label"})
"""Jobs it does: analyses that read a model with a SAE."""
LONGEST = 4 * 1024 * 1024
"""Bytes of a question or an answer."""
_MINUTES = 10.0
_COMES = 60.0
"""Seconds a new one may take until it listens: a moment, but on a machine that is busy."""
_SOON = 2.0
"""Seconds one that listens may take to take a job."""
_LOOK_EVERY = 0.05
_starting = threading.Lock()


class Away(UserError):
    """No answer could be had, whatever was asked: it can be had in another way, or a moment later."""


class Warm(NamedTuple):
    """Where it listens, and who it is."""

    pid: int
    pid_started: float
    port: int
    token: str
    code: str
    """Which program it runs: after an update it is another one."""


def minutes() -> float:
    """How long it stays without work, from STS_WARM_MINUTES; 0 means there is none."""
    asked = os.environ.get("STS_WARM_MINUTES", "")
    try:
        found = float(asked) if asked else _MINUTES
    except ValueError:
        found = float("nan")
    if not 0 <= found < float("inf"):
        raise UserError(f"STS_WARM_MINUTES is {asked!r}", "Give a number of minutes; 0 keeps nothing loaded.")
    return found


def find() -> Warm | None:
    """The one of this cache, if it lives and runs this very program."""
    found = _noted()
    return found if found is not None and found.code == code() else None


def _noted() -> Warm | None:
    """The living one of this cache, also an older program's."""
    note = read_table(cache() / NOTE) or {}
    try:
        found = Warm(
            int(note["pid"]), float(note["pid_started"]), int(note["port"]), str(note["token"]), str(note["code"])
        )
    except (KeyError, TypeError, ValueError):
        return None
    return found if lives(found.pid, found.pid_started) else None


def ask(what: str, asked: Mapping[str, Any], patience: float = 180.0) -> dict[str, Any]:
    """Its answer to a question of `measure.requests`; starts one when there is none.

    UserError for what a person must change, and when no answer comes.
    """
    if not minutes():
        raise Away("Nothing is kept loaded here: STS_WARM_MINUTES is 0", "Set it to some minutes, or unset it.")
    answer = _call(begin(), {"ask": what, "of": dict(asked)}, patience)
    if "error" in answer:
        raise UserError(str(answer["error"]), str(answer.get("hint", "")))
    found = answer.get("answer")
    if not isinstance(found, dict):
        raise Away("The process that keeps the model loaded spoke nonsense", f"See {LOG} in the cache folder.")
    return found


def begin() -> Warm:
    """The one that lives, else a new one. Of several that start one at once, one is left."""
    if (found := find()) is not None:
        return found
    with _starting, locked(cache()):  # the cache's own lock, which nobody else holds for long
        if (found := find()) is None:
            deadline = time.monotonic() + _COMES
            _send_home(deadline)
            clean = {name: value for name, value in os.environ.items() if name != MARK}
            try:
                pid = start(WORKER, cache() / LOG, clean)
            except OSError as error:
                raise Away(f"No process can be started: {error.strerror}", "Free some memory.") from error
            while (found := find()) is None and created(pid) is not None and time.monotonic() < deadline:
                time.sleep(_LOOK_EVERY)
    if found is None:
        last = (_tail(cache() / LOG) or ["it left no word"])[-1]
        raise Away(
            f"The process that keeps the model loaded did not start within {_COMES:.0f} s: {last}",
            "The machine may be busy: try again in a moment.",
        )
    return found


def hand_over(folder: Path) -> Warm | None:
    """Let it do a job; None when there is none or it cannot now."""
    found = find()
    if found is None:
        return None
    try:
        return found if _call(found, {"job": str(folder.resolve())}, _SOON).get("taken") is True else None
    except UserError:
        return None


def _send_home(deadline: float) -> None:
    """An older program's makes place for today's; it finishes its job first."""
    while (older := _noted()) is not None and time.monotonic() < deadline:
        with suppress(UserError):
            _call(older, {"leave": True}, _SOON)
        time.sleep(_LOOK_EVERY)


def make_room() -> None:
    """A heavy job begins: it goes home if memory is short, a job of its own done first."""
    if (found := _noted()) is not None:
        with suppress(UserError):
            _call(found, {"room": True}, _SOON)


def send_home() -> None:
    """Let go of what is kept loaded; a job is finished first."""
    if (found := _noted()) is not None:
        with suppress(UserError):
            _call(found, {"leave": True}, _SOON)


def is_warm(pid: int | None) -> bool:
    """Whether this process is the one that stays after its job."""
    found = _noted()
    return found is not None and found.pid == pid


def standing() -> dict[str, Any] | None:
    """What it has loaded, its memory in bytes and the seconds until it goes home; None when there is none."""
    found = find()
    if found is None:
        return None
    try:
        return {**_call(found, {"standing": True}, _SOON), "pid": found.pid}
    except UserError:
        return {"pid": found.pid, "busy": True}


def code() -> str:
    """This program's files as they are now: their names, sizes and times."""
    told = hashlib.sha256()
    for path in sorted((PROJECT / "sts_core").rglob("*.py")):
        stat = path.stat()
        told.update(f"{path.relative_to(PROJECT)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return told.hexdigest()[:16]


def _call(warm: Warm, question: dict[str, Any], patience: float) -> dict[str, Any]:
    """One line there, one line back."""
    line = json.dumps({**question, "token": warm.token}).encode() + b"\n"
    if len(line) > LONGEST:
        raise UserError("The text is too long to be asked about", "Shorten it.")
    try:
        with socket.create_connection(("127.0.0.1", warm.port), timeout=_SOON) as wire:
            wire.settimeout(patience)
            wire.sendall(line)
            with wire.makefile("rb") as back:
                answer = json.loads(back.readline(LONGEST))
    except TimeoutError as error:
        raise Away(f"No answer within {patience:.0f} s", "It may be loading a model; try again.") from error
    except (OSError, ValueError) as error:
        raise Away("The process that keeps the model loaded has gone", "Try again: a new one starts.") from error
    if not isinstance(answer, dict):
        raise Away("The process that keeps the model loaded spoke nonsense", "Try again.")
    return answer


def _tail(log: Path) -> list[str]:
    try:
        return [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
    except OSError:
        return []
