"""What a feature writes into the model's output, and which features are near it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.escape import plain
from pages.parts.feature import choose_feature
from pages.parts.feature_data import label_of
from pages.parts.messages import show_error
from pages.parts.strip import runs
from sts_core.errors import UserError
from sts_core.figures.numbers import count, number
from sts_core.jobs import warm
from sts_core.results.dictionary import Dictionary, Meaning
from sts_core.store.results import Stored

_ANSWERS = "meanings_asked"
NEAR = 8
"""Neighbours that are shown."""


def meaning_of(stored: Stored, dictionary: Dictionary | None, feature: int) -> Meaning | None:
    """From the dictionary, else what was asked for in this session; None when neither has it."""
    if dictionary is not None:
        return dictionary.of(feature)
    found: Meaning | None = st.session_state.get(_ANSWERS, {}).get((stored.key, feature))
    return found


def show_meaning(stored: Stored, meaning: Meaning | None, feature: int, unread: UserError | None = None) -> None:
    """Promoted and suppressed tokens; where nobody computed them, the button and the command that do."""
    st.subheader("What does it write?", anchor=False)
    if unread is not None:
        show_error(unread)
    elif meaning is None:
        st.caption("Its promoted and suppressed tokens and its nearest features were not computed yet.")
        st.button(
            "Compute for this feature", key="ask_meaning", icon=":material/bolt:", on_click=_ask, args=(stored, feature)
        )
        st.caption("For all features of this SAE at once:")
        st.code(f"sts dictionary --model {stored.model} --sae {stored.sae}", language="shell", wrap_lines=True)
        if refused := st.session_state.pop(f"{_ANSWERS}_error", None):
            show_error(refused)
    else:
        st.caption("Tokens that become likelier, and less likely, when it fires: decoder direction times unembedding.")
        left, right = st.columns(2, gap="small")
        with left:
            _tokens("Promotes", meaning.promotes, meaning.promoted, "promotes")
        with right:
            _tokens("Suppresses", meaning.suppresses, meaning.suppressed, "suppresses")


def show_near(stored: Stored, meaning: Meaning | None, labels: pd.DataFrame) -> None:
    """Its nearest features by decoder direction; each opens."""
    if meaning is None or not meaning.near:
        return
    st.subheader("What is near it?", anchor=False)
    st.caption("Features whose decoder directions are most alike, by cosine.")
    with st.container(key="near", gap=None):
        for near, cosine in list(zip(meaning.near, meaning.cosine, strict=True))[:NEAR]:
            label = label_of(labels, near).get("label")
            named = f" “{plain(label)}”" if isinstance(label, str) and label else ""
            st.button(
                f"**{count(near)}**{named} :gray[cosine {plain(number(cosine, 2))}]", key=f"near_{near}",
                type="tertiary", on_click=choose_feature, args=(stored, near),
            )  # fmt: skip


def _tokens(title: str, tokens: Sequence[str], values: Sequence[float], key: str) -> None:
    shown = ["".join(runs(token)) or "∅" for token in tokens]
    most = max((abs(value) for value in values), default=1.0) or 1.0
    table = pd.DataFrame({"token": shown, "logit": values, "bar": [abs(value) for value in values]})
    column = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        height=36 + 35 * min(len(shown), 8),
        key=f"tokens_{key}",
        column_order=["token", "bar"],
        column_config={
            "token": column.TextColumn(title, width=84),
            "bar": column.ProgressColumn(
                "Logit", format=("−" if key == "suppresses" else "+") + "%.2f", min_value=0, max_value=most,
                width=108,
                help="How far above (or below) the mean over all tokens, for one unit of the feature's direction.",
            ),
        },
        alt=f"{title}: tokens",
    )  # fmt: skip


def _ask(stored: Stored, feature: int) -> None:
    """Let the process that keeps the model loaded compute it."""
    try:
        answer: dict[str, Any] = warm.ask("feature", {"model": stored.model, "sae": stored.sae, "feature": feature})
        found = Meaning(**{name: answer[name] for name in Meaning._fields})
    except UserError as error:
        st.session_state[f"{_ANSWERS}_error"] = error
        return
    except (KeyError, TypeError):
        st.session_state[f"{_ANSWERS}_error"] = UserError("The answer could not be understood", "Update and try again.")
        return
    st.session_state.setdefault(_ANSWERS, {})[(stored.key, feature)] = found
