"""The Jobs page in a real browser: a line that moves, a job that is opened, noted and deleted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sts_core.cli.app import streamlit_arguments
from sts_core.folders import PROJECT
from sts_core.jobs import launch, queue, watch
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import LOG, create, now
from sts_core.store.note import write_note
from tests.browser.conftest import Dashboard, running_dashboard, select_pause
from tests.pages.synthetic import make_spec

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
Take = Callable[[Page, str], None]
DRILL = PROJECT / "tests" / "unit" / "jobs_drill.py"
SERVER = PROJECT / "tests" / "faults" / "dashboard.py"
PATIENCE = 60
TITLES = ("LoRA on gsm-symbolic, rate 1e-4", "LoRA on gsm-symbolic, rate 3e-4", "Full, 2 epochs")


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard of its own, with a training at work, two in line and some that have ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.browser.conftest.streamlit_arguments", drilled)
        with running_dashboard(tmp_path_factory.mktemp("jobs")) as served:
            yield from _filled(served, patch)


def drilled(port: int, host: str) -> list[str]:
    """The arguments of a server whose workers are drills."""
    module, name, *rest = streamlit_arguments(port, host)
    assert (module, name) == ("-m", "pages.parts.start")
    return [str(SERVER), str(DRILL), *rest]


def _filled(served: Dashboard, patch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    patch.setenv("STS_CACHE", str(served.cache))
    patch.setenv("DRILL_BELL", str(served.cache / "bell"))
    patch.setattr(launch, "WORKER", (str(DRILL),))
    _ended("run", "gsm-symbolic, 14 domains", "done")
    folder = _ended("sft", "LoRA on limo", "failed", error="The loss is not a number", hint="Lower the rate.")
    for step in range(1, 41):
        append_event(folder, "step", step=step, loss=2 / math.sqrt(step))
    (folder / LOG).write_text("step 39\nstep 40\n")
    write_note(folder.name, "too hot")
    for title in TITLES:
        launch.start("sft", {}, title)
    yield served
    for job in sorted(watch.active(), key=lambda job: not queue.in_line(job)):
        watch.cancel(job.id, patience=0)


def _ended(kind: str, title: str, state: str, **status: str) -> Path:
    order = {"kind": kind, "title": title, "spec": make_spec(), "options": {}}
    return create(order, {"state": state, "started": now(), "ended": now(), **status})


def waiting() -> list[str]:
    return [job.title for line in queue.lines() for job in line.waiting]


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        select_pause(0.05)


@pytest.mark.parametrize("width", [1440, 400])
@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_a_busy_page_overflows_nowhere_and_can_be_read_by_all(
    open_page: Open, take_picture: Take, axe_source: str, width: int, appearance: str
) -> None:
    (opened,) = [job.id for job in watch.all_jobs() if job.state == "failed"]
    page = open_page(f"jobs?job={opened}", width=width, appearance=appearance)
    expect(page.get_by_text("The loss is not a number")).to_be_visible()
    expect(page.get_by_text("waits for").first).to_be_visible()
    too_wide = page.evaluate(
        """() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
                 .some(e => e.scrollWidth > e.clientWidth + 1)"""
    )
    assert not too_wide
    page.evaluate(axe_source)
    report = page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa']})")
    found = [(rule["id"], node["html"][:200]) for rule in report["violations"] for node in rule["nodes"]]
    assert [one for one in found if "stProgress" not in one[1]] == []
    take_picture(page, f"jobs-busy-{width}-{appearance}")


def test_the_line_is_moved_from_the_page_and_a_cancel_lets_the_next_begin(open_page: Open) -> None:
    while len(watch.active()) < len(TITLES):  # a drill ends by itself after two minutes
        launch.start("sft", {}, f"one more after {len(watch.all_jobs())}")
    second, third = waiting()
    page = open_page("jobs")
    expect(page.locator("h1")).to_contain_text("One job runs and 2 wait")
    page.get_by_role("button", name="First").nth(1).click()
    until(lambda: waiting() == [third, second])
    expect(page.get_by_text(f"waits for {third}")).to_be_visible()
    page.get_by_role("button", name="Cancel").first.click()
    expect(page.locator("h1")).to_contain_text("One job runs and one waits")
    until(lambda: [job.title for line in queue.lines() for job in line.working] == [third])


def test_a_job_is_noted_and_deleted_from_the_page(open_page: Open) -> None:
    folder = _ended("sae", "to be deleted", "done")
    page = open_page(f"jobs?job={folder.name}")
    page.get_by_label("Note").fill("kept")
    page.get_by_label("Note").press("Control+Enter")
    until(lambda: (folder / "note.txt").exists())
    page.get_by_role("button", name="Delete", exact=False).first.click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("to be deleted")).to_have_count(0)
    assert not folder.exists()
