"""A real dashboard and a real Chromium: one server for all tests of this folder, a fresh browser context for each."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sts_core.cli.app import streamlit_arguments
from sts_core.folders import PROJECT
from tests.conftest import REAL_CACHE
from tests.pages.synthetic import make_result

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
PATIENCE = 60.0
KNOWN_NOISE = re.compile(r"status of 404")
"""On a cold deep link Streamlit looks for itself below the page's own path first, and is told 404 twice."""
expect.set_options(timeout=20_000)


OUR_CODE = re.compile(rf'File "{re.escape(str(PROJECT))}/(?:app\.py|pages/|sts_core/)')
"""A traceback through our files. The server has some of its own, when a socket closes under it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser on a busy machine now and then draws later than a test is patient. Who fails twice has failed."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=2))


class Dashboard(NamedTuple):
    """A running dashboard."""

    url: str
    process: subprocess.Popen[bytes]
    cache: Path

    @property
    def memory(self) -> int:
        """Bytes its own process holds, without its children."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def loaded(self) -> set[str]:
        """The files it has mapped, shared libraries among them."""
        return {entry.path for entry in psutil.Process(self.process.pid).memory_maps()}


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """The dashboard on a free port, with one invented result in a cache of its own."""
    with running_dashboard(tmp_path_factory.mktemp("dashboard")) as served:
        yield served


@contextmanager
def running_dashboard(folder: Path) -> Iterator[Dashboard]:
    """Started as `sts app` starts it; ended with all its children, and it may have printed no traceback of ours."""
    cache = folder / "cache"
    make_result(cache / "results", finished="2099-01-01T12:00:00+00:00")
    if (REAL_CACHE / "bundle" / "bundle.json").is_file():
        (cache / "bundle").symlink_to(REAL_CACHE / "bundle", target_is_directory=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, *streamlit_arguments(port, "127.0.0.1")]
    log = folder / "log.txt"
    with log.open("wb") as out:
        environment = {**os.environ, "STS_CACHE": str(cache)}
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=out, stderr=out)
    try:
        _wait_for(f"http://127.0.0.1:{port}", process, log)
        yield Dashboard(f"http://127.0.0.1:{port}", process, cache)
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.terminate()
        process.wait(10)
    said = log.read_text(errors="replace")
    assert not OUR_CODE.search(said), said
    assert "leaked" not in said, said


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server says it is well; when it never does, what it printed is the reason."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.read() == b"ok":
                    return
        except (urllib.error.URLError, OSError):
            select_pause(0.1)
    pytest.fail(f"the dashboard did not come up:\n{log.read_text(errors='replace')}")


def select_pause(seconds: float) -> None:
    """Let the others run a moment while we poll."""
    import threading

    threading.Event().wait(seconds)


@pytest.fixture(scope="session")
def chromium(chromium_path: str | None) -> Iterator[Browser]:
    """The system's Chromium, or Playwright's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(dashboard: Dashboard, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open a path in a window of a size and appearance. At the end: no error in the console, no call to elsewhere."""
    complaints: list[str] = []
    contexts = []

    def open_at(path: str = "", width: int = 1440, height: int = 1000, appearance: str = "light") -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if appearance == "dark" else "light",
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("request", lambda r: None if _at_home(r.url, dashboard.url) else complaints.append(f"asked {r.url}"))
        page.goto(f"{dashboard.url}/{path}")
        expect(page.locator("h1")).to_be_visible(timeout=30_000)
        expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert [text for text in complaints if not KNOWN_NOISE.search(text)] == []


def _at_home(url: str, home: str) -> bool:
    return url.startswith((home, home.replace("http", "ws", 1), "data:", "blob:"))


@pytest.fixture
def take_picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Keep a picture of the whole page in the folder that STS_SHOTS names; nothing without it."""
    folder = os.environ.get("STS_SHOTS")

    def take(page: Page, name: str) -> None:
        if not folder or page.viewport_size is None:
            return
        width = page.viewport_size["width"]
        height = page.locator("[data-testid=stMain]").evaluate("main => main.scrollHeight")
        page.set_viewport_size({"width": width, "height": min(height + 20, 4000)})
        page.wait_for_timeout(800)
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png")

    return take
