"""The pages in one process: a cache of their own, no shipped demo, and a plan that is told instead of made."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.parts import plan, selection
from sts_core.errors import UserError
from sts_core.store.database import database_path, owned
from sts_core.store.ingest import ingest_all

PROJECT = Path(__file__).resolve().parents[2]
PLAN: dict[str, Any] = {
    "key": "feedfeedfeedfeedfeed",
    "device": "cpu",
    "sets": [{"set": "target", "rows": 9, "items": 7, "tokens": 443, "asked": 400, "demos": 2, "dropped": {"long": 1}}],
    "work": {"tokens": 23_461, "seconds": 27.6, "memory_gb": 1.39, "rate": 1505},
    "checks": [{"level": "ok", "text": "The SAE reads layer 15."}, {"level": "warning", "text": "Too *few* rows."}],
    "warnings": ["Too *few* rows."],
}


@pytest.fixture
def pages_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache without results, and no demo beside it."""
    for place in ("sts_core.store.results.DEMO", "pages.parts.context.DEMO", "sts_core.folders.DEMO"):
        monkeypatch.setattr(place, tmp_path / "no-demo")
    st.cache_data.clear()
    st.cache_resource.clear()
    return own_cache


@pytest.fixture
def tell_plan(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the child process that plans say this, and nothing else."""

    def tell(out: object = PLAN, err: str = "", code: int = 0) -> None:
        text = out if isinstance(out, str) else json.dumps(out)
        script = f"import sys; print({text!r}); print({err!r}, file=sys.stderr); sys.exit({code})"
        monkeypatch.setattr(plan, "COMMAND", (sys.executable, "-c", script))

    tell()
    return tell


@pytest.fixture
def app(pages_cache: Path, tell_plan: Callable[..., None]) -> Callable[..., AppTest]:
    """Open the dashboard, with a URL's query when given, and let the plan arrive."""

    def open_app(page: str | None = None, **query: str | list[str]) -> AppTest:
        test = AppTest.from_file(str(PROJECT / "app.py"), default_timeout=30)
        for name, value in query.items():
            test.query_params[name] = value
        test.run()
        read_in()
        if page:
            test.switch_page(page).run()
        return settled(test)

    return open_app


def read_in() -> None:
    """The store holds what lies in the job folders: its own thread gets there later where the machine is busy."""
    with suppress(UserError):  # a cache that cannot be one is what some tests are about
        if (database := owned(database_path())) is not None:
            ingest_all(database)


def settled(test: AppTest) -> AppTest:
    """The page once the child process has answered: what its polling does in a browser."""
    asked = test.session_state.get("plans_asked", {})
    for one in asked.values():
        one.wait(20)
    return test.run() if asked else test


@pytest.fixture(autouse=True)
def _no_left_over() -> None:
    """Nothing of one test's opened results reaches the next."""
    selection.open_stored.clear()
