"""The feature browser in a real browser: from the list to a feature and back, drawn lines, hostile text, links."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from sts_core.results import labels
from sts_core.results.dictionary import Meaning, place_of, write_dictionary
from sts_core.results.labels import Label
from tests.browser.conftest import Dashboard
from tests.browser.test_dashboard import Open, Take, serious
from tests.browser.test_shifted import click_row
from tests.pages.made_gallery import HOSTILE, make_gallery
from tests.pages.synthetic import FEATURES, make_result

pytestmark = pytest.mark.browser
SHOWN = "result=fedcba987654"
SAE, MODEL = "saerevision", "modelrevision"


@pytest.fixture(scope="module", autouse=True)
def _gathered(dashboard: Dashboard) -> Iterator[None]:
    """A result with everything there can be of its features, much of it hostile; older than the one others look at."""
    resolved = {
        "device": "cpu",
        "dtype": "float32",
        "sae": {"layer": 15, "revision": SAE},
        "model": {"revision": MODEL},
    }
    result = make_result(
        dashboard.cache / "results", key="fedcba9876543210abcd", resolved=resolved, finished="2001-01-01T00:00:00+00:00"
    )
    make_gallery(result, hostile=True)
    meanings = [
        Meaning(f, [*HOSTILE[:6]], [0.9 - 0.1 * i for i in range(6)], [" no"], [-0.5], [(f + 1) % FEATURES], [0.9])
        for f in range(FEATURES)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(dashboard.cache))
        write_dictionary(
            place_of(MODEL, SAE), {"model_revision": MODEL, "sae_revision": SAE, "how": "made"}, [meanings]
        )
        labels.write_labels(
            SAE, MODEL, "provenance", [Label(8, "</p><script>alert(1)</script> [x](javascript:2) http://a.b")]
        )
        yield


def heading(page: Page) -> str:
    return page.locator("h1").inner_text()


@pytest.mark.parametrize("path", ["", "&feature=7", "&feature=8&beside=true&view=Full"])
@pytest.mark.parametrize("width", [1440, 1024, 400])
@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_nothing_overflows_and_axe_is_content(
    open_page: Open, axe_source: str, take_picture: Take, path: str, width: int, appearance: str
) -> None:
    page = open_page(f"features?{SHOWN}{path}", width=width, appearance=appearance)
    if path:
        expect(page.locator(".strips .tokens").first).to_be_visible()
        expect(page.get_by_text("What does it write?")).to_be_visible()
    else:
        expect(page.locator("[data-testid=stDataFrame] canvas").first).to_be_visible()
    too_wide = page.evaluate(
        """() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
                 .some(e => e.scrollWidth > e.clientWidth + 1)"""
    )
    assert not too_wide
    if width != 1024:
        page.evaluate(axe_source)
        assert serious(page) == []
    name = {"": "list", "&feature=7": "feature"}.get(path, "feature-full")
    take_picture(page, f"{name}-{width}-{appearance}")


def test_hostile_labels_and_texts_are_text(open_page: Open) -> None:
    page = open_page(f"features?{SHOWN}&feature=8")
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
    expect(page.locator("h1")).to_have_text(
        "Feature 8: “</p><script>alert(1)</script> [x](javascript:2) http:\u2060//a.b”"
    )
    expect(page.locator(".strips").first).to_contain_text("row")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_test_id("stPopoverBody").locator("code")).to_contain_text("## Feature 8")
    assert page.locator("main a[href^=javascript], [data-testid=stMain] a[href^=javascript]").count() == 0
    expect(page.locator("h1 a")).to_have_count(0)
    page.wait_for_timeout(300)


def headed(page: Page, words: str | re.Pattern[str]) -> None:
    """The page has this title, and no other: while it is drawn anew, the one before stands for a moment too."""
    expect(page.locator("h1").filter(has_text=words)).to_be_visible()
    expect(page.locator("h1")).to_have_count(1)


def test_a_row_opens_its_feature_and_the_way_leads_on_and_back(open_page: Open) -> None:
    page = open_page(f"features?{SHOWN}")
    headed(page, "Of the 100 most shifted features")
    finding = heading(page)
    click_row(page, 2, 200)
    headed(page, re.compile("^Feature"))
    expect(page).to_have_url(re.compile(r"feature=\d+"))
    third = heading(page)
    expect(page.get_by_text(f"3 of {FEATURES} by shift", exact=True)).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text(f"4 of {FEATURES} by shift", exact=True)).to_be_visible()
    page.get_by_role("button", name="Previous").click()
    headed(page, third)
    page.get_by_role("button", name="All features").click()
    headed(page, finding)
    assert "feature=" not in page.url
    page.go_back()
    headed(page, third)


def test_a_line_drawn_around_features_narrows_the_list_and_stays_in_the_link(open_page: Open) -> None:
    page = open_page(f"features?{SHOWN}")
    plot = page.locator("[class*=st-key-cloud] .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.5), (0.02, 0.5), (0.02, 0.03)]
    page.mouse.move(box["x"] + corners[0][0] * box["width"], box["y"] + corners[0][1] * box["height"])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=6)
    page.mouse.up()
    expect(page.locator("h1")).to_contain_text("inside the line drawn")
    kept = heading(page)
    assert 0 < int(kept.split(" of ")[0]) < FEATURES
    again = open_page(page.url.split("/", 3)[3])
    expect(again.locator("h1")).to_have_text(kept)
    again.get_by_role("button", name="Take the line away").click()
    expect(again.locator("h1")).to_contain_text("Of the 100 most shifted features")


def test_a_link_holds_the_view_of_a_feature(open_page: Open) -> None:
    page = open_page(f"features?{SHOWN}&feature=7")
    page.get_by_role("radio", name="50 %", exact=True).click()
    expect(page.get_by_text("at the median in base")).to_be_visible()
    page.get_by_role("radio", name="ICL", exact=True).click()
    expect(page.get_by_text("at the median in ICL")).to_be_visible()
    page.get_by_role("button", name="Link").click()
    link = page.get_by_test_id("stPopoverBody").locator("code").inner_text()
    assert link.startswith(page.url.split("/features")[0])
    again = open_page(link.split("/", 3)[3])
    expect(again.locator("h1")).to_contain_text("Feature 7")
    expect(again.get_by_text("at the median in ICL")).to_be_visible()


def test_a_star_is_kept(open_page: Open, dashboard: Dashboard) -> None:
    page = open_page(f"features?{SHOWN}&feature=9")
    page.get_by_role("button", name="Star", exact=False).first.click()
    expect(page.get_by_role("button", name="Starred")).to_be_visible()
    again = open_page(f"features?{SHOWN}&starred=true")
    expect(again.locator("h1")).to_have_text(f"1 of {FEATURES} features: starred.")


def test_a_label_of_ones_own_is_kept_on_enter(open_page: Open) -> None:
    page = open_page(f"features?{SHOWN}&feature=11")
    page.get_by_role("button", name="Label and note").click()
    page.get_by_label("Your label").fill("counts of sheep")
    page.get_by_label("Your label").press("Enter")
    expect(page.locator("h1")).to_contain_text("Feature 11: “counts of sheep”")


def test_the_dashboard_stays_light(open_page: Open, dashboard: Dashboard) -> None:
    open_page(f"features?{SHOWN}&feature=7")
    assert [path for path in dashboard.loaded if "/torch/" in path or "/sae_lens/" in path] == []


def test_back_from_a_feature_leads_to_the_list(open_page: Open) -> None:
    """Also from one that was opened by its row, which stays picked in the table behind."""
    page = open_page(f"features?{SHOWN}")
    before = heading(page)
    click_row(page, 1, 200)
    expect(page.get_by_text("Where does it fire?")).to_be_visible()
    page.go_back()
    headed(page, before)
    assert "feature=" not in page.url


def test_a_link_to_what_is_not_there_is_told(open_page: Open) -> None:
    page = open_page("features?result=nowhere&feature=99999")
    expect(page.get_by_text("The result nowhere of this link is not here; another one is shown.")).to_be_visible()
    expect(page.get_by_text("There is no feature 99999 in this SAE.")).to_be_visible()
