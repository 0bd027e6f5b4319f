"""The preflight of a spec, asked of another process, so that the dashboard itself never loads a model.

That is the warm worker, which has the libraries loaded; where there is none, a child, `sts plan SPEC --json`. The child
writes to files and not into a pipe, so that it never waits for a reader.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sts_core.errors import UserError
from sts_core.folders import PROJECT
from sts_core.jobs import warm
from sts_core.spec_file import to_toml

COMMAND: tuple[str, ...] = (sys.executable, "-m", "sts_core", "plan")
LONGEST = 180.0
"""Seconds until a plan is given up."""


@dataclass(frozen=True)
class Answer:
    """What the child said."""

    plan: dict[str, Any] | None
    error: UserError | None


_TOO_LONG = Answer(None, UserError("The plan takes too long", "Try again, or run `sts plan` in a terminal."))


class Question(Protocol):
    """A plan that was asked for."""

    def answer(self) -> Answer | None:
        """The answer, or None until it is there."""

    def wait(self, seconds: float) -> Answer:
        """The answer; a UserError in it when there is none after so many seconds."""

    def drop(self) -> None:
        """Nobody waits for it any more."""


def ask(spec: dict[str, Any], prompts: int = 0) -> Question:
    """Ask what a run of this spec would do, and for the exact prompts of so many questions a set."""
    return Live(spec, prompts) if warm.minutes() else Asked(spec, prompts)


class Live:
    """The same question to the warm worker; to a child when there is none to be had."""

    def __init__(self, spec: dict[str, Any], prompts: int) -> None:
        self._spec, self._prompts = spec, prompts
        self._answer: Answer | None = None
        self._thread = threading.Thread(target=self._ask, name="plan", daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            plan = warm.ask("plan", {"spec": self._spec, "prompts": self._prompts}, LONGEST)
            self._answer = Answer(plan, None)
        except warm.Away:
            self._answer = Asked(self._spec, self._prompts).wait(LONGEST)
        except UserError as error:
            self._answer = Answer(None, error)

    def answer(self) -> Answer | None:
        """The answer, or None until it is there."""
        return self._answer

    def wait(self, seconds: float) -> Answer:
        """The answer; a UserError in it when there is none after so many seconds."""
        self._thread.join(seconds)
        return self._answer or _TOO_LONG

    def drop(self) -> None:
        """Nobody waits for it any more; what it finds out is forgotten."""


class Asked:
    """One question under way. `answer()` is None until the child has ended."""

    def __init__(self, spec: dict[str, Any], prompts: int = 0, command: tuple[str, ...] | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sts-plan-"))
        file = self._folder / "spec.toml"
        file.write_text(to_toml(spec), encoding="utf-8")
        more = ["--prompts", str(prompts)] if prompts else []
        with (self._folder / "out").open("wb") as out, (self._folder / "err").open("wb") as err:
            self._process = subprocess.Popen(
                [*(command or COMMAND), str(file), "--json", *more],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=PROJECT,
            )
        # Whoever asked may have left the page: a child nobody asks after would stay as a zombie.
        threading.Thread(target=self._process.wait, name="reap plan", daemon=True).start()
        self._answer: Answer | None = None

    def answer(self) -> Answer | None:
        """The answer, or None while the child works."""
        if self._answer is None and self._process.poll() is not None:
            self._answer = self._read(self._process.returncode)
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._answer

    def wait(self, seconds: float) -> Answer:
        """The answer; a UserError in it when there is none after so many seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.drop()
            return _TOO_LONG
        return self.answer() or Answer(None, UserError("The plan gave no answer", "Try again."))

    def drop(self) -> None:
        """Nobody waits for it any more."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, code: int) -> Answer:
        out, err = (self._text(name) for name in ("out", "err"))
        if code == 0:
            try:
                plan = json.loads(out)
            except json.JSONDecodeError:
                plan = None
            if isinstance(plan, dict):
                return Answer(plan, None)
        return Answer(None, _told(err, code))

    def _text(self, name: str) -> str:
        try:
            return (self._folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def _told(err: str, code: int) -> UserError:
    if (said := refusal(err)) is not None:
        return said
    last = next((line.strip() for line in reversed(err.splitlines()) if line.strip()), f"it ended with code {code}")
    return UserError("The check of these settings failed", f"{last} — `sts doctor` tells what is missing.")


def refusal(err: str) -> UserError | None:
    """What a person must change, as a child's last `error:` and `hint:` lines say it; None where it says none."""
    said = dict.fromkeys(("error", "hint"), "")
    for line in err.splitlines():
        word, colon, text = line.partition(":")
        if colon and word in said:
            said[word] = text.strip()
    return UserError(said["error"], said["hint"]) if said["error"] else None
