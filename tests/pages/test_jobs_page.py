"""Jobs & cache: what runs, waits and ran, what can be done about it, what is stored, and what it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from sts_core import folders
from sts_core.jobs import launch, queue, watch
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import create, now
from sts_core.jobs.process import created
from sts_core.store import keeper
from sts_core.store.note import read_note
from tests.pages.synthetic import make_result, make_spec
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
PAGE = "pages/views/jobs.py"
DRILL = folders.PROJECT / "tests" / "unit" / "jobs_drill.py"
OWN = "from sts_core.store.database import owner\ndb = owner()\nprint('mine', flush=True)\ninput()\n"


@pytest.fixture(autouse=True)
def _let_go(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers are drills, and no test leaves an open database behind."""
    monkeypatch.setattr(launch, "WORKER", (str(DRILL),))
    yield
    keeper.let_go()


def a_job(title: str, kind: str = "run", **status: Any) -> Path:
    order = {"kind": kind, "title": title, "spec": make_spec(), "options": {}}
    return create(order, status)


def at_work() -> Path:
    """A training whose process is this very one, so that no other begins."""
    return a_job("at work", "sft", state="running", pid=os.getpid(), pid_started=created(os.getpid()), started=now())


def table(test: AppTest) -> list[dict[str, Any]]:
    return test.dataframe[0].value.to_dict("records")


def test_an_empty_cache_says_so(app: App) -> None:
    test = app(PAGE)
    assert not test.exception
    assert "No job runs; 0 results are stored" in words_of(test)
    assert "No job yet" in words_of(test)
    assert "No result yet" in words_of(test)


def opened(app: App, **query: str) -> AppTest:
    """The page with all that the folders hold in the database."""
    test = app(PAGE, **query)
    keeper.catch_up()
    return test.run()


def test_ended_jobs_are_listed_with_how_they_ended(app: App) -> None:
    a_job("**first**", state="done", started=now(), ended=now())
    folder = a_job("second", state="failed", started=now(), ended=now(), error="It *broke*", hint="Mend it")
    append_event(folder, "step", step=1, loss=2.5)
    test = opened(app)
    assert not test.exception
    rows = table(test)
    assert [(row["title"], row["state"], row["kind"]) for row in rows] == [
        ("second", "Failed", "Measurement"), ("**first**", "Done", "Measurement"),
    ]  # fmt: skip
    assert (rows[0]["last"], list(rows[0]["loss"])) == (2.5, [2.5])
    test.session_state["show"] = "done"
    test.run()
    assert [row["title"] for row in table(test)] == ["**first**"]


def test_an_opened_job_tells_why_it_ended_its_log_and_its_room(app: App) -> None:
    folder = a_job("**x**", state="failed", started=now(), ended=now(), error="It *broke*", hint="Mend it", attempt=3)
    (folder / "log.txt").write_text("first\nlast words")
    said = words_of(test := opened(app, job=folder.name))
    assert not test.exception
    for words in ("Failed", "Mend it", "attempt 3"):
        assert words in said.replace("\\", "")
    assert "Together" in str(test.table[0].value)
    assert any("last words" in code.value for code in test.code)
    assert any("\\*\\*x\\*\\*" in str(head.value) for head in test.subheader)


def test_a_note_is_kept_in_the_folder_and_the_table(app: App) -> None:
    folder = a_job("x", state="done")
    test = opened(app, job=folder.name)
    test.text_area(key=f"note_{folder.name}").input("too *hot*").run()
    assert read_note(folder) == "too *hot*"
    assert table(test)[0]["note"] == "too *hot*"


def test_of_a_note_that_is_too_long_the_beginning_is_kept_and_said(app: App) -> None:
    folder = a_job("x", state="done")
    test = opened(app, job=folder.name)
    test.text_area(key=f"note_{folder.name}").input("a" * 10_001).run()
    assert not test.exception
    assert read_note(folder) == "a" * 10_000
    assert "the first 10\u202f000 characters" in test.toast[0].value


def test_the_line_shows_who_waits_for_whom_and_can_be_changed(app: App) -> None:
    at_work()
    first, second = a_job("first", "sft"), a_job("second", "sft")
    test = opened(app)
    assert not test.exception
    assert "One job runs and 2 wait" in words_of(test)
    assert "waits for at work" in words_of(test)
    assert "waits for first" in words_of(test)
    assert test.button(key=f"up_{first.name}").disabled
    assert test.button(key=f"down_{second.name}").disabled
    test.button(key=f"first_{second.name}").click().run()
    assert [job.title for job in queue.lines()[0].waiting] == ["second", "first"]
    assert "waits for second" in words_of(test)
    test.button(key=f"cancel_{first.name}").click().run()
    assert watch.read(first.name).state == "cancelled"
    assert "One job runs and one waits" in words_of(test)


def test_a_failed_job_is_resumed_and_waits_for_its_turn(app: App) -> None:
    at_work()
    folder = a_job("x", "sft", state="failed", error="It broke")
    test = opened(app, job=folder.name)
    test.button(key=f"Resume_{folder.name}").click().run()
    assert not test.exception
    job = watch.read(folder.name)
    assert (job.state, job.attempt) == ("waiting", 2)
    assert f"Resume_{folder.name}" not in [button.key for button in test.button]


def test_run_again_makes_a_new_job_and_opens_it(app: App) -> None:
    at_work()
    folder = a_job("x", "sft", state="done")
    test = opened(app, job=folder.name)
    assert f"Resume_{folder.name}" not in [button.key for button in test.button], "it has nothing left to do"
    test.button(key=f"Order it_{folder.name}").click().run()
    assert not test.exception
    new = test.query_params["job"]
    assert watch.read(new if isinstance(new, str) else new[0]).options == {"clone_of": folder.name}


def test_a_deleted_job_is_gone_from_the_disk_and_the_table(app: App) -> None:
    folder, other = a_job("x", state="done"), a_job("other", state="done")
    (folder / "log.txt").write_bytes(b"x" * 3_000_000)
    test = opened(app, job=folder.name)
    assert "3.0 MB" in words_of(test).replace("\u00a0", " ").replace("\u202f", " ")
    test.button(key=f"delete_now_{folder.name}").click().run()
    assert not test.exception
    assert not folder.exists()
    assert [row["title"] for row in table(test)] == ["other"]
    assert other.exists()
    assert "job" not in test.query_params


def test_a_link_to_a_job_that_is_gone_says_so(app: App) -> None:
    a_job("x", state="done")
    test = opened(app, job="../../etc", show="nonsense")
    assert not test.exception
    assert "not there any more" in words_of(test)


def test_beside_another_dashboard_every_page_says_who_has_the_database(app: App, pages_cache: Path) -> None:
    a_job("x", state="done")
    other = subprocess.Popen(
        [sys.executable, "-c", OWN], cwd=folders.PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        for page in (None, PAGE):
            test = app(page)
            assert not test.exception
            assert f"process {other.pid}" in words_of(test).replace("\\", "")
        assert [row["title"] for row in table(test)] == ["x"]
    finally:
        other.communicate("\n")


def test_a_damaged_job_does_not_break_the_list(app: App, pages_cache: Path) -> None:
    folder = a_job("whole", state="done", started=now(), ended=now())
    (folder / "status.json").write_text("{torn")
    test = app(PAGE)
    assert not test.exception


def test_stored_results_are_listed(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    test = app(PAGE)
    assert "one result is stored" in words_of(test)
    assert test.dataframe[0].value["Key"].tolist() == ["0123456789ab"]


def test_a_file_where_the_cache_should_be_is_told(app: App, pages_cache: Path) -> None:
    pages_cache.rmdir()
    pages_cache.write_text("not a folder")
    test = app(PAGE)
    assert not test.exception
    assert "STS" in words_of(test)
