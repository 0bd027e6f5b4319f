"""The database's one owner: who has it, what is kept, what is refused, what becomes of a damaged file."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from sts_core.errors import UserError
from sts_core.jobs.process import created
from sts_core.store import database, opening, ownership
from sts_core.store.database import Database, database_path, owner
from sts_core.store.migrations import MIGRATIONS, Migration, migrate
from sts_core.store.ownership import Held, holder, note_of

PROJECT = Path(__file__).resolve().parents[2]
OPEN = "from sts_core.store.database import owner\ndb = owner()\nprint('open', flush=True)\ninput()\n"
OPEN_BADLY = (
    "from sts_core.errors import UserError\nfrom sts_core.store.database import owner\n"
    "try:\n    owner()\nexcept UserError as error:\n    print(error.message, '|', error.hint)\n"
)
INSERT = "insert into metrics values ('a', 1, 1, 'loss', 0.5)"


@pytest.fixture
def path(own_cache: Path) -> Path:
    return database_path()


def python(code: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, text=True, **pipes)


def count(db: Database, table: str = "metrics") -> int:
    with db.reading() as connection:
        return int(connection.execute(f"select count(*) from {table}").fetchall()[0][0])


def insert(db: Database) -> None:
    db.write(lambda connection: connection.execute(INSERT)).result()


def test_a_second_process_is_told_who_has_it(path: Path) -> None:
    first = python(OPEN)
    assert first.stdout is not None
    assert first.stdin is not None
    try:
        assert first.stdout.readline() == "open\n"
        assert (found := holder(path)) is not None
        assert found.pid == first.pid
        with pytest.raises(Held, match=f"process {first.pid} since") as told:
            Database(path)
        assert "dashboard" in told.value.hint
    finally:
        first.communicate("\n")
    assert holder(path) is None
    assert not path.with_name(f"{path.name}.wal").exists(), "closing at the process's end writes the journal away"
    Database(path).close()


def test_this_process_has_it_once(path: Path) -> None:
    with owner() as db:
        assert owner() is db
        with pytest.raises(Held, match="this very process"):
            Database(path)
        second = python(OPEN_BADLY)
        assert f"process {os.getpid()}" in second.communicate()[0]
    with owner() as again:
        assert again is not db


def test_a_program_that_is_none_of_ours_is_named_from_duckdbs_words(path: Path) -> None:
    stranger = python(f"import duckdb\nc = duckdb.connect({str(path)!r})\nprint('open', flush=True)\ninput()")
    assert stranger.stdout is not None
    try:
        assert stranger.stdout.readline() == "open\n"
        with pytest.raises(Held, match=f"process {stranger.pid}"):
            Database(path)
        assert holder(path) is None
    finally:
        stranger.communicate("\n")


@pytest.mark.parametrize(
    "note",
    ["", "{", "[]", '{"pid": "me"}', json.dumps({"pid": os.getpid(), "pid_started": 1.0, "brief": False})],
    ids=["nothing", "torn", "a list", "no number", "another time"],
)
def test_a_note_of_a_process_that_is_gone_stops_nobody(path: Path, note: str) -> None:
    note_of(path).write_text(note)
    assert holder(path) is None
    Database(path).close()


def test_who_has_it_for_a_moment_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = Database(path, brief=True)
    assert (found := holder(path)) is not None
    assert (found.pid, found.brief) == (os.getpid(), True)
    waited = threading.Event()
    lock = ownership.Ownership._lock

    def telling(self: ownership.Ownership, patience: float) -> None:
        waited.set()
        lock(self, patience)

    monkeypatch.setattr(ownership.Ownership, "_lock", telling)
    closer = threading.Thread(target=lambda: (waited.wait(30), brief.close()))
    closer.start()
    Database(path).close()
    closer.join()


def test_the_note_tells_pid_and_time_of_creation(path: Path) -> None:
    with owner():
        note = json.loads(note_of(path).read_text())
        assert (note["pid"], note["pid_started"]) == (os.getpid(), created(os.getpid()))


def test_a_work_is_kept_whole_or_not_at_all(path: Path) -> None:
    with owner() as db:

        def half(connection: duckdb.DuckDBPyConnection) -> None:
            connection.execute(INSERT)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            db.write(half).result()
        with pytest.raises(duckdb.CatalogException):
            db.write(lambda connection: connection.execute("select * from nothing")).result()
        assert count(db) == 0
        insert(db)
        assert count(db) == 1


def test_many_threads_write_and_read(path: Path) -> None:
    seen: list[int] = []
    with owner() as db:

        def busy() -> None:
            for _ in range(20):
                insert(db)
                seen.append(count(db))

        threads = [threading.Thread(target=busy) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert count(db) == 160
        assert max(seen) == 160
    assert len(seen) == 160


def test_what_was_handed_in_before_the_close_is_kept(path: Path) -> None:
    db = owner()
    for _ in range(50):
        db.write(lambda connection: connection.execute(INSERT))
    db.close()
    db.close()
    for refused in (lambda: db.write(lambda _: None), db.snapshot, lambda: count(db)):
        with pytest.raises(UserError, match="closed"):
            refused()
    with owner() as db:
        assert count(db) == 50


def test_a_reader_that_does_not_end_is_interrupted_by_the_close(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 0.2)
    db, asking, ended = owner(), threading.Event(), []

    def ask() -> None:
        with db.reading() as connection:
            asking.set()
            with pytest.raises(duckdb.InterruptException):
                connection.execute("select sum(a.i * b.i) from range(10000000) a(i), range(10000000) b(i)").fetchall()
        ended.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    asking.wait(30)
    db.close()
    thread.join()
    assert ended == [True]
    Database(path).close()


def test_after_a_fatal_error_the_next_question_finds_it_open_again(path: Path) -> None:
    with owner() as db:
        insert(db)

        def broken(_: duckdb.DuckDBPyConnection) -> None:
            raise duckdb.FatalException("database has been invalidated")

        with pytest.raises(UserError, match="had to be closed"):
            db.write(broken).result()
        assert count(db) == 1
        insert(db)
        assert count(db) == 2


def test_steps_are_applied_once_and_recorded() -> None:
    with duckdb.connect(":memory:") as connection:
        assert migrate(connection) == len(MIGRATIONS)
        assert migrate(connection) == 0
        more = (*MIGRATIONS, Migration("colour", "alter table jobs add column colour varchar default 'red'"))
        assert migrate(connection, steps=more) == 1
        assert connection.execute("select number, name from migrations order by number").fetchall() == [
            (i, step.name) for i, step in enumerate(more, start=1)
        ]
        bad = (*more, Migration("bad", "create table half (i integer); select * from nothing"))
        with pytest.raises(duckdb.CatalogException):
            migrate(connection, steps=bad)
        tables = [name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()]
        assert "half" not in tables
        assert migrate(connection, steps=more) == 0


def everything(folder: Path) -> dict[str, bytes]:
    ours = (note_of(Path("sts.duckdb")).name,)
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name not in ours}


@pytest.mark.parametrize("journal", [False, True])
def test_a_newer_database_is_refused_and_not_touched(path: Path, journal: bool, tmp_path: Path) -> None:
    newer = (*MIGRATIONS, Migration("later", "create table later (i integer)"))
    with duckdb.connect(tmp_path / "sts.duckdb") as connection:
        migrate(connection, steps=newer)
        connection.execute("checkpoint")
        if journal:
            connection.execute(INSERT)
        for part in tmp_path.glob("sts.duckdb*"):
            shutil.copy(part, path.parent)
    before = everything(path.parent)
    assert len(before) == 1 + journal
    for _ in range(2):
        with pytest.raises(UserError, match="newer version"):
            Database(path)
        assert everything(path.parent) == before
    assert holder(path) is None


def test_anothers_database_is_refused_and_not_touched(path: Path) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("create table theirs (i integer)")
    before = everything(path.parent)
    with pytest.raises(UserError, match="another program"):
        Database(path)
    assert everything(path.parent) == before


def test_words_of_a_newer_duckdb_are_not_taken_for_damage(path: Path) -> None:
    said = "Trying to read a database file with storage version number 200, but we can only read storage versions…"
    told = opening.verdict(duckdb.IOException(said), path)
    assert isinstance(told, UserError)
    assert "newer DuckDB" in told.message


def test_a_file_that_was_only_begun_is_made_anew(path: Path) -> None:
    path.touch()
    with owner() as db:
        assert (count(db), db.notice) == (0, "")


@pytest.mark.parametrize("damage", ["no database", "cut", "bytes", "journal", "journal alone"])
def test_a_damaged_file_is_told_and_moved_aside(path: Path, damage: str, tmp_path: Path) -> None:
    with owner() as db:
        db.write(
            lambda connection: connection.execute(
                "insert into metrics select 'a', i, i, 'loss', random() from range(200000) r(i)"
            )
        ).result()
    journal = path.with_name(f"{path.name}.wal")
    if damage.startswith("journal"):
        with duckdb.connect(path) as connection:
            for _ in range(20):
                connection.execute(INSERT)
            copied = shutil.copy(journal, tmp_path / "wal")
        journal.write_bytes(Path(copied).read_bytes())
    target = journal if damage == "journal" else path
    content = bytearray(target.read_bytes())
    if damage == "no database":
        content[:] = b"not a database, but long enough" * 1000
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        place = random.Random(3).randrange(len(content) // 3, len(content) // 2)
        content[place] ^= 255
    if damage == "journal alone":
        path.unlink()
    else:
        target.write_bytes(content)
    with owner() as db:
        assert count(db) == 0
        assert "was damaged" in db.notice
        (aside,) = {file.name.removesuffix(".wal") for file in path.parent.glob("*damaged*")}
        assert aside in db.notice
        insert(db)
    kept = path.with_name(aside + (".wal" if damage.startswith("journal") else ""))
    if damage != "journal alone":
        assert kept.read_bytes() == bytes(content)
    with owner() as db:
        assert (count(db), db.notice) == (1, "")


def test_damage_met_while_writing_is_told_and_the_file_replaced(path: Path) -> None:
    with owner() as db:
        insert(db)

        def meets_damage(_: duckdb.DuckDBPyConnection) -> None:
            raise duckdb.IOException("Corrupt database file: computed checksum 1 does not match stored checksum 2")

        with pytest.raises(UserError, match="had to be closed"):
            db.write(meets_damage).result()
        assert count(db) == 0
        assert "was damaged" in db.notice
    assert len(list(path.parent.glob("*.damaged-*"))) == 1


def test_a_folder_in_its_place_is_told(path: Path) -> None:
    path.mkdir()
    with pytest.raises(UserError, match="cannot be used"):
        Database(path)
