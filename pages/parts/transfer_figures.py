"""The two figures of the transfer page, each with its numbers, and the features behind one domain."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from pages.parts.charts import picture
from pages.parts.escape import plain
from pages.parts.feature_data import label_of, labels_of, revisions
from pages.parts.provenance import line
from pages.parts.selection import KEY_HEAD, Selection
from pages.parts.style import mode
from pages.parts.transfer_data import ICL, Choice, Held, leading
from sts_core.figures import words
from sts_core.figures.correlation_words import harm_words
from sts_core.figures.numbers import DASH, count
from sts_core.figures.transfer import Order, score_bars, transfer_scatter
from sts_core.results import paper
from sts_core.results.actual import Actual
from sts_core.results.agreement import HARM
from sts_core.results.vectors import Vectors
from sts_core.stats.correlation import Correlation
from sts_core.store.results import Stored

DOMAIN = "domain"
HEAD, ROW = 38, 33
"""Pixels of a table's head with its borders, and of a row of it."""
READ_OFF = "Read off the paper's Figure 3, to about one pixel; no errors are published."


def draw_bars(scored: pd.DataFrame, choice: Choice, order: Order, stored: Stored | None, model: str = "") -> None:
    """Scores of the domains; of the paper's where a model of it is named."""
    title = _bars_title(choice) if not model else f"What does the paper score {model}?"
    caption = [READ_OFF, f"{paper.SOURCE}, {model}"] if model else [words.error_caption(scored)]
    caption += [line(stored)] if stored and not model else []
    missing = paper.NOT_PUBLISHED if model else "not measured"
    axis = words.METRICS[choice.score] if model else _axis(choice)
    figure = score_bars(scored, title, axis, caption, mode(), order, missing)
    _draw(figure, "transfer_bars", title, f"{choice.score}-bars")
    shown = scored[["domain", "value", "se", "tokens", "items"]].sort_values("value", ascending=False)
    name = stored.key[:12] if stored and not model else model.lower()
    _numbers(shown, "scores", f"{choice.score}-{name}", [title, *caption])


def draw_scatter(held: Held, found: Correlation, choice: Choice, actual: Actual, model: str = "") -> None:
    """Scores against what happened, with the line and the point that moves r most."""
    title = f"Does a higher {words.METRICS[choice.score]} go with more {_outcome(choice)}?"
    ring = f" Ringed: without {found.most_influential}, r changes most." if found.most_influential else ""
    whiskers = (
        "No errors are known." if model or not any(d.y_se or d.x_se for d in held.dots) else "± 1 s.e. where known."
    )
    band = " Band: 95 % of the line's mean." if found.line is not None else ""
    caption = [
        f"n = {count(found.n)} domains. {whiskers}{band}{ring}",
        f"What happened: {actual.source} ({actual.metric})",
    ]
    outcome = harm_words(actual) if choice.outcome == HARM else harm_words(actual).replace("harm", "|change|", 1)
    axes = (words.METRICS[choice.score], outcome)
    figure = transfer_scatter(held.dots, found.line, found.most_influential, title, axes, caption, mode())
    _draw(figure, "transfer_scatter", title, f"{choice.score}-against-{choice.outcome}")
    _numbers(
        held.table.sort_values("harm", ascending=False), "points", f"{choice.score}-{choice.outcome}", [title, *caption]
    )


def show_domain(selection: Selection, of: Vectors, features: list[int], choice: Choice) -> None:
    """The features that bring most to the score of one domain, each with the way to its page."""
    stored = selection.stored
    if stored is None:
        return
    st.header("What makes a domain's score?", anchor=False)
    if st.session_state.get(DOMAIN) not in (None, *of.domains):
        del st.session_state[DOMAIN]
    domain = st.selectbox(
        "Domain", of.domains, None, key=DOMAIN, bind="query-params", width=300, placeholder="or pick one in a figure"
    )
    if domain is None or domain not in of.domains:
        return
    table = leading(of, features, choice, domain)
    labels = labels_of(revisions(selection))
    named = [str(label_of(labels, int(f)).get("label") or "") for f in table["feature"]]
    if any(named):
        table.insert(1, "label", named)
    widest = 100 * float(table["share"].max()) if table["share"].max() > 0 else 100.0
    held = float(table["share"].sum())
    what = "moved there by the domain's own demonstrations" if choice.score == ICL else "active there"
    st.caption(
        plain(
            f"The {count(len(table))} of {count(len(features))} features that are most {what}: "
            f"{100 * held:.0f} % of the score. Pick a row for the way to its page."
        )
    )
    column = st.column_config
    picked: Any = st.dataframe(
        table.assign(share=100 * table["share"]),
        hide_index=True,
        height=HEAD + ROW * len(table),
        key=f"leading-{domain}-{choice.score}",
        on_select="rerun",
        selection_mode="single-row",
        placeholder=DASH,
        column_config={
            "feature": column.NumberColumn("Feature", format="%d", pinned=True, help=words.TERMS["feature"]),
            "label": column.TextColumn("Label", width="medium"),
            "rank": column.NumberColumn("Rank by shift", format="%d"),
            "here": column.NumberColumn(f"In {domain}", format="%.3f"),
            "elsewhere": column.NumberColumn("Other domains", format="%.3f", help="Mean over the other domains."),
            "share": column.ProgressColumn("Of the score", format="%.1f %%", min_value=0, max_value=widest),
        },
        alt=f"The features that bring most to the score of {domain}",
    )
    rows = picked["selection"]["rows"]
    if rows and rows[0] < len(table):
        feature = int(table["feature"].iloc[rows[0]])
        st.page_link(
            "pages/views/features.py", label=f"Open feature {feature}", icon=":material/token:",
            query_params={"result": stored.key[:KEY_HEAD], "feature": str(feature)},
        )  # fmt: skip


def _draw(figure: Any, key: str, title: str, name: str) -> None:
    """On the page; a domain that is picked in it becomes the one looked into."""

    def look() -> None:
        points = st.session_state[key]["selection"]["points"]
        names = [point.get("customdata") for point in points]
        picked = next((name[0] if isinstance(name, list) else name for name in names if name), None)
        if picked:
            st.session_state[DOMAIN] = str(picked)

    st.plotly_chart(
        figure, theme=None, key=key, alt=title, config=picture(name, figure.layout.height), on_select=look,
        selection_mode="points",
    )  # fmt: skip


def _numbers(table: pd.DataFrame, key: str, name: str, told: list[str]) -> None:
    """The figure's numbers, folded, and as a file."""
    with st.expander("The numbers", key=f"numbers_{key}", type="compact", icon=":material/table_rows:"):
        st.dataframe(table, hide_index=True, height=min(HEAD + ROW * len(table), 300), placeholder=DASH)
    text = "".join(f"# {part}\n" for part in told) + table.to_csv(index=False)
    st.download_button(
        "CSV", text, f"{name}.csv", "text/csv", key=f"csv_{key}", type="tertiary", icon=":material/download:",
        on_click="ignore", help="The numbers of this figure.",
    )  # fmt: skip


def _bars_title(choice: Choice) -> str:
    if choice.score == ICL:
        return f"How far does each domain move {choice.words()}?"
    return f"How active are {choice.words()} in each domain?"


def _axis(choice: Choice) -> str:
    if choice.power == 1:
        return words.bars_axis(choice.score)
    what = "squared change of feature activation" if choice.score == ICL else "squared feature activation"
    return f"{words.METRICS[choice.score]}, squares: mean {what} a token"


def _outcome(choice: Choice) -> str:
    return "harm" if choice.outcome == HARM else "change"
