"""The process that does a job: `python -m sts_core.jobs.worker FOLDER`.

It reads what was asked, does it, and tells how it goes in the folder. Whatever happens, the status says how it ended:
done, failed (with what a person can do), cancelled. Only a killed process leaves that to whoever looks next.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sts_core.errors import UserError, nearest
from sts_core.jobs.events import append_event, read_events
from sts_core.jobs.folder import ENDED, RESULT, STATUS, Job, advance, editing, load, now, read_table
from sts_core.jobs.launch import start_waiting
from sts_core.jobs.pace import Pace
from sts_core.jobs.process import created, lives, step_back
from sts_core.progress import Progress, Watcher
from sts_core.results.folder import Result
from sts_core.spec import Spec
from sts_core.spec_checks import known_keys, whole

WRITE_EVERY = 0.2
"""Seconds between two writings of the status: each costs an fsync, and no eye follows faster."""

Kind = Callable[[Job, Watcher], str]
"""Does a job of its kind; returns what came out: a folder inside the job's, or a key of the store."""


class Stopped(BaseException):
    """Someone asked the job to end. No `Exception`, so that no work swallows it on its way out."""


def measure(job: Job, watch: Watcher) -> str:
    """`run`: the measurement of METHOD 3 and 4."""
    from sts_core.measure.run import run  # brings the model's libraries, so only once it is needed

    fresh = bool(job.options.get("fresh", False)) and job.attempt == 1  # a later attempt goes on with the first one's
    run(Spec.from_dict(job.spec), out=job.folder / RESULT, watch=watch, fresh=fresh)
    return RESULT


def fine_tune(job: Job, watch: Watcher) -> str:
    """`sft`: a supervised fine-tune. What it does over again after a kill is not told twice."""
    from sts_core.train.sft.run import run_sft
    from sts_core.train.sft.spec import SftSpec

    def what(event: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(event.get(name) for name in ("event", "step", "phase", "domain", "metric"))

    told = {what(event) for event in read_events(job.folder)}

    def tell(event: str, details: dict[str, Any]) -> None:
        if what({"event": event, **details}) not in told or event == "continued":
            append_event(job.folder, event, **details)
        if event == "checkpoint damaged":
            start = f"step {details['goes_on_from']:,}" if details["goes_on_from"] else "the first step"
            told_now = f"The checkpoint of step {details['at']:,} is damaged and was set aside ({details['why']})"
            sys.stderr.write(f"{told_now}; the run goes on from {start}.\n")

    run_sft(SftSpec.from_dict(job.spec), job.folder / RESULT, watch, tell)
    return RESULT


def evaluate(job: Job, watch: Watcher) -> str:
    """`eval`: a model before and after a fine-tune (METHOD 6)."""
    from sts_core.train.evaluation.running import run_evaluation
    from sts_core.train.evaluation.spec import EvalSpec

    tell = partial(append_event, job.folder)
    run_evaluation(EvalSpec.from_dict(job.spec), job.folder / RESULT, watch, tell)
    return RESULT


def know(job: Job, watch: Watcher) -> str:
    """`examples`: where the features of a result fire, what they write, and what they are called."""
    from sts_core.judge.know import know_features

    known_keys(job.spec, ("result", "runs", "k"), "the order")
    fresh = bool(job.options.get("fresh", False)) and job.attempt == 1
    result, runs, k = Path(str(job.spec.get("result", ""))), job.spec.get("runs"), job.spec.get("k", 10)
    whole("k", k, least=1)
    know_features(result, runs, k, watch, fresh)
    return str(Result(result).manifest["key"])


def label(job: Job, watch: Watcher) -> str:
    """`label`: features of a result are named by a judge (METHOD 10)."""
    from sts_core.judge.order import LabelOrder, label_result

    done = label_result(LabelOrder.from_dict(job.spec), watch)
    append_event(job.folder, "labelled", judge=done.judge, warnings=done.warnings, **done.counts.public())
    return str(Result(Path(str(job.spec["result"]))).manifest["key"])


def mix(job: Job, watch: Watcher) -> str:
    """`mix`: training rows drawn from domains by their scores (METHOD 12)."""
    from sts_core.train.mixture.run import run_mixture
    from sts_core.train.mixture.spec import MixtureSpec

    def tell(event: str, details: dict[str, Any]) -> None:
        append_event(job.folder, event, **details)

    run_mixture(MixtureSpec.from_dict(job.spec), job.folder / RESULT, watch, tell)
    return RESULT


def sweep(job: Job, watch: Watcher) -> str:
    """`sweep`: one measurement over many settings (METHOD 4 and 6). A point done before a kill is not told twice."""
    from sts_core.measure.sweep.run import run_sweep
    from sts_core.measure.sweep.spec import SweepSpec

    known = {event.get("key") for event in read_events(job.folder) if event["event"] == "point"}

    def tell(event: str, details: dict[str, Any]) -> None:
        if event != "point" or details["key"] not in known:
            append_event(job.folder, event, **details)

    run_sweep(SweepSpec.from_dict(job.spec), job.folder / RESULT, watch, tell)
    return RESULT


def measure_baselines(job: Job, watch: Watcher) -> str:
    """`baselines`: those of METHOD 6 that need a model."""
    from sts_core.train.baselines.order import BaselinesOrder
    from sts_core.train.baselines.run import measure_baselines as measure_them

    def tell(event: str, details: dict[str, Any]) -> None:
        append_event(job.folder, event, **details)

    fresh = bool(job.options.get("fresh", False)) and job.attempt == 1
    measure_them(BaselinesOrder.from_dict(job.spec), watch, tell, fresh)
    return str(Result(Path(str(job.spec["result"]))).manifest["key"])


KINDS: dict[str, Kind] = {
    "baselines": measure_baselines,
    "mix": mix,
    "run": measure,
    "sft": fine_tune,
    "eval": evaluate,
    "examples": know,
    "label": label,
    "sweep": sweep,
}


class Record:
    """The worker's hand on its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._me: dict[str, Any] = {"state": "running", "started": now(), "pid": os.getpid()}
        self._me["pid_started"] = created(os.getpid())
        self._pace = Pace()
        self._last: Progress | None = None
        self._written = float("-inf")
        self._stopped = False

    def begin(self) -> bool:
        """Say that the work runs now; False when the order was withdrawn, or another process is at it already."""
        with editing(self.folder) as status:
            other = status.get("pid")
            taken = other != os.getpid() and lives(other, status.get("pid_started"))
            if taken or status.get("state") in ENDED:
                return False
            status.update(self._me)
        append_event(self.folder, "started", pid=os.getpid(), attempt=int(status.get("attempt") or 1))
        return True

    def watch(self, step: Progress) -> None:
        """Write how far the work is: each new stage at once, steps within one at most five times a second."""
        at = time.monotonic()
        rate, left = self._pace.see(step, at)
        new_stage = self._last is None or step.stage != self._last.stage
        self._last = step
        if self._stopped:  # the exception of the handler can get lost, in a destructor for one
            raise Stopped
        if not new_stage and at - self._written < WRITE_EVERY:
            return
        self._written = at
        # Who runs this is written along: a status that was damaged is whole again after one step.
        stands = advance(self.folder, **self._me, **step._asdict(), rate=rate, seconds_left=left, updated=now())
        if stands.get("state") in ENDED:  # told dead or cancelled by someone: nobody would see the rest
            raise Stopped
        if new_stage:
            append_event(self.folder, "stage", stage=step.stage, done=step.done, total=step.total, unit=step.unit)

    def stop(self, *_: object) -> None:
        """The signal's handler: leave the work wherever it is."""
        if os.getpid() != self._me["pid"]:  # a forked child has the handler, but not the job
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        self._stopped = True
        raise Stopped

    def end(self, state: str, **told: Any) -> None:
        """Write how it ended, unless that is written already."""
        if (read_table(self.folder / STATUS) or {}).get("state") in ENDED:
            return
        # The event first: whoever finds a process killed between the two completes the status from it.
        with suppress(OSError):
            append_event(self.folder, state, **told)
        last = self._last._asdict() if self._last else {}
        closed = {"state": state, "ended": now(), "rate": None, "seconds_left": None}
        advance(self.folder, **self._me | last | closed | told)


def main(folder: Path, kinds: Mapping[str, Kind] = KINDS) -> int:
    """Do the job of this folder, then start whoever waits for its place; the process's exit status."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # what libraries plan is no news of a job
    environment = dict(os.environ)  # as it is now: libraries change theirs, which is no matter of the next job
    try:
        return _do(folder, kinds)
    finally:
        _deaf()
        try:
            start_waiting(environment)
        except (UserError, OSError) as error:
            sys.stderr.write(f"the next job was not started: {error}\n")


def _do(folder: Path, kinds: Mapping[str, Kind]) -> int:
    record = Record(folder)
    signal.signal(signal.SIGTERM, record.stop)
    signal.signal(signal.SIGINT, record.stop)
    try:
        if not record.begin():
            return 1
        job = load(folder)
        if not job.active:  # its folder was damaged before it began
            raise UserError(job.error, job.hint)
        record.end("done", result=_kind(job, kinds)(job, record.watch))
    except UserError as error:
        _deaf()
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        record.end("failed", error=error.message, hint=error.hint)
        return 2
    except Stopped:
        _deaf()
        record.end("cancelled")
        return 128 + signal.SIGTERM
    except BaseException as error:  # the outermost edge: tell it in one line, leave the traceback to the log
        _deaf()
        record.end("failed", error=_one_line(error), hint="The end of its log tells where it happened.")
        raise
    return 0


def _kind(job: Job, kinds: Mapping[str, Kind]) -> Kind:
    if job.kind not in kinds:
        guess = nearest(job.kind, kinds)
        raise UserError(f"There is no job of kind {job.kind!r}{guess}", f"Known: {', '.join(kinds)}.")
    return kinds[job.kind]


def _deaf() -> None:
    """From here on only the last words are written; a second request to end must not cut them off."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _one_line(error: BaseException) -> str:
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0][:300]}" if words else type(error).__name__


if __name__ == "__main__":
    step_back()
    sys.exit(main(Path(sys.argv[1])))
