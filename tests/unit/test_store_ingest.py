"""Job folders into the database: nothing lost, nothing twice, whatever happens to the files or to the owner."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # some tests start this file as a program

from sts_core.errors import UserError
from sts_core.jobs.events import EVENTS, append_event
from sts_core.jobs.folder import STATUS, advance, create
from sts_core.jobs.process import created
from sts_core.store import ingest, queries
from sts_core.store.database import Database, owner
from sts_core.store.ingest import Ingester, forget, ingest_all
from sts_core.store.note import LONGEST, write_note

PATIENCE = 60
"""Seconds until a test gives up on a process; only a broken one takes them."""


def job(title: str = "soup", **status: Any) -> Path:
    return create({"kind": "sft", "title": title, "spec": {"lr": 1e-4}, "options": {}}, {"state": "done", **status})


@pytest.fixture
def db(own_cache: Path) -> Iterator[Database]:
    with owner() as opened:
        yield opened


@pytest.fixture
def folder(db: Database) -> Path:
    return job()


def rows(db: Database, question: str) -> list[tuple[Any, ...]]:
    with db.reading() as connection:
        return connection.execute(question).fetchall()


def kept(db: Database, folder: Path) -> list[int]:
    return [seq for (seq,) in rows(db, f"select seq from events where job = '{folder.name}' order by seq")]


def test_events_come_in_once(db: Database, folder: Path) -> None:
    for step in range(5):
        append_event(folder, "log", step=step, loss=1 / (step + 1))
    assert ingest_all(db) == (5, 0, 0, ())
    assert ingest_all(db).events == 0
    append_event(folder, "log", step=5, loss=0.1)
    assert ingest_all(db).events == 1
    assert kept(db, folder) == [1, 2, 3, 4, 5, 6]
    assert rows(db, "select seq, step, name, value from metrics where seq > 4 order by seq") == [
        (5, 4, "loss", 0.2), (6, 5, "loss", 0.1),
    ]  # fmt: skip


def test_a_file_cut_anywhere_is_read_to_its_last_newline(db: Database, folder: Path) -> None:
    for word in ("first", "sécond", "third"):
        append_event(folder, word)
    whole = (folder / EVENTS).read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    (folder / EVENTS).write_bytes(b"")
    with (folder / EVENTS).open("ab", buffering=0) as file:
        for i in range(len(whole)):
            file.write(whole[i : i + 1])
            ingest_all(db)
            assert len(kept(db, folder)) == sum(end <= i + 1 for end in ends)


def test_a_torn_end_waits_and_may_be_cut_off(db: Database, folder: Path) -> None:
    append_event(folder, "one")
    with (folder / EVENTS).open("ab") as file:
        file.write(b'{"seq": 2, "time": "2026-')
    assert ingest_all(db) == (1, 0, 0, ())
    assert append_event(folder, "two") == 2  # the next writer cuts the rest off
    assert ingest_all(db) == (1, 0, 0, ())
    assert kept(db, folder) == [1, 2]


def test_lines_that_are_no_events_are_counted_told_and_passed_over(db: Database, folder: Path) -> None:
    append_event(folder, "one")
    with (folder / EVENTS).open("ab") as file:
        file.write(b'not json\n\n{"seq": "3"}\n')
    append_event(folder, "two")
    assert ingest_all(db) == (2, 3, 0, ())
    with (folder / EVENTS).open("ab") as file:
        file.write(b"\xff\n")
    append_event(folder, "three")
    assert ingest_all(db) == (1, 1, 0, ())
    assert kept(db, folder) == [1, 2, 3]
    with db.reading() as connection:
        (row,) = queries.jobs(connection).to_dict("records")
    assert (row["skipped"], list(row["skipped_lines"])) == (4, [2, 3, 4, 6])


@pytest.mark.parametrize("way", ["cut", "another file", "same length", "gone", "empty"])
def test_a_file_that_was_replaced_is_read_from_its_beginning(db: Database, folder: Path, way: str) -> None:
    for word in ("one", "two", "three"):
        append_event(folder, word)
    ingest_all(db)
    before = (folder / EVENTS).read_bytes()
    if way == "cut":
        (folder / EVENTS).write_bytes(before.splitlines(keepends=True)[0])
    elif way == "same length":
        (folder / EVENTS).write_bytes(before.replace(b"three", b"erhtt"))
    elif way == "another file":
        (folder / "other").write_bytes(before + before.splitlines(keepends=True)[1].replace(b'"seq": 2', b'"seq": 4'))
        (folder / "other").replace(folder / EVENTS)
    elif way == "gone":
        (folder / EVENTS).unlink()
    else:
        (folder / EVENTS).write_bytes(b"")
    ingest_all(db)
    for _ in range(4):
        append_event(folder, "more")
    ingest_all(db)
    assert kept(db, folder) == list(range(1, max(3, len((folder / EVENTS).read_bytes().splitlines())) + 1))
    assert rows(db, "select kind from events where seq = 3") == [("three",)], "what is known stays"


def test_lines_longer_than_a_piece(db: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_PIECE", 100)
    for length in (10, 5000, 1, 90, 3000):
        append_event(folder, "x" * length)
    assert ingest_all(db).events == 5
    assert [length for (length,) in rows(db, "select length(kind) from events order by seq")] == [10, 5000, 1, 90, 3000]


def test_a_jobs_row_follows_its_folder(db: Database, own_cache: Path) -> None:
    folder = job(state="running", pid=os.getpid(), pid_started=created(os.getpid()), total=10)
    assert ingest_all(db).active == 1
    assert rows(db, "select state, done, total, title from jobs") == [("running", 0.0, 10.0, "soup")]
    advance(folder, done=4, stage="stirring")
    write_note(folder.name, "salty \ud800")
    ingest_all(db)
    assert rows(db, "select done, stage, note from jobs") == [(4.0, "stirring", "salty ?")]
    advance(folder, state="done", result="result", ended="2026-01-02T03:04:05+00:00")
    assert ingest_all(db).active == 0
    assert rows(db, "select state, result, spec->>'lr' from jobs") == [("done", "result", "0.0001")]
    with pytest.raises(UserError, match="too long"):
        write_note(folder.name, "x" * (LONGEST + 1))


def test_a_job_whose_process_is_gone_is_dead(db: Database) -> None:
    folder = job(state="running", pid=os.getpid(), pid_started=1.0)  # our PID, but someone else's time
    ingest_all(db)
    ingest_all(db)
    assert rows(db, "select state from jobs") == [("dead",)]
    assert rows(db, "select kind from events") == [("dead",)]
    assert json.loads((folder / STATUS).read_text())["state"] == "dead"


def test_damaged_folders_stop_nobody(db: Database, folder: Path) -> None:
    job("no status").joinpath(STATUS).unlink()
    job("bad spec").joinpath("spec.json").write_bytes(b"\xff")
    blocked = job("events are a folder")
    (blocked / EVENTS).mkdir()
    append_event(folder, "one")
    assert ingest_all(db) == (1, 0, 0, (blocked.name,))
    states = dict(rows(db, "select title, state from jobs"))
    assert states == {"soup": "done", "no status": "failed", "": "failed", "events are a folder": "done"}


def test_rows_of_a_folder_that_is_gone_stay_until_forgotten(db: Database, folder: Path) -> None:
    active = job("soon gone", state="running", pid=os.getpid(), pid_started=created(os.getpid()))
    append_event(folder, "log", step=1, loss=1)
    append_event(folder, "evaluation", phase="before", domain="law", metric="accuracy", value=1)
    append_event(folder, "prediction", key="k", scores={})
    ingest_all(db)
    shutil.rmtree(folder)
    shutil.rmtree(active)
    ingest_all(db)
    assert len(kept(db, folder)) == 3
    assert dict(rows(db, "select title, state from jobs")) == {"soup": "done", "soon gone": "dead"}
    forget(db, folder.name)
    for table in ("events", "metrics", "evaluations", "predictions", "ingested"):
        assert rows(db, f"select count(*) from {table} where job = '{folder.name}'") == [(0,)]
    assert rows(db, "select title from jobs") == [("soon gone",)]


def test_a_damaged_database_is_filled_again(own_cache: Path) -> None:
    folder = job()
    write_note(folder.name, "keep me")
    for step in range(100):
        append_event(folder, "log", step=step, loss=1.0)
    with owner() as db:
        ingest_all(db)
        path = db.path
        before = rows(db, "select * exclude seen from jobs"), kept(db, folder)
    assert path is not None
    path.write_bytes(b"rubbish" * 1000)
    with owner() as db:
        assert "was damaged" in db.notice
        ingest_all(db)
        assert (rows(db, "select * exclude seen from jobs"), kept(db, folder)) == before


def test_the_thread_survives_trouble_and_looks_when_woken(db: Database, folder: Path) -> None:
    ingester = Ingester(db).start()
    try:
        with db.ingesting:
            shutil.move(folder.parent, folder.parent.with_name("away"))
            folder.parent.write_text("no folder")
        assert wait_for(lambda: bool(ingester.trouble), ingester)
        folder.parent.unlink()
        shutil.move(folder.parent.with_name("away"), folder.parent)
        append_event(folder, "one")
        assert wait_for(lambda: kept(db, folder) == [1], ingester)
        assert wait_for(lambda: ingester.trouble == "", ingester)
    finally:
        ingester.stop()


def wait_for(true: Any, ingester: Ingester | None = None) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < deadline:
        if ingester:
            ingester.wake()
        time.sleep(0.02)
    return bool(true())


def test_three_writers_at_a_hundred_events_a_second_lose_nothing(db: Database) -> None:
    folders = [job(str(i), state="running", pid=os.getpid(), pid_started=created(os.getpid())) for i in range(3)]
    ingester = Ingester(db).start()
    writers = [subprocess.Popen([sys.executable, __file__, "write", str(folder), "300"]) for folder in folders]
    try:
        assert [writer.wait(PATIENCE) for writer in writers] == [0, 0, 0]
        assert wait_for(lambda: rows(db, "select count(*) from events") == [(900,)], ingester)
    finally:
        ingester.stop()
        for writer in writers:
            writer.kill()
            writer.wait()
    for folder in folders:
        assert kept(db, folder) == list(range(1, 301))
    assert rows(db, "select count(*), sum(value) from metrics") == [(900, 3 * sum(range(300)))]


def test_an_owner_killed_at_any_moment_loses_and_doubles_nothing(own_cache: Path) -> None:
    rng = random.Random(11)
    folders = [job(str(i)) for i in range(2)]
    stop = threading.Event()

    def write() -> None:
        step = 0
        while not stop.is_set():
            for folder in folders:
                append_event(folder, "log", step=step, loss=0.5)
            step += 1
            stop.wait(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    owners = [start_owner()]
    try:
        for _ in range(10):
            owners.append(start_owner())  # the next one imports what it needs while this one is at work
            with owners.pop(0) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(b"go\n")
                process.stdin.flush()
                for _ in range(rng.randrange(1, 5)):
                    assert process.stdout.readline() == b"kept\n"
                moment = time.perf_counter() + rng.random() * 0.05
                while time.perf_counter() < moment:
                    pass
                process.kill()
            with owner() as db:
                assert db.notice == ""
                agree(db)
    finally:
        stop.set()
        writer.join()
        for process in owners:
            process.kill()
            process.communicate()
    with owner() as db:
        ingest_all(db)
        agree(db)
        for folder in folders:
            assert kept(db, folder) == list(range(1, len((folder / EVENTS).read_bytes().splitlines()) + 1))


def start_owner() -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, __file__, "own"], **pipes)


def agree(db: Database) -> None:
    """Whatever moment the owner was killed at, the tables and the places tell the same."""
    tables = rows(
        db,
        """
        select lines - skipped, (select count(*) from events e where e.job = i.job),
            (select count(*) from metrics m where m.job = i.job),
            (select max(seq) from events e where e.job = i.job)
        from ingested i
        """,
    )
    for told in tables:
        assert len(set(told)) == 1, told


def writing(folder: Path, many: int) -> None:
    """A worker that tells a hundred events a second."""
    began = time.monotonic()
    for i in range(many):
        append_event(folder, "log", step=i, loss=float(i))
        time.sleep(max(0.0, began + (i + 1) / 100 - time.monotonic()))


def owning() -> None:
    """An owner that, when told to, keeps events a few at a time, and says so each time."""
    sys.stdin.readline()
    ingest._PIECE = 4000
    db = owner()
    while True:
        ingest_all(db)
        db.snapshot()
        sys.stdout.write("kept\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "write":
        writing(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        owning()
