"""Who works, who waits, what goes on, is done again or taken away: real processes, only the work is a drill."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sts_core.errors import UserError
from sts_core.jobs import disk, launch, process, queue, watch
from sts_core.jobs.events import append_event, read_events
from sts_core.jobs.folder import Job, advance, create, load, locate
from sts_core.jobs.process import created

DRILL = Path(__file__).with_name("jobs_drill.py")
PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 60


@pytest.fixture(autouse=True)
def _drills(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The drill as the worker, with a bell that nobody need hear; whatever still runs afterwards is ended."""
    bell = tmp_path / "bell"
    os.mkfifo(bell)
    ear = os.open(bell, os.O_RDWR)
    monkeypatch.setenv("DRILL_BELL", str(bell))
    monkeypatch.setattr(launch, "WORKER", (str(DRILL),))
    yield
    while active := sorted(watch.active(), key=lambda job: not queue.in_line(job)):
        watch.cancel(active[0].id, patience=0)
    os.close(ear)


def until(job_id: str, *states: str) -> Job:
    """The job once it is in one of these states."""
    deadline = time.monotonic() + PATIENCE
    while (job := watch.read(job_id)).state not in states:
        assert time.monotonic() < deadline, f"{job_id} stays {job.state}: {job.log_tail()}"
        threading.Event().wait(0.02)
    return job


def in_line(title: str, kind: str = "sft", **order: object) -> str:
    return create({"kind": kind, "title": title, "spec": {}, "options": {}, **order}, {}).name


def order() -> list[str]:
    return [job.title for line in queue.lines() for job in line.waiting]


def test_one_heavy_and_one_light_job_run_and_the_others_wait() -> None:
    heavy, light = launch.start("sft", {}, "training"), launch.start("run", {}, "look")
    later = [launch.start("sft", {}, "second"), launch.start("sae", {"steps": 1}, "third")]
    until(heavy, "running")
    until(light, "running")
    assert [watch.read(job_id).state for job_id in later] == ["waiting", "waiting"]
    waits = [queue.waits_for(watch.read(job_id)) for job_id in (*later, heavy, light)]
    assert [job and job.title for job in waits] == ["training", "second", None, None]
    assert [(len(line.working), len(line.waiting), line.heavy) for line in queue.lines()] == [
        (1, 2, True),
        (1, 0, False),
    ]


def test_the_worker_that_ends_starts_the_next_in_line_without_any_other_process() -> None:
    ids = [launch.start("sae", {"steps": n}, str(n)) for n in (3000, 10, 20, 30)]
    ends = [until(job_id, "done").ended for job_id in ids]
    assert ends == sorted(ends, key=str)
    for earlier, later in itertools.pairwise(ids):
        assert read_events(load_of(earlier))[-1]["time"] <= read_events(load_of(later))[1]["time"]


def load_of(job_id: str) -> Path:
    return watch.read(job_id).folder


def test_a_cancelled_job_lets_the_next_one_begin() -> None:
    first, second = launch.start("sft", {}, "first"), launch.start("sft", {}, "second")
    until(first, "running")
    watch.cancel(first, patience=PATIENCE)
    until(second, "running")


def test_a_killed_workers_place_is_given_on_by_whoever_looks() -> None:
    first, second = launch.start("sft", {}, "first"), launch.start("sft", {}, "second")
    os.kill(until(first, "running").pid or 0, signal.SIGKILL)
    until(first, "dead")
    assert launch.start_waiting() == [second]
    assert launch.start_waiting() == []
    until(second, "running")


def test_of_many_who_look_at_once_exactly_one_starts_it() -> None:
    ids = [in_line(str(n), spec={"steps": 5}, kind="sae") for n in range(3)]
    look = "from pathlib import Path\nfrom sts_core.jobs import launch\n"
    look += f"launch.WORKER = ({str(DRILL)!r},)\nprint(*launch.start_waiting())"
    others = [
        subprocess.Popen([sys.executable, "-c", look], cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    threads = [threading.Thread(target=launch.start_waiting) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.communicate(timeout=PATIENCE)
    for job_id in ids:
        job = until(job_id, "done")
        assert [e["event"] for e in read_events(job.folder)].count("started") == 1
    for earlier, later in itertools.pairwise(ids):
        assert watch.read(earlier).ended <= watch.read(later).started, "two had one place"  # type: ignore[operator]


def test_the_line_is_in_the_order_a_person_gives_it() -> None:
    launch.start("sft", {}, "at work")
    a, b, c = (in_line(title) for title in "abc")
    assert order() == ["a", "b", "c"]
    queue.move(c, "first")
    assert order() == ["c", "a", "b"]
    queue.move(c, "down")
    assert order() == ["a", "c", "b"]
    queue.move(b, "up")
    assert order() == ["a", "b", "c"]
    queue.move(a, "up")
    queue.move(c, "down")
    assert order() == ["a", "b", "c"]
    for job_id in (a, b, c):
        advance(watch.read(job_id).folder, turn=7)
    queue.move(b, "first")
    assert order() == ["b", "a", "c"]


def test_only_what_waits_can_be_moved() -> None:
    with pytest.raises(UserError, match="does not wait"):
        queue.move(launch.start("sft", {}, "at work"), "first")


def test_devices_are_places_of_their_own() -> None:
    on = [launch.start("sft", {}, f"on {name}", {"device": name}) for name in ("cuda:6", "cuda:7", "cuda:6")]
    assert [queue.in_line(watch.read(job_id)) for job_id in on] == [False, False, True]
    spec = {"run": {"device": "mps"}}
    names = [queue.device(Job("x", Path(), options=o, spec=s)) for o, s in (({}, spec), ({"device": "cuda"}, spec))]
    assert names == ["mps", "cuda:0"]
    assert queue.device(Job("x", Path())) == queue.device(Job("x", Path(), options={"device": "auto"}))


def test_what_cannot_be_started_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = subprocess.Popen, []

    def refuse_once(*args: object, **more: object) -> object:
        calls.append(args)
        if len(calls) == 1:
            raise OSError(12, "Cannot allocate memory")
        return real(*args, **more)  # type: ignore[call-overload]

    first, second = in_line("first", "sae", spec={"steps": 1}), in_line("second", "sae", spec={"steps": 1})
    monkeypatch.setattr(process.subprocess, "Popen", refuse_once)
    assert launch.start_waiting() == [second]
    assert "Cannot allocate memory" in watch.read(first).error
    until(second, "done")


def test_a_resumed_job_goes_on_in_its_folder() -> None:
    job_id = launch.start("falter", {}, "beans")
    job = until(job_id, "dead")
    child = int((job.folder / "child").read_text())
    deadline = time.monotonic() + PATIENCE
    while created(child) is not None:  # it has been told to end, and the system takes its time
        assert time.monotonic() < deadline, "what a dead worker leaves behind is ended"
        threading.Event().wait(0.02)
    assert launch.resume(job_id).attempt == 2
    job = until(job_id, "done")
    assert (job.attempt, job.error) == (2, "")
    happened = read_events(job.folder)
    assert [e["seq"] for e in happened] == list(range(1, len(happened) + 1))
    assert [e["event"] for e in happened] == [
        "created", "started", "step", "dead", "resumed", "started", "step", "done",
    ]  # fmt: skip
    log = job.log_tail()
    assert (log[0], log[-1]) == ("half done", "found half")
    assert "attempt 2" in log[1]


def test_what_ran_well_or_still_runs_is_not_resumed() -> None:
    done = launch.start("sae", {"steps": 1}, "beans")
    until(done, "done")
    with pytest.raises(UserError, match="nothing to resume"):
        launch.resume(done)
    with pytest.raises(UserError, match="has not ended"):
        launch.resume(launch.start("sft", {}, "bus"))
    with pytest.raises(UserError, match="no job"):
        launch.resume("nothing")


def test_a_resumed_job_waits_for_its_turn_like_any_other() -> None:
    other = until(launch.start("sft", {}, "first"), "running")
    job_id = in_line("second")
    watch.cancel(job_id)
    assert queue.waits_for(launch.resume(job_id)).title == other.title  # type: ignore[union-attr]


def test_a_job_that_lost_its_status_can_be_resumed() -> None:
    job_id = in_line("beans", "sae", spec={"steps": 2})
    folder = locate(job_id)
    append_event(folder, "created")
    (folder / "status.json").write_text("{torn")
    assert watch.read(job_id).state == "failed"
    launch.resume(job_id)
    assert until(job_id, "done").attempt == 2


def test_a_job_that_lost_its_status_once_it_was_done_is_still_done() -> None:
    job_id = launch.start("sae", {"steps": 2}, "beans")
    before = until(job_id, "done")
    (before.folder / "status.json").write_text("")
    after = watch.read(job_id)
    assert (after.state, after.result) == ("done", before.result)
    assert load(before.folder) == after, "its status is written again"


def test_a_clone_is_a_new_job_of_the_same_spec_with_changes() -> None:
    spec = {"steps": 2, "train": {"rate": 0.1, "epochs": 3}, "list": [1]}
    job_id = launch.start("sae", spec, "beans", {"device": "auto"})
    twin = watch.read(launch.clone(job_id, {"train": {"rate": 0.2}, "list": [2, 3]}, title="more beans"))
    assert twin.id != job_id
    assert twin.spec == {"steps": 2, "train": {"rate": 0.2, "epochs": 3}, "list": [2, 3]}
    assert (twin.kind, twin.title, twin.options) == ("sae", "more beans", {"device": "auto", "clone_of": job_id})
    assert load(watch.read(job_id).folder).spec == spec
    until(twin.id, "done")


def test_a_deleted_job_is_gone_with_its_files() -> None:
    job_id = launch.start("sae", {"steps": 1}, "beans")
    with pytest.raises(UserError, match="has not ended"):
        disk.delete(in_line("waits", "sft"))
    folder = until(job_id, "done").folder
    (folder / "result" / "checkpoints" / "step-000001").mkdir(parents=True)
    (folder / "result" / "checkpoints" / "step-000001" / "model.bin").write_bytes(b"x" * 5000)
    use = disk.disk_use(job_id)
    assert (use.checkpoints, use.result) == (5000, 1)
    assert use.log == (folder / "log.txt").stat().st_size
    assert use.total == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert disk.disk_use_of_all().checkpoints == 5000
    _left(job_id)
    assert disk.delete(job_id) == use.total
    assert not folder.exists()
    assert [name for name, _ in disk.deleted()] == [job_id]
    with pytest.raises(UserError, match="no job"):
        watch.read(job_id)


def _left(job_id: str) -> None:
    """Wait until a job's process, which has told its end, is gone."""
    for thread in threading.enumerate():
        if thread.name == f"reap {job_id}":
            thread.join(PATIENCE)


def test_a_refused_event_leaves_no_half_line(tmp_path: Path) -> None:
    folder = watch.read(in_line("x")).folder
    append_event(folder, "one")
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom sts_core.jobs.events import append_event\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "size = (Path(sys.argv[1]) / 'events.jsonl').stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))\n"
        "try:\n    append_event(Path(sys.argv[1]), 'two')\nexcept OSError as error:\n    sys.exit(error.errno)\n"
    )
    refused = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=PROJECT, timeout=PATIENCE, check=False)
    assert refused.returncode == 27  # EFBIG
    assert [e["event"] for e in read_events(folder)] == ["one"]
    assert append_event(folder, "three") == 2
    assert [e["event"] for e in read_events(folder)] == ["one", "three"]
