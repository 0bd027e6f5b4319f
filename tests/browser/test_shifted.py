"""Shifted features and the pickers in a real browser: rows that open features, links that hold, files taken."""

from __future__ import annotations

import csv
import re
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard
from tests.browser.test_dashboard import SHOWN, Open, Take, serious
from tests.pages.synthetic import FEATURES

pytestmark = pytest.mark.browser
HEADER, ROW = 35, 33
"""Pixels of the table's head and of a row of it."""


def feature_card(page: Page) -> str:
    return page.locator(".st-key-feature h2").first.inner_text()


def click_row(page: Page, row: int, x: float) -> None:
    table = page.locator("[data-testid=stDataFrame] canvas").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + x, box["y"] + HEADER + ROW * row + ROW / 2)  # a layer of its own lies over the canvas


@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_a_cold_link_opens_the_feature(open_page: Open, axe_source: str, appearance: str, take_picture: Take) -> None:
    page = open_page(f"shifted?{SHOWN}&feature=7&n=50", appearance=appearance)
    expect(page.locator("h1")).to_contain_text("50 of 128 features hold")
    expect(page.locator(".st-key-feature h2")).to_have_text("Feature 7")
    expect(page.locator("[class*=st-key-feature_bars] .barlayer .point")).to_have_count(14)
    drawn = page.locator("[class*=st-key-curve] .js-plotly-plot").evaluate("f => f._fullLayout.paper_bgcolor")
    assert drawn.upper() == ("#0E1013" if appearance == "dark" else "#FFFFFF")
    page.evaluate(axe_source)
    assert serious(page) == []
    take_picture(page, f"shifted-feature-{appearance}")


@pytest.mark.parametrize("x", [18, 400], ids=["its mark", "a cell"])
def test_a_row_opens_its_feature_and_the_link_keeps_it(open_page: Open, x: int) -> None:
    page = open_page(f"shifted?{SHOWN}")
    click_row(page, 2, x)
    expect(page.locator(".st-key-feature h2")).to_be_visible()
    first = feature_card(page)
    assert page.url.endswith(f"feature={first.removeprefix('Feature ')}")
    click_row(page, 4, x)
    expect(page.locator(".st-key-feature h2")).not_to_have_text(first)
    second = feature_card(page)
    page.get_by_role("link", name="Jobs").click()
    expect(page.locator("h1")).to_contain_text("stored")
    page.get_by_role("link", name="Shifted features").click()
    expect(page.locator(".st-key-feature h2")).to_have_text(second)
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".st-key-feature h2")).to_be_hidden()
    assert "feature=" not in page.url


def test_the_order_is_kept_in_the_link(open_page: Open) -> None:
    page = open_page(f"shifted?{SHOWN}")
    page.get_by_role("radio", name="Most lowered").click()
    expect(page.get_by_text("features that demonstrations lower")).to_be_visible()
    again = open_page(page.url.split("/", 3)[3])
    expect(again.get_by_text("features that demonstrations lower")).to_be_visible()


def test_the_whole_ranking_can_be_taken_away(open_page: Open, tmp_path: Path) -> None:
    page = open_page(f"shifted?{SHOWN}")
    with page.expect_download() as taken:
        page.get_by_role("button", name="Whole ranking (CSV)").click()
    taken.value.save_as(tmp_path / "ranking.csv")
    lines = (tmp_path / "ranking.csv").read_text(encoding="utf-8").splitlines()
    assert "result 0123456789ab" in lines[0]
    rows = list(csv.DictReader(lines[1:]))
    assert [int(row["rank"]) for row in rows] == list(range(1, FEATURES + 1))


def test_a_model_and_its_sae_are_found_in_the_catalogue(
    open_page: Open, dashboard: Dashboard, axe_source: str, take_picture: Take
) -> None:
    page = open_page(f"shifted?{SHOWN}")
    page.get_by_role("button", name="Model").first.click()
    page.get_by_text("Search models with SAEs").click()
    search = page.get_by_role("combobox", name="Model").last
    expect(page.get_by_placeholder("Search by name or licence").or_(search)).to_be_visible()
    page.evaluate(axe_source)
    assert serious(page) == []
    page.get_by_role("button", name="Gemma-2-9B-it").click()
    expect(page.get_by_text("Accept Google's Gemma terms")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="SAE").first.click()
    page.get_by_text("Search SAEs of this model").click()
    expect(page.get_by_text("SAEs of this model can be measured with here")).to_be_visible()
    expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")
    search = page.get_by_role("combobox", name="SAE", exact=True)
    wanted = page.get_by_role("option").filter(has_text="L0 63").first
    for _ in range(8):  # a list that opens while the page is still being drawn is closed again: type once more
        with suppress(PlaywrightError):
            search.fill("", timeout=2_000)
            search.fill("L0 63", timeout=2_000)
            wanted.click(timeout=2_000)
        page.wait_for_timeout(500)
        if "average_l0_63" in page.url:
            break
    expect(page).to_have_url(re.compile("average_l0_63"))
    assert [path for path in dashboard.loaded if "/torch/" in path or "/sae_lens/" in path] == []


def test_a_file_is_taken_or_refused_in_words(open_page: Open, tmp_path: Path) -> None:
    torn, whole = tmp_path / "torn.jsonl", tmp_path / "whole.jsonl"
    torn.write_text('{"question": "a"}\n{"question": \n')
    whole.write_text('{"prompt": "<b>a</b>", "answer": "b"}\n')
    page = open_page(f"shifted?{SHOWN}")
    page.get_by_role("button", name="Target").first.click()
    page.locator("input[type=file]").first.set_input_files(torn)
    expect(page.get_by_text("torn.jsonl, line 2 is not valid JSON")).to_be_visible()
    page.locator("input[type=file]").first.set_input_files(whole)
    page.get_by_text("Look into whole.jsonl").click()
    expect(page.get_by_text("Columns: prompt, answer")).to_be_visible()
    expect(page.get_by_text("has no column 'question'")).to_be_visible()
    expect(page.get_by_text('{"prompt": "<b>a</b>", "answer": "b"}')).to_be_visible()
