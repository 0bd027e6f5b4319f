"""The head of a feature's page: its name, its place in the ranking with the way to its neighbours, and what to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from pages.parts.escape import plain
from pages.parts.feature import choose_feature
from pages.parts.feature_choice import ORDERS
from pages.parts.feature_data import Revisions
from sts_core.errors import UserError
from sts_core.figures.feature_words import feature_title, label_words
from sts_core.figures.numbers import count
from sts_core.results import labels
from sts_core.results.label_text import MOST_LABEL, MOST_NOTE
from sts_core.store.browse import Place, Question
from sts_core.store.results import Stored

_REFUSED = "label_refused"


def way(stored: Stored, feature: int, place: Place, question: Question) -> None:
    """Back to the list, and to the features before and after this one in its ranking."""
    st.button(
        "All features", key="to_list", icon=":material/arrow_back:", type="tertiary", on_click=choose_feature,
        args=(stored, None),
    )  # fmt: skip
    _step(stored, "Previous", place.before, ":material/chevron_left:", "left")
    where = f"{count(place.place)} of {count(place.of)} by" if place.place else "not in the ranking by"
    st.markdown(f":gray[{where} {plain(ORDERS[question.order].lower())}]", width="content")
    _step(stored, "Next", place.after, ":material/chevron_right:", "right")


def head(feature: int, label: Mapping[str, Any], sentence: str, of: Revisions) -> None:
    """Its name, one sentence on what moves it, who named it, and the note that was kept."""
    name, explanation, note = (label.get(part) for part in ("label", "explanation", "note"))
    told = f"{label_words(label)} {explanation}" if isinstance(explanation, str) and explanation else label_words(label)
    lines = [f":gray[{plain(sentence)}]", f":gray[:material/sell: {plain(told)}]"]
    if isinstance(note, str) and note:
        told_note = "  \n".join(plain(line) for line in note.splitlines() if line.strip())
        lines.append(f":gray[:material/edit_note: {told_note}]")
    if not of.sae:
        lines.append(":gray[This result does not tell which SAE it was measured with, so nothing can be kept for it.]")
    with st.container(key="answer", gap="small"):
        st.title(plain(feature_title(feature, name if isinstance(name, str) else None)), anchor=False)
        st.markdown("  \n".join(lines))
        if refused := st.session_state.pop(_REFUSED, ""):
            st.error(plain(refused))


def keep(feature: int, label: Mapping[str, Any], of: Revisions) -> None:
    """A star, a label of one's own, a note."""
    starred = bool(label.get("starred"))
    st.button(
        "Starred" if starred else "Star", key="star", type="tertiary", disabled=not of.sae,
        icon=":material/star:" if not starred else ":material/kid_star:",
        on_click=_write, args=(partial(labels.set_star, of.sae, feature, not starred),),
    )  # fmt: skip
    with st.popover("Label and note", icon=":material/edit:", type="tertiary", disabled=not of.sae):
        own = str(label["label"]) if label.get("human") else ""
        with st.form(f"words_{feature}", border=False):
            st.text_input("Your label", own, key=f"own_{feature}", placeholder="as no judge may change it")
            # A field with a limit of its own takes nothing at all of a longer text, and says nothing.
            st.text_area("Note", str(label.get("note") or ""), key=f"note_{feature}", height=120)
            st.caption(
                f"An empty label gives the judge's back. Of a long label {MOST_LABEL} characters are kept, of a long "
                f"note {count(MOST_NOTE)}."
            )
            st.form_submit_button("Keep", key=f"keep_{feature}", type="primary", on_click=_keep, args=(of.sae, feature))


def take_away(feature: int, markdown: Callable[[], str], neuronpedia: str | None) -> None:
    """The link to this very view, the feature as Markdown, and its page elsewhere where it has one."""
    with st.popover("Link", icon=":material/link:", type="tertiary"):
        query = urlencode({**st.query_params.to_dict(), "feature": feature})
        st.code(f"{(st.context.url or '').split('?')[0]}?{query}", language=None, wrap_lines=True)
    text = st.popover("Copy", icon=":material/content_copy:", type="tertiary", key="copy", on_change="rerun")
    with text:
        if text.open:
            st.code(markdown(), language="markdown", wrap_lines=True)
    if neuronpedia:
        st.link_button("Neuronpedia", neuronpedia, icon=":material/open_in_new:", type="tertiary")


def _step(stored: Stored, label: str, to: int | None, icon: str, side: Any) -> None:
    name = label if to is None else f"{label}: {count(to)}"
    st.button(
        name, key=label.lower(), icon=icon, icon_position=side, type="tertiary", disabled=to is None,
        on_click=choose_feature, args=(stored, to),
    )  # fmt: skip


def _keep(sae: str, feature: int) -> None:
    _write(partial(labels.set_label, sae, feature, st.session_state[f"own_{feature}"]))
    _write(partial(labels.set_note, sae, feature, st.session_state[f"note_{feature}"]))


def _write(write: Callable[[], None]) -> None:
    """Write a person's words; what hinders it is told on the page."""
    try:
        write()
    except UserError as error:
        st.session_state[_REFUSED] = f"{error.message}. {error.hint}"
    except OSError as error:
        st.session_state[_REFUSED] = f"Your words could not be kept: {error.strerror}."
