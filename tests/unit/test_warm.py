"""The worker that stays: real processes and sockets; only the work is a drill, but for one real measurement."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sts_core.errors import UserError
from sts_core.folders import cache
from sts_core.jobs import disk, launch, warm, watch
from sts_core.jobs.folder import ACTIVE, ENDED, Job, advance, load, reopen
from sts_core.jobs.process import created
from sts_core.measure.run import run
from sts_core.spec import Spec
from tests import tiny

DRILL = Path(__file__).with_name("warm_drill.py")
PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 60


def until(what: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, f"not so after {PATIENCE} s: {words}"
        threading.Event().wait(0.02)


@pytest.fixture(autouse=True)
def _staying(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drills for both workers, five minutes of idling allowed; whatever still runs afterwards is ended."""
    bell = tmp_path / "bell"
    os.mkfifo(bell)
    ear = os.open(bell, os.O_RDWR)
    monkeypatch.setenv("DRILL_BELL", str(bell))
    monkeypatch.setenv("STS_WARM_MINUTES", "5")
    monkeypatch.setattr(launch, "WORKER", (str(DRILL), "plain"))
    monkeypatch.setattr(warm, "WORKER", (str(DRILL),))
    yield
    for job in watch.active():
        watch.cancel(job.id, patience=0)
    if (left := warm.find()) is not None:
        os.kill(left.pid, signal.SIGKILL)
        until(lambda: created(left.pid) is None, "it is gone")
    os.close(ear)


def order(drill: str, **spec: object) -> str:
    return launch.start("run", {"drill": drill, **spec}, drill)


def ended(job: str, state: str = "done") -> Job:
    until(lambda: watch.read(job).state in ENDED, f"{job} ends")
    found = watch.read(job)
    assert found.state == state, (found.error, found.log_tail())
    return found


def running(job: str) -> Job:
    until(lambda: watch.read(job).state == "running", f"{job} runs")
    return watch.read(job)


def test_questions_are_answered_by_one_process_that_stays() -> None:
    assert warm.find() is None
    assert warm.ask("echo", {"text": "zwölf → 12"}) == {"text": "zwölf → 12"}
    first = warm.begin()
    assert warm.ask("echo", {"n": 1}) == {"n": 1}
    assert warm.begin() == first
    with pytest.raises(UserError, match="There is no soup") as refused:
        warm.ask("refuse", {})
    assert refused.value.hint == "Order the salad."
    with pytest.raises(UserError, match="the pot fell over"):
        warm.ask("break", {})
    with pytest.raises(UserError, match="Nobody here knows 'sing'"):
        warm.ask("sing", {})
    with pytest.raises(UserError, match="too long"):
        warm.ask("echo", {"text": "a" * warm.LONGEST})
    assert warm.begin() == first, "no wrong question ends it"


def test_several_who_start_one_at_once_share_one() -> None:
    script = f"from sts_core.jobs import warm\nwarm.WORKER = ({str(DRILL)!r},)\nprint(warm.begin().pid)"
    starters = [
        subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = {starter.communicate(timeout=PATIENCE)[0] for starter in starters}
    assert told == {f"{warm.begin().pid}\n"}


def test_only_its_owner_is_answered_and_only_on_this_machine() -> None:
    found = warm.begin()
    assert stat.S_IMODE((cache() / warm.NOTE).stat().st_mode) == 0o600
    listening = [c.laddr for c in psutil.Process(found.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(at.ip, at.port) for at in listening] == [("127.0.0.1", found.port)]

    def said(line: bytes) -> dict[str, object]:
        with socket.create_connection(("127.0.0.1", found.port), timeout=PATIENCE) as wire:
            wire.sendall(line)
            answer: dict[str, object] = json.loads(wire.makefile("rb").readline())
        return answer

    stranger = {"error": "This is not for you", "hint": ""}
    for line in (
        b"",
        b"\x00\xff",
        b"GET / HTTP/1.1\r\n",
        b"[1]",
        b"[" * 100_000,
        b'{"ask": "echo", "of": {}}',
        b'{"token": 1}',
    ):
        assert said(line + b"\n") == stranger, line
    assert said(json.dumps({"token": "é" + found.token, "leave": True}).encode() + b"\n") == stranger
    assert warm.begin() == found


def test_jobs_follow_one_another_in_the_same_process() -> None:
    first, second = order("count", steps=3), order("count", steps=5)
    done = ended(first), ended(second)
    found = warm.find()
    assert found is not None
    assert {job.pid for job in done} == {found.pid}
    assert [job.log_tail() for job in done] == [["counted 3"], ["counted 5"]], "each has its own log"
    assert warm.ask("echo", {"still": "here"}) == {"still": "here"}
    standing = warm.standing()
    assert standing is not None
    assert not standing["busy"]
    assert 0 < standing["seconds_left"] <= 300
    assert standing["bytes"] > 1_000_000


def test_it_answers_while_it_works() -> None:
    job = running(order("wait"))
    assert warm.ask("echo", {"n": 2}, patience=10) == {"n": 2}
    standing = warm.standing()
    assert standing is not None
    assert standing["busy"]
    assert watch.read(job.id).state == "running"


def test_what_it_has_done_can_be_deleted_and_cancelled_to_no_effect() -> None:
    done = ended(order("count", steps=1))
    other = running(order("wait"))
    assert other.pid == done.pid
    assert "already ended" in watch.cancel(done.id).message
    disk.delete(done.id)
    assert not done.folder.exists()
    assert watch.read(other.id).state == "running"


def test_a_cancel_that_comes_too_late_meets_no_later_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is done and the next one begun between the look of who cancels and the signal."""
    late = ended(order("count", steps=1))
    other = running(order("wait"))
    as_seen = watch.read
    looks = iter([load(late.folder)])
    stale = next(looks)
    monkeypatch.setattr(
        watch, "read", lambda job: as_seen(job) if job != late.id else Job(**{**vars(stale), "state": "running"})
    )
    watch.cancel(late.id, patience=0.2)
    assert as_seen(other.id).state == "running"


def test_a_cancelled_job_ends_and_the_next_one_is_done() -> None:
    first, second = order("wait"), order("count", steps=2)
    pid = running(first).pid
    watch.cancel(first)
    assert watch.read(first).state == "cancelled"
    launch.start_waiting()
    assert ended(second).pid != pid


@pytest.mark.parametrize(("drill", "state"), [("crash", "failed"), ("refuse", "failed"), ("vanish", "dead")])
def test_it_leaves_after_a_job_that_did_not_end_well(drill: str, state: str) -> None:
    first, second = order(drill), order("count", steps=2)
    pid = ended(first, state).pid
    launch.start_waiting()
    assert ended(second).pid != pid
    until(lambda: created(pid or 0) is None, "it has left")
    assert warm.ask("echo", {"n": 3}) == {"n": 3}


def test_its_sudden_death_is_told_and_harms_nobody_else() -> None:
    job = running(order("wait"))
    os.kill(job.pid or 0, signal.SIGKILL)
    assert ended(job.id, "dead").error
    assert warm.ask("echo", {"n": 4}) == {"n": 4}
    reopen(job.folder)
    advance(job.folder, state="cancelled")
    assert not [job for job in watch.all_jobs() if job.state in ACTIVE]


def test_a_failed_job_is_resumed_while_the_process_stays() -> None:
    """`falter` leaves a child behind, which is ended, and goes on at its second attempt."""
    job = ended(order("falter"), "dead")
    child = int((job.folder / "child").read_text())
    until(lambda: created(child) is None, "its child was ended")
    warm.begin()
    launch.resume(job.id)
    assert ended(job.id).log_tail(1) == ["found half"]


def test_it_goes_home_when_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STS_WARM_MINUTES", "0.05")  # shorter, it could be gone before anybody looked
    found = warm.begin()
    until(lambda: created(found.pid) is None, "it goes home")
    assert not (cache() / warm.NOTE).exists()


def test_it_leaves_when_its_cache_goes_or_it_is_sent(own_cache: Path) -> None:
    found = warm.begin()
    (own_cache / warm.NOTE).unlink()
    until(lambda: created(found.pid) is None, "it leaves without its note")
    again = warm.begin()
    warm.send_home()
    until(lambda: created(again.pid) is None, "it leaves when sent")
    assert warm.standing() is None


def test_an_older_programs_process_makes_place(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = warm.begin()
    monkeypatch.setattr(warm, "code", lambda: "another")
    note = own_cache / warm.NOTE
    assert warm.find() is None
    monkeypatch.undo()
    note.write_text(json.dumps({**json.loads(note.read_text()), "code": "an older one"}))
    monkeypatch.setenv("STS_CACHE", str(own_cache))
    monkeypatch.setenv("STS_WARM_MINUTES", "5")
    monkeypatch.setattr(warm, "WORKER", (str(DRILL),))
    newer = warm.begin()
    assert newer.pid != older.pid
    assert created(older.pid) is None


def test_a_heavy_job_gets_the_room_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real worker's own look at the machine decides; both its answers are tried in this process."""
    from sts_core.jobs import warm_worker

    staying = warm_worker.Warm(dict, {})
    ask = json.dumps({"token": staying._token, "room": True}).encode()
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=memory.total))
    assert staying._answer(ask) == {"leaves": False}
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=memory.total // 3))
    assert staying._answer(ask) == {"leaves": True}
    assert not staying._take(Path("a job that comes too late"))


def test_measurements_and_plans_of_a_real_model_share_what_is_loaded(
    world: tiny.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real worker: tables as from a process of one's own, and the model still there for the next question."""
    monkeypatch.setattr(warm, "WORKER", ("-m", "sts_core.jobs.warm_worker"))
    spec = world.spec()
    planned = warm.ask("plan", {"spec": spec})
    assert planned["stored"] is False
    jobs = [launch.start("run", spec, "a measurement", {"fresh": True}) for _ in range(2)]
    done = [ended(job) for job in jobs]
    assert len({job.pid for job in done}) == 1
    own = run(Spec.from_dict(spec), world.folder / "own", fresh=True)
    for name in ("shift.parquet", "domains.parquet", "scores.parquet", "groups.safetensors"):
        tables = {(job.folder / job.result / name).read_bytes() for job in done}
        assert tables == {(own.folder / name).read_bytes()}, name
    standing = warm.standing()
    assert standing is not None
    assert standing["loaded"].count(str(world.model)) == 2, "a model in both number formats"
    assert str(world.sae) in standing["loaded"]
    assert warm.ask("plan", {"spec": spec})["stored"] is True
    with pytest.raises(UserError, match="no model"):
        warm.ask("plan", {"spec": {**spec, "model": "no-such-model"}})


@pytest.mark.parametrize("asked", ["-1", "ten", "inf", "nan"])
def test_wrong_minutes_are_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STS_WARM_MINUTES", asked)
    with pytest.raises(UserError, match="STS_WARM_MINUTES"):
        warm.minutes()


def test_none_stays_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STS_WARM_MINUTES", "0")
    with pytest.raises(UserError, match="STS_WARM_MINUTES is 0"):
        warm.ask("echo", {})
    assert launch.start("count", {"steps": 1}, "count")
    assert warm.find() is None
