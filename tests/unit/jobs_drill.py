"""A worker with kinds that need no model: the real process, folder and signals, with nothing to compute.

A drill rings on the FIFO that DRILL_BELL names, so that a test waits for it and never sleeps. None outlives
two minutes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sts_core.errors import UserError
from sts_core.jobs import launch
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import RESULT, Job
from sts_core.jobs.worker import main
from sts_core.progress import Progress, Watcher

DEAF_CHILD = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(120)"


def ring() -> None:
    with open(os.environ["DRILL_BELL"], "w") as bell:
        bell.write("here\n")


def say(words: str) -> None:
    sys.stdout.write(words + "\n")


def linger() -> str:
    ring()
    threading.Event().wait(120)
    return ""


def count(job: Job, watch: Watcher) -> str:
    """Walks its steps, leaves a file, is done."""
    steps = int(job.spec["steps"])
    for step in range(steps + 1):
        watch(Progress("counting" if step <= steps // 2 else "counting on", step, steps, "beans"))
    (job.folder / RESULT).mkdir()
    (job.folder / RESULT / "beans.txt").write_text(str(steps))
    say(f"counted {steps}")
    return RESULT


def wait(job: Job, watch: Watcher) -> str:
    watch(Progress("waiting for the bus", 3, 10, "stops"))
    say("the bus is late")
    (job.folder / RESULT).mkdir()
    (job.folder / RESULT / "half.txt").write_text("half")
    return linger()


def deaf(job: Job, watch: Watcher) -> str:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return wait(job, watch)


def family(job: Job, watch: Watcher) -> str:
    """Has a child that does not listen."""
    child = subprocess.Popen([sys.executable, "-c", DEAF_CHILD], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    (job.folder / "child").write_text(str(child.pid))
    return linger()


def refuse(job: Job, watch: Watcher) -> str:
    raise UserError("There is no soup", "Order the salad.")


def crash(job: Job, watch: Watcher) -> str:
    raise RuntimeError("the pot fell over\nand the soup is gone")


def fork(job: Job, watch: Watcher) -> str:
    """Has a forked child, as data loaders do, and asks it to end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"!")
        threading.Event().wait(120)
        os._exit(0)
    os.read(read, 1)  # a signal that comes while a child is being born is lost on it
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    say(f"ended by {os.WTERMSIG(status)}")
    return ""


def vanish(job: Job, watch: Watcher) -> str:
    say("last words")
    sys.stdout.flush()
    os._exit(9)


def falter(job: Job, watch: Watcher) -> str:
    """Gives up half-way the first time, with a child left behind; the next attempt goes on from there."""
    (job.folder / RESULT).mkdir(exist_ok=True)
    half = job.folder / RESULT / "half.txt"
    append_event(job.folder, "step", step=job.attempt, loss=1 / job.attempt)
    if job.attempt == 1:
        half.write_text("half")
        child = subprocess.Popen([sys.executable, "-c", DEAF_CHILD], stdout=subprocess.PIPE, start_new_session=True)
        assert child.stdout is not None
        child.stdout.readline()
        (job.folder / "child").write_text(str(child.pid))
        say("half done")
        sys.stdout.flush()
        os._exit(9)
    say(f"found {half.read_text()}")
    return RESULT


DRILLS = {f.__name__: f for f in (count, wait, deaf, family, refuse, crash, fork, vanish, falter)}
DRILLS |= {"run": wait, "sft": wait, "sae": count}

if __name__ == "__main__":
    launch.WORKER = (str(Path(__file__).resolve()),)  # the next in line is a drill too
    sys.exit(main(Path(sys.argv[1]), DRILLS))
