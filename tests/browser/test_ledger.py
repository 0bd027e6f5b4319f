"""The ledger in a real browser: it fits and reads well everywhere, links hold, and a run's end is seen by itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from sts_core.folders import jobs
from sts_core.jobs.folder import advance, now
from sts_core.spec import MMLU_DOMAINS
from tests.browser.conftest import Dashboard, running_dashboard
from tests.browser.test_dashboard import serious
from tests.pages.made_ledger import KEY, evaluate, make_foretold

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
Take = Callable[[Page, str], None]
HOSTILE = "<img src=x onerror=alert(1)> **b** [x](javascript:alert(1)) a name far too long for a column"
SCORES = {name: 1.0 + i for i, name in enumerate(MMLU_DOMAINS)}


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard whose cache holds these predictions alone."""
    with running_dashboard(tmp_path_factory.mktemp("ledger")) as served, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(served.cache))
        random = np.random.default_rng(3)
        for i in range(5):
            scores = {name: float(random.normal()) for name in MMLU_DOMAINS}
            harm = {name: 0.04 * value + 0.03 * float(random.normal()) for name, value in scores.items()}
            titles = {0: HOSTILE, 4: "the newest, LoRA, 60 steps"}
            key = KEY if i in (3, 4) else f"{i:020d}"
            make_foretold(
                scores, harm, title=titles.get(i, f"run {i}"), key=key, data=("gsm-symbolic", HOSTILE)[i == 1]
            )
        yield served


def in_view(page: Page) -> None:
    """The whole ledger is drawn."""
    expect(page.locator("h1")).to_contain_text("predictions scored")
    for key in ("ledger_ranks", "ledger_hits"):
        expect(page.locator(f".st-key-{key} .js-plotly-plot")).to_be_visible()
    expect(page.locator(".st-key-ledger [data-testid=stDataFrame]")).to_be_visible()


def pick_first(page: Page) -> None:
    """Click the box of the first line."""
    table = page.locator(".st-key-ledger [data-testid=stDataFrame] canvas").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 18, box["y"] + 35 + 35 / 2)
    expect(page.locator(".st-key-ledger_line")).to_be_visible()


@pytest.mark.parametrize(("width", "appearance"), [(1440, "light"), (1440, "dark"), (400, "light"), (400, "dark")])
def test_it_fits_and_axe_finds_nothing_serious(
    open_page: Open, axe_source: str, take_picture: Take, width: int, appearance: str
) -> None:
    page = open_page("ledger", width=width, appearance=appearance)
    in_view(page)
    pick_first(page)
    too_wide = page.evaluate(
        """() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
                 .some(e => e.scrollWidth > e.clientWidth + 1)"""
    )
    assert not too_wide
    drawn = page.locator(".st-key-ledger_ranks .js-plotly-plot").evaluate("f => f._fullLayout.paper_bgcolor")
    assert drawn.upper() == ("#0E1013" if appearance == "dark" else "#FFFFFF")
    page.evaluate(axe_source)
    assert serious(page) == []
    take_picture(page, f"ledger-{width}-{appearance}")


def test_names_of_rows_stay_within_the_figure(open_page: Open) -> None:
    page = open_page("ledger", width=400)
    in_view(page)
    for key in ("ledger_ranks", "ledger_hits"):
        outside = page.locator(f".st-key-{key} .js-plotly-plot").evaluate(
            """f => { const box = f.getBoundingClientRect();
                 return [...f.querySelectorAll('.ytick text, .annotation')].filter(text => {
                   const own = text.getBoundingClientRect();
                   return own.left < box.left - 1 || own.right > box.right + 1;
                 }).map(text => text.textContent) }"""
        )
        assert outside == []


def test_a_line_leads_to_its_run_and_to_transfer(open_page: Open) -> None:
    page = open_page("ledger")
    in_view(page)
    pick_first(page)
    line = page.locator(".st-key-ledger_line")
    expect(line.get_by_text("STS act against harm in answer log-likelihood")).to_be_visible()
    line.get_by_role("link", name="See it on Transfer").click()
    expect(page).to_have_url(re.compile(rf"/transfer\?.*result={KEY[:12]}"))
    expect(page.locator("h1")).to_be_visible()
    page.go_back()
    in_view(page)
    pick_first(page)
    page.locator(".st-key-ledger_line").get_by_role("link", name="Open the run").click()
    expect(page).to_have_url(re.compile(r"/runs\?.*run=\d{8}-"))
    expect(page.get_by_text("Before and after")).to_be_visible()


def test_the_csv_comes_down(open_page: Open) -> None:
    page = open_page("ledger")
    in_view(page)
    with page.expect_download() as coming:
        page.locator(".st-key-csv_ledger button").first.click()
    text = coming.value.path().read_text(encoding="utf-8")
    assert coming.value.suggested_filename == "ledger.csv"
    assert text.startswith('"run","title","written","result",')
    assert len([row for row in text.splitlines() if ',"scored",' in row]) == 5


def test_the_end_of_a_run_is_seen_without_a_click(
    open_page: Open, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prediction waits, its evaluation arrives, and its score stands on the page."""
    monkeypatch.setenv("STS_CACHE", str(dashboard.cache))
    run = make_foretold(SCORES, None, state="running", title="under way", key="f" * 20, data="another")
    folder = jobs() / run
    try:
        page = open_page("ledger")
        in_view(page)
        before = int(page.locator("h1").inner_text().split()[0])
        expect(page.get_by_text("Waiting: 1 for the run.")).to_be_visible()
        evaluate(folder, "change", SCORES)
        advance(folder, state="done", ended=now())
        expect(page.locator("h1")).to_contain_text(f"{before + 1} predictions scored", timeout=30_000)
        expect(page.get_by_text("Waiting: 1 for the run.")).to_have_count(0)
    finally:
        advance(folder, state="cancelled")  # unless it has ended


def test_an_empty_ledger_leads_to_the_launch_form(
    tmp_path_factory: pytest.TempPathFactory, chromium: object, axe_source: str
) -> None:
    from playwright.sync_api import Browser

    assert isinstance(chromium, Browser)
    with running_dashboard(tmp_path_factory.mktemp("empty-ledger")) as served:
        context = chromium.new_context(viewport={"width": 400, "height": 900})
        try:
            page = context.new_page()
            page.goto(f"{served.url}/ledger")
            expect(page.locator("h1")).to_contain_text("No prediction is written down yet", timeout=30_000)
            page.evaluate(axe_source)
            assert serious(page) == []
            page.get_by_role("button", name="Start a fine-tuning run").click()
            expect(page).to_have_url(re.compile("/runs"))
        finally:
            context.close()
