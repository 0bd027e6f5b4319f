"""Somebody at the dashboard in a real Chromium, with a stopwatch inside the page.

The clock starts with the press of the pointer and stops with the first frame in which the new content is there, both
told by the page's own clock: what Playwright takes to aim is nobody's waiting.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from playwright.sync_api import Error, Locator, Page, expect

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
PATIENCE = 30_000
"""Milliseconds after which new content will not come any more."""
_STOPWATCH = """seen => {
    const there = new Function('return ' + seen);
    if (there()) throw new Error('it is there before the click: ' + seen);
    window.took = new Promise(done => document.addEventListener('pointerdown', () => {
        const began = performance.now();
        const look = () => there() ? done(performance.now() - began) : requestAnimationFrame(look);
        requestAnimationFrame(look);
    }, {capture: true, once: true}));
}"""
_FIRST = """seen => {
    const there = new Function('return ' + seen);
    window.took = new Promise(done => {
        const look = () => there() ? done(performance.now()) : requestAnimationFrame(look);
        look();
    });
}"""
TABLE = "document.querySelector('.st-key-runs canvas, [class*=st-key-runs] canvas')"
_CURVES = {
    "loss": "Does it learn?", "learning rate": "How large are its steps?",
    "norm of the gradient": "How hard does it pull?", "tokens a second": "How fast is it?",
}  # fmt: skip
_ORDERS = {
    "Most raised": "that demonstrations raise", "Most lowered": "that demonstrations lower",
    "Gain in firing": "that fire more often", "Shift": "features. Pick a row",
}  # fmt: skip


class Took(NamedTuple):
    """One thing done, and how long its answer took."""

    what: str
    milliseconds: float


class Person:
    """Clicks about; every answer is timed."""

    def __init__(self, page: Page, url: str, draw: random.Random) -> None:
        self.page, self.url, self.draw = page, url, draw
        self.took: list[Took] = []

    def click(self, what: str, target: Locator, seen: str, at: dict[str, Any] | None = None) -> None:
        """Click there, and wait for what a JavaScript expression says is the new content."""
        self.pause()
        try:
            target.scroll_into_view_if_needed(timeout=PATIENCE)
        except Error:  # it was replaced by its like meanwhile
            target.scroll_into_view_if_needed(timeout=PATIENCE)
        self.page.evaluate(_STOPWATCH, seen)
        target.click(**({"position": at} if at else {}), timeout=PATIENCE)
        self.took.append(Took(what, self._answer("window.took", what)))

    def open(self, path: str, seen: str) -> float:
        """Go to a page of a new tab's making; milliseconds from its navigation to the content."""
        self.page.goto(f"{self.url}/{path}", wait_until="commit")
        self.page.evaluate(_FIRST, seen)
        return self._answer("window.took", f"opening {path}")

    def _answer(self, promised: str, what: str) -> float:
        """Milliseconds, once there is an answer."""
        never = f"new Promise(done => setTimeout(() => done(null), {PATIENCE}))"
        took = self.page.evaluate(f"Promise.race([{promised}, {never}])")
        if took is None:
            raise TimeoutError(f"{what}: nothing new was seen")
        return float(took)

    def pause(self) -> None:
        """Look at what is there, for as long as one does."""
        self.page.wait_for_timeout(self.draw.uniform(200, 900))

    def look_at_runs(self, rows: int) -> None:
        """The runs' page: pick a row, take the pick back, change a number of the form."""
        table = self.page.locator("[class*=st-key-runs] [data-testid=stDataFrame]").first
        at = self._box_of_a_row(rows)
        button = offered("Open this run")
        self.click("pick a run", table, button, at)
        self.click("take the pick back", table, f"!{button}", at)

    def _box_of_a_row(self, rows: int) -> dict[str, float]:
        """Where the table has the box that picks a row: it is a canvas, and no element can be asked for."""
        return {"x": 18.0, "y": 34.0 + 33.0 * (self.draw.randrange(rows) + 0.5)}

    def open_a_run(self, rows: int) -> None:
        """Pick one, open it, turn through its curves, go back."""
        table = self.page.locator("[class*=st-key-runs] [data-testid=stDataFrame]").first
        button = offered("Open this run")
        self.click("pick a run", table, button, self._box_of_a_row(rows))
        self.click("open a run", self.page.get_by_role("button", name="Open this run"), figure("Does it learn?"))
        for name in (*self.draw.sample(list(_CURVES)[1:], 3), "loss"):
            self.click("switch a curve", self.page.get_by_role("radio", name=name, exact=True), figure(_CURVES[name]))
        self.click("back to all runs", self.page.get_by_role("button", name="All runs"), headline("kept;"))

    def look_at_shifted(self) -> None:
        """The page of shifted features: another order, another N."""
        self.click("to shifted features", self.page.get_by_role("link", name="Shifted features"), headline("hold"))
        expect(self.page.get_by_role("radio", name="Most raised")).to_be_visible(timeout=PATIENCE)
        for name in ("Most raised", "Most lowered", "Shift"):
            self.click("order the features", self.page.get_by_role("radio", name=name, exact=True), said(_ORDERS[name]))
        for n in ("50", "500", "100"):
            seen = headline(f"{n} of")
            self.click("move N", self.page.get_by_role("radio", name=n, exact=True), seen)
        self.click("to the runs", self.page.get_by_role("link", name="Fine-tuning runs"), headline("kept;"))
        expect(self.page.locator("[class*=st-key-runs] canvas").first).to_be_visible(timeout=PATIENCE)


def headline(words: str) -> str:
    """The title says so."""
    return _visible("h1", "innerText.replace(/\\s/g, ' ')", words)


def figure(title: str) -> str:
    """A figure of this title is drawn."""
    return _visible(".js-plotly-plot text", "textContent", title)


def said(words: str) -> str:
    """A caption says so."""
    return _visible("[data-testid=stCaptionContainer]", "innerText", words)


def offered(label: str) -> str:
    """A button of this label is there."""
    return _visible("button", "innerText", label)


def _visible(which: str, text: str, words: str) -> str:
    """Streamlit keeps what was replaced in the page for a while, hidden: that is not seen."""
    return f"[...document.querySelectorAll({which!r})].some(e => e.{text}.includes({words!r}) && e.checkVisibility())"


def until(told: Callable[[], bool], page: Page, seconds: float, words: str) -> None:
    """Look now and then until it is so."""
    for _ in range(int(seconds * 5)):
        if told():
            return
        page.wait_for_timeout(200)
    raise TimeoutError(words)
