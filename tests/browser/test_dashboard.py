"""What only a real browser shows: figures drawn, nothing overflowing, readable by all, links that hold, a true run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from sts_core.folders import DEMO
from sts_core.spec import MMLU_DOMAINS
from tests.browser.conftest import Dashboard

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
Take = Callable[[Page, str], None]
MOST_MEMORY = 400e6
SHOWN = "result=0123456789ab"
"""The invented result, whatever else the cache holds by now."""
TINY = "domains=law&domains=math&target_tokens=200&domain_tokens=200"


def bars(page: Page) -> Any:
    return page.locator(".st-key-bars .js-plotly-plot, [class*=st-key-bars] .js-plotly-plot").first


def test_fourteen_bars_with_their_names_and_errors(open_page: Open, take_picture: Take) -> None:
    page = open_page(f"?{SHOWN}")
    expect(bars(page).locator(".barlayer .point")).to_have_count(14)
    expect(bars(page).locator(".errorbar")).to_have_count(14)
    assert sorted(bars(page).locator(".ytick").all_text_contents()) == sorted(MMLU_DOMAINS)
    expect(page.locator("h1")).to_contain_text("of 14 domains")


@pytest.mark.parametrize("path", ["", "shifted", "jobs"])
@pytest.mark.parametrize("width", [1440, 1024, 400])
@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_nothing_overflows(open_page: Open, take_picture: Take, path: str, width: int, appearance: str) -> None:
    page = open_page(f"{path}?{SHOWN}", width=width, appearance=appearance)
    too_wide = page.evaluate(
        """() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
                 .some(e => e.scrollWidth > e.clientWidth + 1)"""
    )
    assert not too_wide
    paper = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert paper == ("rgb(14, 16, 19)" if appearance == "dark" else "rgb(255, 255, 255)")
    if not path:
        drawn = bars(page).evaluate("f => f._fullLayout.paper_bgcolor")
        assert drawn.upper() == ("#0E1013" if appearance == "dark" else "#FFFFFF")
    take_picture(page, f"{path or 'workbench'}-{width}-{appearance}")


@pytest.mark.parametrize("path", ["", "shifted", "jobs"])
@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Open, axe_source: str, path: str, appearance: str) -> None:
    page = open_page(f"{path}?{SHOWN}", appearance=appearance)
    page.evaluate(axe_source)
    found = serious(page)
    if not path:
        page.get_by_text("Settings and provenance").click()
        expect(page.get_by_text("Settings (TOML)")).to_be_visible()
        found += serious(page)
        for chip in ("Target", "Domains", "Settings"):
            page.get_by_role("button", name=chip).first.click()
            expect(page.get_by_test_id("stPopoverBody")).to_be_visible()
            found += serious(page)
            page.keyboard.press("Escape")
            expect(page.get_by_test_id("stPopoverBody")).to_be_hidden()
    assert found == []


def serious(page: Page) -> list[str]:
    """What axe finds serious or critical in several looks on end: a text on its way in or out is no finding."""
    found = _look(page)
    for _ in range(4):
        if not found:
            break
        page.wait_for_timeout(700)
        again = _look(page)
        found = {place: words for place, words in found.items() if place in again}
    return list(found.values())


def _look(page: Page) -> dict[tuple[str, str], str]:
    """Rule and element -> what is wrong with it."""
    report = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return {
        (rule["id"], node["html"]): f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
        for rule in report["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    }


def test_a_cold_deep_link_opens_its_page(open_page: Open) -> None:
    page = open_page("jobs")
    expect(page.locator("h1")).to_contain_text("stored")
    expect(page.get_by_text("STS Explorer")).to_have_count(0)  # the name is a picture
    page.get_by_role("link", name="Workbench").click()
    expect(page.locator("h1")).to_contain_text("for training on")


def test_a_link_holds_the_view(open_page: Open) -> None:
    page = open_page(f"?{SHOWN}")
    page.get_by_role("radio", name="STS icl").click()
    page.get_by_role("radio", name="50", exact=True).click()
    expect(bars(page)).to_contain_text("How far does each domain move the 50")
    again = open_page(page.url.split("/", 3)[3])
    expect(bars(again)).to_contain_text("How far does each domain move the 50")


def test_choices_can_be_made_by_keyboard(open_page: Open) -> None:
    page = open_page(f"?{SHOWN}")
    page.get_by_role("button", name="Settings").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Quick look", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Settings quick look")).to_be_visible()
    expect(page.get_by_text("Settings differ from this result").first).to_be_visible()
    assert "target_tokens=400" in page.url


def test_a_number_out_of_bounds_is_told_and_not_kept_back(open_page: Open) -> None:
    page = open_page(f"?{SHOWN}")
    page.get_by_role("button", name="Settings").first.click()
    field = page.get_by_label("Target tokens")
    field.fill("0")
    field.press("Enter")
    expect(page.get_by_text("target: tokens is 0").first).to_be_visible(timeout=60_000)


def test_the_dashboard_is_light(open_page: Open, dashboard: Dashboard) -> None:
    open_page(f"?{SHOWN}")
    assert dashboard.memory <= MOST_MEMORY
    assert [path for path in dashboard.loaded if "/torch/" in path or "/sae_lens/" in path] == []


@pytest.fixture
def real_run(dashboard: Dashboard) -> None:
    if not (dashboard.cache / "bundle").exists() or not (DEMO / "smollm2-l15" / "cfg.json").is_file():
        pytest.skip("needs the embedded bundle (`sts demo fetch`) and the demo's SAE")


@pytest.mark.slow
@pytest.mark.usefixtures("real_run")
def test_a_small_run_is_measured_and_its_figures_arrive(
    open_page: Open, dashboard: Dashboard, take_picture: Take
) -> None:
    page = open_page(f"?{TINY}")
    page.get_by_role("button", name="Measure", exact=False).first.click(timeout=60_000)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("progressbar").first).to_be_visible()
    take_picture(page, "workbench-running")
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden(timeout=150_000)
    expect(bars(page).locator(".barlayer .point")).to_have_count(2)
    expect(page.get_by_text("Settings differ from this result").first).to_be_hidden()
    status = json.loads(newest_status(dashboard))
    assert status["state"] == "done"


@pytest.mark.slow
@pytest.mark.usefixtures("real_run")
def test_a_run_can_be_cancelled(open_page: Open, dashboard: Dashboard) -> None:
    page = open_page("?domains=physics&target_tokens=20000&domain_tokens=10000&seed=3")
    page.get_by_role("button", name="Measure", exact=False).first.click(timeout=60_000)
    page.get_by_role("button", name="Cancel").click(timeout=30_000)
    expect(page.get_by_text("The last run of these settings was cancelled")).to_be_visible(timeout=60_000)
    assert json.loads(newest_status(dashboard))["state"] == "cancelled"
    assert list((dashboard.cache / "results").glob(".*")) == []


def newest_status(dashboard: Dashboard) -> str:
    return (max((dashboard.cache / "jobs").glob("2*")) / "status.json").read_text(encoding="utf-8")
