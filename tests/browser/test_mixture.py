"""Mixture in a real browser: it fits and reads well, answers every choice at once, and a row's text stays text."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from pages.parts.mixture_figures import CHECKBOX
from tests.browser.conftest import Dashboard
from tests.browser.test_dashboard import serious
from tests.pages.made_mixtures import KEY, make_mixture, make_source, make_trained, manifest_path

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
Take = Callable[[Page, str], None]
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> [x](javascript:alert(3)) **b** $x$ "
SHOWN = f"result={KEY[:12]}&mix_budget=40"
HARM = {"target": -0.5, "physics": 0.4, "law": 0.3, "math": 0.1, "history": 0.2}
BARS = ".st-key-mix_bars .js-plotly-plot"


@pytest.fixture(scope="module")
def made(dashboard: Dashboard) -> dict[str, str]:
    """A result over files whose rows are hostile, two mixtures and a run on each and on none; older than the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(dashboard.cache))
        source = make_source(dashboard.cache, hostile=HOSTILE, finished="2001-01-01T00:00:00+00:00")
        sts, evenly = (
            make_mixture(source, {"law": 12, "math": 3}),
            make_mixture(source, {"law": 8, "math": 7}, "uniform"),
        )
        saved = {**HARM, "law": 0.05}
        return {
            "sts": sts,
            "plain": make_trained(source, source.manifest["spec"]["target"]["data"], HARM, "plain"),
            "mixed": make_trained(source, manifest_path(sts), saved, "by STS", seed=1),
            "even": make_trained(source, manifest_path(evenly), saved, "evenly", seed=2),
        }


def path_to(view: str, made: dict[str, str]) -> str:
    return {
        "shares": f"mixture?{SHOWN}&made={made['sts']}",
        "refused": f"mixture?{SHOWN}&mix_floor=20&made={made['sts']}",
        "form": f"runs?result={KEY[:12]}&mixture={made['sts']}&sft_rate=2e-4",
        "compare": f"runs?compare={made['mixed']}&compare={made['plain']}&compare={made['even']}",
    }[view]


@pytest.mark.parametrize("view", ["shares", "refused", "form", "compare"])
@pytest.mark.parametrize(("width", "appearance"), [(1440, "light"), (1440, "dark"), (400, "light"), (400, "dark")])
def test_it_fits_and_axe_finds_nothing_serious(
    open_page: Open, axe_source: str, take_picture: Take, made: dict[str, str], view: str, width: int, appearance: str
) -> None:
    page = open_page(path_to(view, made), width=width, appearance=appearance)
    if view == "shares":
        expect(page.locator(BARS)).to_be_visible()
        for title in ("Read the rows that would be drawn", "Read its rows", "The same in a terminal"):
            page.get_by_text(title).click()
        expect(page.get_by_text("Page of")).to_have_count(2)
    elif view == "refused":
        expect(page.get_by_text("This mixture cannot be made.")).to_be_visible()
    elif view == "form":
        expect(page.get_by_text("learning_rate = 0.0002")).to_be_visible()
    else:
        expect(page.locator("[class*=st-key-mixture_panel] .js-plotly-plot")).to_have_count(3)
    too_wide = page.evaluate(
        """() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
                 .some(e => e.scrollWidth > e.clientWidth + 1)"""
    )
    assert not too_wide
    page.evaluate(axe_source)
    assert serious(page) == []
    take_picture(page, f"mixture-{view}-{width}-{appearance}")


def test_a_budget_redraws_the_bars_and_the_link_keeps_it(open_page: Open, made: dict[str, str]) -> None:
    page = open_page(f"mixture?{SHOWN}")
    expect(page.locator("h1")).to_contain_text("40 rows:")
    budget = page.get_by_role("spinbutton", name="Rows of other domains")
    budget.fill("80")
    budget.press("Enter")
    expect(page.locator("h1")).to_contain_text("80 rows:")
    expect(page).to_have_url(re.compile("mix_budget=80"))
    drawn = page.locator(BARS).evaluate("f => f._fullData.find(t => t.name === 'quota').x.reduce((a, b) => a + b)")
    assert drawn == 80
    again = open_page(page.url.split("/", 3)[3])
    expect(again.locator("h1")).to_contain_text("80 rows:")


def test_a_checkbox_leaves_a_domain_out_and_takes_it_in_again(open_page: Open, made: dict[str, str]) -> None:
    page = open_page(f"mixture?{SHOWN}")
    expect(page.locator(BARS).locator(".barlayer .point")).to_have_count(4)
    for left in (3, 4):
        table = page.locator("[class*=st-key-mix_domains] canvas").first
        table.scroll_into_view_if_needed()
        box = table.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + CHECKBOX / 2, box["y"] + 35 + 33 * 1.5)  # the second row is law's
        expect(page.locator(BARS).locator(".barlayer .point")).to_have_count(left)
        expect(page).to_have_url(re.compile("without=law") if left == 3 else re.compile(r"^(?!.*without)"))
        expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")


def test_a_rows_text_is_shown_as_it_is(open_page: Open, made: dict[str, str]) -> None:
    page = open_page(f"mixture?{SHOWN}&made={made['sts']}")
    page.on("dialog", lambda dialog: pytest.fail(f"the page said {dialog.message}"))
    for title in ("Read the rows that would be drawn", "Read its rows"):
        page.get_by_text(title).click()
    expect(page.get_by_text(HOSTILE.strip()).first).to_be_visible()
    assert page.get_by_text("<script>alert(2)</script>").count() >= 2
    assert page.locator("[data-testid=stMain] img[src=x]").count() == 0
    assert page.locator("[data-testid=stMain] a[href^=javascript]").count() == 0


def test_train_with_this_mixture_opens_the_form_filled_in(open_page: Open, made: dict[str, str]) -> None:
    page = open_page(f"mixture?{SHOWN}&made={made['sts']}")
    page.get_by_role("button", name="Train with this mixture").click()
    expect(page).to_have_url(re.compile(rf"/runs\?.*mixture={made['sts']}"))
    expect(page.get_by_text("a mixture made here")).to_be_visible()
    rate = page.get_by_role("textbox", name="Learning rate")
    rate.fill("5e-4")
    rate.press("Enter")
    code = page.get_by_test_id("stCode").filter(has_text="learning_rate = 0.0005")
    expect(code).to_contain_text(f"{made['sts']}/result/manifest.json")
    expect(page.get_by_role("spinbutton", name="Steps", exact=True)).to_have_value("60")
    page.get_by_role("button", name="Train on the set chosen on top instead").click()
    expect(page.get_by_text("both chosen on top")).to_be_visible()
    assert "mixture=" not in page.url
