"""Fine-tuning runs on their page: what the table, a run and a comparison say, from real job folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import run_data
from sts_core.folders import atomic_json
from sts_core.jobs.events import EVENTS, append_event
from sts_core.jobs.folder import STATUS, advance, jobs, read_table
from sts_core.store import queries
from sts_core.store.note import read_note, write_note
from tests.pages.made_runs import make_run

RUNS = "pages/views/runs.py"
Open = Callable[..., AppTest]


def said(test: AppTest) -> str:
    return " ".join(str(part.value) for part in [*test.title, *test.markdown, *test.caption, *test.error])


def plain(text: str) -> str:
    return text.replace("\\", "")


def test_without_a_run_it_says_how_to_start_one(app: Open) -> None:
    test = app(RUNS)
    assert plain(test.title[0].value) == "No fine-tuning run yet."
    assert "sts sft cache/demo/sft.toml" in plain(said(test))
    assert not test.exception


def test_the_table_tells_runs_apart(app: Open, pages_cache: Path) -> None:
    make_run("first")
    make_run("second", learning_rate=1e-5, method="full")
    make_run("third", "failed", done=12)
    test = app(RUNS)
    assert "3 runs are kept; none is under way" in plain(test.title[0].value)
    table = test.dataframe[0].value
    assert list(table["title"]) == ["third", "second", "first"]
    assert list(table["state"]) == ["✕ failed", "✓ done", "✓ done"]
    assert "learning_rate 1e-05" in table["differs"][1]
    assert table["done"][2] == 100
    assert table["done"][0] != table["done"][0]  # of one that failed nobody knows how long all of it would have taken
    assert 20 <= len(table["loss"][2]) <= 60
    assert table["last"][2] == pytest.approx(0.65, abs=0.25)


def test_a_run_that_waits_is_not_under_way(app: Open, pages_cache: Path) -> None:
    make_run("going", "running", done=20)
    make_run("next", "waiting", done=0)
    assert "2 runs are kept; one is under way, one waits." in plain(app(RUNS).title[0].value)


def test_a_run_says_first_whether_the_prediction_came_true(app: Open, pages_cache: Path) -> None:
    run = make_run()
    test = app(RUNS, run=run)
    assert not test.exception
    title = plain(test.title[0].value)
    assert title.startswith("70 of the 100 predicted features really shifted, where rounding alone gives 70: no claim")
    assert "of 14 domains got worse" in title
    assert "In 60 steps the loss fell from" in plain(said(test))
    assert "The SAE still holds on the fine-tuned model" in plain(said(test))
    assert any(len(frame.value) == 15 and "Before" in frame.value for frame in test.dataframe)


def test_a_run_without_domains_shows_its_own_rows(app: Open, pages_cache: Path) -> None:
    run = make_run(steps=12, done=12, predicted=False, scored=["target"], evaluate={"target_rows": 120})
    test = app(RUNS, run=run)
    assert not test.exception
    words = plain(said(test))
    assert words.count("the loss fell from") == 1  # the headline alone
    assert "On the training set's own held-out rows" in words
    assert "No domain was scored" in words
    assert "scored again" not in words
    assert any(list(frame.value.get("Domain", [])) == ["target"] for frame in test.dataframe)


def test_a_run_broken_off_says_what_was_scored_before(app: Open, pages_cache: Path) -> None:
    run = make_run("early", "failed", done=12, scored=["target"], evaluate={"target_rows": 120})
    assert "The training set's own rows were scored before the first step; the run ended before" in plain(
        said(app(RUNS, run=run))
    )


def test_what_is_folded_is_drawn_once_it_is_unfolded(app: Open, pages_cache: Path) -> None:
    test = app(RUNS, run=make_run())
    assert not any("Overlap@100" in frame.value for frame in test.dataframe)
    assert not test.json
    test.session_state["artefacts"] = test.session_state["foretold"] = True
    test.run()
    assert not test.exception
    assert any("Overlap@100" in frame.value for frame in test.dataframe)
    assert len(test.json) == 1


def test_a_failed_run_says_where_and_why(app: Open, pages_cache: Path) -> None:
    test = app(RUNS, run=make_run("short", "failed", done=12))
    assert "This run failed after step 12: The loss is not finite" in plain(test.title[0].value)


def test_a_run_that_ended_before_its_prediction_was_written_says_so(app: Open, pages_cache: Path) -> None:
    run = make_run(state="cancelled", done=0, predicted=False)
    assert "ended before its prediction was written down" in plain(said(app(RUNS, run=run)))


def test_a_run_that_is_not_there_is_told(app: Open, pages_cache: Path) -> None:
    test = app(RUNS, run="20260101-000000-000000-abcdef")
    assert "sts jobs` lists those there are" in plain(said(test))
    assert not test.exception


def test_what_is_no_id_is_shown_as_it_is_with_the_way_to_those_there_are(app: Open, pages_cache: Path) -> None:
    test = app(RUNS, compare=["\0", "x" * 500])
    assert not test.exception
    titles = [plain(str(error.proto.title)) for error in test.error]
    assert [len(title) < 100 and title.endswith("is no id of a run") for title in titles] == [True, True]
    assert not any("x00" in title or "\0" in title for title in titles)
    assert "“All runs” above shows them" in plain(said(test))


def test_names_that_are_no_runs_take_no_place_among_those_compared(app: Open, pages_cache: Path) -> None:
    runs = [make_run(f"run {seed}", seed=seed) for seed in range(6)]
    test = app(RUNS, compare=["nonsense", *runs[:3], "worse", *runs[3:], runs[0]])
    assert "Of 5 runs" in plain(test.title[0].value)
    assert "At most 5 runs are compared; 1 more is in the address" in plain(said(test))


def test_runs_beside_each_other_show_only_what_differs(app: Open, pages_cache: Path) -> None:
    runs = [make_run("first"), make_run("second", seed=7)]
    test = app(RUNS, compare=runs)
    assert not test.exception
    assert "Of 2 runs" in plain(test.title[0].value)
    settings = test.dataframe[0].value
    assert list(settings.index) == ["seed"]
    assert list(settings.iloc[0]) == ["0", "7"]
    changes = test.dataframe[1].value
    assert len(changes) == 16  # fourteen domains, the target and the overlap


def test_a_resumed_run_says_from_where_until_it_has_told_a_step_again(app: Open, pages_cache: Path) -> None:
    run = make_run("again", "running", done=5)
    folder, title = jobs() / run, "This run goes on from the first step, for want of a checkpoint; it had come to step"
    append_event(folder, "resumed", attempt=2)
    advance(folder, attempt=2)
    assert plain(app(RUNS, run=run).title[0].value) == f"{title} 5."
    append_event(folder, "stage", stage="training", done=0, total=60, unit="steps")
    advance(folder, done=2)
    told = "Step 2 of 60 again: it had come to step 5 before it was resumed."
    assert plain(app(RUNS, run=run).title[0].value) == told
    append_event(folder, "step", step=6, loss=0.5, learning_rate=1e-4)
    assert plain(app(RUNS, run=run).title[0].value).startswith("Step 6 of 60: the loss is")


def test_the_time_of_a_run_is_that_of_all_its_attempts(app: Open, pages_cache: Path) -> None:
    run = make_run("again", "cancelled", done=5)
    folder = jobs() / run
    (folder / EVENTS).write_text("".join(
        json.dumps({"seq": seq, "time": f"2026-01-01T{clock}+00:00", "event": event}) + "\n"
        for seq, (clock, event) in enumerate([
            ("10:00:00", "started"), ("10:04:00", "step"), ("12:00:00", "dead"), ("12:01:00", "resumed"),
            ("12:02:00", "started"), ("12:03:00", "cancelled"), ("13:00:00", "resumed"), ("13:00:30", "started"),
        ], start=1)
    ))  # fmt: skip
    status = read_table(folder / STATUS) or {}
    moments = {"started": "2026-01-01T13:00:30+00:00", "ended": "2026-01-01T13:05:30+00:00"}
    atomic_json(folder / STATUS, {**status, **moments, "attempt": 3})
    told = "1 Jan 2026, 10:00 UTC · attempt 3, 10\u202fmin in all"
    assert told in plain(said(app(RUNS, run=run)))


def test_a_note_is_kept_in_the_runs_folder(app: Open, pages_cache: Path) -> None:
    run = make_run()
    test = app(RUNS, run=run)
    test.text_area(key=f"note_{run}").set_value("seed 0 of three").run()
    assert read_note(jobs() / run) == "seed 0 of three"


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "[x](javascript:alert(1)) **b**", "$x$ :red[a]"])
def test_names_are_text(app: Open, pages_cache: Path, hostile: str) -> None:
    run = make_run(hostile, "failed", done=3)
    for query in ({"run": run}, {"compare": [run, make_run("other")]}, {}):
        test: Any = app(RUNS, **query)
        assert not test.exception
        marked = [str(part.value) for part in [*test.title, *test.markdown, *test.caption]]
        assert not any(hostile in text for text in marked if "<style>" not in text)


def test_a_run_needs_a_learning_rate_and_then_shows_the_command(app: Open, pages_cache: Path) -> None:
    test = app(RUNS)
    test.session_state["new_run"] = True  # unfolded
    assert "Choose a learning rate" in plain(said(test.run()))
    test.text_input(key="sft_rate").set_value("2e-4").run()
    code = test.code[0].value
    assert "learning_rate = 0.0002" in code
    assert 'data = "gsm-symbolic"' in code


def test_what_a_run_has_told_since_is_read_and_nothing_else(pages_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, going = make_run("ended"), make_run("going", "running", done=20)
    asked: list[list[str]] = []
    sparklines = queries.sparklines

    def seen(connection: Any, ids: list[str], **more: Any) -> Any:
        asked.append(sorted(ids))
        return sparklines(connection, ids, **more)

    monkeypatch.setattr(queries, "sparklines", seen)
    before = run_data.listing().set_index("id")
    assert run_data.run(going).curves["loss"]["step"].max() == 20
    append_event(jobs() / going, "step", step=21, loss=0.125, learning_rate=1e-4)
    after = run_data.listing().set_index("id")
    assert asked == [sorted([ended, going]), [going]]
    assert (before["last"][ended], list(before["sparkline"][ended])) == (
        after["last"][ended], list(after["sparkline"][ended])
    )  # fmt: skip
    assert (after["last"][going], after["step"][going]) == (0.125, 21)
    assert len(after["sparkline"][going]) == 21
    assert run_data.run(going).curves["loss"]["step"].max() == 21
    assert run_data.run(ended).curves["learning_rate"]["step"].tolist() == list(range(1, 61))


def test_a_run_whose_note_or_state_changes_is_shown_as_it_is(pages_cache: Path) -> None:
    run = make_run("going", "running", done=3)
    assert (run_data.run(run).note, run_data.run(run).job.state) == ("", "running")
    write_note(run, "look at this")
    advance(jobs() / run, state="failed", error="The loss is not finite")
    assert (run_data.run(run).note, run_data.run(run).job.state) == ("look at this", "failed")


def test_all_runs_are_counted_and_the_newest_listed(pages_cache: Path) -> None:
    made = [make_run(name, "failed", done=1) for name in ("first", "second", "third")]
    assert run_data.counts() == (3, 0, 0)
    assert list(run_data.listing(limit=2)["id"]) == made[:0:-1]


def place_of(node: Any, key: str, path: tuple[int, ...] = ()) -> tuple[int, ...] | None:
    """Where on the page an element is, by which Streamlit knows the fragment it belongs to."""
    if getattr(node, "key", None) == key:
        return path
    children = getattr(node, "children", {}).items()
    return next((found for i, child in children if (found := place_of(child, key, (*path, i)))), None)


def test_the_end_of_a_run_moves_nothing_that_can_be_clicked(app: Open, pages_cache: Path) -> None:
    """Else a click made while it ends is for a part that is no more, and is lost."""
    run = make_run("going", "running", done=20)
    test = app(RUNS, run=run)
    assert [button.label for button in test.button if button.key == f"cancel_{run}"] == ["Cancel"]
    before = place_of(test.main, "curve")
    advance(jobs() / run, state="failed", error="The loss is not finite")
    test.run()
    assert any(button.label == "Resume from the first step" for button in test.button)
    assert place_of(test.main, "curve") == before is not None
