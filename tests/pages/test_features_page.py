"""The feature browser: the list as it is ranked, a feature whole, what was not gathered told, words kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.parts.feature_copy import neuronpedia_page
from pages.parts.feature_facts import briefly
from sts_core import folders
from sts_core.nets import registry
from sts_core.results import Result, labels
from sts_core.results.dictionary import Meaning, place_of, write_dictionary
from sts_core.results.gallery import open_gallery
from sts_core.results.labels import Label
from sts_core.store.results import listing
from tests.pages.made_gallery import SEEN, make_gallery
from tests.pages.made_runs import make_run
from tests.pages.synthetic import FEATURES, make_result
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
PAGE = "pages/views/features.py"
SAE, MODEL = "saerevision", "modelrevision"
RESOLVED = {"device": "cpu", "dtype": "float32", "sae": {"layer": 15, "revision": SAE}, "model": {"revision": MODEL}}


@pytest.fixture
def result(pages_cache: Path) -> Result:
    return make_result(folders.results(), resolved=RESOLVED)


def rows_of(test: AppTest) -> pd.DataFrame:
    return next(frame.value for frame in test.dataframe if "density" in frame.value)


def strips_of(test: AppTest) -> dict[str, Any]:
    return json.loads(test.get("bidi_component")[0].proto.json)


def buttons(test: AppTest) -> dict[str, Any]:
    return {button.key: button for button in test.button}


def by_shift(result: Result) -> list[int]:
    ordered = result.shift.sort_values(["shift_icl", "feature"], ascending=[False, True])
    return [int(feature) for feature in ordered["feature"]]


def give_meanings(result: Result) -> None:
    def meaning(feature: int) -> Meaning:
        near = [(feature + step) % FEATURES for step in (1, 2, 3)]
        return Meaning(feature, [" sum", "\n", "<b>"], [0.9, 0.5, 0.1], ["`no`"], [-0.7], near, [0.9, 0.8, 0.7])

    about = {"model_revision": MODEL, "sae_revision": SAE, "how": "made up"}
    write_dictionary(place_of(MODEL, SAE), about, [[meaning(feature) for feature in range(FEATURES)]])


def test_without_a_result_the_page_says_what_to_do(app: App, pages_cache: Path) -> None:
    test = app(PAGE)
    assert not test.exception
    assert "Nothing is measured yet" in words_of(test)
    assert any(button.label == "Go to the Workbench" for button in test.button)


def test_the_list_is_the_ranking_with_its_finding_on_top(app: App, result: Result) -> None:
    test = app(PAGE)
    assert not test.exception
    rows = rows_of(test)
    assert rows["feature"].tolist() == by_shift(result)
    means = result.vectors.pivot(index="feature", columns="domain", values="mean_act")
    leading = means.idxmax(axis=1)[by_shift(result)[:100]].value_counts()
    assert f"Of the 100 most shifted features {leading.iloc[0]} are most active in {leading.index[0]}" in words_of(test)
    np.testing.assert_allclose(rows["density"], 50, rtol=1e-6)  # per cent: every made feature fires on half of all


def test_a_link_filters_the_list(app: App, result: Result) -> None:
    means = result.vectors.pivot(index="feature", columns="domain", values="mean_act")
    domain = str(means.idxmax(axis=1).value_counts().index[0])
    wanted = [feature for feature in by_shift(result) if means.loc[feature].idxmax() == domain]
    test = app(PAGE, **{"in": domain})
    assert rows_of(test)["feature"].tolist() == wanted
    assert f"{len(wanted)} of {FEATURES} features: strongest in {domain}." in words_of(test)


def test_a_number_finds_its_feature_and_nonsense_finds_nothing(app: App, result: Result) -> None:
    assert rows_of(app(PAGE, find="77"))["feature"].tolist() == [77]
    test = app(PAGE, find="<script>", by="nonsense", least="x", drawn="1,2_3")
    assert not test.exception
    assert "No feature answers all of this" in words_of(test)


def test_a_line_in_the_link_keeps_what_it_surrounds(app: App, result: Result) -> None:
    shift = np.log10(result.shift["shift_icl"])
    middle = float(shift.median()) + 1e-6
    test = app(PAGE, drawn=f"-1,{middle}_1,{middle}_1,9_-1,9")
    assert sorted(rows_of(test)["feature"]) == sorted(result.shift["feature"][shift > middle])
    test.button(key="undraw").click().run()
    assert len(rows_of(test)) == FEATURES
    assert "drawn" not in test.query_params


def test_labels_and_stars_stand_in_the_list_and_narrow_it(app: App, result: Result) -> None:
    labels.write_labels(SAE, MODEL, "provenance", [Label(5, "math", detection=0.9), Label(6, "</td>code")])
    labels.set_star(SAE, 9, True)
    test = app(PAGE)
    rows = rows_of(test).set_index("feature")
    assert rows.loc[[5, 6], "label"].tolist() == ["math", "</td>code"]
    assert rows.loc[9, "star"] == "★"
    assert rows_of(app(PAGE, label="math"))["feature"].tolist() == [5]
    assert rows_of(app(PAGE, starred="true"))["feature"].tolist() == [9]
    assert rows_of(app(PAGE, find="CODE"))["feature"].tolist() == [6]


def test_a_word_of_an_example_finds_its_features(app: App, result: Result) -> None:
    folder = make_gallery(result)
    windows = {f: [" ".join(e.texts) for e in open_gallery(folder).examples(f)] for f in range(0, FEATURES, 9)}
    wanted = [f for f, shown in windows.items() if any("Nina" in window for window in shown)]
    found = set(rows_of(app(PAGE, find="nina"))["feature"])
    assert wanted
    assert [f for f in windows if f in found] == wanted


def test_what_was_not_gathered_is_told_with_its_command(app: App, result: Result) -> None:
    test = app(PAGE, feature="7")
    assert not test.exception
    told = words_of(test) + " ".join(code.value for code in test.code)
    assert "No examples yet" in told
    assert f"sts examples {result.folder} --feature 7" in told
    assert "sts dictionary --model smollm2-135m-instruct --sae demo/smollm2-l15" in told
    assert "No fine-tune was held against this result yet" in told
    assert "It has no label yet" in told


def test_previous_and_next_follow_the_ranking(app: App, result: Result) -> None:
    order = by_shift(result)
    test = app(PAGE, feature=str(order[0]))
    assert buttons(test)["previous"].disabled
    assert f"1 of {FEATURES} by shift" in words_of(test)
    buttons(test)["next"].click().run()
    assert test.query_params["feature"] == str(order[1])
    buttons(test)["previous"].click().run()
    assert test.query_params["feature"] == str(order[0])
    buttons(test)["to_list"].click().run()
    assert "feature" not in test.query_params
    assert len(rows_of(test)) == FEATURES


def test_neighbours_are_those_of_the_ranking_in_the_link(app: App, result: Result) -> None:
    ups = result.shift[result.shift["signed_icl"] > 0].sort_values("signed_icl", ascending=False)["feature"].tolist()
    test = app(PAGE, feature=str(ups[3]), by="Most raised")
    buttons(test)["next"].click().run()
    assert test.query_params["feature"] == str(ups[4])
    test.query_params["feature"] = str(result.shift[result.shift["signed_icl"] < 0]["feature"].iloc[0])
    test.run()
    assert "not in the ranking by most raised" in words_of(test)
    assert buttons(test)["next"].disabled


@pytest.mark.parametrize("feature", ["-1", str(FEATURES), "99999999999", "x", "²"])
def test_a_feature_that_is_none_is_the_list(app: App, result: Result, feature: str) -> None:
    test = app(PAGE, feature=feature)
    assert not test.exception
    assert "feature" not in test.query_params
    assert len(rows_of(test)) == FEATURES


def test_examples_are_shown_by_band_arm_and_set(app: App, result: Result) -> None:
    make_gallery(result)
    test = app(PAGE, feature="7")
    assert not test.exception
    data = strips_of(test)
    assert len(data["strips"]) == 10
    values = [max(strip["lines"][0]["values"]) for strip in data["strips"]]
    assert values == sorted(values, reverse=True)
    assert all(len(strip["lines"]) == 1 for strip in data["strips"])
    test.session_state["band"], test.session_state["source"] = "q50", "law"
    test.session_state["beside"], test.session_state["view"] = True, "full"
    data = strips_of(test.run())
    assert [strip["place"] for strip in data["strips"]] == [f"law · row {row}" for row in range(6)]
    assert [line["arm"] for line in data["strips"][0]["lines"]] == ["base", "ICL"]
    assert data["view"] == "full"


def test_the_histogram_names_its_denominator(app: App, result: Result) -> None:
    folder = make_gallery(result)
    table = pd.read_parquet(folder / "histograms.parquet")
    fired = sum(sum(row) for row in table[(table["feature"] == 7) & (table["arm"] == "base")]["counts"])
    test = app(PAGE, feature="7")
    figure = next(
        f for f in map(figure_of, test.get("plotly_chart")) if "how strongly" in f["layout"]["annotations"][0]["text"]
    )
    caption = figure["layout"]["annotations"][1]["text"].replace("<br>", " ")
    assert f"base: fires on {100 * fired / (3 * SEEN):.1f}\u202f% of 60\u202f000 tokens of 3 sets" in caption
    assert len(figure["data"]) == 2


def figure_of(chart: Any) -> dict[str, Any]:
    return json.loads(chart.proto.spec)


def test_a_feature_outside_a_gallery_of_a_few_is_told(app: App, result: Result) -> None:
    make_gallery(result, features=[3])
    (result.folder / "gallery").rename(folders.ensure(folders.cache() / "galleries") / f"{result.manifest['key']}+abc")
    assert "No examples yet" in words_of(app(PAGE, feature="7"))
    assert len(strips_of(app(PAGE, feature="3"))["strips"]) == 10


def test_a_feature_that_never_fires_says_so(app: App, result: Result) -> None:
    folder = make_gallery(result, features=[3])
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(told | {"kept": None}))
    test = app(PAGE, feature="7")
    assert not test.exception
    assert "It never fires" in words_of(test)
    assert "On none of the 60\u202f000 tokens" in words_of(test)


@pytest.mark.parametrize("name", ["examples.parquet", "histograms.parquet"])
def test_a_damaged_gallery_leaves_the_rest_standing(app: App, result: Result, name: str) -> None:
    (make_gallery(result) / name).write_bytes(b"PAR1 no")
    test = app(PAGE, feature="7")
    assert not test.exception
    assert any("is gone or damaged" in error.title for error in test.error)
    assert "What moves it?" in [subheader.value for subheader in test.subheader]


def test_a_damaged_table_of_labels_hides_no_feature(app: App, result: Result) -> None:
    labels.write_labels(SAE, MODEL, "provenance", [Label(5, "math")])
    next((folders.cache() / "labels" / SAE / MODEL).glob("*.parquet")).write_bytes(b"x")
    test = app(PAGE)
    assert not test.exception
    assert any("label table" in error.title for error in test.error)
    assert len(rows_of(test)) == FEATURES


def test_a_text_that_changed_is_told_not_shown_wrong(app: App, result: Result) -> None:
    (make_gallery(result) / "tokenizer.json").unlink()
    strips = strips_of(app(PAGE, feature="7"))["strips"]
    assert all(strip["trouble"] for strip in strips)
    assert all(token == [""] for strip in strips for token in strip["tokens"])


def test_what_it_writes_and_what_is_near_open_their_features(app: App, result: Result) -> None:
    give_meanings(result)
    labels.write_labels(SAE, MODEL, "provenance", [Label(8, "*sums* [x](y)")])
    test = app(PAGE, feature="7")
    assert not test.exception
    tokens = next(frame.value for frame in test.dataframe if "token" in frame.value)
    assert tokens["token"].tolist() == [" sum", "↵", "<b>"]
    near = buttons(test)["near_8"]
    assert "“\\*sums\\* \\[x\\]\\(y\\)”" in near.label
    near.click().run()
    assert test.query_params["feature"] == "8"


def test_a_run_that_was_held_against_the_result_stands_beside_demonstrations(app: App, result: Result) -> None:
    job = make_run()
    folder = folders.ensure(folders.jobs() / job / "result")
    rng = np.random.default_rng(2)
    shift = pd.DataFrame(
        {"feature": range(FEATURES), "shift_sft": rng.random(FEATURES), "signed_sft": rng.normal(size=FEATURES)}
    )
    shift.to_parquet(folder / "shift.parquet")
    (folder / "manifest.json").write_text(json.dumps({"prediction": result.manifest["key"]}))
    test = app(PAGE, feature="7")
    assert not test.exception
    moved = next(frame.value for frame in test.dataframe if "what" in frame.value)
    assert len(moved) == 2
    assert moved["shift"].tolist() == pytest.approx([result.shift["shift_icl"][7], shift["shift_sft"][7]], rel=1e-5)
    assert moved["rank"].tolist()[1] == int((shift["shift_sft"] > shift["shift_sft"][7]).sum()) + 1


def test_of_a_note_that_is_too_long_the_beginning_is_kept(app: App, result: Result) -> None:
    test = app(PAGE, feature="7")
    assert "of a long note 4\u202f000" in words_of(test)
    test.text_area(key="note_7").set_value("a" * 5_000)
    buttons(test)["keep_7"].click().run()
    assert not test.exception
    assert {feature: len(note) for feature, note in labels.read_person(SAE).notes.items()} == {7: 4_000}


def test_a_star_a_label_and_a_note_are_kept(app: App, result: Result) -> None:
    labels.write_labels(SAE, MODEL, "provenance", [Label(7, "math", "sums", detection=0.93)])
    test = app(PAGE, feature="7")
    assert "Feature 7: “math”" in words_of(test)
    assert "detection 0.93" in words_of(test).replace("\\", "")
    buttons(test)["star"].click().run()
    assert labels.read_person(SAE).stars == {7: True}
    assert buttons(test)["star"].label == "Starred"
    test.text_input(key="own_7").set_value("<b>my</b> *name*")
    test.text_area(key="note_7").set_value("look :red[here]")
    buttons(test)["keep_7"].click().run()
    assert "Feature 7: “<b>my</b> *name*”" in words_of(test).replace("\\", "")
    assert "Labelled by a person" in words_of(test)
    assert "look :red[here]" in words_of(test).replace("\\", "")
    assert not test.exception
    test.text_input(key="own_7").set_value("")
    buttons(test)["keep_7"].click().run()
    assert "Feature 7: “math”" in words_of(test)


def test_a_disk_that_refuses_is_told(app: App, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sts_core.results.labels.set_star", full)
    test = app(PAGE, feature="7")
    buttons(test)["star"].click().run()
    assert not test.exception
    assert any("No space left on device" in error.value for error in test.error)


def test_a_result_that_does_not_name_its_sae_keeps_no_labels(app: App, pages_cache: Path) -> None:
    make_result(folders.results())
    test = app(PAGE, feature="7")
    assert not test.exception
    assert buttons(test)["star"].disabled
    assert "does not tell which SAE" in words_of(test)


def test_the_markdown_has_the_feature_whole(app: App, result: Result) -> None:
    make_gallery(result)
    give_meanings(result)
    labels.write_labels(SAE, MODEL, "provenance", [Label(7, "math", detection=0.93)])
    text = copied(app(PAGE, feature="7"))
    assert text.startswith("## Feature 7: “math”")
    assert text.count("⟪") == 6  # five examples, and the words that explain the mark
    assert "- Promotes: ` sum`, `↵`, `<b>`" in text
    assert "detection 0.93" in text
    assert "result 0123456789ab" in text


def test_the_markdown_has_the_examples_that_are_looked_at(app: App, result: Result) -> None:
    make_gallery(result)
    test = app(PAGE, feature="7")
    usual = copied(test)
    for choice, taken in (("band", "q50"), ("arm", "icl")):
        test.segmented_control(key=choice).set_value(taken).run()
    chosen = copied(test)
    assert "- Examples: strongest in base" in usual
    assert "- Examples: at the median in ICL" in chosen
    assert usual.split("```")[1] != chosen.split("```")[1]


def copied(test: AppTest) -> str:
    """What the page gives to copy."""
    test.session_state["copy"] = True
    return next(code.value for code in test.run().code if code.value.startswith("## "))


def test_neuronpedia_is_linked_only_where_saelens_knows_it(pages_cache: Path) -> None:
    make_result(folders.results())
    stored = listing()[0]
    assert neuronpedia_page(stored, 7) is None
    release, row = next((r, row) for r in registry.read().releases.values() for row in r.rows() if row.neuronpedia)
    there = stored._replace(sae=f"{release.name}:{row.id}")
    assert neuronpedia_page(there, 7) == f"https://www.neuronpedia.org/{row.neuronpedia}/7"
    assert neuronpedia_page(stored._replace(sae=f"{release.name}:not there"), 7) is None
    assert neuronpedia_page(stored._replace(sae="C:/folder"), 7) is None


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    """Tables that one test's page kept do not reach the next."""
    st.cache_resource.clear()


def test_runs_on_mixtures_are_told_apart_in_a_narrow_column() -> None:
    assert briefly("math + 9 rows by STS, LoRA, 6 steps (49d664)") == "+ 9 rows by STS, LoRA (49d664)"
    assert briefly("math + 9 rows evenly, LoRA, 6 steps · demo") == "+ 9 rows evenly, LoRA"
    for whole in ("math, LoRA, 6 steps (49d664)", "demonstrations (ICL)"):
        assert briefly(whole) == whole
