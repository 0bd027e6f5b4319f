"""The process that stays: `python -m sts_core.jobs.warm_worker [FOLDER]` (see `warm`).

The main thread does jobs, one after another, as any worker does (`worker.main`). A second thread answers questions in
between; a decoder lets one of them in at a time. It leaves after its idle minutes, when a heavy job needs the memory,
after a job that did not end well, and when its note is gone.
"""

from __future__ import annotations

import fcntl
import gc
import hmac
import json
import os
import queue
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from sts_core.errors import UserError
from sts_core.folders import atomic_write, cache
from sts_core.jobs import warm, worker
from sts_core.jobs.folder import LOG, STATUS, read_table
from sts_core.jobs.process import MARK, created

Answers = Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]

LOOK_EVERY = 1.0
"""Seconds between two looks whether it should go home."""
FREE_ENOUGH = 0.5
"""A heavy job finds at least this share of the memory free, or this process leaves."""


class Warm:
    """What it does now, and for how long it has had nothing to do."""

    def __init__(self, answers: Callable[[], Answers], kinds: Mapping[str, worker.Kind]) -> None:
        self._answers, self._kinds = answers, kinds
        self._token = secrets.token_urlsafe(32)
        self._jobs: queue.Queue[Path] = queue.Queue()
        self._doing: Path | None = None
        self._used = time.monotonic()
        self._leave = False
        self._minutes = warm.minutes()

    def work(self, first: Path | None) -> int:
        """Until it goes home; the exit status."""
        if first is not None:
            self._jobs.put(first)
        _print_to(cache() / warm.LOG)
        with self._listening():
            while not self._should_go():
                with suppress(queue.Empty):
                    code = self._do(self._jobs.get(timeout=LOOK_EVERY))
                    if code:
                        return code
        return 0

    def _should_go(self) -> bool:
        if not self._jobs.empty():
            return False
        idle = time.monotonic() - self._used > 60 * self._minutes
        return idle or self._leave or (read_table(cache() / warm.NOTE) or {}).get("token") != self._token

    def _do(self, folder: Path) -> int:
        self._doing = folder
        try:
            with _printing_to(folder / LOG), _marked(folder.name):
                return worker.main(folder, self._kinds)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the worker's handlers belong to its job
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._doing, self._used = None, time.monotonic()
            _tidy()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Answer whoever knows the token; the note is there as long as it does."""
        with socket.create_server(("127.0.0.1", 0)) as door:
            note: dict[str, Any] = {
                "pid": os.getpid(),
                "pid_started": created(os.getpid()),
                "port": door.getsockname()[1],
            }
            path = cache() / warm.NOTE
            note |= {"token": self._token, "code": warm.code()}
            atomic_write(path, json.dumps(note), mode=0o600)  # for its owner's eyes alone, from the first byte on
            threading.Thread(target=self._serve, args=(door,), name="answers", daemon=True).start()
            try:
                yield
            finally:
                if (read_table(path) or {}).get("token") == self._token:
                    path.unlink(missing_ok=True)

    def _serve(self, door: socket.socket) -> None:
        while True:
            try:
                wire, _ = door.accept()
            except OSError:  # the door is closed: this process leaves
                return
            with wire, suppress(OSError):  # whoever asked may have gone
                wire.settimeout(5.0)
                with wire.makefile("rb") as there:
                    line = there.readline(warm.LONGEST)
                wire.sendall(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            question = json.loads(line)
        except (ValueError, RecursionError):
            question = None
        if not isinstance(question, dict) or not self._knows(str(question.get("token", ""))):
            return {"error": "This is not for you", "hint": ""}
        if "ask" in question:
            return self._told(str(question["ask"]), question.get("of"))
        if "job" in question:
            return {"taken": self._take(Path(str(question["job"])))}
        if "leave" in question:
            self._leave = True
            return {"leaves": True}
        if "room" in question:
            self._leave = self._leave or _short_of_memory()
            return {"leaves": self._leave}
        return self._standing()

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(errors="replace"), self._token.encode())

    def _told(self, what: str, of: Any) -> dict[str, Any]:
        """The answer to a question about a model; whatever goes wrong, this process stays."""
        answers = self._answers()
        if what not in answers or not isinstance(of, dict):
            return {"error": f"Nobody here knows {what!r}", "hint": f"Known: {', '.join(sorted(answers))}."}
        self._used = time.monotonic()
        try:
            return {"answer": json.loads(json.dumps(answers[what](of)))}  # what is no JSON is told here
        except UserError as error:
            return {"error": error.message, "hint": error.hint}
        except (RuntimeError, MemoryError, ArithmeticError, LookupError, TypeError, ValueError, OSError) as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"[:300], "hint": f"The cache's {warm.LOG} tells more."}
        finally:
            self._used = time.monotonic()

    def _take(self, folder: Path) -> bool:
        """One job at a time, and none after one that did not end well: then this process leaves."""
        doing = self._doing
        free = doing is None or (read_table(doing / STATUS) or {}).get("state") == "done"
        if self._leave or not free or not self._jobs.empty():
            return False
        self._used = time.monotonic()
        self._jobs.put(folder)
        return True

    def _standing(self) -> dict[str, Any]:
        from sts_core.nets import kept

        left = None if self._doing else max(0.0, 60 * self._minutes - (time.monotonic() - self._used))
        memory = psutil.Process().memory_info().rss
        return {"busy": self._doing is not None, "loaded": kept.names(), "bytes": memory, "seconds_left": left}


def main(
    arguments: list[str],
    answers: Callable[[], Answers] | None = None,
    kinds: Mapping[str, worker.Kind] = worker.KINDS,
) -> int:
    """Be the warm worker of this cache, unless there is one: then only the job is done, as any worker does it."""
    from sts_core.nets import kept

    first = Path(arguments[0]) if arguments else None
    with (cache() / warm.ALIVE).open("a") as held:
        if not warm.minutes() or not _alone(held.fileno()):
            if first is None:
                return 0
            with _marked(first.name):
                return worker.main(first, kinds)
        kept.keep()
        return Warm(answers or _model_answers, kinds).work(first)


def _model_answers() -> Answers:
    from sts_core.measure.requests import ANSWERS  # brings the model's libraries

    return ANSWERS


def _alone(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """What this process prints, its libraries included, goes to a job's log."""
    _print_to(log)
    try:
        yield
    finally:
        _print_to(cache() / warm.LOG)


def _print_to(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


@contextmanager
def _marked(job: str) -> Iterator[None]:
    """Children that the job leaves behind are known by its mark."""
    os.environ[MARK] = job
    try:
        yield
    finally:
        os.environ.pop(MARK, None)


def _tidy() -> None:
    """Give back what the job needed beyond what is kept."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _short_of_memory() -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        free, total = torch.cuda.mem_get_info()
        if free < FREE_ENOUGH * total:
            return True
    memory = psutil.virtual_memory()
    return bool(memory.available < FREE_ENOUGH * memory.total)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
