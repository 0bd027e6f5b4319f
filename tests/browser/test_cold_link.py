"""The very first visit to a fresh server is a deep link: it opens its page, and nothing lies over it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import running_dashboard

pytestmark = pytest.mark.browser


def test_the_first_visit_of_all_may_be_a_deep_link(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_dashboard(tmp_path_factory.mktemp("cold")) as dashboard:
        page = chromium.new_page()
        page.goto(f"{dashboard.url}/shifted")
        expect(page.locator("h1")).to_contain_text("features hold", timeout=30_000)
        expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")
        expect(page.get_by_text("Page not found")).to_have_count(0)
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.close()


def test_the_workbench_opens_by_its_name_too(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_dashboard(tmp_path_factory.mktemp("named")) as dashboard:
        page = chromium.new_page()
        page.goto(f"{dashboard.url}/workbench?n=50&domains=law&domains=math")
        expect(page.locator("h1")).to_contain_text("14 domains", timeout=30_000)
        expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_text("50 most shifted").first).to_be_visible()
        assert page.url.startswith(f"{dashboard.url}/?")  # where the sidebar marks it
        assert "n=50&domains=law&domains=math" in page.url
        page.close()
