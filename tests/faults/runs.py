"""What is done to jobs and dashboards, each by a function that leaves a world of which `sound` must hold."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import duckdb

from sts_core.errors import UserError
from sts_core.folders import cache, ensure
from sts_core.jobs import launch, queue, warm, watch
from sts_core.jobs.events import EVENTS, read_events
from sts_core.jobs.folder import STATUS
from sts_core.jobs.process import created, lives
from sts_core.store import keeper
from sts_core.store.database import database_path, owner
from sts_core.store.migrations import MIGRATIONS, Migration, migrate
from tests.faults.checkpoint import disk_full_for_a_checkpoint
from tests.faults.disks import filled, small_disk
from tests.faults.world import PATIENCE, World, ended, kill, pause, sound, step_of, until

Fault = Callable[[World], None]


def worker_killed(world: World) -> None:
    """SIGKILL for the worker at a random moment, several times; each time it is resumed."""
    job = world.order("sft")
    for _ in range(3):
        pause(world.rng.uniform(0, 0.7))
        kill(job)
        until(lambda: watch.read(job).state in ("dead", "done"), "the killed worker is found dead")
        if watch.read(job).state == "done":
            break
        launch.resume(job)
    sound(job)


def warm_worker_killed(world: World) -> None:
    """SIGKILL for the process that stays, at work or idle; its job is resumed, the next ones are done as ever."""
    os.environ["STS_WARM_MINUTES"] = "1"
    jobs = [world.order("run", title=f"light {i}") for i in range(3)]
    for _ in range(3):
        pause(world.rng.uniform(0, 0.7))
        if (warmed := warm.find()) is not None:
            os.kill(warmed.pid, signal.SIGKILL)
            until(lambda pid=warmed.pid: created(pid) is None, "it is gone")  # type: ignore[misc]
        for job in jobs:
            if watch.read(job).state == "dead":
                launch.resume(job)
        launch.start_waiting()
    sound(*jobs)


def dashboard_killed(world: World) -> None:
    """SIGKILL for the dashboard with a heavy and a light job at work and one in line; then another is started."""
    _dashboard_ends(world, lambda server: server.send_signal(signal.SIGKILL))


def ctrl_c(world: World) -> None:
    """Ctrl-C in the terminal of the dashboard: a SIGINT for its whole group."""
    _dashboard_ends(world, lambda server: os.killpg(server.pid, signal.SIGINT))


def _dashboard_ends(world: World, end: Callable[[subprocess.Popen[bytes]], None]) -> None:
    server = world.dashboard()
    jobs = [world.order("sft"), world.order("run"), world.order("sft", title="in line")]
    assert queue.waits_for(watch.read(jobs[2])) is not None
    pause(world.rng.uniform(0, 0.7))
    end(server)
    server.wait(PATIENCE)
    until(lambda: world.owner() is None, "nobody has the database")
    until(lambda: all(watch.read(job).state == "done" for job in jobs), "all go on without a dashboard")
    world.dashboard()
    sound(*jobs)


def torn_last_line(world: World) -> None:
    """A worker dies as it writes: its last line has no end."""
    job = world.order("sft")
    until(lambda: step_of(job) > 5, "some steps are done")
    kill(job)
    until(lambda: watch.read(job).state == "dead", "it is found dead")
    line = json.dumps({"seq": 9999, "event": "step", "step": 77}).encode()
    with (watch.read(job).folder / EVENTS).open("ab") as file:
        file.write(line[: world.rng.randrange(1, len(line))])
    launch.resume(job)
    sound(job)


def status_missing(world: World) -> None:
    """The status is lost while the worker runs, and once more when it is dead."""
    job = world.order("sft")
    until(lambda: step_of(job) > 3, "some steps are done")
    status = watch.read(job).folder / STATUS
    status.unlink()
    until(lambda: watch.read(job).state in ("running", "done"), "the worker writes it anew")
    kill(job)
    status.unlink(missing_ok=True)
    until(lambda: watch.read(job).state == "failed", "a job without status is told as damaged")
    assert STATUS in watch.read(job).error
    launch.resume(job)
    sound(job)


def pid_reused(world: World) -> None:
    """The worker is gone, and another process has its PID."""
    job = world.order("sft")
    until(lambda: step_of(job) > 3, "some steps are done")
    status = watch.read(job).folder / STATUS
    os.kill(watch.read(job).pid or 0, signal.SIGSTOP)  # so that nothing is written between
    held = json.loads(status.read_text())
    os.kill(held["pid"], signal.SIGKILL)
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        status.write_text(json.dumps(held | {"pid": stranger.pid, "pid_started": held["pid_started"] - 60}))
        until(lambda: watch.read(job).state == "dead", "the stranger is not taken for the worker")
        launch.resume(job)
        sound(job)
        assert stranger.poll() is None, "the stranger was harmed"
    finally:
        stranger.communicate(b"\n")


def disk_full_for_events(world: World) -> None:
    """No room for a worker's events and status; when there is room again it is resumed."""
    with small_disk(cache(), 2):
        job = world.order("sft", steps=200, rate=300)
        until(lambda: step_of(job) > 3, "some steps are done")
        with filled(cache()):
            at_work = watch.read(job)
            until(lambda: not lives(at_work.pid, at_work.pid_started), "the worker ends")
            assert watch.read(job).state in ("dead", "failed")
        assert watch.read(job).state in ("dead", "failed")
        assert watch.read(job).error
        launch.resume(job)
        sound(job)


def disk_full_for_the_database(world: World) -> None:
    """No room for the database: what could not be kept comes in as soon as there is room."""
    jobs = ensure(world.folder / "jobs")
    with small_disk(cache(), 12):
        (cache() / "jobs").symlink_to(jobs)
        try:
            assert keeper.keep().owns
            job = world.order("sft", steps=300, rate=400)
            until(lambda: step_of(job) > 10, "some steps are done")
            with filled(cache()):
                (done,) = ended(job)
                until(lambda: bool(keeper.keep().notice), "the trouble is told")
            until(lambda: not keeper.keep().notice, "the trouble is over")
            until(lambda: _kept(job) == len(read_events(done.folder)), "all events are in")
            sound(job)
        finally:
            keeper.let_go()


def second_dashboard(world: World) -> None:
    """Another dashboard on the same cache leaves the first alone, and takes its place when it ends."""
    first = world.dashboard()
    second = world.dashboard(owns=False)
    job = world.order("sft")
    sound(job)
    assert world.owner() == first.pid
    first.send_signal(signal.SIGKILL)
    first.wait(PATIENCE)
    until(lambda: world.owner() == second.pid, "the second takes over")
    sound(job, world.order("run"))


def newer_database(world: World) -> None:
    """The database was made by a later program: it is left as it is, and jobs run all the same."""
    path = database_path()
    with duckdb.connect(path) as connection:
        migrate(connection, steps=(*MIGRATIONS, Migration("later", "create table later (i integer)")))
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    server = world.dashboard(owns=False)
    job = world.order("sft")
    ended(job)
    until(lambda: any(b"newer version" in log.read_bytes() for log in world.folder.glob("server-*.txt")), "it is told")
    assert server.poll() is None, "the dashboard stays up"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before, "it was touched"
    path.unlink()  # what a person is told: another place, or away with it
    sound(job)


FAULTS: tuple[Fault, ...] = (
    worker_killed,
    warm_worker_killed,
    dashboard_killed,
    ctrl_c,
    torn_last_line,
    status_missing,
    pid_reused,
    disk_full_for_events,
    disk_full_for_a_checkpoint,
    disk_full_for_the_database,
    second_dashboard,
    newer_database,
)


def _kept(job: str) -> int:
    """How many events of a job the database of this process has; -1 while it cannot be asked."""
    try:
        with owner().reading() as connection:
            row = connection.execute("select count(*) from events where job = ?", [job]).fetchone()
    except (UserError, duckdb.Error):
        return -1
    return int(row[0]) if row else 0
