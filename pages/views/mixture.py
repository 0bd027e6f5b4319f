"""Mixture: what to train on instead. Rows of other domains, shared out by their scores, then made by a job."""

from __future__ import annotations

import streamlit as st

from pages.parts.context import context_bar
from pages.parts.escape import plain
from pages.parts.messages import nothing_measured, show_error, told
from pages.parts.mixture_choices import Choice, choose_left_out, choose_rows, choose_shares, judge, spec_values
from pages.parts.mixture_data import Allocated, Rows, Text, learned_of, may_train, scores, shared_out, texts
from pages.parts.mixture_figures import choose_domains, draw_allocation
from pages.parts.mixture_made import made_here
from pages.parts.mixture_order import order
from pages.parts.mixture_rows import show_rows
from pages.parts.outcome import outcome_link
from pages.parts.provenance import origin, provenance
from pages.parts.selection import Selection
from pages.parts.transfer_data import vectors
from sts_core.errors import UserError
from sts_core.figures.mixture_words import held_words, quota_headline, steering_words
from sts_core.figures.numbers import count
from sts_core.figures.words import target_name
from sts_core.store.results import Stored
from sts_core.train.mixture.manifest import TARGET

AT_RISK = "Mixed into the training set, rows of the domains at risk remind the model of them."
CONTRAST = "This is the contrast to sharing out by STS."
KNOWN_LATER = "Whether that helps is known only after a fine-tune with and one without."


def page() -> None:
    selection = context_bar()
    if selection.result is None or selection.stored is None:
        nothing_measured("its scores share the rows out then")
        return
    st.fragment(body)(selection)
    st.fragment(made)()
    provenance(selection.result, selection.stored)


def body(selection: Selection) -> None:
    """All that answers a choice; it is redrawn by itself."""
    with told():
        draw(selection)


def made() -> None:
    """What was ordered: its job, then what it wrote."""
    with told():
        made_here()


def draw(selection: Selection) -> None:
    stored = selection.stored
    if stored is None:
        return
    answer = st.container(key="answer", gap="small")
    of = vectors(str(stored.folder), stored.key)
    choice = Choice(**choose_shares(len(of.ranking)), **choose_rows())
    try:
        judge(choice, stored.key)
        rows = may_train(stored, choice)
        scored = scores(stored, choice.metric, choice.n)
    except UserError as error:
        with answer:
            st.title("This result cannot be mixed from as chosen.", anchor=False)
        show_error(error)
        return
    names = [name for name in rows if name != TARGET]
    left_out = choose_left_out(names)
    used = [name for name in names if name not in left_out]
    found: Allocated | None = None
    refused: UserError | None = None
    try:
        found = shared_out(choice, used, scored, {name: len(rows[name].numbers) for name in names})
    except UserError as error:
        refused = error
    with answer:
        say(selection, choice, found)
    left, right = st.columns(2, gap="medium")
    with left:
        if found is not None:
            draw_allocation(found, choice, stored)
        elif refused is not None:
            show_error(refused)
    with right:
        choose_domains(names, left_out, rows, scored, found, stored)
    if found is None:
        return
    preview(found, choice, rows, stored)
    st.header("Make it", anchor=False)
    order(spec_values(choice, stored.key, used, not left_out), stored.target)


def say(selection: Selection, choice: Choice, found: Allocated | None) -> None:
    """Who gives how many rows, what that rests on, and who is held back."""
    if found is None:
        st.title("This mixture cannot be made.", anchor=False)
        st.markdown(":gray[The reason stands where the figure would be.]")
        return
    st.title(plain(quota_headline(found.quotas)), anchor=False)
    steer = steering_words(choice.how, choice.metric, choice.n, choice.tau, found.scores)
    held = held_words(found.quotas, found.available, choice.floor, choice.cap)
    why = AT_RISK if choice.how == "sts" and choice.tau > 0 else CONTRAST
    st.markdown(f":gray[{plain(' '.join(part for part in (steer, held, why, KNOWN_LATER) if part))}]")
    origin(selection)
    if selection.stored is not None:
        outcome_link(selection.stored)


def preview(found: Allocated, choice: Choice, rows: dict[str, Rows], stored: Stored) -> None:
    """Some of the rows that would be drawn; only those of the page that is looked at are read."""
    box = st.expander("Read the rows that would be drawn", icon=":material/article:", key="mix_preview",
                      on_change="rerun")  # fmt: skip
    if not box.open:
        return
    own = choice.target["rows"]
    most = len(rows[TARGET].numbers)
    counts = {TARGET: most if isinstance(own, str) else min(own, most), **found.quotas}

    def read(name: str, first: int, last: int) -> list[Text]:
        return texts(rows[name], first, last, learned_of(name, choice))

    with box, told():
        st.caption(
            f"In the order they are drawn with seed {count(choice.seed)}. A row that the model cannot be trained on is "
            "passed over when the mixture is made, and the next one takes its place."
        )
        show_rows(counts, read, "mix_rows_shown", target_name(stored.target))


with told():
    page()
