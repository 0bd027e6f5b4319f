"""The ledger: written predictions scored by what runs did, as scipy and brute force would; what has none says why."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sts_core.folders import jobs
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import RESULT, advance
from sts_core.results.actual import ERRORS, HALVES
from sts_core.results.ledger import (
    CANNOT,
    COLUMNS,
    LATE,
    SCORED,
    WAITS_EVALUATION,
    WAITS_RUN,
    Entry,
)
from sts_core.results.outcomes.rows import AFTER, BEFORE, RowValue, split_half, write_rows
from sts_core.results.outcomes.rows import read_rows as rows_of
from sts_core.store.ledger import entries, without_prediction
from sts_core.store.reading import read
from tests.pages.made_ledger import KEY, MEASURE, evaluate, evaluate_again, foretell, make_foretold

DOMAINS = ("law", "math", "physics", "biology", "history", "chemistry", "business", "other")


def world(
    seed: int, follows: float = 1.0, names: tuple[str, ...] = DOMAINS
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores, and a harm made from them and from noise."""
    random = np.random.default_rng(seed)
    scores = {name: float(value) for name, value in zip(names, random.normal(size=len(names)), strict=True)}
    harm = {name: follows * value + float(random.normal()) for name, value in scores.items()}
    return scores, harm


def ledger() -> list[Entry]:
    with read() as view:
        return entries(view.connection)


def only() -> Entry:
    (entry,) = ledger()
    return entry


@pytest.mark.usefixtures("own_cache")
def test_a_run_is_scored_as_scipy_and_brute_force_score_it() -> None:
    scores, harm = world(1, names=DOMAINS[:6])
    run = make_foretold(scores, harm)
    entry = only()
    found = entry.found
    assert found is not None
    x, y = np.array(list(scores.values())), np.array(list(harm.values()))
    assert entry.state == SCORED
    assert entry.foretold.run == run
    assert found.n == 6
    assert found.r == pytest.approx(stats.pearsonr(x, y)[0])
    assert found.spearman == pytest.approx(stats.spearmanr(x, y)[0])
    reached = [abs(stats.spearmanr(x, order)[0]) >= abs(found.spearman) - 1e-9 for order in itertools.permutations(y)]
    assert found.p_exact
    assert found.p_spearman == pytest.approx(np.mean(reached))
    left = [stats.pearsonr(np.delete(x, i), np.delete(y, i))[0] for i in range(6)]
    assert found.loo_range == pytest.approx((min(left), max(left)))
    assert found.hits is not None
    assert found.hits.shared == len(set(np.argsort(x)[-3:]) & set(np.argsort(y)[-3:]))
    assert found.hits.chance == 0.5
    accuracy = entry.accuracy
    assert accuracy is not None
    assert accuracy.correlation.spearman == pytest.approx(found.spearman)  # made so: points lost follow the nll
    assert [point.harm for point in accuracy.points] == pytest.approx([2 * value for value in y])


@pytest.mark.usefixtures("own_cache")
def test_everything_written_down_stands_in_the_line() -> None:
    scores, harm = world(2)
    make_foretold(scores, harm | {"target": -1.0}, title="mine", data="gsm-symbolic")
    entry = only()
    row = entry.row()
    assert (row["title"], row["result"], row["measure"], row["trained_on"]) == ("mine", KEY, MEASURE, "gsm-symbolic")
    assert (row["score"], row["outcome"], row["features"], row["power"]) == ("sts_act", "nll", 100, 1)
    assert row["n"] == 8  # the target set is no domain
    assert tuple(row) == COLUMNS
    public = json.loads(json.dumps(entry.public(), default=list))
    assert public["dims"] == list(range(100))
    assert [one["domain"] for one in public["domains"]] == list(DOMAINS)
    assert public["domains"][0]["score"] == scores["law"]
    assert public["domains"][0]["harm"] == harm["law"]


@pytest.mark.usefixtures("own_cache")
def test_the_score_comes_from_what_was_written_and_not_from_todays_result() -> None:
    from sts_core import folders
    from tests.pages.synthetic import make_result

    scores, harm = world(3)
    make_foretold(scores, harm)
    before = only().row()
    make_result(folders.results(), key=KEY)  # another result under the same key: other scores, other features
    assert only().row() == before


@pytest.mark.usefixtures("own_cache")
def test_states_follow_a_run_from_its_launch_to_its_evaluation() -> None:
    scores, harm = world(4)
    run = make_foretold(scores, None, state="running")
    assert (only().state, only().why) == (WAITS_RUN, "The run is under way.")
    folder = jobs() / run
    evaluate(folder, "before", dict.fromkeys(harm, 1.0))
    assert only().state == WAITS_RUN
    some = dict(list(harm.items())[:5])
    evaluate(folder, "change", some)
    assert only().state == WAITS_EVALUATION  # half an evaluation is none
    evaluate(folder, "change", harm)
    found = only().found
    assert found is not None
    assert found.n == 8
    advance(folder, state="done")
    assert only().state == SCORED


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    ("made", "state", "why"),
    [
        ({"harm": None}, WAITS_EVALUATION, "evaluated no domain"),
        ({"harm": None, "state": "failed"}, CANNOT, "failed before it was evaluated: The loss is not finite"),
        ({"harm": None, "state": "cancelled"}, CANNOT, "was cancelled before it was evaluated"),
        ({"told": 3, "state": "dead"}, CANNOT, "vanished when 3 of 8 domains had been evaluated"),
        ({"first": "step"}, CANNOT, LATE),
        ({"measure": ""}, CANNOT, "does not say by what"),
        ({"measure": None}, CANNOT, "does not say by what"),
        ({"measure": "vibes"}, CANNOT, "'vibes' is none that is known here"),
        ({"measure": "STS act or STS icl"}, CANNOT, "none that is known here"),
        ({"rows": "gone"}, CANNOT, "not written in a form"),
        ({"rows": {"law": 1.0}}, CANNOT, "not written in a form"),
        ({"rows": [{"metric": "sts_act", "value": 1}]}, CANNOT, "not written in a form"),
        ({"rows": []}, CANNOT, "no STS act of any domain"),
        ({"rows": [{"domain": "law", "metric": "sts_icl", "value": 1}]}, CANNOT, "no STS act of any domain"),
        ({"rows": [{"domain": "law", "value": 1}, {"domain": "law", "value": 2}]}, CANNOT, "name law twice"),
        ({"rows": [{"domain": "a_b", "value": 1}, {"domain": "A b", "value": 2}]}, CANNOT, "names one domain twice"),
    ],
)
def test_what_has_no_score_says_why(made: dict[str, Any], state: str, why: str) -> None:
    scores, harm = world(5)
    make_foretold(scores, **({"harm": harm} | made))
    entry = only()
    assert entry.state == state
    assert why in entry.why
    assert entry.found is None
    assert entry.row()["spearman"] is None


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    ("scores", "harm", "why"),
    [
        ({"law": 1.0, "math": 2.0}, {"law": 1.0, "math": 2.0}, "2 domains with both numbers"),
        ({"law": 1.0}, {"law": 1.0, "math": 2.0}, "1 domain with both numbers"),
        ({"law": 1.0, "math": 2.0}, {"history": 1.0}, "No domain stands both"),
        (dict.fromkeys(DOMAINS, 0.5), dict(zip(DOMAINS, range(8), strict=True)), "All scores are equal"),
        (dict(zip(DOMAINS, range(8), strict=True)), dict.fromkeys(DOMAINS, 0.5), "All changes are equal"),
        (dict.fromkeys(DOMAINS, 0.5), dict.fromkeys(DOMAINS, 0.5), "All scores and all changes are equal"),
        (dict.fromkeys(DOMAINS, math.nan), dict(zip(DOMAINS, range(8), strict=True)), "0 domains with both numbers"),
    ],
)
def test_degenerate_numbers_are_explained(scores: dict[str, float], harm: dict[str, float], why: str) -> None:
    make_foretold(scores, harm)
    entry = only()
    assert entry.state == CANNOT
    assert why in entry.why


@pytest.mark.usefixtures("own_cache")
def test_a_domain_on_one_side_or_without_a_number_is_named_and_left_out() -> None:
    scores, harm = world(6)
    make_foretold(
        {name: value for name, value in scores.items() if name != "law"} | {"poetry": 1.0, "math": math.nan},
        {name: value for name, value in harm.items() if name != "other"} | {"physics": None},
    )
    entry = only()
    assert entry.primary is not None
    assert entry.primary.only_foretold == ("other", "poetry")
    assert entry.primary.only_changed == ("law",)
    assert entry.primary.correlation.left_out == ("math", "physics")
    assert entry.primary.correlation.n == 4


@pytest.mark.usefixtures("own_cache")
def test_a_resumed_run_counts_with_what_it_told_last() -> None:
    scores, _ = world(7)
    run = make_foretold(scores, {name: -value for name, value in scores.items()})
    before = only().found
    append_event(jobs() / run, "resumed", attempt=2)
    foretell(jobs() / run, scores, KEY, MEASURE)  # a resumed run tells it again
    evaluate(jobs() / run, "change", scores)
    entry = only()
    assert before is not None
    assert entry.found is not None
    assert (before.spearman, entry.found.spearman) == pytest.approx((-1.0, 1.0))
    assert any("resumed" in note for note in entry.notes)


@pytest.mark.usefixtures("own_cache")
def test_of_several_evaluations_the_newest_counts_and_is_told() -> None:
    scores, _ = world(8)
    run = make_foretold(scores, {name: -value for name, value in scores.items()})
    evaluate_again(run, scores, "result/checkpoints/step-000002")  # no final model: another matter
    assert only().row()["spearman"] == pytest.approx(-1.0)
    newest = evaluate_again(run, scores)
    entry = only()
    assert entry.found is not None
    assert entry.found.spearman == pytest.approx(1.0)
    assert entry.evaluated is not None
    assert entry.evaluated.by == newest
    assert any(f"Evaluated 2 times; the newest counts ({newest})" in note for note in entry.notes)
    assert entry.accuracy is None  # the newest measured none
    assert entry.row()["evaluated_by"] == newest


@pytest.mark.usefixtures("own_cache")
def test_a_run_that_evaluated_nothing_is_scored_by_a_later_evaluation() -> None:
    scores, harm = world(9)
    run = make_foretold(scores, None)
    assert only().state == WAITS_EVALUATION
    evaluate_again(run, harm)
    assert only().state == SCORED


@pytest.mark.usefixtures("own_cache")
def test_a_second_prediction_of_a_run_changes_nothing() -> None:
    scores, harm = world(10)
    run = make_foretold(scores, harm)
    before = only()
    foretell(jobs() / run, harm, "ffffffffffffffffffff", MEASURE)  # a perfect one, afterwards
    after = only()
    assert after.found == before.found
    assert after.foretold.key == KEY
    assert "the first counts" in after.notes[0]


@pytest.mark.usefixtures("own_cache")
def test_an_older_form_without_metric_and_errors_is_scored() -> None:
    scores, harm = world(11)
    make_foretold(
        scores, harm, measure="STS_act", rows=[{"domain": k, "value": v} for k, v in scores.items()], dims=None
    )
    entry = only()
    assert entry.state == SCORED
    assert entry.n_features is None
    assert entry.found is not None
    assert entry.found.se_measured is not None  # of the changes alone


@pytest.mark.usefixtures("own_cache")
def test_the_written_measure_decides_what_is_held_against_what() -> None:
    scores, harm = world(12)
    make_foretold(scores, harm, measure="STS icl, fall of accuracy, Spearman")
    entry = only()
    assert entry.judged == ("sts_icl", "accuracy")
    assert entry.found is not None
    expected = stats.spearmanr([-value for value in scores.values()], list(harm.values()))[0]
    assert entry.found.spearman == pytest.approx(expected)
    assert entry.accuracy is None


@pytest.mark.usefixtures("own_cache")
def test_an_evaluation_without_the_measure_cannot_score() -> None:
    scores, harm = world(13)
    run = make_foretold(scores, None)
    evaluate(jobs() / run, "change", harm, ["accuracy"])
    entry = only()
    assert entry.state == CANNOT
    assert "no answer log-likelihood" in entry.why
    assert entry.accuracy is not None


@pytest.mark.usefixtures("own_cache")
def test_an_evaluation_without_a_prediction_is_in_no_line_and_counted() -> None:
    from tests.pages.made_runs import make_run

    scores, harm = world(14)
    run = make_foretold(scores, harm)
    damaged = make_foretold(scores, harm)
    events = jobs() / damaged / "events.jsonl"
    lines = events.read_text(encoding="utf-8").splitlines(keepends=True)
    torn = [line[: len(line) // 2] + "\n" if '"prediction"' in line else line for line in lines]
    events.write_text("".join(torn) + "\0\xff{[\n", encoding="utf-8")
    other = make_run("no number of it differs")  # its prediction names fourteen equal scores
    found = ledger()
    assert [entry.foretold.run for entry in found] == [other, run]
    assert found[0].state == CANNOT
    with read() as view:
        assert without_prediction(view.connection) == 1


@pytest.mark.usefixtures("own_cache")
def test_reliability_comes_from_the_rows_and_without_them_from_the_errors() -> None:
    scores, harm = world(15)
    run = make_foretold(scores, harm)
    errors = only().reliability
    assert errors[1] == ERRORS
    assert errors[0] == pytest.approx(1 - 0.02**2 / np.var(list(harm.values()), ddof=1))
    folder, random = jobs() / run / RESULT, np.random.default_rng(0)
    for phase in (BEFORE, AFTER):
        write_rows(folder, phase, [RowValue(k, i, "nll", float(random.normal())) for k in harm for i in range(9)])
    assert only().reliability == (split_half(rows_of(folder), "nll").value, HALVES)
    (folder / "rows.parquet").write_bytes(b"PAR1 damaged")
    assert only().reliability == errors


@pytest.mark.usefixtures("own_cache")
def test_training_sets_are_told_by_their_content_where_it_is_known() -> None:
    scores, harm = world(16)
    for data, sha, key in (
        ("first.jsonl", "same", "a" * 20), ("copy.jsonl", "same", "b" * 20), ("first.jsonl", "", "c" * 20),
        ("first.jsonl", "other", "d" * 20), ("else.jsonl", "", "e" * 20),
    ):  # fmt: skip
        make_foretold(scores, harm, data=data, sha=sha, key=key)
    assert len({entry.foretold.training_set for entry in ledger()}) == 3


@pytest.mark.usefixtures("own_cache")
def test_what_stands_in_the_folder_of_a_job_that_is_gone_is_kept(tmp_path: Path) -> None:
    import shutil

    from sts_core.store.database import Database, database_path
    from sts_core.store.ingest import ingest_all

    scores, harm = world(18)
    run = make_foretold(scores, harm)
    with Database(database_path()) as database:
        ingest_all(database)
        shutil.rmtree(jobs() / run)
        ingest_all(database)
        with database.reading() as connection:
            (entry,) = entries(connection)
    assert entry.state == SCORED
