"""A command asks the database: whoever owns it, it gets an answer."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from sts_core.errors import UserError
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import create
from sts_core.store import database, ownership, queries
from sts_core.store.database import Database, database_path, owner
from sts_core.store.ingest import ingest_all
from sts_core.store.migrations import MIGRATIONS, Migration, migrate
from sts_core.store.ownership import holder
from sts_core.store.reading import read
from sts_core.store.snapshot import snapshot_of

PROJECT = Path(__file__).resolve().parents[2]
OWN = (
    "import sys\nfrom sts_core.store.database import owner\nfrom sts_core.store.ingest import ingest_all\n"
    "db = owner()\ningest_all(db)\nprint(db.snapshot(), flush=True)\ninput()\n"
)


@pytest.fixture(autouse=True)
def folder(own_cache: Path) -> Path:
    made = create({"kind": "sft", "title": "soup"}, {"state": "done"})
    append_event(made, "log", step=1, loss=0.5)
    return made


@pytest.fixture
def path(folder: Path) -> Path:
    return database_path()


def titles(connection: duckdb.DuckDBPyConnection) -> list[str]:
    return list(queries.jobs(connection)["title"])


def test_nobody_owns_it_so_we_do_for_a_moment(path: Path) -> None:
    for _ in range(2):
        with read() as view:
            assert (view.source, titles(view.connection)) == ("moment", ["soup"])
            assert len(queries.events(view.connection, queries.jobs(view.connection)["id"][0])) == 1
            assert (found := holder(path)) is not None
            assert found.brief
        assert holder(path) is None
    assert not snapshot_of(path).exists()


def test_the_owner_asks_itself(path: Path) -> None:
    with owner() as db:
        ingest_all(db)
        with read() as view:
            assert (view.source, titles(view.connection)) == ("owner", ["soup"])


def test_beside_a_dashboard_the_copy_is_read_and_outlives_it(path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    dashboard = subprocess.Popen([sys.executable, "-c", OWN], cwd=PROJECT, text=True, **pipes)
    try:
        assert dashboard.stdout is not None
        assert dashboard.stdout.readline().strip() == str(snapshot_of(path))
        with read() as view:
            assert (view.source, titles(view.connection)) == ("copy", ["soup"])
            assert abs((datetime.now(UTC) - view.as_of).total_seconds()) < 60
            with pytest.raises(duckdb.InvalidInputException):
                view.connection.execute("delete from jobs")
        snapshot_of(path).unlink()
        with read(patience=0) as view:
            assert (view.source, titles(view.connection)) == ("folders", ["soup"])
        snapshot_of(path).write_bytes(b"rubbish" * 100)
        with read(patience=0) as view:
            assert (view.source, titles(view.connection)) == ("folders", ["soup"])
    finally:
        dashboard.communicate("\n")


def test_a_copy_of_another_form_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with duckdb.connect(snapshot_of(path)) as connection:
        migrate(connection, steps=(*MIGRATIONS, Migration("later", "create table later (i integer)")))
    lock = ownership.Ownership(path)  # as another process would hold it
    try:
        with read(patience=0) as view:
            assert (view.source, titles(view.connection)) == ("folders", ["soup"])
    finally:
        lock.release()


def test_another_command_is_waited_for(path: Path) -> None:
    lock = ownership.Ownership(path, brief=True)
    timer = threading.Timer(0.1, lock.release)
    timer.start()
    with read(patience=60) as view:
        assert view.source == "moment"
    timer.join()
    lock = ownership.Ownership(path, brief=True)
    with read(patience=0) as view:
        assert (view.source, titles(view.connection)) == ("folders", ["soup"])
    lock.release()


def test_the_first_copy_of_a_dashboard_is_waited_for(path: Path) -> None:
    lock = ownership.Ownership(path)  # as another process would hold it
    with Database(path.with_name("elsewhere.duckdb")) as db:
        ingest_all(db)
        made = db.snapshot()
    timer = threading.Timer(0.1, lambda: made.rename(snapshot_of(path)))
    timer.start()
    with read(patience=60) as view:
        assert (view.source, titles(view.connection)) == ("copy", ["soup"])
    timer.join()
    lock.release()


def test_a_cache_that_cannot_be_written_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ownership.os, "open", refuse)
    with read() as view:
        assert (view.source, titles(view.connection)) == ("folders", ["soup"])


def test_a_newer_database_is_told_to_a_command_too(path: Path) -> None:
    with duckdb.connect(path) as connection:
        migrate(connection, steps=(*MIGRATIONS, Migration("later", "create table later (i integer)")))
    with pytest.raises(UserError, match="newer version"), read():
        pass


def test_the_owner_makes_copies_by_itself_after_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_COPY_EVERY", 0.0)
    made = threading.Event()
    real = database.copy

    def telling(connection: duckdb.DuckDBPyConnection, place: Path) -> Path:
        done = real(connection, place)
        made.set()
        return done

    monkeypatch.setattr(database, "copy", telling)
    snapshot_of(path).write_bytes(b"of another owner's time")
    with owner() as db:
        db.write(lambda _: None).result()
        assert not made.is_set(), "before the folders are read in, a copy would tell half"
        assert not snapshot_of(path).exists()
        ingest_all(db)
        assert made.wait(60)
        made.clear()
        db.write(lambda _: None).result()
        assert made.wait(60)
        with duckdb.connect(snapshot_of(path), read_only=True) as connection:
            tables = {name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()}
        assert tables == {"jobs", "events", "metrics", "evaluations", "predictions", "ingested", "migrations"}
    assert not list(path.parent.glob(".*draft*"))


def test_a_copy_that_fails_costs_the_owner_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database(path) as db:
        draft = snapshot_of(path).with_name(f".{snapshot_of(path).name}.draft")
        db.snapshot()
        monkeypatch.setattr(database, "_COPY_EVERY", 0.0)
        draft.mkdir()
        with pytest.raises(OSError, match="directory"):
            db.snapshot()
        assert ingest_all(db).events == 1
        draft.rmdir()
        assert db.snapshot().is_file()
