"""Feature browser: all features of a result, or one of them whole. What is this feature, in five seconds?"""

from __future__ import annotations

from functools import partial
from shlex import quote

import pandas as pd
import streamlit as st

from pages.parts import feature_browse, feature_facts, feature_head
from pages.parts.context import context_bar
from pages.parts.escape import plain
from pages.parts.feature import chosen_feature
from pages.parts.feature_choice import choose
from pages.parts.feature_copy import markdown, neuronpedia_page
from pages.parts.feature_data import (
    NO_LABELS,
    features_of,
    gallery,
    label_of,
    labels_of,
    meanings,
    revisions,
)
from pages.parts.feature_examples import show_examples
from pages.parts.feature_meaning import meaning_of, show_meaning, show_near
from pages.parts.feature_reading import reading
from pages.parts.feature_try import try_text
from pages.parts.messages import nothing_measured, show_empty, show_error, told
from pages.parts.provenance import origin, provenance
from pages.parts.selection import Selection
from sts_core.errors import UserError
from sts_core.figures.numbers import count
from sts_core.results.dictionary import Meaning
from sts_core.results.gallery import Example, Gallery, gallery_of
from sts_core.store.browse import Features
from sts_core.store.results import Stored


def page() -> None:
    selection = context_bar()
    stored = selection.stored
    if selection.result is None or stored is None:
        nothing_measured("its features appear here then")
        return
    st.fragment(body)(selection, stored)
    provenance(selection.result, stored)


@told()
def body(selection: Selection, stored: Stored) -> None:
    """The list, or the feature looked at; redrawn by itself: neither a filter nor a pick changes the line on top."""
    features = features_of(str(stored.folder), stored.key)
    labels = NO_LABELS
    with told():  # a table of labels that is damaged hides no feature
        labels = labels_of(revisions(selection))
    chosen = chosen_feature(stored, features.count)
    if chosen is None:
        browse(selection, stored, features, labels)
    else:
        one(selection, stored, features, labels, chosen)
    try_text(stored, labels, chosen)


def browse(selection: Selection, stored: Stored, features: Features, labels: pd.DataFrame) -> None:
    """The list."""
    answer = st.container(key="answer", gap="small")
    question = choose(stored, features, labels)
    found = features.ask(question, labels)
    with answer:
        feature_browse.say(features, found, question)
        origin(selection)
    feature_browse.show_list(stored, features, found, question)
    if gallery_of(stored.folder) is None:
        reading(stored)


def one(selection: Selection, stored: Stored, features: Features, labels: pd.DataFrame, feature: int) -> None:
    """A feature's page."""
    of, label = revisions(selection), label_of(labels, feature)
    bar = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key="bar")
    # The headline goes out first: where the feature stands among all, and its examples, take longer.
    feature_head.head(feature, label, feature_facts.sentence(stored, feature, features.count), of)
    kept, found, torn = gathered(stored, feature)
    meaning, unread = read_meaning(selection, stored, feature)
    text = partial(markdown, stored, feature, label, features.count, found, meaning)
    with bar:
        with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content", key="way"):
            with st.popover("Ranking", icon=":material/filter_list:", type="tertiary"):
                question = choose(stored, features, labels)
            feature_head.way(stored, feature, features.place(question, feature, labels), question)
        with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content", key="keep"):
            feature_head.keep(feature, label, of)
            feature_head.take_away(feature, text, neuronpedia_page(stored, feature))
    st.header("Where does it fire?", anchor=False)
    if torn is not None:
        show_error(torn)
    else:
        show_gallery(stored, kept, feature, found)
    left, right = st.columns(2, gap="large")
    with left:
        if kept is not None:
            with told():
                feature_facts.show_histogram(kept, stored, feature)
        feature_facts.show_moved(stored, feature, features.count)
    with right:
        feature_facts.show_domains(stored, feature)
    left, right = st.columns(2, gap="large")
    with left:
        show_meaning(stored, meaning, feature, unread)
    with right:
        show_near(stored, meaning, labels)


def gathered(stored: Stored, feature: int) -> tuple[Gallery | None, list[Example], UserError | None]:
    """The gallery with this feature in it, if any, its examples, and why they cannot be read."""
    try:
        kept = gallery(stored, feature)
        return kept, kept.examples(feature) if kept is not None else [], None
    except UserError as error:
        return None, [], error


def read_meaning(selection: Selection, stored: Stored, feature: int) -> tuple[Meaning | None, UserError | None]:
    """What the feature writes, if it is known, and why it cannot be read."""
    try:
        return meaning_of(stored, meanings(selection), feature), None
    except UserError as error:
        return None, error


def show_gallery(stored: Stored, kept: Gallery | None, feature: int, found: list[Example]) -> None:
    """The examples; where none were gathered, how they are."""
    if kept is None:
        show_empty("No examples yet", "Examples of where features fire were not gathered for this result.")
        reading(stored)
        st.caption("The same in a terminal; the first line for this feature alone:")
        place = quote("cache/demo/result" if stored.demo else str(stored.folder))
        st.code(f"sts examples {place} --feature {feature}\nsts examples {place} --all", language="shell")
    elif not found:
        tokens = sum(int(source.get("tokens", 0)) for source in kept.manifest["sources"])
        show_empty("It never fires", f"On none of the {count(tokens)} tokens that were looked at.")
    else:
        show_examples(found, feature)
    if kept is not None and kept.shipped:
        st.caption(plain(f"{kept.shipped} All of them, made here:"))
        st.code("sts examples cache/demo/result --all", language="shell")


with told():
    page()
