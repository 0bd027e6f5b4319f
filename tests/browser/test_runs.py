"""Fine-tuning runs in a real browser: table, run and comparison fit every width, read well, and hold links."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard
from tests.browser.test_dashboard import serious
from tests.pages.made_runs import make_run

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
Take = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def runs(dashboard: Dashboard) -> list[str]:
    """Two finished runs and one that failed, in the dashboard's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(dashboard.cache))
        return [
            make_run("gsm-symbolic, LoRA, 60 steps"),
            make_run("gsm-symbolic, full, 60 steps", learning_rate=1e-5, method="full"),
            make_run("a name that is far too long for any column of any table " * 3, "failed", done=12),
        ]


def path_to(view: str, runs: list[str]) -> str:
    return {
        "table": "runs", "run": f"runs?run={runs[0]}", "failed": f"runs?run={runs[2]}",
        "compare": f"runs?compare={runs[0]}&compare={runs[1]}",
    }[view]  # fmt: skip


@pytest.mark.parametrize("view", ["table", "run", "compare"])
@pytest.mark.parametrize(("width", "appearance"), [(1440, "light"), (400, "light"), (400, "dark")])
def test_nothing_overflows(
    open_page: Open, take_picture: Take, runs: list[str], view: str, width: int, appearance: str
) -> None:
    page = open_page(path_to(view, runs), width=width, appearance=appearance)
    expect(page.locator(".js-plotly-plot, [data-testid=stDataFrame]").first).to_be_visible()
    too_wide = page.evaluate(
        """() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
                 .some(e => e.scrollWidth > e.clientWidth + 1)"""
    )
    assert not too_wide
    take_picture(page, f"runs-{view}-{width}-{appearance}")


@pytest.mark.parametrize("view", ["table", "run", "failed"])
def test_axe_finds_nothing_serious(open_page: Open, axe_source: str, runs: list[str], view: str) -> None:
    page = open_page(path_to(view, runs))
    page.evaluate(axe_source)
    assert serious(page) == []


def test_a_run_is_opened_from_its_link_and_left_again(open_page: Open, runs: list[str]) -> None:
    page = open_page(path_to("run", runs))
    expect(page.locator("h1")).to_contain_text("70 of the 100 predicted features really shifted")
    expect(page.locator(".js-plotly-plot")).to_have_count(3)
    page.get_by_role("radio", name="norm of the gradient").click()
    expect(page.get_by_text("How hard does it pull?")).to_be_visible()
    assert "curve=norm" in page.url
    page.get_by_role("button", name="All runs").click()
    # Streamlit leaves what was there until the new page is whole: for a moment there are two headings.
    expect(page.get_by_role("heading", level=1).filter(has_text="runs are kept")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    assert "run=" not in page.url


def test_runs_that_are_compared_take_the_place_of_the_table(open_page: Open, runs: list[str]) -> None:
    """Nothing of what stood there is left, though parts of the page drew it inside a part of the page."""
    page = open_page("runs")
    table = page.locator("[class*=st-key-runs] [data-testid=stDataFrame]").first
    for row in (1, 2):
        table.click(position={"x": 18.0, "y": 38 + 35 * (row - 0.5)})
    page.get_by_role("button", name="Compare these 2 runs").click()
    expect(page.get_by_text("What each changed")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("button", name="Compare these 2 runs")).to_have_count(0)
    page.get_by_role("button", name="All runs").click()
    expect(page.get_by_role("heading", level=1).filter(has_text="runs are kept")).to_be_visible()
    expect(page.get_by_text("What each changed")).to_have_count(0)


def test_a_run_is_planned_before_it_is_started(open_page: Open, runs: list[str]) -> None:
    page = open_page("runs?sft_foretold=false")  # the result on this page is made up: it foretells nothing real
    page.get_by_text("New run").click()
    page.get_by_role("textbox", name="Learning rate").fill("5e-4")
    page.get_by_role("textbox", name="Learning rate").press("Enter")
    expect(page.get_by_text("learning_rate = 0.0005")).to_be_visible()
    page.get_by_role("button", name="Plan this run").click()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible(timeout=60_000)
    expect(page.get_by_text("rows to train on")).to_be_visible()


@pytest.mark.parametrize("width", [1440, 400])
def test_the_open_form_fits_and_reads_well(
    open_page: Open, take_picture: Take, axe_source: str, runs: list[str], width: int
) -> None:
    page = open_page("runs?sft_rate=2e-4", width=width)
    page.get_by_text("New run").click()
    for group in ("Memory and speed", "The adapter (LoRA)", "Optimiser", "Seed, measures, checkpoints and reports"):
        page.get_by_text(group).click()
    expect(page.get_by_text("Gradient checkpointing")).to_be_visible()
    page.get_by_role("spinbutton", name="Rank").fill("4")
    page.get_by_role("spinbutton", name="Rank").press("Enter")
    expect(page.get_by_text("rank = 4")).to_be_visible()
    too_wide = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth > innerWidth + 1")
    assert not too_wide
    page.evaluate(axe_source)
    assert serious(page) == []
    take_picture(page, f"runs-form-{width}")
