"""The ledger's figures and sentences: every number where it belongs, nothing drawn that is not known, names as text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sts_core.figures.ledger import LONGEST_NAME, Row, hit_bars, spearman_dots
from sts_core.figures.ledger_words import entry_limits, entry_words, explanation, headline, without_words
from sts_core.results.ledger import WAITS_RUN, unscored
from sts_core.results.ledger_overall import overall
from tests.unit.test_ledger_overall import evaluated, foretold, line, score

THREE = {"law": 1.0, "math": 2.0, "physics": 3.0}


def trace(figure: Any, name: str) -> Any:
    return next(one for one in figure.data if one.name == name)


def texts(figure: Any) -> list[str]:
    return [note.text for note in figure.layout.annotations if note.yref == "y"]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_dots_stand_at_spearman_between_their_interval(mode: Any) -> None:
    entries = [line(1, "a"), line(-1, "b"), score(foretold(THREE), evaluated(THREE))]
    figure = spearman_dots([Row(entry.foretold.run, entry) for entry in entries], 1.0, ["caption"], mode)
    dots = trace(figure, "Spearman")
    assert list(dots.x) == pytest.approx([1.0, -1.0, 1.0])
    assert list(dots.y) == [0, 1, 2]
    for i, entry in enumerate(entries[:2]):
        assert entry.found is not None
        assert entry.found.ci_spearman is not None
        assert dots.x[i] + dots.error_x.array[i] == pytest.approx(entry.found.ci_spearman[1])
        assert dots.x[i] - dots.error_x.arrayminus[i] == pytest.approx(entry.found.ci_spearman[0])
    assert (dots.error_x.array[2], dots.error_x.arrayminus[2]) == (0, 0)  # three domains have no interval
    assert "no interval" in dots.hovertext[2]
    assert texts(figure)[0].startswith("1.00, p ")
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(1.0, 1.0)]


def test_hits_stand_beside_chance_and_where_none_can_be_told_nothing_is_drawn() -> None:
    entries = [line(1, "a"), line(-1, "b"), score(foretold(THREE), evaluated(THREE))]
    figure = hit_bars([Row(entry.foretold.run, entry) for entry in entries])
    assert list(trace(figure, "named").x) == [3.0, 0.0]
    assert list(trace(figure, "by chance").x) == pytest.approx([9 / 8, 9 / 8])
    assert texts(figure) == ["3 of 3", "0 of 3", "— cannot be told"]


def test_long_and_hostile_names_are_short_text() -> None:
    hostile = "<script>alert(1)</script><b>" * 9
    one = line(1, hostile)
    for figure in (spearman_dots([Row(hostile, one)], None), hit_bars([Row(hostile, one)])):
        assert "<script" not in json.dumps(figure.to_plotly_json(), default=list)
        assert figure.layout.yaxis.ticktext[0].count("&lt;") == 1
        assert len(figure.layout.yaxis.ticktext[0].replace("&lt;", "<").replace("&gt;", ">")) <= LONGEST_NAME
        assert figure.layout.shapes == ()


def said(entries: list[Any]) -> str:
    return headline(overall(entries), entries).replace("\u00a0", " ").replace("\u202f", " ")


def test_the_headline_claims_no_more_than_there_is() -> None:
    waiting = unscored(foretold(THREE), WAITS_RUN, "The run is under way.")
    assert said([]) == "No prediction is written down yet."
    assert said([waiting]) == "One prediction is written down; none is scored yet."
    assert "One run says little" in said([waiting, line(1, "a")])
    assert said([line(1, "a"), line(1, "b"), line(-1, "c")]) == (
        "3 predictions scored: median Spearman 1.00 (2 of 3 above 0, sign test p = 1); "
        "top-three hit rate 67 % against 38 % by chance."
    )
    shared_set = [line(1, "a", training_set="s"), line(-1, "b", training_set="s")]
    assert "(1 of 2 above 0, all on one training set)" in said(shared_set)
    assert "sign test p" not in said(shared_set)
    assert "no sign test" in explanation(overall(shared_set))
    three = [score(foretold(THREE, str(i), str(i), str(i)), evaluated(THREE)) for i in range(2)]
    assert said(three) == "2 predictions scored: median Spearman 1.00 (2 of 2 above 0, sign test p = .500)."


def test_what_waits_is_counted_in_the_explanation() -> None:
    told = explanation(overall([unscored(foretold(THREE), WAITS_RUN, ""), line(1, "a"), line(1, "b")]))
    assert "Waiting: 1 for the run." in told
    assert "Every run has a training set of its own. With 2 of them p cannot fall below .500." in told


def test_one_line_in_words() -> None:
    entry = line(1, "a")
    assert entry_words(entry).startswith("STS act against harm in answer log-likelihood: Spearman 1.00, n = 8, p ")
    limits = " ".join(entry_limits(entry))
    assert "Leaving one domain out gives r from 1.00 to 1.00." in limits
    assert "3 of the 3 hit hardest are among the 3 highest scores" in limits
    waits = unscored(foretold(THREE), WAITS_RUN, "The run is under way.")
    assert entry_words(waits) == "Waits for its run: The run is under way."
    assert entry_limits(waits) == []
    assert without_words(0) == ""
    assert without_words(2).startswith("2 runs were evaluated without a prediction and stand in no line here")
