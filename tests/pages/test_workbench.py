"""The Workbench answers first, shows what it rests on, and measures what is chosen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.choices import DEFAULTS, spec_from
from sts_core import folders
from sts_core.errors import UserError
from sts_core.jobs.folder import advance, create, now
from sts_core.jobs.process import created
from sts_core.store.results import keep
from tests.pages.conftest import PLAN
from tests.pages.synthetic import make_result, make_spec

App = Callable[..., AppTest]


def words_of(test: AppTest) -> str:
    kinds = ("title", "header", "markdown", "caption", "error", "warning")
    return "\n".join(str(e.value) for kind in kinds for e in test.get(kind)).replace("\\", "").replace("\u2011", "-")


def badges(test: AppTest) -> str:
    return " ".join(str(e.value) for e in test.get("markdown") if "badge" in str(e.value))


def test_the_answer_comes_first_with_its_date(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    test = app()
    assert not test.exception
    assert "Psychology scores highest of 14 domains for training on gsm-symbolic" in words_of(test)
    assert "Measured 20 Nov 2025 on cpu in 1" in words_of(test)
    assert len(test.get("plotly_chart")) == 2


def test_the_figure_shows_every_domain_with_its_error(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    figure = json.loads(app().get("plotly_chart")[0].proto.spec)
    assert len(figure["layout"]["yaxis"]["ticktext"]) == 14
    assert len(figure["data"][1]["error_x"]["array"]) == 14


def test_nothing_measured_is_said_and_can_be_measured(app: App) -> None:
    test = app()
    assert not test.exception
    assert "Nothing is measured yet" in words_of(test)
    assert test.button(key="measure").label == "Measure"


def test_a_result_of_these_choices_is_not_stale(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    test = app()
    assert "Settings differ" not in badges(test)
    assert test.button(key="measure").label == "Measure again on this machine"


def test_other_choices_make_the_result_stale(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    test = app(target_tokens="400", domain_tokens="200")
    assert "Settings differ" in badges(test)
    assert test.button(key="measure").label == "Measure"


def test_a_stored_result_of_other_choices_is_offered(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    stored = make_result(folders.results(), key=PLAN["key"], spec=make_spec(run={"seed": 7}), seed=7)
    test = app(result="0123456789ab", seed="7")
    test.button(key="show_stored").click().run()
    assert test.query_params["result"] == str(stored.manifest["key"])[:12]
    assert "Settings differ" not in badges(test)


def test_a_link_to_a_result_brings_its_choices(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    make_result(folders.results(), key="aaaaaaaaaaaaaaaaaaaa", spec=make_spec(run={"seed": 7}), seed=7)
    test = app(result="aaaaaaaaaaaa")
    assert test.session_state["seed"] == 7
    assert "Settings differ" not in badges(test)


@pytest.mark.parametrize(
    "query",
    [
        {"result": "../../etc", "metric": "nonsense", "n": "-1"},
        {"target_tokens": "many", "seed": "-5", "pool": "all"},
        {"domains": ["<b>x</b>", "law"], "model": "a\u202e$x$**b**"},
        {"domain_folder": "/no/such/place\x00", "target": " "},
        {"sae": "x" * 5000, "target_demos": "1e9"},
    ],
)
def test_nonsense_in_the_url_never_breaks_the_page(app: App, pages_cache: Path, query: dict[str, Any]) -> None:
    make_result(folders.results())
    test = app(**query)
    assert not test.exception
    assert len(test.get("plotly_chart")) == 2


def test_the_card_tells_checks_cost_and_rows(app: App) -> None:
    said = words_of(app())
    assert "The SAE reads layer 15." in said
    assert "Note: Too *few* rows." in said
    assert "About 28\u202fs on this CPU, 1.4\u202fGB of memory" in said.replace("1.4 GB", "1.4\u202fGB")
    assert "23\u202f461 tokens to read" in said


def test_what_a_person_must_change_stands_in_the_card(app: App, tell_plan: Callable[..., None]) -> None:
    tell_plan("", "error: There is no SAE 'x'\nhint: Did you mean demo/smollm2-l15?", 2)
    test = app()
    assert any(
        "There is no SAE 'x'" in e.proto.title.replace("\\", "") for e in test.error if hasattr(e.proto, "title")
    )
    assert "Did you mean demo/smollm2-l15?" in words_of(test)
    assert "measure" not in [b.key for b in test.button]


def test_no_domain_chosen_is_refused_in_words(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    test = app()
    test.session_state["domains"] = []
    test.run()
    assert not test.exception
    assert "Choose at least one domain to score." in words_of(test)


def test_measure_starts_a_job_of_the_choices(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr("pages.parts.preflight.start", lambda *args, **more: started.append((args, more)) or "id")
    test = app(target_tokens="400", domain_tokens="200")
    test.button(key="measure").click().run()
    (kind, spec), more = started[0]
    assert (kind, spec["target"]["tokens"], spec["domains"][0]["tokens"]) == ("run", 400, 200)
    assert more["options"] == {"fresh": False}


def test_a_start_that_is_refused_is_told(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise UserError("A measurement is already running: x", "Wait for it.")

    monkeypatch.setattr("pages.parts.preflight.start", refuse)
    test = app()
    test.button(key="measure").click().run()
    assert not test.exception
    assert "Wait for it." in words_of(test)


def test_text_from_data_is_never_read_as_markdown(app: App, pages_cache: Path) -> None:
    spec = make_spec(target={"data": "/data/**bold** <b>x $y$ :red[z].jsonl"})
    make_result(folders.results(), spec=spec)
    title = app().title[0].value
    assert "\\*\\*bold\\*\\*" in title
    assert "\\<b\\>" in title
    assert "\\:red\\[z\\]" in title


def test_a_damaged_result_is_told(app: App, pages_cache: Path) -> None:
    result = make_result(folders.results())
    (result.folder / "scores.parquet").write_bytes(b"no parquet")
    test = app()
    assert not test.exception
    assert "Measure it again" in words_of(test)


def a_job(state: str, **status: Any) -> Path:
    spec = spec_from(DEFAULTS)
    folder = create({"kind": "run", "title": "a run", "spec": spec, "options": {}}, {})
    advance(folder, state=state, started=now(), **status)
    return folder


def test_a_running_job_shows_bar_rate_time_left_and_cancel(app: App) -> None:
    me = {"pid": os.getpid(), "pid_started": created(os.getpid())}
    work = {"stage": "measuring law", "done": 500, "total": 2000, "unit": "tokens", "rate": 50.0, "seconds_left": 30.0}
    a_job("running", **me, **work)
    test = app()
    assert "500 of 2\u202f000 tokens · 50.0 tokens/s · 30\u202fs left" in words_of(test)
    assert any(b.label == "Cancel" for b in test.button)
    assert len(test.get("progress")) == 2


def test_what_the_job_measured_is_shown_when_it_ends(app: App, pages_cache: Path) -> None:
    make_result(folders.results(), finished="2099-01-01T00:00:00+00:00")
    folder = a_job("running", pid=os.getpid(), pid_started=created(os.getpid()))
    test = app()
    measured = make_result(folder, key="result", spec=make_spec(run={"seed": 4}), seed=4)
    (measured.folder / "manifest.json").write_text(json.dumps(measured.manifest | {"key": "bbbbbbbbbbbbbbbb"}))
    keep(measured.folder)
    advance(folder, state="done", ended=now(), result="result")
    test.run()
    assert test.query_params["result"] == "bbbbbbbbbbbb"
    assert test.session_state["seed"] == 4


def test_a_failed_run_of_these_choices_says_why_and_offers_another(app: App) -> None:
    folder = a_job("failed", ended=now(), error="Out of memory", hint="Choose a smaller budget")
    (folder / "log.txt").write_text("first\nlast words")
    test = app()
    said = words_of(test)
    assert "Choose a smaller budget" in said
    assert any("last words" in c.value for c in test.code)
    assert test.button(key="measure").label == "Measure"
