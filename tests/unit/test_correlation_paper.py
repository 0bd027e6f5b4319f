"""The paper's own numbers: what it prints is what we compute from what it shows, and what it hides is told."""

from __future__ import annotations

import json

import pytest

from sts_core import folders
from sts_core.cli import main
from sts_core.cli.measuring import ranks_band
from sts_core.errors import UserError
from sts_core.results import paper
from sts_core.results.actual import read_actual
from sts_core.results.agreement import ALL, HARM, PAPER8, SIZE, agree, of_paper
from sts_core.spec import MMLU_DOMAINS
from sts_core.stats.correlation import Correlation, correlate

LLAMA, QWEN, GEMMA = paper.models()
# r, two-sided exact permutation p, and r without engineering, worked out from the figure's points by other means.
EXPECTED = {
    (LLAMA, "sts_act"): (0.703, 0.048, 0.490),
    (QWEN, "sts_act"): (0.891, 0.002, 0.878),
    (GEMMA, "sts_act"): (0.599, 0.102, -0.229),
    (LLAMA, "sts_icl"): (0.805, 0.016, 0.833),
    (QWEN, "sts_icl"): (0.789, 0.0155, 0.862),
    (GEMMA, "sts_icl"): (0.770, 0.055, 0.053),
}


def panel(model: str, score: str) -> Correlation:
    """A panel of Figure 3: the score against |Δ accuracy|, eight domains."""
    table = paper.scores(model)
    shown = table[table["metric"] == score]
    change = {one.domain: one.change for one in paper.outcomes(model)}
    return correlate(shown["domain"], shown["value"], [abs(change[domain]) for domain in shown["domain"]])


@pytest.mark.parametrize(("model", "score"), list(EXPECTED))
def test_a_panel_gives_what_the_paper_prints(model: str, score: str) -> None:
    found, printed = panel(model, score), paper.PRINTED[model, score]
    r, p, without = EXPECTED[model, score]
    assert found.n == 8
    assert found.r == pytest.approx(r, abs=0.002)
    assert found.p_perm == pytest.approx(p, abs=0.003)
    assert found.p_exact
    assert found.loo["engineering"] == pytest.approx(without, abs=0.002)
    assert found.r == pytest.approx(printed.r, abs=0.01)
    assert found.r2 == pytest.approx(printed.r2, abs=0.02)


@pytest.mark.parametrize(("model", "score"), list(EXPECTED))
def test_a_pixel_more_or_less_changes_nothing_that_is_said(model: str, score: str) -> None:
    """The scores were read off a picture: moved by a pixel against the trend, r stays within .02."""
    table = paper.scores(model)
    shown = table[table["metric"] == score]
    change = {one.domain: abs(one.change) for one in paper.outcomes(model)}
    y = [change[domain] for domain in shown["domain"]]
    middle = sorted(y)[4]
    pixel = paper.HALF_PIXEL[model, score]
    worse = [v - pixel * (1 if c > middle else -1) for v, c in zip(shown["value"], y, strict=True)]
    assert correlate(shown["domain"], worse, y).r == pytest.approx(EXPECTED[model, score][0], abs=0.02)


def test_engineering_alone_carries_both_gemma_panels() -> None:
    for score in ("sts_act", "sts_icl"):
        found = panel(GEMMA, score)
        assert found.most_influential == "engineering"
        assert abs(found.r_without_it) < 0.3 < found.r


@pytest.mark.parametrize("model", paper.models())
def test_fourteen_domains_changed_and_the_eight_with_a_score_are_the_extremes(model: str) -> None:
    outcomes = paper.outcomes(model)
    assert {one.domain for one in outcomes} == set(MMLU_DOMAINS)
    assert all(one.harm == -one.change and one.se is None for one in outcomes)
    by_size = sorted(outcomes, key=lambda one: -abs(one.change))
    extremes = {one.domain for one in by_size[:4] + by_size[-4:]}
    shown = set(paper.scores(model)["domain"])
    assert extremes == shown
    assert len(shown) == 8


@pytest.mark.parametrize("model", paper.models())
def test_what_is_not_published_is_said_to_be(model: str) -> None:
    found = of_paper(model)
    assert len(found.only_changed) == 6
    assert found.only_scored == []
    assert any("not published" in note and found.only_changed[0] in note for note in found.notes)
    assert not any(one.primary for one in found.comparisons)
    assert {(c.score, c.outcome) for c in found.comparisons} == {
        (score, outcome) for score in ("sts_act", "sts_icl") for outcome in (HARM, SIZE)
    }
    json.dumps(found.public(), default=float)


def test_all_and_paper8_are_the_same_eight() -> None:
    found = agree(paper.scores(QWEN), read_actual(f"paper:{QWEN}"), [ALL, PAPER8])
    of_all, of_eight = (
        [c.correlation for c in found.comparisons if c.filter == name] for name in (ALL, PAPER8)
    )  # fmt: skip
    assert of_all == of_eight


def test_a_model_is_found_by_its_beginning_or_the_three_are_named() -> None:
    assert [paper.find(name) for name in ("llama", "Qwen2.5", GEMMA)] == [LLAMA, QWEN, GEMMA]
    for wrong in ("", "mistral", "7B"):
        with pytest.raises(UserError) as error:
            paper.find(wrong)
        assert LLAMA in error.value.hint


def test_the_command_line_takes_the_same_names_as_an_export(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for more in (["--actual", "paper:qwen"], ["--actual", "paper", "--paper", "qwen"]):
        assert main(["correlate", str(folders.DEMO / "result"), *more, "--json"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert json.loads(told[0])["source"].startswith("paper, ")


def test_a_band_of_ranks_is_that_of_the_page_or_a_slice() -> None:
    assert ranks_band("101-200") == ranks_band("100:200") == (100, 200)
    for wrong in ("0-5", "5", "a-b", "-3", "3:"):
        with pytest.raises(UserError, match="no band of ranks"):
            ranks_band(wrong)
