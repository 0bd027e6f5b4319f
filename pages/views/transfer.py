"""Transfer: which domains will move, and what happened in the end. The answer with its uncertainty stands first."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.context import context_bar
from pages.parts.escape import plain, unbroken
from pages.parts.feature_data import times_tested
from pages.parts.messages import nothing_measured, show_empty, told
from pages.parts.provenance import origin, provenance
from pages.parts.report_button import report_button
from pages.parts.selection import Selection
from pages.parts.sweep_view import sweep_section
from pages.parts.transfer_actual import (
    BROUGHT,
    Source,
    bring_file,
    choose_actual,
    given_of,
    is_fresh,
    model_of,
    read,
    sources,
)
from pages.parts.transfer_baselines import show_baselines, show_paper
from pages.parts.transfer_choices import (
    Drawn,
    choice_of,
    choose_features,
    choose_metric,
    choose_order,
    choose_outcome,
    choose_power,
    choose_score,
    forget,
    remember,
    slid,
)
from pages.parts.transfer_data import (
    Choice,
    Held,
    compared,
    correlation,
    features,
    hold,
    paper_scores,
    scores,
    vectors,
)
from pages.parts.transfer_figures import draw_bars, draw_scatter, show_domain
from sts_core.figures import words
from sts_core.figures.correlation_words import (
    carried_by_one,
    correlation_words,
    disagreement_words,
    hits_words,
    interval_words,
    reliability_words,
    verdict,
)
from sts_core.figures.numbers import known
from sts_core.figures.transfer import Order
from sts_core.results import paper
from sts_core.results.actual import Actual
from sts_core.results.agreement import HARM, Comparison, cautions

NO_POINT = "No domain stands on both sides"
HIGHER = "A higher score predicts a larger change after fine-tuning."


def page() -> None:
    selection = context_bar()
    if selection.result is None or selection.stored is None:
        nothing_measured("the scores of domains appear here then")
        return
    found = sources(selection.stored)
    st.fragment(body)(selection, found)
    sweep_section(selection.stored.target)
    provenance(selection.result, selection.stored)


def body(selection: Selection, found: dict[str, Source]) -> None:
    """All that answers a slider; it is redrawn by itself."""
    if is_fresh():
        st.rerun()
    with told():
        draw(selection, found)


def draw(selection: Selection, found: dict[str, Source]) -> None:
    stored = selection.stored
    if stored is None:
        return
    answer = st.container(key="answer", gap="small")
    row = {"horizontal": True, "vertical_alignment": "bottom", "gap": "medium"}
    outcome_row, feature_row = (st.container(key=f"{name}_choices", **row) for name in ("outcome", "feature"))
    left, right = st.columns(2, gap="medium")
    of = vectors(str(stored.folder), stored.key)
    # What a slider is moved for goes out first: the browser draws it while the rest is still on its way.
    early = slid(stored.key)
    if early is not None:
        with left:
            draw_bars(scores(of, early.choice, None), early.choice, early.order, stored)
    with outcome_row:
        token = choose_actual(found)
        actual = read(token) if token else None
        if actual is not None:
            metric = choose_metric(actual)
            actual = actual if metric == actual.metric else read(token, metric)
            actual = actual if actual.from_paper else actual._replace(source=found[token].label)
            actual = actual.beside(of.manifest)
        score = choose_score()
        outcome = choose_outcome() if actual is not None else HARM
        bring_file(of.domains, actual if token.startswith(BROUGHT) else None)
    model = model_of(token)
    if model and actual is not None:
        with feature_row:
            order = choose_order()
        of_paper(model, Choice(score, outcome=outcome), order, actual, (answer, left, right))
        return
    with feature_row:
        picked = choose_features(len(of.ranking))
        choice = choice_of(score, outcome, choose_power(), picked)
        order = choose_order()
    scored = scores(of, choice, actual)
    if early is None:
        with left:
            draw_bars(scored, choice, order, stored)
    elif early != Drawn(choice, order):  # a choice was not what the session said
        forget()
        st.rerun()
    remember(stored.key, Drawn(choice, order))
    held = hold(scored, actual, choice) if actual is not None else None
    with right:
        if held is None or actual is None:
            nothing_yet()
        elif not held.dots:
            show_empty(NO_POINT, "There is nothing to draw.")
        else:
            draw_scatter(held, correlation(held, actual.reliability, whole=False), choice, actual)
    with answer:
        if held is None or actual is None:
            say_prediction(selection, scored, choice)
        elif not held.dots:
            st.title(NO_POINT, anchor=False)
            st.markdown(f":gray[{plain(_names_differ(scored, actual))}]")
        else:
            say(held, choice, actual, found[token].notes)
        origin(selection)
        report_button(stored, given_of(token) if token else None, actual.metric if actual else None)
    if held is not None and actual is not None and held.dots:
        show_baselines(stored, choice, token, actual)
    show_domain(selection, of, features(of, choice, actual), choice)


def of_paper(
    model: str, choice: Choice, order: Order, actual: Actual, places: tuple[DeltaGenerator, ...]
) -> None:  # fmt: skip
    """The paper's scores against its changes: the eight domains whose scores it shows."""
    answer, left, right = places
    scored = paper_scores(model, choice.score)
    with left:
        draw_bars(scored, choice, order, None, model)
    shown = scored[scored["value"].map(known).astype(bool)].reset_index(drop=True)
    held = hold(shown, actual, choice)
    with right:
        draw_scatter(held, correlation(held, None, whole=False), choice, actual, model)
    with answer:
        printed = paper.PRINTED[(model, choice.score)]
        note = f"The paper prints ρ = {printed.r:.2f} (Pearson) and R² = {printed.r2:.2f} over sizes of change."
        say(held, choice, actual, (note, f"STS of the other six domains: {paper.NOT_PUBLISHED}."))
    show_paper(model)


def say_prediction(selection: Selection, scored: pd.DataFrame, choice: Choice) -> None:
    """Before anything happened: which domains score highest."""
    if selection.stored is None:
        return
    stored = selection.stored
    said = words.headline(scored, words.target_name(stored.target), times_tested(stored.key))
    st.title(plain(unbroken(said)), anchor=False)
    st.markdown(f":gray[{plain(f'The score averages over {choice.words()}. {HIGHER}')}]")


def say(held: Held, choice: Choice, actual: Actual, notes: tuple[str, ...]) -> None:
    """Whether the score ranked what happened, in one sentence; then the correlation and what limits it."""
    found = correlation(held, actual.reliability)
    comparison = compared(found, choice, actual)
    st.title(plain(unbroken(verdict(comparison))), anchor=False)
    if known(found.r):
        st.markdown(f"**{plain(f'Pearson {correlation_words(found)}.')}**")
    st.markdown(f":gray[{plain(' '.join(_limits(comparison, held, actual)))}]")
    _marks(comparison, actual)
    for note in notes:
        st.caption(plain(note))


def _names_differ(scored: pd.DataFrame, actual: Actual) -> str:
    """Which names stand on each side, the first three of them."""
    here, there = (words.listed([*names[:3], *(["others"] if len(names) > 3 else [])]) for names in (
        [str(name) for name in scored["domain"]], [one.domain for one in actual.outcomes]
    ))  # fmt: skip
    return f"The scores are of {here}; what happened is of {there}. Name the domains alike."


def _marks(comparison: Comparison, actual: Actual) -> None:
    """Badges in one piece: of several, one that is no longer meant could be left standing by a redraw cut short."""
    told, help_ = ":green-badge[Primary]", "The comparison that was fixed before looking (METHOD 6)."
    if not comparison.primary:
        told = ":gray-badge[Exploratory]"
        help_ = (
            "Fixed before looking: STS act over the 100 most shifted features, signed harm in the answer's "
            "log-likelihood, all domains, Spearman. Everything else is exploratory."
        )
    told += " :orange-badge[:material/warning: Another training set]" if actual.foreign else ""
    told += (
        " :orange-badge[:material/warning: One point carries this]" if carried_by_one(comparison.correlation) else ""
    )
    st.markdown(told, help=help_, width="content")


def _limits(comparison: Comparison, held: Held, actual: Actual) -> list[str]:
    found = comparison.correlation
    told = []
    if known(found.r):
        told.append(f"95 % of r: {interval_words(found.ci)}; leaving one out gives {interval_words(found.loo_range)}.")
    if disagree := disagreement_words(found):
        told.append(disagree)
    if found.hits is not None:
        told.append(f"{hits_words(found.hits)}.")
    if comparison.outcome == HARM:
        told.append(reliability_words(actual.reliability, actual.reliability_from))
    told += cautions(actual, [dot.y for dot in held.dots] if comparison.outcome == HARM else [])
    if held.only_scored:
        told.append(f"Scored without an outcome: {', '.join(held.only_scored)}.")
    if held.only_changed:
        told.append(f"Changed without a score: {', '.join(held.only_changed)}.")
    return told


def nothing_yet() -> None:
    """Where the scatter would be: what brings it."""
    show_empty(
        "Nothing happened yet",
        "Fine-tune on this target set, or bring what a fine-tune of yours did: the scores are held against it here.",
    )
    if st.button("Go to the fine-tuning runs", type="primary", icon=":material/model_training:"):
        st.switch_page("pages/views/runs.py")
    st.caption("In a terminal, and then with the id that it tells:")
    st.code("sts sft cache/demo/sft.toml --detach\nsts correlate cache/demo/result --actual ID", language=None)
    st.caption("The paper's tables, to compare with, are under What happened.")


with told():
    page()
