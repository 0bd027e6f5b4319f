"""What demonstrations moved against what a fine-tune moved: part of the page of shifted features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import streamlit as st

from pages.parts.charts import picture
from pages.parts.escape import plain
from pages.parts.feature import choose_feature
from pages.parts.style import mode
from sts_core.errors import UserError
from sts_core.figures import run_words
from sts_core.figures.lines import Series, step_lines
from sts_core.figures.numbers import count
from sts_core.figures.ranks import BOTH, FIRST, SECOND, rank_scatter, sides
from sts_core.figures.theme import TOKENS
from sts_core.jobs.folder import result_folder
from sts_core.results.overlap import Comparison, compare
from sts_core.store.results import Stored

MOST_DOTS = 1_000
"""Features that lead either ranking; the others would only be a cloud."""
_NAMES = ("demonstrations", "the fine-tune")
_LABELS = {BOTH: "both", FIRST: "demonstrations alone", SECOND: "the fine-tune alone"}


def against_run(stored: Stored, n: int, tested: Mapping[str, str]) -> None:
    """Draw it for one of the runs that were held against this result, id -> title; nothing where there is none."""
    runs = {job: f"{title} ({job})" for job, title in tested.items()}
    if not runs:
        return
    st.header("Do they really shift?", anchor=False)
    chosen = st.selectbox(
        "Fine-tuning run", list(runs), key="against", bind="query-params", format_func=lambda job: runs.get(job, job)
    )
    if chosen not in runs:
        return
    folder = str(result_folder(chosen))
    comparison, table = (
        _compared(str(stored.folder), folder, stored.key),
        _ranks(str(stored.folder), folder, stored.key),
    )
    row = next((one for one in comparison.rows if one.k == n), comparison.rows[-1])
    highest = row.nulls[row.highest]
    told = run_words.Overlap(row.k, row.value, row.highest, highest.upper, row.claimed)
    words = run_words.overlap_words(told)
    st.markdown(f"**{plain(words[:1].upper() + words[1:])}.**")
    left, right = st.columns(2, gap="medium")
    with left:
        _draw_overlap(comparison, runs[chosen])
    with right:
        _draw_ranks(stored, table, row.k)
    _table(table, row.k)
    for note in comparison.notes:
        st.caption(plain(note))


def _draw_overlap(comparison: Comparison, run: str) -> None:
    tokens = TOKENS[mode()]
    rows = [row for row in comparison.rows if row.value == row.value]
    ks = [row.k for row in rows]
    whole = all(row.interval for row in rows)
    low, high = ([row.interval[end] if row.interval else row.value for row in rows] for end in (0, 1))
    series = [
        Series("shared", ks, [row.value for row in rows], tokens.accent, low if whole else (), high if whole else (),
               points=True)
    ]  # fmt: skip
    for name, label in run_words.NULL_NAMES.items():
        if all(name in row.nulls for row in rows):
            dash = "dash" if name == "noise" else "dot"
            series.append(Series(label, ks, [row.nulls[name].mean for row in rows], tokens.muted, dash=dash))
    title = "How many of the leading features do both share?"
    caption = [
        "Blue: shared by demonstrations and the fine-tune, with 95 % from drawing groups of questions again. Grey: "
        "what other reasons give. Claimed only above all of them.",
        run,
    ]
    figure = step_lines(series, title, "overlap@k", caption, mode(), span=(0.0, 1.0), percent=True, over="k")
    st.plotly_chart(figure, theme=None, key="overlap", alt=title, config=picture("overlap", figure.layout.height))


def _draw_ranks(stored: Stored, table: pd.DataFrame, k: int) -> None:
    title = "Which features lead which ranking?"
    leading = table[(table["rank_first"] <= MOST_DOTS) | (table["rank_second"] <= MOST_DOTS)]
    caption = [
        f"Features among the first {count(MOST_DOTS)} of either; dotted: the first {count(k)}. Draw around dots."
    ]
    figure = rank_scatter(leading, k, _NAMES, title, caption, mode())
    picked: Any = st.plotly_chart(
        figure, theme=None, key="ranks", alt=title, config=picture("ranks", figure.layout.height), on_select="rerun",
        selection_mode=["points", "lasso"],
    )  # fmt: skip
    features = [int(point["customdata"]) for point in picked["selection"]["points"] if "customdata" in point]
    st.session_state["brushed"] = features
    if len(features) == 1:
        choose_feature(stored, features[0])


def _table(table: pd.DataFrame, k: int) -> None:
    """The features that are drawn around; without any, those that lead one ranking alone."""
    brushed = st.session_state.get("brushed") or []
    side = sides(table, k)
    rows = table[table["feature"].isin(brushed)] if brushed else table[side.isin([FIRST, SECOND])]
    rows = rows.assign(leads=side[rows.index].map(_LABELS).fillna("neither"))
    rows = rows.assign(best=rows[["rank_first", "rank_second"]].min(axis=1)).sort_values(["best", "feature"]).head(200)
    what = f"The {count(len(rows))} features drawn around" if brushed else "Features that lead one ranking alone"
    st.caption(f"{what}, the first {count(k)} counting as leading.")
    column = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        height=320,
        column_order=["feature", "leads", "rank_first", "rank_second", "shift_icl", "shift_sft", "signed_sft"],
        column_config={
            "feature": column.NumberColumn("Feature", format="%d", pinned=True),
            "leads": column.TextColumn("Leads"),
            "rank_first": column.NumberColumn("Rank, demonstrations", format="%d"),
            "rank_second": column.NumberColumn("Rank, fine-tune", format="%d"),
            "shift_icl": column.NumberColumn("Shift, demonstrations", format="%.3f"),
            "shift_sft": column.NumberColumn("Shift, fine-tune", format="%.3f"),
            "signed_sft": column.NumberColumn("Signed, fine-tune", format="%+.3f"),
        },
        alt="Features by their ranks in both",
    )


@st.cache_data(max_entries=16, show_spinner="Comparing the two rankings …")
def _compared(folder: str, run: str, key: str) -> Comparison:
    return compare(Path(folder), Path(run), None)


@st.cache_data(max_entries=16, show_spinner=False)
def _ranks(folder: str, run: str, key: str) -> pd.DataFrame:
    """Every feature with its rank in both, equal values by the lower number first."""
    try:
        first = pq.read_table(Path(folder) / "shift.parquet", columns=["feature", "shift_icl"]).to_pandas()
        second = pq.read_table(Path(run) / "shift.parquet", columns=["feature", "shift_sft", "signed_sft"]).to_pandas()
    except (OSError, ValueError) as error:
        raise UserError(f"The shift of this run cannot be read: {error}", "Choose another run.") from error
    table = first.merge(second, on="feature")
    for rank, shift in (("rank_first", "shift_icl"), ("rank_second", "shift_sft")):
        ordered = table.sort_values([shift, "feature"], ascending=[False, True]).index
        table.loc[ordered, rank] = range(1, len(table) + 1)
    return table.astype({"rank_first": int, "rank_second": int})
