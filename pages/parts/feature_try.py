"""Try a text: which features light up on it, without demonstrations, behind them, and in a fine-tuned model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.escape import plain
from pages.parts.feature import choose_feature
from pages.parts.feature_data import label_of
from pages.parts.messages import show_error
from pages.parts.run_data import listing
from pages.parts.strip import Line, Strip, runs, strips
from sts_core.errors import UserError
from sts_core.figures.feature_words import arm_name
from sts_core.figures.numbers import DASH, count, duration, number
from sts_core.jobs import warm
from sts_core.jobs.folder import result_folder
from sts_core.store.results import Stored

MOST_FEATURES, A_TOKEN = 12, 3
"""Letters of a text; features named of the whole text, and of each token."""
_TEXT, _ANSWER = "tried_text", "tried"
WAYS = {"risen": "Above their usual", "strongest": "Strongest", "changed": "Most changed"}
_HELP = (
    "Above their usual: mean over the text minus the usual mean. Strongest: the largest mean over the text. "
    "Most changed: the mean absolute difference to base, token by token."
)


@st.fragment
def try_text(stored: Stored, labels: pd.DataFrame, feature: int | None = None) -> None:
    """Draw the field and what came of it; `feature` is followed from token to token."""
    st.header("Try a text", anchor=False)
    tuned = tuned_models()
    with st.form("try", border=False):
        text = st.text_area(
            "Text", st.session_state.get(_TEXT, ""), key="try_text", height=84,
            placeholder="A sentence, a question, a line of code", label_visibility="collapsed",
        )  # fmt: skip
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            asked = st.form_submit_button("Try it", type="primary", icon=":material/bolt:")
            run = st.selectbox(
                "Beside", ["", *tuned], key="try_run", width=320, label_visibility="collapsed",
                format_func=lambda job: f"beside run: {tuned.get(job, job)}" if job else "beside no fine-tuned run",
            )  # fmt: skip
    if asked:
        st.session_state[_TEXT] = text
        if not text.strip():
            st.caption("There is nothing to read yet: type a sentence.")
    question = _question(stored, st.session_state.get(_TEXT, ""), run if run in tuned else "", feature)
    if question is None:
        st.caption("The model stays loaded for some minutes after the first text, so that further ones take a moment.")
        return
    answer = _answer(question, asked)
    if answer is not None:
        _show(stored, labels, answer, feature)


def tuned_models() -> dict[str, str]:
    """Fine-tuning runs that left a model: id -> title."""
    table = listing()
    there = {str(job): str(title or job) for job, title in zip(table["id"], table["title"], strict=True)}
    return {job: title for job, title in there.items() if (result_folder(job) / "model").is_dir()}


def _question(stored: Stored, text: str, run: str, feature: int | None) -> dict[str, Any] | None:
    """What the process that keeps the model loaded is asked; None while there is no text."""
    if not text.strip():
        return None
    asked: dict[str, Any] = {
        "model": stored.model, "sae": stored.sae, "text": text, "result": str(stored.folder), "top": MOST_FEATURES,
    }  # fmt: skip
    if run:
        asked["runs"] = {run: str(result_folder(run) / "model")}
    return asked if feature is None else asked | {"feature": feature}


def _answer(question: Mapping[str, Any], asked: bool) -> dict[str, Any] | None:
    """The answer kept from before, or a fresh one: asked for, or at no cost since the model is loaded anyway."""
    kept = st.session_state.get(_ANSWER)
    if kept is not None and kept[0] == question:
        answer: dict[str, Any] = kept[1]
        return answer
    try:
        if not asked and warm.find() is None:
            st.caption("Press the button to read the text again: the model is not loaded any more.")
            return None
        with st.spinner("Reading. The first text takes some seconds, while the model is loaded.", show_time=True):
            answer = warm.ask("probe", question)
    except UserError as error:
        show_error(error)
        return None
    st.session_state[_ANSWER] = (dict(question), answer)
    return answer


def _ways(arms: int) -> str:
    return {1: "once", 2: "in two ways"}.get(arms, f"in {count(arms)} ways")


def _show(stored: Stored, labels: pd.DataFrame, answer: Mapping[str, Any], feature: int | None) -> None:
    tokens, arms = [str(token) for token in answer["tokens"]], list(answer["arms"])
    seconds = float(answer["seconds"])
    took = f"{seconds * 1000:.0f} ms" if seconds < 1 else duration(seconds)
    read = f"{'1 token' if len(tokens) == 1 else f'{count(len(tokens))} tokens'}, read {_ways(len(arms))}"
    st.caption(plain(f"{read} in {took} on {answer['device']}."))
    for note in answer.get("notes", []):
        st.caption(f":material/info: {plain(note)}")
    if feature is not None and "values" in answer:
        values = {arm: [float(value) for value in answer["values"][arm]] for arm in arms}
        lines = [Line(arm_name(arm), values[arm]) for arm in arms]
        peak = max(range(len(tokens)), key=lambda at: max(values[arm][at] for arm in arms))
        if not any(values[arm][peak] > 0 for arm in arms):
            st.caption(f"Feature {count(feature)} fires on none of these tokens.")
        strips([Strip(tokens, lines, peak, f"feature {feature}")], "tried_strip", "Your text", view="full")
    ways = {way: name for way, name in WAYS.items() if answer.get(way)}
    way = st.segmented_control(
        "Features of the whole text", list(ways), format_func=lambda key: ways.get(key, key), default=next(iter(ways)),
        required=True, key="try_way", help=_HELP,
    )  # fmt: skip
    found = answer[way if way in ways else next(iter(ways))]
    columns = st.columns(len(found), gap="medium")
    for column, (arm, features) in zip(columns, found.items(), strict=True):
        with column:
            _table(stored, labels, arm, features)
    with st.expander("Strongest features of each token"):
        st.dataframe(by_token(tokens, answer["arms"]), hide_index=True, height=280, alt="Features of each token")


def _table(stored: Stored, labels: pd.DataFrame, arm: str, features: Sequence[Mapping[str, Any]]) -> None:
    """The features of an arm; a picked row opens its page."""
    column = st.column_config
    values, what = _values(features)
    rows = pd.DataFrame(
        {
            "feature": [int(one["feature"]) for one in features],
            "label": [label_of(labels, int(one["feature"])).get("label") or DASH for one in features],
            "value": values,
        }
    )
    shown = ["feature", *(["label"] if (rows["label"] != DASH).any() else []), "value"]
    st.markdown(f"**{plain(arm_name(arm))}**")
    picked: Any = st.dataframe(
        rows,
        hide_index=True,
        height=38 + 35 * min(len(rows), 8),
        key=f"tried_{arm}",
        column_order=shown,
        column_config={
            "feature": column.NumberColumn("Feature", format="%d", width=70),
            "label": column.TextColumn("Label"),
            "value": column.ProgressColumn(
                what,
                format="%.2f",
                min_value=0,
                max_value=max(values, default=1.0) or 1.0,
            ),
        },
        on_select="rerun",
        selection_mode="single-row",
        alt=f"Features of the text in {arm_name(arm)}",
    )
    chosen = picked["selection"]["rows"]
    if chosen and int(rows["feature"].iloc[chosen[0]]) != st.session_state.get("tried_open"):
        st.session_state["tried_open"] = int(rows["feature"].iloc[chosen[0]])
        choose_feature(stored, int(rows["feature"].iloc[chosen[0]]))
        st.rerun()


def _values(features: Sequence[Mapping[str, Any]]) -> tuple[list[float], str]:
    """What the features were ordered by, and its name."""
    if any("shift" in one for one in features):
        return [float(one["shift"]) for one in features], "Change"
    if any("usual" in one for one in features):
        return [float(one["mean"]) - float(one["usual"]) for one in features], "Above usual"
    return [float(one["mean"]) for one in features], "Mean"


def by_token(tokens: Sequence[str], arms: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> pd.DataFrame:
    """A row a token, a column an arm: its strongest features with their values."""
    rows: dict[str, list[str]] = {"Token": ["".join(runs(token)) or "∅" for token in tokens]}
    for arm, found in arms.items():
        rows[arm_name(arm)] = [
            ", ".join(f"{count(one['feature'])} ({number(one['value'])})" for one in features[:A_TOKEN])
            for features in found
        ]
    return pd.DataFrame(rows)
