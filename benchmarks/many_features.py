"""How long a person waits for a feature among 131,072: `python -m benchmarks.many_features`.

A result of that width with fourteen domains, a gallery of all its features and labels of half of them, all made of
random numbers; the real server, a real Chromium, a cache of its own; on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from benchmarks.pages_under_load import machine, own_cache, quantile, served, table_of
from benchmarks.person import FLAGS, PATIENCE, Person, Took, headline
from sts_core.results import labels
from sts_core.results.folder import DOMAIN_SUMS, RAW, TARGET, TARGET_SUMS, Result, write_result
from sts_core.results.gallery import BANDS
from sts_core.results.labels import Label
from sts_core.results.sums import SetSums
from tests.pages.made_gallery import BINS, SEEN, make_gallery  # noqa: TID251
from tests.pages.synthetic import make_spec  # noqa: TID251

KEY, GROUPS, WIDTH = "0123456789abcdef0123", 5, 64
AROUND = 20
"""Tokens of an example."""
GOALS = {"headline": 1_500.0, "filter": 300.0, "open": 500.0, "next": 500.0, "slider": 200.0}
"""Milliseconds that are asked for, by the first word of what is done."""
_LISTED = "[class*=st-key-feature] [data-testid=stDataFrame] canvas, [data-testid=stDataFrame] canvas"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the result, click through it, and print it as Markdown; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_features", description=__doc__.split("\n")[0])
    parser.add_argument("--features", type=int, default=131_072)
    parser.add_argument("--rounds", type=int, default=6, help="how often each thing is done")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    with own_cache() as cache:
        make(cache, asked.features, asked.seed)
        print(f"{machine(asked.seed)}; {asked.features:,} features\n")
        with sync_playwright() as playwright, served(cache) as (url, _):
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            took = click_around(chromium, url, asked.rounds, asked.seed)
            chromium.close()
    table_of(took)
    held = True
    for first, goal in GOALS.items():
        times = [one.milliseconds for one in took if one.what.startswith(first)]
        held &= quantile(times, 0.95) <= goal
        print(f"{first}: p95 {quantile(times, 0.95):.0f} ms, asked {goal:.0f}")
    return 0 if held else 1


def click_around(chromium: Browser, url: str, rounds: int, seed: int) -> list[Took]:
    """Open the list, narrow it, open a feature, go on to the next, move the slider of the Transfer page."""
    draw, took = random.Random(seed), []
    browser = chromium.new_context(viewport={"width": 1440, "height": 1000})
    for number in range(rounds + 1):
        page = browser.new_page()
        somebody = Person(page, url, draw)
        # The first visit of all loads the browser's cache and the server's, and is told by itself.
        what = "headline of the list" if number else "very first headline, of server and browser"
        took.append(Took(what, somebody.open("features", headline("features"))))
        settled(page)
        choose(somebody, "Strongest in", "law", "strongest in law")
        choose(somebody, "Fires on at least", "1 %", "on at least")
        choose(somebody, "Strongest in", "any domain", "features: firing on at least")
        row = {"x": 200.0, "y": 34.0 + 33 * (draw.randrange(8) + 0.5)}
        listed = page.locator("[data-testid=stDataFrame]").first
        somebody.click("open a feature from the list", listed, headline("Feature "), row)
        for _ in range(2):
            settled(page)
            following = page.get_by_role("button", name="Next")
            named = "".join(letter for letter in following.inner_text() if letter.isdigit() or letter == "\u202f")
            somebody.click("next feature", following, headline(f"Feature {' '.join(named.split(chr(0x202F)))}"))
        settled(page)
        took += somebody.took
        took += slide(Person(page, url, draw))
        page.close()
    return took


def choose(somebody: Person, label: str, option: str, seen: str) -> None:
    """Take an option of a box of the list's filters; timed from the press on the option."""
    settled(somebody.page)
    somebody.page.get_by_role("combobox", name=label).click()
    one: Locator = somebody.page.get_by_role("option", name=option, exact=True)
    one.wait_for(timeout=PATIENCE)
    somebody.click(f"filter: {label.lower()}", one, headline(seen))


def slide(somebody: Person) -> list[Took]:
    """Move N on the Transfer page: from the press on the slider's bar to the figure that says the new N."""
    page = somebody.page
    somebody.open("transfer", headline("."))
    settled(page)
    bar = page.locator("[data-testid=stSlider]").first
    box = bar.bounding_box() or {"width": 200.0, "height": 40.0}
    for share in (0.3, 0.6, 0.45):
        before = page.locator("[data-testid=stPlotlyChart]").first.text_content() or ""
        changed = f"(e => e && e.textContent !== {before!r})(document.querySelector('[data-testid=stPlotlyChart]'))"
        somebody.click("slider of N", bar, changed, {"x": share * box["width"], "y": 0.62 * box["height"]})
        settled(page)
    return somebody.took


def settled(page: Page) -> None:
    """Nothing is being drawn any more."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=PATIENCE)


def make(cache: Path, features: int, seed: int) -> None:
    """The result, its gallery and its labels, where the dashboard looks for them."""
    draw, spec = np.random.default_rng(seed), make_spec()
    density = 10 ** draw.normal(-3, 1, features).clip(-6, 0)
    level = density * 10 ** draw.normal(0, 0.4, features)

    def sums(names: Sequence[str], share: float, width: int) -> SetSums:
        tokens, found = np.full(GROUPS, 2_000.0), {}
        for name in names:
            value = np.abs(share * level[:width] * draw.uniform(0.5, 1.5, (GROUPS, width)))
            if name.startswith("active"):
                value = np.broadcast_to(density[:width], (GROUPS, width))
            signs = draw.choice([-1, 1], width) if name == "diff" else 1
            found[name] = value * signs * tokens[:, None]
        return SetSums(found, tokens, np.full(GROUPS, 8.0))

    sets = {TARGET: sums(TARGET_SUMS, 1, features), RAW: sums(TARGET_SUMS, 1, WIDTH)}
    sets |= {one["name"]: sums(DOMAIN_SUMS, draw.uniform(0.5, 1.5), features) for one in spec["domains"]}
    manifest = {
        "key": KEY, "spec": spec, "seed": seed, "seconds": 83.0, "finished": "2099-01-01T12:00:00+00:00",
        "warnings": [], "resolved": {"device": "cpu", "dtype": "float32", "sae": {"layer": 15, "revision": "saerev"},
                     "model": {"revision": "r1"}},
        "versions": {}, "tokens": {"pooled": 1},
    }  # fmt: skip
    _gallery(write_result(cache / "results" / KEY, manifest, sets), features, draw)
    found = [Label(f, "math" if f % 3 else "prose", "made", detection=0.5) for f in range(0, features, 2)]
    labels.write_labels("saerev", "r1", "provenance", found)


def _gallery(result: Result, features: int, draw: np.random.Generator) -> None:
    """Examples and histograms of all features in the files that a gallery of one feature has."""
    folder = make_gallery(result, features=[0], sources=("target",))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"kept": None}))
    each, arms = 2 * len(BANDS), ("base", "icl")
    many = features * each
    values = np.tile(np.maximum(0, 1 - np.abs(np.arange(-12, 8)) / 3).astype(np.float32), many)
    examples = pa.table(
        {
            "feature": np.repeat(np.arange(features, dtype=np.int32), each),
            "source": pa.array(["target"] * many),
            "arm": np.tile(np.repeat(arms, len(BANDS)), features),
            "band": np.tile(list(BANDS), 2 * features),
            "rank": np.ones(many, np.int32),
            "value": draw.uniform(0.1, 9, many).astype(np.float32),
            "row": np.zeros(many, np.int64),
            "token": np.full(many, 30, np.int32),
            "start": np.full(many, 18, np.int32),
            "values": pa.ListArray.from_arrays(np.arange(many + 1, dtype=np.int32) * AROUND, pa.array(values)),
            "others": pa.array([None] * many, pa.map_(pa.string(), pa.list_(pa.float32()))),
        }
    )
    pq.write_table(examples, folder / "examples.parquet", row_group_size=20_000)
    one = pq.read_table(folder / "histograms.parquet")
    counts = np.tile(np.array(one["counts"][0].as_py()), 2 * features)
    rows = pa.table(
        {
            "feature": np.repeat(np.arange(features), 2),
            "source": ["target"] * (2 * features),
            "arm": list(arms) * features,
            "seen": np.full(2 * features, SEEN),
            "counts": pa.ListArray.from_arrays(np.arange(2 * features + 1, dtype=np.int32) * BINS, pa.array(counts)),
        }
    )
    pq.write_table(
        rows.replace_schema_metadata(one.schema.metadata), folder / "histograms.parquet", row_group_size=2_000
    )


if __name__ == "__main__":
    sys.exit(main())
