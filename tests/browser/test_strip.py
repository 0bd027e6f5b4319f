"""Token strips in a real browser: hostile text stays text, the keyboard reaches every token, and all is legible."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from pages.parts.strip import runs
from sts_core.folders import PROJECT
from tests.browser.conftest import KNOWN_NOISE, _at_home, _wait_for
from tests.browser.strip_app import HOSTILE, plain
from tests.browser.test_dashboard import Take, serious

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
LEAST_CONTRAST = 4.5
CONTRAST = """tokens => tokens.map(token => {
  const luminance = color => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true })
    canvas.fillStyle = color
    canvas.fillRect(0, 0, 1, 1)
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const look = getComputedStyle(token)
  const both = [luminance(look.color), luminance(look.backgroundColor)].sort((a, b) => b - a)
  return (both[0] + 0.05) / (both[1] + 0.05)
})"""


@pytest.fixture(scope="module")
def strip_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that shows nothing but strips."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("strips") / "log.txt"
    script = Path(__file__).with_name("strip_app.py")
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
    with log.open("wb") as out:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=out, stderr=out)
    try:
        _wait_for(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
    assert "Traceback" not in log.read_text(errors="replace")


@pytest.fixture
def open_strips(strip_page: str, chromium: Browser) -> Iterator[Open]:
    """Open the page; at the end: no dialog, no error in the console, no request to elsewhere."""
    complaints: list[str] = []
    contexts = []

    def open_at(width: int = 1200, appearance: str = "light") -> Page:
        scheme = "dark" if appearance == "dark" else "light"
        size = {"width": width, "height": 900}
        context = chromium.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("request", lambda r: None if _at_home(r.url, strip_page) else complaints.append(f"asked {r.url}"))

        def dismiss(dialog: object) -> None:
            complaints.append("a dialog opened")
            dialog.dismiss()  # type: ignore[attr-defined]

        page.on("dialog", dismiss)
        page.goto(strip_page)
        expect(page.get_by_text("The end of the page.")).to_be_visible(timeout=30_000)
        expect(page.get_by_role("list", name="Hostile, full").get_by_role("listitem")).to_have_count(len(HOSTILE))
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert [text for text in complaints if not KNOWN_NOISE.search(text)] == []


def told(at: int, place: int, value: str) -> str:
    """What a token of the at-th strip is called for who cannot see it."""
    return f"{''.join(runs(plain(at).texts[place])).strip()}: {value}"


def focused(page: Page) -> Locator:
    return page.locator(".token:focus")


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_hostile_text_is_text_and_the_layout_holds(
    open_strips: Open, take_picture: Take, axe_source: str, width: int, appearance: str
) -> None:
    page = open_strips(width, appearance)
    shown = page.get_by_role("list", name="Hostile", exact=True)
    expect(shown).to_contain_text("<script>alert(1)</script><img src=x onerror=alert(2)>")
    expect(shown).to_contain_text("abc⟨202E⟩desrever⟨2066⟩isolated⟨2069⟩ tail")
    expect(shown).to_contain_text("a⟨00⟩b⟨07⟩c")
    expect(shown).to_contain_text("⟨1B⟩[31mred")
    assert shown.locator("script, img, svg, style, a").count() == 0
    wide = page.evaluate(
        "[document.documentElement, document.querySelector('[data-testid=stMain]')]"
        ".some(e => e.scrollWidth > e.clientWidth + 1)"
    )
    assert not wide
    heights = [box["height"] for item in shown.get_by_role("listitem").all() if (box := item.bounding_box())]
    assert len(heights) == len(HOSTILE)
    assert max(heights) < 140  # a megabyte on a line, or marks piled up, push nothing apart
    page.evaluate(axe_source)
    assert serious(page) == []
    take_picture(page, f"strips-{width}-{appearance}")


@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_every_shade_can_be_read_on(open_strips: Open, appearance: str) -> None:
    page = open_strips(appearance=appearance)
    contrasts = page.locator(".token:not(.silent)").evaluate_all(CONTRAST)
    assert len(contrasts) > 50
    assert min(contrasts) >= LEAST_CONTRAST


def test_a_line_is_centred_on_its_strongest_token(open_strips: Open) -> None:
    for width in (1200, 400):
        page = open_strips(width)
        for tokens in page.get_by_role("list", name="Compact", exact=True).locator(".tokens").all():
            line, peak = tokens.bounding_box(), tokens.locator(".peak").bounding_box()
            assert line is not None
            assert peak is not None
            assert peak["x"] + peak["width"] / 2 == pytest.approx(line["x"] + line["width"] / 2, abs=1.5)
            assert tokens.evaluate("t => t.clientHeight") < 40


def test_the_peak_is_marked_by_more_than_its_colour(open_strips: Open) -> None:
    page = open_strips()
    tokens = page.get_by_role("list", name="Compact", exact=True).locator(".tokens").first
    peak = tokens.locator(".peak")
    assert peak.count() == 1
    assert peak.evaluate("t => getComputedStyle(t).fontWeight") == "700"
    assert "inset" in peak.evaluate("t => getComputedStyle(t).boxShadow")
    expect(peak).to_have_attribute("aria-selected", "true")


def test_the_keyboard_goes_from_token_to_token_and_reads_values(open_strips: Open) -> None:
    page = open_strips()
    tip = page.locator(".strips").nth(0).locator(".tip")
    first = page.get_by_role("list", name="Compact", exact=True)
    first.locator(".peak").first.focus()
    peak = plain(0).peak
    expect(focused(page)).to_have_attribute("aria-label", told(0, peak, "6.00"))
    expect(tip).to_have_text("6.00")
    page.keyboard.press("ArrowRight")
    expect(focused(page)).to_have_attribute("aria-label", told(0, peak + 1, "4.50"))
    expect(tip).to_have_text("4.50")
    assert focused(page).evaluate("t => getComputedStyle(t).outlineStyle") == "solid"
    page.keyboard.press("End")
    expect(focused(page)).to_have_attribute("aria-label", "all: 0")
    expect(focused(page)).to_be_in_viewport()
    page.keyboard.press("ArrowRight")  # there is nothing further
    expect(focused(page)).to_have_attribute("aria-label", "all: 0")
    page.keyboard.press("ArrowDown")
    expect(focused(page)).to_have_attribute("aria-label", told(1, plain(1).peak, "5.00"))
    page.keyboard.press("Home")
    expect(focused(page)).to_have_attribute("aria-label", "Tom: 0")


def test_the_tab_key_stops_once_a_strip(open_strips: Open) -> None:
    page = open_strips()
    stops = page.get_by_role("list", name="Compact", exact=True).locator('[tabindex="0"]')
    expect(stops).to_have_count(5)
    stops.first.focus()
    page.keyboard.press("Tab")
    expect(focused(page)).to_have_attribute("aria-label", told(1, plain(1).peak, "5.00"))


def test_hovering_tells_the_value_in_every_arm(open_strips: Open) -> None:
    page = open_strips()
    tip = page.locator(".strips").nth(1).locator(".tip")
    strips = page.get_by_role("list", name="Full", exact=True)
    strips.locator(".peak").first.hover()
    value = plain(0).lines[1].values[plain(0).peak]
    expect(tip).to_have_text(f"base: 6.00\nICL: {value:.2f}", use_inner_text=True)
    page.mouse.move(2, 2)
    expect(tip).to_be_hidden()


def test_what_no_number_is_known_of_is_no_zero(open_strips: Open) -> None:
    page = open_strips()
    item = page.get_by_role("list", name="Hostile", exact=True).get_by_role("listitem").nth(list(HOSTILE).index("null"))
    assert (item.locator(".peak").get_attribute("aria-label") or "").endswith(": not read")
    expect(item.locator(".value")).to_have_text("—")


def test_colours_follow_one_scale_or_each_its_own(open_strips: Open) -> None:
    page = open_strips()

    def shares(name: str) -> list[str]:
        peaks = page.get_by_role("list", name=name, exact=True).locator(".peak").all()
        return [peak.evaluate("t => t.style.getPropertyValue('--share')") for peak in peaks]

    assert shares("Compact") == ["1.000", "0.850", "0.700", "0.550", "0.400"]
    assert "1.000" in shares("Full")[2:]  # the second example, weaker than the first, on its own scale
