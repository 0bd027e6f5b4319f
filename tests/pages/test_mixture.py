"""Mixture: the shares stand first and follow every choice, what cannot be is explained, a made one is trained on."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import mixture_launch, mixture_made, mixture_order
from pages.parts.mixture_data import Text
from pages.parts.mixture_rows import LONGEST, PAGE
from sts_core.folders import jobs
from sts_core.jobs import launch, watch
from sts_core.jobs.folder import RESULT, create, now
from sts_core.results import Result
from sts_core.stats.allocation import allocate
from sts_core.train.mixture.spec import MixtureSpec
from tests.pages.made_mixtures import DOMAINS, KEY, lines, make_mixture, make_source, manifest_path
from tests.pages.test_transfer import figures, trace, values
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
PAGE_FILE, RUNS = "pages/views/mixture.py", "pages/views/runs.py"
AVAILABLE = 30
SMALL = {"mix_budget": "40"}
PLAN: dict[str, Any] = {
    "rows": 60, "target": {"rows": 20}, "domains": [{"domain": "law", "rows": 40}], "warnings": ["Rows *repeat*."],
    "cost": {"target_tokens": 8_458, "domain_tokens": 3_122, "domain_tokens_a_target_token": 0.37, "at_most": 20_000},
    "answers": {"from": "model", "to_generate": 40, "tokens_at_most": 8_420},
}  # fmt: skip


@pytest.fixture
def source(pages_cache: Path) -> Result:
    """Four domains of sixty questions, whose scores rise in their order."""
    return make_source(pages_cache)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_order, "COMMAND", (sys.executable, "-c", f"print({json.dumps(PLAN)!r})"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started ends at once."""
    monkeypatch.setattr(launch, "WORKER", ("-c", "pass"))


def drawn(test: AppTest, name: str = "quota") -> dict[str, float]:
    """What the figure shows of each domain, by the row it stands in."""
    figure = figures(test)[0]
    names = trace(figure, "quota")["customdata"]
    return dict(zip(names, values(trace(figure, name)["x"]), strict=True))


def expected(source: Result, how: str = "sts", budget: int = 40, without: tuple[str, ...] = (), n: int = 100,
             metric: str = "sts_act", **more: Any) -> dict[str, int]:  # fmt: skip
    table = source.scores(n=n).query(f"metric == '{metric}'").set_index("domain")["value"]
    scores = {name: float(table[name]) for name in DOMAINS if name not in without}
    return allocate(scores, dict.fromkeys(scores, AVAILABLE), budget, how, **more)


def file_of(test: AppTest) -> dict[str, Any]:
    """The spec's lines that the page shows, read."""
    return tomllib.loads(next(code.value for code in test.code if "budget" in code.value))


def test_without_a_result_it_says_where_to_measure(app: App) -> None:
    test = app(PAGE_FILE)
    assert not test.exception
    assert "Nothing is measured yet" in words_of(test)


def test_the_shares_are_the_answer_and_stand_beside_the_others(app: App, source: Result) -> None:
    test = app(PAGE_FILE, **SMALL)
    assert not test.exception
    quotas = expected(source)
    assert drawn(test) == quotas
    assert drawn(test, "evenly") == expected(source, "uniform")
    assert drawn(test, "by inverse STS") == expected(source, "inverse")
    first = max(quotas, key=lambda name: quotas[name])
    assert test.title[0].value.startswith(f"40 rows: {quotas[first]} from {first}, ".replace(":", "\\:"))
    assert "Shares go with STS act over the 100 features that shift most" in words_of(test)
    notes = [note["text"] for note in figures(test)[0]["layout"]["annotations"]]
    assert f"{quotas[first]} of {AVAILABLE}" in notes


@pytest.mark.parametrize(
    ("query", "choices"),
    [
        ({"mix_budget": "17"}, {"budget": 17}),
        ({"mix_how": "evenly"}, {"how": "uniform"}),
        ({"mix_how": "by inverse STS"}, {"how": "inverse"}),
        ({"mix_tau": "2.5"}, {"tau": 2.5}),
        ({"mix_tau": "0"}, {"tau": 0.0}),
        ({"mix_floor": "9"}, {"floor": 9}),
        ({"mix_cap": "11"}, {"cap": 11}),
        ({"mix_n": "17"}, {"n": 17}),
        ({"metric": "STS icl"}, {"metric": "sts_icl"}),
        ({"without": ["law", "history", "nobody"]}, {"without": ("law", "history")}),
    ],
)
def test_a_link_holds_every_choice(app: App, source: Result, query: dict[str, Any], choices: dict[str, Any]) -> None:
    test = app(PAGE_FILE, **{**SMALL, **query})
    assert not test.exception
    assert drawn(test) == expected(source, **choices)
    spec = MixtureSpec.from_dict(file_of(test))
    told = {"budget": spec.budget, "how": spec.allocation, "tau": spec.tau, "floor": spec.floor, "cap": spec.cap,
            "n": spec.score.n, "metric": spec.score.metric}  # fmt: skip
    assert {name: told[name] for name in choices if name in told} == {
        name: value for name, value in choices.items() if name in told
    }
    assert spec.domains == ("all" if "without" not in choices else ("physics", "math"))


def test_the_rows_of_the_training_set_and_the_answers_reach_the_spec(app: App, source: Result) -> None:
    query = {"mix_rows": "12", "mix_kept": "5", "mix_seed": "3", "mix_answers": "the model itself", "mix_tokens": "64",
             "mix_warmth": "0.7", "mix_learned": "the worked answer"}  # fmt: skip
    test = app(PAGE_FILE, **SMALL, **query)
    assert not test.exception
    spec = MixtureSpec.from_dict(file_of(test))
    assert (spec.target.rows, spec.target.evaluate_rows, spec.target.answer) == (12, 5, "cot")
    assert (spec.answers, spec.seed, spec.generate.max_tokens, spec.generate.temperature) == ("model", 3, 64, 0.7)
    assert spec == MixtureSpec.from_dict(spec.to_dict())


def test_what_is_left_as_it_is_is_left_to_the_spec(app: App, source: Result) -> None:
    test = app(PAGE_FILE, **SMALL)
    assert file_of(test) == {"result": KEY, "budget": 40}


def test_a_number_out_of_bounds_is_told_by_its_fields_name(app: App, source: Result) -> None:
    for query, told in (
        ({"mix_budget": "-5"}, "Rows of other domains (budget) is -5"), ({"mix_cap": "-5"}, "Cap is -5"),
        ({"mix_kept": "-1"}, "Kept back for evaluation (target.evaluate_rows) is -1"),
        ({"mix_budget": "0", "mix_rows": "0"}, "would be empty"),
        ({"mix_warmth": "11", "mix_answers": "the model itself"}, "Temperature (generate.temperature) is 11"),
    ):  # fmt: skip
        test = app(PAGE_FILE, **{**SMALL, **query})
        assert "cannot be mixed from as chosen" in words_of(test)
        assert told in " ".join(str(error.proto) for error in test.error).replace("\\", "")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"mix_budget": "121"}, "4 domains give at most 120"),
        ({"mix_floor": "31"}, "The floor is 31 rows a domain, but"),
        ({"mix_floor": "11"}, "A floor of 11 in 4 domains needs 44 rows; the budget is 40"),
        ({"mix_cap": "9"}, "at most 36 under the cap of 9"),
        ({"mix_cap": "5", "mix_floor": "6"}, "The floor of 6 rows is above the cap of 5"),
        ({"without": list(DOMAINS)}, "There is no domain to share the budget among"),
    ],
)
def test_what_cannot_be_is_explained_and_cannot_be_ordered(
    app: App, source: Result, query: dict[str, Any], told: str
) -> None:
    test = app(PAGE_FILE, **{**SMALL, **query})
    assert not test.exception
    assert "This mixture cannot be made" in words_of(test)
    assert told in " ".join(str(error.proto) for error in test.error).replace("\\", "")
    assert figures(test) == []
    assert not [button for button in test.button if button.label == "Plan this mixture"]


@pytest.mark.parametrize(
    "query", [{"mix_budget": "x"}, {"mix_tau": "99"}, {"mix_how": "<b>"}, {"mix_cap": "-3"}, {"made": "../../x"}]
)
def test_nonsense_in_a_link_is_dropped(app: App, source: Result, query: dict[str, Any]) -> None:
    test = app(PAGE_FILE, **{**SMALL, **query})
    assert not test.exception
    assert test.title


def test_a_result_that_cannot_steer_a_mixture_says_why(app: App, pages_cache: Path) -> None:
    source = make_source(pages_cache)
    path = Path(source.manifest["spec"]["domains"][0]["data"])
    path.write_text(path.read_text() + '{"question": "one more?", "answer": "3"}\n')
    test = app(PAGE_FILE, **SMALL)
    assert not test.exception
    assert "cannot be mixed from" in words_of(test)
    assert "not the file that was measured" in str(test.error[0].proto).replace("\\", "")


@pytest.mark.usefixtures("planned", "started")
def test_what_is_ordered_is_what_was_planned(app: App, source: Result) -> None:
    test = app(PAGE_FILE, **SMALL, mix_answers="the model itself")
    asked = MixtureSpec.from_dict(file_of(test))
    next(button for button in test.button if button.label == "Plan this mixture").click().run()
    test.session_state["mix_asked"].wait(30)
    test.run()
    said = words_of(test)
    assert "60 rows: 20 of target.jsonl and 40 of one domain" in said.replace("*", "")
    assert "A pass over them is 11\u202f580 tokens: 8\u202f458 of the training set, 3\u202f122 mixed in" in said
    assert "at most 20\u202f000 with the model" in said
    assert "answers 40 questions first, in at most 8\u202f420 tokens" in said
    assert "Rows *repeat*" in said
    test.button(key="mix_make").click().run()
    assert not test.exception
    (job,) = watch.all_jobs()
    assert (job.kind, job.title) == ("mix", "target.jsonl + 40 rows by STS")
    assert MixtureSpec.from_dict(job.spec) == asked
    assert job.id in test.query_params["made"]


@pytest.mark.usefixtures("planned")
def test_a_plan_is_for_the_choices_it_was_made_of(app: App, source: Result) -> None:
    test = app(PAGE_FILE, **SMALL)
    next(button for button in test.button if button.label == "Plan this mixture").click().run()
    test.session_state["mix_asked"].wait(30)
    assert test.run().button(key="mix_make")
    test.number_input(key="mix_budget").set_value(39).run()
    assert [button.key for button in test.button if button.key == "mix_make"] == []


def test_a_made_mixture_tells_what_it_wrote(app: App, source: Result) -> None:
    job = make_mixture(source, {"law": 12, "math": 3})
    test = app(PAGE_FILE, **SMALL)
    assert not test.exception
    said = words_of(test).replace("*", "")
    assert "target.jsonl + 15 rows by STS: 35 rows are written, 20 of target.jsonl and 15 of other domains" in said
    assert "1\u202f350 tokens: 900 of the training set, 450 mixed in, 0.50 for each" in said
    assert "rows that cannot be used: 2" in said
    assert [button.key for button in test.button if button.key == "mix_train"]
    assert str(jobs() / job) in words_of(test)


def test_one_that_was_broken_off_says_why_and_can_go_on(app: App, source: Result) -> None:
    make_mixture(source, {"law": 12})
    order = {"kind": "mix", "title": "broken", "spec": {"result": KEY, "budget": 4}, "options": {}}
    broken = create(
        order, {"state": "failed", "started": now(), "ended": now(), "error": "No *room*", "hint": "Free it"}
    )
    test = app(PAGE_FILE, **SMALL, made=broken.name)
    assert not test.exception
    assert "No *room*" in str(test.error[0].proto).replace("\\", "")
    assert [button.key for button in test.button if button.label == "Resume"]
    assert not [button.key for button in test.button if button.key == "mix_train"]


def test_the_form_is_filled_in_by_the_mixture_of_the_link(app: App, source: Result) -> None:
    job = make_mixture(source, {"law": 12, "math": 3})
    test = app(RUNS, mixture=job, sft_rate="2e-4")
    assert not test.exception
    assert "target.jsonl + 15 rows by STS, a mixture made here" in words_of(test)
    values = tomllib.loads(next(code.value for code in test.code if "learning_rate" in code.value))
    assert values["target"] == {"data": manifest_path(job)}
    assert values["model"] == source.manifest["spec"]["model"]
    assert values["prediction"] == KEY
    assert values["steps"] == 60
    assert values["evaluate"]["target_rows"] == 7
    assert [domain["name"] for domain in values["evaluate"]["domains"]] == list(DOMAINS)
    test.button(key="sft_no_mixture").click().run()
    values = tomllib.loads(next(code.value for code in test.code if "learning_rate" in code.value))
    assert values["target"]["data"] != manifest_path(job)
    assert "mixture" not in test.query_params


@pytest.mark.parametrize("link", ["nothing", "../../etc", "20260101-000000-000000-abcdef"])
def test_a_mixture_that_is_not_there_is_told(app: App, source: Result, link: str) -> None:
    test = app(RUNS, mixture=link, sft_rate="2e-4")
    assert not test.exception
    assert test.error
    test.button(key="sft_no_mixture").click().run()
    assert "learning_rate" in " ".join(code.value for code in test.code)


@pytest.mark.parametrize(
    ("allocation", "own", "named"),
    [
        ("sts", 20, "target.jsonl + 15 rows of law and math by STS"),
        ("uniform", 20, "target.jsonl + 15 rows of law and math evenly"),
        ("inverse", 20, "target.jsonl + 15 rows of law and math by inverse STS"),
        ("sts", 0, "15 rows of law and math by STS"),
    ],
)
def test_a_run_on_a_mixture_is_called_after_it(source: Result, allocation: str, own: int, named: str) -> None:
    job = make_mixture(source, {"law": 12, "math": 3}, allocation, own)
    assert mixture_launch.data_name(manifest_path(job)) == named
    assert mixture_launch.data_name("gsm-symbolic") is None
    assert mixture_launch.data_name(str(jobs() / "nowhere" / "manifest.json")) is None


def test_only_the_lines_of_the_page_are_read(source: Result) -> None:
    job = make_mixture(source, {"law": 12, "math": 3})
    written = lines(job)
    path = jobs() / job / RESULT / "mixture.jsonl"
    for first, last in ((0, 5), (20, 25), (30, 99), (34, 35)):
        found = mixture_made._lines(path, "one", first, last)
        assert found == [Text(row["row"], row["question"], row["answer"]) for row in written[first:last]]
    counts = {"target": 20, "law": 12, "math": 3}
    assert mixture_made._first_lines(counts) == {"target": 0, "law": 20, "math": 32}


def test_rows_are_read_a_page_at_a_time_and_are_text(pages_cache: Path) -> None:
    def page() -> None:
        import streamlit as st

        from pages.parts.mixture_data import Text
        from pages.parts.mixture_rows import show_rows

        def read(name: str, first: int, last: int) -> list[Text]:
            st.session_state["asked"] = [*st.session_state.get("asked", []), (name, first, last)]
            hostile = "<script>alert(1)</script> [x](javascript:alert(1)) **b** $x$ :red[a] "
            return [Text(i, hostile * (1 if i % 2 else 40), None if i == 6 else hostile) for i in range(first, last)]

        show_rows({"target": 0, "law": 12}, read, "rows", "maths")

    test = AppTest.from_function(page, default_timeout=20).run()
    assert not test.exception
    assert test.session_state["asked"] == [("law", 0, PAGE)]
    said = [str(part.value) for part in test.markdown]
    assert not any("<script>" in text or "[x](" in text or "**b**" in text for text in said)
    assert max(len(text) for text in said) < 3 * LONGEST
    assert len(test.expander) == 3
    test.number_input(key="rows_page").set_value(2).run()
    assert test.session_state["asked"][-1] == ("law", 5, 10)
    assert "The model has still to answer" in " ".join(str(part.value) for part in test.markdown)
    test.number_input(key="rows_page").set_value(3).run()
    assert test.session_state["asked"][-1] == ("law", 10, 12)
