"""Jobs as they truly run: real processes, real signals, real kills; only the work itself is a drill."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sts_core.jobs import launch, queue, watch
from sts_core.jobs.events import read_events
from sts_core.jobs.folder import ACTIVE, ATTEMPT, Job, advance, create, load, locate
from sts_core.jobs.process import CLOCK_SLACK, created, lives

DRILL = Path(__file__).with_name("jobs_drill.py")
PATIENCE = 60
"""Seconds until a test gives up on a process; only a broken one takes them."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own and the drill as the worker; whatever still runs afterwards is ended."""
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(launch, "WORKER", (str(DRILL),))
    yield tmp_path / "cache"
    while active := sorted(watch.active(), key=lambda job: not queue.in_line(job)):  # the line first, then who works
        watch.cancel(active[0].id, patience=0)


@pytest.fixture
def bell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Waits until a drill says that it is where the test wants it."""
    path = tmp_path / "bell"
    os.mkfifo(path)
    monkeypatch.setenv("DRILL_BELL", str(path))
    ear = os.open(path, os.O_RDWR)

    def heard() -> None:
        ready, _, _ = select.select([ear], [], [], PATIENCE)
        assert ready, f"the drill never got there: {[job.log_tail() for job in watch.all_jobs()]}"
        os.read(ear, 100)

    yield heard
    os.close(ear)


def finished(job_id: str) -> Job:
    """The job once its process has ended and was buried by the thread that waits for it."""
    for thread in threading.enumerate():
        if thread.name == f"reap {job_id}":
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{job_id} does not end"
    return watch.read(job_id)


def stored_status(job_id: str) -> dict[str, object]:
    return json.loads((locate(job_id) / "status.json").read_text())


def edit_status(job_id: str, **changes: object) -> None:
    path = locate(job_id) / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def a_folder(**status: object) -> Path:
    return create({"kind": "run", "title": "soup", "spec": {}, "options": {}}, status)


def test_a_job_is_done_and_its_folder_tells_all_of_it() -> None:
    job_id = launch.start("count", {"steps": 1000}, "beans", {"fresh": True})
    job = finished(job_id)
    assert (job.state, job.kind, job.title, job.spec, job.options) == (
        "done", "count", "beans", {"steps": 1000}, {"fresh": True},
    )  # fmt: skip
    assert (job.stage, job.done, job.total, job.unit) == ("counting on", 1000, 1000, "beans")
    assert (job.folder / job.result / "beans.txt").read_text() == "1000"
    assert job.log_tail() == ["counted 1000"]
    assert 0 <= (job.seconds or -1) < PATIENCE
    happened = read_events(job.folder)
    assert [e["seq"] for e in happened] == [1, 2, 3, 4, 5]
    assert [e["event"] for e in happened] == ["created", "started", "stage", "stage", "done"]
    assert [e["stage"] for e in happened if e["event"] == "stage"] == ["counting", "counting on"]


def test_the_worker_leads_a_session_of_its_own_and_knows_who_it_is(bell: Callable[[], None]) -> None:
    job_id = launch.start("wait", {}, "bus")
    bell()
    job = watch.read(job_id)
    assert (job.state, job.stage, job.done) == ("running", "waiting for the bus", 3)
    pid, pid_started = job.pid or 0, job.pid_started or 0
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)
    assert lives(pid, pid_started)
    assert not lives(pid, pid_started + 2 * CLOCK_SLACK)


def test_an_ended_worker_leaves_no_zombie() -> None:
    job = finished(launch.start("count", {"steps": 1}, "beans"))
    assert job.pid not in {child.pid for child in psutil.Process().children()}


def test_a_relative_cache_is_the_same_place_in_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STS_CACHE", "here")
    assert finished(launch.start("count", {"steps": 1}, "beans")).state == "done"


def test_a_killed_worker_is_found_dead_with_its_last_words(bell: Callable[[], None]) -> None:
    job_id = launch.start("wait", {}, "bus")
    bell()
    os.kill(watch.read(job_id).pid or 0, signal.SIGKILL)
    job = finished(job_id)
    assert job.state == "dead"
    assert "the bus is late" in job.error
    assert job.hint
    assert job.ended
    assert stored_status(job_id)["state"] == "dead", "who sees it writes it down"
    assert read_events(job.folder)[-1]["event"] == "dead"
    assert len([e for e in read_events(watch.read(job_id).folder) if e["event"] == "dead"]) == 1


def test_what_parts_two_attempts_in_the_log_is_nobodys_last_word() -> None:
    folder = a_folder(state="running", pid=2**22 + 1, pid_started=1.0)
    (folder / "log.txt").write_text(f"before\n{ATTEMPT} 2, 2026-01-01T00:00:00+00:00 ----\n", encoding="utf-8")
    job = watch.read(folder.name)
    assert (job.state, job.error.endswith("without a word of why")) == ("dead", True)


def test_a_worker_that_just_vanishes_is_dead_too() -> None:
    job = finished(launch.start("vanish", {}, "ghost"))
    assert job.state == "dead"
    assert "last words" in job.error


def test_a_worker_that_cannot_even_begin_is_dead_with_pythons_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "WORKER", ("-m", "sts_core.no_such_module"))
    job = finished(launch.start("count", {}, "beans"))
    assert job.state == "dead"
    assert "no_such_module" in job.error


def test_another_process_with_the_workers_pid_is_not_the_worker(bell: Callable[[], None]) -> None:
    job_id = launch.start("wait", {}, "bus")
    bell()
    job = watch.read(job_id)
    edit_status(job_id, pid_started=(job.pid_started or 0) - 1000)
    assert watch.read(job_id).state == "dead"
    finished(job_id)  # by its mark it is known to be the job's all the same, and nobody would see its end


def test_cancel_never_touches_a_stranger_who_got_the_pid() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        folder = a_folder(state="running", pid=stranger.pid, pid_started=(created(stranger.pid) or 0) - 1000)
        assert "dead" in watch.cancel(folder.name).message
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")


def test_cancel_ends_the_worker_which_says_so_itself(bell: Callable[[], None]) -> None:
    job_id = launch.start("wait", {}, "bus")
    bell()
    job, message = watch.cancel(job_id, patience=PATIENCE)
    assert job.state == "cancelled"
    assert "cancelled" in message
    assert not lives(job.pid, job.pid_started)
    assert not job.result, "what is half-done is not a result"
    assert [e["event"] for e in read_events(job.folder)][-2:] == ["cancel asked", "cancelled"]


def test_cancel_insists_when_the_worker_does_not_listen(bell: Callable[[], None]) -> None:
    job_id = launch.start("deaf", {}, "bus")
    bell()
    job = watch.cancel(job_id, patience=0.1).job
    assert job.state == "cancelled"
    assert not lives(job.pid, job.pid_started)
    assert stored_status(job_id)["state"] == "cancelled"


def test_cancel_ends_the_children_that_do_not_listen(bell: Callable[[], None]) -> None:
    job_id = launch.start("family", {}, "soup")
    bell()
    child = int((locate(job_id) / "child").read_text())
    assert created(child) is not None
    assert watch.cancel(job_id, patience=0.5).job.state == "cancelled"
    assert created(child) is None


def test_cancel_of_an_ended_job_changes_nothing_and_says_so() -> None:
    job_id = launch.start("count", {"steps": 1}, "beans")
    finished(job_id)
    before = (locate(job_id) / "status.json").read_bytes()
    job, message = watch.cancel(job_id)
    assert job.state == "done"
    assert "already ended" in message
    assert (locate(job_id) / "status.json").read_bytes() == before


def test_a_job_cancelled_before_its_process_began_never_begins() -> None:
    folder = a_folder()
    assert watch.cancel(folder.name).job.state == "cancelled"
    assert subprocess.run([sys.executable, str(DRILL), str(folder)], timeout=PATIENCE).returncode == 1
    assert load(folder).state == "cancelled"


def test_a_refusal_is_kept_as_message_and_hint_without_a_traceback() -> None:
    job = finished(launch.start("refuse", {}, "soup"))
    assert (job.state, job.error, job.hint) == ("failed", "There is no soup", "Order the salad.")
    assert job.log_tail() == ["error: There is no soup", "hint: Order the salad."]


def test_a_crash_is_one_line_in_the_status_and_a_traceback_in_the_log() -> None:
    job = finished(launch.start("crash", {}, "soup"))
    assert (job.state, job.error) == ("failed", "RuntimeError: the pot fell over")
    assert "Traceback" in job.log_tail(50)[0]
    assert "Traceback" not in (job.folder / "status.json").read_text()


def test_a_forked_child_that_is_asked_to_end_does_not_end_the_job() -> None:
    job = finished(launch.start("fork", {}, "soup"))
    assert (job.state, job.log_tail()) == ("done", [f"ended by {int(signal.SIGTERM)}"])


def test_an_unknown_kind_is_refused_with_the_nearest_named() -> None:
    job = finished(launch.start("cuont", {}, "beans"))
    assert job.state == "failed"
    assert '"count"' in job.error


def test_a_job_whose_launcher_died_before_the_start_waits_and_is_started_by_whoever_looks() -> None:
    folder = create({"kind": "count", "title": "beans", "spec": {"steps": 1}, "options": {}}, {})
    assert watch.read(folder.name).state == "waiting"
    assert launch.start_waiting() == [folder.name]
    assert finished(folder.name).state == "done"


def test_a_second_worker_of_a_job_leaves_at_once(bell: Callable[[], None]) -> None:
    job_id = launch.start("wait", {}, "bus")
    bell()
    before = watch.read(job_id)
    assert subprocess.run([sys.executable, str(DRILL), str(before.folder)], timeout=PATIENCE).returncode == 1
    after = watch.read(job_id)
    assert (after.state, after.pid) == ("running", before.pid)
    assert [e["event"] for e in read_events(after.folder)].count("started") == 1


def test_a_job_waits_for_its_turn() -> None:
    assert watch.read(a_folder().name).state == "waiting"


def test_the_first_ending_stays() -> None:
    folder = a_folder()
    advance(folder, state="cancelled")
    assert advance(folder, state="done", result="result")["state"] == "cancelled"
    assert load(folder).state == "cancelled"
    assert load(folder).state not in ACTIVE
