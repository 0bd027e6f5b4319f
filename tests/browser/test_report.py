"""The report in a real browser, offline: it asks for nothing, runs nothing, fits and reads well, and prints light."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from sts_core.figures.report.page import report
from sts_core.folders import jobs
from sts_core.jobs.folder import RESULT
from sts_core.results.labels import Label, write_labels
from tests.browser.test_dashboard import serious
from tests.pages.synthetic import make_result, make_spec
from tests.pages.test_transfer import evaluated_run

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
HOSTILE = "<img src=x onerror=alert(1)>"
SCRIPT = "</style></title><script>alert(document.title)</script>"
STATES = ("held", "prediction")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two reports with hostile words in every place that words come from."""
    folder = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(folder / "cache"))
        spec = make_spec()
        spec["target"]["data"] = SCRIPT.replace("/", "|")
        named = {
            "model": {"revision": "m1"},
            "sae": {"revision": "s1", "layer": 15},
            "files": {HOSTILE: {"data": SCRIPT}},
        }
        result = make_result(folder / "cache" / "results", spec=spec, warnings=[SCRIPT, HOSTILE], resolved=named)
        leading = result.shift.sort_values("shift_icl", ascending=False)["feature"].head(5)
        write_labels("s1", "m1", SCRIPT, [Label(int(feature), HOSTILE, detection=0.8) for feature in leading])
        run = jobs() / evaluated_run() / RESULT
        texts = {"held": report(result.folder, run, None, SCRIPT), "prediction": report(result.folder)}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.fixture
def open_report(reports: dict[str, Path], chromium: Browser) -> Iterator[Open]:
    """Open one from the disk, without a network. At the end: nothing was asked for, said or shown by itself."""
    complaints: list[str] = []
    contexts = []

    def dismiss(dialog: Dialog) -> None:
        complaints.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def open_at(name: str, width: int = 1440, appearance: str = "light") -> Page:
        scheme = "dark" if appearance == "dark" else "light"
        context = chromium.new_context(
            viewport={"width": width, "height": 1000}, color_scheme=scheme, offline=True  # type: ignore[arg-type]
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        address = reports[name].as_uri()
        page.on("console", lambda m: complaints.append(m.text))
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("request", lambda r: None if r.url == address else complaints.append(f"asked {r.url}"))
        page.on("dialog", dismiss)
        page.goto(address)
        expect(page.locator("h1")).to_be_visible()
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert complaints == []


def too_wide(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("width", [1440, 760, 400])
@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_it_fits_and_axe_finds_nothing_serious(
    open_report: Open, axe_source: str, state: str, width: int, appearance: str
) -> None:
    page = open_report(state, width, appearance)
    assert not too_wide(page)
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == ("rgb(14, 16, 19)" if appearance == "dark" else "rgb(255, 255, 255)")
    figures = page.locator("figure svg:visible")
    assert figures.count() == (5 if state == "held" else 3)
    for figure in figures.all():
        box = figure.bounding_box()
        assert box is not None
        assert box["width"] <= width
        letters = figure.locator("text").first.evaluate("e => parseFloat(getComputedStyle(e).fontSize) * e.getCTM().a")
        assert letters > 9.5  # pixels: it is read, not guessed
    page.evaluate(axe_source)
    assert serious(page) == []
    if folder := os.environ.get("STS_SHOTS"):
        page.screenshot(path=f"{folder}/report-{state}-{width}-{appearance}.png", full_page=True)


def test_hostile_words_stand_there_as_words(open_report: Open) -> None:
    page = open_report("held")
    assert page.locator("script, img, iframe, link, a").count() == 0
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    expect(page.get_by_text("alert(document.title)").first).to_be_visible()
    assert page.title().startswith("Training on <|style>")


def test_a_script_that_came_in_all_the_same_would_not_run(
    reports: dict[str, Path], tmp_path: Path, chromium: Browser
) -> None:
    """The policy is a second wall: with the escaping gone, nothing runs and nothing is fetched."""
    broken = tmp_path / "broken.html"
    run = "document.title = 'run'"
    bad = f"<script>{run}</script><img src='https://example.org/x.png' onerror=\"{run}\">"
    broken.write_text(reports["prediction"].read_text().replace("<main>", f"<main>{bad}"))
    context = chromium.new_context(offline=True)
    page = context.new_page()
    failed: list[str] = []
    page.on("requestfailed", lambda r: failed.append(str(r.failure)))
    page.goto(broken.as_uri())
    expect(page.locator("h1")).to_be_visible()
    assert page.title() != "run"
    assert [why for why in failed if "csp" not in why.casefold() and "blocked" not in why.casefold()] == []
    context.close()


def test_paper_is_light_and_whole_also_from_a_dark_screen(open_report: Open) -> None:
    page = open_report("held", 680, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert not too_wide(page)
    shown = page.locator("details pre").first.bounding_box()
    assert shown is not None
    assert shown["height"] > 40  # what is folded on a screen stands on paper


def test_what_is_folded_opens_with_the_keyboard(open_report: Open) -> None:
    page = open_report("held")
    settings = page.locator("details").first
    expect(settings.locator("pre")).to_be_hidden()
    settings.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(settings.locator("pre")).to_be_visible()
