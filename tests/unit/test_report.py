"""The report: the numbers of the pages, honest words, equal bytes, no markup from outside, sane with odd results."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sts_core import folders
from sts_core.figures.numbers import column_decimals, fixed, with_error
from sts_core.figures.report.ink import shown, ticks
from sts_core.figures.report.page import MOST_BYTES, report
from sts_core.folders import atomic_json, ensure, jobs
from sts_core.jobs.folder import RESULT
from sts_core.results import Result
from sts_core.results.actual import MIXED, read_actual
from sts_core.results.agreement import hold_against
from sts_core.results.folder import RAW, TARGET, write_result
from sts_core.results.labels import Label, write_labels
from sts_core.results.sums import SetSums
from tests.pages.synthetic import all_domains, make_result, make_spec
from tests.pages.test_transfer import evaluated_run

HOSTILE = "<img src=x onerror=alert(1)>"
SCRIPT = "</style><script>alert(1)</script>"
ACTS = {"script", "img", "iframe", "object", "embed", "link", "base", "form", "image", "use", "foreignobject", "a"}


class Page(HTMLParser):
    """A report as a browser takes it apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.titles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
            if "h1" in self.open:
                self.titles.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def result(own_cache: Path) -> Result:
    return make_result(folders.results())


def rewrite(result: Result, **changes: Any) -> None:
    """Alter a result's manifest, as other hands may."""
    path = result.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_prediction_says_so_and_tells_every_score_with_its_error(result: Result) -> None:
    page = Page(report(result.folder))
    assert "".join(page.titles).startswith("Psychology scores highest of 14 domains")
    assert "Prediction, not yet tested here" in page.text
    assert "What really happened" not in page.text
    assert "known only after the fine-tune is measured" in page.text
    scores = result.scores(n=100).query("metric == 'sts_act'")
    decimals = column_decimals(scores["value"], scores["se"])
    for row in scores.itertuples():
        assert row.domain in page.text
        assert with_error(row.value, row.se, decimals) in page.text, row.domain


def test_what_happened_is_told_as_correlate_tells_it(result: Result) -> None:
    run = jobs() / evaluated_run() / RESULT
    text = report(result.folder, run, None, "my run")
    page = Page(text)
    found = hold_against(Result(result.folder), read_actual(run), n=100).comparisons
    primary = next(one for one in found if one.primary).correlation
    assert f"ρ = {fixed(primary.spearman, 2)}" in "".join(page.titles)
    assert "Primary comparison, fixed beforehand" in page.text
    assert f"r = {fixed(primary.r, 2)}, n = 14" in page.text
    assert str(primary.most_influential) in page.text
    assert "Reliability of the outcome" in page.text
    assert "What happened: my run (nll)." in page.text
    assert "not yet tested" not in page.text
    for one in found:  # every comparison has its row
        assert fixed(one.correlation.r, 2) in page.text
    assert "Are the shifted features the ones foretold?" in page.text
    for null in ("Rounding", "Activation", "Matched", "Chance"):
        assert null in page.text


def test_a_run_on_a_mixture_says_so_and_how_to_mix_it_again(result: Result) -> None:
    run = jobs() / evaluated_run() / RESULT
    assert MIXED not in Page(report(result.folder, run)).text
    manifest = json.loads((run / "manifest.json").read_text())
    data = str(run.parent / "made" / "manifest.json")
    told = {"rows": {"mixture": {}}, "spec": {"method": "lora", "target": {"data": data}}}
    atomic_json(run / "manifest.json", manifest | told)
    atomic_json(ensure(run.parent / "made") / "manifest.json", {"spec": {"result": "/there/of/somebody", "budget": 17}})
    page = Page(report(result.folder, run))
    assert page.text.count(MIXED) == 1
    for words in ("sts mix mixture.toml --out mixture", 'result = "result"', "budget = 17", '"mixture/manifest.json"'):
        assert words in page.text
    assert "somebody" not in page.text


def test_an_outcome_of_another_metric_is_exploratory_and_named(result: Result) -> None:
    page = Page(report(result.folder, {name: -float(i % 5) for i, name in enumerate(all_domains())}))
    assert "Exploratory" in page.text
    assert "Primary comparison" not in page.text
    assert "not the one fixed beforehand" in page.text
    assert "neither rows nor standard errors" in page.text


def test_the_paper_is_no_fine_tune_of_ours(result: Result) -> None:
    page = Page(report(result.folder, "paper:Qwen2.5-7B-Instruct"))
    assert "Prediction held against what happened" in page.text
    assert "The changes are not of this model" in page.text


def test_equal_inputs_give_equal_bytes_and_little_of_them(result: Result) -> None:
    run = jobs() / evaluated_run() / RESULT
    first, second = (report(result.folder, run, None, "r") for _ in range(2))
    assert first == second
    assert len(first.encode()) < 300_000 < MOST_BYTES


def test_it_holds_nothing_that_runs_or_asks(result: Result) -> None:
    text = report(result.folder, jobs() / evaluated_run() / RESULT)
    page = Page(text)
    assert not ACTS & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "href", "src")], tag
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv")) or ""
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "url(" not in text
    assert "http" not in re.sub(r'http-equiv="', "", text)


def test_hostile_text_is_text_wherever_it_comes_from(own_cache: Path) -> None:
    spec = make_spec()
    spec["domains"][0]["name"] = HOSTILE
    spec["target"]["data"] = f"/secret/place/{SCRIPT.replace('/', '|')}.jsonl"
    spec["model"] = SCRIPT
    revisions = {
        "model": {"revision": "m1"},
        "sae": {"revision": "s1", "layer": 15},
        "files": {HOSTILE: {"data": SCRIPT}},
    }
    result = make_result(
        folders.results(), spec=spec, warnings=[SCRIPT, "turned \u202e back\x00"], versions={SCRIPT: HOSTILE},
        resolved=revisions,
    )  # fmt: skip
    top = int(result.shift.sort_values("shift_icl", ascending=False)["feature"].iloc[0])
    write_labels("s1", "m1", SCRIPT, [Label(top, HOSTILE, "x", detection=0.5)])
    text = report(result.folder, {"business": 1.0, "law": 2.0, "math": 3.0}, None, SCRIPT)
    page = Page(text)
    assert not ACTS & {tag for tag, _ in page.tags}
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "header", "p", "svg", "path", "span", "h1", "h2",
        "h3", "ul", "li", "dl", "div", "dt", "dd", "section", "figure", "figcaption", "text", "line", "rect", "circle",
        "table", "thead", "tbody", "tr", "th", "td", "pre", "details", "summary", "footer",
    }  # fmt: skip
    assert HOSTILE in page.text
    assert SCRIPT in page.text
    assert "/secret/place" not in text
    assert "\u202e" not in text
    assert "\x00" not in text


def test_labels_stand_beside_their_features_with_their_score(own_cache: Path) -> None:
    result = make_result(
        folders.results(), resolved={"sae": {"revision": "s1"}, "model": {"revision": "m1"}, "device": "cpu"}
    )
    assert "Detection" not in report(result.folder)
    top = int(result.shift.sort_values(["shift_icl", "feature"], ascending=[False, True])["feature"].iloc[0])
    write_labels("s1", "m1", "provenance", [Label(top, "worked sums", detection=0.91)])
    page = Page(report(result.folder))
    assert "worked sums 0.91" in page.text
    assert "Labels by the source of its strongest examples (1)." in page.text


def test_a_manifest_of_other_hands_is_still_reported(result: Result) -> None:
    """Whatever lacks or is of another kind becomes an em dash, not a crash."""
    manifest = result.manifest
    rewrite(result, resolved=None, versions=[], tokens=7, warnings="none", seconds="long", finished=12, seed=None)
    assert "How it was made" in report(result.folder)
    (result.folder / "manifest.json").write_text(json.dumps({"key": "k", "seed": 0, "spec": {"domains": [
        {"name": domain["name"]} for domain in manifest["spec"]["domains"]]}}))  # fmt: skip
    page = Page(report(result.folder))
    assert "the target set" in page.text


def test_few_questions_have_no_error_and_that_is_told(own_cache: Path) -> None:
    page = Page(report(make_result(folders.results(), items=3).folder))
    assert "± —" in page.text
    assert "Without a standard error, for want of questions: biology" in page.text


def test_a_correlation_that_cannot_be_told_is_not(result: Result) -> None:
    page = Page(report(result.folder, {"law": 1.0, "math": 2.0}))
    assert "cannot be told" in page.text
    assert "nan" not in page.text.casefold().split()


def test_axis_numbers_are_round_and_few() -> None:
    random = np.random.default_rng(0)
    for _ in range(500):
        low = float(random.normal() * 10.0 ** random.integers(-6, 6))
        high = low + float(random.gamma(1) * 10.0 ** random.integers(-6, 6)) + 1e-9
        most = int(random.integers(2, 8))
        found = ticks(low, high, most)
        assert len(found) <= most + 1
        span = high - low
        assert all(low - 1e-6 * span - 1e-12 <= tick <= high + 1e-6 * span + 1e-12 for tick in found)
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(3, 3, 5) == [3]
    assert ticks(math.nan, math.nan, 5) == []


def test_text_keeps_what_holds_a_number_and_its_unit() -> None:
    assert shown("10\u202f000\u00a0kg\n<b>\u200f") == "10\u202f000\u00a0kg &lt;b&gt;\ufffd"


def test_the_method_is_told_as_it_was_done(own_cache: Path) -> None:
    """Which tokens counted, which pairing, whose outcome: not a text that is always the same."""
    page = Page(report(make_result(folders.results(), key="a" * 20).folder))
    assert "over exactly the same tokens, those of the question alone" in page.text
    answers = make_result(folders.results(), key="b" * 20, spec=make_spec(pool={"tokens": "answer"})).folder
    assert "those of the correct answer" in Page(report(answers)).text
    reference = make_result(folders.results(), key="c" * 20, spec=make_spec(run={"preset": "reference"})).folder
    told = Page(report(reference)).text
    assert "paired by their number whatever tokens they are" in told
    assert "exactly the same tokens" not in told
    ours = Page(report(answers, jobs() / evaluated_run() / RESULT)).text
    assert "on questions that neither the scores nor the training used" in ours
    theirs = Page(report(answers, {name: float(i) for i, name in enumerate(all_domains())})).text
    assert "neither the scores nor the training used" not in theirs


def test_a_result_where_nothing_moved_says_so(own_cache: Path) -> None:
    made = make_result(folders.results())
    sums = made.groups
    still = {name: _still(one) if name in (TARGET, RAW) else one for name, one in _whole(sums).items()}
    result = write_result(folders.results() / "still", made.manifest | {"key": "still"}, still)
    page = Page(report(result.folder))
    assert "Demonstrations moved no feature" in page.text
    assert "nan" not in page.text.casefold().split()


def _whole(sums: dict[str, SetSums]) -> dict[str, SetSums]:
    """Groups as they were before they were written: with the counts of active tokens, which are not kept."""
    found = {}
    for name, one in sums.items():
        extra = {key: np.abs(one.sums["base"]) for key in ("active_base", "active_icl")}
        found[name] = SetSums({**extra, **one.sums}, one.tokens, one.items)
    return found


def _still(one: SetSums) -> SetSums:
    moved = {key: np.zeros_like(one.sums["base"]) for key in ("absdiff", "sqdiff", "diff")}
    return SetSums({**one.sums, **moved, "icl": one.sums["base"]}, one.tokens, one.items)
