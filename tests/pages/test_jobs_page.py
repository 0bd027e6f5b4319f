"""Jobs & cache: what runs and ran, what is stored, and what it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from sts_core import folders
from sts_core.jobs.folder import advance, create, now
from tests.pages.synthetic import make_result, make_spec
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]


def a_job(title: str, **status: Any) -> Path:
    order = {"kind": "run", "title": title, "spec": make_spec(), "options": {}}
    folder = create(order, {})
    advance(folder, **status)
    return folder


def test_an_empty_cache_says_so(app: App) -> None:
    test = app("pages/views/jobs.py")
    assert not test.exception
    assert "No job runs; 0 results are stored" in words_of(test)
    assert "No job yet" in words_of(test)
    assert "No result yet" in words_of(test)


def test_ended_jobs_show_how_they_ended(app: App) -> None:
    a_job("**first**", state="done", started=now(), ended=now())
    a_job("second", state="failed", started=now(), ended=now(), error="It broke", hint="Mend it")
    test = app("pages/views/jobs.py")
    said = words_of(test)
    assert not test.exception
    assert "Done" in said
    assert "Failed" in said
    assert "It broke" in said
    assert "Mend it" in said
    assert any("\\*\\*first\\*\\*" in str(e.value) for e in test.markdown)


def test_a_damaged_job_does_not_break_the_list(app: App, pages_cache: Path) -> None:
    folder = a_job("whole", state="done", started=now(), ended=now())
    (folder / "status.json").write_text("{torn")
    test = app("pages/views/jobs.py")
    assert not test.exception


def test_stored_results_are_listed(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    test = app("pages/views/jobs.py")
    assert "one result is stored" in words_of(test)
    assert test.dataframe[0].value["Key"].tolist() == ["0123456789ab"]


def test_a_file_where_the_cache_should_be_is_told(app: App, pages_cache: Path) -> None:
    pages_cache.rmdir()
    pages_cache.write_text("not a folder")
    test = app("pages/views/jobs.py")
    assert not test.exception
    assert "STS" in words_of(test)
